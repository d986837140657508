from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from provisioner import errors, model, telemetry
from provisioner.domain import backoff
from provisioner.loop import worker
from tests import builders as b
from tests import memory_portal, memory_store

KEY = model.Key.product(b.SALES)
OTHER = model.Key.product(b.MARKETING)


class Scripted:
    """Reconcile as the script says: raise, or return, one entry a run."""

    def __init__(self, *script: Exception | model.Outcome) -> None:
        self.script = list(script)
        self.runs: list[model.Key] = []
        self.guard: Callable[[], None] = lambda: None

    def reconcile(
        self, lease: model.Lease, guard: Callable[[], None] = lambda: None
    ) -> model.Outcome:
        self.runs.append(lease.key)
        self.guard = guard
        entry = self.script.pop(0) if self.script else model.Outcome(key=lease.key, status="done")
        if isinstance(entry, Exception):
            raise entry
        return entry


class World:
    def __init__(self, *script: Exception | model.Outcome) -> None:
        self.clock = memory_store.SettableClock(b.NOW)
        self.store = memory_store.MemoryStore(clock=self.clock)
        self.reconciler = Scripted(*script)
        self.portal = memory_portal.MemoryPortal()
        self.metrics = telemetry.Metrics()
        self.duty = worker.Duty(
            queue=self.store.queue,
            reconciler=self.reconciler,
            portal=self.portal,
            metrics=self.metrics,
            clock=self.clock,
            heartbeat_seconds=0.01,
        )
        self.store.queue.touch([KEY], model.Priority.EVENT)

    def run(self) -> model.Outcome:
        lease = self.store.queue.lease("test")
        assert lease is not None
        return worker.run_once(self.duty, lease, worker.Guard(lease, self.clock))

    def count(self, status: str) -> float:
        return (
            self.metrics.registry.get_sample_value(
                "provisioner_reconciles_total", {"status": status}
            )
            or 0.0
        )


def test_what_is_done_leaves_the_queue() -> None:
    world = World()
    assert world.run().status == "done"
    assert world.store.queue.depth() == (0, 0)
    assert world.count("done") == 1


def test_a_temporary_error_is_tried_again_after_the_delay_it_asks_for() -> None:
    world = World(errors.RateLimited("slower", delay_seconds=7))
    assert world.run().status == "retry"
    assert world.store.queue.lease("test") is None
    world.clock.advance(6.9)
    assert world.store.queue.lease("test") is None
    world.clock.advance(0.2)
    lease = world.store.queue.lease("test")
    assert lease is not None
    assert lease.attempts == 1


def test_a_temporary_error_without_a_delay_backs_off() -> None:
    world = World(errors.PortalUnavailable("no answer"))
    world.run()
    assert world.store.queue.lease("test") is None
    world.clock.advance(600)
    assert world.store.queue.lease("test") is not None


def test_a_permanent_error_becomes_an_outcome_and_is_not_retried() -> None:
    world = World(errors.PortalRejected("not allowed"))
    outcome = world.run()
    assert (outcome.status, outcome.message) == ("condition", "not allowed")
    assert world.store.queue.depth() == (0, 0)


def test_an_error_that_nobody_foresaw_is_counted_and_retried() -> None:
    world = World(ZeroDivisionError("secret text"))
    outcome = world.run()
    assert outcome.status == "retry"
    assert "secret text" not in outcome.message
    assert world.metrics.registry.get_sample_value("provisioner_unexpected_errors_total") == 1


def test_a_lost_lease_is_passed_on_and_nothing_is_written() -> None:
    world = World(errors.LeaseLost("gone"))
    with pytest.raises(errors.LeaseLost):
        world.run()
    assert world.store.history.outcomes(KEY, limit=5) == []


