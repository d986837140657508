"""The proxies of the torture test fail as they are told, on real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests import canned_server
from tests.torture.proxy import Call, Fault, Moment, Mood, Proxy, Street

BODY = b"x" * 20


class Between:
    """One proxy before an upstream that answers, and what it heard."""

    def __init__(self, street: Street, upstream: str) -> None:
        self.mood = Mood(1)
        self.heard: list[tuple[Moment, str, int]] = []
        self.proxy = Proxy(street, upstream, self.mood, self.hear)

    def hear(self, moment: Moment, call: Call, status: int) -> None:
        self.heard.append((moment, f"{call.method} {call.path}", status))

    def spoil(self, fault: Fault) -> None:
        self.mood.faults, self.mood.share = (fault,), 1.0

    def get(self, timeout: float = 5.0) -> httpx.Response:
        return httpx.get(f"{self.proxy.url}/some", timeout=timeout)


@pytest.fixture
def between() -> Iterator[Between]:
    with canned_server.canned(200, BODY) as upstream, Street() as street:
        yield Between(street, upstream)


def test_calls_pass_whole_and_are_heard_at_every_moment(between: Between) -> None:
    with httpx.Client(base_url=between.proxy.url) as client:
        assert [client.put("/some", content=b"y").content for _ in range(2)] == [BODY] * 2
    moments = [(Moment.BEFORE, 0), (Moment.BETWEEN, 200), (Moment.AFTER, 200)]
    assert between.heard == [(m, "PUT /some", status) for m, status in moments] * 2


@pytest.mark.parametrize("fault", [Fault.E500, Fault.E503])
def test_an_error_is_answered_without_the_upstream(between: Between, fault: Fault) -> None:
    between.spoil(fault)
    assert between.get().status_code == int(fault)
    assert Moment.BETWEEN not in [moment for moment, _, _ in between.heard]


def test_a_lost_call_is_carried_out_and_never_answered(between: Between) -> None:
    between.spoil(Fault.LOST)
    with pytest.raises(httpx.TransportError):
        between.get()
    assert [moment for moment, _, _ in between.heard] == [Moment.BEFORE, Moment.BETWEEN]


def test_of_a_cut_answer_half_arrives(between: Between) -> None:
    between.spoil(Fault.CUT)
    with pytest.raises(httpx.TransportError):
        between.get()
    assert (Moment.BETWEEN, "GET /some", 200) in between.heard


def test_a_hanging_call_is_never_answered_and_never_carried_out(between: Between) -> None:
    between.spoil(Fault.HANG)
    with pytest.raises(httpx.ReadTimeout):
        between.get(timeout=0.1)
    assert [moment for moment, _, _ in between.heard] == [Moment.BEFORE]


def test_a_late_answer_is_a_good_one(between: Between) -> None:
    between.spoil(Fault.LATE)
    assert between.get().content == BODY


def test_who_refuses_takes_no_connection_until_it_recovers(between: Between) -> None:
    between.proxy.refuse()
    with pytest.raises(httpx.ConnectError):
        between.get()
    between.proxy.recover()
    assert between.get().content == BODY
