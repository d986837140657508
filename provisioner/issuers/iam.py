"""Issue keys over the AWS IAM API: AWS itself, Ceph from version 19 on, moto.

Principals are users below a path of our own, tagged with the product they were made for. Path and
tag are the mark: a user of the same name without it is somebody else's and stays untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

from provisioner import errors, model, policy, ports

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_iam.type_defs import UserTypeDef

TAG = "provisioner:product"
POLICY = "dp"
INLINE_LIMIT = 2048
"""Characters of an inline policy at AWS, white space not counted."""
_GONE = frozenset({"NoSuchEntity"})
_WITHOUT_TAGS = frozenset(
    {"NotImplemented", "InvalidAction", "InvalidArgument", "MethodNotAllowed"}
)
_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "SlowDown"})
_MEANWHILE = frozenset(
    {"NoSuchEntity", "ConcurrentModification", "DeleteConflict", "EntityTemporarilyUnmodifiable"}
)
_LIMIT_DELAY_SECONDS = 2.0
_T = TypeVar("_T")


class IamIssuer:
    """Implement `ports.Issuer`; new keys at AWS bounce for `settle_seconds`, elsewhere they work.

    `client` may be one that is made on its first use.
    """

    name = "iam"
    chooses_key_ids = False

    def __init__(
        self, client: IAMClient, *, settle_seconds: float = 0.0, path: str = "/provisioner/"
    ) -> None:
        self.settle_seconds = settle_seconds
        self._client = client
        self._path = path

    def ask(self) -> None:
        """Ask whether the IAM API is there for us; raise `IssuerRejected` where it is not."""
        _call(lambda: self._client.list_users(PathPrefix=self._path, MaxItems=1))

    def ensure_principal(self, principal: model.Principal) -> None:
        """Make the user with our mark; `NotOurs` where one without it has the name."""
        name = principal.name
        if self._create_user(principal):
            return
        user = self._our_user(name)
        if user is None:
            raise errors.Conflict("the principal was deleted meanwhile", principal=name)
        if self._product_id(user) not in (None, principal.product_id):
            raise errors.NotOurs("the principal belongs to another product", principal=name)

    def _create_user(self, principal: model.Principal) -> bool:
        """Create the user, without a tag where the engine knows none; False if it is there."""
        name = principal.name
        tags: list[Any] = [{"Key": TAG, "Value": principal.product_id}]
        there = {"EntityAlreadyExists"}
        try:
            made = _call(
                lambda: self._client.create_user(UserName=name, Path=self._path, Tags=tags),
                tolerate=there,
            )
        except errors.IssuerRejected as exc:
            if exc.attributes.get("code") not in _WITHOUT_TAGS:
                raise
            made = _call(
                lambda: self._client.create_user(UserName=name, Path=self._path),
                tolerate=there,
            )
        return made is not None

    def _our_user(self, principal: str) -> UserTypeDef | None:
        """Return the user, None if there is none; `NotOurs` if it is outside our path."""
        answer = _call(lambda: self._client.get_user(UserName=principal), tolerate=_GONE)
        if answer is None:
            return None
        if answer["User"].get("Path") != self._path:
            raise errors.NotOurs("a user of that name is not ours", principal=principal)
        return answer["User"]

    def _product_id(self, user: UserTypeDef) -> str | None:
        """Return the product a user is tagged with; None where the engine keeps no tags."""
        tags = user.get("Tags")
        if not tags:
            answer = _call(
                lambda: self._client.list_user_tags(UserName=user["UserName"]),
                tolerate=_WITHOUT_TAGS,
            )
            tags = answer["Tags"] if answer else []
        return next((tag["Value"] for tag in tags if tag["Key"] == TAG), None)

    def put_policy(self, principal: model.Principal, document: Mapping[str, Any]) -> None:
        """Replace the one inline policy; `PolicyTooLarge` beyond AWS's limit for it."""
        written = policy.text(document)
        size = len("".join(written.split()))
        if size > INLINE_LIMIT:
            raise errors.PolicyTooLarge(
                "the grants do not fit into an inline policy", size=size, limit=INLINE_LIMIT
            )
        done = _call(
            lambda: self._client.put_user_policy(
                UserName=principal.name, PolicyName=POLICY, PolicyDocument=written
            ),
            tolerate={"LimitExceeded"},
        )
        if done is None:
            raise errors.PolicyTooLarge("the engine has no room for the policy", size=size)

    def holds(self, principal: model.Principal, document: Mapping[str, Any]) -> bool:
        """Tell whether the user has exactly this policy."""
        answer = _call(
            lambda: self._client.get_user_policy(UserName=principal.name, PolicyName=POLICY),
            tolerate=_GONE,
        )
        return answer is not None and answer["PolicyDocument"] == document

    def create_key(
        self,
        principal: model.Principal,
        wanted: model.AccessKey | None,
        document: Mapping[str, Any],
    ) -> model.AccessKey:
        """Make a key with the engine's own id; `Conflict` where the user has two already."""
        made = _call(
            lambda: self._client.create_access_key(UserName=principal.name),
            tolerate={"LimitExceeded"},
        )
        if made is None:
            raise errors.Conflict(
                "the principal has as many keys as it may",
                delay_seconds=_LIMIT_DELAY_SECONDS,
                principal=principal.name,
            )
        return model.AccessKey(
            made["AccessKey"]["AccessKeyId"], made["AccessKey"]["SecretAccessKey"]
        )

    def list_keys(self, principal: model.Principal) -> tuple[ports.IssuedKey, ...]:
        """List the user's keys, the oldest first; empty where there is no such user."""
        pages = self._pages("list_access_keys", "AccessKeyMetadata", UserName=principal.name)
        keys = [
            ports.IssuedKey(
                id=each["AccessKeyId"],
                created_at=made.astimezone(UTC) if (made := each.get("CreateDate")) else None,
                active=each.get("Status") != "Inactive",
            )
            for each in pages
        ]
        return tuple(sorted(keys, key=lambda key: (str(key.created_at), key.id)))

    def delete_key(self, principal: model.Principal, key_id: str) -> None:
        """Deactivate and delete a key of a user of ours; one that is gone is success."""
        if self._our_user(principal.name) is not None:
            self._delete_key(principal.name, key_id)

    def _delete_key(self, principal: str, key_id: str) -> None:
        _call(
            lambda: self._client.update_access_key(
                UserName=principal, AccessKeyId=key_id, Status="Inactive"
            ),
            tolerate=_GONE,
        )
        _call(
            lambda: self._client.delete_access_key(UserName=principal, AccessKeyId=key_id),
            tolerate=_GONE,
        )

    def delete_principal(self, principal: model.Principal) -> None:
        """Delete keys, policies and user, in the order that AWS asks for; gone is success."""
        user = principal.name
        if self._our_user(user) is None:
            return
        for key in self.list_keys(principal):
            self._delete_key(user, key.id)
        for name in self._pages("list_user_policies", "PolicyNames", UserName=user):
            self._drop("delete_user_policy", UserName=user, PolicyName=name)
        attached = self._pages("list_attached_user_policies", "AttachedPolicies", UserName=user)
        for each in attached:
            self._drop("detach_user_policy", UserName=user, PolicyArn=each["PolicyArn"])
        self._drop("delete_user", UserName=user)

    def principals(self) -> tuple[model.Principal, ...]:
        """List the users below our path that bear our tag."""
        users = self._pages("list_users", "Users", PathPrefix=self._path)
        marked = ((user["UserName"], self._product_id(user)) for user in users)
        return tuple(model.Principal(name=name, product_id=mark) for name, mark in marked if mark)

    def _drop(self, operation: str, **parameters: str) -> None:
        _call(lambda: getattr(self._client, operation)(**parameters), tolerate=_GONE)

    def _pages(self, operation: str, member: str, **of: str) -> list[Any]:
        """Return all that a listing holds, read to its end before it is acted on."""

        def read() -> list[Any]:
            found: list[Any] = []
            marker: dict[str, str] = {}
            while True:
                page = getattr(self._client, operation)(**of, **marker)
                found += page[member]
                if not page.get("IsTruncated"):
                    return found
                marker = {"Marker": page["Marker"]}

        return _call(read, tolerate=_GONE) or []


