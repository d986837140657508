from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from provisioner import model
from provisioner.domain import grants
from tests import builders as b

Status = model.LinkStatus
DAY = timedelta(days=1)


def judge(
    view: model.PortalView,
    *,
    scope: grants.Scope = grants.Scope.OUTPUT_PORT,
    allowed: tuple[str, ...] = (),
    namespaces: dict[str, tuple[str, ...]] | None = None,
    taken: tuple[str, ...] = (),
    now: datetime = b.NOW,
) -> grants.Judgement:
    return grants.judge(
        view,
        bucket="lake",
        scope=scope,
        allowed_locations=allowed,
        namespaces={b.SALES: ("sales",)} if namespaces is None else namespaces,
        taken=taken,
        now=now,
    )


def opened(judgement: grants.Judgement) -> list[str]:
    return [f"{p.bucket}/{p.prefix}" for grant in judgement.grants for p in grant.locations]


def test_an_approved_link_opens_the_port_and_nothing_else() -> None:
    assert opened(judge(b.a_consumer_view(b.a_link()))) == ["lake/sales/orders/"]


def test_product_scope_opens_all_of_the_producer() -> None:
    judged = judge(b.a_consumer_view(b.a_link()), scope=grants.Scope.PRODUCT)
    assert opened(judged) == ["lake/sales/"]


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.APPROVED])
def test_a_link_that_is_not_approved_opens_nothing(status: model.LinkStatus) -> None:
    assert judge(b.a_consumer_view(b.a_link(status))).grants == ()


@pytest.mark.parametrize(
    ("first", "last", "is_open"),
    [
        (None, None, True),
        (b.TODAY, b.TODAY, True),
        (b.TODAY + DAY, None, False),
        (None, b.TODAY - DAY, False),
        (b.TODAY - DAY, b.TODAY + DAY, True),
    ],
)
def test_a_link_opens_from_its_first_to_its_last_day(
    first: object, last: object, is_open: bool
) -> None:
    link = b.a_link(valid_from=first, valid_until=last)  # type: ignore[arg-type]
    assert bool(judge(b.a_consumer_view(link)).grants) is is_open


def test_the_last_day_ends_at_midnight_utc() -> None:
    view = b.a_consumer_view(b.a_link(valid_until=b.TODAY))
    assert judge(view, now=datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC)).grants
    assert not judge(view, now=datetime(2026, 11, 22, 0, 0, tzinfo=UTC)).grants
    assert judge(view).next_change_at == datetime(2026, 11, 22, tzinfo=UTC)


def test_a_link_that_starts_later_names_the_moment() -> None:
    judged = judge(b.a_consumer_view(b.a_link(valid_from=b.TODAY + 3 * DAY)))
    assert judged.next_change_at == datetime(2026, 11, 24, tzinfo=UTC)


def test_two_links_on_one_port_open_what_either_opens() -> None:
    denied = b.a_link(Status.DENIED, number=1)
    short = b.a_link(number=2, valid_until=b.TODAY)
    wide = b.a_link(number=3, mode="write")
    (grant,) = judge(b.a_consumer_view(denied, short, wide)).grants
    assert grant.access is model.Access.WRITE
    assert grant.valid_until is None


def test_of_two_accesses_the_wider_holds_until_its_own_last_day() -> None:
    reads = b.a_link(number=1)
    writes = b.a_link(number=2, mode="write", valid_until=b.TODAY)
    for links in ((reads, writes), (writes, reads)):
        renumbered = [dataclasses.replace(link, id=b.an_id(n)) for n, link in enumerate(links)]
        view = b.a_consumer_view(*renumbered)
        judged = judge(view)
        assert [(g.access, g.valid_until) for g in judged.grants] == [(model.Access.WRITE, b.TODAY)]
        assert judged.next_change_at == datetime(2026, 11, 22, tzinfo=UTC)
        (after,) = judge(view, now=datetime(2026, 11, 22, tzinfo=UTC)).grants
        assert (after.access, after.valid_until) == (model.Access.READ, None)


def test_of_two_links_alike_the_longer_one_counts() -> None:
    links = [b.a_link(number=n, valid_until=b.TODAY + n * DAY) for n in (3, 1, 2)]
    (grant,) = judge(b.a_consumer_view(*links)).grants
    assert grant.valid_until == b.TODAY + 3 * DAY


