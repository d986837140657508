"""Purge: what a released product left is deleted, after a delay or because a person asks."""

from __future__ import annotations

import pytest

from provisioner import errors, model
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import SALES, MemoryWorld

DELAY = 3600
HEIR_ID = "f1000000-0000-4000-8000-000000000009"


def deleted(*, delay: int | None = DELAY, objects: int = 5) -> MemoryWorld:
    """Return a world in which sales was renamed, filled and deleted."""
    world = MemoryWorld(w.a_producer(), purge_delay_seconds=delay)
    world.settle(SALES)
    world.objects.objects["sales/old"] = b"0"
    world.portal.change(SALES, namespace="sales-eu")
    world.settle(SALES)
    for number in range(objects):
        world.objects.objects[f"sales-eu/{number}"] = b"1"
    world.objects.objects["sales-eu-2/theirs"] = b"2"
    world.portal.delete(SALES)
    world.settle(SALES)
    return world


def is_purged(world: MemoryWorld) -> bool:
    left = set(world.objects.objects) == {"sales-eu-2/theirs"} and not world.folders.archived
    return left and world.record(SALES).purged_at is not None


def ask(world: MemoryWorld) -> None:
    world.store.asks.ask([SALES], model.Ask.PURGE)


def test_nothing_is_deleted_before_the_delay_is_over() -> None:
    world = deleted()
    next_at = world.record(SALES).next_at
    released_at = world.record(SALES).released_at
    assert next_at is not None
    assert released_at is not None
    assert (next_at - released_at).total_seconds() == DELAY
    world.settle(SALES)
    assert "sales-eu/0" in world.objects.objects
    assert set(world.folders.archived) == {b.SALES}


def test_after_the_delay_data_workspace_and_marks_go_by_themselves() -> None:
    world = deleted()
    world.clock.advance(DELAY)
    assert SALES in world.store.records.due(world.clock())
    world.settle(SALES)
    assert is_purged(world)
    assert world.record(SALES).next_at is None
    assert world.record(SALES).former == ()


def test_a_purge_is_done_once() -> None:
    world = deleted()
    world.clock.advance(DELAY)
    world.settle(SALES)
    purged_at = world.record(SALES).purged_at
    world.objects.objects["sales/heir"] = b"new"
    world.clock.advance(DELAY)
    ask(world)
    world.settle(SALES)
    assert world.record(SALES).purged_at == purged_at
    assert "sales/heir" in world.objects.objects


def test_archiving_keeps_everything_for_ever() -> None:
    world = deleted(delay=None)
    assert world.record(SALES).next_at is None
    world.clock.advance(10 * 365 * 86400)
    world.settle(SALES)
    assert "sales-eu/0" in world.objects.objects
    assert world.record(SALES).purged_at is None


@pytest.mark.parametrize("delay", [None, DELAY])
def test_a_person_who_asks_does_not_wait(delay: int | None) -> None:
    world = deleted(delay=delay)
    ask(world)
    world.settle(SALES)
    assert is_purged(world)
    assert world.store.asks.of(SALES) == {}


def test_a_product_that_lives_is_not_purged() -> None:
    world = MemoryWorld(w.a_producer())
    world.settle(SALES)
    objects = dict(world.objects.objects)
    ask(world)
    world.settle(SALES)
    assert world.objects.objects == objects
    assert world.store.asks.of(SALES) == {}


def test_a_name_that_was_purged_is_free() -> None:
    world = deleted()
    world.clock.advance(DELAY)
    world.settle(SALES)
    heir = world.portal.put(model.PortalView(product=b.a_product(HEIR_ID, "sales-eu")))
    world.settle(heir)
    assert world.may("sales-eu", "s3:PutObject", "sales-eu/x")
    assert world.record(heir).conditions == ()


def test_a_prefix_whose_mark_names_another_is_never_touched() -> None:
    world = deleted()
    world.objects.adopt("sales-eu", HEIR_ID)
    world.clock.advance(DELAY)
    world.settle(SALES)
    assert "sales-eu/0" in world.objects.objects
    assert world.objects.owner("sales-eu") == HEIR_ID
    assert "sales/old" not in world.objects.objects


