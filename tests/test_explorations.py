"""Explorations consume: a workspace and keys that read what was granted, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import pytest

from provisioner import errors, model
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import SALES, MemoryWorld

WHY = model.Key(model.Kind.EXPLORATION, b.an_id(7))
Status = model.LinkStatus


def asking(
    status: model.LinkStatus = Status.APPROVED, *, namespace: str = "why", mode: str = "read"
) -> model.PortalView:
    """Describe an exploration that asked for the port of sales."""
    link = dataclasses.replace(b.a_link(status, mode=mode), consumer=WHY)
    exploration = b.a_product(WHY.id, namespace, lifecycle="")
    return dataclasses.replace(b.a_consumer_view(link), product=exploration)


def alone() -> model.PortalView:
    return model.PortalView(product=b.a_product(WHY.id, "why", lifecycle=""))


def a_world(view: model.PortalView, *, chooses_key_ids: bool = False) -> MemoryWorld:
    """Make a world with sales provisioned, and an exploration that is not yet."""
    world = MemoryWorld(w.a_producer(), chooses_key_ids=chooses_key_ids)
    world.settle(SALES)
    world.portal.views[WHY] = view
    return world


def environment(world: MemoryWorld) -> dict[str, str]:
    lines = (world.file("why", ".env") or "").splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_an_exploration_gets_a_workspace_and_a_key_and_nothing_else() -> None:
    world = a_world(asking())
    objects = dict(world.objects.objects)
    assert world.reconcile(WHY).status == "done"
    assert [effect for effect in world.effects if effect != "save"] == [
        "add-finalizer",
        "ensure-principal",
        "put-policy",
        "create-key",
        "remember-key",
        "prove-key",
        "create-workspace",
    ]
    assert world.objects.objects == objects
    assert world.portal.views[WHY].assets == ()
    assert world.portal.views[WHY].product.lifecycle == ""
    assert world.folders.specs["why"].context["product_kind"] == "exploration"


def test_its_key_reads_what_was_granted_and_writes_nowhere() -> None:
    world = a_world(asking())
    world.settle(WHY)
    assert world.may("why", "s3:GetObject", "sales/orders/x")
    assert not world.may("why", "s3:PutObject", "sales/orders/x")
    for place in ("sales/x", "why/x", ".provisioner/owners/sales.json"):
        assert not world.may("why", "s3:GetObject", place)
        assert not world.may("why", "s3:PutObject", place)
    (row,) = json.loads(world.file("why", "ports.json") or "")["inputs"]
    assert row["name"] == "sales__orders"


def test_without_a_grant_its_key_may_do_nothing_and_its_workspace_is_there_all_the_same() -> None:
    world = a_world(alone())
    world.settle(WHY)
    assert world.published_key("why") is not None
    assert not world.may("why", "s3:GetObject", "why/x")
    assert json.loads(world.file("why", "ports.json") or "") == {"outputs": [], "inputs": []}


def test_its_env_names_an_empty_prefix_so_that_no_other_is_inherited() -> None:
    world = a_world(alone())
    world.settle(WHY)
    assert list(environment(world))[:5] == [
        "S3_ENDPOINT",
        "S3_BUCKET",
        "S3_PREFIX",
        "S3_ACCESS_KEY",
        "S3_SECRET_KEY",
    ]
    assert environment(world)["S3_PREFIX"] == ""


def test_approval_and_revocation_reach_it() -> None:
    world = a_world(asking(Status.PENDING))
    world.settle(WHY)
    assert not world.may("why", "s3:GetObject", "sales/orders/x")
    world.portal.views[WHY] = asking()
    world.settle(WHY)
    assert world.may("why", "s3:GetObject", "sales/orders/x")
    world.portal.views[WHY] = asking(Status.REVOKED)
    world.settle(WHY)
    assert not world.may("why", "s3:GetObject", "sales/orders/x")


def test_a_grant_that_writes_lets_it_write_there() -> None:
    world = a_world(asking(mode="write"))
    world.settle(WHY)
    assert world.may("why", "s3:PutObject", "sales/orders/x")
    assert not world.may("why", "s3:PutObject", "sales/x")


def test_a_refused_finalizer_is_a_condition_and_all_else_goes_on() -> None:
    world = a_world(asking())
    world.portal.refusal = errors.PortalRejected("the portal refused", status=403)
    assert world.reconcile(WHY).status == "done"
    assert [each.type for each in world.record(WHY).conditions] == ["PortalRejected"]
    assert world.may("why", "s3:GetObject", "sales/orders/x")


def test_one_whose_finalizer_was_refused_is_released_once_it_is_gone() -> None:
    world = a_world(asking())
    world.portal.refusal = errors.PortalRejected("the portal refused", status=403)
    world.reconcile(WHY)
    before = world.live_keys()
    world.portal.refusal = None
    world.portal.delete(WHY)
    world.settle(WHY)
    assert world.record(WHY).released_at is not None
    assert len(world.live_keys()) == len(before) - 1
    assert world.file("why", ".env") is None
    assert list(world.folders.archived) == [WHY.id]


def test_a_deleted_one_is_waited_for_and_loses_its_key_first() -> None:
    world = a_world(asking())
    world.settle(WHY)
    world.portal.delete(WHY)
    world.settle(WHY)
    order = [e for e in world.portal.writes if "finalizer" in e]
    assert order[-1] == "remove_finalizer"
    assert WHY not in world.portal.views
    assert "sales/.keep" in world.objects.objects


@pytest.mark.parametrize("chooses", [False, True], ids=["engine-chooses", "we-choose"])
def test_planning_after_applying_yields_nothing(*, chooses: bool) -> None:
    world = a_world(asking(), chooses_key_ids=chooses)
    preview = world.observer.preview(WHY)
    assert {action.step for action in preview.actions} == {"finalizer", "credentials", "workspace"}
    assert [(change.gains, change.location.prefix) for change in preview.access] == [
        (True, "sales/orders/")
    ]
    world.settle(WHY)
    assert world.observer.preview(WHY).actions == ()
    before = world.record(WHY)
    world.reconcile(WHY)
    assert world.effects == []
    assert world.record(WHY) == before


def test_its_key_is_replaced_by_age_too() -> None:
    world = a_world(asking())
    world.settle(WHY)
    old = world.published_key("why")
    world.clock.advance(timedelta(days=30).total_seconds())
    world.settle(WHY)
    assert world.published_key("why") != old
    assert world.may("why", "s3:GetObject", "sales/orders/x")


def test_what_somebody_changed_of_it_by_hand_is_found_and_repaired() -> None:
    world = a_world(asking())
    world.settle(WHY)
    (name,) = (each for each, held in world.issuer.held.items() if held.product_id == WHY.id)
    world.clock.advance(600)
    world.issuer.held[name].keys.clear()
    world.issuer.held[name].document = {"Statement": []}
    world.store.asks.ask([WHY], model.Ask.VERIFY)
    assert world.reconcile(WHY).status == "done"
    (drifted,) = (each for each in world.record(WHY).conditions if each.type == "Drifted")
    assert drifted.message.startswith("found and repaired: the policy was changed")
    assert world.may("why", "s3:GetObject", "sales/orders/x")
    world.store.asks.ask([WHY], model.Ask.VERIFY)
    world.reconcile(WHY)
    assert "Drifted" not in {each.type for each in world.record(WHY).conditions}
    assert not any(key.startswith("why/") for key in world.objects.objects)


def test_a_key_that_does_not_work_is_not_published() -> None:
    world = a_world(alone())

    def lose_every_key() -> None:
        for held in world.issuer.held.values():
            held.keys.clear()

    world.prober.on_round = lose_every_key
    assert world.reconcile(WHY).status == "retry"
    assert world.published_key("why") is None


def test_it_is_queued_when_the_producer_gets_its_prefix() -> None:
    world = MemoryWorld(w.a_producer())
    world.portal.views[WHY] = asking()
    world.reconcile(WHY)
    assert [each.type for each in world.record(WHY).conditions] == ["ProducerNotReady"]
    world.reconcile(SALES)
    lease = world.store.queue.lease("test")
    assert lease is not None
    assert lease.key == WHY


def test_a_product_of_the_same_name_keeps_its_folder_and_its_prefix() -> None:
    world = a_world(asking(namespace="sales"))
    assert world.reconcile(WHY).status == "condition"
    assert [each.type for each in world.record(WHY).conditions] == ["NotOurs"]
    assert world.record(WHY).credentials.principal == ""
    world.settle(SALES)
    assert world.record(SALES).conditions == ()
    named = world.store.records.by_namespace("sales")
    assert named is not None
    assert named.key == SALES


def test_what_an_exploration_is_said_to_offer_is_left_out() -> None:
    view = dataclasses.replace(alone(), ports=(b.a_port(),), assets=(b.an_asset("why"),))
    world = a_world(view)
    world.settle(WHY)
    assert json.loads(world.file("why", "ports.json") or "")["outputs"] == []
    assert world.record(WHY).writeback == model.Writeback()


def _effects() -> int:
    world = a_world(asking())
    world.reconcile(WHY)
    return len(world.effects)


@pytest.mark.parametrize("number", range(_effects()))
@pytest.mark.parametrize("chooses", [False, True], ids=["engine-chooses", "we-choose"])
def test_killed_before_any_effect_it_is_finished_by_the_next_run(
    number: int, *, chooses: bool
) -> None:
    world = a_world(asking(), chooses_key_ids=chooses)
    before = world.live_keys()

    def kill(effect: str) -> None:
        if len(world.effects) > number:
            raise w.Killed

    world.checkpoint = kill
    with pytest.raises(w.Killed):
        world.reconcile(WHY)
    world.restart()
    world.settle(WHY)
    published = world.published_key("why")
    assert published is not None
    assert world.live_keys() - before == {published.id}
    assert world.may("why", "s3:GetObject", "sales/orders/x")


def test_a_renamed_explorations_workspace_moves_and_nothing_is_marked() -> None:
    world = a_world(asking())
    world.settle(WHY)
    world.folders.put("why", "mine.sql", "select 1")
    objects = dict(world.objects.objects)
    world.portal.change(WHY, namespace="why-not")
    world.settle(WHY)
    assert world.file("why-not", "mine.sql") == "select 1"
    assert "why" not in world.folders.folders
    assert world.may("why-not", "s3:GetObject", "sales/orders/x")
    assert world.objects.objects == objects
    assert (world.record(WHY).conditions, world.record(WHY).former) == ((), ())


def test_an_exploration_adopts_a_folder_and_never_a_prefix() -> None:
    world = a_world(asking(namespace="sales-2"))
    world.folders.put("sales-2", "thesis.txt", "mine")
    world.objects.objects["sales-2/theirs"] = b"1"
    world.settle(SALES)
    assert world.reconcile(WHY).status == "condition"
    world.store.asks.ask([WHY], model.Ask.ADOPT)
    world.settle(WHY)
    assert world.file("sales-2", "thesis.txt") == "mine"
    assert world.file("sales-2", ".env") is not None
    assert world.objects.owner("sales-2") is None
    assert not world.may("sales-2", "s3:GetObject", "sales-2/theirs")


def test_purging_an_exploration_leaves_a_product_of_its_name_alone() -> None:
    world = a_world(asking())
    world.settle(WHY)
    world.objects.claim("why", b.FINANCE)
    world.objects.objects["why/theirs"] = b"1"
    del world.portal.views[WHY]
    world.settle(WHY)
    world.store.asks.ask([WHY], model.Ask.PURGE)
    world.settle(WHY)
    assert world.record(WHY).purged_at is not None
    assert world.folders.archived == {}
    assert world.objects.objects["why/theirs"] == b"1"
