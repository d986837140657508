"""Let replaced keys die: only after the new one is published does their grace period start.

Releasing a product starts here too, because keys die first: all of the principal's, known to
the store or not.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from provisioner import model, ports
from provisioner.domain import loss
from provisioner.steps import protocol

GRACE, DELETE, KILL = "start-grace", "delete-key", "delete-every-key"


class RetirementStep:
    """Delete replaced keys when their grace is over; every key of what is released or leaked."""

    name = "retirement"
    optional = False

    def __init__(self, issuer: ports.Issuer, *, grace_seconds: int) -> None:
        self._issuer = issuer
        self._grace = timedelta(seconds=grace_seconds)

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record: dates are all it needs."""
        return record

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return the record: the keys are read back by `credentials`."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Start the grace of what was replaced, delete what is due."""
        held = record.credentials
        if desired.phase is not model.Phase.ACTIVE:
            # As long as there is a principal it may have keys that the store does not know.
            return (self._action(KILL, held.principal),) if held.principal else ()
        if _compromised(desired, held):
            return (self._action(KILL, held.principal),)
        published = held.current and record.workspace.published_key_id == held.current.id
        starting = [k for k in held.retiring if k.delete_after is None] if published else []
        due = [k for k in held.retiring if k.delete_after and k.delete_after <= now]
        return (
            *(self._action(GRACE, key.key_id) for key in starting),
            *(self._action(DELETE, key.key_id) for key in due),
        )

    def _action(self, verb: str, subject: str) -> model.Action:
        return model.Action(step=self.name, verb=verb, subject=subject, urgent=verb != GRACE)

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Carry out one of the three."""
        held = run.record.credentials
        if action.verb == GRACE:
            end = run.now() + self._grace
            retiring = tuple(
                dataclasses.replace(key, delete_after=end) if key.key_id == action.subject else key
                for key in held.retiring
            )
            run.save(credentials=dataclasses.replace(held, retiring=retiring))
        elif action.verb == DELETE:
            run.effect(DELETE)
            self._issuer.delete_key(protocol.principal(run.record), action.subject)
            retiring = tuple(key for key in held.retiring if key.key_id != action.subject)
            run.save(credentials=dataclasses.replace(held, retiring=retiring))
        else:
            self._kill(run)

    def _kill(self, run: protocol.Run) -> None:
        """Count on no key any more, then delete all there are.

        In this order, for the product may be wanted again before this is done.
        """
        given_up = loss.without_secrets(run.record, now=run.now(), grace=self._grace)
        run.save(credentials=given_up.credentials)
        held = run.record.credentials
        principal = protocol.principal(run.record)
        for key in self._issuer.list_keys(principal):
            run.effect(KILL)
            self._issuer.delete_key(principal, key.id)
        run.save(
            credentials=dataclasses.replace(
                held, pending=None, retiring=(), leak_at=run.desired.asks.get(model.Ask.COMPROMISED)
            )
        )

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return when the next key's grace is over."""
        ends = [key.delete_after for key in record.credentials.retiring if key.delete_after]
        return min(ends, default=None)


def _compromised(desired: model.Desired, held: model.Credentials) -> bool:
    """Tell whether somebody said that keys have leaked, and they were not killed for that yet.

    The date only says which report it is: it was written by another clock than those of keys, and
    perhaps while a key was being made.
    """
    said_at = desired.asks.get(model.Ask.COMPROMISED)
    return bool(held.principal) and said_at is not None and said_at != held.leak_at