def test_consumers_of_a_touched_port_are_queued_before_the_producer_is_reconciled() -> None:
    world = World()
    consumer = b.a_consumer_view(b.a_link())
    world.portal.put(consumer)
    world.store.queue.touch([KEY], model.Priority.EVENT, ports=[b.ORDERS])
    world.run()
    lease = world.store.queue.lease("test")
    assert lease is not None
    assert lease.key == model.Key.product(b.MARKETING)


def test_a_portal_that_cannot_list_consumers_keeps_the_ports_for_the_retry() -> None:
    world = World()
    world.store.queue.touch([KEY], model.Priority.EVENT, ports=[b.ORDERS])
    world.portal.failure = errors.PortalUnavailable("no answer")
    world.run()
    world.clock.advance(600)
    lease = world.store.queue.lease("test")
    assert lease is not None
    assert lease.ports == {b.ORDERS}


def test_a_portal_that_refuses_to_list_consumers_does_not_hold_up_the_producer() -> None:
    world = World()
    world.store.queue.touch([KEY], model.Priority.EVENT, ports=[b.ORDERS])
    world.portal.failure = errors.PortalRejected("a private port")
    assert world.run().status == "done"
    assert world.reconciler.runs == [KEY]


def test_a_lease_that_no_heartbeat_extended_lets_no_effect_pass() -> None:
    world = World()
    lease = world.store.queue.lease("test")
    assert lease is not None
    guard = worker.Guard(lease, world.clock)
    world.clock.advance(29)
    guard()
    guard.extend(world.store.queue.heartbeat(lease))
    world.clock.advance(29)
    guard()
    world.clock.advance(1)
    with pytest.raises(errors.LeaseLost):
        guard()


def crew(world: World, **clockwork: Callable[[], object]) -> worker.Crew:
    return worker.Crew(world.duty, workers=2, clockwork=clockwork, shutdown_seconds=5)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads
            await asyncio.sleep(0)


def test_the_crew_works_what_is_queued_and_stops_when_asked() -> None:
    async def scenario() -> None:
        world = World()
        team = crew(world)
        team.start()
        await until(lambda: world.reconciler.runs == [KEY])
        assert all(team.alive().values())
        await team.stop()
        assert not any(team.alive().values())

    asyncio.run(scenario())


def test_a_wake_up_from_any_thread_starts_work_at_once() -> None:
    async def scenario() -> None:
        world = World()
        team = crew(world)
        team.start()
        await until(lambda: world.store.queue.depth() == (0, 0))
        world.store.queue.touch([KEY], model.Priority.EVENT)
        threading.Thread(target=team.wake).start()
        await until(lambda: len(world.reconciler.runs) == 2)
        await team.stop()

    asyncio.run(scenario())


def test_one_worker_at_a_time_looks_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        world = World()
        lease, inside, answer = world.store.queue.lease, threading.Semaphore(0), threading.Event()

        def look(owner: str) -> model.Lease | None:
            inside.release()
            answer.wait(5)
            return lease(owner)

        monkeypatch.setattr(world.store.queue, "lease", look)
        team = worker.Crew(world.duty, workers=4, clockwork={}, shutdown_seconds=5)
        team.start()
        assert await asyncio.to_thread(inside.acquire, timeout=5)
        assert not await asyncio.to_thread(inside.acquire, timeout=0.1)
        answer.set()
        await until(lambda: world.reconciler.runs == [KEY])
        await team.stop()

    asyncio.run(scenario())


class Died(BaseException):
    """End a task, as nothing does that is an error."""


def test_a_dead_task_is_seen() -> None:
    async def scenario() -> None:
        def die() -> None:
            raise Died

        team = crew(World(), timers=die)
        team.start()
        await until(lambda: not team.alive()["timers"])
        await team.stop()

    asyncio.run(scenario())


def test_a_store_that_fails_does_not_kill_the_clockwork() -> None:
    async def scenario() -> None:
        calls = []

        def tick() -> None:
            calls.append(1)
            raise errors.StoreUnavailable("locked")

        team = crew(World(), timers=tick)
        team.start()
        await until(lambda: len(calls) == 1)
        assert team.alive()["timers"]
        await team.stop()

    asyncio.run(scenario())


