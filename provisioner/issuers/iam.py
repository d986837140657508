"""Issue keys over the AWS IAM API: AWS itself, Ceph from version 19 on, moto.

Principals are users below a path of our own, tagged with the product they were made for. Path and
tag are the mark: a user of the same name without it is somebody else's and stays untouched. What
they may do is kept by `holdings`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

from provisioner import errors, model, ports
from provisioner.issuers import allowances, holdings, iam_api

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_iam.type_defs import UserTypeDef

INLINE_LIMIT = 2048
"""Characters of all inline policies of a user at AWS, white space not counted."""
_FRESH_SECONDS = 10.0


class IamIssuer:
    """Implement `ports.Issuer`; new keys at AWS bounce for `settle_seconds`, elsewhere they work.

    `client` may be one that is made on its first use. `monotonic` measures for how long a user
    that we made counts as new.
    """

    name = "iam"
    chooses_key_ids = False

    def __init__(
        self,
        client: IAMClient,
        *,
        settle_seconds: float = 0.0,
        path: str = iam_api.PATH,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settle_seconds = settle_seconds
        self._client = client
        self._path = path
        self._holdings = holdings.Holdings(client, "user", inline_limit=INLINE_LIMIT, path=path)
        self._monotonic = monotonic
        self._made_at: dict[str, float] = {}

    def ask(self) -> None:
        """Ask whether the IAM API is there for us; raise `IssuerRejected` where it is not."""
        iam_api.call(lambda: self._client.list_users(PathPrefix=self._path, MaxItems=1))

    def ensure_principal(self, principal: model.Principal) -> None:
        """Make the user with our mark; `NotOurs` where one without it has the name."""
        name = principal.name
        made = iam_api.create_marked(
            self._client.create_user,
            principal.product_id,
            tolerate=iam_api.THERE,
            UserName=name,
            Path=self._path,
        )
        if made is not None:
            self._made_at[name] = self._monotonic()
            return
        user = self._our_user(name)
        if user is None:
            raise errors.Conflict(
                "the principal was deleted meanwhile",
                delay_seconds=iam_api.SOON_SECONDS,
                principal=name,
            )
        if self._product_id(user) not in (None, principal.product_id):
            raise errors.NotOurs("the principal belongs to another product", principal=name)

    def _our_user(self, principal: str) -> UserTypeDef | None:
        """Return the user, None if there is none; `NotOurs` if it is outside our path."""
        answer = iam_api.call(
            lambda: self._client.get_user(UserName=principal), tolerate=iam_api.GONE
        )
        if answer is None:
            return None
        if answer["User"].get("Path") != self._path:
            raise errors.NotOurs("a user of that name is not ours", principal=principal)
        return answer["User"]

    def _product_id(self, user: UserTypeDef) -> str | None:
        """Return the product a user is tagged with; None where the engine keeps no tags."""
        return iam_api.product_id(
            user, lambda: self._client.list_user_tags(UserName=user["UserName"])
        )

    def put_policy(self, principal: model.Principal, document: Mapping[str, Any]) -> None:
        """Make this all that the user may do; `PolicyTooLarge` beyond all that AWS has room for.

        A user that was made a moment ago holds nothing, so one call is enough. Every other one is
        looked at: what an earlier run or somebody else gave it goes.
        """
        fresh = self._is_fresh(principal.name)
        self._holdings.put(principal, document, fresh=fresh)

    def _is_fresh(self, name: str) -> bool:
        """Tell, once, whether this very process made the user within seconds.

        Nobody else can have given it anything: our own replicas wait longer for a dead lease.
        """
        made_at = self._made_at.pop(name, None)
        return made_at is not None and self._monotonic() - made_at < _FRESH_SECONDS

    def holds(self, principal: model.Principal, document: Mapping[str, Any]) -> bool:
        """Tell whether the user is ours and may do exactly this, wherever it is written."""
        try:
            user = self._our_user(principal.name)
        except errors.NotOurs:
            return False
        if user is None or self._product_id(user) not in (None, principal.product_id):
            return False
        return self._holdings.allowed(principal.name) == allowances.read(document)

    def create_key(
        self,
        principal: model.Principal,
        wanted: model.AccessKey | None,
        document: Mapping[str, Any],
    ) -> model.AccessKey:
        """Make a key with the engine's own id; `Conflict` where the user has two already."""
        made = iam_api.call(
            lambda: self._client.create_access_key(UserName=principal.name),
            tolerate=iam_api.FULL,
        )
        if made is None:
            raise errors.Conflict(
                "the principal has as many keys as it may",
                delay_seconds=iam_api.SOON_SECONDS,
                principal=principal.name,
            )
        return model.AccessKey(
            made["AccessKey"]["AccessKeyId"], made["AccessKey"]["SecretAccessKey"]
        )

    def list_keys(self, principal: model.Principal) -> tuple[ports.IssuedKey, ...]:
        """List the user's keys, the oldest first; empty where there is no such user."""
        listed = iam_api.pages(
            self._client, "list_access_keys", "AccessKeyMetadata", UserName=principal.name
        )
        keys = [
            ports.IssuedKey(
                id=each["AccessKeyId"],
                created_at=made.astimezone(UTC) if (made := each.get("CreateDate")) else None,
                active=each.get("Status") != "Inactive",
            )
            for each in listed or []
        ]
        return tuple(sorted(keys, key=lambda key: (str(key.created_at), key.id)))

    def delete_key(self, principal: model.Principal, key_id: str) -> None:
        """Deactivate and delete a key of a user of ours; one that is gone is success."""
        if self._our_user(principal.name) is not None:
            self._delete_key(principal.name, key_id)

    def _delete_key(self, user: str, key_id: str) -> None:
        iam_api.call(
            lambda: self._client.update_access_key(
                UserName=user, AccessKeyId=key_id, Status="Inactive"
            ),
            tolerate=iam_api.GONE,
        )
        iam_api.call(
            lambda: self._client.delete_access_key(UserName=user, AccessKeyId=key_id),
            tolerate=iam_api.GONE,
        )

    def delete_principal(self, principal: model.Principal) -> None:
        """Delete keys, policies and user, in the order that AWS asks for; gone is success."""
        name = principal.name
        self._made_at.pop(name, None)
        if self._our_user(name) is None:
            self._holdings.delete_parts(name)  # whoever deletes a user leaves its policies
            return
        for key in self.list_keys(principal):
            self._delete_key(name, key.id)
        self._holdings.clear(name)
        iam_api.call(lambda: self._client.delete_user(UserName=name), tolerate=iam_api.GONE)

    def principals(self) -> tuple[model.Principal, ...]:
        """List the users below our path that bear our tag."""
        users = iam_api.pages(self._client, "list_users", "Users", PathPrefix=self._path) or []
        marked = ((user["UserName"], self._product_id(user)) for user in users)
        return tuple(model.Principal(name=name, product_id=mark) for name, mark in marked if mark)
