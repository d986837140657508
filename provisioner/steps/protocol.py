"""Say what a step is: observe, plan (pure), apply one idempotent action at a time.

A step keeps nothing in memory: what it has done stands in the `model.Record`, saved after every
effect, so that a process killed between any two of them is continued by the next one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from provisioner import model, names, ports


class Run:
    """Carry one reconcile of one key: what is wanted, the record so far, and the lease.

    `checkpoint` is called before every effect, with a constant name of what comes next: there a
    worker that lost its lease stops, and there tests stop the process.
    """

    def __init__(
        self,
        *,
        desired: model.Desired,
        record: model.Record,
        lease: model.Lease,
        records: ports.Records,
        clock: ports.Clock,
        checkpoint: Callable[[str], None],
    ) -> None:
        self.desired = desired
        self.record = record
        self.clock = clock
        self.listed: Sequence[ports.IssuedKey] = ()
        """The keys of the principal, as listed while the new one was proven."""
        self._lease = lease
        self._records = records
        self._checkpoint = checkpoint

    def effect(self, name: str) -> None:
        """Pass the point before an effect outside of us; raise `LeaseLost` if it is not ours."""
        self._checkpoint(name)

    def confirm(self) -> None:
        """Ask the store; raise `LeaseLost` where the lease is no longer ours."""
        self._records.confirm(self._lease)

    def save(self, **changes: Any) -> None:
        """Change the record and store it; nothing is written where nothing changed."""
        changed = dataclasses.replace(self.record, **changes)
        if changed != self.record:
            self._checkpoint("save")
            self._records.save(changed, self._lease)
            self.record = changed

    def hold(self, **changes: Any) -> None:
        """Change the credentials in the record and store it."""
        self.save(credentials=dataclasses.replace(self.record.credentials, **changes))

    def now(self) -> datetime:
        """Return the present."""
        return self.clock()


def principal(record: model.Record) -> model.Principal:
    """Name what holds a product's keys; only after the first intent."""
    return model.Principal(name=record.credentials.principal, product_id=record.key.id)


def own_prefix(record: model.Record) -> str | None:
    """Return the prefix that is its own; None for what only consumes."""
    return names.prefix(record.namespace) if record.key.produces else None


class Look:
    """Take down what a deep look at one step found, and when."""

    def __init__(self, step: str, at: datetime) -> None:
        self.at = at
        self.found: list[model.Finding] = []
        self._step = step

    def report(self, what: str, subject: str, *, lasting: bool = False) -> None:
        """Take down a constant sentence and its subject; `lasting` where only a person ends it."""
        self.found.append(
            model.Finding(step=self._step, what=what, subject=subject, at=self.at, lasting=lasting)
        )


class Step(Protocol):
    """Make or release one part of what a product gets."""

    name: str
    optional: bool
    """A refusal becomes a condition and the next step goes on."""

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record corrected by a cheap look at what is there; write nothing.

        Raise `NotOurs` where something of somebody else's is in the way.
        """

    def verify(self, record: model.Record, desired: model.Desired, look: Look) -> model.Record:
        """Read back all that was made; report what differs and return the record corrected.

        The plan that follows from the corrected record repairs it. Nothing is changed here.
        """

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """List what remains to be done, in order; pure, and empty once it is all done.

        Asked twice: before anything is observed only for what is urgent, then for all.
        """

    def apply(self, action: model.Action, run: Run) -> None:
        """Carry out one action and save what it changed."""

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return when time alone will give this step something to do."""


def in_order(steps: Sequence[Step], wanted: model.Desired) -> tuple[Step, ...]:
    """Make forwards, release backwards."""
    return tuple(steps) if wanted.phase is model.Phase.ACTIVE else tuple(reversed(steps))
