from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from provisioner import errors, model, names
from provisioner.domain import grants, policy
from provisioner.loop import worker
from provisioner.steps import protocol
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import MARKETING, SALES, MemoryWorld

Status = model.LinkStatus
MIDNIGHT = datetime.combine(b.TODAY + timedelta(days=1), time(), UTC)
PRINCIPAL = names.principal("marketing", b.MARKETING)


def provisioned(*views: model.PortalView) -> MemoryWorld:
    """Make a world in which every view has been reconciled."""
    world = MemoryWorld(*(views or (w.a_producer(),)))
    for key in list(world.portal.views):
        world.settle(key)
    return world


def conditions(world: MemoryWorld, key: model.Key = SALES) -> list[str]:
    return [condition.type for condition in world.record(key).conditions]


def test_a_new_product_gets_everything() -> None:
    world = MemoryWorld(w.a_producer())
    assert world.reconcile(SALES).status == "done"
    assert world.objects.owner("sales") == b.SALES
    assert "sales/.keep" in world.objects.objects
    assert world.may("sales", "s3:PutObject", "sales/x")
    assert not world.may("sales", "s3:GetObject", "marketing/x")
    product = world.portal.views[SALES].product
    assert product.finalizers == frozenset({"ours"})
    assert product.lifecycle == "Ready"
    assert [asset.path for asset in world.portal.views[SALES].assets] == ["sales"]
    assert json.loads(world.file("sales", "ports.json") or "")["outputs"] == ["orders"]


def test_the_finalizer_comes_before_and_the_key_is_proven_before_it_is_published() -> None:
    world = MemoryWorld(w.a_producer())
    world.reconcile(SALES)
    order = [e for e in world.effects if e != "save"]
    assert order == [
        "add-finalizer",
        "ensure-bucket",
        "claim-prefix",
        "keep-prefix",
        "ensure-principal",
        "put-policy",
        "create-key",
        "remember-key",
        "prove-key",
        "create-workspace",
        "set-lifecycle",
        "register-asset",
    ]


def test_a_second_run_writes_nothing_anywhere() -> None:
    world = provisioned()
    before = world.record(SALES)
    writes = list(world.portal.writes)
    world.reconcile(SALES)
    assert world.effects == []
    assert world.portal.writes == writes
    assert world.record(SALES) == before


def test_planning_after_applying_yields_nothing() -> None:
    world = MemoryWorld(w.a_producer())
    assert world.observer.preview(SALES).actions
    world.settle(SALES)
    assert world.observer.preview(SALES).actions == ()


def test_a_preview_touches_nothing() -> None:
    world = MemoryWorld(w.a_producer())
    preview = world.observer.preview(SALES)
    assert [action.verb for action in preview.actions][:2] == ["add-finalizer", "claim-prefix"]
    assert world.portal.writes == []
    assert world.objects.objects == {}
    assert world.store.records.load(SALES) is None


def test_an_approval_opens_the_port_and_a_revocation_closes_it() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")
    world.portal.put(b.a_consumer_view(b.a_link()))
    world.settle(MARKETING)
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")
    assert not world.may("marketing", "s3:PutObject", "sales/orders/x")
    assert not world.may("marketing", "s3:GetObject", "sales/other/x")
    (row,) = json.loads(world.file("marketing", "ports.json") or "")["inputs"]
    assert row["name"] == "sales__orders"
    world.portal.put(b.a_consumer_view(b.a_link(Status.REVOKED)))
    world.settle(MARKETING)
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")
    assert json.loads(world.file("marketing", "ports.json") or "")["inputs"] == []


def test_a_revocation_reaches_retiring_keys_too() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    old = world.published_key("marketing")
    world.portal.put(b.a_consumer_view(b.a_link()))
    world.settle(MARKETING)
    assert old is not None
    place = "arn:aws:s3:::lake/sales/orders/x"
    assert world.issuer.allowed(old.id, "s3:GetObject", place)
    world.portal.put(b.a_consumer_view())
    world.settle(MARKETING)
    assert not world.issuer.allowed(old.id, "s3:GetObject", place)


