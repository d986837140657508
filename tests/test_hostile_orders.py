"""Hold the promises on keys and access in orders of events that no single step foresees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest

from provisioner import errors, model
from provisioner.domain import loss
from provisioner.loop import worker
from provisioner.steps import role
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


def rotate(world: MemoryWorld) -> None:
    world.clock.advance(60)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    world.clock.advance(60)


def lose_store(world: MemoryWorld) -> None:
    """Lose what the store knew of marketing."""
    del world.store.records._state.records[MARKETING]


def refuse_keys(world: MemoryWorld) -> None:
    """Let no key work yet."""
    world.prober.prove = lambda *each, **other: False  # type: ignore[method-assign]


def run_if_ready(world: MemoryWorld) -> bool:
    """Do what a worker does each second; tell whether there was anything to do."""
    lease = world.store.queue.lease("test")
    if lease is not None:
        worker.run_once(world.duty, lease, worker.Guard(lease, world.clock))
    return lease is not None


def stop_where(world: MemoryWorld, is_there: Callable[[str], bool]) -> None:
    """Reconcile until right before an effect, then start again."""

    def watch(name: str) -> None:
        if is_there(name):
            raise w.Killed

    world.checkpoint = watch
    with pytest.raises(w.Killed):
        world.reconcile(MARKETING)
    world.restart()


@pytest.mark.parametrize("retires", [False, True], ids=["one-key", "one-more-retires"])
def test_a_product_active_again_after_a_killing_that_stopped_gets_a_key_that_works(
    world: MemoryWorld, retires: bool
) -> None:
    if retires:
        rotate(world)
    world.portal.change(MARKETING, status=model.ProductStatus.ARCHIVED)
    stop_where(world, lambda name: name == "save" and not world.issuer.knows(key_of(world)))
    world.portal.change(MARKETING, status=model.ProductStatus.ACTIVE)
    assert world.reconcile(MARKETING).status == "done"
    assert world.issuer.knows(key_of(world))
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.settle(MARKETING)
    assert len(world.issuer.held[world.record(MARKETING).credentials.principal].keys) == 1


@pytest.mark.parametrize("moment", ["save", "create-key", "prove-key", "publish-files"])
def test_a_leak_that_is_reported_while_a_rotation_runs_kills_the_key_it_replaces(
    world: MemoryWorld, moment: str
) -> None:
    leaked = key_of(world)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)

    def report(name: str) -> None:
        world.clock.advance(1)
        if name == moment:
            world.checkpoint = lambda effect: world.clock.advance(1)
            world.store.asks.ask([MARKETING], model.Ask.COMPROMISED)

    world.checkpoint = report
    world.reconcile(MARKETING)
    assert model.Ask.COMPROMISED in world.store.asks.of(MARKETING)
    world.reconcile(MARKETING)
    assert not world.issuer.knows(leaked)
    assert world.issuer.knows(key_of(world))
    assert world.store.asks.of(MARKETING) == {}


def test_a_key_that_does_not_work_is_tried_less_and_less_often(world: MemoryWorld) -> None:
    refuse_keys(world)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    assert world.reconcile(MARKETING).status == "retry"
    runs = 0
    for _ in range(3600):
        world.clock.advance(1)
        runs += run_if_ready(world)
    assert 10 < runs < 40


def test_an_engine_without_room_for_a_key_is_asked_less_and_less_often() -> None:
    world = MemoryWorld(b.a_consumer_view())
    world.settle(MARKETING)
    rotate(world)
    lease = lost_secrets(world)
    assert worker.run_once(world.duty, lease, worker.Guard(lease, world.clock))
    runs = 0
    for _ in range(w.GRACE_SECONDS - 200):
        world.clock.advance(1)
        runs += run_if_ready(world)
    assert runs < 40
    assert world.issuer.knows(key_of(world))
    world.clock.advance(500)
    world.settle(MARKETING)
    assert world.record(MARKETING).credentials.current == key_of(world)
    assert world.issuer.knows(key_of(world))


def lost_secrets(world: MemoryWorld) -> model.Lease:
    """Lose the sealing key, and lease the product."""
    world.store.queue.touch([MARKETING], model.Priority.EVENT)
    lease = world.store.queue.lease("test")
    assert lease is not None
    grace = timedelta(seconds=w.GRACE_SECONDS)
    record = loss.without_secrets(world.record(MARKETING), now=world.clock(), grace=grace)
    world.store.records.save(record, lease)
    return lease


def test_a_lost_store_and_a_key_that_bounces_leave_the_key_in_env_alone(
    world: MemoryWorld,
) -> None:
    lose_store(world)
    prove, answers = world.prober.prove, iter([False, False])

    def bounce(*each: object, **other: object) -> bool:
        return next(answers, True) and prove(*each, **other)  # type: ignore[arg-type]

    world.prober.prove = bounce  # type: ignore[method-assign]
    world.checkpoint = lambda name: _alive(world)
    world.settle(MARKETING)
    assert next(answers, None) is None
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.settle(MARKETING)
    assert len(world.issuer.held[world.record(MARKETING).credentials.principal].keys) == 1


def _alive(world: MemoryWorld) -> None:
    assert world.issuer.knows(key_of(world))


def test_a_lost_store_and_no_room_for_a_key_cost_the_older_key_alone(world: MemoryWorld) -> None:
    rotate(world)
    assert len(world.issuer.held[world.record(MARKETING).credentials.principal].keys) == 2
    lose_store(world)
    world.checkpoint = lambda name: _alive(world)
    world.settle(MARKETING)
    assert world.record(MARKETING).credentials.current == key_of(world)


def test_a_name_that_cannot_be_taken_back_does_not_keep_the_workers_busy() -> None:
    world = MemoryWorld(w.a_producer())
    world.settle(SALES)
    world.portal.change(SALES, namespace="sales-eu")
    world.settle(SALES)
    world.clock.advance(60)
    world.folders.put("sales", "x", "somebody's")
    world.portal.change(SALES, namespace="sales")
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.reconcile(SALES)
    assert "NotOurs" in {each.type for each in world.record(SALES).conditions}
    assert world.store.records.due(world.clock()) == ()


def test_a_portal_that_is_down_holds_no_killing_up_although_consumers_were_to_be_found(
    world: MemoryWorld,
) -> None:
    leaked = key_of(world)
    world.portal.failure = errors.PortalUnavailable("no answer")
    world.store.queue.touch([MARKETING], model.Priority.EVENT, ports=["*"])
    world.store.asks.ask([MARKETING], model.Ask.COMPROMISED)
    assert world.reconcile(MARKETING).status == "retry"
    assert not world.issuer.knows(leaked)
    world.portal.failure = None
    world.clock.advance(301)
    lease = world.store.queue.lease("test")
    assert lease is not None
    assert lease.ports == {"*"}


ROLE = role.Wanted(template="{namespace}", trust="{}")


def test_a_role_whose_policy_has_no_room_loses_what_was_revoked_all_the_same() -> None:
    world = MemoryWorld(w.a_producer(), b.a_consumer_view(b.a_link()), role_wanted=ROLE)
    for key in (SALES, MARKETING):
        world.settle(key)
    object_ = "arn:aws:s3:::lake/sales/orders/x"
    assert world.roles.allowed("marketing", "s3:GetObject", object_)
    refunds = b.a_port(b.REFUNDS, "refunds")
    view = b.a_consumer_view(b.a_link(port=b.REFUNDS), port=refunds)
    world.portal.put(dataclasses.replace(view, product=world.portal.views[MARKETING].product))
    before = len(str(world.roles.held["marketing"].document)) - 100
    world.roles._limit = before
    world.reconcile(MARKETING)
    assert not world.roles.allowed("marketing", "s3:GetObject", object_)
    assert world.roles.allowed("marketing", "s3:GetObject", "arn:aws:s3:::lake/marketing/x")
    assert "PolicyTooLarge" in {each.type for each in world.record(MARKETING).conditions}


def test_access_that_a_role_could_not_be_denied_is_tried_again_at_the_next_resync() -> None:
    world = MemoryWorld(w.a_producer(), b.a_consumer_view(b.a_link()), role_wanted=ROLE)
    for key in (SALES, MARKETING):
        world.settle(key)
    view = b.a_consumer_view(b.a_link(model.LinkStatus.REVOKED))
    world.portal.put(dataclasses.replace(view, product=world.portal.views[MARKETING].product))
    world.roles.refuses = True
    world.reconcile(MARKETING)
    assert world.record(MARKETING).settled_digest == ""


def test_a_leak_that_a_clock_behind_ours_reports_kills_the_key_all_the_same(
    world: MemoryWorld,
) -> None:
    rotate(world)
    leaked = key_of(world)
    issued_at = world.record(MARKETING).credentials.issued_at
    assert issued_at is not None
    now, world.clock.now = world.clock.now, issued_at - timedelta(seconds=30)
    world.store.asks.ask([MARKETING], model.Ask.COMPROMISED)
    world.clock.now = now
    assert world.reconcile(MARKETING).status == "done"
    assert not world.issuer.knows(leaked)
    assert world.store.asks.of(MARKETING) == {}
    replaced = key_of(world)
    world.settle(MARKETING)
    assert key_of(world) == replaced


def test_a_leak_reported_after_the_store_was_lost_kills_the_keys_from_before(
    world: MemoryWorld,
) -> None:
    leaked = key_of(world)
    lose_store(world)
    world.store.asks.ask([MARKETING], model.Ask.COMPROMISED)
    world.reconcile(MARKETING)
    assert not world.issuer.knows(leaked)
    assert world.issuer.knows(key_of(world))
    assert world.store.asks.of(MARKETING) == {}


def test_a_dead_key_is_replaced_although_another_one_retires(world: MemoryWorld) -> None:
    world.issuer.max_live_keys = 3
    rotate(world)
    dead = key_of(world)
    record = world.record(MARKETING)
    world.issuer.held[record.credentials.principal].keys.pop(dead.id)
    world.store.queue.touch([MARKETING], model.Priority.EVENT)
    lease = world.store.queue.lease("test")
    assert lease is not None
    doubted = dataclasses.replace(record.credentials, doubted=True)
    world.store.records.save(dataclasses.replace(record, credentials=doubted), lease)
    worker.run_once(world.duty, lease, worker.Guard(lease, world.clock))
    assert world.issuer.knows(key_of(world))


def test_an_earlier_prefix_is_kept_while_a_key_whose_secret_was_lost_may_open_it() -> None:
    world = MemoryWorld(w.a_producer(), b.a_consumer_view())
    for key in (SALES, MARKETING):
        world.settle(key)
    lease = lost_secrets(world)
    record = world.record(MARKETING)
    unknown = dataclasses.replace(record.credentials, policy_digest="")
    world.store.records.save(dataclasses.replace(record, credentials=unknown), lease)
    world.store.queue.done(lease, model.Outcome(key=MARKETING, status="done"))
    world.portal.change(SALES, namespace="sales-eu")
    world.reconcile(SALES)
    world.clock.advance(w.GRACE_SECONDS + 1)
    assert world.reconcile(SALES).status == "retry"
    assert world.objects.owner("sales") == b.SALES
