"""Keep the role through which people sign in as a product, with the policy of its principal.

The portal assumes a role that it names after the namespace it shows, so the role follows that
namespace: renamed, the old one goes and a new one is made. Its name is in the record before IAM is
asked for it, so a crash leaves no role that nobody knows.

    name-role -> ensure-role -> put-role-policy; renamed or switched off: delete-role before that

It comes after the principal's policy and takes its grants from the record, where what does not fit
or was not yet written is left out: never does the role do more than the keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from provisioner import errors, model, names, ports
from provisioner.domain import plan, policy
from provisioner.steps import protocol, scoping

NAME, ENSURE, POLICY, DELETE = "name-role", "ensure-role", "put-role-policy", "delete-role"
_ENGINE = "iam"
_DOUBTED = "?"
"""Unlike any digest: the role was there, and its policy is urgent."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which role a product gets."""

    template: str
    """Its name, with `{namespace}` in it."""
    trust: str
    """Who may assume it, as JSON."""

    @property
    def trust_digest(self) -> str:
        """Digest the trust policy, so that a changed one is written."""
        return plan.digest(self.trust)


class RoleStep:
    """Keep one role for every live product; without `wanted`, delete those we made.

    `engine` names what answers, which is not known before it was asked.
    """

    name = "role"
    optional = True

    def __init__(
        self,
        roles: ports.Roles,
        wanted: Wanted | None,
        *,
        bucket: str,
        engine: Callable[[], str] = lambda: _ENGINE,
    ) -> None:
        self._roles = roles
        self._wanted = wanted
        self._bucket = bucket
        self._engine = engine

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record: what was made stands in it."""
        return record

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Read role, trust and policy back where they are known to be written."""
        held, wanted = record.role, self._wanted
        if wanted is None or not held.name or held.name != self._name(desired, record):
            return record
        known = (wanted.trust_digest, self._digest(record, record.grants))
        if (held.trust_digest, held.policy_digest) != known:
            return record
        role = model.Principal(name=held.name, product_id=record.key.id)
        document = scoping.document(record, record.grants, bucket=self._bucket)
        if self._roles.holds(role, wanted.trust, document):
            return record
        look.report("the sign-in role was changed or gone", held.name)
        doubted = dataclasses.replace(held, trust_digest=_DOUBTED, policy_digest="")
        return dataclasses.replace(record, role=doubted)

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Delete what has another name, make what is missing, rewrite what is stale."""
        held, name = record.role, self._name(desired, record)
        other = held.name and held.name != name
        gone = [self._action(DELETE, held.name, urgent=True)] if other else []
        if not name or self._wanted is None:
            return tuple(gone)
        if held.name != name:
            return (*gone, *(self._action(verb, name) for verb in (NAME, ENSURE, POLICY)))
        made = bool(held.trust_digest)
        ensure = held.trust_digest != self._wanted.trust_digest
        stale = held.policy_digest != self._digest(record, desired.grants)
        return (
            *([self._action(ENSURE, name)] if ensure else []),
            *([self._action(POLICY, name, urgent=made)] if stale else []),
        )

    def _name(self, desired: model.Desired, record: model.Record) -> str:
        """Return the name that the role is to have, fit or not; empty where there is to be none.

        The portal signs nobody in to an exploration, whose namespace may be a product's too.
        """
        live = desired.phase is model.Phase.ACTIVE and record.key.kind is model.Kind.PRODUCT
        if self._wanted is None or not live:
            return ""
        if desired.product is None:  # the portal cannot be read: nothing is renamed
            return record.role.name
        return self._wanted.template.replace("{namespace}", desired.product.namespace)

    def _action(self, verb: str, subject: str, *, urgent: bool = False) -> model.Action:
        return model.Action(step=self.name, verb=verb, subject=subject, urgent=urgent)

    def _digest(self, record: model.Record, grants: Sequence[model.Grant]) -> str:
        return policy.digest(scoping.document(record, grants, bucket=self._bucket))

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Carry out one action, then remember it."""
        role = model.Principal(name=action.subject, product_id=run.record.key.id)
        if action.verb == NAME:
            self._record_name(run)
        elif action.verb == ENSURE:
            self._ensure(role, run)
        elif action.verb == POLICY:
            self._put_policy(role, run)
        else:
            self._delete(role, run)

    def _record_name(self, run: protocol.Run) -> None:
        """Write the name down, if IAM may have it."""
        engine = self._engine()
        if engine != _ENGINE:
            raise errors.IssuerRejected("PROV_ROLE_NAME needs an engine with iam", engine=engine)
        if self._wanted is not None and run.desired.product is not None:
            name = names.role(self._wanted.template, run.desired.product.namespace)
            run.save(role=model.RoleState(name=name))

    def _ensure(self, role: model.Principal, run: protocol.Run) -> None:
        if self._wanted is not None:
            run.effect(ENSURE)
            self._roles.ensure(role, self._wanted.trust)
            _hold(run, trust_digest=self._wanted.trust_digest)

    def _put_policy(self, role: model.Principal, run: protocol.Run) -> None:
        """Write what the principal may do now; until that has happened the digest is unknown."""
        kept = plan.common(run.record.grants, run.desired.grants)
        document = scoping.document(run.record, kept, bucket=self._bucket)
        if run.record.role.policy_digest == policy.digest(document):
            return
        try:
            self._write_policy(role, document, run)
        except errors.PolicyTooLarge:  # fail closed: what was revoked goes all the same
            own = scoping.document(run.record, (), bucket=self._bucket)
            self._write_policy(role, own, run)
            raise

    def _write_policy(
        self, role: model.Principal, document: dict[str, Any], run: protocol.Run
    ) -> None:
        _hold(run, policy_digest="")
        run.effect(POLICY)
        try:
            self._roles.put_policy(role, document)
        except errors.Conflict:  # somebody deleted the role by hand: the next run makes it
            _hold(run, trust_digest="")
            raise
        _hold(run, policy_digest=policy.digest(document))

    def _delete(self, role: model.Principal, run: protocol.Run) -> None:
        """Delete the role, unless somebody else's has its name by now.

        A product is not let go while a role may still open its data.
        """
        run.effect(DELETE)
        try:
            self._roles.delete(role)
        except errors.NotOurs:
            pass
        except errors.PermanentError as exc:
            if run.desired.phase is not model.Phase.GONE:
                raise
            raise errors.IssuerUnavailable("the role cannot be deleted", role=role.name) from exc
        run.save(role=model.RoleState())

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: time alone changes nothing here."""
        return None


def _hold(run: protocol.Run, **changes: str) -> None:
    """Change the role in the record."""
    run.save(role=dataclasses.replace(run.record.role, **changes))
