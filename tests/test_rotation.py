"""Rotate because a person asked: the key in `.env` works throughout, unless it has leaked."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from provisioner import errors, model
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import MARKETING, SALES, MemoryWorld


@pytest.fixture(params=[False, True], ids=["engine-chooses", "we-choose"])
def world(request: pytest.FixtureRequest) -> MemoryWorld:
    world = MemoryWorld(w.a_producer(), b.a_consumer_view(), chooses_key_ids=request.param)
    for key in (SALES, MARKETING):
        world.settle(key)
    world.clock.advance(60)
    return world


def key_of(world: MemoryWorld) -> model.AccessKey:
    found = world.published_key("marketing")
    assert found is not None
    return found


def test_who_asks_gets_a_new_key_and_the_old_one_its_grace(world: MemoryWorld) -> None:
    old = key_of(world)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    assert world.reconcile(MARKETING).status == "done"
    new = key_of(world)
    assert new != old
    assert world.issuer.knows(old)
    assert world.store.asks.of(MARKETING) == {}
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.settle(MARKETING)
    assert not world.issuer.knows(old)
    assert key_of(world) == new


def test_asking_once_rotates_once(world: MemoryWorld) -> None:
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    new = key_of(world)
    world.settle(MARKETING)
    assert key_of(world) == new


def test_a_person_does_not_wait_for_a_grace_to_end(world: MemoryWorld) -> None:
    first = key_of(world)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    second = key_of(world)
    world.clock.advance(60)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    assert not world.issuer.knows(first)
    assert world.issuer.knows(second)
    assert world.issuer.knows(key_of(world))
    assert key_of(world) not in (first, second)


def test_a_key_that_is_still_in_env_never_retires_early(world: MemoryWorld) -> None:
    def stop(effect: str) -> None:
        if effect == "publish-files":
            raise w.Killed

    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.checkpoint = stop
    with pytest.raises(w.Killed):
        world.reconcile(MARKETING)
    world.restart()
    in_env = key_of(world)
    world.clock.advance(60)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.checkpoint = lambda effect: _alive(world)
    world.settle(MARKETING)
    assert key_of(world) != in_env
    assert world.store.asks.of(MARKETING) == {}


def _alive(world: MemoryWorld) -> None:
    assert world.issuer.knows(key_of(world))


def test_what_was_asked_is_due_again_until_it_is_done(world: MemoryWorld) -> None:
    world.prober.down = True
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    assert world.reconcile(MARKETING).status == "retry"
    assert model.Ask.ROTATE in world.store.asks.of(MARKETING)
    assert world.issuer.knows(key_of(world))
    world.prober.down = False
    old = key_of(world)
    world.clock.advance(61)
    world.settle(MARKETING)
    assert key_of(world) != old


def test_keys_that_leaked_die_at_once_with_those_that_retire(world: MemoryWorld) -> None:
    first = key_of(world)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    second = key_of(world)
    world.clock.advance(60)
    world.store.asks.ask([MARKETING], model.Ask.COMPROMISED)
    assert world.reconcile(MARKETING).status == "done"
    assert not world.issuer.knows(first)
    assert not world.issuer.knows(second)
    assert world.issuer.knows(key_of(world))
    assert world.store.asks.of(MARKETING) == {}
    third = key_of(world)
    world.settle(MARKETING)
    assert key_of(world) == third


def test_keys_that_leaked_die_although_the_portal_does_not_answer(world: MemoryWorld) -> None:
    leaked = key_of(world)
    world.portal.failure = errors.PortalUnavailable("no answer")
    world.store.asks.ask([MARKETING], model.Ask.COMPROMISED)
    assert world.reconcile(MARKETING).status == "retry"
    assert not world.issuer.knows(leaked)
    world.portal.failure = None
    world.clock.advance(61)
    world.settle(MARKETING)
    assert world.issuer.knows(key_of(world))


def test_a_clock_that_is_behind_the_askers_rotates_once(world: MemoryWorld) -> None:
    world.clock.advance(30)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.clock.now -= timedelta(seconds=30)
    assert world.reconcile(MARKETING).status == "done"
    assert world.store.asks.of(MARKETING) == {}


def test_a_product_without_keys_has_nothing_to_rotate(world: MemoryWorld) -> None:
    world.portal.change(MARKETING, status=model.ProductStatus.ARCHIVED)
    world.settle(MARKETING)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    assert world.store.asks.of(MARKETING) == {}
    assert world.record(MARKETING).credentials.current is None


def test_a_key_that_is_doubted_is_replaced_without_waiting_for_its_age(world: MemoryWorld) -> None:
    old = key_of(world)
    lease = _leased(world)
    record = world.record(MARKETING)
    doubted = _doubted(record)
    world.store.records.save(doubted, lease)
    world.store.queue.done(lease, model.Outcome(key=MARKETING, status="done"))
    world.settle(MARKETING)
    assert key_of(world) != old
    assert not world.record(MARKETING).credentials.doubted


def _leased(world: MemoryWorld) -> model.Lease:
    world.store.queue.touch([MARKETING], model.Priority.EVENT)
    lease = world.store.queue.lease("test")
    assert lease is not None
    return lease


def _doubted(record: model.Record) -> model.Record:
    held = dataclasses.replace(record.credentials, doubted=True)
    return dataclasses.replace(record, credentials=held)
