"""Name a consumer's inputs as its SQL sees them, and never reassign a name. Pure.

Two ports may reduce to the same name (`a.b` and `a_b`); the later one by port id gets `_2`, and
what was once given stays, or a revocation would turn one upstream into another under a model.
"""

from __future__ import annotations

from collections.abc import Sequence

from provisioner import model, names
from provisioner.domain import dotenv

Named = tuple[tuple[str, str], ...]
"""(port id, name) pairs, in the order in which they were given."""


def assign(grants: Sequence[model.Grant], remembered: Named) -> Named:
    """Give every granted port a name that no other port ever had in this workspace."""
    given = dict(remembered)
    for grant in sorted(grants, key=lambda each: each.port_id):
        if grant.port_id not in given:
            wanted = names.input_name(grant.producer_namespace, grant.port_namespace)
            given[grant.port_id] = _free(wanted, set(given.values()))
    return tuple(given.items())


def _free(wanted: str, taken: set[str]) -> str:
    """Return the name, or the first of `_2`, `_3`, … that is free."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


def rows(grants: Sequence[model.Grant], named: Named) -> tuple[dotenv.Input, ...]:
    """Describe each input for `ports.json` and `INPUTS.md`, by name."""
    given = dict(named)
    found = [
        dotenv.Input(
            name=given[grant.port_id],
            producer=grant.producer_namespace,
            port=grant.port_namespace,
            url=f"s3://{grant.locations[0].bucket}/{port_location(grant)}",
            mode=grant.access,
            valid_until=grant.valid_until,
        )
        for grant in grants
    ]
    return tuple(sorted(found, key=lambda each: each.name))


def port_location(grant: model.Grant) -> str:
    """Return the prefix where the port's data lie, also where all of the producer is open."""
    return names.port_prefix(grant.producer_namespace, grant.port_namespace)
