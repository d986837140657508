"""Issue a product's key: an intent before the first call, proven before it is committed.

The order is the promise (see `retirement` for its second half): at every instant the key in
`.env` works, and after a crash anywhere the next run leaves no key that nobody knows.

    record-intent -> ensure-principal -> put-policy -> create-key -> prove-key -> commit-key
    where we choose key pairs the intent holds one, and create-key may be asked twice for it
    an intent left by an earlier run: the same, with settle-keys before a key is made
    grants changed: put-policy before all else; and, where set so, a new key once none retires
    a person asked: delete-retiring where one still retires, then a new key
    commit-key: all other keys of the principal retire, those that a lost store knew among them

When is decided here; `issuing` makes keys, `scoping` writes policies, `inspecting` reads back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from provisioner import model, names, ports
from provisioner.steps import inspecting, issuing, keypair, protocol, scoping
from provisioner.steps.issuing import COMMIT, CREATE, DELETE_RETIRING, INTENT, PROVE, SETTLE
from provisioner.steps.scoping import DELETE_PRINCIPAL, POLICY, PRINCIPAL


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
        self._scoping = scoping.Scoping(issuer, bucket=bucket)
        self._issuing = issuing.Issuing(issuer, prober, self._scoping, new_key=new_key)
        self._inspecting = inspecting.Inspecting(issuer, self._issuing, self._scoping)
        self._rotation = rotation

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record: the engine is read back after an intent, and by a deep look."""
        return record

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Read principal, policy and keys back, and use the current key."""
        if desired.phase is not model.Phase.ACTIVE:
            return record
        return dataclasses.replace(record, credentials=self._inspecting.verify(record, look))

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Issue, continue, rewrite the policy or rotate; release once the keys are dead."""
        held = record.credentials
        if desired.phase is not model.Phase.ACTIVE:
            return self._actions(record, DELETE_PRINCIPAL) if held.principal else ()
        if held.pending is None and held.current is None:
            return self._actions(record, INTENT, PRINCIPAL, POLICY, CREATE, PROVE, COMMIT)
        rewrite = (POLICY,) if self._scoping.is_stale(record, desired.grants) else ()
        if held.pending is not None:
            # Policy before settling: a revocation does not wait for a stray key to grow old.
            create = () if held.pending.made else (CREATE,)
            return self._actions(record, PRINCIPAL, *rewrite, SETTLE, *create, PROVE, COMMIT)
        rotate = (INTENT, CREATE, PROVE, COMMIT)
        if _asked(desired, record):
            early = (DELETE_RETIRING,) if held.retiring else ()
            return self._actions(record, *rewrite, *early, *rotate)
        wanted = self._rotation_wanted(desired, held, now)
        return self._actions(record, *rewrite, *(rotate if wanted else ()))

    def _actions(self, record: model.Record, *verbs: str) -> tuple[model.Action, ...]:
        held = record.credentials
        subject = held.principal or names.principal(record.namespace, record.key.id)
        live = bool(held.current or held.retiring or (held.pending and held.pending.made))
        return tuple(
            model.Action(step=self.name, verb=verb, subject=subject, urgent=live and verb == POLICY)
            for verb in verbs
        )

    def _rotation_wanted(
        self, desired: model.Desired, held: model.Credentials, now: datetime
    ) -> bool:
        """Tell whether a new key is due; one that retires is waited for while this works."""
        if held.doubted:
            return True
        if held.retiring:
            return False
        due_at = self._rotate_at(held)
        by_age = due_at is not None and now >= due_at
        by_grant = self._rotation.on_grant and held.grants_digest != issuing.grants_digest(desired)
        return by_age or by_grant

    def _rotate_at(self, held: model.Credentials) -> datetime | None:
        return held.issued_at and held.issued_at + timedelta(days=self._rotation.days)

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Carry out one action of the order above."""
        {
            INTENT: self._issuing.record_intent,
            SETTLE: self._issuing.settle,
            DELETE_RETIRING: self._issuing.delete_retiring,
            PRINCIPAL: self._scoping.ensure_principal,
            POLICY: self._scoping.put_policy,
            CREATE: self._issuing.create,
            PROVE: self._issuing.prove,
            COMMIT: self._issuing.commit,
            DELETE_PRINCIPAL: self._scoping.delete_principal,
        }[action.verb](run)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return when the current key grows too old; the past where it has waited for its turn."""
        held = record.credentials
        if desired.phase is not model.Phase.ACTIVE:
            return None
        if _newer_wanted(desired, held) or held.doubted:
            return held.issued_at
        if held.retiring:
            return None
        by_grant = self._rotation.on_grant and held.grants_digest != issuing.grants_digest(desired)
        if by_grant:
            return held.issued_at
        return self._rotate_at(held)


def _newer_wanted(desired: model.Desired, held: model.Credentials) -> bool:
    """Tell whether a person asked for a key that is newer than this one."""
    asked_at = desired.asks.get(model.Ask.ROTATE)
    return bool(asked_at and held.issued_at and held.issued_at < asked_at)


def _asked(desired: model.Desired, record: model.Record) -> bool:
    """Tell whether to rotate because a person asked; a key in `.env` must not retire unseen."""
    held = record.credentials
    published = held.current and record.workspace.published_key_id == held.current.id
    return bool(published) and _newer_wanted(desired, held)
