"""Call the admin API of MinIO and rustfs: signed as S3 is, JSON in and out.

What the engine says is never shown, for an answer may hold a secret: only its code, the status and
the name of the call are. Everything is translated into `errors` here, once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from provisioner import errors, model
from provisioner.issuers import signed
from provisioner.issuers.madmin import codec

_STRANGE = "what answers does not speak the admin API"
_LIMIT = 8 << 20
"""Bytes that any answer but a listing of all may have."""
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,80})</Code>")
_THROTTLED = frozenset({"SlowDown", "SlowDownRead", "SlowDownWrite", "TooManyRequests"})
_GONE = frozenset({"XMinioAdminNoSuchUser", "XMinioAdminNoSuchPolicy", "NoSuchResource"})


class Cipher(Protocol):
    """Encrypt requests and decrypt answers, or leave them."""

    def encrypt(self, plain: bytes) -> bytes:
        """Return the body of a request."""

    def decrypt(self, body: bytes) -> bytes:
        """Return what an answer holds."""


class AdminClient:
    """Make calls below `prefix` as the admin; threads may share it."""

    def __init__(
        self, *, endpoint: str, region: str, admin: model.AccessKey, prefix: str, cipher: Cipher
    ) -> None:
        self._prefix = prefix
        self._cipher = cipher
        self._caller = signed.Caller(
            signed.Account(
                endpoint=endpoint, region=region, access_key=admin.id, secret_key=admin.secret
            )
        )

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
            body = self._cipher.decrypt(answer) if encrypted else answer
            return json.loads(body, object_hook=reduce)
        except (codec.Undecodable, ValueError, RecursionError) as exc:
            raise errors.IssuerGarbled(_STRANGE, status=200, call=route) from exc

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
    ) -> bytes | None:
        path = f"{self._prefix}/{route}"
        answer = self._caller.send(method, path, query, body, limit=limit)
        if 200 <= answer.status < 300:
            return answer.body
        if _code(answer.body) in tolerate:
            return None
        raise _meaning(route, answer)


def _code(body: bytes) -> str:
    """Return the engine's code for a refusal, in JSON or XML; empty where there is none."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        found = _CODE.search(body[:4096])
        return found[1].decode() if found else ""
    code = said.get("Code") if isinstance(said, dict) else None
    return code[:80] if isinstance(code, str) else ""


def _meaning(route: str, answer: signed.Answer) -> errors.ReconcileError:
    code = _code(answer.body)
    said: Any = {"code": code, "status": answer.status, "call": route}
    if code in _THROTTLED or answer.status == 429:
        return errors.RateLimited("the admin API asked us to slow down", **said)
    if code in _GONE or answer.status == 409:
        return errors.Conflict("somebody else changed the principal meanwhile", **said)
    if answer.status >= 500 and answer.status != 501:
        return errors.IssuerUnavailable("the admin API failed", **said)
    if not code:
        return errors.IssuerRejected(_STRANGE, status=answer.status, call=route)
    return errors.IssuerRejected("the admin API refused", **said)
