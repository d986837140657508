"""A twin of the roles at IAM that keeps everything in memory, judged by the policy they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from provisioner import errors, model
from provisioner.domain import policy
from tests import policy_evaluator


@dataclass
class Role:
    product_id: str
    trust: Any
    ours: bool = True
    document: Mapping[str, Any] = field(default_factory=lambda: {"Statement": []})


class MemoryRoles:
    """Keep roles; `policy_limit` is the engine's room for one policy; `refuses` refuses all."""

    def __init__(self, *, policy_limit: int = 20_000) -> None:
        self.held: dict[str, Role] = {}
        self.down = False
        self.refuses = False
        self._limit = policy_limit

    def plant(self, name: str) -> None:
        """Put a role of somebody else's in the way."""
        self.held[name] = Role(product_id="", trust={}, ours=False)

    def allowed(self, name: str, action: str, resource: str) -> bool:
        """Tell whether whoever assumes the role may do this."""
        role = self.held.get(name)
        return role is not None and policy_evaluator.allowed(role.document, action, resource)

    def _answer(self) -> None:
        if self.down:
            raise errors.IssuerUnavailable("the IAM API did not answer")
        if self.refuses:
            raise errors.IssuerRejected("the IAM API refused")

    def _ours(self, role: model.Principal) -> Role | None:
        self._answer()
        held = self.held.get(role.name)
        if held is not None and not (held.ours and held.product_id == role.product_id):
            raise errors.NotOurs("a role of that name is not ours")
        return held

    def ensure(self, role: model.Principal, trust: str) -> None:
        held = self._ours(role)
        made = held or self.held.setdefault(role.name, Role(product_id=role.product_id, trust=None))
        made.trust = json.loads(trust)

    def put_policy(self, role: model.Principal, document: Mapping[str, Any]) -> None:
        self._answer()
        if len(policy.text(document)) > self._limit:
            raise errors.PolicyTooLarge("the grants do not fit into a policy")
        if role.name not in self.held:
            raise errors.Conflict("somebody else changed the role meanwhile")
        self.held[role.name].document = dict(document)

    def holds(self, role: model.Principal, trust: str, document: Mapping[str, Any]) -> bool:
        self._answer()
        held = self.held.get(role.name)
        ours = held is not None and held.ours and held.product_id == role.product_id
        return ours and held == Role(role.product_id, json.loads(trust), document=document)

    def delete(self, role: model.Principal) -> None:
        if self._ours(role) is not None:
            del self.held[role.name]
