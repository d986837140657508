from __future__ import annotations

import contextlib
import dataclasses
from datetime import timedelta

from provisioner import errors, model, ports, telemetry
from provisioner.loop import clockwork, resync
from tests import builders as b
from tests import memory_store

KEY = model.Key.product(b.SALES)


class World:
    def __init__(self, *, queues_due: bool = True) -> None:
        self.clock = memory_store.SettableClock(b.NOW)
        self.store = memory_store.MemoryStore(clock=self.clock)
        self.runs = 0
        self.failure: errors.ReconcileError | None = None
        self.metrics = telemetry.Metrics()
        self.timers = clockwork.Timers(
            queue=self.store.queue,
            records=self.store.records,
            history=self.store.history,
            clock=self.clock,
            history_days=30,
            metrics=self.metrics,
            queues_due=queues_due,
        )
        self.resync = self.replica(clockwork.Alone())

    def replica(self, turns: ports.Turns | None = None) -> clockwork.ResyncTimer:
        """Return the timer of one replica more."""
        return clockwork.ResyncTimer(
            lambda: self.run(),
            flags=self.store.flags,
            clock=self.clock,
            every_seconds=180,
            turns=turns or self.store.another_process_turns(),
        )

    def run(self) -> None:
        self.runs += 1
        if self.failure:
            raise self.failure

    def remember(self, **changes: object) -> None:
        self.store.queue.touch([KEY], model.Priority.EVENT)
        lease = self.store.queue.lease("test")
        assert lease is not None
        record = dataclasses.replace(model.Record(key=KEY, namespace="sales"), **changes)  # type: ignore[arg-type]
        self.store.records.save(record, lease)
        self.store.queue.done(lease, model.Outcome(key=KEY, status="done"))


def test_a_key_whose_time_has_come_is_queued() -> None:
    world = World()
    world.remember(next_at=b.NOW + timedelta(hours=1))
    world.timers.tick()
    assert world.store.queue.lease("test") is None
    world.clock.advance(3600)
    world.timers.tick()
    assert world.store.queue.lease("test") is not None


def test_where_nothing_may_be_done_about_it_what_is_due_is_not_queued() -> None:
    world = World(queues_due=False)
    world.remember(next_at=b.NOW)
    world.timers.tick()
    assert world.store.queue.lease("test") is None


def test_a_key_that_is_due_is_not_touched_again_while_it_is_queued_or_running() -> None:
    world = World()
    world.remember(next_at=b.NOW)
    world.timers.tick()
    lease = world.store.queue.lease("test")
    assert lease is not None
    world.timers.tick()
    world.store.queue.done(lease, model.Outcome(key=KEY, status="done"))
    assert world.store.queue.depth() == (0, 0)


def test_leases_that_ran_out_are_freed() -> None:
    world = World()
    world.store.queue.touch([KEY], model.Priority.EVENT)
    assert world.store.queue.lease("dead") is not None
    world.clock.advance(31)
    world.timers.tick()
    assert world.store.queue.lease("living") is not None


def test_old_history_is_pruned() -> None:
    world = World()
    world.remember()
    world.timers.tick()
    assert world.store.history.outcomes(KEY, limit=9)
    world.clock.advance(31 * 86400)
    world.timers.tick()
    assert not world.store.history.outcomes(KEY, limit=9)


def test_the_depth_of_the_queue_is_a_metric() -> None:
    world = World()
    world.store.queue.touch([KEY], model.Priority.EVENT)
    world.timers.tick()
    waiting = world.metrics.registry.get_sample_value(
        "provisioner_queue_keys", {"state": "waiting"}
    )
    assert waiting == 1


def test_a_resync_runs_at_the_start_and_then_periodically() -> None:
    world = World()
    world.resync.tick()
    assert (world.runs, world.resync.begun) == (1, True)
    world.clock.advance(179)
    world.resync.tick()
    assert world.runs == 1
    world.clock.advance(2)
    world.resync.tick()
    assert world.runs == 2


def test_a_resync_that_is_asked_for_runs_at_once_and_once() -> None:
    world = World()
    world.resync.tick()
    resync.request(world.store.flags)
    world.resync.tick()
    world.resync.tick()
    assert world.runs == 2


def test_a_resync_that_fails_comes_back_sooner_than_the_next_regular_one() -> None:
    world = World()
    world.failure = errors.PortalUnavailable("no answer")
    world.resync.tick()
    world.clock.advance(5)
    world.resync.tick()
    assert world.runs == 2


