"""Adopt: an operator hands a dead product's folder or prefix to the one that has its name now."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from provisioner import errors, model
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import MARKETING, SALES, MemoryWorld

HEIR_ID = "f1000000-0000-4000-8000-000000000009"
HEIR = model.Key.product(HEIR_ID)
DATA = "sales/orders/x"


@pytest.fixture
def world() -> MemoryWorld:
    """Sales is dead, marketing read its port, and an heir has the name."""
    world = MemoryWorld(w.a_producer(), b.a_consumer_view(b.a_link()))
    for key in (SALES, MARKETING):
        world.settle(key)
    world.objects.objects[DATA] = b"old"
    world.portal.delete(SALES)
    world.settle(SALES)
    world.portal.put(b.a_consumer_view())  # the portal deleted its links with the port
    world.settle(MARKETING)
    world.portal.put(model.PortalView(product=b.a_product(HEIR_ID, "sales")))
    world.reconcile(HEIR)
    return world


def conditions(world: MemoryWorld, key: model.Key = HEIR) -> list[str]:
    return [each.type for each in world.record(key).conditions]


def adopt(world: MemoryWorld, key: model.Key = HEIR) -> None:
    world.clock.advance(1)
    world.store.asks.ask([key], model.Ask.ADOPT)
    world.reconcile(key)


def test_nothing_is_inherited_until_somebody_says_so(world: MemoryWorld) -> None:
    assert conditions(world) == ["NotOurs"]
    assert world.published_key("sales") is None
    assert not world.may("marketing", "s3:GetObject", DATA)


def test_what_was_adopted_is_the_heirs(world: MemoryWorld) -> None:
    adopt(world)
    assert conditions(world) == []
    assert world.objects.owner("sales") == HEIR_ID
    assert world.may("sales", "s3:GetObject", DATA)
    assert not world.may("marketing", "s3:GetObject", DATA)
    assert world.store.asks.of(HEIR) == {}
    assert world.record(SALES).namespace == "sales"


def test_adopting_twice_is_as_good_as_once(world: MemoryWorld) -> None:
    adopt(world)
    objects = dict(world.objects.objects)
    adopt(world)
    assert world.objects.objects == objects
    assert conditions(world) == []


def test_adopted_data_outlive_the_purge_of_their_former_owner(world: MemoryWorld) -> None:
    adopt(world)
    world.store.asks.ask([SALES], model.Ask.PURGE)
    world.settle(SALES)
    assert world.record(SALES).purged_at is not None
    assert world.objects.objects[DATA] == b"old"
    assert world.objects.owner("sales") == HEIR_ID
    assert world.folders.archived == {}


def test_a_former_owner_that_came_back_does_not_get_its_prefix_back(world: MemoryWorld) -> None:
    adopt(world)
    world.portal.put(w.a_producer())
    assert world.reconcile(SALES).status == "condition"
    assert conditions(world, SALES) == ["NotOurs"]
    assert {b.SALES} & {held.product_id for held in world.issuer.held.values()} == set()


def test_a_folder_of_unknown_files_is_adopted_as_it_is(world: MemoryWorld) -> None:
    world.objects.objects.clear()
    world.folders.put("sales", "README.md", "mine")
    world.reconcile(HEIR)
    assert conditions(world) == ["NotOurs"]
    adopt(world)
    assert conditions(world) == []
    assert world.file("sales", "README.md") == "mine"
    assert "S3_PREFIX=sales/" in (world.file("sales", ".env") or "")
    assert world.record(HEIR).workspace.template_digest == ""


def test_no_template_reaches_an_adopted_folder_though_one_was_rendered_there_before(
    world: MemoryWorld,
) -> None:
    world.portal.delete(HEIR)
    world.portal.put(w.a_producer())
    world.objects.objects.clear()
    world.folders.put("sales", "README.md", "mine")
    world.reconcile(SALES)
    assert conditions(world, SALES) == ["NotOurs"]
    adopt(world, SALES)
    assert conditions(world, SALES) == []
    world.folders.template["models/new.sql"] = "select 1\n"
    world.folders.digest = "template-2"
    world.settle(SALES)
    assert world.file("sales", "models/new.sql") is None
    assert world.record(SALES).workspace.template_digest == ""
    assert world.file("sales", "README.md") == "mine"


def test_objects_that_nobody_owns_are_adopted(world: MemoryWorld) -> None:
    del world.objects.objects[".provisioner/owners/sales.json"]
    world.reconcile(HEIR)
    assert conditions(world) == ["NotOurs"]
    adopt(world)
    assert world.may("sales", "s3:GetObject", DATA)


def test_the_new_name_of_a_rename_is_adopted_for_it(world: MemoryWorld) -> None:
    world.portal.change(MARKETING, namespace="sales")
    del world.portal.views[HEIR]
    world.settle(MARKETING)
    assert conditions(world, MARKETING) == ["NotOurs", "RenamePending"]
    adopt(world, MARKETING)
    assert conditions(world, MARKETING) == []
    assert world.may("sales", "s3:GetObject", DATA)


def test_a_folder_where_a_workspace_is_to_move_is_not_adopted(world: MemoryWorld) -> None:
    world.folders.put("campaigns", "thesis.txt", "mine")
    world.portal.change(MARKETING, namespace="campaigns")
    adopt(world, MARKETING)
    assert "AdoptRefused" in conditions(world, MARKETING)
    assert world.folders.folders["campaigns"].files == {"thesis.txt": "mine"}
    world.settle(MARKETING)
    assert conditions(world, MARKETING) == ["NotOurs", "RenamePending"]


def lives(world: MemoryWorld) -> None:
    alive = dataclasses.replace(world.record(SALES), released_at=None)
    world.store.records._state.records[SALES] = alive


def is_known_to_the_portal_alone(world: MemoryWorld) -> None:
    del world.store.records._state.records[SALES]
    world.portal.put(w.a_producer())
    world.portal.change(SALES, namespace="elsewhere")


def has_keys(world: MemoryWorld) -> None:
    principal = model.Principal(name="dp-sales-old", product_id=b.SALES)
    world.issuer.ensure_principal(principal)
    world.issuer.create_key(principal, None, {})


def is_being_purged(world: MemoryWorld) -> None:
    purged = dataclasses.replace(world.record(SALES), purging=True)
    world.store.records._state.records[SALES] = purged


@pytest.mark.parametrize("why", [lives, is_known_to_the_portal_alone, has_keys, is_being_purged])
def test_what_may_still_be_somebodys_is_not_adopted(
    world: MemoryWorld, why: Callable[[MemoryWorld], None]
) -> None:
    why(world)
    adopt(world)
    assert conditions(world) == ["AdoptRefused"]
    assert world.objects.owner("sales") == b.SALES
    assert world.published_key("sales") is None
    assert world.store.asks.of(HEIR) == {}


def test_a_mark_that_names_no_product_is_adopted(world: MemoryWorld) -> None:
    world.objects.adopt("sales", "not an id")
    adopt(world)
    assert conditions(world) == []


def test_a_portal_that_is_away_leaves_the_wish_for_later(world: MemoryWorld) -> None:
    world.portal.failures[SALES] = errors.PortalUnavailable("away")
    adopt(world)
    assert world.objects.owner("sales") == b.SALES
    assert model.Ask.ADOPT in world.store.asks.of(HEIR)
    world.portal.failures.clear()
    world.clock.advance(120)
    world.settle(HEIR)
    assert world.objects.owner("sales") == HEIR_ID


@pytest.mark.parametrize("status", [model.ProductStatus.ARCHIVED, model.ProductStatus.DELETING])
def test_only_a_living_product_adopts(world: MemoryWorld, status: model.ProductStatus) -> None:
    world.portal.change(HEIR, status=status)
    adopt(world)
    assert world.objects.owner("sales") == b.SALES


def test_an_unsafe_name_adopts_nothing() -> None:
    world = MemoryWorld(model.PortalView(product=b.a_product(namespace="..")))
    adopt(world, SALES)
    assert conditions(world, SALES) == ["NameRejected"]
