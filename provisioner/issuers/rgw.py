"""Issue keys at Ceph's RGW before version 19, which has no IAM API that makes users.

A principal is a user without keys, which bears our mark in its display name. Each of its keys
lives in a user of its own, `<principal>.g1` and so on, since a policy is a user's and rotation
must not touch the one in use. There is room for a few, and a number is free again when its user
is gone, so that reading these few shows every key there is: nothing needs to be remembered, and
nothing can be forgotten. The policy is written after the key, for a user that is written anew has
none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from provisioner import errors, model, ports
from provisioner.domain import policy
from provisioner.issuers import adminops, signed

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

MOST_KEYS = 4
"""A current, a pending and a retiring one, and one that a person asked for meanwhile."""
POLICY_LIMIT = 65_536
"""Characters of a policy: it is an attribute of an object, and some stores take no longer ones."""
_POLICY = "dp"
_LIMIT_DELAY_SECONDS = 2.0
_PRINCIPAL = re.compile(r"(dp-[^$]+?)(?:\.g[1-9])?")
_T = TypeVar("_T")


class RgwIssuer:
    """Implement `ports.Issuer` over users of the admin operations and their policies by IAM.

    `policies` speaks to the same endpoint; it may be one that is made on its first use.
    """

    name = "rgw"
    chooses_key_ids = True
    settle_seconds = 0.0

    def __init__(self, ops: adminops.AdminOps, policies: IAMClient, *, clock: ports.Clock) -> None:
        self._ops = ops
        self._client = policies
        self._clock = clock

    @functools.cached_property
    def _policies(self) -> IAMClient:
        self._client.meta.events.register("before-send.iam", signed.in_a_hurry)
        return self._client

    def ask(self) -> None:
        """Ask whether admin operations are there for us; raise `IssuerRejected` if not."""
        if not self._ops.knows_us():
            raise errors.IssuerRejected("what answers does not speak Ceph's admin operations")

    def ensure_principal(self, principal: model.Principal) -> None:
        """Make the user without keys; `NotOurs` where one without our mark has the name."""
        mark = adminops.mark(principal.product_id)
        if not self._ops.create_without_keys(principal.name, mark):
            self._there(principal)

    def put_policy(self, principal: model.Principal, document: Mapping[str, Any]) -> None:
        """Write the policy to the user of every key, and take away whatever else it was given."""
        written = _text(document)
        parent = self._there(principal)
        for user in self._generations(principal):
            self._allow(user.uid, written)
            for name in self._policy_names(user.uid):
                if name != _POLICY:
                    self._drop(user.uid, name)
            self._mend(user)
        self._mend(parent)

    def _allow(self, uid: str, written: str) -> None:
        done = _call(
            lambda: self._policies.put_user_policy(
                UserName=uid, PolicyName=_POLICY, PolicyDocument=written
            )
        )
        if done is None:
            raise errors.Conflict("a key's user was deleted meanwhile", user=uid)

    def _mend(self, user: adminops.User) -> None:
        """Wake the user and take its own rights; the policy in its record has changed meanwhile."""
        if not user.plain and (now := self._ops.user(user.uid)):
            self._ops.write(now.mended())

    def _policy_names(self, uid: str) -> list[str]:
        # RGW says NoSuchEntity both of a user and of a user that has no policy.
        page = _call(lambda: self._policies.list_user_policies(UserName=uid))
        return page["PolicyNames"] if page else []

    def _drop(self, uid: str, name: str) -> None:
        _call(lambda: self._policies.delete_user_policy(UserName=uid, PolicyName=name))

    def holds(self, principal: model.Principal, document: Mapping[str, Any]) -> bool:
        """Tell whether each key's user has this policy and one key, and nothing besides."""
        parent = self._ours(principal)
        if parent is None or parent.key_ids or not parent.plain:
            return False
        wanted = policy.with_batch_delete(document)
        return all(
            user.plain and len(user.key_ids) == 1 and self._policy_of(user.uid) == wanted
            for user in self._generations(principal)
        )

    def _policy_of(self, uid: str) -> Any:
        """Return the one policy of a user, None where it has none or several."""
        if self._policy_names(uid) != [_POLICY]:
            return None
        answer = _call(lambda: self._policies.get_user_policy(UserName=uid, PolicyName=_POLICY))
        return answer and answer["PolicyDocument"]

    def create_key(
        self,
        principal: model.Principal,
        wanted: model.AccessKey | None,
        document: Mapping[str, Any],
    ) -> model.AccessKey:
        """Make a user for the key, then its policy; `Conflict` where all users are taken."""
        if wanted is None:
            raise errors.IssuerRejected("Ceph's keys are chosen by whoever asks for them")
        written = _text(document)
        parent = self._there(principal)
        users = self._numbered(principal)
        if any(user and user.product_id != principal.product_id for user in users.values()):
            raise errors.NotOurs("a key's user is not ours", principal=principal.name)
        uid = next((uid for uid, user in users.items() if user and wanted.id in user.key_ids), None)
        if uid is None:
            uid = _free(principal, users)
            made = adminops.mark(principal.product_id, self._clock().isoformat(timespec="seconds"))
            self._ops.write(parent.sibling(uid, made, wanted))
        self._allow(uid, written)
        return wanted

    def list_keys(self, principal: model.Principal) -> tuple[ports.IssuedKey, ...]:
        """List the keys, the oldest first; one of the principal's own was made by hand."""
        parent = self._ops.user(principal.name)
        users = [*([parent] if parent else []), *self._generations(principal)]
        keys = [
            ports.IssuedKey(id=key, created_at=_time(user.made_at), active=not user.suspended)
            for user in users
            for key in user.key_ids
        ]
        return tuple(sorted(keys, key=lambda key: (str(key.created_at), key.id)))

    def delete_key(self, principal: model.Principal, key_id: str) -> None:
        """Delete the key's user; a key that is not alone there is taken from it."""
        parent = self._ours(principal)
        for user in self._generations(principal):
            if user.key_ids == (key_id,):
                self._ops.delete(user.uid)
            else:
                self._take(user, key_id)
        if parent is not None:
            self._take(parent, key_id)

    def _take(self, user: adminops.User, key_id: str) -> None:
        if key_id in user.key_ids:
            self._ops.write(user.without(key_id))

    def delete_principal(self, principal: model.Principal) -> None:
        """Delete each key's user, then the principal's; gone is success."""
        parent = self._ours(principal)
        for user in self._generations(principal):
            self._ops.delete(user.uid)
        if parent is not None:
            self._ops.delete(parent.uid)

    def principals(self) -> tuple[model.Principal, ...]:
        """List what bears our mark; keys that lost their principal count too."""
        holders: dict[str, str] = {}
        for uid in sorted(self._ops.uids()):  # a principal comes before its keys
            if named := _PRINCIPAL.fullmatch(uid):
                holders.setdefault(named[1], uid)
        users = ((name, self._ops.user(uid)) for name, uid in holders.items())
        return tuple(
            model.Principal(name=name, product_id=user.product_id)
            for name, user in users
            if user and user.product_id
        )

    def _ours(self, principal: model.Principal) -> adminops.User | None:
        """Return the principal's user, None if there is none; `NotOurs` without our mark."""
        user = self._ops.user(principal.name)
        if user is not None and user.product_id != principal.product_id:
            raise errors.NotOurs("a user of that name is not ours", principal=principal.name)
        return user

    def _there(self, principal: model.Principal) -> adminops.User:
        user = self._ours(principal)
        if user is None:
            raise errors.Conflict("there is no such principal", principal=principal.name)
        return user

    def _numbered(self, principal: model.Principal) -> dict[str, adminops.User | None]:
        uids = [f"{principal.name}.g{number}" for number in range(1, MOST_KEYS + 1)]
        return {uid: self._ops.user(uid) for uid in uids}

    def _generations(self, principal: model.Principal) -> list[adminops.User]:
        """Return the users of the principal's keys."""
        users = self._numbered(principal).values()
        return [user for user in users if user and user.product_id == principal.product_id]


