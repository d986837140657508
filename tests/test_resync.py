from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import pytest

from provisioner import errors, model, telemetry
from provisioner.domain import plan
from provisioner.loop import resync
from tests import builders as b
from tests import memory_portal, memory_store, memory_world


class World:
    """A portal with products that are all in order, and the resync that looks at them."""

    def __init__(self, count: int, *, at_once: int = 1, really_waits: bool = False) -> None:
        self.clock = memory_store.SettableClock(b.NOW)
        self.store = memory_store.MemoryStore(clock=self.clock)
        views = [
            model.PortalView(product=b.a_product(b.an_id(n), f"product-{n}"))
            for n in range(1, count + 1)
        ]
        self.portal = memory_portal.MemoryPortal(*views)
        self.metrics = telemetry.Metrics()
        self.settle(self.portal.views)
        self.waits: list[float] = []
        self.on_wait: Callable[[], object] = lambda: None
        self.resync = resync.Resync(
            portal=self.portal,
            desires=self,
            digests=self.store.records,
            queue=self.store.queue,
            flags=self.store.flags,
            metrics=self.metrics,
            at_once=at_once,
            sleep=None if really_waits else self.wait,
        )

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.on_wait()

    def desired(
        self, key: model.Key, listed: Mapping[str, model.Product] | None = None
    ) -> model.Desired:
        view = self.portal.view(key, listed=listed)
        rules = plan.Rules(bucket="lake")
        return plan.desired(key, view, rules=rules, namespaces={}, now=self.clock())

    def settle(self, keys: Iterable[model.Key]) -> None:
        """Pretend that every key was reconciled."""
        for key in keys:
            self.store.queue.touch([key], model.Priority.EVENT)
            lease = self.store.queue.lease("test")
            assert lease is not None
            wanted = self.desired(key)
            assert wanted.product is not None
            record = model.Record(
                key=key, namespace=wanted.product.namespace, settled_digest=wanted.digest
            )
            self.store.records.save(record, lease)
            self.store.queue.done(lease, model.Outcome(key=key, status="done"))

    def queued(self) -> set[model.Key]:
        found = set()
        while lease := self.store.queue.lease("test"):
            found.add(lease.key)
        return found

    def vanish(self, count: int) -> set[model.Key]:
        gone = set(sorted(self.portal.views)[:count])
        for key in gone:
            del self.portal.views[key]
        return gone


def test_what_is_in_order_is_not_queued() -> None:
    world = World(3)
    report = world.resync.run()
    assert (report.listed, report.queued) == (3, 0)
    assert world.queued() == set()


def test_what_is_new_or_changed_is_queued() -> None:
    world = World(3)
    new = world.portal.put(model.PortalView(product=b.a_product(b.an_id(9), "new")))
    changed = sorted(world.portal.views)[0]
    world.portal.change(changed, name="Other")
    world.resync.run()
    assert world.queued() == {new, changed}


def test_a_product_that_vanished_is_queued_for_its_own_look() -> None:
    world = World(8)
    gone = world.vanish(1)
    assert world.resync.run().vanished == 1
    assert world.queued() == gone


@pytest.mark.parametrize(
    ("known", "gone", "held_back"), [(8, 5, False), (8, 6, True), (80, 8, False), (80, 9, True)]
)
def test_releasing_too_much_at_once_releases_nothing(
    known: int, gone: int, held_back: bool
) -> None:
    world = World(known)
    keys = world.vanish(gone)
    assert world.resync.run().guarded is held_back
    assert world.queued() == (set() if held_back else keys)
    assert (world.store.flags.get(resync.MASS_DELETION) is not None) is held_back


def test_products_being_deleted_count_for_the_guard_too() -> None:
    world = World(8)
    for key in sorted(world.portal.views)[:6]:
        world.portal.change(key, status=model.ProductStatus.DELETING)
    assert world.resync.run().guarded
    assert world.queued() == set()


