"""Keep a product's principal, policy and keys, alike at MinIO and rustfs.

A principal is a user whose secret nobody keeps, with one canned policy of the same name; each of
its keys is a service account of that user with no policy of its own. So one write changes what all
keys may do, and none is a child of root. The policy bears the mark (`mark`): it is written before
the user is made, and a user or policy of the name without it is somebody else's.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Protocol

from provisioner import errors, model, ports
from provisioner.domain import policy
from provisioner.issuers.madmin import admin as api
from provisioner.issuers.madmin import mark


class Engine(Protocol):
    """What one of the engines asks for besides."""

    @property
    def policy_limit(self) -> int:
        """How many bytes a canned policy may have."""

    @property
    def resets_accounts(self) -> bool:
        """Tell whether an admin may change service accounts of others."""

    def judge(self, info: Any) -> None:
        """Raise `IssuerRejected` where it is another engine, or unsafe; None = it does not tell."""

    def refined(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the document with the actions that only this engine asks for."""


class _Standing(Enum):
    ABSENT = "there is nothing of the name"
    UNMARKED = "the user is ours, but its policy was deleted or replaced by hand"
    EMPTY = "it bears our mark, and may do nothing yet"
    WRITTEN = "it bears our mark"


def now() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


class MadminIssuer:
    """Implement `ports.Issuer`; nothing is asked before the first use."""

    chooses_key_ids = True
    settle_seconds = 0.0

    def __init__(
        self, name: str, *, admin: api.Admin, engine: Engine, clock: ports.Clock = now
    ) -> None:
        self.name = name
        self._admin = admin
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._answered = False

    def ask(self) -> None:
        """Ask once whether this engine answers, in a release that is not known to be unsafe.

        Raise `IssuerRejected` where it is another engine, refuses us, or is unsafe.
        """
        with self._lock:
            if not self._answered:
                info = self._admin.info()
                if info is None:
                    # Any engine refuses a stranger; only this one answers what we need anyway.
                    self._admin.policy(mark.ACCOUNT)
                self._engine.judge(info)
                self._answered = True

    def ensure_principal(self, principal: model.Principal) -> None:
        """Write the mark, then make the user; `NotOurs` where one without it has the name."""
        self.ask()
        name = principal.name
        before = self._standing(principal)
        if before in (_Standing.ABSENT, _Standing.UNMARKED):
            self._admin.put_policy(name, _bytes(mark.nothing(principal.product_id)))
        user = None if before is _Standing.ABSENT else self._admin.user(name)
        if user is None:
            self._admin.add_user(name, secrets.token_urlsafe(30))
            self._admin.attach(name, name)
        else:
            self._repair_user(name, user)

    def put_policy(self, principal: model.Principal, document: Mapping[str, Any]) -> None:
        """Replace the canned policy, and put right what else somebody changed by hand."""
        self.ask()
        name, limit = principal.name, self._engine.policy_limit
        written = _bytes(self._whole(principal, document))
        if len(written) > limit:
            raise errors.PolicyTooLarge(
                "the grants do not fit into a policy", size=len(written), limit=limit
            )
        before = self._standing(principal)
        user = None if before is _Standing.ABSENT else self._admin.user(name)
        if user is None:
            raise errors.Conflict("there is no such principal", principal=name)
        self._admin.put_policy(name, written)
        self._repair_user(name, user)
        if self._engine.resets_accounts and before is not _Standing.EMPTY:
            self._repair_accounts(name)

    def _repair_user(self, name: str, user: api.User) -> None:
        """Leave the user in no group, enabled, and with its one policy.

        In this order: MinIO takes a disabled user for none at all when a policy is attached.
        """
        for group in user.groups:
            self._admin.leave(name, group)
        if not user.enabled:
            self._admin.enable_user(name)
        if user.policies != {name}:
            self._admin.attach(name, name)

    def _repair_accounts(self, name: str) -> None:
        """Give every key back what its principal may do."""
        for each in self._admin.accounts(name):
            if not (each.enabled and each.inherits):
                self._admin.reset_account(each.id)

    def holds(self, principal: model.Principal, document: Mapping[str, Any]) -> bool:
        """Tell whether policy, user and every service account are as we made them."""
        self.ask()
        name = principal.name
        if not mark.same(self._admin.policy(name), self._whole(principal, document)):
            return False
        expected = api.User(enabled=True, policies=frozenset({name}), groups=())
        if self._admin.user(name) != expected:
            return False
        return all(each.enabled and each.inherits for each in self._admin.accounts(name))

    def create_key(
        self,
        principal: model.Principal,
        wanted: model.AccessKey | None,
        document: Mapping[str, Any],
    ) -> model.AccessKey:
        """Make a service account of the pair that we chose."""
        self.ask()
        if wanted is None:
            raise errors.IssuerRejected("this engine is told which key to make")
        if self._standing(principal) is _Standing.ABSENT:
            raise errors.Conflict("there is no such principal", principal=principal.name)
        description = mark.description(principal.product_id, self._clock())
        self._admin.add_account(principal.name, wanted, description)
        return wanted

    def list_keys(self, principal: model.Principal) -> tuple[ports.IssuedKey, ...]:
        """List the user's service accounts, the oldest first."""
        self.ask()
        keys = [
            ports.IssuedKey(
                id=each.id, created_at=mark.made_at(each.description), active=each.enabled
            )
            for each in self._admin.accounts(principal.name)
        ]
        return tuple(sorted(keys, key=lambda key: (str(key.created_at), key.id)))

    def delete_key(self, principal: model.Principal, key_id: str) -> None:
        """Delete a service account of a user of ours; one that is gone is success."""
        self.ask()
        name = principal.name
        if self._standing(principal) is _Standing.ABSENT:
            return
        if key_id in {each.id for each in self._admin.accounts(name)}:
            self._admin.delete_account(name, key_id)

    def delete_principal(self, principal: model.Principal) -> None:
        """Delete keys, user and policy; the mark goes last, so that it can be done again."""
        self.ask()
        name = principal.name
        if self._standing(principal) is _Standing.ABSENT:
            return
        for each in self._admin.accounts(name):
            self._admin.delete_account(name, each.id)
        self._admin.delete_user(name)
        try:
            self._admin.delete_policy(name)
        except errors.IssuerRejected:  # somebody gave it to another user: who shall lose it too
            self._admin.put_policy(name, _bytes(mark.nothing(principal.product_id)))
            raise

    def principals(self) -> tuple[model.Principal, ...]:
        """List the canned policies that bear our mark."""
        self.ask()
        marked = sorted(self._admin.marked().items())
        return tuple(model.Principal(name=name, product_id=product) for name, product in marked)

    def _standing(self, principal: model.Principal) -> _Standing:
        """Find out what there is of a principal; `NotOurs` where it is not ours.

        Where the policy was deleted or replaced by hand, service accounts still say whose the
        user is; another product's mark is believed.
        """
        name, product = principal.name, principal.product_id
        found = self._admin.policy(name)
        marked = mark.product_of(found)
        if marked == product:
            empty = mark.same(found, mark.nothing(product))
            return _Standing.EMPTY if empty else _Standing.WRITTEN
        if marked is not None:
            raise errors.NotOurs("the policy is another product's", principal=name)
        if found is None and self._admin.user(name) is None:
            return _Standing.ABSENT
        accounts = self._admin.accounts(name)
        if product not in {mark.described_product(each.description) for each in accounts}:
            raise errors.NotOurs("a user or policy of that name is not ours", principal=name)
        return _Standing.UNMARKED

    def _whole(self, principal: model.Principal, document: Mapping[str, Any]) -> dict[str, Any]:
        return mark.marked(self._engine.refined(document), principal.product_id)


def _bytes(document: Mapping[str, Any]) -> bytes:
    return policy.text(document).encode()