def _free(principal: model.Principal, users: Mapping[str, object]) -> str:
    """Return the first free user after those that are taken, or before them."""
    uids = list(users)
    after = max((at + 1 for at, uid in enumerate(uids) if users[uid]), default=0)
    for uid in (*uids[after:], *uids[:after]):
        if users[uid] is None:
            return uid
    raise errors.Conflict(
        "the principal has as many keys as it may",
        delay_seconds=_LIMIT_DELAY_SECONDS,
        principal=principal.name,
    )


def _text(document: Mapping[str, Any]) -> str:
    written = policy.text(policy.with_batch_delete(document))
    if len(written) > POLICY_LIMIT:
        raise errors.PolicyTooLarge(
            "the grants do not fit into a policy", size=len(written), limit=POLICY_LIMIT
        )
    return written


def _time(text: str) -> datetime | None:
    """Read the time of a mark; None where somebody wrote something else."""
    try:
        made = datetime.fromisoformat(text)
    except ValueError:
        return None
    return made.astimezone(UTC) if made.tzinfo else None


def _call(operation: Callable[[], _T]) -> _T | None:
    """Call IAM; None where it is not there."""
    from botocore import exceptions, parsers

    try:
        return operation()
    except exceptions.ClientError as exc:
        # RGW's errors have the shape of S3's, in which botocore finds no IAM code.
        code = str(exc.response.get("Error", exc.response).get("Code", ""))
        status = exc.response["ResponseMetadata"]["HTTPStatusCode"]
        if code == "NoSuchEntity":
            return None
        raise adminops.meaning(code=code, status=status, call=exc.operation_name) from exc
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as exc:
        raise errors.IssuerRejected("there are no credentials for Ceph's IAM API") from exc
    except parsers.ResponseParserError as exc:
        raise errors.IssuerGarbled("what answers does not speak Ceph's IAM API") from exc
    except exceptions.BotoCoreError as exc:
        raise errors.IssuerUnavailable(
            "Ceph's IAM API did not answer", reason=type(exc).__name__
        ) from exc