def test_a_held_back_deletion_goes_on_once_a_person_confirms_it() -> None:
    world = World(8)
    keys = world.vanish(7)
    world.resync.run()
    resync.request(world.store.flags, confirm_deletions=True)
    assert not world.resync.run().guarded
    assert world.queued() == keys
    assert world.store.flags.get(resync.MASS_DELETION) is None
    assert world.store.flags.get(resync.CONFIRMED) is None


def test_a_confirmation_that_was_not_needed_is_not_kept_for_later() -> None:
    world = World(8)
    resync.request(world.store.flags, confirm_deletions=True)
    world.resync.run()
    world.vanish(7)
    assert world.resync.run().guarded
    assert world.queued() == set()


def test_one_product_that_cannot_be_read_does_not_hold_up_the_others() -> None:
    world = World(8)
    broken = sorted(world.portal.views)[0]
    world.portal.failures[broken] = errors.PortalUnavailable("malformed")
    gone = world.vanish(2) - {broken}
    world.portal.views[broken] = model.PortalView(product=b.a_product(broken.id, "broken"))
    assert world.resync.run().queued == 2
    assert world.queued() == {broken, *gone}


def test_the_guard_does_not_keep_new_products_waiting() -> None:
    world = World(8)
    world.vanish(7)
    new = world.portal.put(model.PortalView(product=b.a_product(b.an_id(99), "new")))
    assert world.resync.run().guarded
    assert world.queued() == {new}


def test_an_empty_listing_releases_nothing() -> None:
    world = World(2)
    world.vanish(2)
    assert world.resync.run().guarded
    assert world.queued() == set()


@pytest.mark.parametrize(
    "failure", [errors.PortalUnavailable("no answer"), errors.PortalRejected("not allowed")]
)
def test_a_listing_that_fails_releases_nothing(failure: errors.ReconcileError) -> None:
    world = World(3)
    world.portal.failure = failure
    with pytest.raises(type(failure)):
        world.resync.run()
    world.portal.failure = None
    assert world.queued() == set()


def test_the_flag_of_the_guard_goes_when_the_portal_is_whole_again() -> None:
    world = World(8)
    views = dict(world.portal.views)
    world.vanish(7)
    world.resync.run()
    world.portal.views.update(views)
    world.resync.run()
    assert world.store.flags.get(resync.MASS_DELETION) is None


# explorations


def an_exploration(world: World, number: int) -> model.Key:
    """Add an exploration to the portal."""
    product = b.a_product(b.an_id(number), f"exploration-{number}")
    return world.portal.put(model.PortalView(product=product), model.Kind.EXPLORATION)


def with_explorations(count: int = 2) -> tuple[World, list[model.Key]]:
    """Make a world with two products and some explorations, all in order."""
    world = World(2)
    keys = [an_exploration(world, 100 + n) for n in range(count)]
    world.settle(keys)
    return world, keys


def test_explorations_in_order_are_not_queued() -> None:
    world, _ = with_explorations()
    assert (world.resync.run().listed, world.queued()) == (4, set())


def test_a_new_exploration_is_queued() -> None:
    world, _ = with_explorations()
    new = an_exploration(world, 200)
    world.resync.run()
    assert world.queued() == {new}


def test_an_exploration_that_is_not_listed_any_more_is_queued() -> None:
    world, keys = with_explorations()
    del world.portal.views[keys[0]]
    assert world.resync.run().vanished == 1
    assert world.queued() == {keys[0]}


def test_an_exploration_that_is_being_deleted_is_queued() -> None:
    world, keys = with_explorations()
    world.portal.change(keys[1], status=model.ProductStatus.DELETING)
    world.resync.run()
    assert world.queued() == {keys[1]}


def test_the_last_explorations_are_released_once_the_portal_says_that_they_are_gone() -> None:
    world, keys = with_explorations()
    for key in keys:
        del world.portal.views[key]
    assert not world.resync.run().guarded
    assert world.queued() == set(keys)


