"""One suite for every `ports.PublishedFiles`: in memory, moto, Ceph's RGW and MinIO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from provisioner import ports, s3
from tests import memory_contracts

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
KEY = "sales/orders/_port.json"
Found = ports.Found


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Files under test, and a producer who writes and removes them."""

    files: ports.PublishedFiles
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]
    now: Callable[[], datetime]


def _in_memory() -> Bench:
    def now() -> datetime:
        return datetime(2026, 11, 21, 12, tzinfo=UTC)

    files = memory_contracts.MemoryPublishedFiles(now)
    return Bench(files=files, put=files.put, remove=files.remove, now=now)


def _real(engine: engines.Engine) -> Bench:
    bucket, plain = engine.bucket(), engine.s3()
    client = s3.connect(
        endpoint=engine.endpoint,
        region="us-east-1",
        access_key=engine.admin.id,
        secret_key=engine.admin.secret,
    )

    def put(key: str, body: bytes) -> None:
        plain.put_object(Bucket=bucket, Key=key, Body=body, ContentEncoding="gzip")

    def remove(key: str) -> None:
        plain.delete_object(Bucket=bucket, Key=key)

    return Bench(
        files=s3.S3PublishedFiles(client, bucket=bucket),
        put=put,
        remove=remove,
        now=lambda: datetime.now(UTC),
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
    if request.param == "memory":
        return _in_memory()
    return _real(request.getfixturevalue(request.param))


def test_a_file_is_read_whole_and_then_only_where_it_changed(bench: Bench) -> None:
    assert bench.files.read(KEY, limit=8).found is Found.ABSENT
    bench.put(KEY, b"12345678")
    first = bench.files.read(KEY, limit=8)
    assert (first.found, first.body) == (Found.READ, b"12345678")
    assert first.modified_at is not None
    assert abs(first.modified_at - bench.now()) < timedelta(minutes=1)
    assert bench.files.read(KEY, limit=8, etag=first.etag).found is Found.UNCHANGED
    bench.put(KEY, b"other")
    assert bench.files.read(KEY, limit=8, etag=first.etag).body == b"other"
    bench.remove(KEY)
    assert bench.files.read(KEY, limit=8, etag=first.etag).found is Found.ABSENT


def test_an_empty_file_is_read_and_a_large_one_is_not(bench: Bench) -> None:
    bench.put(KEY, b"")
    assert bench.files.read(KEY, limit=8).body == b""
    bench.put(KEY, b"123456789")
    found = bench.files.read(KEY, limit=8)
    assert (found.found, found.body, found.etag) == (Found.TOO_LARGE, b"", "")