@pytest.mark.parametrize("mode", ["read", "admin", "custom", "Write", "write ", "read_write", ""])
def test_any_mode_but_write_reads(mode: str) -> None:
    (grant,) = judge(b.a_consumer_view(b.a_link(mode=mode))).grants
    assert grant.access is model.Access.READ


@pytest.mark.parametrize(
    ("status", "is_open"),
    [("active", True), ("pending", True), ("archived", True), ("deleting", False)],
)
def test_only_a_producer_being_deleted_takes_its_grants_along(status: str, is_open: bool) -> None:
    producer = b.a_product(status=model.ProductStatus(status))
    view = model.PortalView(
        product=b.a_product(b.MARKETING, "marketing"),
        links=(b.a_link(),),
        producers=(producer,),
        granted_ports=(b.a_port(),),
    )
    assert bool(judge(view).grants) is is_open


@pytest.mark.parametrize(
    ("asset", "place"),
    [
        (b.an_asset("sales/raw"), "lake/sales/raw/"),
        (b.an_asset("sales/raw/"), "lake/sales/raw/"),
        (b.an_asset("raw", suffix="sales"), "lake/sales/raw/"),
        (b.an_asset("sales"), None),
        (b.an_asset("sales/"), None),
        (b.an_asset("sales-eu/raw"), None),
        (b.an_asset("hr/salaries"), None),
        (b.an_asset("sales/../hr"), None),
        (b.an_asset("sales/*"), None),
        (b.an_asset("sales/raw", bucket="other"), None),
        (b.an_asset("sales/raw", status="pending"), None),
        (b.an_asset("sales/raw", status="archived"), None),
        (b.an_asset("sales/raw", status="ACTIVE"), None),
        (b.an_asset("sales/raw", status="reviewed"), None),
        (b.an_asset("sales/raw", status=""), None),
        (b.an_asset("sales/raw", configuration_type="GlueTechnicalAssetConfiguration"), None),
    ],
)
def test_an_asset_opens_only_strictly_below_its_producer(
    asset: model.Asset, place: str | None
) -> None:
    judged = judge(b.a_consumer_view(b.a_link(), port=b.a_port(assets=(asset,))))
    assert opened(judged) == ["lake/sales/orders/"] + ([place] if place else [])


def test_an_asset_elsewhere_is_a_condition_until_a_setting_allows_it() -> None:
    view = b.a_consumer_view(b.a_link(), port=b.a_port(assets=(b.an_asset("x/y", bucket="ext"),)))
    assert [kind for kind, _ in judge(view).refused] == ["AssetOutside"]
    allowed = judge(view, allowed=("ext/x/",))
    assert opened(allowed) == ["lake/sales/orders/", "ext/x/y/"]
    assert allowed.refused == ()


@pytest.mark.parametrize("bucket", ["", "*", "ext-${aws:username}", "ext-a/b", "e"])
def test_a_bucket_with_a_hostile_name_opens_nothing_whatever_is_allowed(bucket: str) -> None:
    asset = b.an_asset("x/y", bucket=bucket)
    judged = judge(b.a_consumer_view(b.a_link(), port=b.a_port(assets=(asset,))), allowed=("*",))
    assert opened(judged) == ["lake/sales/orders/"]
    assert [kind for kind, _ in judged.refused] == ["AssetOutside"]


def test_the_asset_for_the_whole_prefix_is_no_condition() -> None:
    view = b.a_consumer_view(b.a_link(), port=b.a_port(assets=(b.an_asset("sales"),)))
    assert judge(view).refused == ()


@pytest.mark.parametrize("port", ["..", ".env", "*", "a/b"])
def test_a_port_with_a_hostile_name_opens_nothing_and_says_so(port: str) -> None:
    judged = judge(b.a_consumer_view(b.a_link(), port=b.a_port(namespace=port)))
    assert judged.grants == ()
    assert [kind for kind, _ in judged.refused] == ["GrantNameRejected"]


def test_a_producer_without_a_prefix_of_its_own_opens_nothing_and_it_is_said() -> None:
    judged = judge(b.a_consumer_view(b.a_link()), namespaces={})
    assert judged.grants == ()
    assert [kind for kind, _ in judged.refused] == ["ProducerNotReady"]


