from __future__ import annotations

import pytest

from provisioner.edge import sources

_MIB = 1024 * 1024


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.limited: list[str] = []
        self.sources = sources.Sources(monotonic=lambda: self.now, on_limited=self.limited.append)

    def refuse(self, source: str, size: int = 100) -> int:
        """Send wrong deliveries as long as they are looked at; return how many."""
        count = 0
        while not self.sources.wait_seconds(source, size):
            self.sources.refused(source, size)
            count += 1
        return count


def test_a_source_that_nobody_knows_may_send() -> None:
    assert World().sources.wait_seconds("a", _MIB) == 0


def test_a_source_that_is_refused_too_often_waits_and_others_do_not() -> None:
    world = World()
    assert 1000 < world.refuse("a") < 10_000
    assert world.sources.wait_seconds("a", 100) >= 1
    assert world.sources.wait_seconds("b", 100) == 0


def test_large_deliveries_use_up_more() -> None:
    assert World().refuse("a", _MIB) == 2


def test_an_ordinary_delivery_passes_where_a_large_one_does_not() -> None:
    world = World()
    world.refuse("a", _MIB)
    world.now += 1
    assert world.sources.wait_seconds("a", _MIB) > 1
    assert world.sources.wait_seconds("a", 64 * 1024) == 0


@pytest.mark.parametrize("size", [0, 100, _MIB])
def test_after_the_wait_it_may_send_again(size: int) -> None:
    world = World()
    world.refuse("a", size)
    world.now += world.sources.wait_seconds("a", size)
    assert world.sources.wait_seconds("a", size) == 0


def test_time_gives_back_no_more_than_the_whole() -> None:
    world = World()
    first = world.refuse("a")
    world.now += 1_000_000
    assert world.refuse("a") == first


def test_a_source_that_has_proven_itself_is_refused_more_before_it_waits() -> None:
    world = World()
    world.sources.accepted("a")
    world.now += 60
    assert world.refuse("a") > 3 * world.refuse("b")
    world.now += 3600
    assert world.refuse("a") == world.refuse("c")


def test_what_is_accepted_costs_nothing() -> None:
    world = World()
    for _ in range(100_000):
        assert world.sources.wait_seconds("a", 60_000) == 0
        world.sources.accepted("a")


def test_that_a_source_waits_is_said_once_until_it_has_recovered() -> None:
    world = World()
    world.refuse("a")
    for _ in range(5):
        world.now += 1
        world.refuse("a")
    assert world.limited == ["a"]
    world.now += 60
    world.refuse("a")
    assert world.limited == ["a", "a"]


def test_however_many_sources_there_are_few_are_remembered() -> None:
    world = World()
    world.refuse("a")
    for number in range(5000):
        world.sources.refused(f"source-{number}", 100)
        world.sources.wait_seconds("a", 100)
    assert len(world.sources) == 4096
    assert world.sources.wait_seconds("a", 100) > 0


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (None, ""),
        (("192.0.2.1", 5), "192.0.2.1"),
        (("::ffff:192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5), "fe80::/64"),
        (("testclient", 5), "testclient"),
    ],
)
def test_a_source_is_an_address_or_a_network(client: tuple[str, int] | None, name: str) -> None:
    assert sources.name(client) == name
