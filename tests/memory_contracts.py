"""Work like the store of contracts and like published files, in memory."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from provisioner import errors, model, ports
from tests import memory_queue


class MemoryContracts:
    """Remember what ports publish, and share out turns."""

    def __init__(self, state: memory_queue.State) -> None:
        self._state = state
        self.ports: dict[str, model.SeenPort] = {}
        self.next_at: dict[str, datetime] = {}

    def register(
        self,
        producer: model.Key,
        outputs: Iterable[model.SeenPort],
        lease: model.Lease,
        *,
        seen_before: datetime,
    ) -> None:
        wanted = {port.port_id: port for port in outputs}
        with self._state.fenced(lease):
            now = self._state.clock()
            for known in self.of_producer(producer):
                if known.port_id not in wanted:
                    del self.ports[known.port_id], self.next_at[known.port_id]
                elif known.read_at and known.read_at < seen_before:
                    self.next_at[known.port_id] = min(self.next_at[known.port_id], now)
            for port in wanted.values():
                held = self.ports.get(port.port_id)
                if held is None or _place(held) != _place(port):
                    self.ports[port.port_id] = port
                    self.next_at[port.port_id] = now

    def of(self, port_ids: Collection[str]) -> Mapping[str, model.SeenPort]:
        return {each: self.ports[each] for each in port_ids if each in self.ports}

    def of_producer(self, producer: model.Key) -> tuple[model.SeenPort, ...]:
        found = (port for port in self.ports.values() if port.producer == producer)
        return tuple(sorted(found, key=lambda port: port.port_namespace))

    def claim(
        self, *, limit: int, turn: Callable[[str, bool, datetime], datetime]
    ) -> tuple[model.SeenPort, ...]:
        with self._state.lock:
            now = self._state.clock()
            due = sorted((at, name) for name, at in self.next_at.items() if at <= now)
            taken = [name for _, name in itertools.islice(due, limit)]
            for name in taken:
                self.next_at[name] = turn(name, bool(self.consumers(name)), now)
            return tuple(self.ports[name] for name in taken)

    def give_back(self, delays: Mapping[str, float]) -> None:
        with self._state.lock:
            now = self._state.clock()
            for name, seconds in delays.items():
                if name in self.next_at:
                    at = now + timedelta(seconds=seconds)
                    self.next_at[name] = min(self.next_at[name], at)

    def save(self, seen: Sequence[model.SeenPort], touched: Iterable[model.Key]) -> None:
        with self._state.lock:
            for key in touched:
                self._state.touch(key, model.Priority.RESYNC, ())
            for port in seen:
                held = self.ports.get(port.port_id)
                if held is not None and _place(held) == _place(port):
                    self.ports[port.port_id] = port

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        return frozenset(
            consumer
            for consumer, links in self._state.links.items()
            if any(
                link.port_id == port_id and link.status is model.LinkStatus.APPROVED
                for link in links
            )
        )

    def counts(self) -> Mapping[str, int]:
        states = [port.state for port in self.ports.values()]
        return {state: states.count(state) for state in states}


def _place(port: model.SeenPort) -> tuple[str, str]:
    return port.producer_namespace, port.port_namespace


@dataclasses.dataclass(kw_only=True)
class _Object:
    body: bytes
    version: int
    modified_at: datetime


class MemoryPublishedFiles:
    """Hold published objects; `reads` are the keys that were asked for."""

    def __init__(self, clock: ports.Clock) -> None:
        self.reads: list[str] = []
        self.down = False
        self.refused: set[str] = set()
        self._clock = clock
        self._objects: dict[str, _Object] = {}
        self._versions = itertools.count(1)

    def put(self, key: str, body: bytes) -> None:
        """Publish an object over whatever is there."""
        made = _Object(body=body, version=next(self._versions), modified_at=self._clock())
        self._objects[key] = made

    def remove(self, key: str) -> None:
        """Take an object away."""
        del self._objects[key]

    def read(self, key: str, *, limit: int, etag: str = "") -> ports.PublishedFile:
        self.reads.append(key)
        if self.down:
            raise errors.StorageUnavailable("the S3 engine did not answer")
        if key in self.refused:
            return ports.PublishedFile(found=ports.Found.REFUSED)
        held = self._objects.get(key)
        if held is None:
            return ports.PublishedFile(found=ports.Found.ABSENT)
        if etag == f'"{held.version}"':
            return ports.PublishedFile(found=ports.Found.UNCHANGED, etag=etag)
        if len(held.body) > limit:
            return ports.PublishedFile(found=ports.Found.TOO_LARGE)
        return ports.PublishedFile(
            found=ports.Found.READ,
            body=held.body,
            etag=f'"{held.version}"',
            modified_at=held.modified_at,
        )
