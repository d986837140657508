"""Send signed calls that no boto client knows: the admin APIs of self-hosted engines.

They are signed as S3's own calls are. What is secret travels in bodies alone, since addresses end
in access logs, the engine's own among them; and nothing of a call but its name enters an error.
"""

from __future__ import annotations

import functools
import socket
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from provisioner import errors

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.credentials import ReadOnlyCredentials
    from botocore.httpsession import URLLib3Session
    from botocore.session import Session

_CONNECT_SECONDS, _READ_SECONDS = 3.0, 10.0
_CONNECTIONS = 32
_LONGEST_ANSWER = 8 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Account:
    """An engine's admin, and where it is; without a pair the machine's own credentials count."""

    endpoint: str
    region: str
    access_key: str | None
    secret_key: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an engine answered; it may hold secrets."""

    status: int
    body: bytes = field(repr=False)


def in_a_hurry(request: AWSPreparedRequest, **_: object) -> None:
    """Have the connection closed after a call; a handler of botocore's `before-send` too.

    Ceph's RGW sends an answer in two pieces and, unless it was told `tcp_nodelay=1`, holds the
    second back until the first is acknowledged, for which a kept connection takes 40 ms.
    """
    request.headers["Connection"] = "close"


class Caller:
    """Sign calls as an account and send them; threads may share it.

    Each has a connection of its own unless `keeps_connections`: see `in_a_hurry`.
    """

    def __init__(self, account: Account, *, keeps_connections: bool = True) -> None:
        self._account = account
        self._keeps_connections = keeps_connections
        self._endpoint = account.endpoint.rstrip("/")

    @property
    def access_key(self) -> str:
        """Return the id of the key that signs."""
        return str(self._credentials.access_key)

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes = b"",
        *,
        limit: int = _LONGEST_ANSWER,
    ) -> Answer:
        """Send one call and return the answer, whatever its status.

        Raise `IssuerUnavailable` where there is none, or only a part of one, `IssuerRejected`
        without credentials, or where the answer is longer than the limit in bytes.
        """
        from botocore import exceptions
        from urllib3.exceptions import HTTPError

        request = self._signed(method, path, query, body)
        try:
            answer = self._http.send(request)
            read = answer.raw.read(limit + 1, decode_content=True)
            answer.raw.release_conn()
        except (exceptions.BotoCoreError, HTTPError, OSError) as exc:
            raise errors.IssuerUnavailable(
                "the engine for keys did not answer", reason=type(exc).__name__
            ) from exc
        if len(read) > limit:
            answer.raw.close()
            raise errors.IssuerRejected("the engine for keys answered more than it ever should")
        if answer.headers.get("Content-Length", str(len(read))) != str(len(read)):
            raise errors.IssuerUnavailable("the engine for keys did not answer in full")
        return Answer(status=answer.status_code, body=read)

    def _signed(
        self, method: str, path: str, query: Mapping[str, str], body: bytes
    ) -> AWSPreparedRequest:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        # A space has to be %20: Ceph checks the signature against that, whatever was sent.
        asked = urllib.parse.urlencode(query, quote_via=urllib.parse.quote, safe="")
        request = AWSRequest(
            method=method,
            url=f"{self._endpoint}{path}" + (f"?{asked}" if asked else ""),
            data=body,
            headers={"Content-Type": "application/json"} if body else {},
            stream_output=True,
        )
        S3SigV4Auth(self._credentials, "s3", self._account.region).add_auth(request)
        prepared = request.prepare()
        if not self._keeps_connections:
            in_a_hurry(prepared)
        return prepared

    @property
    def _credentials(self) -> ReadOnlyCredentials:
        from botocore.credentials import ReadOnlyCredentials

        account = self._account
        if account.access_key and account.secret_key:
            return ReadOnlyCredentials(account.access_key, account.secret_key, None)
        found = self._session.get_credentials()
        if found is None:
            raise errors.IssuerRejected("there are no credentials for the engine for keys")
        return found.get_frozen_credentials()

    @functools.cached_property
    def _session(self) -> Session:
        import botocore.session

        return botocore.session.Session()

    @functools.cached_property
    def _http(self) -> URLLib3Session:
        """Trust and go by proxies as boto's clients do."""
        from botocore.httpsession import URLLib3Session
        from botocore.utils import get_environ_proxies

        timeout: Any = (_CONNECT_SECONDS, _READ_SECONDS)
        return URLLib3Session(
            verify=self._session.get_config_variable("ca_bundle") or True,
            proxies=get_environ_proxies(self._endpoint),
            timeout=timeout,
            max_pool_connections=_CONNECTIONS,
            # Headers and body are two packets, and the second one would wait 40 ms for the first.
            socket_options=cast(Any, [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]),
        )
