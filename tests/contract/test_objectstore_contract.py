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


@pytest.fixture(
    params=[
        "memory",
        "moto",
        pytest.param("rgw", marks=pytest.mark.engine),
        pytest.param("minio", marks=pytest.mark.engine),
    ]
)
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
    assert not bench.store.kept("sales/")


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


@pytest.mark.parametrize("key", ["sales/.keep2", "sales/.keep/x", "sales/x", "sale/.keep"])
def test_nothing_else_is_taken_for_what_keeps_a_prefix(bench: Bench, key: str) -> None:
    bench.store.ensure_bucket()
    bench.put(key, b"")
    assert not bench.store.kept("sales/")
    bench.store.keep("sales/")
    assert bench.store.kept("sales/")


@pytest.mark.parametrize("name", ["..", "", "a/b", "*", "Sales", ".env"])
def test_an_unsafe_name_reaches_no_key(bench: Bench, name: str) -> None:
    bench.store.ensure_bucket()
    with pytest.raises(errors.NameRejected):
        bench.store.owner(name)
    with pytest.raises(errors.NameRejected):
        bench.store.claim(name, SALES)
    with pytest.raises(errors.NameRejected):
        bench.store.adopt(name, SALES)
    with pytest.raises(errors.NameRejected):
        bench.store.disown(name, SALES)


@pytest.mark.parametrize("prefix", ["", "sales", "*/", "../", "/", ".provisioner/"])
def test_an_unsafe_prefix_is_neither_listed_nor_kept(bench: Bench, prefix: str) -> None:
    bench.store.ensure_bucket()
    with pytest.raises(errors.NameRejected):
        bench.store.is_empty(prefix)
    with pytest.raises(errors.NameRejected):
        bench.store.keep(prefix)
    with pytest.raises(errors.NameRejected):
        bench.store.kept(prefix)


def test_an_adopted_prefix_is_the_new_owners(bench: Bench) -> None:
    bench.store.ensure_bucket()
    bench.store.claim("sales", OTHER)
    bench.store.adopt("sales", SALES)
    bench.store.adopt("hr", SALES)
    assert (bench.store.owner("sales"), bench.store.owner("hr")) == (SALES, SALES)
    with pytest.raises(errors.NotOurs):
        bench.store.claim("sales", OTHER)


def test_who_disowns_a_prefix_frees_it_and_nobody_elses(bench: Bench) -> None:
    bench.store.ensure_bucket()
    bench.store.claim("sales", SALES)
    bench.store.keep("sales/")
    bench.put("sales/x", b"1")
    bench.store.disown("sales", OTHER)
    bench.store.disown("hr", SALES)
    assert bench.store.owner("sales") == SALES
    bench.store.disown("sales", SALES)
    bench.store.disown("sales", SALES)
    assert bench.store.owner("sales") is None
    assert bench.get("sales/x") == b"1"


def purged(bench: Bench, prefix: str) -> int:
    """Purge to the end and count the batches that found something."""
    for number in range(20):
        if not bench.store.purge(prefix):
            return number
    raise AssertionError("there is no end to it")


def test_a_purge_deletes_what_lies_below_a_prefix_and_nothing_beside_it(bench: Bench) -> None:
    bench.store.ensure_bucket()
    bench.store.claim("sales", SALES)
    for key in ("sales/.keep", "sales/x", "sales/a b/+ü?*", "sales/deep/er/y", "sales/z/"):
        bench.put(key, b"1")
    for key in ("sales-eu/x", "sale/x"):
        bench.put(key, b"2")
    assert purged(bench, "sales/") > 0
    assert bench.store.is_empty("sales/")
    assert bench.store.owner("sales") == SALES
    assert [bench.get(key) for key in ("sales-eu/x", "sale/x")] == [b"2"] * 2
    assert purged(bench, "sales/") == 0


def test_where_there_is_no_bucket_there_is_nothing_to_purge(bench: Bench) -> None:
    assert not bench.store.purge("sales/")


@pytest.mark.parametrize("prefix", ["", "sales", "*/", "../", "/", ".provisioner/"])
def test_an_unsafe_prefix_is_not_purged(bench: Bench, prefix: str) -> None:
    bench.store.ensure_bucket()
    with pytest.raises(errors.NameRejected):
        bench.store.purge(prefix)


@pytest.fixture(
    params=[
        "moto",
        pytest.param("rgw", marks=pytest.mark.engine),
        pytest.param("minio", marks=pytest.mark.engine),
    ]
)
def engine(request: pytest.FixtureRequest) -> engines.Engine:
    made: engines.Engine = request.getfixturevalue(request.param)
    return made


def a_store(engine: engines.Engine) -> tuple[s3.S3Store, str]:
    bucket = engine.bucket()
    client = s3.connect(
        endpoint=engine.endpoint,
        region="us-east-1",
        access_key=engine.admin.id,
        secret_key=engine.admin.secret,
    )
    return s3.S3Store(client, bucket=bucket, region="us-east-1"), bucket


def test_old_versions_and_delete_markers_go_too(engine: engines.Engine) -> None:
    store, bucket = a_store(engine)
    plain = engine.s3()
    plain.put_object(Bucket=bucket, Key="sales/before", Body=b"0")
    plain.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        for key in ("sales/x", "sales/before", "sales-eu/x"):
            plain.put_object(Bucket=bucket, Key=key, Body=body)
    plain.delete_object(Bucket=bucket, Key="sales/x")
    while store.purge("sales/"):
        pass
    left = plain.list_object_versions(Bucket=bucket)
    assert "DeleteMarkers" not in left
    assert {each["Key"] for each in left["Versions"]} == {"sales-eu/x"}
    assert len(left["Versions"]) == 2


def test_unfinished_uploads_go_too(engine: engines.Engine) -> None:
    store, bucket = a_store(engine)
    plain = engine.s3()
    for key in ("sales/big", "sales/deep/big", "sales-eu/big"):
        upload = plain.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        plain.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"1")
    while store.purge("sales/"):
        pass
    left = plain.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [each["Key"] for each in left] == ["sales-eu/big"]


@pytest.mark.engine  # a thousand objects take moto six seconds
def test_more_objects_than_one_batch_holds_go_in_several(engine: engines.Engine) -> None:
    store, bucket = a_store(engine)
    plain = engine.s3()
    for number in range(1005):
        plain.put_object(Bucket=bucket, Key=f"sales/{number}", Body=b"")
    batches = 0
    while store.purge("sales/"):
        batches += 1
    assert batches == 2
    assert store.is_empty("sales/")