def test_a_tick_tells_whether_there_is_anything_to_work_on() -> None:
    world = World()
    world.remember(next_at=b.NOW)
    assert world.timers.tick()
    assert not world.timers.tick()
    assert world.store.queue.lease("test") is not None
    world.clock.advance(30)
    assert world.timers.tick()
    assert world.resync.tick()
    assert not world.resync.tick()


def test_of_several_replicas_one_resyncs_a_period() -> None:
    world = World()
    replicas = [world.replica() for _ in range(3)]

    def tick() -> int:
        world.runs = 0
        for each in replicas:
            each.tick()
        return world.runs

    assert tick() == 1
    assert all(each.begun for each in replicas)
    for seconds in range(5, 180, 5):
        world.clock.advance(5)
        assert tick() == 0, seconds
    world.clock.advance(6)
    assert tick() == 1
    resync.request(world.store.flags)
    assert tick() == 1
    assert tick() == 0


def test_a_start_resyncs_unless_another_has_since() -> None:
    """While nobody served, nobody heard; that it was not due yet would be no comfort."""
    world = World()
    assert world.replica().tick()
    world.clock.advance(20)
    both = [world.replica(), world.replica()]
    assert [each.tick() for each in both] == [True, False]
    assert all(each.begun for each in both)
    world.clock.advance(6)
    assert not any(each.tick() for each in both)


def test_a_start_waits_for_a_resync_that_began_before_it() -> None:
    world = World()
    late: list[clockwork.ResyncTimer] = []

    def start_another() -> None:
        if not late:
            world.clock.advance(1)
            late.append(world.replica())
            assert not late[0].tick()

    world.run = start_another  # type: ignore[method-assign]
    assert world.replica().tick()
    world.clock.advance(6)
    assert late[0].tick()
    assert not late[0].tick()


class Died(BaseException):
    """End a process in the middle."""


def test_a_replica_that_dies_in_the_middle_of_a_resync_is_replaced() -> None:
    world = World()
    first, second = world.replica(), world.replica()
    seen: list[bool] = []

    def die() -> None:
        world.clock.advance(3)
        seen.append(second.tick())  # one at a time, also where somebody asks
        resync.request(world.store.flags)
        seen.append(second.tick())
        raise Died

    world.run = die  # type: ignore[method-assign]
    held = world.store.another_process_turns()
    held.end = lambda name, again_seconds: None  # type: ignore[method-assign,misc]
    dying = world.replica(held)
    with contextlib.suppress(Died):
        dying.tick()
    assert seen == [False, False]
    del world.run
    world.clock.advance(20)
    assert not second.tick()
    world.clock.advance(11)
    assert second.tick()
    assert not first.tick()
    assert world.runs == 1


def test_a_resync_that_fails_is_tried_again_soon_by_whoever_is_first() -> None:
    world = World()
    first, second = world.replica(), world.replica()
    world.failure = errors.PortalUnavailable("no answer")
    assert first.tick()
    world.failure = None
    world.clock.advance(5)
    assert second.tick()
    assert not first.tick()


def test_a_pause_that_the_portal_asks_for_begins_when_it_asks_and_holds_for_all() -> None:
    world = World()
    first, second = world.replica(), world.replica()

    def run() -> None:
        world.clock.advance(100)
        world.runs += 1
        raise errors.RateLimited("later", delay_seconds=90)

    world.run = run  # type: ignore[method-assign]
    assert first.tick()
    for _ in range(8):
        world.clock.advance(11)
        assert not first.tick()
        assert not second.tick()
    world.clock.advance(11)
    assert second.tick()
    assert world.runs == 2


def test_a_resync_that_takes_longer_than_its_period_leaves_a_pause() -> None:
    world = World()

    def run() -> None:
        world.runs += 1
        world.clock.advance(200)

    world.run = run  # type: ignore[method-assign]
    assert world.resync.tick()
    assert not world.resync.tick()
    world.clock.advance(6)
    assert world.resync.tick()


def test_a_portal_that_asks_for_time_gets_it_from_the_resync_too() -> None:
    world = World()
    world.failure = errors.RateLimited("later", delay_seconds=600)
    world.resync.tick()
    world.clock.advance(599)
    world.resync.tick()
    assert world.runs == 1
    world.clock.advance(2)
    world.resync.tick()
    assert world.runs == 2
