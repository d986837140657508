"""Make boto's clients, and say what its errors mean.

Clients are made on first use, since loading botocore takes longer than all the rest of the start,
and share one session, whose loader keeps the service models that take most of that time: a
further client costs a few milliseconds. What botocore raises is translated here, once.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from provisioner import errors, model

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import ClientError
    from botocore.model import OperationModel
    from botocore.session import Session
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

_THROTTLED = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"})
_creating = threading.Lock()
_T = TypeVar("_T")


@overload
def connect(
    *,
    endpoint: str | None,
    region: str,
    access_key: str | None,
    secret_key: str | None,
    service: Literal["s3"] = "s3",
) -> S3Client: ...
@overload
def connect(
    *,
    endpoint: str | None,
    region: str,
    access_key: str | None,
    secret_key: str | None,
    service: Literal["iam"],
) -> IAMClient: ...
def connect(
    *,
    endpoint: str | None,
    region: str,
    access_key: str | None,
    secret_key: str | None,
    service: str = "s3",
) -> Any:
    """Return a client that is made on its first use; threads may share it.

    Without an endpoint it is AWS's; without a key pair the machine's own credentials are used.
    """
    return made_on_first_use(
        lambda: new_client(
            service,
            endpoint=endpoint,
            region=region,
            access_key=access_key,
            secret_key=secret_key,
        )
    )


def made_on_first_use(make: Callable[[], Any]) -> Any:
    """Return what stands in for a client and makes it when it is first used."""
    return _LazyClient(make)


class _LazyClient:
    """Stand in for a client until its first use."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._client: Any = None

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make()
        return getattr(self._client, name)


def new_client(
    service: str,
    *,
    endpoint: str | None,
    region: str,
    access_key: str | None,
    secret_key: str | None,
) -> Any:
    """Return a client made now."""
    with _creating:  # a botocore session is not safe for threads while it makes a client
        client = _session().create_client(
            cast(Any, service),
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=_config(endpoint),
        )
    client.meta.events.register("after-call.s3", _refuse_hollow)
    return client


def _refuse_hollow(
    http_response: AWSResponse, parsed: dict[str, Any], model: OperationModel, **_: object
) -> None:
    """Raise where a success brings nothing, though there should be a document or an object.

    A connection that ends within the head of an answer is no error to Python's HTTP: the rest of
    the head counts as absent, the body as empty, and to botocore a listing as one of nothing.
    """
    from botocore.exceptions import IncompleteReadError

    if http_response.status_code >= 300 or http_response.raw is None:  # what a test stubs
        return
    if model.has_streaming_output:
        headers = http_response.headers
        hollow = "Content-Length" not in headers and "Transfer-Encoding" not in headers
    else:
        hollow = _brings_a_document(model) and not http_response.content
    if hollow:
        raise IncompleteReadError(actual_bytes=0, expected_bytes=1)


def _brings_a_document(model: OperationModel) -> bool:
    members = model.output_shape.members.values() if model.output_shape else ()
    return any("location" not in member.serialization for member in members)


def borrowing_client(
    *, endpoint: str | None, region: str, key: Callable[[], model.AccessKey]
) -> Any:
    """Return an S3 client that signs each call with the key of that moment.

    To make a client takes as long as two calls, and a new one has no connections.
    """
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.session import Session

    class Borrowed(Credentials):
        def get_frozen_credentials(self) -> ReadOnlyCredentials:
            borrowed = key()
            return ReadOnlyCredentials(borrowed.id, borrowed.secret, None)

    class Lender:
        def load_credentials(self) -> Borrowed:
            return Borrowed("", "")

    with _creating:
        session = Session()
        # The models of services are large: they are read once.
        session.register_component("data_loader", _session().get_component("data_loader"))
        session.register_component("credential_provider", Lender())
        return session.create_client(
            "s3", endpoint_url=endpoint, region_name=region, config=_config(endpoint)
        )


def _config(endpoint: str | None) -> Any:
    from botocore.config import Config

    return Config(
        connect_timeout=3,
        read_timeout=10,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=32,
        # botocore's own says much of this machine, and composing it takes a tenth of every call.
        user_agent="dpp-provisioner",
        s3={"addressing_style": "path"} if endpoint else None,
        # Newer checksums travel in trailers, which Ceph 16 and others answer with 411.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


@functools.cache
def _session() -> Session:
    import botocore.session

    return botocore.session.Session()


def call(operation: Callable[[], _T], *, tolerate: Collection[str] = ()) -> _T | None:
    """Call the engine; None where it answers with a code that is tolerated.

    Raise `StorageUnavailable`, `RateLimited` or `Conflict` where waiting may help, otherwise
    `PermanentError`, whose attributes hold the engine's `code` and `status`.
    """
    from botocore import exceptions, parsers

    try:
        return operation()
    except exceptions.ClientError as exc:
        if exc.response.get("Error", {}).get("Code") in tolerate:
            return None
        raise _meaning(exc) from exc
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as exc:
        raise errors.PermanentError("there are no credentials for the S3 engine") from exc
    except exceptions.ParamValidationError as exc:
        raise errors.PermanentError("a name is none that S3 allows") from exc
    except (exceptions.BotoCoreError, parsers.ResponseParserError) as exc:
        raise errors.StorageUnavailable(
            "the S3 engine did not answer", reason=type(exc).__name__
        ) from exc


def _meaning(exc: ClientError) -> errors.ReconcileError:
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = exc.response.get("Error", {}).get("Code", "")
    said: Any = {"code": code, "status": status, "call": exc.operation_name}
    if code in _THROTTLED or status == 429:
        return errors.RateLimited("the S3 engine asked us to slow down", **said)
    if code == "NotImplemented":
        return errors.PermanentError("the S3 engine does not know this call", **said)
    if status >= 500 or not status:
        return errors.StorageUnavailable("the S3 engine failed", **said)
    if status == 409:
        return errors.Conflict("somebody else changed it in the S3 engine meanwhile", **said)
    return errors.PermanentError("the S3 engine refused", **said)
