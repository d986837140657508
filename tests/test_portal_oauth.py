"""Tokens for the portal: how they are got, kept, renewed, and never told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from provisioner import errors, model
from provisioner.portal import HttpPortal, OAuthClient

SECRET = "s3cret: nobody/may+see&it"
LIST = "/api/v2/data_products"
KEY = model.Key.product("0a0a0a0a-0000-4000-8000-000000000001")
UNAUTHENTICATED = {"correlation_id": "", "detail": "Unauthenticated"}

Answer = tuple[int, object]


class SettableClock:
    """Count seconds only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A portal that takes some tokens, and the server that gives them."""

    def __init__(self, **first: object) -> None:
        self.clock = SettableClock()
        self.given = 0
        self.token_requests: list[httpx.Request] = []
        self.portal_requests: list[httpx.Request] = []
        self.answer: Callable[[httpx.Request], Any] = self.give
        """What the token endpoint answers: a response, or an exception to raise."""
        self.first = first
        self.refusal: Answer = (401, UNAUTHENTICATED)
        self.taken: Callable[[str], bool] = lambda token: token.startswith("token-")
        self.scope: str | None = "openid portal"

    def give(self, request: httpx.Request) -> httpx.Response:
        """Give the next token, good for an hour unless told otherwise."""
        self.given += 1
        token = {"access_token": f"token-{self.given}", "token_type": "Bearer", "expires_in": 3600}
        return httpx.Response(200, json={**token, **self.first})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "id.test":
            self.token_requests.append(request)
            answer = self.answer(request)
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, httpx.Response)
            return answer
        self.portal_requests.append(request)
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind == "Bearer" and self.taken(token):
            return httpx.Response(200, json={"data_products": []})
        status, content = self.refusal
        return httpx.Response(status, json=content)

    def portal(self, **changes: Any) -> HttpPortal:
        who = OAuthClient(
            client_id="prov:isioner",
            client_secret=SECRET,
            token_url="https://id.test/token?tenant=1",
            scope=self.scope,
        )
        settings: dict[str, Any] = {"oauth_client": who, **changes}
        return HttpPortal(
            base_url="http://portal.test",
            transport=httpx.MockTransport(self),
            sleep=lambda seconds: None,
            clock=self.clock,
            **settings,
        )

    @property
    def sent(self) -> list[str]:
        """Return the tokens that the portal saw."""
        return [one.headers["authorization"].split()[1] for one in self.portal_requests]


def form_of(request: httpx.Request) -> dict[str, list[str]]:
    return parse_qs(request.content.decode(), strict_parsing=True)


# getting one


def test_a_token_is_asked_for_with_a_form() -> None:
    world = World()
    assert world.portal().products() == ()
    (request,) = world.token_requests
    assert (request.method, str(request.url)) == ("POST", "https://id.test/token?tenant=1")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in request.headers
    assert form_of(request) == {
        "grant_type": ["client_credentials"],
        "client_id": ["prov:isioner"],
        "client_secret": [SECRET],
        "scope": ["openid portal"],
    }


def test_without_a_scope_none_is_asked_for() -> None:
    world = World()
    world.scope = None
    world.portal().products()
    assert "scope" not in form_of(world.token_requests[0])


def test_every_call_bears_the_token_and_one_is_enough() -> None:
    world = World()
    portal = world.portal()
    portal.products()
    portal.products()
    assert world.sent == ["token-1", "token-1"]
    assert len(world.token_requests) == 1
    assert "x-key" not in world.portal_requests[0].headers


def test_nothing_is_asked_before_it_is_needed() -> None:
    world = World()
    world.portal().close()
    assert world.token_requests == []


def test_an_api_key_goes_first() -> None:
    world = World()
    world.refusal = (200, {"data_products": []})
    world.portal(api_key="key").products()
    assert world.token_requests == []
    assert world.portal_requests[0].headers["x-key"] == "key"
    assert "authorization" not in world.portal_requests[0].headers


@pytest.mark.parametrize("status", [400, 401])
def test_a_server_that_wants_basic_auth_gets_it_and_is_remembered(status: int) -> None:
    world = World()

    def only_basic(request: httpx.Request) -> httpx.Response:
        if "authorization" in request.headers:
            return world.give(request)
        return httpx.Response(status, json={"error": "invalid_client"})

    world.answer = only_basic
    portal = world.portal()
    portal.products()
    world.clock.now += 3601
    portal.products()
    _, first, second = world.token_requests
    pair = base64.b64decode(first.headers["authorization"].split()[1]).decode()
    assert pair == "prov%3Aisioner:s3cret%3A+nobody%2Fmay%2Bsee%26it"
    assert form_of(first) == {"grant_type": ["client_credentials"], "scope": ["openid portal"]}
    assert "authorization" in second.headers
    assert world.sent == ["token-1", "token-2"]


@pytest.mark.parametrize("said", [None, 3600, 3600.0, "3600"], ids=repr)
def test_a_lifetime_may_be_left_out_or_written_as_text(said: object) -> None:
    world = World(expires_in=said)
    portal = world.portal()
    portal.products()
    world.clock.now += 3500
    portal.products()
    world.clock.now += 100
    portal.products()
    assert world.sent == ["token-1", "token-1", "token-2"]


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER"])
def test_the_kind_of_token_is_told_in_any_case(kind: str) -> None:
    world = World(token_type=kind)
    assert world.portal().products() == ()


# keeping it fresh


@pytest.mark.parametrize(
    ("lifetime", "still", "due"), [(3600, 3539, 3541), (100, 74, 76), (4, 2, 3.5)]
)
def test_a_token_is_renewed_before_it_expires(lifetime: int, still: float, due: float) -> None:
    world = World(expires_in=lifetime)
    portal = world.portal()
    portal.products()
    for moment in (still, due):
        world.clock.now = 1000 + moment
        portal.products()
    assert world.sent == ["token-1", "token-1", "token-2"]


def test_no_token_is_kept_for_longer_than_a_day() -> None:
    world = World(expires_in=10**9)
    portal = world.portal()
    portal.products()
    world.clock.now += 86_400
    portal.products()
    assert world.sent == ["token-1", "token-2"]


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("no"), httpx.Response(503), httpx.Response(401)]
)
def test_while_the_old_token_is_good_a_failed_renewal_may_wait(trouble: object) -> None:
    world = World()
    portal = world.portal()
    portal.products()
    world.answer = lambda request: trouble
    world.clock.now += 3550
    portal.products()
    portal.products()
    assert len(world.token_requests) == 2
    world.clock.now += 6
    portal.products()
    assert len(world.token_requests) == 3
    assert world.sent == ["token-1"] * 4
    world.answer = world.give
    world.clock.now += 6
    portal.products()
    assert world.sent[-1] == "token-2"


def test_an_expired_token_is_never_sent() -> None:
    world = World()
    portal = world.portal()
    portal.products()
    world.answer = lambda request: httpx.ConnectError("no")
    world.clock.now += 3600
    with pytest.raises(errors.PortalUnavailable, match="token endpoint did not answer"):
        portal.products()
    assert world.sent == ["token-1"]


@pytest.mark.parametrize(
    "refusal",
    [(401, UNAUTHENTICATED), (401, {}), (403, UNAUTHENTICATED), (500, {"detail": "went wrong"})],
)
def test_a_token_that_the_portal_no_longer_takes_is_renewed_once(refusal: Answer) -> None:
    world = World()
    world.refusal = refusal
    portal = world.portal()
    portal.products()
    world.taken = lambda token: token == "token-2"
    assert portal.products() == ()
    assert world.sent == ["token-1", "token-1", "token-2"]


def test_a_change_is_sent_again_after_a_refusal() -> None:
    world = World()
    world.taken = lambda token: token == "token-2"
    world.portal().add_finalizer(KEY, "ours")
    assert [one.method for one in world.portal_requests] == ["POST", "POST"]
    assert world.portal_requests[0].content == world.portal_requests[1].content


def test_a_change_that_failed_is_not_sent_again() -> None:
    world = World()
    world.taken = lambda token: False
    world.refusal = (500, {"detail": "went wrong"})
    with pytest.raises(errors.PortalUnavailable):
        world.portal().add_finalizer(KEY, "ours")
    assert len(world.portal_requests) == 1


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((401, UNAUTHENTICATED), errors.PortalRejected),
        ((403, UNAUTHENTICATED), errors.PortalRejected),
    ],
)
def test_a_portal_that_takes_no_token_costs_one_more_and_then_patience(
    refusal: Answer, error: type[Exception]
) -> None:
    world = World()
    world.refusal = refusal
    world.taken = lambda token: False
    portal = world.portal()
    for _ in range(5):
        with pytest.raises(error):
            portal.products()
    assert world.given == 2
    world.clock.now += 61
    with pytest.raises(error):
        portal.products()
    assert world.given == 3


def test_a_refusal_about_rights_says_nothing_about_the_token() -> None:
    world = World()
    world.refusal = (403, {"detail": "You are not the owner of this exploration"})
    world.taken = lambda token: False
    with pytest.raises(errors.PortalRejected):
        world.portal().products()
    assert world.given == 1


@pytest.mark.parametrize("key", ["right", None])
def test_without_a_token_a_refusal_stands(key: str | None) -> None:
    world = World()
    with pytest.raises(errors.PortalRejected):
        world.portal(api_key=key, oauth_client=None).products()
    assert (len(world.portal_requests), world.token_requests) == (1, [])


# many threads


def together(count: int, act: Callable[[], object]) -> list[BaseException]:
    """Do something in many threads at once and return what they raised."""
    raised: list[BaseException] = []
    ready = threading.Barrier(count)

    def run() -> None:
        ready.wait(10)
        try:
            act()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return raised


def test_many_threads_get_one_token() -> None:
    world = World()
    portal = world.portal()
    assert together(16, portal.products) == []
    assert (world.given, set(world.sent)) == (1, {"token-1"})


def test_many_refusals_are_one_renewal() -> None:
    world = World()
    portal = world.portal()
    portal.products()
    world.taken = lambda token: token == "token-2"
    assert together(16, portal.products) == []
    assert world.given == 2


def test_while_one_renews_the_others_go_on_with_the_old_token() -> None:
    world = World()
    portal = world.portal()
    portal.products()
    world.clock.now += 3550
    asked, answered = threading.Event(), threading.Event()

    def slowly(request: httpx.Request) -> httpx.Response:
        asked.set()
        assert answered.wait(10)
        return world.give(request)

    world.answer = slowly
    slow = threading.Thread(target=portal.products)
    slow.start()
    assert asked.wait(10)
    portal.products()  # would wait for ever if it waited
    assert world.sent == ["token-1", "token-1"]
    answered.set()
    slow.join(10)
    assert world.sent[-1] == "token-2"
    assert len(world.token_requests) == 2


# what can go wrong


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("word", ["invalid_client", "invalid_scope", "unauthorized_client"])
def test_a_client_that_is_refused_is_for_a_person_to_see(status: int, word: str) -> None:
    world = World()
    body = {"error": word, "error_description": f"no such secret: {SECRET}"}
    world.answer = lambda request: httpx.Response(status, json=body)
    with pytest.raises(errors.PortalRejected, match="refuses the client") as rejected:
        world.portal().products()
    assert rejected.value.attributes == {"status": status, "error": word}
    assert world.portal_requests == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.ConnectError(f"{SECRET}"), errors.PortalUnavailable),
        (httpx.ReadTimeout("slow"), errors.PortalUnavailable),
        (httpx.RemoteProtocolError("cut"), errors.PortalUnavailable),
        (httpx.Response(500, text=SECRET), errors.PortalUnavailable),
        (httpx.Response(503), errors.PortalUnavailable),
        (httpx.Response(404, text="<html>"), errors.PortalUnavailable),
        (httpx.Response(302, headers={"location": "https://evil.test/"}), errors.PortalUnavailable),
        (httpx.Response(307, headers={"location": "https://evil.test/"}), errors.PortalUnavailable),
        (httpx.Response(429, text=SECRET), errors.RateLimited),
        (httpx.Response(400, json={"error": SECRET}), errors.PortalRejected),
        (httpx.Response(401, json=[SECRET]), errors.PortalRejected),
        (httpx.Response(200, text=SECRET), errors.PortalUnavailable),
        (httpx.Response(200, text=""), errors.PortalUnavailable),
        (httpx.Response(200, json=[SECRET]), errors.PortalUnavailable),
        (httpx.Response(200, text="[" * 60_000), errors.PortalUnavailable),
        (httpx.Response(200, text="9" * 60_000), errors.PortalUnavailable),
        (httpx.Response(200, content=b"\xff\xfe"), errors.PortalUnavailable),
        (httpx.Response(200, text="x" * 70_000), errors.PortalUnavailable),
    ],
)
def test_a_failure_of_the_token_endpoint_tells_no_secret(
    answer: object, error: type[errors.ReconcileError]
) -> None:
    world = World()
    world.answer = lambda request: answer
    with pytest.raises(error) as failed:
        world.portal().products()
    told = repr(failed.value) + str(failed.value) + repr(failed.value.attributes)
    assert SECRET not in told
    assert {one.url.host for one in world.token_requests} == {"id.test"}
    assert world.portal_requests == []


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "two words"},
        {"access_token": "a\r\nx-key: b"},
        {"access_token": "sch\u00fcssel"},
        {"access_token": "a" * 16_385},
        {"token_type": "mac"},
        {"token_type": None},
        {"token_type": ["bearer"]},
        {"expires_in": 0},
        {"expires_in": -5},
        {"expires_in": True},
        {"expires_in": "soon"},
        {"expires_in": "-5"},
        {"expires_in": [3600]},
    ],
)
def test_what_is_no_good_token_is_not_used(change: dict[str, object]) -> None:
    world = World(**change)
    with pytest.raises(errors.PortalUnavailable, match="not what OAuth promises") as failed:
        world.portal().products()
    assert str(change.get("access_token") or SECRET) not in str(failed.value)
    assert world.portal_requests == []


def test_a_number_that_is_none_is_no_lifetime() -> None:
    world = World()
    body = b'{"access_token": "token-1", "expires_in": NaN}'
    world.answer = lambda request: httpx.Response(200, content=body)
    with pytest.raises(errors.PortalUnavailable):
        world.portal().products()


def test_once_the_endpoint_is_back_so_are_we() -> None:
    world = World()
    world.answer = lambda request: httpx.ConnectError("no")
    portal = world.portal()
    with pytest.raises(errors.PortalUnavailable):
        portal.products()
    world.answer = world.give
    assert portal.products() == ()


def test_neither_secret_nor_token_is_in_a_repr_or_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    portal = world.portal()
    portal.products()
    world.answer = lambda request: httpx.Response(401, json={"error": "invalid_client"})
    world.clock.now += 3550
    with caplog.at_level("DEBUG"):
        portal.products()
    assert "not renewed" in caplog.text
    who = OAuthClient(client_id="a", client_secret=SECRET, token_url="https://id.test")
    seen = caplog.text + repr(who) + repr(vars(portal)) + repr(vars(portal._client._access))
    assert SECRET not in seen
    assert "token-1" not in seen
    assert json.dumps(SECRET) not in seen
