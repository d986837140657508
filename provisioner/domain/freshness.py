"""Judge what a port publishes: how fresh it is, and what its consumers are to be told. Pure.

Rows and hours change with every publication, and consumers' files must not: what they are told is
compared by `told`, which knows the day of a publication and the columns, and no row count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from provisioner import model

GRACE = timedelta(minutes=15)
"""What a publication may be late besides, for runs take their time."""
FINDINGS = (model.PortState.STALE, model.PortState.SHRUNKEN, model.PortState.UNREADABLE)
"""States that a person should see; never published is none of them."""


def readable(
    known: model.SeenPort,
    contract: model.Contract,
    *,
    etag: str,
    modified_at: datetime | None,
    now: datetime,
) -> model.SeenPort:
    """Note a contract that was read.

    The engine says when the object was written: nothing was published later than that, or a
    producer's wrong clock would keep a port fresh for ever.
    """
    latest = modified_at or now
    if contract.published_at > latest:
        contract = dataclasses.replace(contract, published_at=latest)
    seen = dataclasses.replace(
        known,
        contract=contract,
        version=_version(known, contract),
        rows_before=_rows_before(known, contract),
        etag=etag,
        state=model.PortState.FRESH,
        why="",
    )
    return _noted(known, _judged(seen, now), now)


def _rows_before(known: model.SeenPort, contract: model.Contract) -> int | None:
    """Return what rows are compared with: those of the last publication that was not shrunken.

    So a port stays shrunken however often the few are published, until they are more again or a
    person accepts them.
    """
    old, before = known.contract, known.rows_before
    if contract.rows_accepted:
        return None
    if old is None or old.published_at == contract.published_at or _is_shrunken(old, before):
        return before
    return old.rows


def _is_shrunken(contract: model.Contract, rows_before: int | None) -> bool:
    return rows_before is not None and 2 * contract.rows < rows_before


def unchanged(known: model.SeenPort, *, now: datetime) -> model.SeenPort:
    """Note that a port is as it was; time alone may have made it stale."""
    return _noted(known, _judged(known, now), now)


def unpublished(known: model.SeenPort, *, now: datetime) -> model.SeenPort:
    """Note that nothing is published, or no longer; the version goes on from where it was."""
    seen = dataclasses.replace(
        known,
        state=model.PortState.UNPUBLISHED,
        why="",
        contract=None,
        rows_before=None,
        etag="",
    )
    return _noted(known, seen, now)


def unreadable(known: model.SeenPort, why: str, *, now: datetime) -> model.SeenPort:
    """Note that what is published cannot be read; what was known of its columns stays."""
    seen = dataclasses.replace(known, state=model.PortState.UNREADABLE, why=why, etag="")
    return _noted(known, seen, now)


def _noted(before: model.SeenPort, seen: model.SeenPort, now: datetime) -> model.SeenPort:
    changed_at = before.changed_at if told(before) == told(seen) else now
    return dataclasses.replace(seen, read_at=now, changed_at=changed_at)


def stale_after(every_seconds: int) -> timedelta:
    """Return how old a publication may be."""
    return timedelta(seconds=2 * every_seconds) + GRACE


def _judged(seen: model.SeenPort, now: datetime) -> model.SeenPort:
    """Say how fresh it is; a state that time changes nothing about stays."""
    contract = seen.contract
    if contract is None or seen.state is model.PortState.UNREADABLE:
        return seen
    every = contract.expected_every_seconds
    state = model.PortState.FRESH
    if _is_shrunken(contract, seen.rows_before):
        state = model.PortState.SHRUNKEN
    if every is not None and now - contract.published_at > stale_after(every):
        state = model.PortState.STALE
    return dataclasses.replace(seen, state=state)


def _version(known: model.SeenPort, contract: model.Contract) -> str:
    """Count on: what consumers read goes on to work with a new second number."""
    if not known.version:
        return "1.0"
    first, second = map(int, known.version.split("."))
    old = known.contract.columns if known.contract else None
    if old is not None and _promises(old) == _promises(contract.columns):
        return known.version
    if old is not None and _promises(old).items() <= _promises(contract.columns).items():
        return f"{first}.{second + 1}"
    return f"{first + 1}.0"


def _promises(columns: Iterable[model.Column]) -> dict[str, tuple[str, bool]]:
    return {column.name: (column.type, column.nullable) for column in columns}


def told(seen: model.SeenPort) -> list[object]:
    """Return what people and files are told of a port: the rest may change without a word.

    Empty as long as nothing was ever published: nobody is queued for having looked.
    """
    contract = seen.contract
    if contract is None and seen.state not in FINDINGS:
        return []
    facts: list[object] = [seen.producer_namespace, seen.port_namespace, seen.state, seen.why]
    if contract is None:
        return facts
    columns = [[each.name, each.type, each.nullable] for each in contract.columns]
    day = contract.published_at.astimezone(UTC).date().isoformat()
    return [*facts, seen.version, day, contract.dropped, columns]


def conditions(
    seen: Mapping[str, model.SeenPort], key: model.Key, now: datetime
) -> tuple[model.Condition, ...]:
    """Say which ports of a product are not as they should be, and which of its inputs."""
    found: dict[str, list[str]] = {}
    for port in sorted(seen.values(), key=_order):
        if port.state in FINDINGS:
            side = "Output" if port.producer == key else "Input"
            named = f"{port.producer_namespace}/{port.port_namespace}"
            said = f"{named} ({port.why})" if port.why else named
            found.setdefault(f"{side}{port.state.title()}", []).append(said)
    return tuple(
        model.Condition(type=kind, message=", ".join(said), since=now)
        for kind, said in sorted(found.items())
    )


def _order(seen: model.SeenPort) -> tuple[str, str, str]:
    return seen.producer_namespace, seen.port_namespace, seen.port_id
