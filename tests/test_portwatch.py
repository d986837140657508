"""A producer publishes; its consumers hear of it, and nothing that it writes stops anybody."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import yaml

from provisioner import errors, model, portviews, unwatched
from provisioner.domain import freshness, portfile
from provisioner.loop import portwatch
from tests import builders as b
from tests import memory_world, published

SALES, MARKETING = memory_world.SALES, memory_world.MARKETING
KEY = f"sales/orders/{portwatch.NAME}"


class World(memory_world.MemoryWorld):
    """Sales, which has an output port, and marketing, which may read it."""

    def __init__(self, *, status: model.LinkStatus = model.LinkStatus.APPROVED) -> None:
        super().__init__(memory_world.a_producer(), b.a_consumer_view(b.a_link(status)))
        for key in (SALES, MARKETING):
            self.settle(key)
        self.look()

    def publish(self, **changes: Any) -> None:
        said = {"published_at": f"{self.clock.now:%Y-%m-%dT%H:%M:%SZ}", **changes}
        self.published.put(KEY, published.a_file(**said))

    def look(self) -> None:
        """Let the next turn come, and do what follows from it."""
        self.clock.advance(memory_world.PORTS_SECONDS)
        self.portwatch.tick()
        self.work()

    def work(self) -> list[model.Key]:
        """Reconcile what is queued, and say what it was."""
        worked = []
        while self.store.queue.depth()[0]:
            key = next(iter(sorted(self.store.queue._state.queue)))
            self.settle(key)
            worked.append(key)
        return worked

    @property
    def port(self) -> model.SeenPort:
        return self.store.contracts.ports[b.ORDERS]

    def columns(self) -> object:
        (entry,) = yaml.safe_load(self.file("marketing", "external_models/upstream.yaml") or "")
        assert entry["name"] == "upstream.sales__orders"
        return entry.get("columns")

    def inputs(self) -> str:
        return self.file("marketing", "INPUTS.md") or ""

    def conditions(self, key: model.Key) -> list[str]:
        return [each.type for each in self.record(key).conditions]


@pytest.fixture
def world() -> World:
    return World()


def test_columns_reach_the_consumer_with_the_first_publication(world: World) -> None:
    assert (world.port.state, world.columns()) == (model.PortState.UNPUBLISHED, None)
    assert "nothing published yet" in world.inputs()
    world.publish()
    world.look()
    assert world.port.state is model.PortState.FRESH
    assert world.columns() == {"day": "DATE", "revenue": "DECIMAL(18,2)"}
    assert "| `upstream.sales__orders` | fresh | 100 | 2026-11-21 | 2 |" in world.inputs()
    assert "| `orders` | fresh | 100 | 2026-11-21 | 2 |" in (world.file("sales", "INPUTS.md") or "")


def test_new_columns_follow_and_new_rows_alone_change_no_file(world: World) -> None:
    world.publish()
    world.look()
    before = world.inputs()
    world.clock.advance(3600)
    world.publish(rows=101)
    world.portwatch.tick()
    assert (world.port.contract or published.a_contract()).rows == 101
    assert world.work() == []
    assert world.inputs() == before
    world.clock.advance(3600)
    world.publish(columns=published.COLUMNS[:1], rows=102)
    world.look()
    assert world.columns() == {"day": "DATE"}
    assert "| 102 |" in world.inputs()


def test_only_a_file_that_changed_is_read_again(world: World) -> None:
    world.publish()
    world.look()
    etag, read_at = world.port.etag, world.port.read_at
    world.look()
    assert world.port.etag == etag
    assert world.port.read_at == (read_at or b.NOW) + timedelta(seconds=300)


def test_a_stale_port_is_seen_on_both_sides_and_stops_nobody(world: World) -> None:
    world.publish()
    world.look()
    world.clock.advance(3 * 86_400)
    world.look()
    assert world.port.state is model.PortState.STALE
    assert "OutputStale" in world.conditions(SALES)
    assert "InputStale" in world.conditions(MARKETING)
    assert "**stale**" in world.inputs()
    assert world.reconcile(MARKETING).status == "done"
    world.publish()
    world.look()
    assert "InputStale" not in world.conditions(MARKETING)


def test_a_shrunken_port_is_seen(world: World) -> None:
    world.publish(rows=1000)
    world.look()
    world.publish(rows=10)
    world.look()
    assert "InputShrunken" in world.conditions(MARKETING)
    assert "**shrunken**" in world.inputs()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[" * 200_000, "it is no JSON that we read"),
        (b"x" * (portfile.LIMIT_BYTES + 1), portfile.TOO_LARGE),
        (published.a_file(port="refunds"), "it does not name the port that it lies in"),
    ],
)
def test_what_cannot_be_read_is_a_finding_and_keeps_the_columns(
    world: World, body: bytes, why: str
) -> None:
    world.publish()
    world.look()
    world.published.put(KEY, body)
    world.look()
    assert (world.port.state, world.port.why) == (model.PortState.UNREADABLE, why)
    assert world.columns() == {"day": "DATE", "revenue": "DECIMAL(18,2)"}
    assert f"**unreadable**: {why}" in world.inputs()
    assert world.reconcile(MARKETING).status == "done"


def test_a_file_that_the_engine_does_not_give_is_a_finding(world: World) -> None:
    world.published.refused.add(KEY)
    world.look()
    assert (world.port.state, world.port.why) == (model.PortState.UNREADABLE, portfile.REFUSED)


def test_what_was_taken_away_is_no_longer_told(world: World) -> None:
    world.publish()
    world.look()
    world.published.remove(KEY)
    world.look()
    assert world.columns() is None


HOSTILE = '"; DROP TABLE x; --\n- name: upstream.mine\n|`<script>{{ 7*7 }}\x1b[2J'


def test_nothing_that_a_producer_writes_is_more_than_a_name(world: World) -> None:
    world.publish(
        description=HOSTILE,
        columns=[
            {"name": HOSTILE, "type": "DATE"},
            {"name": "a", "type": HOSTILE},
            {"name": "ok", "type": "DATE", "description": HOSTILE},
        ],
        audits=[{"name": HOSTILE, "passed": True}],
        grain=[HOSTILE],
    )
    world.look()
    assert world.columns() is None
    assert "| 1, 2 left out |" in world.inputs()
    for namespace in ("sales", "marketing"):
        texts = world.folders.folders[namespace].files.values()
        assert not [text for text in texts if "DROP" in text or "\x1b" in text]


def test_an_engine_that_is_away_is_asked_again_ever_more_slowly(world: World) -> None:
    world.publish()
    world.published.down = True
    world.clock.advance(memory_world.PORTS_SECONDS)
    world.portwatch.tick()
    asked = len(world.published.reads)
    world.portwatch.tick()
    assert len(world.published.reads) == asked
    world.published.down = False
    world.look()
    world.look()
    assert world.port.state is model.PortState.FRESH


def test_ports_that_had_no_turn_because_the_engine_was_away_have_it_soon_and_few_at_a_time() -> (
    None
):
    ports = tuple(b.a_port(b.an_id(100 + n), f"p{n}") for n in range(50))
    world = memory_world.MemoryWorld(model.PortalView(product=b.a_product(), ports=ports))
    world.settle(SALES)
    world.published.down = True
    for _ in range(5):
        world.portwatch.tick()
        world.clock.advance(61)
    world.published.down = False
    unseen = []
    for _ in range(3):
        world.clock.advance(61)
        world.portwatch.tick()
        ports_now = world.store.contracts.ports.values()
        unseen.append(len([each for each in ports_now if each.read_at is None]))
    assert unseen == [30, 10, 0]


def test_one_port_that_always_fails_holds_up_no_other() -> None:
    ports = tuple(b.a_port(b.an_id(100 + n), f"p{n}") for n in range(50))
    world = memory_world.MemoryWorld(model.PortalView(product=b.a_product(), ports=ports))
    world.settle(SALES)
    read = world.published.read

    def fail_at_one(key: str, *, limit: int, etag: str = "") -> Any:
        world.published.down = key == f"sales/p7/{portwatch.NAME}"
        return read(key, limit=limit, etag=etag)

    world.published.read = fail_at_one  # type: ignore[method-assign]
    for _ in range(120):
        world.portwatch.tick()
        world.clock.advance(1)
    tried = world.published.reads.count(f"sales/p7/{portwatch.NAME}")
    unseen = [each for each in world.store.contracts.ports.values() if each.read_at is None]
    assert [each.port_namespace for each in unseen] == ["p7"]
    assert 2 <= tried <= 10


def test_a_store_that_is_away_is_the_crews_affair(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: object) -> tuple[model.SeenPort, ...]:
        raise errors.StoreUnavailable("away")

    monkeypatch.setattr(world.store.contracts, "claim", away)
    with pytest.raises(errors.StoreUnavailable):
        world.portwatch.tick()


def test_what_was_seen_before_a_look_failed_is_kept() -> None:
    ports = tuple(b.a_port(b.an_id(100 + n), f"p{n}") for n in range(3))
    world = memory_world.MemoryWorld(model.PortalView(product=b.a_product(), ports=ports))
    world.settle(SALES)
    read = world.published.read

    def fail_at_the_third(key: str, *, limit: int, etag: str = "") -> Any:
        world.published.down = len(world.published.reads) == 2
        return read(key, limit=limit, etag=etag)

    world.published.read = fail_at_the_third  # type: ignore[method-assign]
    world.portwatch.tick()
    states = sorted(each.state for each in world.store.contracts.ports.values())
    assert states == ["unknown", "unpublished", "unpublished"]


def test_a_port_that_nobody_may_read_is_looked_at_twelve_times_more_rarely() -> None:
    world = World(status=model.LinkStatus.PENDING)
    asked = len(world.published.reads)
    for _ in range(portwatch.RARELY):
        world.look()
    assert len(world.published.reads) - asked == 1


def test_turns_are_spread_and_come_back_after_the_period() -> None:
    turns = [portwatch.turn(b.an_id(number), 300, b.NOW) for number in range(300)]
    assert all(b.NOW < each <= b.NOW + timedelta(seconds=300) for each in turns)
    assert len(set(turns)) > 150
    assert all(
        portwatch.turn(b.an_id(number), 300, each) == each + timedelta(seconds=300)
        for number, each in enumerate(turns)
    )


def test_a_tick_looks_at_a_few_ports_only() -> None:
    ports = tuple(b.a_port(b.an_id(100 + n), f"p{n}") for n in range(50))
    world = memory_world.MemoryWorld(model.PortalView(product=b.a_product(), ports=ports))
    world.settle(SALES)
    looked: list[int] = []
    while not looked or len(world.published.reads) > looked[-1]:
        looked.append(len(world.published.reads))
        world.portwatch.tick()
    assert looked == [0, 20, 40, 50]


def test_ports_are_counted_by_state(world: World) -> None:
    world.publish()
    world.look()
    world.look()
    value = world.metrics.registry.get_sample_value
    assert value("provisioner_ports", {"state": "fresh"}) == 1
    assert value("provisioner_ports", {"state": "stale"}) == 0


def test_verdicts_go_when_nobody_looks_any_more_and_columns_stay(world: World) -> None:
    world.publish(rows=1000)
    world.look()
    world.publish(rows=10)
    world.look()
    watched = world.readings._contracts
    world.readings._contracts = unwatched.UnwatchedContracts(watched)
    assert world.resync.run().queued == 2
    world.work()
    assert (world.conditions(SALES), world.conditions(MARKETING)) == ([], [])
    assert world.columns() == {"day": "DATE", "revenue": "DECIMAL(18,2)"}
    assert "| not looked at any more | 10 | 2026-11-21 | 2 |" in world.inputs()
    assert world.resync.run().queued == 0
    view = portviews.PortViews(world.readings._contracts, bucket="lake", endpoint="")
    (shown,) = view.of(world.record(SALES)).outputs
    assert (shown.state, shown.contract) == (model.PortState.UNKNOWN, world.port.contract)
    world.readings._contracts = watched
    world.resync.run()
    world.work()
    assert "InputShrunken" in world.conditions(MARKETING)


@pytest.mark.parametrize(
    ("link", "why"),
    [
        (b.a_link(model.LinkStatus.REVOKED), "it was revoked"),
        (b.a_link(model.LinkStatus.DENIED), "it was denied"),
        (b.a_link(valid_until=b.TODAY - timedelta(days=1)), "its time was over"),
        (None, "the portal no longer says so"),
    ],
)
def test_access_that_ended_is_explained_and_its_model_goes(
    world: World, link: model.Link | None, why: str
) -> None:
    world.publish()
    world.look()
    world.portal.views[MARKETING] = b.a_consumer_view(*((link,) if link else ()))
    world.settle(MARKETING)
    text = world.file("marketing", "external_models/upstream.yaml") or ""
    assert yaml.safe_load(text) == []
    assert "| `upstream.sales__orders` | `sales` | `orders` | 2026-11-21 | 2026-11-21 |" in (
        world.inputs()
    )
    assert f"| {why} |" in world.inputs()
    assert json.loads(world.file("marketing", "ports.json") or "")["inputs"] == []


def test_access_that_the_clock_ends_is_explained_although_the_portal_is_away() -> None:
    world = World()
    world.portal.views[MARKETING] = b.a_consumer_view(b.a_link(valid_until=b.TODAY))
    world.settle(MARKETING)
    world.portal.failure = errors.PortalUnavailable("away")
    world.clock.advance(86_400)
    world.reconcile(MARKETING)
    (ended,) = world.record(MARKETING).access.ended
    assert (ended.why, ended.name) == (model.EndReason.EXPIRED, "sales__orders")


def test_a_deleted_producer_takes_its_ports_along(world: World) -> None:
    world.publish()
    world.look()
    del world.portal.views[SALES]
    world.settle(SALES)
    assert world.store.contracts.ports == {}
    world.portal.views[MARKETING] = model.PortalView(product=b.a_product(b.MARKETING, "marketing"))
    world.settle(MARKETING)
    assert "the port or its product was deleted" in world.inputs()


def test_what_is_told_is_part_of_what_is_desired(world: World) -> None:
    """A touch that was lost is made good by the next resync: the digest differs."""
    before = world.record(MARKETING).settled_digest
    world.publish()
    world.clock.advance(memory_world.PORTS_SECONDS)
    world.portwatch.tick()
    wanted = world.observer.preview(MARKETING).desired
    assert freshness.told(wanted.seen[b.ORDERS])[2] is model.PortState.FRESH
    assert wanted.digest != before
