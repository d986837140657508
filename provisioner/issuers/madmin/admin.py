"""Name the calls of the admin API that issuing needs, as each of its two engines answers them.

Both take the same routes and the same JSON. MinIO encrypts what holds secrets and has a code for
what is not there; releases of rustfs have had several, so there absence is what a listing lacks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from provisioner import errors, model
from provisioner.issuers.madmin import client, codec, mark

_LISTING_LIMIT = 256 << 20
_NO_POLICY = frozenset({"XMinioAdminNoSuchPolicy", "NoSuchResource"})
_NO_USER = frozenset({"XMinioAdminNoSuchUser", "NoSuchResource"})
_NO_ACCOUNT = frozenset({"XMinioInvalidIAMCredentials", "NoSuchResource"})
_TAKEN = "XMinioIAMServiceAccountNotAllowed"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one engine speaks."""

    prefix: str
    add_account: str
    """The route that makes service accounts; every release has this one."""
    encrypts: bool
    tells_absence: bool
    """Whether a code says reliably that something is not there."""


MINIO = Dialect(
    prefix="/minio/admin/v3",
    add_account="add-service-account",
    encrypts=True,
    tells_absence=True,
)
RUSTFS = Dialect(
    prefix="/rustfs/admin/v3",
    add_account="add-service-accounts",
    encrypts=False,
    tells_absence=False,
)


@dataclass(frozen=True, kw_only=True)
class User:
    """A user as the engine describes it."""

    enabled: bool
    policies: frozenset[str]
    groups: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Account:
    """A service account as the engine lists it."""

    id: str
    enabled: bool
    inherits: bool
    """Whether it may do what its parent may, with no policy of its own."""
    description: str


