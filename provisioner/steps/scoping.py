"""Say what a principal may do, and keep the engine to it: narrowing at once, or not at all.

The record holds the digest of the policy that the engine is known to hold, and the grants in it;
while a policy is being written it holds what stays either way.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

from provisioner import errors, model, names, ports
from provisioner.domain import plan, policy
from provisioner.steps import protocol

PRINCIPAL, POLICY, DELETE_PRINCIPAL = "ensure-principal", "put-policy", "delete-principal"


class Scoping:
    """Keep one principal with one policy."""

    def __init__(self, issuer: ports.Issuer, *, bucket: str) -> None:
        self._issuer = issuer
        self._bucket = bucket

    def document(self, record: model.Record, grants: Sequence[model.Grant]) -> dict[str, Any]:
        """Write the policy of a product with these grants."""
        return document(record, grants, bucket=self._bucket)

    def is_stale(self, record: model.Record, grants: Sequence[model.Grant]) -> bool:
        """Tell whether the engine holds, as far as we know, another policy than this."""
        wanted = policy.digest(self.document(record, grants))
        return record.credentials.policy_digest != wanted

    def is_held(self, record: model.Record) -> bool | None:
        """Read back whether the engine holds the policy we know of; None where we know of none."""
        document = self.document(record, record.grants)
        if record.credentials.policy_digest != policy.digest(document):
            return None
        return self._issuer.holds(protocol.principal(record), document)

    def ensure_principal(self, run: protocol.Run) -> None:
        """Make the principal that the intent names."""
        run.effect(PRINCIPAL)
        self._issuer.ensure_principal(protocol.principal(run.record))

    def put_policy(self, run: protocol.Run) -> None:
        """Write what is granted now; `PolicyTooLarge` where it does not fit."""
        try:
            self._write_policy(run, run.desired.grants)
        except errors.PolicyTooLarge:
            self._narrow_policy(run)
            raise

    def _narrow_policy(self, run: protocol.Run) -> None:
        """Fail closed: what was revoked goes, although what is new does not fit."""
        for kept in (plan.common(run.record.grants, run.desired.grants), ()):
            document = self.document(run.record, kept)
            if run.record.credentials.policy_digest == policy.digest(document):
                return
            with contextlib.suppress(errors.PolicyTooLarge):
                self._write_policy(run, kept)
                return

    def _write_policy(self, run: protocol.Run, grants: tuple[model.Grant, ...]) -> None:
        """Replace the policy; until that is known to have happened the digest is unknown.

        Meanwhile the record holds the grants that stay either way: never one that was revoked.
        """
        document = self.document(run.record, grants)
        before = run.record.credentials.policy_digest
        unknown = dataclasses.replace(run.record.credentials, policy_digest="")
        run.save(credentials=unknown, grants=plan.common(run.record.grants, grants))
        run.effect(POLICY)
        try:
            self._replace_policy(run, document)
            if not before and run.record.credentials.current:
                # What somebody disabled is enabled, but not before the policy is right.
                self.ensure_principal(run)
        except errors.PolicyTooLarge:
            run.hold(policy_digest=before)
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

    def delete_principal(self, run: protocol.Run) -> None:
        """Delete the principal with all it has, and forget its name."""
        run.effect(DELETE_PRINCIPAL)
        self._issuer.delete_principal(protocol.principal(run.record))
        run.hold(principal="", policy_digest="", grants_digest="", issued_at=None, doubted=False)


def document(record: model.Record, grants: Sequence[model.Grant], *, bucket: str) -> dict[str, Any]:
    """Write the policy of a product with these grants: its principal's, and its role's.

    After a rename it has two homes; a prefix that is not known to be its own is never opened.
    """
    own = [names.prefix(each) for each in record.namespaces] if record.prefix else []
    return policy.document(bucket=bucket, own=own, grants=grants)
