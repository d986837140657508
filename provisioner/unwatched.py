"""Say of output ports what lasts when nobody looks at them any more: their columns, no state.

With PROV_PORTS_SECONDS=0 what was last found would stand as a condition for ever, however fresh a
port is by now.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from provisioner import model, ports


class UnwatchedContracts:
    """Implement `ports.Contracts` over what was seen as long as ports were looked at."""

    def __init__(self, kept: ports.Contracts) -> None:
        self._kept = kept

    def register(
        self,
        producer: model.Key,
        outputs: Iterable[model.SeenPort],
        lease: model.Lease,
        *,
        seen_before: datetime,
    ) -> None:
        """Store all output ports of a producer, for the day when somebody looks again."""
        self._kept.register(producer, outputs, lease, seen_before=seen_before)

    def of(self, port_ids: Collection[str]) -> Mapping[str, model.SeenPort]:
        """Return what was last seen of ports, by id, without a verdict."""
        return {name: _unjudged(seen) for name, seen in self._kept.of(port_ids).items()}

    def of_producer(self, producer: model.Key) -> tuple[model.SeenPort, ...]:
        """Return what was last seen of a producer's ports, without a verdict."""
        return tuple(map(_unjudged, self._kept.of_producer(producer)))


def _unjudged(seen: model.SeenPort) -> model.SeenPort:
    return dataclasses.replace(seen, state=model.PortState.UNKNOWN, why="")