def test_a_grant_ends_on_its_day_without_any_event() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view(b.a_link(valid_until=b.TODAY)))
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")
    world.clock.advance((MIDNIGHT - world.clock()).total_seconds())
    assert MARKETING in world.store.records.due(world.clock())
    world.settle(MARKETING)
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_a_changed_grant_rotates_and_the_old_key_dies_after_its_grace() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    old = world.published_key("marketing")
    world.portal.put(b.a_consumer_view(b.a_link()))
    world.settle(MARKETING)
    new = world.published_key("marketing")
    assert old is not None
    assert new is not None
    assert new.id != old.id
    assert world.issuer.knows(old)
    assert world.record(MARKETING).next_at == world.clock() + timedelta(seconds=w.GRACE_SECONDS)
    world.clock.advance(w.GRACE_SECONDS)
    world.settle(MARKETING)
    assert not world.issuer.knows(old)
    assert world.issuer.knows(new)


def test_rotation_by_age_replaces_the_key() -> None:
    world = provisioned()
    old = world.published_key("sales")
    world.clock.advance(30 * 86400)
    world.settle(SALES)
    assert world.published_key("sales") != old


def test_rotation_waits_until_the_retiring_key_is_gone() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    world.portal.put(b.a_consumer_view(b.a_link()))
    world.settle(MARKETING)
    second = world.published_key("marketing")
    world.portal.put(b.a_consumer_view(b.a_link(mode="write")))
    world.settle(MARKETING)
    assert world.published_key("marketing") == second
    assert world.may("marketing", "s3:PutObject", "sales/orders/x")
    world.clock.advance(w.GRACE_SECONDS)
    assert world.store.records.due(world.clock()) == (MARKETING,)
    world.reconcile(MARKETING)
    assert world.published_key("marketing") != second
    assert world.store.records.due(world.clock()) == ()


def test_a_key_that_does_not_work_yet_is_never_published() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    old = world.published_key("marketing")
    world.portal.put(b.a_consumer_view(b.a_link()))
    world.prober.down = True
    assert world.reconcile(MARKETING).status == "retry"
    assert world.published_key("marketing") == old
    assert conditions(world, MARKETING) == ["StorageUnavailable"]
    world.prober.down = False
    world.clock.advance(600)
    world.settle(MARKETING)
    assert world.published_key("marketing") != old
    assert conditions(world, MARKETING) == []


def test_a_new_key_that_somebody_deleted_before_it_was_proven_is_made_again() -> None:
    world = MemoryWorld(w.a_producer())
    world.prober.down = True
    world.reconcile(SALES)
    for principal in world.issuer.held.values():
        principal.keys.clear()
    world.prober.down = False
    world.clock.advance(600)
    world.settle(SALES)
    assert world.may("sales", "s3:PutObject", "sales/x")


def test_a_stray_key_of_an_older_run_is_deleted() -> None:
    world = MemoryWorld(w.a_producer())

    def die(effect: str) -> None:
        if effect == "remember-key":
            raise w.Killed

    world.checkpoint = die
    with pytest.raises(w.Killed):
        world.reconcile(SALES)
    (stray,) = world.live_keys()
    world.restart()
    world.settle(SALES)
    assert stray not in world.live_keys()
    assert len(world.live_keys()) == 1


def test_deletion_kills_keys_first_and_lets_the_portal_go_last() -> None:
    world = provisioned()
    key = world.published_key("sales")
    world.portal.delete(SALES)
    world.reconcile(SALES)
    assert [e for e in world.effects if e != "save"] == [
        "delete-every-key",
        "retract-secrets",
        "archive-workspace",
        "delete-principal",
        "remove-finalizer",
    ]
    assert key is not None
    assert not world.issuer.knows(key)
    assert world.issuer.held == {}
    assert SALES not in world.portal.views
    archived = world.folders.archived[b.SALES].files
    assert ".env" not in archived
    assert "README.md" in archived
    assert world.objects.owner("sales") == b.SALES
    world.settle(SALES)
    assert world.record(SALES).released_at is not None


def test_a_product_the_portal_forgot_is_released_too() -> None:
    world = provisioned()
    del world.portal.views[SALES]
    world.settle(SALES)
    assert world.live_keys() == set()
    assert "sales" not in world.folders.folders


@pytest.mark.parametrize(
    "failure",
    [errors.PortalUnavailable("no answer"), errors.PortalRejected("unauthenticated")],
)
def test_a_portal_that_fails_releases_nothing(failure: errors.ReconcileError) -> None:
    world = provisioned()
    before = world.record(SALES)
    world.portal.failure = failure
    assert world.reconcile(SALES).status in ("retry", "condition")
    assert set(world.effects) <= {"save"}
    after = world.record(SALES)
    assert (after.credentials, after.workspace, after.phase) == (
        before.credentials,
        before.workspace,
        before.phase,
    )


