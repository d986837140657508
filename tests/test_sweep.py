from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from provisioner import errors, model, names, telemetry
from provisioner.loop import sweep
from tests import builders as b
from tests import memory_s3, memory_store


def an_id(number: int) -> str:
    """Return an id that names a principal of its own."""
    return f"{number:08}-0000-4000-8000-000000000000"


STRANGER = an_id(99999999)


class World:
    """An engine with the principals of a fleet, and a store that knows them."""

    def __init__(self, products: int = 3) -> None:
        self.clock = memory_store.SettableClock(b.NOW)
        self.store = memory_store.MemoryStore(clock=self.clock)
        self.issuer = memory_s3.MemoryIssuer(clock=self.clock)
        self.metrics = telemetry.Metrics()
        for number in range(1, products + 1):
            self.provision(an_id(number))
        self.restart()

    def restart(self) -> None:
        self.sweep = sweep.Sweep(
            self.issuer,
            records=self.store.records,
            flags=self.store.flags,
            clock=self.clock,
            hours=24,
            metrics=self.metrics,
            turns=self.store.another_process_turns(),
        )

    def provision(self, identity: str) -> None:
        name = self.strand(identity)
        key = model.Key.product(identity)
        held = model.Credentials(principal=name)
        self.store.queue.touch([key], model.Priority.EVENT)
        lease = self.store.queue.lease("test")
        assert lease is not None
        record = model.Record(key=key, namespace="sales", credentials=held)
        self.store.records.save(record, lease)
        self.store.queue.done(lease, model.Outcome(key=key, status="done"))

    def strand(self, identity: str) -> str:
        """Make a principal that the store does not know."""
        name = names.principal("sales", identity)
        self.issuer.ensure_principal(model.Principal(name=name, product_id=identity))
        return name

    @property
    def said(self) -> str | None:
        return self.store.flags.get(sweep.FOREIGN)

    @property
    def counted(self) -> float | None:
        return self.metrics.registry.get_sample_value("provisioner_foreign_principals")

    @property
    def swept(self) -> str | None:
        return self.store.flags.get(sweep.SWEPT)


def test_a_fleet_in_order_has_no_foreign_principals() -> None:
    world = World(products=1201)  # several pages
    assert world.sweep.run() == ()
    assert (world.said, world.counted) == (None, 0)


def test_a_principal_with_our_mark_that_nobody_here_knows_is_reported_and_left() -> None:
    world = World()
    stranger = world.strand(STRANGER)
    assert world.sweep.run() == (stranger,)
    assert (world.said, world.counted) == (f"1: {stranger}", 1)
    assert stranger in world.issuer.held


def test_principals_without_our_mark_are_nobodys_business_of_ours() -> None:
    world = World()
    world.issuer.plant("alice")
    assert world.sweep.run() == ()


def test_what_is_released_while_it_looks_is_not_called_foreign() -> None:
    world = World()
    going = world.strand(STRANGER)
    listing = world.issuer.principals

    def list_then_release() -> tuple[model.Principal, ...]:
        listed = listing()
        world.issuer.held.pop(going, None)
        return listed

    world.issuer.principals = list_then_release  # type: ignore[method-assign]
    assert world.sweep.run() == ()
    assert world.said is None


def test_many_are_counted_and_the_first_are_named() -> None:
    world = World()
    for number in range(40, 60):
        world.strand(an_id(5000 + number))
    assert len(world.sweep.run()) == 20
    assert world.said is not None
    assert world.said.startswith("20: dp-sales-00005040, ")
    assert world.said.endswith("dp-sales-00005049, ...")


def test_what_is_gone_is_said_no_more() -> None:
    world = World()
    stranger = world.strand(STRANGER)
    world.sweep.run()
    del world.issuer.held[stranger]
    world.sweep.run()
    assert (world.said, world.counted) == (None, 0)


def test_the_first_sweep_waits_for_the_start_to_be_over() -> None:
    world = World()
    world.sweep.tick()
    assert world.swept is None
    world.clock.advance(61)
    world.sweep.tick()
    assert world.swept == world.clock().isoformat()


def test_it_sweeps_every_so_often_whatever_is_restarted() -> None:
    world = World()
    world.sweep.tick()
    world.clock.advance(61)
    world.sweep.tick()
    first = world.swept
    world.clock.advance(3600)
    world.sweep.tick()
    world.restart()
    world.sweep.tick()
    world.clock.advance(61)
    world.sweep.tick()
    assert world.swept == first
    world.clock.advance(timedelta(hours=24).total_seconds())
    world.sweep.tick()
    assert world.swept == world.clock().isoformat()


def test_an_engine_that_does_not_answer_is_asked_again_later_and_later() -> None:
    world = World()
    stranger = world.strand(STRANGER)
    world.sweep.run()
    before, asked = world.said, 0

    def refuse() -> tuple[model.Principal, ...]:
        nonlocal asked
        asked += 1
        raise errors.IssuerUnavailable("no answer")

    listing, world.issuer.principals = world.issuer.principals, refuse  # type: ignore[method-assign]
    world.clock.advance(25 * 3600)
    world.sweep.tick()
    for _ in range(300):
        world.clock.advance(1)
        world.sweep.tick()
    assert asked == 3
    assert world.said == before == f"1: {stranger}"
    world.issuer.principals = listing  # type: ignore[method-assign]
    world.clock.advance(3600)
    world.sweep.tick()
    assert world.swept == world.clock().isoformat()


def test_what_was_found_is_a_metric_again_after_a_restart() -> None:
    world = World()
    world.strand(STRANGER)
    world.sweep.run()
    world.metrics = telemetry.Metrics()
    world.restart()
    world.sweep.tick()
    assert world.counted == 1


def test_a_store_that_does_not_answer_is_the_callers_to_tell() -> None:
    world = World()

    def fail(*, limit: int, after: model.Key | None = None) -> tuple[model.Record, ...]:
        raise errors.StoreUnavailable("no answer")

    world.store.records.page = fail  # type: ignore[method-assign]
    world.sweep.tick()
    world.clock.advance(61)
    with pytest.raises(errors.StoreUnavailable):
        world.sweep.tick()


def test_a_released_product_whose_principal_came_back_is_foreign() -> None:
    world = World(products=1)
    key = model.Key.product(an_id(1))
    world.store.queue.touch([key], model.Priority.EVENT)
    lease = world.store.queue.lease("test")
    record = world.store.records.load(key)
    assert lease is not None
    assert record is not None
    released = dataclasses.replace(record, credentials=model.Credentials())
    world.store.records.save(released, lease)
    assert world.sweep.run() == (record.credentials.principal,)


def test_of_several_replicas_one_sweeps_and_all_show_what_it_found() -> None:
    world = World()
    first = world.sweep
    world.metrics = telemetry.Metrics()
    world.restart()
    second = world.sweep
    world.issuer.ensure_principal(model.Principal(name="dp-stranger", product_id=STRANGER))
    calls = 0
    listed = world.issuer.principals

    def counted() -> tuple[model.Principal, ...]:
        nonlocal calls
        calls += 1
        return listed()

    world.issuer.principals = counted  # type: ignore[method-assign]
    for _ in range(3):
        for each in (first, second):
            each.tick()
        world.clock.advance(70)
    assert calls == 2  # one sweep, which looks twice where it finds anything
    assert world.metrics.registry.get_sample_value("provisioner_foreign_principals") == 1
