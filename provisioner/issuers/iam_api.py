"""Call the IAM API, and say once what its answers mean for us.

AWS's IAM is eventually consistent: what was just made may not be found for seconds, and what was
just deleted may still be there. Such answers are a `Conflict` that asks to come back soon.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar

from provisioner import errors

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_iam import IAMClient

TAG = "provisioner:product"
PATH = "/provisioner/"
GONE = frozenset({"NoSuchEntity"})
THERE = frozenset({"EntityAlreadyExists"})
FULL = frozenset({"LimitExceeded"})
UNKNOWN_CALL = frozenset({"NotImplemented", "InvalidAction", "MethodNotAllowed"})
"""How engines answer a call that they do not have."""
SOON_SECONDS = 2.0
_WITHOUT_TAGS = UNKNOWN_CALL | {"InvalidArgument"}
_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "SlowDown"})
_MEANWHILE = frozenset(
    {
        "NoSuchEntity",
        "EntityAlreadyExists",
        "ConcurrentModification",
        "DeleteConflict",
        "EntityTemporarilyUnmodifiable",
    }
)
_T = TypeVar("_T")


def call(operation: Callable[[], _T], *, tolerate: Collection[str] = ()) -> _T | None:
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
    except exceptions.ParamValidationError as exc:
        raise errors.IssuerRejected("a name or policy is none that IAM allows") from exc
    except (parsers.ResponseParserError, KeyError) as exc:
        # KeyError is how botocore meets well-formed XML of somebody else's.
        raise errors.IssuerGarbled("what answers does not speak the IAM API") from exc
    except exceptions.BotoCoreError as exc:
        raise errors.IssuerUnavailable(
            "the IAM API did not answer", reason=type(exc).__name__
        ) from exc


def pages(
    client: IAMClient,
    operation: str,
    member: str,
    *,
    tolerate: Collection[str] = GONE,
    **of: str,
) -> list[Any] | None:
    """Return all that a listing holds, read to its end; None for a code that is tolerated."""

    def read() -> list[Any]:
        found: list[Any] = []
        marker: dict[str, str] = {}
        while True:
            page = getattr(client, operation)(**of, **marker)
            found += page[member]
            if not page.get("IsTruncated"):
                return found
            marker = {"Marker": page["Marker"]}

    return call(read, tolerate=tolerate)


def create_marked(
    create: Callable[..., Any],
    product_id: str,
    *,
    tolerate: Collection[str] = (),
    **parameters: str,
) -> Any:
    """Create something with our tag, without where the engine knows none; None as `call` does."""
    tags = [{"Key": TAG, "Value": product_id}]
    try:
        return call(lambda: create(**parameters, Tags=tags), tolerate=tolerate)
    except errors.IssuerRejected as exc:
        if exc.attributes.get("code") not in _WITHOUT_TAGS:
            raise
        return call(lambda: create(**parameters), tolerate=tolerate)


def product_id(described: Any, list_tags: Callable[[], Any]) -> str | None:
    """Return the product that something is tagged with; None where the engine keeps no tags.

    Not every engine shows tags where it describes things, so they may be listed apart.
    """
    tags = described.get("Tags")
    if not tags:
        answer = call(list_tags, tolerate=_WITHOUT_TAGS)
        tags = answer["Tags"] if answer else []
    return next((tag["Value"] for tag in tags if tag["Key"] == TAG), None)


def _meaning(exc: ClientError) -> errors.ReconcileError:
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = exc.response.get("Error", {}).get("Code", "")
    said: Any = {"code": code, "status": status, "call": exc.operation_name}
    if code in _THROTTLED or status == 429:
        return errors.RateLimited("the IAM API asked us to slow down", **said)
    if code in _MEANWHILE:
        return errors.Conflict(
            "somebody else changed it in IAM meanwhile", delay_seconds=SOON_SECONDS, **said
        )
    if (status >= 500 and status != 501) or not status:
        return errors.IssuerUnavailable("the IAM API failed", **said)
    return errors.IssuerRejected("the IAM API refused", **said)