def test_a_clockwork_goes_on_after_what_nobody_foresaw_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "_TICK_SECONDS", 0.001)
    monkeypatch.setattr(backoff, "backoff_seconds", lambda failures, jitter: 0.001)
    world, calls = World(), list[int]()

    def tick() -> None:
        calls.append(1)
        raise KeyError("ContentLength")

    async def scenario() -> None:
        team = crew(world, ports=tick)
        team.start()
        await until(lambda: len(calls) > 2)
        assert team.alive()["ports"]
        await team.stop()

    asyncio.run(scenario())
    bugs = world.metrics.registry.get_sample_value("provisioner_unexpected_errors_total")
    assert bugs == len(calls)
    assert "KeyError" in caplog.text


def test_a_worker_outlives_an_error_outside_of_its_reconcile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    done, failures = world.store.queue.done, [ZeroDivisionError("a bug of the store")]

    def failing(lease: model.Lease, outcome: model.Outcome, *, rest_seconds: float) -> None:
        if failures:
            raise failures.pop()
        done(lease, outcome, rest_seconds=rest_seconds)

    monkeypatch.setattr(world.store.queue, "done", failing)

    async def scenario() -> None:
        team = worker.Crew(world.duty, workers=1, clockwork={}, shutdown_seconds=5)
        world.store.queue.touch([KEY], model.Priority.EVENT)
        team.start()
        await until(lambda: not failures)
        world.store.queue.touch([OTHER], model.Priority.EVENT)
        team.wake()
        await until(lambda: bool(world.store.history.outcomes(OTHER, limit=1)))
        assert all(team.alive().values())
        await team.stop()

    asyncio.run(scenario())
    bugs = world.metrics.registry.get_sample_value("provisioner_unexpected_errors_total")
    assert bugs == 1


def test_a_run_whose_lease_is_lost_is_told_before_its_next_effect() -> None:
    async def scenario() -> None:
        world = World()
        lost = threading.Event()

        class Slow(Scripted):
            def reconcile(
                self, lease: model.Lease, guard: Callable[[], None] = lambda: None
            ) -> model.Outcome:
                world.clock.advance(60)
                world.store.queue.reap()
                for _ in range(10_000):
                    try:
                        guard()
                    except errors.LeaseLost:
                        lost.set()
                        raise
                    threading.Event().wait(0.001)
                raise AssertionError("never told")

        world.duty = worker.Duty(
            queue=world.store.queue,
            reconciler=Slow(),
            portal=world.portal,
            metrics=world.metrics,
            clock=world.clock,
            heartbeat_seconds=0.01,
        )
        team = worker.Crew(world.duty, workers=1, clockwork={}, shutdown_seconds=5)
        team.start()
        await until(lost.is_set)
        await team.stop()

    asyncio.run(scenario())


def test_a_run_that_outlives_the_grace_period_begins_no_further_effect() -> None:
    async def scenario() -> None:
        world = World()
        begun, told = threading.Event(), threading.Event()

        class Stuck(Scripted):
            def reconcile(
                self, lease: model.Lease, guard: Callable[[], None] = lambda: None
            ) -> model.Outcome:
                begun.set()
                for _ in range(10_000):
                    try:
                        guard()
                    except errors.LeaseLost:
                        told.set()
                        raise
                    threading.Event().wait(0.001)
                raise AssertionError("never told")

        duty = dataclasses.replace(world.duty, reconciler=Stuck(), heartbeat_seconds=10)
        team = worker.Crew(duty, workers=1, clockwork={}, shutdown_seconds=0)
        team.start()
        await until(begun.is_set)
        await team.stop()
        await until(told.is_set)

    asyncio.run(scenario())


