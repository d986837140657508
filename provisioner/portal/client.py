"""Call the portal over HTTP: one pooled client that retries, and says what a failure means.

It finds out by itself how a portal spells its routes (with or without a trailing slash differs
between versions): a redirect that only changes the slash is not followed but answered by calling
our own address in the other spelling, so that the key never leaves for another host. Answers are
read up to a limit. Of a failure only method, route and status are told, never a body or a key.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import tenacity

from provisioner import errors
from provisioner.portal import pacing

_LONGEST_ANSWER = 64 * 1024 * 1024
"""Ten thousand products in a list take some 10 MB, more where descriptions are long."""
_LONGEST_ANSWER_SECONDS = 60.0
_LONGEST_DELAY_SECONDS = 3600.0
_BUSY = frozenset({429, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 307, 308})
_UNPROVEN = "Unauthenticated"
_DISBELIEF = "the portal does not believe who calls: see PROV_DPP_API_KEY or PROV_DPP_CLIENT_ID"


class NoSuchRoute(errors.PortalUnavailable):
    """Report that the portal's own router does not know the route, whatever the ids in it."""

    @property
    def condition(self) -> str:
        """Name it as any other trouble with the portal."""
        return errors.PortalUnavailable.__name__


class Access(httpx.Auth):
    """Prove to the portal who calls; this one proves nothing."""

    def renew(self, refused: httpx.Request) -> bool:
        """Tell whether there is another proof than the one that the portal did not take."""
        return False

    def close(self) -> None:
        """Close every connection."""


