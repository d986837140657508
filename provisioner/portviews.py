"""Show what output ports publish to a person, and write their contracts: for commands and the API.

Every port is here by name. The metrics only count, for labels must stay few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner import errors, model, names, ports
from provisioner.domain import odcs


@dataclass(frozen=True, kw_only=True)
class PortsOfProduct:
    """What one product publishes, reads, and could read."""

    outputs: tuple[model.SeenPort, ...] = ()
    inputs: tuple[tuple[str, model.SeenPort], ...] = ()
    """Each under the name that it has in the consumer's SQL."""
    since: tuple[model.HeldAccess, ...] = ()
    ended: tuple[model.EndedAccess, ...] = ()


class PortViews:
    """Look ports up in the store; nobody is asked for them here."""

    def __init__(self, contracts: ports.Contracts, *, bucket: str, endpoint: str) -> None:
        self._contracts = contracts
        self._bucket = bucket
        self._endpoint = endpoint

    def of(self, record: model.Record) -> PortsOfProduct:
        """Return all ports that concern a product, as last seen."""
        granted = {grant.port_id: grant for grant in record.grants}
        seen = self._contracts.of(granted.keys())
        given = dict(record.workspace.input_names)
        named = [(given.get(each.port_id) or _name(each), each) for each in seen.values()]
        return PortsOfProduct(
            outputs=self._contracts.of_producer(record.key),
            inputs=tuple(sorted(named, key=lambda pair: pair[0])),
            since=record.access.held,
            ended=record.access.ended,
        )

    def contracts(
        self, record: model.Record, port: str | None = None
    ) -> tuple[dict[str, object], ...]:
        """Return the contracts of a product's ports, or of the one with that namespace or id.

        Raise `PermanentError` where it has no such port, or the port has published nothing.
        """
        outputs = self._contracts.of_producer(record.key)
        wanted = [each for each in outputs if port in (None, each.port_id)]
        # An id may be some other port's namespace: the id counts.
        wanted = wanted or [each for each in outputs if each.port_namespace == port]
        if port is not None and not wanted:
            raise errors.PermanentError("the product has no such output port", port=ascii(port))
        found = self._documents(wanted)
        if not found:
            raise errors.PermanentError("nothing that could be read was published yet")
        return found

    def _documents(self, seen: Sequence[model.SeenPort]) -> tuple[dict[str, object], ...]:
        made = (odcs.document(each, bucket=self._bucket, endpoint=self._endpoint) for each in seen)
        return tuple(document for document in made if document is not None)


def _name(seen: model.SeenPort) -> str:
    return names.input_name(seen.producer_namespace, seen.port_namespace)


def as_json(found: PortsOfProduct) -> dict[str, list[dict[str, object]]]:
    """Write all that is known of a product's ports but their columns and free text."""
    since = {held.port_id: held.since for held in found.since}
    return {
        "outputs": [_facts(each) for each in found.outputs],
        "inputs": [
            {"name": name, "since": since.get(each.port_id), **_facts(each)}
            for name, each in found.inputs
        ],
        "ended": [
            {
                "name": each.name,
                "producer_namespace": each.producer_namespace,
                "port_namespace": each.port_namespace,
                "port_id": each.port_id,
                "since": each.since,
                "ended_at": each.ended_at,
                "why": each.why,
            }
            for each in found.ended
        ],
    }


def _facts(seen: model.SeenPort) -> dict[str, object]:
    contract = seen.contract
    facts: dict[str, object] = {
        "producer_namespace": seen.producer_namespace,
        "port_namespace": seen.port_namespace,
        "port_id": seen.port_id,
        "state": seen.state,
        "why": seen.why,
        "read_at": seen.read_at,
        "changed_at": seen.changed_at,
    }
    if contract is None:
        return facts
    return facts | {
        "version": seen.version,
        "rows": contract.rows,
        "rows_before": seen.rows_before,
        "published_at": contract.published_at,
        "expected_every_seconds": contract.expected_every_seconds,
        "snapshot": contract.snapshot,
        "columns": len(contract.columns),
        "columns_dropped": contract.dropped,
        "audits_failed": sorted({each.name for each in contract.audits if not each.passed}),
    }
