"""Issue a product's key: an intent before the first call, proven before it is committed.

The order is the promise (see `retirement` for its second half): at every instant the key in
`.env` works, and after a crash anywhere the next run leaves no key that nobody knows.

    record-intent -> ensure-principal -> put-policy -> create-key -> prove-key -> commit-key
    where we choose key pairs the intent holds one, and create-key may be asked twice for it
    an intent left by an earlier run: the same, with settle-keys before a key is made
    grants changed: put-policy before all else; and, where asked for, a new key once none retires
    commit-key: all other keys of the principal retire, those that a lost store knew among them
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from provisioner import errors, model, names, plan, policy, ports
from provisioner.steps import keypair, protocol

INTENT, PRINCIPAL, POLICY = "record-intent", "ensure-principal", "put-policy"
CREATE, PROVE, COMMIT = "create-key", "prove-key", "commit-key"
SETTLE, DELETE_PRINCIPAL = "settle-keys", "delete-principal"
_STRAY_AFTER = timedelta(seconds=60)
_ROUNDS = 3
_RETRY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """When a key is replaced."""

    days: int = 30
    on_grant: bool = True


class CredentialsStep:
    """Keep one principal, one policy and one proven key for every live product."""

    name = "credentials"
    optional = False

    def __init__(
        self,
        issuer: ports.Issuer,
        prober: ports.Prober,
        *,
        bucket: str,
        rotation: Rotation,
        new_key: Callable[[], model.AccessKey] = keypair.choose,
    ) -> None:
        self._issuer = issuer
        self._prober = prober
        self._bucket = bucket
        self._rotation = rotation
        self._new_key = new_key

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record: the engine is read back where an intent was left, and then only."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Issue, continue, rewrite the policy or rotate; release once the keys are dead."""
        held = record.credentials
        if desired.phase is not model.Phase.ACTIVE:
            return self._actions(record, DELETE_PRINCIPAL) if held.principal else ()
        if held.pending is None and held.current is None:
            return self._actions(record, INTENT, PRINCIPAL, POLICY, CREATE, PROVE, COMMIT)
        stale = held.policy_digest != policy.digest(self._document(record, desired.grants))
        rewrite = (POLICY,) if stale else ()
        if held.pending is not None:
            # Policy before settling: a revocation does not wait for a stray key to grow old.
            create = () if held.pending.made else (CREATE,)
            return self._actions(record, PRINCIPAL, *rewrite, SETTLE, *create, PROVE, COMMIT)
        rotate = (INTENT, CREATE, PROVE, COMMIT)
        wanted = self._rotation_wanted(desired, held, now)
        return self._actions(record, *rewrite, *(rotate if wanted else ()))

    def _actions(self, record: model.Record, *verbs: str) -> tuple[model.Action, ...]:
        subject = record.credentials.principal or names.principal(record.namespace, record.key.id)
        live = record.credentials.current is not None
        return tuple(
            model.Action(step=self.name, verb=verb, subject=subject, urgent=live and verb == POLICY)
            for verb in verbs
        )

    def _rotation_wanted(
        self, desired: model.Desired, held: model.Credentials, now: datetime
    ) -> bool:
        """Tell whether a new key is due; one that is still retiring is waited for."""
        if held.retiring:
            return False
        if held.doubted:
            return True
        due_at = self._rotate_at(held)
        by_age = due_at is not None and now >= due_at
        by_grant = self._rotation.on_grant and held.grants_digest != _grants_digest(desired)
        return by_age or by_grant

    def _rotate_at(self, held: model.Credentials) -> datetime | None:
        return held.issued_at and held.issued_at + timedelta(days=self._rotation.days)

    def _document(self, record: model.Record, grants: Sequence[model.Grant]) -> dict[str, object]:
        return policy.document(
            bucket=self._bucket, own=[names.prefix(record.namespace)], grants=grants
        )

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Carry out one action of the order above."""
        {
            INTENT: self._record_intent,
            SETTLE: self._settle,
            PRINCIPAL: self._ensure_principal,
            POLICY: self._put_policy,
            CREATE: self._create,
            PROVE: self._prove,
            COMMIT: self._commit,
            DELETE_PRINCIPAL: self._delete_principal,
        }[action.verb](run)

    def _record_intent(self, run: protocol.Run) -> None:
        held = run.record.credentials
        key = self._new_key() if self._issuer.chooses_key_ids else None
        _hold(
            run,
            principal=held.principal or names.principal(run.record.namespace, run.record.key.id),
            generation=held.generation + 1,
            pending=model.Pending(intent_at=run.now(), key=key),
        )

    def _settle(self, run: protocol.Run) -> None:
        """Delete keys of our principal that the store does not know, forget one that is gone.

        One made after the intent is a crashed run's, for the lease of that run has ended; any
        other is given a minute, in which somebody may still be writing it down.
        """
        held = run.record.credentials
        principal = protocol.principal(run.record)
        listed = self._issuer.list_keys(principal)
        if held.pending and held.pending.made and not _lists(listed, held.pending.key):
            _hold(run, pending=dataclasses.replace(held.pending, key=None, made=False))
            raise errors.Conflict("the new key is gone; another is made", delay_seconds=1.0)
        known = {retiring.key_id for retiring in held.retiring}
        known |= {key.id for key in (held.current, held.pending and held.pending.key) if key}
        young = False
        for key in listed:
            if key.id in known:
                continue
            if self._is_stray(key, held.pending, run.now()):
                run.effect(SETTLE)
                self._issuer.delete_key(principal, key.id)
            else:
                young = True
        if young:
            raise errors.Conflict(
                "a key that nobody knows is too young to delete",
                delay_seconds=_STRAY_AFTER.total_seconds(),
            )

    @staticmethod
    def _is_stray(key: ports.IssuedKey, intent: model.Pending | None, now: datetime) -> bool:
        if key.created_at is None:
            return True
        if intent and key.created_at >= intent.intent_at.replace(microsecond=0):
            return True  # engines tell whole seconds
        return now - key.created_at >= _STRAY_AFTER

    def _ensure_principal(self, run: protocol.Run) -> None:
        run.effect(PRINCIPAL)
        self._issuer.ensure_principal(protocol.principal(run.record))

    def _put_policy(self, run: protocol.Run) -> None:
        try:
            self._write_policy(run, run.desired.grants)
        except errors.PolicyTooLarge:
            self._narrow_policy(run)
            raise

    def _narrow_policy(self, run: protocol.Run) -> None:
        """Fail closed: what was revoked goes, although what is new does not fit."""
        for kept in (plan.common(run.record.grants, run.desired.grants), ()):
            document = self._document(run.record, kept)
            if run.record.credentials.policy_digest == policy.digest(document):
                return
            with contextlib.suppress(errors.PolicyTooLarge):
                self._write_policy(run, kept)
                return

    def _write_policy(self, run: protocol.Run, grants: tuple[model.Grant, ...]) -> None:
        """Replace the policy; until that is known to have happened the digest is unknown.

        Meanwhile the record holds the grants that stay either way: never one that was revoked.
        """
        document = self._document(run.record, grants)
        before = run.record.credentials.policy_digest
        unknown = dataclasses.replace(run.record.credentials, policy_digest="")
        run.save(credentials=unknown, grants=plan.common(run.record.grants, grants))
        run.effect(POLICY)
        try:
            self._replace_policy(run, document)
        except errors.PolicyTooLarge:
            _hold(run, policy_digest=before)
            raise
        held = dataclasses.replace(run.record.credentials, policy_digest=policy.digest(document))
        run.save(credentials=held, grants=grants)

    def _replace_policy(self, run: protocol.Run, document: dict[str, Any]) -> None:
        principal = protocol.principal(run.record)
        try:
            self._issuer.put_policy(principal, document)
        except errors.Conflict:  # somebody deleted the principal by hand
            self._issuer.ensure_principal(principal)
            self._issuer.put_policy(principal, document)

    def _create(self, run: protocol.Run) -> None:
        pending = _intent(run.record.credentials)
        wanted = self._wanted(run, pending)
        document = self._document(run.record, run.record.grants)
        run.effect(CREATE)
        try:
            key = self._issuer.create_key(protocol.principal(run.record), wanted, document)
        except errors.Conflict:
            self._settle(run)
            raise
        run.effect("remember-key")
        _hold(run, pending=dataclasses.replace(pending, key=key, made=True))

    def _wanted(self, run: protocol.Run, pending: model.Pending) -> model.AccessKey | None:
        """Return the pair to make, in the record before the engine hears of it; None if it chooses.

        An intent has none where an earlier one was lost at the engine.
        """
        if not self._issuer.chooses_key_ids:
            return None
        if pending.key is None:
            pending = dataclasses.replace(pending, key=self._new_key())
            _hold(run, pending=pending)
        return pending.key

    def _prove(self, run: protocol.Run) -> None:
        key = _intent(run.record.credentials).key
        if key is None:
            raise errors.Conflict("an intent has no key to prove")
        pause = self._issuer.settle_seconds / _ROUNDS
        prefix = names.prefix(run.record.namespace)
        run.effect(PROVE)
        if not self._prober.prove(key, prefix, rounds=_ROUNDS, pause_seconds=pause):
            raise errors.NotProven(
                "the new key does not work yet", delay_seconds=max(1.0, pause or _RETRY_SECONDS)
            )

    def _commit(self, run: protocol.Run) -> None:
        """Make the proven key the current one; every other key of the principal retires.

        One that the store does not know is older than a store that was lost: `.env` may hold it.
        """
        held = run.record.credentials
        proven = _intent(held).key
        known = {key.key_id for key in held.retiring} | {proven.id if proven else ""}
        old = [held.current.id] if held.current else []
        listed = self._issuer.list_keys(protocol.principal(run.record))
        old += [key.id for key in listed if key.id not in old]
        _hold(
            run,
            current=proven,
            issued_at=run.now(),
            pending=None,
            doubted=False,
            retiring=held.retiring
            + tuple(model.Retiring(key_id=each) for each in old if each not in known),
            grants_digest=_grants_digest(run.desired),
        )

    def _delete_principal(self, run: protocol.Run) -> None:
        run.effect(DELETE_PRINCIPAL)
        self._issuer.delete_principal(protocol.principal(run.record))
        _hold(run, principal="", policy_digest="", grants_digest="", issued_at=None, doubted=False)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return when the current key grows too old; the past where it has waited for its turn."""
        held = record.credentials
        if desired.phase is not model.Phase.ACTIVE or held.retiring:
            return None
        by_grant = self._rotation.on_grant and held.grants_digest != _grants_digest(desired)
        if by_grant or held.doubted:
            return held.issued_at
        return self._rotate_at(held)


def _hold(run: protocol.Run, **changes: object) -> None:
    """Change the credentials in the record."""
    run.save(credentials=dataclasses.replace(run.record.credentials, **changes))  # type: ignore[arg-type]


def _lists(listed: Sequence[ports.IssuedKey], key: model.AccessKey | None) -> bool:
    """Tell whether the engine has a key."""
    return key is not None and key.id in {each.id for each in listed}


def _intent(held: model.Credentials) -> model.Pending:
    """Return the intent that planning has made sure of."""
    if held.pending is None:
        raise errors.Conflict("an intent has vanished from the record")
    return held.pending


def _grants_digest(desired: model.Desired) -> str:
    """Digest what the grants open: a longer last day alone does not make a new key."""
    return plan.digest(
        [
            [grant.access, [dataclasses.asdict(p) for p in grant.locations]]
            for grant in desired.grants
        ]
    )