def test_a_key_that_failed_is_looked_for_when_it_is_due_and_not_before_the_next_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "_POLL_SECONDS_HEARING", 60.0)

    async def scenario() -> None:
        world = World(errors.RateLimited("slower", delay_seconds=0.05))
        team = worker.Crew(
            world.duty, workers=1, clockwork={}, shutdown_seconds=5, hears=lambda: True
        )
        team.start()
        await until(lambda: world.reconciler.runs == [KEY])
        world.clock.advance(1)
        await until(lambda: world.reconciler.runs == [KEY, KEY])
        await team.stop()

    asyncio.run(scenario())


class Touched(Scripted):
    """Touch the key during its first run, which takes its time by the clock."""

    def __init__(self, world: World, *, seconds: float) -> None:
        super().__init__()
        self.world = world
        self.seconds = seconds

    def reconcile(
        self, lease: model.Lease, guard: Callable[[], None] = lambda: None
    ) -> model.Outcome:
        if not self.runs:
            self.world.store.queue.touch([lease.key], model.Priority.EVENT)
            self.world.clock.advance(self.seconds)
        return super().reconcile(lease, guard)


@pytest.mark.parametrize("failure", [None, errors.RateLimited("slower", delay_seconds=60)])
def test_a_key_touched_during_its_run_rests_for_longer_than_it_ran(
    failure: Exception | None,
) -> None:
    world = World()
    touched = Touched(world, seconds=0.004)
    touched.script = [failure] if failure else []
    world.duty = dataclasses.replace(world.duty, reconciler=touched)
    world.run()
    world.clock.advance(0.099)
    assert world.store.queue.lease("test") is None
    world.clock.advance(0.002)
    assert world.store.queue.lease("test") is not None


def test_a_key_that_rests_is_looked_for_when_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_POLL_SECONDS_HEARING", 60.0)

    async def scenario() -> None:
        world = World()
        touched = Touched(world, seconds=0.004)
        duty = dataclasses.replace(world.duty, reconciler=touched)
        team = worker.Crew(duty, workers=1, clockwork={}, shutdown_seconds=5, hears=lambda: True)
        team.start()
        await until(lambda: len(touched.runs) == 1 and world.store.queue.depth() == (1, 0))
        world.clock.advance(1)
        await until(lambda: touched.runs == [KEY, KEY])
        await team.stop()

    asyncio.run(scenario())


def test_where_wake_ups_are_heard_nobody_looks_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(worker, "_POLL_SECONDS_HEARING", 60.0)

    async def looks(*, hearing: bool) -> int:
        world = World()
        looked: list[str] = []
        monkeypatch.setattr(world.store.queue, "lease", looked.append)
        team = worker.Crew(
            world.duty, workers=1, clockwork={}, shutdown_seconds=5, hears=lambda: hearing
        )
        team.start()
        await until(lambda: len(looked) >= (1 if hearing else 3))
        await asyncio.sleep(0.1 if hearing else 0)
        await team.stop()
        return len(looked)

    assert asyncio.run(looks(hearing=True)) == 1
    assert asyncio.run(looks(hearing=False)) >= 3


def test_a_clockwork_that_queued_something_wakes_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "_POLL_SECONDS_HEARING", 60.0)

    async def scenario() -> None:
        world = World()
        ticked = threading.Event()

        def tick() -> bool:
            if len(world.reconciler.runs) != 1 or ticked.is_set():
                return False
            world.store.queue.touch([KEY], model.Priority.RESYNC)
            ticked.set()
            return True

        monkeypatch.setattr(worker, "_TICK_SECONDS", 0.01)
        team = worker.Crew(
            world.duty,
            workers=1,
            clockwork={"timers": tick},
            shutdown_seconds=5,
            hears=lambda: True,
        )
        team.start()
        await until(lambda: len(world.reconciler.runs) == 2)
        await team.stop()

    asyncio.run(scenario())