def test_a_portal_that_knows_no_explorations_releases_none() -> None:
    world, _ = with_explorations()
    world.portal.knows_explorations = False
    report = world.resync.run()
    assert (report.listed, report.vanished, report.guarded) == (2, 0, False)
    assert world.queued() == set()


@pytest.mark.parametrize(
    "failure", [errors.PortalUnavailable("no answer"), errors.PortalRejected("not allowed")]
)
def test_explorations_that_cannot_be_listed_hold_up_no_product(
    failure: errors.ReconcileError,
) -> None:
    world, keys = with_explorations()
    del world.portal.views[keys[0]]
    new = world.portal.put(model.PortalView(product=b.a_product(b.an_id(9), "new")))
    world.portal.explorations_failure = failure
    assert world.resync.run().vanished == 0
    assert world.queued() == {new}


def test_explorations_count_for_the_guard() -> None:
    world, keys = with_explorations(7)
    for key in keys[:6]:
        del world.portal.views[key]
    assert world.resync.run().guarded
    assert world.queued() == set()


def test_an_empty_listing_of_products_holds_explorations_back_too() -> None:
    world, keys = with_explorations()
    del world.portal.views[keys[0]]
    world.vanish(3)
    assert world.resync.run().guarded
    assert world.queued() == set()


def test_touched_ports_are_expanded_to_everyone_the_portal_lists() -> None:
    consumer = dataclasses.replace(
        b.a_consumer_view(b.a_link(model.LinkStatus.PENDING)), producers=()
    )
    producer = model.PortalView(product=b.a_product(), ports=(b.a_port(),))
    portal = memory_portal.MemoryPortal(producer, consumer)
    lease = model.Lease(key=model.Key.product(b.SALES), token="t", expires_at=b.NOW, attempts=0)
    for ports in (frozenset({b.ORDERS}), frozenset({"*"})):
        touched = resync.expand(portal, dataclasses.replace(lease, ports=ports))
        assert touched == {model.Key.product(b.MARKETING)}
    assert resync.expand(portal, dataclasses.replace(lease, ports=frozenset({b.REFUNDS}))) == set()


def test_what_the_guard_holds_back_is_not_released_one_by_one_either() -> None:
    views = [model.PortalView(product=b.a_product(b.an_id(n), f"product-{n}")) for n in range(1, 8)]
    world = memory_world.MemoryWorld(*views)
    keys = [model.Key.product(view.product.id) for view in views]
    for key in keys:
        world.settle(key)
    world.portal.views.clear()
    world.store.flags.put(resync.MASS_DELETION, "7 of 7 products would be released")
    assert {world.reconcile(key).status for key in keys} == {"condition"}
    assert len(world.live_keys()) == 7
    assert [each.type for each in world.record(keys[0]).conditions] == ["MassDeletion"]
    world.store.flags.put(resync.MASS_DELETION, None)
    for key in keys:
        world.settle(key)
    assert world.live_keys() == set()
    world.store.flags.put(resync.MASS_DELETION, "others")
    assert world.reconcile(keys[0]).status == "done"
    assert world.reconcile(model.Key.product(b.an_id(9))).message == "unknown to the portal"


def test_a_resync_waits_where_the_portal_asks_for_it_and_goes_on() -> None:
    world = World(3)
    limited = sorted(world.portal.views)[1]
    world.portal.failures[limited] = errors.RateLimited("later", delay_seconds=30)

    def relent() -> None:
        if len(world.waits) == 2:
            world.portal.failures.clear()

    world.on_wait = relent
    assert world.resync.run().queued == 0
    assert world.waits == [30, 30]


def test_a_resync_that_would_have_to_wait_long_ends_and_releases_nothing() -> None:
    world = World(3)
    world.vanish(1)
    last = sorted(world.portal.views)[-1]
    world.portal.failures[last] = errors.RateLimited("later", delay_seconds=600)
    with pytest.raises(errors.RateLimited):
        world.resync.run()
    assert world.queued() == set()
    assert world.waits == []


