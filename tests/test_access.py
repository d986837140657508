"""Access from the portal's word to what a key may do: scope, assets, places elsewhere, days."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta

import pytest

from provisioner import errors, model
from provisioner.domain import grants
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import MARKETING, SALES, MemoryWorld

Status = model.LinkStatus
HR = model.Key.product(b.an_id(8))
WHY = model.Key(model.Kind.EXPLORATION, b.an_id(7))


def a_world(
    *links: model.Link,
    assets: tuple[model.Asset, ...] = (),
    scope: grants.Scope = grants.Scope.OUTPUT_PORT,
    allowed: tuple[str, ...] = (),
    now: datetime = b.NOW,
) -> MemoryWorld:
    """Make a world in which sales and HR are provisioned, and marketing asks sales for its port."""
    port = b.a_port(assets=assets)
    world = MemoryWorld(
        model.PortalView(product=b.a_product(), ports=(port,)),
        model.PortalView(product=b.a_product(HR.id, "hr")),
        b.a_consumer_view(*links, port=port),
        scope=scope,
        allowed_locations=allowed,
    )
    world.clock.now = now
    for key in (SALES, HR, MARKETING):
        world.settle(key)
    return world


def reads(world: MemoryWorld, key: str) -> bool:
    return world.may("marketing", "s3:GetObject", key)


def conditions(world: MemoryWorld) -> list[str]:
    return [each.type for each in world.record(MARKETING).conditions]


@pytest.mark.parametrize("scope", list(grants.Scope))
def test_a_link_opens_its_port_or_where_set_so_the_whole_product(scope: grants.Scope) -> None:
    world = a_world(b.a_link(), scope=scope)
    assert reads(world, "sales/orders/x")
    assert reads(world, "sales/refunds/x") is (scope is grants.Scope.PRODUCT)
    for other in ("hr/x", "sales-eu/x", "sale/x", ".provisioner/owners/sales.json"):
        assert not reads(world, other)


@pytest.mark.parametrize(
    ("status", "is_open"),
    [("active", True), ("pending", False), ("archived", False), ("whatever", False)],
)
def test_only_active_assets_open_their_place(status: str, *, is_open: bool) -> None:
    world = a_world(b.a_link(), assets=(b.an_asset("sales/raw", status=status),))
    assert reads(world, "sales/raw/x") is is_open
    assert reads(world, "sales/orders/x")


def test_an_asset_that_is_archived_closes_at_once() -> None:
    world = a_world(b.a_link(), assets=(b.an_asset("sales/raw"),))
    assert reads(world, "sales/raw/x")
    archived = b.a_port(assets=(b.an_asset("sales/raw", status="archived"),))
    world.portal.put(b.a_consumer_view(b.a_link(), port=archived))
    world.reconcile(MARKETING)
    assert not reads(world, "sales/raw/x")
    assert reads(world, "sales/orders/x")


@pytest.mark.parametrize("mode", ["read", "write", "admin", "custom", ""])
def test_only_write_writes(mode: str) -> None:
    world = a_world(b.a_link(mode=mode))
    assert reads(world, "sales/orders/x")
    for action in ("s3:PutObject", "s3:DeleteObject"):
        assert world.may("marketing", action, "sales/orders/x") is (mode == "write")
        assert not world.may("marketing", action, "sales/x")


@pytest.mark.parametrize(
    ("path", "is_open"),
    [("raw/x", True), ("raw", True), ("hr/salaries", False), ("hr", False), ("other/x", False)],
)
def test_a_place_elsewhere_in_our_bucket_opens_where_allowed_and_never_a_products(
    path: str, *, is_open: bool
) -> None:
    allowed = ("lake/raw/", "lake/hr/")
    world = a_world(b.a_link(), assets=(b.an_asset(path),), allowed=allowed)
    assert reads(world, f"{path}/y") is is_open
    assert conditions(world) == ([] if is_open else ["AssetOutside"])


def test_what_a_dead_product_left_is_no_place_elsewhere() -> None:
    world = a_world(b.a_link(), assets=(b.an_asset("hr/salaries"),), allowed=("lake/hr/",))
    world.portal.delete(HR)
    world.settle(HR)
    assert world.record(HR).released_at is not None
    world.reconcile(MARKETING)
    assert not reads(world, "hr/salaries/x")


def test_a_producer_without_a_prefix_yet_is_no_place_elsewhere_either() -> None:
    port = b.a_port(assets=(b.an_asset("finance/x"),))
    other = b.a_link(number=102, producer=b.FINANCE, port=b.REFUNDS)
    view = b.a_consumer_view(b.a_link(), other, port=port)
    finance = b.a_product(b.FINANCE, "finance")
    world = a_world(allowed=("lake/finance/",))
    world.portal.put(dataclasses.replace(view, producers=(b.a_product(), finance)))
    world.settle(MARKETING)
    assert reads(world, "sales/orders/x")
    assert not reads(world, "finance/x/y")


def test_an_exploration_cannot_close_a_place_by_its_name() -> None:
    world = a_world(b.a_link(), assets=(b.an_asset("raw/x"),), allowed=("lake/raw/",))
    taken = b.a_product(WHY.id, "raw")
    world.portal.views[WHY] = model.PortalView(product=taken)
    world.settle(WHY)
    world.reconcile(MARKETING)
    assert reads(world, "raw/x/y")


def test_one_asset_that_is_not_safe_holds_up_no_other_grant() -> None:
    world = a_world(b.a_link(), assets=(b.an_asset("sales/*"), b.an_asset("sales/raw")))
    assert reads(world, "sales/raw/x")
    assert reads(world, "sales/orders/x")
    assert not reads(world, "sales/other/x")
    assert conditions(world) == ["AssetOutside"]


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


LAST_DAYS = {
    "today": date(2026, 11, 21),
    "end of a month": date(2026, 11, 30),
    "end of a year": date(2026, 12, 31),
    "before a leap day": date(2028, 2, 28),
    "leap day": date(2028, 2, 29),
    "clocks go back in Europe": date(2026, 10, 25),
    "clocks go forward in Europe": date(2027, 3, 28),
}


@pytest.mark.parametrize("last", LAST_DAYS.values(), ids=LAST_DAYS)
def test_a_grant_ends_at_midnight_utc_after_its_last_day_without_any_event(last: date) -> None:
    end = midnight(last) + timedelta(days=1)
    world = a_world(b.a_link(valid_until=last), now=end - timedelta(hours=20))
    just_before = end - timedelta(microseconds=1)
    world.clock.now = just_before
    assert world.record(MARKETING).next_at == end
    assert MARKETING not in world.store.records.due(just_before)
    world.reconcile(MARKETING)
    assert reads(world, "sales/orders/x")
    world.clock.now = end
    assert MARKETING in world.store.records.due(end)
    world.reconcile(MARKETING)
    assert not reads(world, "sales/orders/x")
    assert world.record(MARKETING).grants == ()


@pytest.mark.parametrize("first", LAST_DAYS.values(), ids=LAST_DAYS)
def test_a_grant_begins_at_midnight_utc_of_its_first_day_without_any_event(first: date) -> None:
    start = midnight(first)
    world = a_world(b.a_link(valid_from=first, valid_until=first), now=start - timedelta(hours=20))
    assert not reads(world, "sales/orders/x")
    assert world.record(MARKETING).next_at == start
    world.clock.now = start
    assert MARKETING in world.store.records.due(start)
    world.settle(MARKETING)
    assert reads(world, "sales/orders/x")
    world.clock.now = start + timedelta(days=1)
    assert MARKETING in world.store.records.due(world.clock.now)
    world.reconcile(MARKETING)
    assert not reads(world, "sales/orders/x")


def test_a_grant_that_is_waited_for_is_found_although_the_product_has_a_condition() -> None:
    first = b.TODAY + timedelta(days=3)
    world = a_world(b.a_link(valid_from=first))
    world.folders.put("marketing", "x", "y")
    world.folders._claims["marketing"] = "somebody"
    assert world.reconcile(MARKETING).status == "condition"
    assert world.record(MARKETING).next_at == midnight(first)


def test_a_grant_ends_on_its_day_although_the_portal_is_away() -> None:
    world = a_world(b.a_link(valid_until=b.TODAY))
    world.portal.failure = errors.PortalUnavailable("the portal did not answer")
    world.clock.now = midnight(b.TODAY + timedelta(days=1))
    assert world.reconcile(MARKETING).status == "retry"
    assert not reads(world, "sales/orders/x")


def test_narrowing_reaches_current_and_retiring_keys_before_anything_that_fails() -> None:
    world = a_world(b.a_link(mode="write"))
    world.clock.advance(timedelta(days=30).total_seconds())
    world.reconcile(MARKETING)  # one is current, one retires
    held = world.record(MARKETING).credentials
    assert held.current is not None
    live = {held.current.id, *(key.key_id for key in held.retiring)}
    assert len(live) == 2
    world.folders._claims["marketing"] = "somebody"
    world.portal.put(b.a_consumer_view(b.a_link()))
    assert world.reconcile(MARKETING).status == "condition"
    place = f"arn:aws:s3:::{w.BUCKET}/sales/orders/x"
    assert live <= world.live_keys()
    for key in live:
        assert world.issuer.allowed(key, "s3:GetObject", place)
        assert not world.issuer.allowed(key, "s3:PutObject", place)


@pytest.mark.parametrize("chooses", [False, True], ids=["engine-chooses", "we-choose"])
def test_narrowing_reaches_a_first_key_that_is_not_proven_yet(*, chooses: bool) -> None:
    world = MemoryWorld(w.a_producer(), b.a_consumer_view(b.a_link()), chooses_key_ids=chooses)
    world.settle(SALES)
    world.prober.down = True
    assert world.reconcile(MARKETING).status == "retry"
    pending = world.record(MARKETING).credentials.pending
    assert pending is not None
    assert pending.key is not None
    place = f"arn:aws:s3:::{w.BUCKET}/sales/orders/x"
    assert world.issuer.allowed(pending.key.id, "s3:GetObject", place)
    world.objects.down = True
    world.folders.put("marketing", "x", "somebody else's")
    world.portal.put(b.a_consumer_view(b.a_link(Status.REVOKED)))
    world.reconcile(MARKETING)
    assert pending.key.id in world.live_keys()
    assert not world.issuer.allowed(pending.key.id, "s3:GetObject", place)
