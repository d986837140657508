"""Call the admin API of MinIO and rustfs: signed as S3 is, JSON in and out.

What the engine says is never shown, for an answer may hold a secret: only its code, the status and
the name of the call are. Everything is translated into `errors` here, once.
"""

from __future__ import annotations

import functools
import json
import re
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote, urlencode

from provisioner import errors, model
from provisioner.issuers.madmin import codec

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.httpsession import URLLib3Session

_LIMIT = 8 << 20
"""Bytes that any answer but a listing of all may have."""
_TIMEOUTS = (3, 20)
"""Seconds to connect, and to wait for bytes."""
_CONNECTIONS = 32
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,80})</Code>")
_THROTTLED = frozenset({"SlowDown", "SlowDownRead", "SlowDownWrite", "TooManyRequests"})
_GONE = frozenset({"XMinioAdminNoSuchUser", "XMinioAdminNoSuchPolicy", "NoSuchResource"})


class Cipher(Protocol):
    """Encrypt requests and decrypt answers, or leave them."""

    def encrypt(self, plain: bytes) -> bytes:
        """Return the body of a request."""

    def decrypt(self, body: bytes) -> bytes:
        """Return what an answer holds."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    body: bytes = field(repr=False)

    @functools.cached_property
    def code(self) -> str:
        """The engine's code for a refusal, in JSON or XML; empty where there is none."""
        try:
            said = json.loads(self.body)
        except ValueError:
            found = _CODE.search(self.body[:4096])
            return found[1].decode() if found else ""
        code = said.get("Code") if isinstance(said, dict) else None
        return code[:80] if isinstance(code, str) else ""


class AdminClient:
    """Make calls below `prefix` as the admin; threads may share it."""

    def __init__(
        self, *, endpoint: str, region: str, admin: model.AccessKey, prefix: str, cipher: Cipher
    ) -> None:
        self._root = f"{endpoint.rstrip('/')}{prefix}"
        self._region = region
        self._admin = admin
        self._cipher = cipher
        self._lock = threading.Lock()
        self._session: URLLib3Session | None = None

    def read(
        self,
        route: str,
        query: Mapping[str, str] | None = None,
        *,
        encrypted: bool = False,
        limit: int = _LIMIT,
        tolerate: Collection[str] = (),
        reduce: Callable[[dict[str, Any]], Any] | None = None,
    ) -> Any:
        """Return what a GET answers; None where it answers with a code that is tolerated.

        `reduce` is applied to every JSON object as it is read, so that a long listing need not be
        held in whole.
        """
        answer = self._call("GET", route, query or {}, b"", limit, tolerate)
        if answer is None:
            return None
        try:
            body = self._cipher.decrypt(answer.body) if encrypted else answer.body
            return json.loads(body, object_hook=reduce)
        except (codec.Undecodable, ValueError, RecursionError) as exc:
            raise _stranger(route, answer) from exc

    def write(
        self,
        method: str,
        route: str,
        query: Mapping[str, str],
        body: bytes = b"",
        *,
        encrypted: bool = False,
        tolerate: Collection[str] = (),
    ) -> bool:
        """Make a call whose answer does not matter; False where a tolerated code answers."""
        sent = self._cipher.encrypt(body) if encrypted else body
        return self._call(method, route, query, sent, _LIMIT, tolerate) is not None

    def _call(
        self,
        method: str,
        route: str,
        query: Mapping[str, str],
        body: bytes,
        limit: int,
        tolerate: Collection[str],
    ) -> _Answer | None:
        answer = self._send(self._signed(method, route, query, body), route, limit)
        if 200 <= answer.status < 300:
            return answer
        if answer.code and answer.code in tolerate:
            return None
        raise _meaning(route, answer)

    def _signed(
        self, method: str, route: str, query: Mapping[str, str], body: bytes
    ) -> AWSPreparedRequest:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        parameters = f"?{urlencode(query, quote_via=quote)}" if query else ""
        request = AWSRequest(
            method=method,
            url=f"{self._root}/{route}{parameters}",
            data=body,
            stream_output=True,
        )
        credentials = Credentials(self._admin.id, self._admin.secret)
        S3SigV4Auth(credentials, "s3", self._region).add_auth(request)
        return request.prepare()

    def _send(self, request: AWSPreparedRequest, route: str, limit: int) -> _Answer:
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        try:
            response = self._connected().send(request)
            body = bytearray()
            for piece in response.raw.stream(1 << 16, decode_content=False):
                body += piece
                if len(body) > limit:
                    response.raw.close()
                    raise errors.IssuerRejected("the admin API answers without end", call=route)
        except (BotoCoreError, HTTPError, OSError) as exc:
            raise errors.IssuerUnavailable(
                "the admin API did not answer", call=route, reason=type(exc).__name__
            ) from exc
        promised = response.headers.get("Content-Length")
        if promised is not None and promised != str(len(body)):
            raise errors.IssuerUnavailable("the admin API did not answer in full", call=route)
        return _Answer(status=response.status_code, body=bytes(body))

    def _connected(self) -> URLLib3Session:
        with self._lock:
            if self._session is None:
                self._session = _session(self._root)
            return self._session


def _session(url: str) -> URLLib3Session:
    """Connect as boto's clients do: with the proxies and certificates of the machine."""
    import botocore.session
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies

    return URLLib3Session(
        verify=botocore.session.Session().get_config_variable("ca_bundle") or True,
        proxies=get_environ_proxies(url),
        timeout=cast(Any, _TIMEOUTS),
        max_pool_connections=_CONNECTIONS,
        # Headers and body are two packets, and the second one would wait 40 ms for the first.
        socket_options=cast(Any, [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]),
    )


def _meaning(route: str, answer: _Answer) -> errors.ReconcileError:
    said: Any = {"code": answer.code, "status": answer.status, "call": route}
    if answer.code in _THROTTLED or answer.status == 429:
        return errors.RateLimited("the admin API asked us to slow down", **said)
    if answer.code in _GONE or answer.status == 409:
        return errors.Conflict("somebody else changed the principal meanwhile", **said)
    if answer.status >= 500 and answer.status != 501:
        return errors.IssuerUnavailable("the admin API failed", **said)
    if not answer.code:
        return _stranger(route, answer)
    return errors.IssuerRejected("the admin API refused", **said)


def _stranger(route: str, answer: _Answer) -> errors.IssuerRejected:
    return errors.IssuerRejected(
        "what answers does not speak the admin API", status=answer.status, call=route
    )