def test_a_product_that_the_portal_refuses_to_show_says_so_and_is_not_due_every_second() -> None:
    world = provisioned()
    world.clock.advance(31 * 86400)
    assert world.store.records.due(world.clock()) == (SALES,)
    world.portal.failure = errors.PortalRejected("unauthenticated")
    assert world.reconcile(SALES).status == "condition"
    assert conditions(world) == ["PortalRejected"]
    assert world.store.records.due(world.clock()) == ()
    assert world.store.records.digests()[SALES] == ""
    world.portal.failure = None
    world.settle(SALES)
    assert conditions(world) == []


@pytest.mark.parametrize(
    "failure",
    [errors.PortalUnavailable("no answer"), errors.PortalRejected("unauthenticated")],
)
def test_a_grant_ends_on_its_day_although_the_portal_fails(
    failure: errors.ReconcileError,
) -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view(b.a_link(valid_until=b.TODAY)))
    world.portal.failure = failure
    world.reconcile(MARKETING)
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")
    world.clock.advance((MIDNIGHT - world.clock()).total_seconds())
    world.reconcile(MARKETING)
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")
    assert world.may("marketing", "s3:PutObject", "marketing/x")
    world.clock.advance(3600)
    world.reconcile(MARKETING)
    assert set(world.effects) <= {"save"}


def test_an_engine_that_refuses_while_the_portal_fails_is_asked_again() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view(b.a_link(valid_until=b.TODAY)))
    write = world.issuer.put_policy

    def refuse(principal: model.Principal, document: Mapping[str, Any]) -> None:
        raise errors.IssuerRejected("no")

    world.issuer.put_policy = refuse  # type: ignore[method-assign]
    world.portal.failure = errors.PortalUnavailable("no answer")
    world.clock.advance(86400)
    assert world.reconcile(MARKETING).status == "retry"
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")
    world.issuer.put_policy = write  # type: ignore[method-assign]
    world.reconcile(MARKETING)
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_a_portal_that_fails_never_brings_back_what_was_revoked() -> None:
    ends = b.TODAY
    world = provisioned(w.a_producer(), b.a_consumer_view(b.a_link(valid_until=ends)))
    world.portal.put(b.a_consumer_view())
    world.folders.put("marketing", "x", "y")
    world.folders._claims["marketing"] = b.FINANCE
    world.reconcile(MARKETING)
    world.portal.failure = errors.PortalUnavailable("no answer")
    world.clock.advance(86400)
    world.reconcile(MARKETING)
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")


def break_the_folder(world: MemoryWorld) -> None:
    world.folders._claims["marketing"] = b.FINANCE


def break_the_store(world: MemoryWorld) -> None:
    world.prober.down = True


def break_the_portals_writes(world: MemoryWorld) -> None:
    world.portal.change(MARKETING, finalizers=frozenset())
    world.portal.refusal = errors.PortalUnavailable("no answer")  # type: ignore[assignment]


@pytest.mark.parametrize("break_it", [break_the_folder, break_the_store, break_the_portals_writes])
def test_a_revocation_takes_effect_whatever_else_is_broken(
    break_it: Callable[[MemoryWorld], None],
) -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view(b.a_link()))
    world.portal.put(b.a_consumer_view())
    break_it(world)
    assert world.reconcile(MARKETING).status != "done"
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_a_revocation_takes_effect_although_other_grants_do_not_fit() -> None:
    refunds = b.a_port(b.REFUNDS, "refunds")
    both = (b.a_link(), b.a_link(number=102, port=b.REFUNDS))
    view = dataclasses.replace(
        b.a_consumer_view(*both), granted_ports=(b.a_port(), refunds, b.a_port(b.an_id(13), "tax"))
    )
    world = provisioned(w.a_producer(), view)
    world.issuer._limit = len(policy.text(world.issuer.held[PRINCIPAL].document))
    changed = (both[1], *(b.a_link(number=n, port=b.an_id(13)) for n in (103,)))
    longer = b.a_port(b.an_id(13), "a-port-with-a-very-long-name-" + "x" * 30)
    world.portal.put(dataclasses.replace(view, links=changed, granted_ports=(refunds, longer)))
    assert world.reconcile(MARKETING).status == "condition"
    assert conditions(world, MARKETING) == ["PolicyTooLarge"]
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")
    assert world.may("marketing", "s3:GetObject", "sales/refunds/x")
    held = dict(world.issuer.held[PRINCIPAL].document)
    world.reconcile(MARKETING)
    assert world.issuer.held[PRINCIPAL].document == held


