from __future__ import annotations

import resource

import pytest

from provisioner.edge import crowd


class Member:
    def __init__(self, *, is_awaited: bool = True) -> None:
        self.is_awaited = is_awaited
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_there_is_room_up_to_the_limit() -> None:
    held = crowd.Crowd(2)
    members = [Member(), Member()]
    for member in members:
        held.join(member, "a")
    assert [member.aborted for member in members] == [False, False]


def test_one_more_ends_the_one_that_is_awaited_longest() -> None:
    held = crowd.Crowd(2)
    members = [Member(), Member(), Member()]
    for member in members:
        held.join(member, "a")
    assert [member.aborted for member in members] == [True, False, False]
    assert len(held) == 2


def test_one_that_was_answered_waits_anew() -> None:
    held = crowd.Crowd(2)
    first, second, third = Member(), Member(), Member()
    held.join(first, "a")
    held.join(second, "a")
    held.renew(first)
    held.join(third, "a")
    assert (first.aborted, second.aborted) == (False, True)


def test_the_source_with_most_connections_loses_one() -> None:
    held = crowd.Crowd(3)
    lone, first, second = Member(), Member(), Member()
    held.join(lone, "portal")
    held.join(first, "other")
    held.join(second, "other")
    held.join(Member(), "third")
    assert (lone.aborted, first.aborted, second.aborted) == (False, True, False)


def test_one_that_is_being_answered_stays() -> None:
    held = crowd.Crowd(2)
    busy, idle = Member(is_awaited=False), Member()
    held.join(busy, "a")
    held.join(idle, "a")
    held.join(Member(is_awaited=False), "b")
    assert (busy.aborted, idle.aborted) == (False, True)
    held.join(Member(), "b")
    assert not busy.aborted
    assert len(held) == 3


def test_whoever_left_is_forgotten_twice_over() -> None:
    held = crowd.Crowd(2)
    member = Member()
    held.join(member, "a")
    held.leave(member)
    held.leave(member)
    held.renew(member)
    assert len(held) == 0


@pytest.mark.parametrize(
    ("allowed", "most"),
    [(20_000, 2048), (1024, 768), (100, 16), (resource.RLIM_INFINITY, 2048)],
)
def test_as_many_are_held_as_the_files_allow(
    monkeypatch: pytest.MonkeyPatch, allowed: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    assert crowd.most_connections() == most
