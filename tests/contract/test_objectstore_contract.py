"""One suite for every `ports.ObjectStore`: in memory, moto, and Ceph's RGW."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from provisioner import errors, ports, s3
from tests import memory_s3

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
SALES = "6f1e2d3c-0000-4000-8000-000000000001"
OTHER = "6f1e2d3c-0000-4000-8000-000000000002"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A store on a bucket that is not there yet, and a look behind it."""

    store: ports.ObjectStore
    cautious: ports.ObjectStore
    """On the same bucket, but it may not be created."""
    put: Callable[[str, bytes], None]
    get: Callable[[str], bytes]


def _in_memory(request: pytest.FixtureRequest) -> Bench:
    store = memory_s3.MemoryObjectStore()
    cautious = memory_s3.MemoryObjectStore(create_bucket=False)

    def put(key: str, body: bytes) -> None:
        store.objects[key] = body

    return Bench(store=store, cautious=cautious, put=put, get=lambda key: store.objects[key])


def _real(request: pytest.FixtureRequest) -> Bench:
    engine: engines.Engine = request.getfixturevalue(request.param)
    bucket, plain = engine.name(), engine.s3()
    client = s3.connect(
        endpoint=engine.endpoint,
        region="us-east-1",
        access_key=engine.admin.id,
        secret_key=engine.admin.secret,
    )

    def put(key: str, body: bytes) -> None:
        plain.put_object(Bucket=bucket, Key=key, Body=body)

    return Bench(
        store=s3.S3Store(client, bucket=bucket, region="us-east-1"),
        cautious=s3.S3Store(client, bucket=bucket, region="us-east-1", create_bucket=False),
        put=put,
        get=lambda key: plain.get_object(Bucket=bucket, Key=key)["Body"].read(),
    )


@pytest.fixture(params=["memory", "moto", pytest.param("rgw", marks=pytest.mark.engine)])
def bench(request: pytest.FixtureRequest) -> Bench:
    return _in_memory(request) if request.param == "memory" else _real(request)


def test_a_bucket_is_made_once_and_then_found(bench: Bench) -> None:
    bench.store.ensure_bucket()
    bench.store.ensure_bucket()
    bench.put("x", b"1")
    assert bench.get("x") == b"1"


def test_a_missing_bucket_that_may_not_be_made_is_said_so(bench: Bench) -> None:
    with pytest.raises(errors.PermanentError, match="S3_CREATE_BUCKET"):
        bench.cautious.ensure_bucket()


def test_where_there_is_no_bucket_nobody_owns_anything_and_all_is_empty(bench: Bench) -> None:
    assert bench.store.owner("sales") is None
    assert bench.store.is_empty("sales/")


def test_a_claim_is_the_owners_for_ever(bench: Bench) -> None:
    bench.store.ensure_bucket()
    bench.store.claim("sales", SALES)
    bench.store.claim("sales", SALES)
    with pytest.raises(errors.NotOurs):
        bench.store.claim("sales", OTHER)
    assert bench.store.owner("sales") == SALES
    assert bench.store.owner("sales-eu") is None


def test_a_claim_leaves_the_prefix_empty(bench: Bench) -> None:
    bench.store.ensure_bucket()
    bench.store.claim("sales", SALES)
    assert bench.store.is_empty("sales/")


@pytest.mark.parametrize("key", ["sales/x", "sales/", "sales/deep/.keep", "sales/.keep2"])
def test_any_object_below_a_prefix_makes_it_not_empty(bench: Bench, key: str) -> None:
    bench.store.ensure_bucket()
    bench.put(key, b"")
    assert not bench.store.is_empty("sales/")


@pytest.mark.parametrize("key", ["sales-eu/x", "sales", "sale/x", "sales/.provisioner-probe-1"])
def test_siblings_and_probes_leave_a_prefix_empty(bench: Bench, key: str) -> None:
    bench.store.ensure_bucket()
    bench.put(key, b"")
    assert bench.store.is_empty("sales/")


def test_keep_leaves_the_prefix_empty_and_overwrites_nothing(bench: Bench) -> None:
    bench.store.ensure_bucket()
    bench.store.keep("hr/")
    assert bench.get("hr/.keep") == b""
    bench.put("sales/.keep", b"a user's words")
    bench.store.keep("sales/")
    assert bench.get("sales/.keep") == b"a user's words"
    assert bench.store.is_empty("sales/")


@pytest.mark.parametrize("name", ["..", "", "a/b", "*", "Sales", ".env"])
def test_an_unsafe_name_reaches_no_key(bench: Bench, name: str) -> None:
    bench.store.ensure_bucket()
    with pytest.raises(errors.NameRejected):
        bench.store.owner(name)
    with pytest.raises(errors.NameRejected):
        bench.store.claim(name, SALES)


@pytest.mark.parametrize("prefix", ["", "sales", "*/", "../", "/", ".provisioner/"])
def test_an_unsafe_prefix_is_neither_listed_nor_kept(bench: Bench, prefix: str) -> None:
    bench.store.ensure_bucket()
    with pytest.raises(errors.NameRejected):
        bench.store.is_empty(prefix)
    with pytest.raises(errors.NameRejected):
        bench.store.keep(prefix)
