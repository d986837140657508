"""Make one key at a time: an intent first, proven before it is committed, nothing left over.

What an earlier run left is settled by what the engine lists and what the store knows of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime, timedelta

from provisioner import errors, model, names, ports
from provisioner.domain import plan
from provisioner.steps import protocol, scoping

INTENT, CREATE, PROVE, COMMIT = "record-intent", "create-key", "prove-key", "commit-key"
SETTLE, DELETE_RETIRING = "settle-keys", "delete-retiring"
STRAY_AFTER = timedelta(seconds=60)
"""So long somebody may still be writing down a key that nobody knows."""
_ROUNDS = 3
_RETRY_SECONDS = 5.0


class Issuing:
    """Carry a product from one key to the next."""

    def __init__(
        self,
        issuer: ports.Issuer,
        prober: ports.Prober,
        scope: scoping.Scoping,
        *,
        new_key: Callable[[], model.AccessKey],
    ) -> None:
        self._issuer = issuer
        self._prober = prober
        self._scope = scope
        self._new_key = new_key

    def record_intent(self, run: protocol.Run) -> None:
        """Write down that a key will be made, and which one where we choose it."""
        held = run.record.credentials
        leak_at = run.desired.asks.get(model.Ask.COMPROMISED)
        key = self._new_key() if self._issuer.chooses_key_ids else None
        run.hold(
            principal=held.principal or names.principal(run.record.namespace, run.record.key.id),
            generation=held.generation + 1,
            leak_at=held.leak_at if held.principal else leak_at,  # there was nothing to kill
            pending=model.Pending(intent_at=run.now(), key=key),
        )

    def settle(self, run: protocol.Run) -> None:
        """Delete keys of our principal that the store does not know, forget one that is gone.

        One made after the intent is a crashed run's, for the lease of that run has ended; any
        other is given a minute, in which somebody may still be writing it down. Where the store
        knows no key at all it was lost, and `.env` may hold one of those: they are left to retire.
        """
        held = run.record.credentials
        principal = protocol.principal(run.record)
        listed = self._issuer.list_keys(principal)
        if held.pending and held.pending.made and not _lists(listed, held.pending.key):
            run.hold(pending=dataclasses.replace(held.pending, key=None, made=False))
            raise errors.Conflict("the new key is gone; another is made", delay_seconds=1.0)
        young = False
        for key in _unknown(listed, held):
            if self._is_stray(key, held, run.now()):
                run.effect(SETTLE)
                self._issuer.delete_key(principal, key.id)
            elif not _store_was_lost(held):
                young = True
        if young:
            raise errors.Conflict(
                "a key that nobody knows is too young to delete",
                delay_seconds=STRAY_AFTER.total_seconds(),
            )

    @staticmethod
    def _is_stray(key: ports.IssuedKey, held: model.Credentials, now: datetime) -> bool:
        if key.created_at is None:
            return True
        intent = held.pending
        if intent and key.created_at >= intent.intent_at.replace(microsecond=0):
            return True  # engines tell whole seconds
        return not _store_was_lost(held) and now - key.created_at >= STRAY_AFTER

    def create(self, run: protocol.Run) -> None:
        """Make the key; where the engine has no room, settle first and come back."""
        pending = _intent(run.record.credentials)
        wanted = self._wanted(run, pending)
        document = self._scope.document(run.record, run.record.grants)
        run.effect(CREATE)
        try:
            key = self._issuer.create_key(protocol.principal(run.record), wanted, document)
        except errors.Conflict:
            self.settle(run)
            self._make_room(run)
            raise
        run.effect("remember-key")
        run.hold(pending=dataclasses.replace(pending, key=key, made=True))

    def _make_room(self, run: protocol.Run) -> None:
        """Delete one of several keys that wait in vain for a known one to be published.

        They are a lost store's, or a current key that does not work and those that retire behind
        it without a last day. `.env` names one of them; where we know which, that one stays, and
        otherwise the oldest goes.
        """
        held, principal = run.record.credentials, protocol.principal(run.record)
        if held.current is not None and not held.doubted:
            return
        undated = {key.key_id for key in held.retiring if key.delete_after is None}
        undated |= {held.current.id} if held.current else set()
        listed = self._issuer.list_keys(principal)
        unknown = {key.id for key in _unknown(listed, held)} if _store_was_lost(held) else set()
        waiting = [key.id for key in listed if key.id in undated | unknown]
        spare = [each for each in waiting if each != run.record.workspace.published_key_id]
        if len(waiting) > 1:
            run.effect(SETTLE)
            self._issuer.delete_key(principal, spare[0])
            left = tuple(key for key in held.retiring if key.key_id != spare[0])
            run.hold(retiring=left)

    def _wanted(self, run: protocol.Run, pending: model.Pending) -> model.AccessKey | None:
        """Return the pair to make, in the record before the engine hears of it; None if it chooses.

        An intent has none where an earlier one was lost at the engine.
        """
        if not self._issuer.chooses_key_ids:
            return None
        if pending.key is None:
            pending = dataclasses.replace(pending, key=self._new_key())
            run.hold(pending=pending)
        return pending.key

    def prove(self, run: protocol.Run) -> None:
        """Use the new key as its owner will; `NotProven` while it does not work.

        Meanwhile the principal's keys are listed: where an engine encrypts that list it takes as
        long as all the proofs, and neither needs the other.
        """
        key = _intent(run.record.credentials).key
        if key is None:
            raise errors.Conflict("an intent has no key to prove")
        pause = self._issuer.settle_seconds / _ROUNDS
        run.effect(PROVE)
        with ThreadPoolExecutor(1, "listing") as beside:
            keys = beside.submit(
                copy_context().run, self._issuer.list_keys, protocol.principal(run.record)
            )
            works = self.works(run.record, key, rounds=_ROUNDS, pause_seconds=pause)
        run.listed = keys.result()
        if not works:
            raise errors.NotProven(
                "the new key does not work yet", delay_seconds=max(1.0, pause or _RETRY_SECONDS)
            )

    def works(
        self,
        record: model.Record,
        key: model.AccessKey,
        *,
        rounds: int = 1,
        pause_seconds: float = 0.0,
    ) -> bool:
        """Use a key as its owner does."""
        return self._prober.prove(
            key,
            protocol.own_prefix(record),
            rounds=rounds,
            pause_seconds=pause_seconds,
            readable=[place for grant in record.grants for place in grant.locations],
        )

    def commit(self, run: protocol.Run) -> None:
        """Make the proven key the current one; every other key of the principal retires.

        One that the store does not know is older than a store that was lost: `.env` may hold it,
        and so may whoever made somebody report a leak: then it has no grace.
        """
        held = run.record.credentials
        leaked = model.Ask.COMPROMISED in run.desired.asks
        until = run.now() if leaked else None
        replaced = [model.Retiring(key_id=held.current.id)] if held.current else []
        unknown = _unknown(run.listed, held)
        replaced += [model.Retiring(key_id=key.id, delete_after=until) for key in unknown]
        run.hold(
            current=_intent(held).key,
            issued_at=max([run.now(), *run.desired.asks.values()]),
            pending=None,
            doubted=False,
            retiring=(*held.retiring, *replaced),
            grants_digest=grants_digest(run.desired),
        )

    def delete_retiring(self, run: protocol.Run) -> None:
        """End every grace early: some engines have no room for a third key."""
        for key in run.record.credentials.retiring:
            run.effect(DELETE_RETIRING)
            self._issuer.delete_key(protocol.principal(run.record), key.key_id)
        run.hold(retiring=())


def _lists(listed: Sequence[ports.IssuedKey], key: model.AccessKey | None) -> bool:
    """Tell whether the engine has a key."""
    return key is not None and key.id in {each.id for each in listed}


def _unknown(listed: Sequence[ports.IssuedKey], held: model.Credentials) -> list[ports.IssuedKey]:
    """Return the keys that the store does not know, the oldest first as they are listed."""
    known = {retiring.key_id for retiring in held.retiring}
    known |= {key.id for key in (held.current, held.pending and held.pending.key) if key}
    return [key for key in listed if key.id not in known]


def _store_was_lost(held: model.Credentials) -> bool:
    """Tell whether keys from before the intent can only be those of a store that was lost."""
    return held.current is None and not held.retiring


def _intent(held: model.Credentials) -> model.Pending:
    """Return the intent that planning has made sure of."""
    if held.pending is None:
        raise errors.Conflict("an intent has vanished from the record")
    return held.pending


def grants_digest(desired: model.Desired) -> str:
    """Digest what the grants open: a longer last day alone does not make a new key."""
    return plan.digest(
        [
            [grant.access, [dataclasses.asdict(p) for p in grant.locations]]
            for grant in desired.grants
        ]
    )