def test_products_are_compared_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(6, at_once=3)
    changed = sorted(world.portal.views)[4]
    world.portal.change(changed, name="Other")
    desired, together = world.desired, threading.Barrier(3, timeout=20)

    def meeting(key: model.Key, listed: Mapping[str, model.Product] | None = None) -> model.Desired:
        if listed is not None:
            together.wait()
        return desired(key, listed)

    monkeypatch.setattr(world, "desired", meeting)
    assert world.resync.run().queued == 1
    assert world.queued() == {changed}


def test_a_confirmation_outlives_a_resync_that_fails() -> None:
    world = World(8)
    last = sorted(world.portal.views)[-1]
    keys = world.vanish(7)
    resync.request(world.store.flags, confirm_deletions=True)
    world.portal.failures[last] = errors.RateLimited("later", delay_seconds=600)
    with pytest.raises(errors.RateLimited):
        world.resync.run()
    assert world.queued() == set()
    world.portal.failures.clear()
    assert not world.resync.run().guarded
    assert world.queued() == keys
    assert world.store.flags.get(resync.CONFIRMED) is None


def test_a_resync_that_is_stopped_ends_before_the_next_product_and_releases_nothing() -> None:
    world = World(4)
    world.vanish(1)
    first, second, _ = sorted(world.portal.views)
    world.portal.change(first, name="Other")
    world.portal.failures[second] = errors.RateLimited("later", delay_seconds=30)
    world.on_wait = world.resync.stop
    with pytest.raises(errors.Stopping):
        world.resync.run()
    assert world.waits == [30]
    assert world.queued() == {first}
    count = world.metrics.registry.get_sample_value
    assert count("provisioner_resyncs_total", {"status": "stopped"}) == 1


def test_a_stop_ends_the_wait_that_the_portal_asked_for() -> None:
    world = World(1, really_waits=True)
    (only,) = world.portal.views
    world.portal.failures[only] = errors.RateLimited("later", delay_seconds=60)
    timer = threading.Timer(0.01, world.resync.stop)
    timer.start()
    began = time.monotonic()
    with pytest.raises(errors.Stopping):
        world.resync.run()
    assert time.monotonic() - began < 30
    timer.join()


def test_what_was_found_before_the_portal_failed_is_queued() -> None:
    world = World(3)
    first, *_, last = sorted(world.portal.views)
    world.portal.change(first, name="Other")
    world.portal.failures[last] = errors.RateLimited("later", delay_seconds=600)
    with pytest.raises(errors.RateLimited):
        world.resync.run()
    assert world.queued() == {first}


def test_what_nobody_foresaw_of_one_product_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(3)
    first, _, last = sorted(world.portal.views)
    world.portal.change(last, name="Other")
    desired = world.desired

    def failing(key: model.Key, listed: Mapping[str, model.Product] | None = None) -> model.Desired:
        if key == first:
            raise KeyError("a bug of ours")
        return desired(key, listed)

    monkeypatch.setattr(world, "desired", failing)
    world.resync.run()
    assert world.queued() == {first, last}
    bugs = world.metrics.registry.get_sample_value("provisioner_unexpected_errors_total")
    assert bugs == 1


def test_a_resync_gives_up_on_a_portal_that_says_later_for_ever() -> None:
    world = World(3)
    first = sorted(world.portal.views)[0]
    world.portal.failures[first] = errors.RateLimited("later")
    with pytest.raises(errors.RateLimited):
        world.resync.run()
    assert world.waits == [1.0] * 5


def test_a_list_that_says_less_than_the_pages_has_nothing_done_for_nothing() -> None:
    world = World(3)
    said = world.portal.products

    def less() -> tuple[model.Product, ...]:
        return tuple(dataclasses.replace(each, finalizers=None) for each in said())

    world.portal.products = less  # type: ignore[method-assign]
    assert world.resync.run().queued == 0