def test_a_lost_lease_is_reported_because_its_last_call_may_have_come_too_late() -> None:
    world = World(errors.LeaseLost("gone"))
    lost: list[model.Key] = []
    duty = dataclasses.replace(world.duty, on_lost=lost.append)
    lease = world.store.queue.lease("test")
    assert lease is not None
    assert asyncio.run(worker.run(duty, lease)) is None
    assert lost == [KEY]


def test_a_store_that_fails_is_reported_once_until_it_is_well_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "_POLL_SECONDS", 0.001)
    caplog.set_level("INFO", "provisioner.loop.worker")

    async def scenario() -> None:
        world = World()
        lease, failures = world.store.queue.lease, [1, 2, 3]

        def look(owner: str) -> model.Lease | None:
            if failures:
                failures.pop()
                raise errors.StoreUnavailable("away")
            return lease(owner)

        monkeypatch.setattr(world.store.queue, "lease", look)
        team = crew(world)
        team.start()
        await until(lambda: world.reconciler.runs == [KEY])
        await team.stop()

    asyncio.run(scenario())
    said = [record.message for record in caplog.records]
    assert said == ["no work can be taken: the store failed", "work can be taken again"]


def test_a_wake_up_after_the_end_is_ignored() -> None:
    async def scenario() -> worker.Crew:
        team = crew(World())
        team.start()
        await team.stop()
        return team

    team = asyncio.run(scenario())
    team.wake()
    assert not any(team.alive().values())


def test_a_clockwork_that_goes_on_failing_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "_TICK_SECONDS", 0.001)
    caplog.set_level("WARNING", "provisioner.loop.worker")
    script = ["away", "away", "", "away", "locked"]

    def tick() -> bool:
        said = script.pop(0) if script else ""
        if said:
            raise errors.StoreUnavailable(said)
        return False

    async def scenario() -> None:
        team = crew(World(), timers=tick)
        team.start()
        await until(lambda: not script)
        await team.stop()

    asyncio.run(scenario())
    reasons = [record.__dict__["each"][0]["reason"] for record in caplog.records]
    assert reasons == ["away", "away", "locked"]


def test_poison_never_starves_the_others_however_long_it_fails() -> None:
    poison = [model.Key.product(b.an_id(number)) for number in range(100, 105)]
    good = [model.Key.product(b.an_id(number)) for number in range(200, 220)]

    class Poisoned(Scripted):
        def reconcile(
            self, lease: model.Lease, guard: Callable[[], None] = lambda: None
        ) -> model.Outcome:
            if lease.key in poison:
                raise RuntimeError("whatever the product, nobody foresaw this")
            return super().reconcile(lease, guard)

    world = World()
    world.run()
    world.duty = dataclasses.replace(world.duty, reconciler=Poisoned())
    runs = 0
    for _ in range(60):
        world.store.queue.touch([*poison, *good], model.Priority.RESYNC)
        world.clock.advance(180)
        done: list[model.Outcome] = []
        while world.store.queue.depth() != (0, 0) and len(done) < len(good):
            outcome = world.run()
            runs += 1
            done += [outcome] if outcome.status == "done" else []
        assert {outcome.key for outcome in done} == set(good)
    assert runs <= 60 * (len(good) + len(poison))
    # All that it costs is its share of a resync, and less and less of that.
    world.clock.advance(600)
    late = world.store.queue.lease("test")
    assert late is not None
    assert late.attempts >= 20


def test_ten_thousand_failures_in_a_row_are_one_more_retry() -> None:
    world = World(errors.PortalUnavailable("no answer"))
    lease = world.store.queue.lease("test")
    assert lease is not None
    tired = dataclasses.replace(lease, attempts=10_000)
    outcome = worker.run_once(world.duty, tired, worker.Guard(tired, world.clock))
    assert outcome.next_at is not None
    assert outcome.next_at - world.clock() <= timedelta(minutes=5)