def test_a_policy_whose_writing_was_not_answered_is_written_again() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    write = world.issuer.put_policy

    def write_and_say_nothing(principal: model.Principal, document: Mapping[str, Any]) -> None:
        write(principal, document)
        raise errors.IssuerUnavailable("no answer")

    world.issuer.put_policy = write_and_say_nothing  # type: ignore[method-assign]
    world.portal.put(b.a_consumer_view(b.a_link()))
    assert world.reconcile(MARKETING).status == "retry"
    world.issuer.put_policy = write  # type: ignore[method-assign]
    world.portal.put(b.a_consumer_view())
    world.clock.advance(600)
    world.settle(MARKETING)
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_a_namespace_used_again_does_not_inherit_the_dead_products_data() -> None:
    world = provisioned()
    world.portal.delete(SALES)
    world.settle(SALES)
    heir = world.portal.put(model.PortalView(product=b.a_product(b.FINANCE, "sales")))
    assert world.reconcile(heir).status == "condition"
    assert conditions(world, heir) == ["NotOurs"]
    assert world.live_keys() == set()
    assert world.objects.owner("sales") == b.SALES


@pytest.mark.parametrize("scope", grants.Scope)
def test_whoever_takes_a_dead_products_name_cannot_grant_access_to_its_data(
    scope: grants.Scope,
) -> None:
    world = MemoryWorld(w.a_producer(), scope=scope)
    world.settle(SALES)
    world.portal.delete(SALES)
    world.settle(SALES)
    product, port = b.a_product(b.FINANCE, "sales"), b.a_port(producer=b.FINANCE)
    heir = world.portal.put(model.PortalView(product=product, ports=(port,)))
    world.reconcile(heir)
    link = b.a_link(producer=b.FINANCE)
    consumer = dataclasses.replace(b.a_consumer_view(link, port=port), producers=(product,))
    world.portal.put(consumer)
    world.settle(MARKETING)
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")
    assert conditions(world, MARKETING) == ["ProducerNotReady"]


def test_a_consumer_that_came_before_its_producer_is_queued_once_there_is_a_prefix() -> None:
    world = MemoryWorld(w.a_producer(), b.a_consumer_view(b.a_link()))
    world.settle(MARKETING)
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")
    world.reconcile(SALES)
    lease = world.store.queue.lease("test")
    assert lease is not None
    assert lease.key == MARKETING
    worker.run_once(world.duty, lease, worker.Guard(lease, world.clock))
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_a_preview_of_what_the_portal_refuses_says_so() -> None:
    world = provisioned()
    world.portal.failures[SALES] = errors.PortalRejected("a status that we do not know")
    preview = world.observer.preview(SALES)
    assert [each.type for each in preview.conditions] == ["PortalRejected"]
    assert (preview.record, preview.actions, preview.access) == (world.record(SALES), (), ())


def test_a_preview_foresees_what_producers_that_are_new_will_grant() -> None:
    world = MemoryWorld(w.a_producer(), b.a_consumer_view(b.a_link()))
    assert [each.location.prefix for each in world.observer.preview(MARKETING).access] == [
        "sales/orders/"
    ]


def test_an_archived_product_keeps_its_files_and_loses_its_keys_until_it_is_active_again() -> None:
    world = provisioned()
    world.portal.change(SALES, status=model.ProductStatus.ARCHIVED)
    world.settle(SALES)
    assert world.live_keys() == set()
    assert world.file("sales", ".env") is None
    assert world.file("sales", "README.md")
    world.portal.change(SALES, status=model.ProductStatus.ACTIVE)
    world.settle(SALES)
    assert world.may("sales", "s3:PutObject", "sales/x")


@pytest.mark.parametrize("namespace", ["..", ".env", "*", "a/b", "-x", "A"])
def test_a_hostile_namespace_touches_nothing_and_is_said(namespace: str) -> None:
    world = MemoryWorld(model.PortalView(product=b.a_product(namespace=namespace)))
    assert world.reconcile(SALES).status == "condition"
    assert conditions(world) == ["NameRejected"]
    assert set(world.effects) == {"save"}
    assert world.portal.writes == []
    assert world.objects.objects == {}
    assert world.folders.folders == {}