class ApiKey(Access):
    """Send the portal's API key with every request."""

    def __init__(self, key: str) -> None:
        if not (key.isascii() and key.isprintable()):
            raise errors.ConfigurationError(
                ("PROV_DPP_API_KEY: expects printable ASCII characters on one line",)
            )
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header."""
        request.headers["x-key"] = self._key
        yield request


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request; `route` is a template, `ids` fill it."""

    method: str
    route: str
    ids: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    accept: frozenset[int] = frozenset()
    """Statuses besides 2xx that are answers, not failures."""
    repeatable: bool = True
    keep: frozenset[str] | None = None
    """Names to keep of the objects in an answer: of thousands the rest would cost memory."""

    @property
    def path(self) -> str:
        """Fill the template; an id can never add a segment."""
        return self.route.format_map({name: quote(v, safe="") for name, v in self.ids.items()})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the portal said: a status that the caller accepts, and JSON."""

    status: int
    body: object


class _TryAgain(Exception):
    """Carry a failure that another try may cure, at most `tries` in all."""

    def __init__(self, error: errors.TemporaryError, *, tries: int) -> None:
        super().__init__()
        self.error = error
        self.tries = tries


class PortalClient:
    """Hold one connection pool; safe to share between threads."""

    def __init__(
        self,
        *,
        base_url: str,
        access: Access,
        transport: httpx.BaseTransport | None,
        timeout_seconds: float,
        attempts: int,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._client = httpx.Client(
            base_url=base_url,
            auth=access,
            transport=transport,
            timeout=timeout_seconds,
            follow_redirects=False,
            headers={"accept": "application/json"},
        )
        self._access = access
        self._attempts = attempts
        self._sleep = sleep
        self._pacing = pacing.Pacing(clock=clock, sleep=sleep)
        self._slashed: dict[tuple[str, str], bool] = {}

    def close(self) -> None:
        """Close every connection."""
        self._client.close()
        self._access.close()

    def call(self, call: Call) -> Answer:
        """Return the answer to a call; raise `errors.TemporaryError` or `errors.PortalRejected`."""
        self._pacing.wait(**_told(call))
        retrying = tenacity.Retrying(
            retry=lambda state: self._worth_retrying(call, state),
            wait=_wait,
            sleep=self._sleep,
        )
        try:
            return retrying(self._once, call)
        except _TryAgain as again:
            raise again.error from again.__cause__

    def _worth_retrying(self, call: Call, state: tenacity.RetryCallState) -> bool:
        failure = state.outcome.exception() if state.outcome else None
        return (
            isinstance(failure, _TryAgain)
            and call.repeatable
            and state.attempt_number < min(self._attempts, failure.tries)
            and (failure.error.delay_seconds or 0.0) <= pacing.LONGEST_WAIT_SECONDS
        )

    def _once(self, call: Call) -> Answer:
        response, raw = self._spelled(call)
        if _doubts_proof(call, response, raw) and self._access.renew(response.request):
            response, raw = self._spelled(call)
        if response.status_code in _BUSY:
            asked = 1.0 if response.status_code == 429 else 0.0
            self._pacing.asked(_retry_after(response) or asked)
        return _judge(call, response, raw)

    def _spelled(self, call: Call) -> tuple[httpx.Response, bytearray]:
        """Send a call in the spelling that this portal wants."""
        slashed = self._slashed.get((call.method, call.route), False)
        response, raw = self._send(call, slashed=slashed)
        if response.status_code in _REDIRECTS and _changes_only_the_slash(call, slashed, response):
            slashed = not slashed
            response, raw = self._send(call, slashed=slashed)
            if response.is_success:
                self._slashed[call.method, call.route] = slashed
        return response, raw

    def _send(self, call: Call, *, slashed: bool) -> tuple[httpx.Response, bytearray]:
        path = f"{call.path}/" if slashed else call.path
        try:
            with self._client.stream(call.method, path, **_content(call)) as response:
                return response, _read(call, response)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            error = errors.PortalUnavailable(
                "the portal did not answer", **_told(call), reason=type(exc).__name__
            )
            raise _TryAgain(error, tries=self._attempts) from exc
        except RuntimeError as exc:
            if not self._client.is_closed:
                raise
            raise errors.PortalUnavailable("the service ends", **_told(call)) from exc


def _wait(state: tenacity.RetryCallState) -> float:
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, _TryAgain) and failure.error.delay_seconds is not None:
        return failure.error.delay_seconds
    return tenacity.wait_random_exponential(multiplier=0.2, max=2.0)(state)


def _content(call: Call) -> dict[str, Any]:
    if call.body is None:
        return {}
    # ASCII escapes carry whatever text the portal gave us, lone surrogates among it.
    content = json.dumps(call.body).encode("ascii")
    return {"content": content, "headers": {"content-type": "application/json"}}


def _read(call: Call, response: httpx.Response) -> bytearray:
    received = bytearray()
    until = time.monotonic() + _LONGEST_ANSWER_SECONDS
    for chunk in response.iter_bytes():
        received += chunk
        if len(received) > _LONGEST_ANSWER or time.monotonic() > until:
            raise errors.PortalUnavailable("the portal's answer does not end", **_told(call))
    return received


def _changes_only_the_slash(call: Call, slashed: bool, response: httpx.Response) -> bool:
    """Compare host and path alone: a proxy that ends TLS changes scheme and port."""
    sent = response.request.url
    try:
        aim = sent.join(response.headers.get("location", ""))
    except httpx.InvalidURL:
        return False
    other = call.path if slashed else f"{call.path}/"
    return aim.host == sent.host and aim.path.endswith(other)


def _doubts_proof(call: Call, response: httpx.Response, raw: bytearray) -> bool:
    """Tell whether an answer may mean that the proof is no longer good.

    Portals say 401, or 403 with this detail where another 403 is about rights; some fail with 500
    over a token that they cannot read, which is tried again only where nothing was changed.
    """
    if response.status_code == 403:
        _, body = _parse(raw)
        return isinstance(body, dict) and body.get("detail") == _UNPROVEN
    return response.status_code == 401 or (response.status_code == 500 and call.method == "GET")


def _judge(call: Call, response: httpx.Response, raw: bytearray) -> Answer:
    """Turn a response into an answer, or raise what it means."""
    status = response.status_code
    told = {**_told(call), "status": status}
    if response.is_redirect:
        raise errors.PortalUnavailable("the portal redirects elsewhere", **told)
    readable, body = _parse(raw, call.keep if response.is_success else None)
    if response.is_success:
        if not readable:
            raise errors.PortalUnavailable("the portal's answer is not JSON", **told)
        return Answer(status=status, body=body)
    detail = body.get("detail") if isinstance(body, dict) else None
    if status == 404 and (detail is None or detail == "Not Found"):
        # The router's own words, or another server's: says nothing about what we asked for.
        kind = errors.PortalUnavailable if detail is None else NoSuchRoute
        raise kind("the portal's address serves no such API", **told)
    if status in call.accept and detail is not None:
        return Answer(status=status, body=body)
    raise _failure(call, response, told, detail)


def _parse(raw: bytearray, keep: frozenset[str] | None = None) -> tuple[bool, object]:
    """Parse JSON; of objects only the names to `keep`, all of them where that is None."""
    if not raw:
        return True, None
    hook = None if keep is None else functools.partial(_kept, keep)
    try:
        return True, json.loads(raw, object_pairs_hook=hook)
    except (ValueError, RecursionError):
        return False, None


def _kept(keep: frozenset[str], pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {name: value for name, value in pairs if name in keep}


def _failure(
    call: Call, response: httpx.Response, told: dict[str, Any], detail: object
) -> Exception:
    """Say what a status that is no answer means."""
    status = response.status_code
    delay_seconds = _retry_after(response)
    if status == 429:
        error: errors.TemporaryError = errors.RateLimited(
            "the portal asks us to come back later", delay_seconds=delay_seconds, **told
        )
        return _TryAgain(error, tries=100)
    if status in _BUSY or status == 500:
        error = errors.PortalUnavailable(
            "the portal failed to answer", delay_seconds=delay_seconds, **told
        )
        tries = 100 if status in _BUSY else 2 if call.method == "GET" else 1
        return _TryAgain(error, tries=tries)
    if status in (408, 425) or status > 501:
        return errors.PortalUnavailable("the portal failed to answer", **told)
    if status in (404, 409) and call.method != "GET":
        return errors.Conflict("the portal's product changed meanwhile", **told)
    if status == 401 or (status == 403 and detail == _UNPROVEN):
        return errors.PortalRejected(_DISBELIEF, **told)
    return errors.PortalRejected("the portal refused", **told)


def _retry_after(response: httpx.Response) -> float | None:
    """Read seconds to wait; a date is left to the ordinary backoff."""
    text = response.headers.get("retry-after", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    return min(float(text), _LONGEST_DELAY_SECONDS)


def _told(call: Call) -> dict[str, Any]:
    return {"method": call.method, "path": call.route}
