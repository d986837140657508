"""Hold the policy document against real engines: it changes, and its holder goes."""

from __future__ import annotations

import pytest

from provisioner import errors, model, s3
from provisioner.domain import policy
from tests.lake import DOCUMENT, Lake, allowed, grant

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine


def test_a_key_is_proven_by_itself_and_leaves_no_probe(lake: Lake) -> None:
    prober = s3.S3Prober(endpoint=lake.engine.endpoint, region="us-east-1", bucket="lake")
    assert prober.prove(lake.holder.key, "sales/", rounds=3, pause_seconds=0)
    assert not prober.prove(lake.holder.key, "hr/", rounds=1, pause_seconds=0)
    assert not prober.prove(lake.holder.key, "orders/daily/", rounds=1, pause_seconds=0)
    wrong = model.AccessKey(lake.holder.key.id, "x" * 40)
    assert not prober.prove(wrong, "sales/", rounds=1, pause_seconds=0)
    listed = lake.admin.list_objects_v2(Bucket="lake", Prefix="sales/.provisioner-probe-")
    assert listed["KeyCount"] == 0


def test_a_revoked_grant_is_refused_at_once_and_the_rest_goes_on(lake: Lake) -> None:
    holder = lake.engine.holder(DOCUMENT)
    client = lake.engine.s3(holder.key)
    assert allowed(lambda: client.get_object(Bucket="lake", Key="orders/daily/x"))
    holder.put_policy(policy.document(bucket="lake", own=["sales/"], grants=[]))
    assert not allowed(lambda: client.get_object(Bucket="lake", Key="orders/daily/x"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix="orders/daily/"))
    assert not allowed(lambda: client.put_object(Bucket="lake", Key="shared/in/x", Body=b""))
    assert allowed(lambda: client.get_object(Bucket="lake", Key="sales/x"))


def test_a_document_of_nothing_denies_everything(lake: Lake) -> None:
    holder = lake.engine.holder(DOCUMENT)
    holder.put_policy(policy.document(bucket="lake", own=[], grants=[]))
    client = lake.engine.s3(holder.key)
    assert not allowed(lambda: client.get_object(Bucket="lake", Key="sales/x"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix="sales/"))


def test_a_document_of_two_buckets_keeps_them_apart(lake: Lake) -> None:
    document = policy.document(
        bucket="lake", own=["sales/"], grants=[grant(model.Access.READ, "hr/", bucket="vault")]
    )
    client = lake.client(document)
    assert allowed(lambda: client.get_object(Bucket="vault", Key="hr/x"))
    assert allowed(lambda: client.list_objects_v2(Bucket="vault", Prefix="hr/"))
    assert not allowed(lambda: client.get_object(Bucket="lake", Key="hr/x"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix="hr/"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="vault", Prefix="sales/"))


@pytest.mark.parametrize("namespace", ["a.b", "a+b", "a=b", "a,b", "a@b", "_a", "a..b", "0"])
def test_every_character_of_a_namespace_is_taken_literally(lake: Lake, namespace: str) -> None:
    document = policy.document(bucket="lake", own=[f"{namespace}/"], grants=[])
    client = lake.client(document)
    assert allowed(lambda: client.put_object(Bucket="lake", Key=f"{namespace}/x", Body=b""))
    assert allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix=f"{namespace}/"))
    for other in ("aXb", "a", "b", "a/b", f"{namespace}x", f"x{namespace}"):
        assert not allowed(lambda o=other: client.put_object(Bucket="lake", Key=f"{o}/x", Body=b""))  # type: ignore[misc]


def test_a_deleted_principal_is_refused_at_once(lake: Lake) -> None:
    holder = lake.engine.holder(DOCUMENT)
    client = lake.engine.s3(holder.key)
    assert allowed(lambda: client.get_object(Bucket="lake", Key="sales/x"))
    holder.delete()
    assert not allowed(lambda: client.get_object(Bucket="lake", Key="sales/x"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix="sales/"))


def test_a_bucket_of_another_user_is_not_ours(lake: Lake) -> None:
    store = s3.S3Store(lake.sales, bucket="vault", region="us-east-1")
    with pytest.raises(errors.NotOurs):
        store.ensure_bucket()


def test_a_region_that_is_no_place_here_is_no_obstacle(lake: Lake) -> None:
    client = s3.connect(
        endpoint=lake.engine.endpoint,
        region="eu-west-1",
        access_key=lake.engine.admin.id,
        secret_key=lake.engine.admin.secret,
    )
    name = lake.engine.name()
    s3.S3Store(client, bucket=name, region="eu-west-1").ensure_bucket()
    assert name in [each["Name"] for each in lake.admin.list_buckets()["Buckets"]]
    if lake.name == "minio":
        return  # it knows no rule for uploads that were left, and drops them after a day by itself
    rules = lake.admin.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert [rule["AbortIncompleteMultipartUpload"] for rule in rules] == [
        {"DaysAfterInitiation": 7}
    ]
