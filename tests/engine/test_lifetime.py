"""Delete, archive, live again, rename, reuse a name, adopt and purge, with keys of real engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.demo import portal as fake_portal
from tests import lifetime
from tests.lifetime import Lifetime

pytest_plugins = ["tests.engines"]
ENGINES = [pytest.param(each, marks=pytest.mark.engine) for each in ("moto", "rgw", "minio")]
ORDERS = "sales/orders/day.parquet"


@pytest.fixture(params=ENGINES)
def life(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lifetime]:
    """Sales and marketing are in order, and marketing reads the data of sales."""
    engine = request.getfixturevalue(request.param)
    with fake_portal.RunningPortal(fake_portal.FakePortal(style="main")) as portal:
        life = lifetime.Lifetime(engine, portal, tmp_path)
        life.settle(life.sales)
        life.portal.request_access(life.marketing, life.port)
        life.portal.approve(life.port, life.marketing)
        life.settle()
        assert life.put(life.key("sales"), ORDERS)
        assert life.get(life.key("marketing"), ORDERS)
        yield life
        life.close()


def test_an_archived_product_keeps_its_files_and_gets_new_keys_when_it_lives_again(
    life: Lifetime,
) -> None:
    old = life.key("sales")
    life.portal.set_status(life.sales, "archived")
    life.settle()
    assert life.is_dead(old)
    assert (life.folder("sales") / "README.md").exists()
    assert not (life.folder("sales") / ".env").exists()
    assert not (life.folder("sales") / ".aws").exists()
    assert life.get(life.key("marketing"), ORDERS)  # an archived producer keeps what it granted

    life.portal.set_status(life.sales, "active")
    life.settle()
    new = life.key("sales")
    assert new.id != old.id
    assert life.get(new, ORDERS)
    assert life.put(new, ORDERS)
    assert life.is_dead(old)


def test_a_renamed_product_and_its_consumers_reach_both_places(life: Lifetime) -> None:
    old = life.key("sales")
    life.portal.rename(life.sales, "sales-eu")
    life.settle()
    assert life.conditions(life.sales) == []
    assert not life.folder("sales").exists()
    assert life.env("sales-eu")["S3_PREFIX"] == "sales-eu/"
    for key in (life.key("sales-eu"), old):
        for prefix in ("sales", "sales-eu"):
            assert life.put(key, f"{prefix}/orders/x")
            assert life.lists(key, f"{prefix}/")
    consumer = life.key("marketing")
    for prefix in ("sales", "sales-eu"):
        assert life.get(consumer, f"{prefix}/orders/x")
        assert not life.put(consumer, f"{prefix}/orders/x")
        assert life.engine.lax or not life.lists(consumer, f"{prefix}/")
    (row,) = life.inputs("marketing")
    assert row["name"] == "sales__orders"
    assert row["url"] == f"s3://{life.bucket}/sales-eu/orders/"

    life.move_data("sales", "sales-eu")
    for _ in range(2):
        life.settle()
    assert life.record(life.sales).former == ()
    assert life.objects("sales/") | life.objects(".provisioner/owners/sales.json") == set()
    assert not life.put(life.key("sales-eu"), ORDERS)
    assert life.engine.lax or not life.lists(life.key("marketing"), "sales/orders/")
    assert life.get(life.key("marketing"), "sales-eu/orders/day.parquet")


def test_a_name_that_was_given_up_is_another_products_alone(life: Lifetime) -> None:
    life.portal.rename(life.sales, "sales-eu")
    life.settle()
    heir = life.portal.create_product("sales", name="Heir")
    life.settle(heir)
    assert life.conditions(heir) == ["NotOurs"]
    life.move_data("sales", "sales-eu")
    for _ in range(2):
        life.settle()
    life.settle(heir)
    assert life.put(life.key("sales"), ORDERS)
    assert not life.get(life.key("sales-eu"), ORDERS)
    assert not life.get(life.key("marketing"), ORDERS)
    assert not life.get(life.key("sales"), "sales-eu/orders/day.parquet")


def test_renaming_back_leaves_nothing_out_of_reach(life: Lifetime) -> None:
    life.portal.rename(life.sales, "sales-eu")
    life.settle()
    assert life.put(life.key("sales-eu"), "sales-eu/orders/new")
    life.portal.rename(life.sales, "sales")
    life.settle()
    for name in (ORDERS, "sales-eu/orders/new"):
        assert life.get(life.key("sales"), name)
        assert life.get(life.key("marketing"), name)
    assert life.env("sales")["S3_PREFIX"] == "sales/"
    assert not life.folder("sales-eu").exists()


def test_where_the_new_name_is_taken_the_old_one_works_on(life: Lifetime) -> None:
    life.portal.rename(life.sales, "marketing-2")
    life.engine.s3().put_object(Bucket=life.bucket, Key="marketing-2/theirs", Body=b"1")
    life.settle()
    assert life.conditions(life.sales) == ["NotOurs", "RenamePending"]
    assert life.put(life.key("sales"), ORDERS)
    assert not life.get(life.key("sales"), "marketing-2/theirs")
    assert life.get(life.key("marketing"), ORDERS)


def test_a_deleted_product_loses_its_keys_and_leaves_its_data(life: Lifetime) -> None:
    old, reader = life.key("sales"), life.key("marketing")
    life.portal.delete_product(life.sales)
    life.settle()
    assert life.is_dead(old)
    assert not life.get(life.key("marketing"), ORDERS)
    assert not life.get(reader, ORDERS)
    assert not life.folder("sales").exists()
    archived = life.folder(".provisioner/archive") / life.sales
    assert (archived / "README.md").exists()
    assert not (archived / ".env").exists()
    assert ORDERS in life.objects()
    assert life.sales not in life.portal.products


def test_who_gets_a_dead_products_name_gets_nothing_of_it(life: Lifetime) -> None:
    old = life.key("sales")
    life.portal.delete_product(life.sales)
    life.settle()
    heir = life.portal.create_product("sales", name="Heir")
    port = life.portal.create_port(heir, "orders")
    life.portal.request_access(life.marketing, port)
    life.portal.approve(port, life.marketing)
    life.settle(heir, life.marketing)
    assert life.conditions(heir) == ["NotOurs"]
    assert not life.folder("sales").exists()
    assert life.is_dead(old)
    assert not life.get(life.key("marketing"), ORDERS)


def test_an_operator_hands_a_dead_products_data_to_its_heir(life: Lifetime) -> None:
    old = life.key("sales")
    life.portal.delete_product(life.sales)
    life.settle()
    heir = life.portal.create_product("sales", name="Heir")
    life.settle(heir)
    assert life.adopt(heir).status == "done"
    assert life.conditions(heir) == []
    assert life.get(life.key("sales"), ORDERS)
    assert life.put(life.key("sales"), ORDERS)
    assert life.is_dead(old)
    assert not life.get(life.key("marketing"), ORDERS)

    assert life.purge(life.sales).status == "done"
    assert life.get(life.key("sales"), ORDERS)
    assert not (life.folder(".provisioner/archive") / life.sales).exists()


def test_what_a_living_product_has_is_not_adopted(life: Lifetime) -> None:
    life.portal.rename(life.sales, "sales-eu")
    life.settle()
    heir = life.portal.create_product("sales", name="Heir")
    life.settle(heir)
    assert life.adopt(heir).status == "condition"
    assert life.conditions(heir) == ["AdoptRefused"]
    assert not life.folder("sales").exists()
    assert life.put(life.key("sales-eu"), ORDERS)


def test_a_purge_deletes_all_that_a_product_left_and_frees_its_names(life: Lifetime) -> None:
    life.portal.rename(life.sales, "sales-eu")
    life.settle()
    key = life.key("sales-eu")
    assert life.put(key, "sales-eu/orders/x")
    life.client(key).create_multipart_upload(Bucket=life.bucket, Key="sales-eu/unfinished")
    life.portal.delete_product(life.sales)
    life.settle()
    assert {ORDERS, "sales-eu/orders/x"} <= life.objects()

    assert life.purge("sales").status == "done"
    assert {key.split("/")[0] for key in life.objects()} == {".provisioner", "marketing"}
    assert life.objects(".provisioner/owners/") == {".provisioner/owners/marketing.json"}
    assert not (life.folder(".provisioner/archive") / life.sales).exists()
    assert life.record(life.sales).purged_at is not None

    heirs = [life.portal.create_product(name, name=name) for name in ("sales", "sales-eu")]
    life.settle(*heirs)
    for name in ("sales", "sales-eu"):
        assert life.put(life.key(name), f"{name}/x")
        assert life.objects(f"{name}/") == {f"{name}/.keep", f"{name}/x"}


def test_the_whole_life_of_a_product_leaves_no_key_behind(life: Lifetime) -> None:
    seen = [life.key("sales")]
    for status in ("archived", "active"):
        life.portal.set_status(life.sales, status)
        life.settle()
    seen.append(life.key("sales"))
    life.portal.rename(life.sales, "sales-eu")
    life.settle()
    life.portal.delete_product(life.sales)
    life.settle()
    assert life.purge(life.sales).status == "done"
    assert [life.is_dead(key) for key in seen] == [True] * len(seen)
    assert life.record(life.sales).credentials.principal == ""