def test_a_prefix_that_changes_hands_in_the_middle_is_left_alone_from_then_on() -> None:
    world = deleted(objects=9)
    seen = 0

    def adopt(effect: str) -> None:
        nonlocal seen
        seen += effect == "purge-prefix"
        if seen == 3:
            world.objects.adopt("sales-eu", HEIR_ID)

    ask(world)
    world.checkpoint = adopt
    world.reconcile(SALES)
    left = [key for key in world.objects.objects if key.startswith("sales-eu/")]
    assert len(left) == 10 - 2 * world.objects.batch
    assert world.objects.owner("sales-eu") == HEIR_ID


def test_a_lost_lease_stops_between_two_batches_and_the_rest_goes_later() -> None:
    world = deleted(objects=9)

    def lose(effect: str) -> None:
        if effect == "purge-prefix" and "sales-eu/1" not in world.objects.objects:
            raise errors.LeaseLost("gone")

    ask(world)
    world.checkpoint = lose
    with pytest.raises(errors.LeaseLost):
        world.reconcile(SALES)
    assert world.record(SALES).purging
    assert "sales-eu/8" in world.objects.objects
    world.restart()
    world.settle(SALES)
    assert is_purged(world)
    assert not world.record(SALES).purging


def test_an_engine_that_is_away_leaves_the_date_of_the_release() -> None:
    world = deleted()
    released_at = world.record(SALES).released_at
    world.clock.advance(DELAY)
    world.objects.down = True
    assert world.reconcile(SALES).status == "retry"
    assert world.record(SALES).released_at == released_at
    world.objects.down = False
    world.clock.advance(61)
    world.settle(SALES)
    assert is_purged(world)


def test_objects_that_cannot_be_deleted_are_a_condition_and_not_tried_every_second() -> None:
    world = deleted()

    def refuse(prefix: str) -> bool:
        raise errors.PermanentError("an object cannot be deleted")

    purge = world.objects.purge
    world.objects.purge = refuse  # type: ignore[method-assign]
    world.clock.advance(DELAY)
    assert world.reconcile(SALES).status == "condition"
    assert world.record(SALES).released_at is not None
    assert world.store.records.due(world.clock()) == ()
    world.objects.purge = purge  # type: ignore[method-assign]
    ask(world)
    world.settle(SALES)
    assert is_purged(world)


def test_a_product_that_came_back_is_not_purged_and_has_its_data() -> None:
    world = deleted()
    world.portal.put(w.a_producer())
    world.portal.change(SALES, namespace="sales-eu")
    world.clock.advance(DELAY)
    world.settle(SALES)
    assert world.may("sales-eu", "s3:GetObject", "sales-eu/0")
    assert world.may("sales-eu", "s3:GetObject", "sales/old")
    assert world.record(SALES).released_at is None


def test_a_product_that_comes_back_while_it_is_purged_keeps_what_is_left() -> None:
    world = deleted(objects=9)

    def stop(effect: str) -> None:
        if effect == "purge-prefix" and "sales-eu/1" not in world.objects.objects:
            raise w.Killed

    ask(world)
    world.checkpoint = stop
    with pytest.raises(w.Killed):
        world.reconcile(SALES)
    world.restart()
    world.portal.put(w.a_producer())
    world.settle(SALES)
    assert not world.record(SALES).purging
    assert "sales-eu/8" in world.objects.objects


def test_the_portal_must_be_sure_that_the_product_is_gone() -> None:
    world = deleted()
    world.clock.advance(DELAY)
    world.portal.failure = errors.PortalUnavailable("away")
    assert world.reconcile(SALES).status == "retry"
    assert "sales-eu/0" in world.objects.objects


def test_what_was_never_ours_leaves_nothing_to_purge() -> None:
    world = MemoryWorld(model.PortalView(product=b.a_product(namespace="..")))
    world.reconcile(SALES)
    world.portal.delete(SALES)
    world.settle(SALES)
    ask(world)
    world.settle(SALES)
    assert world.record(SALES).purged_at is not None
