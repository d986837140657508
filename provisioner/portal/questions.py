"""Ask the portal, for several things side by side, and have the answers parsed.

What both of its APIs share: a parser that finds an answer malformed makes the portal merely
unavailable, and what a 404 means is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

from provisioner import errors
from provisioner.portal import assets, client, fields

NOBODY = "00000000-0000-0000-0000-000000000000"
"""An id that no portal gives away: what it answers about it shows whether a route is there."""

_SIDE_BY_SIDE = 16
_A = TypeVar("_A")
_T = TypeVar("_T")


class Questions:
    """Call routes and parse what comes back."""

    def __init__(self, caller: client.PortalClient) -> None:
        self._client = caller
        self._threads = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="portal")
        self._closed = False

    def close(self) -> None:
        """Let the threads end; who still asks several things is told that the portal is away."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def each(self, ask: Callable[[_A], _T], about: Sequence[_A]) -> list[_T]:
        """Ask the same about several things; a portal that is far away is waited for once.

        The first is asked about in this thread, so that one question costs no other.
        """
        try:
            others = [self._threads.submit(ask, each) for each in about[1:]]
            return [ask(each) for each in about[:1]] + [other.result() for other in others]
        except (RuntimeError, CancelledError) as exc:
            if not self._closed:
                raise
            raise errors.PortalUnavailable("the service ends") from exc

    def parts(self, routes: Sequence[str], product: str) -> list[object]:
        """Read several parts of a product that was there a moment ago."""
        return self.each(lambda route: self.part(route, _as_it_is, product), routes)

    def get(self, route: str, parse: Callable[[object], _T], **ids: str) -> _T:
        """Read what must be there."""
        return parsed(route, parse, self.ask(route, (), **ids).body)

    def listed(self, route: str, parse: Callable[[object], _T], keep: frozenset[str]) -> _T:
        """Read a list that may be long: of its objects only the names to `keep`."""
        return parsed(
            route, parse, self._client.call(client.Call(method="GET", route=route, keep=keep)).body
        )

    def find(self, route: str, parse: Callable[[object], _T], **ids: str) -> _T | None:
        """Like `get`, but None where the portal says that there is no such thing."""
        answer = self.ask(route, {404}, **ids)
        return None if answer.status == 404 else parsed(route, parse, answer.body)

    def part(self, route: str, parse: Callable[[object], _T], product: str) -> _T:
        """Read a part of a product that was there a moment ago."""
        found = self.find(route, parse, product=product)
        if found is None:
            raise gone()
        return found

    def ask(self, route: str, accept: Iterable[int], **ids: str) -> client.Answer:
        """Read, taking the statuses in `accept` for answers too."""
        return self._client.call(
            client.Call(method="GET", route=route, ids=ids, accept=frozenset(accept))
        )

    def knows(self, route: str, **ids: str) -> bool:
        """Tell whether the portal has a route at all, by an id that nobody has.

        Being refused there is a yes. A portal in trouble says neither, and raises.
        """
        try:
            self.ask(route, {404}, **ids)
        except client.NoSuchRoute:
            return False
        except errors.PermanentError:
            return True
        return True

    def create(self, route: str, body: dict[str, object], product: str) -> str:
        """Make something below a product and return its id; never tried twice."""
        call = client.Call(
            method="POST", route=route, ids={"product": product}, body=body, repeatable=False
        )
        return parsed(route, assets.created_id, self._client.call(call).body)

    def update(self, route: str, body: dict[str, object], product: str) -> None:
        """Write a product anew."""
        self._client.call(
            client.Call(method="PUT", route=route, ids={"product": product}, body=body)
        )


def _as_it_is(body: object) -> object:
    return body


def parsed(route: str, parse: Callable[[object], _T], body: object) -> _T:
    """Parse an answer, or say that it is not what was promised."""
    try:
        return parse(body)
    except fields.Malformed as exc:
        raise malformed(route, str(exc)) from exc


def malformed(route: str, problem: str) -> errors.PortalUnavailable:
    """Say what is wrong with an answer, without quoting it."""
    return errors.PortalUnavailable(
        "the portal's answer is not what its API promises", path=route, problem=problem
    )


def gone() -> errors.Conflict:
    """Say that a product was deleted between two calls."""
    return errors.Conflict("the product went while it was read", delay_seconds=1)