def test_a_hostile_namespace_that_is_mended_in_the_portal_is_provisioned() -> None:
    world = MemoryWorld(model.PortalView(product=b.a_product(namespace="..")))
    world.reconcile(SALES)
    world.portal.change(SALES, namespace="sales")
    world.settle(SALES)
    assert conditions(world) == []
    assert world.may("sales", "s3:PutObject", "sales/x")


def test_a_prefix_with_objects_of_nobody_is_not_taken_over() -> None:
    world = MemoryWorld(w.a_producer())
    world.objects.objects["sales/old.parquet"] = b"x"
    assert world.reconcile(SALES).status == "condition"
    assert conditions(world) == ["NotOurs"]
    assert world.portal.writes == []
    assert world.live_keys() == set()


def test_a_folder_of_somebody_else_is_not_taken_over() -> None:
    world = MemoryWorld(w.a_producer())
    world.folders.put("sales", "thesis.txt", "mine")
    assert world.reconcile(SALES).status == "condition"
    assert conditions(world) == ["NotOurs"]
    assert world.folders.folders["sales"].files == {"thesis.txt": "mine"}
    assert world.live_keys() == set()


def test_a_bucket_of_somebody_else_is_a_condition() -> None:
    world = MemoryWorld(w.a_producer())
    world.objects.foreign = True
    assert world.reconcile(SALES).status == "condition"
    assert conditions(world) == ["NotOurs"]
    assert world.live_keys() == set()


def test_a_portal_that_refuses_our_writes_still_gets_its_products_provisioned() -> None:
    world = MemoryWorld(w.a_producer())
    world.portal.refusal = errors.PortalRejected("no permission")
    assert world.reconcile(SALES).status == "done"
    assert conditions(world) == ["PortalRejected"]
    assert world.may("sales", "s3:PutObject", "sales/x")


def test_an_unknown_lifecycle_is_a_condition_and_no_failure() -> None:
    world = MemoryWorld(w.a_producer(), lifecycle="Golden")
    assert world.reconcile(SALES).status == "done"
    assert conditions(world) == ["LifecycleUnknown"]


def test_a_condition_keeps_the_day_it_began() -> None:
    world = MemoryWorld(w.a_producer(), lifecycle="Golden")
    world.reconcile(SALES)
    world.clock.advance(3600)
    world.reconcile(SALES)
    assert world.record(SALES).conditions[0].since == b.NOW


def test_a_portal_without_finalizers_is_served_without_them() -> None:
    world = MemoryWorld(model.PortalView(product=b.a_product(finalizers=None)))
    world.settle(SALES)
    assert "add_finalizer" not in world.portal.writes
    del world.portal.views[SALES]
    world.settle(SALES)
    assert world.live_keys() == set()


def test_an_env_that_somebody_deleted_or_changed_is_published_again() -> None:
    world = provisioned()
    env = world.file("sales", ".env")
    del world.folders.folders["sales"].files[".env"]
    world.settle(SALES)
    assert world.file("sales", ".env") == env
    world.folders.put("sales", ".env", "S3_ACCESS_KEY=mine")
    world.settle(SALES)
    assert world.file("sales", ".env") == env


def test_a_workspace_that_somebody_deleted_is_made_again() -> None:
    world = provisioned()
    del world.folders.folders["sales"]
    world.settle(SALES)
    assert world.file("sales", "README.md")
    assert world.may("sales", "s3:PutObject", "sales/x")


def test_a_consumer_of_a_renamed_producer_reads_where_the_data_are() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view(b.a_link()))
    world.portal.change(SALES, namespace="sales-new")
    renamed = world.portal.views[SALES].product
    consumer = dataclasses.replace(world.portal.views[MARKETING], producers=(renamed,))
    world.portal.put(consumer)
    world.settle(MARKETING)
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_two_approvals_of_one_port_are_one_grant() -> None:
    view = b.a_consumer_view(b.a_link(Status.DENIED, number=1), b.a_link(number=2))
    world = provisioned(w.a_producer(), view)
    assert len(world.record(MARKETING).grants) == 1


def test_links_of_every_status_are_remembered() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view(b.a_link(Status.PENDING)))
    assert world.store.links.consumers(b.ORDERS) == {MARKETING}


