"""Prove who calls with a token that an OAuth 2.0 server gives for client credentials.

The token is kept in memory alone and replaced before it expires, by one thread while the others
go on with the old one; and once when the portal no longer takes it. The client's secret goes in
the form, as the portal's own tools send it; a server that does not know the client that way is
asked once more with the Basic auth that the standard makes every server understand, and the way
that worked is kept. Neither secret nor token ever enters a message, a log or a repr, and of an
answer nothing is told but its status and the standard's own word for the error.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import httpx

from provisioner import errors, telemetry
from provisioner.portal import client

_LONGEST_ANSWER = 64 * 1024
_LONGEST_ANSWER_SECONDS = 30.0
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_UNSAID_LIFETIME_SECONDS = 3600
_LONGEST_LIFETIME_SECONDS = 86_400
_MARGIN_SECONDS = 60.0
"""How long before its end a token is replaced; of short-lived ones a quarter of their life."""
_PATIENCE_SECONDS = 60.0
"""A portal that takes no token at all costs one new token in this time, not one a call."""
_PAUSE_SECONDS = 5.0
"""After a renewal that failed while the old token is still good."""
_REFUSALS = frozenset({400, 401, 403})
_WORDS = frozenset(
    {
        "access_denied",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)

_log = telemetry.Log(__name__)


@dataclass(frozen=True, kw_only=True)
class OAuthClient:
    """Who we are at the token endpoint."""

    client_id: str
    client_secret: str = field(repr=False)
    token_url: str
    scope: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Token:
    text: str = field(repr=False)
    renew_at: float
    expires_at: float


class ClientCredentials(client.Access):
    """Send a bearer token with every request; safe to share between threads."""

    def __init__(
        self,
        oauth_client: OAuthClient,
        *,
        transport: httpx.BaseTransport | None,
        timeout_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._who = oauth_client
        self._clock = clock
        # A pool of its own: what the portal is told is no business of the token endpoint.
        self._client = httpx.Client(
            transport=transport,
            timeout=timeout_seconds,
            follow_redirects=False,
            headers={"accept": "application/json"},
        )
        self._renewing = threading.Lock()
        self._token: _Token | None = None
        self._patient_until = clock()
        self._by_basic = False

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header; raise what keeps us from having a token."""
        request.headers["authorization"] = _bearer(self._good())
        yield request

    def renew(self, refused: httpx.Request) -> bool:
        """Get another token than the one that the portal did not take, unless one just came."""
        with self._renewing:
            token, now = self._token, self._clock()
            if token is not None and refused.headers.get("authorization") != _bearer(token):
                return True  # somebody else was quicker
            if now < self._patient_until:
                return False
            self._token = self._fetch()
            self._patient_until = now + _PATIENCE_SECONDS
            return True

    def _good(self) -> _Token:
        """Return a token that has not expired, by our own clock."""
        token, now = self._token, self._clock()
        if token is not None and now < token.expires_at:
            if now >= token.renew_at and self._renewing.acquire(blocking=False):
                try:
                    self._replace(token)
                finally:
                    self._renewing.release()
            return self._token or token
        with self._renewing:
            token = self._token
            if token is None or self._clock() >= token.expires_at:
                token = self._token = self._fetch()
            return token

    def _replace(self, token: _Token) -> None:
        """Fetch a new token while the old one is still good; failing may wait."""
        if self._token is not token:
            return
        try:
            self._token = self._fetch()
        except errors.ReconcileError as error:
            _log.warning("the portal's token was not renewed", reason=str(error))
            again_at = min(self._clock() + _PAUSE_SECONDS, token.expires_at)
            self._token = dataclasses.replace(token, renew_at=again_at)

    def _fetch(self) -> _Token:
        asked_at = self._clock()
        status, answer = self._asked(by_basic=self._by_basic)
        if status in _REFUSALS and _word(answer) == "invalid_client":
            other = self._asked(by_basic=not self._by_basic)
            if other[0] == 200:
                self._by_basic = not self._by_basic
                status, answer = other
        if status != 200:
            raise _failure(status, answer)
        return _read_token(answer, asked_at)

    def _asked(self, *, by_basic: bool) -> tuple[int, object]:
        """Ask the token endpoint; return its status and JSON, None where it is not JSON."""
        form = {"grant_type": "client_credentials"}
        headers = {}
        if by_basic:
            headers["authorization"] = _basic(self._who)
        else:
            form |= {"client_id": self._who.client_id, "client_secret": self._who.client_secret}
        if self._who.scope:
            form["scope"] = self._who.scope
        try:
            with self._client.stream(
                "POST", self._who.token_url, data=form, headers=headers
            ) as response:
                return response.status_code, _json(_read(response))
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise errors.PortalUnavailable(
                "the token endpoint did not answer", reason=type(exc).__name__
            ) from exc


def _bearer(token: _Token) -> str:
    return f"Bearer {token.text}"


def _basic(who: OAuthClient) -> str:
    """Write the header as OAuth has it: both halves are form-encoded first (RFC 6749, 2.3.1)."""
    pair = f"{quote_plus(who.client_id)}:{quote_plus(who.client_secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _read(response: httpx.Response) -> bytes:
    received = bytearray()
    until = time.monotonic() + _LONGEST_ANSWER_SECONDS
    for chunk in response.iter_bytes():
        received += chunk
        if len(received) > _LONGEST_ANSWER or time.monotonic() > until:
            raise errors.PortalUnavailable("the token endpoint's answer does not end")
    return bytes(received)


def _json(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _word(answer: object) -> str | None:
    """Return the standard's word for an error; whatever else is said is not repeated."""
    word = answer.get("error") if isinstance(answer, dict) else None
    return word if isinstance(word, str) and word in _WORDS else None


def _failure(status: int, answer: object) -> errors.ReconcileError:
    told: dict[str, Any] = {"status": status}
    if word := _word(answer):
        told["error"] = word
    if status in _REFUSALS:
        return errors.PortalRejected("the token endpoint refuses the client", **told)
    if status == 429:
        return errors.RateLimited("the token endpoint asks us to come back later", **told)
    return errors.PortalUnavailable("the token endpoint failed to answer", **told)


def _read_token(answer: object, asked_at: float) -> _Token:
    if not isinstance(answer, dict):
        raise _no_token("the answer is no JSON object")
    text, kind = answer.get("access_token"), answer.get("token_type", "bearer")
    if not (isinstance(text, str) and _TOKEN.fullmatch(text)):
        raise _no_token("there is no token that a header can hold")
    if not (isinstance(kind, str) and kind.lower() == "bearer"):
        raise _no_token("it is no bearer token")
    lifetime = _lifetime(answer.get("expires_in"))
    margin = min(_MARGIN_SECONDS, lifetime / 4)
    return _Token(text=text, renew_at=asked_at + lifetime - margin, expires_at=asked_at + lifetime)


def _lifetime(said: object) -> float:
    """Read `expires_in`, which some servers write as text and some leave out."""
    if said is None:
        return _UNSAID_LIFETIME_SECONDS
    if isinstance(said, str) and re.fullmatch(r"[0-9]{1,10}", said):
        said = int(said)
    if isinstance(said, bool) or not isinstance(said, int | float) or not said > 0:
        raise _no_token("its lifetime is no number of seconds")
    return min(float(said), _LONGEST_LIFETIME_SECONDS)


def _no_token(problem: str) -> errors.PortalUnavailable:
    return errors.PortalUnavailable(
        "the token endpoint's answer is not what OAuth promises", problem=problem
    )
