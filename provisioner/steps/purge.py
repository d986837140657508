"""Delete what a released product left: after a delay where that is set, or when a person asks.

Only what its own mark names is touched: a prefix that another product has adopted is that one's.
The mark goes last, so that a purge that stops anywhere is continued, and frees the namespace.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from provisioner import model, names, ports
from provisioner.steps import protocol

PREFIX, FREE, WORKSPACE = "purge-prefix", "free-prefix", "purge-workspace"


class PurgeStep:
    """Purge once; `delay_seconds` is None where only a person may ask for it."""

    name = "purge"
    optional = False

    def __init__(
        self,
        store: ports.ObjectStore,
        workspaces: ports.Workspaces,
        *,
        delay_seconds: int | None,
    ) -> None:
        self._store = store
        self._workspaces = workspaces
        self._delay = None if delay_seconds is None else timedelta(seconds=delay_seconds)

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record: marks are read right before anything is deleted."""
        return record

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return the record: what is released is not looked at."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Purge what has been released, by its date or because it was asked for."""
        due_at = self.next_at(desired, record)
        due = due_at is not None and due_at <= now
        if not _is_left(desired, record) or not (due or model.Ask.PURGE in desired.asks):
            return ()
        marked = [record.namespace, *(each.namespace for each in record.former)]
        return (
            *(
                model.Action(step=self.name, verb=PREFIX, subject=each)
                for each in marked
                if names.is_namespace(each)
            ),
            model.Action(step=self.name, verb=WORKSPACE, subject=record.key.id),
        )

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Delete one prefix with its mark, or the archived workspace; that is the last."""
        if action.verb == PREFIX:
            run.save(purging=True)
            self._purge(action.subject, run)
            return
        with self._workspaces.held(run.record.key.id):
            run.confirm()
            run.effect(WORKSPACE)
            self._workspaces.purge(run.record.key.id)
        run.save(purged_at=run.now(), purging=False, former=())

    def _purge(self, namespace: str, run: protocol.Run) -> None:
        """Delete batch after batch, each only while the mark is this product's."""
        more = True
        while more:
            run.effect(PREFIX)
            if self._store.owner(namespace) != run.record.key.id:
                return
            more = self._store.purge(names.prefix(namespace))
        run.effect(FREE)
        self._store.disown(namespace, run.record.key.id)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return when the delay is over."""
        if self._delay is None or not _is_left(desired, record) or record.released_at is None:
            return None
        return record.released_at + self._delay


def _is_left(desired: model.Desired, record: model.Record) -> bool:
    """Tell whether the product is released and may have left something."""
    released = record.released_at is not None and record.purged_at is None
    return desired.phase is model.Phase.GONE and released
