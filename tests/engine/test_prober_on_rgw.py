"""Prove keys that only read, or that may do nothing at all, on a real engine."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from provisioner import model, s3
from provisioner.domain import policy
from provisioner.s3 import prober as s3_prober

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine


def prober(node: engines.Rgw, bucket: str) -> s3.S3Prober:
    return s3.S3Prober(endpoint=node.endpoint, region="us-east-1", bucket=bucket)


def proves(node: engines.Rgw, bucket: str, key: model.AccessKey, *readable: str) -> bool:
    places = [model.Location(bucket=bucket, prefix=prefix) for prefix in readable]
    return prober(node, bucket).prove(key, None, rounds=2, pause_seconds=0, readable=places)


def a_grant(bucket: str, prefix: str) -> model.Grant:
    return model.Grant(
        producer_id="p",
        producer_namespace="p",
        port_id="q",
        port_namespace="q",
        access=model.Access.READ,
        locations=(model.Location(bucket=bucket, prefix=prefix),),
    )


def test_a_key_without_any_grant_is_proven_until_it_is_deleted(rgw: engines.Rgw) -> None:
    bucket = rgw.bucket()
    uid, key = rgw.user(policy.text(policy.document(bucket=bucket, own=[], grants=[])))
    assert proves(rgw, bucket, key)
    assert not proves(rgw, bucket, model.AccessKey(key.id, "x" * 40))
    rgw.delete_user(uid)
    assert not proves(rgw, bucket, key)


def test_a_key_without_any_grant_is_proven_before_there_is_a_bucket(rgw: engines.Rgw) -> None:
    document = policy.document(bucket="never-made", own=[], grants=[])
    _, key = rgw.user(policy.text(document))
    assert proves(rgw, "never-made", key)


def test_a_key_that_reads_is_proven_by_what_it_reads(rgw: engines.Rgw) -> None:
    bucket = rgw.bucket()
    granted = [a_grant(bucket, "orders/daily/")]
    document = policy.document(bucket=bucket, own=[], grants=granted)
    _, key = rgw.user(policy.text(document))
    assert proves(rgw, bucket, key, "orders/daily/")
    assert not proves(rgw, bucket, key, "orders/")
    assert not proves(rgw, bucket, key, "orders/daily/", "hr/")


def test_probes_that_a_kill_left_are_deleted_with_the_next_proof(
    rgw: engines.Rgw, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, left = rgw.bucket(), f"sales/.provisioner-probe-{'0f' * 8}"
    _, key = rgw.user(policy.text(policy.document(bucket=bucket, own=["sales/"], grants=[])))
    client = rgw.s3()
    for name in (left, "sales/a", "sales/zebra"):
        client.put_object(Bucket=bucket, Key=name, Body=b"provisioner")
    monkeypatch.setattr(s3_prober, "_STALE_AFTER", timedelta(seconds=-5))
    assert prober(rgw, bucket).prove(key, "sales/", rounds=1, pause_seconds=0)
    found = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [each["Key"] for each in found] == ["sales/a", "sales/zebra"]