def test_a_producer_is_read_where_it_is_provisioned() -> None:
    judged = judge(b.a_consumer_view(b.a_link()), namespaces={b.SALES: ("sales-old",)})
    assert opened(judged) == ["lake/sales-old/orders/"]


@pytest.mark.parametrize(
    ("path", "opens"),
    [("raw/a", True), ("hr/a", False), ("hr", False), ("hr-eu/a", True), ("HR/a", True)],
)
def test_in_our_bucket_a_setting_never_opens_what_is_a_products(path: str, *, opens: bool) -> None:
    view = b.a_consumer_view(b.a_link(), port=b.a_port(assets=(b.an_asset(path),)))
    judged = judge(view, allowed=("lake/*/", "lake/hr/"), taken=("hr", "sales"))
    assert opened(judged) == ["lake/sales/orders/"] + ([f"lake/{path}/"] if opens else [])
    assert [kind for kind, _ in judged.refused] == ([] if opens else ["AssetOutside"])


def test_in_another_bucket_a_folder_may_be_called_like_a_product() -> None:
    asset = b.an_asset("hr/a", bucket="ext")
    view = b.a_consumer_view(b.a_link(), port=b.a_port(assets=(asset,)))
    assert "ext/hr/a/" in opened(judge(view, allowed=("ext/hr/",), taken=("hr",)))


def test_the_first_folders_are_those_of_active_assets_in_our_bucket() -> None:
    assets = (
        b.an_asset("raw/a"),
        b.an_asset("b", suffix="landing"),
        b.an_asset("shut/a", status="archived"),
        b.an_asset("there/a", bucket="ext"),
        b.an_asset("../a"),
    )
    view = b.a_consumer_view(port=b.a_port(assets=assets))
    assert grants.first_folders(view, "lake") == {"raw", "landing"}


def test_one_unsafe_place_costs_itself_alone() -> None:
    hostile = tuple(b.an_asset(path) for path in ("sales/*", "sales/${x}", "sales//x", "sales/é"))
    good = b.an_asset("sales/raw")
    judged = judge(b.a_consumer_view(b.a_link(), port=b.a_port(assets=(*hostile, good))))
    assert opened(judged) == ["lake/sales/orders/", "lake/sales/raw/"]
    assert [kind for kind, _ in judged.refused] == ["AssetOutside"] * 4


@pytest.mark.parametrize(
    ("pattern", "path", "opens"),
    [
        ("ext/team-*/", "team-a", True),
        ("ext/team-*/", "team-a/x", True),
        ("ext/*/public/", "a/public/x", True),
        ("ext/*/public/", "a/b/public", False),
        ("ext/t*c/", "team/public", False),
        ("ext/team/", "team-a", False),
        ("ext/team/?/", "team/a/x", True),
        ("ext/team/?/", "team", False),
        ("other/*/", "team", False),
    ],
)
def test_a_wildcard_of_an_allowed_location_never_stands_for_a_slash(
    pattern: str, path: str, opens: bool
) -> None:
    asset = b.an_asset(path, bucket="ext")
    view = b.a_consumer_view(b.a_link(), port=b.a_port(assets=(asset,)))
    found = opened(judge(view, allowed=(pattern,)))
    assert found == ["lake/sales/orders/"] + ([f"ext/{path}/"] if opens else [])


def test_after_a_rename_a_port_is_open_at_its_producers_old_place_too() -> None:
    below = b.a_port(assets=(b.an_asset("sales-old/exports/day"), b.an_asset("sales-old")))
    judged = judge(
        b.a_consumer_view(b.a_link(), port=below),
        namespaces={b.SALES: ("sales", "sales-old")},
    )
    assert opened(judged) == [
        "lake/sales/orders/",
        "lake/sales-old/orders/",
        "lake/sales-old/exports/day/",
    ]
    assert judged.grants[0].producer_namespace == "sales"
    assert judged.refused == ()


def test_after_a_rename_all_of_a_producer_is_both_its_places() -> None:
    judged = judge(
        b.a_consumer_view(b.a_link()),
        scope=grants.Scope.PRODUCT,
        namespaces={b.SALES: ("sales", "sales-old")},
    )
    assert opened(judged) == ["lake/sales/", "lake/sales-old/"]
