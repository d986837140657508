"""Ask the portal to wait for us before it deletes a product; let it go on last of all."""

from __future__ import annotations

from datetime import datetime

from provisioner import model, ports
from provisioner.steps import protocol

ADD, REMOVE = "add-finalizer", "remove-finalizer"


class FinalizerStep:
    """Keep our finalizer on every live product of a portal that knows finalizers."""

    name = "finalizer"
    optional = True

    def __init__(self, portal: ports.PortalWriter, finalizer: str) -> None:
        self._portal = portal
        self._finalizer = finalizer

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record: what the portal says of finalizers is part of `desired`."""
        return record

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return the record: the portal is read in every run."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Add ours to what lives, remove it from what is being deleted."""
        there = desired.product.finalizers if desired.product else None
        if there is None:
            return ()
        gone = desired.phase is model.Phase.GONE
        if (self._finalizer in there) is not gone:
            return ()
        verb = REMOVE if gone else ADD
        return (model.Action(step=self.name, verb=verb, subject=self._finalizer),)

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Tell the portal, then remember it."""
        run.effect(action.verb)
        if action.verb == ADD:
            self._portal.add_finalizer(run.record.key, self._finalizer)
        else:
            self._portal.remove_finalizer(run.record.key, self._finalizer)
        run.save(finalizer=action.verb == ADD)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: time alone changes nothing here."""
        return None
