"""Hold the policy document against real engines: what an issued key lists and administers."""

from __future__ import annotations

from typing import Any

import pytest

from provisioner.domain import policy
from tests.lake import DOCUMENT, Lake, allowed

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    "prefix",
    [
        *("sales/", "sales/deep/", "sales/deep/er/x", "sales/nothing/"),
        *("orders/daily/", "orders/daily/2024/", "shared/in/", "shared/in/deep"),
    ],
)
def test_own_and_granted_prefixes_are_listed(lake: Lake, prefix: str) -> None:
    assert allowed(lambda: lake.sales.list_objects_v2(Bucket="lake", Prefix=prefix))
    assert allowed(lambda: lake.sales.list_objects(Bucket="lake", Prefix=prefix, Delimiter="/"))


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "s", "sale", "sale/", "sales", "sales-", "sales-eu/", "SALES/", "*", "sales*", "?"),
        *("orders/", "orders", "orders/daily", "orders/daily-old/", "orders/hourly/", "hr/"),
        *("shared/", "shared/in", ".provisioner/", ".provisioner/owners/", "/", "/sales/", "../"),
    ],
)
def test_no_other_prefix_is_listed(lake: Lake, prefix: str) -> None:
    # MinIO calls a path with `..` in it bad before it looks at who asks.
    refusals = (400, 403) if lake.name == "minio" and ".." in prefix else (403,)
    client = lake.sales
    for call in (client.list_objects_v2, client.list_objects):
        plain = lambda call=call: call(Bucket="lake", Prefix=prefix)  # noqa: E731
        folders = lambda call=call: call(Bucket="lake", Prefix=prefix, Delimiter="/")  # noqa: E731
        assert not allowed(plain, refusals=refusals)
        assert not allowed(folders, refusals=refusals)


def test_the_bucket_is_not_listed_without_a_prefix(lake: Lake) -> None:
    assert not allowed(lambda: lake.sales.list_objects_v2(Bucket="lake"))
    assert not allowed(lambda: lake.sales.list_objects_v2(Bucket="lake", Delimiter="/"))
    assert not allowed(lambda: lake.sales.list_objects_v2(Bucket="lake", StartAfter="sales/"))


def test_uploads_of_the_bucket_are_not_listed(lake: Lake) -> None:
    assert not allowed(lambda: lake.sales.list_multipart_uploads(Bucket="lake"))


BUCKET_CALLS: dict[str, dict[str, Any]] = {
    "head_bucket": {},
    "get_bucket_policy": {},
    "put_bucket_policy": {"Policy": policy.text(DOCUMENT)},
    "get_bucket_acl": {},
    "put_bucket_acl": {"ACL": "public-read"},
    "get_bucket_versioning": {},
    "get_bucket_lifecycle_configuration": {},
    "delete_bucket_lifecycle": {},
    "delete_bucket": {},
    "get_object_acl": {"Key": "sales/x"},
    "put_object_acl": {"Key": "sales/x", "ACL": "public-read"},
    "get_object_tagging": {"Key": "sales/x"},
    "put_object_tagging": {
        "Key": "sales/x",
        "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]},
    },
}


@pytest.mark.parametrize("operation", sorted(BUCKET_CALLS))
def test_nothing_that_administers_is_allowed(lake: Lake, operation: str) -> None:
    call = getattr(lake.sales, operation)
    assert not allowed(lambda: call(Bucket="lake", **BUCKET_CALLS[operation]))


def test_the_location_of_the_bucket_is_told(lake: Lake) -> None:
    assert allowed(lambda: lake.sales.get_bucket_location(Bucket="lake"))
    assert not allowed(lambda: lake.sales.get_bucket_location(Bucket="vault"))


@pytest.mark.parametrize("key", ["sales/x", "orders/daily/x", "shared/in/x", "hr/x"])
def test_the_same_names_in_another_bucket_are_out_of_reach(lake: Lake, key: str) -> None:
    prefix = key.removesuffix("x")
    assert not allowed(lambda: lake.sales.get_object(Bucket="vault", Key=key))
    assert not allowed(lambda: lake.sales.put_object(Bucket="vault", Key=key, Body=b""))
    assert not allowed(lambda: lake.sales.delete_object(Bucket="vault", Key=key))
    assert not allowed(lambda: lake.sales.list_objects_v2(Bucket="vault", Prefix=prefix))


def test_no_bucket_is_made_and_none_is_shown(lake: Lake) -> None:
    assert not allowed(lambda: lake.sales.create_bucket(Bucket="of-sales"))
    # MinIO shows the buckets in which there is something for a key, RGW those that it owns.
    shown = [each["Name"] for each in lake.sales.list_buckets()["Buckets"]]
    assert shown == (["lake"] if lake.name == "minio" else [])


@pytest.mark.parametrize("prefix", ["sales/", "orders/daily/", "hr/", "sales-eu/", "sales", ""])
def test_versions_are_listed_no_further_than_objects(lake: Lake, prefix: str) -> None:
    # MinIO takes the right to list objects for that to list versions; RGW wants its own.
    mine = lake.name == "minio" and prefix in ("sales/", "orders/daily/")
    asked = allowed(lambda: lake.sales.list_object_versions(Bucket="lake", Prefix=prefix))
    assert asked == mine