def _call(operation: Callable[[], _T], *, tolerate: Collection[str] = ()) -> _T | None:
    """Call the engine; None where it answers with a code that is tolerated."""
    from botocore import exceptions, parsers

    try:
        return operation()
    except exceptions.ClientError as exc:
        if exc.response.get("Error", {}).get("Code") in tolerate:
            return None
        raise _meaning(exc) from exc
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as exc:
        raise errors.IssuerRejected("there are no credentials for the IAM API") from exc
    except (parsers.ResponseParserError, KeyError) as exc:
        # KeyError is how botocore meets well-formed XML of somebody else's.
        raise errors.IssuerRejected("what answers does not speak the IAM API") from exc
    except exceptions.BotoCoreError as exc:
        raise errors.IssuerUnavailable(
            "the IAM API did not answer", reason=type(exc).__name__
        ) from exc


def _meaning(exc: ClientError) -> errors.ReconcileError:
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = exc.response.get("Error", {}).get("Code", "")
    said: Any = {"code": code, "status": status, "call": exc.operation_name}
    if code in _THROTTLED or status == 429:
        return errors.RateLimited("the IAM API asked us to slow down", **said)
    if code in _MEANWHILE:
        return errors.Conflict("somebody else changed the principal meanwhile", **said)
    if (status >= 500 and status != 501) or not status:
        return errors.IssuerUnavailable("the IAM API failed", **said)
    return errors.IssuerRejected("the IAM API refused", **said)