class Admin:
    """Make the calls; what is gone is None or success, and every failure one of `errors`."""

    def __init__(
        self, dialect: Dialect, *, endpoint: str, region: str, admin: model.AccessKey
    ) -> None:
        self._dialect = dialect
        self._client = client.AdminClient(
            endpoint=endpoint,
            region=region,
            admin=admin,
            prefix=dialect.prefix,
            cipher=codec.Codec(admin.secret) if dialect.encrypts else codec.Plain(),
        )

    def info(self) -> Any:
        """Return what the engine says of itself; None where our key may not know."""
        return self._client.read("info", tolerate={"AccessDenied"})

    def policy(self, name: str) -> Any:
        """Return a canned policy's document; None if there is none."""
        found = self._find("info-canned-policy", {"name": name}, "list-canned-policies")
        if isinstance(found, dict) and "Policy" in found:
            return found["Policy"]
        return found

    def marked(self) -> dict[str, str]:
        """Return the product of each canned policy that bears our mark, by the policy's name."""
        listed = self._listed("list-canned-policies")
        return {name: product for name, product in listed.items() if isinstance(product, str)}

    def put_policy(self, name: str, document: bytes) -> None:
        """Make or replace a canned policy."""
        self._client.write("PUT", "add-canned-policy", {"name": name}, document)

    def delete_policy(self, name: str) -> None:
        """Delete a canned policy."""
        self._drop(
            "remove-canned-policy",
            {"name": name},
            _NO_POLICY,
            still=lambda: self.policy(name) is not None,
        )

    def user(self, name: str) -> User | None:
        """Describe a user; None if there is none."""
        answer = self._find("user-info", {"accessKey": name}, "list-users")
        if answer is None:
            return None
        found = _object(answer, "user-info")
        policies = str(found.get("policyName") or "").split(",")
        return User(
            enabled=found.get("status") == "enabled",
            policies=frozenset(each.strip() for each in policies if each.strip()),
            groups=tuple(str(each) for each in found.get("memberOf") or ()),
        )

    def add_user(self, name: str, secret: str) -> None:
        """Make a user, or give one that is there a new secret."""
        body = _json({"secretKey": secret, "status": "enabled"})
        self._client.write("PUT", "add-user", {"accessKey": name}, body, encrypted=True)

    def enable_user(self, name: str) -> None:
        """Let a user's keys work again."""
        self._client.write("PUT", "set-user-status", {"accessKey": name, "status": "enabled"})

    def leave(self, name: str, group: str) -> None:
        """Take a user out of a group."""
        body = {"group": group, "members": [name], "groupStatus": "enabled", "isRemove": True}
        self._client.write("PUT", "update-group-members", {}, _json(body))

    def attach(self, policy: str, user: str) -> None:
        """Make a canned policy the only one of a user."""
        query = {"policyName": policy, "userOrGroup": user, "isGroup": "false"}
        self._client.write("PUT", "set-user-or-group-policy", query)

    def delete_user(self, name: str) -> None:
        """Delete a user and all its service accounts."""
        self._drop(
            "remove-user",
            {"accessKey": name},
            _NO_USER,
            still=lambda: self.user(name) is not None,
        )

    def accounts(self, user: str) -> tuple[Account, ...]:
        """List the service accounts of a user; empty where there is no such user."""
        route = "list-service-accounts"
        found = _object(self._client.read(route, {"user": user}, encrypted=True), route)
        return tuple(_account(_object(each, route)) for each in found.get("accounts") or ())

    def add_account(self, user: str, key: model.AccessKey, description: str) -> None:
        """Make a service account that may do what its user may; the same one again is success."""
        body = {
            "targetUser": user,
            "accessKey": key.id,
            "secretKey": key.secret,
            "name": mark.ACCOUNT,
            "description": description,
            "expiration": None,
        }
        route = self._dialect.add_account
        try:
            self._client.write("PUT", route, {}, _json(body), encrypted=True)
        except errors.Conflict:
            raise
        except errors.ReconcileError as exc:
            self._explain(exc, user, key.id)

    def _explain(self, exc: errors.ReconcileError, user: str, key_id: str) -> None:
        """Say why no account was made; nothing where it is there, for it was ours before."""
        if key_id in {each.id for each in self.accounts(user)}:
            return
        if exc.attributes.get("code") == _TAKEN:
            raise errors.NotOurs("a key of that id belongs to somebody else", key=key_id) from exc
        if self.user(user) is None:
            raise errors.Conflict("the principal was deleted meanwhile", principal=user) from exc
        raise exc

    def reset_account(self, key_id: str) -> None:
        """Enable a service account and take the policy of its own from it (MinIO)."""
        body = _json({"newStatus": "on"})
        query = {"accessKey": key_id}
        self._client.write("POST", "update-service-account", query, body, encrypted=True)

    def delete_account(self, user: str, key_id: str) -> None:
        """Delete a service account of a user."""
        self._drop(
            "delete-service-account",
            {"accessKey": key_id},
            _NO_ACCOUNT,
            still=lambda: key_id in {each.id for each in self.accounts(user)},
        )

    def _find(self, route: str, query: Mapping[str, str], listing: str) -> Any:
        """Read one thing; None if there is no such thing."""
        (name,) = query.values()
        try:
            return self._client.read(route, query, tolerate=_NO_POLICY | _NO_USER)
        except (errors.IssuerUnavailable, errors.IssuerRejected):
            if self._dialect.tells_absence:
                raise
            if name in self._listed(listing):
                raise
            return None

    def _listed(self, route: str) -> dict[str, Any]:
        """List all policies or users by their names, with little more than those."""
        return _object(self._client.read(route, limit=_LISTING_LIMIT, reduce=_only_the_mark), route)

    def _drop(
        self,
        route: str,
        query: Mapping[str, str],
        gone: frozenset[str],
        *,
        still: Callable[[], bool],
    ) -> None:
        try:
            self._client.write("DELETE", route, query, tolerate=gone)
        except (errors.IssuerUnavailable, errors.IssuerRejected):
            if self._dialect.tells_absence or still():
                raise


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _account(each: Mapping[str, Any]) -> Account:
    return Account(
        id=str(each.get("accessKey", "")),
        enabled=each.get("accountStatus") == "on",
        inherits=each.get("impliedPolicy") is True,
        description=str(each.get("description") or ""),
    )


def _object(answer: Any, route: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise errors.IssuerRejected("the admin API answers in a shape of its own", call=route)
    return answer


def _only_the_mark(read: dict[str, Any]) -> Any:
    """Reduce a policy to the product in its mark, a statement to that in its Sid."""
    if "Statement" in read and "Version" in read:
        statements = read["Statement"]
        found = statements if isinstance(statements, list) else [statements]
        return next((each for each in found if isinstance(each, str)), None)
    if "Effect" in read and ("Action" in read or "NotAction" in read):
        return mark.sid_product(read.get("Sid"))
    return read