def test_a_policy_that_does_not_fit_fails_closed() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    world.issuer._limit = 10
    world.portal.put(b.a_consumer_view(b.a_link()))
    assert world.reconcile(MARKETING).status == "condition"
    assert conditions(world, MARKETING) == ["PolicyTooLarge"]
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_a_lost_lease_stops_before_the_next_effect() -> None:
    world = MemoryWorld(w.a_producer())

    def lose(effect: str) -> None:
        if effect == "create-key":
            world.clock.advance(60)
            world.store.queue.reap()
            raise errors.LeaseLost("gone")

    world.checkpoint = lose
    with pytest.raises(errors.LeaseLost):
        world.reconcile(SALES)
    assert world.live_keys() == set()


def test_nobody_who_is_unknown_to_portal_and_store_is_provisioned() -> None:
    world = MemoryWorld()
    outcome = world.reconcile(SALES)
    assert (outcome.status, world.effects) == ("done", [])


def without_its_store(world: MemoryWorld) -> MemoryWorld:
    """Return the same world with an empty store."""
    lost = MemoryWorld()
    lost.clock.advance((world.clock() - lost.clock()).total_seconds())
    lost.portal.views, lost.objects = world.portal.views, world.objects
    lost.issuer.held, lost.folders.folders = world.issuer.held, world.folders.folders
    lost.issuer._numbers = world.issuer._numbers
    lost.folders._claims = world.folders._claims
    return lost


def test_a_product_being_deleted_is_let_go_although_the_store_was_lost() -> None:
    world = provisioned()
    world.portal.delete(SALES)
    lost = without_its_store(world)
    assert lost.reconcile(SALES).status == "done"
    assert SALES not in lost.portal.views
    assert lost.live_keys() == set()
    assert "sales" not in lost.folders.folders


def test_keys_die_first_although_the_store_was_lost() -> None:
    world = provisioned()
    world.portal.delete(SALES)
    lost = without_its_store(world)

    def full(namespace: str, product_id: str) -> None:
        raise errors.DiskUnavailable("the disk is full")

    lost.folders.retract = full  # type: ignore[method-assign]
    assert lost.reconcile(SALES).status == "retry"
    assert lost.live_keys() == set()


def test_a_key_from_before_the_store_was_lost_retires_like_any_other() -> None:
    world = provisioned()
    world.clock.advance(600)
    before = world.published_key("sales")
    assert before is not None
    lost = without_its_store(world)
    lost.checkpoint = lambda effect: _works(lost, "sales")
    lost.settle(SALES)
    assert lost.published_key("sales") != before
    assert lost.issuer.knows(before)
    lost.clock.advance(w.GRACE_SECONDS)
    lost.settle(SALES)
    assert not lost.issuer.knows(before)
    assert len(lost.live_keys()) == 1


def _works(world: MemoryWorld, namespace: str) -> None:
    assert world.may(namespace, "s3:PutObject", f"{namespace}/x")


def test_a_principal_that_somebody_deleted_is_made_again_with_the_next_grant() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    world.issuer.held.pop(world.record(MARKETING).credentials.principal)
    world.portal.put(b.a_consumer_view(b.a_link()))
    world.settle(MARKETING)
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_a_full_set_of_keys_is_settled_before_another_is_made() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    stray = world.issuer.create_key(protocol.principal(world.record(MARKETING)), None, {})
    world.clock.advance(120)
    world.portal.put(b.a_consumer_view(b.a_link()))
    assert world.reconcile(MARKETING).status == "retry"
    assert not world.issuer.knows(stray)
    world.clock.advance(60)
    world.settle(MARKETING)
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_a_key_that_nobody_knows_is_given_a_minute() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    stray = world.issuer.create_key(protocol.principal(world.record(MARKETING)), None, {})
    world.clock.advance(5)
    world.portal.put(b.a_consumer_view(b.a_link()))
    assert world.reconcile(MARKETING).status == "retry"
    assert world.issuer.knows(stray)
    world.clock.advance(61)
    world.settle(MARKETING)
    assert not world.issuer.knows(stray)


def test_a_key_whose_grace_is_over_dies_whatever_else_is_broken() -> None:
    world = provisioned(w.a_producer(), b.a_consumer_view())
    old = world.published_key("marketing")
    world.portal.put(b.a_consumer_view(b.a_link()))
    world.settle(MARKETING)
    world.folders.folders.clear()
    world.folders._claims.clear()
    world.folders.put("marketing", "thesis.txt", "somebody else's")
    world.clock.advance(w.GRACE_SECONDS)
    assert world.reconcile(MARKETING).status == "condition"
    assert conditions(world, MARKETING) == ["NotOurs"]
    assert old is not None
    assert not world.issuer.knows(old)
