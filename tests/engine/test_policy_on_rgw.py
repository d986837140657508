"""Hold the policy document against a real engine: what Ceph's RGW allows and refuses by it.

`sales` owns `sales/`, reads `orders/daily/`, writes `shared/in/`, and nothing else of `lake`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from provisioner import errors, model, policy, s3
from provisioner.issuers import choose

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests import engines

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine

OTHERS = (
    "hr/x",
    "orders/x",
    "orders/hourly/x",
    "orders/daily-old/x",
    "sales-eu/x",
    "sale/x",
    "sales",
    "SALES/x",
    "shared/x",
    "shared/in",
    ".provisioner/owners/sales.json",
    ".provisioner/owners/hr.json",
    "x",
)
OWN = ("sales/x", "sales/deep/er/x", "sales/.keep", "sales/a b+c=d", "sales/\u00fc")
GRANTED = ("orders/daily/x", "orders/daily/2024/x")
WRITABLE = ("shared/in/x", "shared/in/deep/x")


def grant(access: model.Access, prefix: str) -> model.Grant:
    return model.Grant(
        producer_id="p",
        producer_namespace="p",
        port_id="q",
        port_namespace="q",
        access=access,
        locations=(model.Location(bucket="lake", prefix=prefix),),
    )


DOCUMENT = policy.with_batch_delete(
    policy.document(
        bucket="lake",
        own=["sales/"],
        grants=[grant(model.Access.READ, "orders/daily/"), grant(model.Access.WRITE, "shared/in/")],
    )
)


@dataclass(frozen=True, kw_only=True)
class Lake:
    """A bucket full of everybody's objects, and the key of `sales`."""

    rgw: engines.Rgw
    admin: S3Client
    sales: S3Client
    key: model.AccessKey
    upload: str
    """An upload that the admin has begun at `hr/upload`."""


@pytest.fixture(scope="module")
def lake(rgw: engines.Rgw) -> Lake:
    admin = rgw.s3()
    for bucket in ("lake", "vault"):
        admin.create_bucket(Bucket=bucket)
        for name in (*OTHERS, *OWN, *GRANTED, *WRITABLE):
            admin.put_object(Bucket=bucket, Key=name, Body=b"everybody's")
    _, key = rgw.user(policy.text(DOCUMENT))
    upload = admin.create_multipart_upload(Bucket="lake", Key="hr/upload")["UploadId"]
    return Lake(rgw=rgw, admin=admin, sales=rgw.s3(key), key=key, upload=upload)


def allowed(call: Callable[[], object]) -> bool:
    """Tell whether the engine lets a call through; anything but a refusal is a failure."""
    try:
        call()
    except ClientError as exc:
        if exc.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False
    return True


def exists(lake: Lake, key: str) -> bool:
    listed = lake.admin.list_objects_v2(Bucket="lake", Prefix=key)
    return key in [each["Key"] for each in listed.get("Contents", [])]


@pytest.mark.parametrize("key", [*OWN, *GRANTED, *WRITABLE])
def test_own_and_granted_objects_are_read(lake: Lake, key: str) -> None:
    assert allowed(lambda: lake.sales.get_object(Bucket="lake", Key=key))
    assert allowed(lambda: lake.sales.head_object(Bucket="lake", Key=key))


@pytest.mark.parametrize("key", OTHERS)
def test_no_other_object_is_read(lake: Lake, key: str) -> None:
    assert not allowed(lambda: lake.sales.get_object(Bucket="lake", Key=key))
    assert not allowed(lambda: lake.sales.head_object(Bucket="lake", Key=key))


@pytest.mark.parametrize("key", ["sales/new", "sales/new/deep/er", "shared/in/new"])
def test_own_and_writable_objects_are_written_and_deleted(lake: Lake, key: str) -> None:
    assert allowed(lambda: lake.sales.put_object(Bucket="lake", Key=key, Body=b"ours"))
    assert lake.sales.get_object(Bucket="lake", Key=key)["Body"].read() == b"ours"
    assert allowed(lambda: lake.sales.delete_object(Bucket="lake", Key=key))
    assert not exists(lake, key)


@pytest.mark.parametrize("key", [*OTHERS, *GRANTED])
def test_no_other_object_is_written_or_deleted(lake: Lake, key: str) -> None:
    assert not allowed(lambda: lake.sales.put_object(Bucket="lake", Key=key, Body=b"ours"))
    assert not allowed(lambda: lake.sales.delete_object(Bucket="lake", Key=key))
    assert lake.admin.get_object(Bucket="lake", Key=key)["Body"].read() == b"everybody's"


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
    assert not allowed(lambda: lake.sales.list_objects_v2(Bucket="lake", Prefix=prefix))
    assert not allowed(lambda: lake.sales.list_objects(Bucket="lake", Prefix=prefix, Delimiter="/"))


def test_the_bucket_is_not_listed_without_a_prefix(lake: Lake) -> None:
    assert not allowed(lambda: lake.sales.list_objects_v2(Bucket="lake"))
    assert not allowed(lambda: lake.sales.list_objects_v2(Bucket="lake", Delimiter="/"))
    assert not allowed(lambda: lake.sales.list_objects_v2(Bucket="lake", StartAfter="sales/"))


def test_a_missing_own_object_says_so_and_a_missing_foreign_one_does_not(lake: Lake) -> None:
    assert not allowed(lambda: lake.sales.get_object(Bucket="lake", Key="hr/never-made"))
    with pytest.raises(ClientError) as caught:
        lake.sales.get_object(Bucket="lake", Key="sales/never-made")
    assert caught.value.response["Error"]["Code"] in ("NoSuchKey", "AccessDenied")


def upload_to(client: S3Client, key: str) -> None:
    begun = client.create_multipart_upload(Bucket="lake", Key=key)["UploadId"]
    name: Any = {"Bucket": "lake", "Key": key, "UploadId": begun}
    part = client.upload_part(**name, PartNumber=1, Body=b"part")
    client.list_parts(**name)
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**name, MultipartUpload=parts)


@pytest.mark.parametrize("key", ["sales/upload", "shared/in/upload"])
def test_own_and_writable_uploads_in_parts_are_done_and_aborted(lake: Lake, key: str) -> None:
    assert allowed(lambda: upload_to(lake.sales, key))
    begun = lake.sales.create_multipart_upload(Bucket="lake", Key=key)["UploadId"]
    assert allowed(
        lambda: lake.sales.abort_multipart_upload(Bucket="lake", Key=key, UploadId=begun)
    )


@pytest.mark.parametrize("key", ["hr/mine", "orders/daily/mine", "sales-eu/mine", "mine"])
def test_no_other_upload_in_parts_is_begun(lake: Lake, key: str) -> None:
    assert not allowed(lambda: lake.sales.create_multipart_upload(Bucket="lake", Key=key))


@pytest.mark.parametrize("operation", ["upload_part", "list_parts", "abort_multipart_upload"])
def test_an_upload_of_somebody_elses_is_out_of_reach(lake: Lake, operation: str) -> None:
    part = {"PartNumber": 1, "Body": b"ours"} if operation == "upload_part" else {}
    assert not allowed(
        lambda: getattr(lake.sales, operation)(
            Bucket="lake", Key="hr/upload", UploadId=lake.upload, **part
        )
    )


def test_uploads_of_the_bucket_are_not_listed(lake: Lake) -> None:
    assert not allowed(lambda: lake.sales.list_multipart_uploads(Bucket="lake"))


@pytest.mark.parametrize("source", ["sales/x", "orders/daily/x", "shared/in/x"])
def test_own_and_granted_objects_are_copied_home(lake: Lake, source: str) -> None:
    copy: Any = {"Bucket": "lake", "Key": source}
    assert allowed(
        lambda: lake.sales.copy_object(Bucket="lake", Key="sales/copied", CopySource=copy)
    )


@pytest.mark.parametrize("source", ["hr/x", "sales-eu/x", ".provisioner/owners/hr.json"])
@pytest.mark.parametrize("bucket", ["lake", "vault"])
def test_no_other_object_is_copied_home(lake: Lake, bucket: str, source: str) -> None:
    copy: Any = {"Bucket": bucket, "Key": source}
    assert not allowed(
        lambda: lake.sales.copy_object(Bucket="lake", Key="sales/stolen", CopySource=copy)
    )
    assert not exists(lake, "sales/stolen")


@pytest.mark.parametrize("target", ["hr/copied", "orders/daily/copied", "sales-eu/copied"])
def test_nothing_is_copied_to_others(lake: Lake, target: str) -> None:
    copy: Any = {"Bucket": "lake", "Key": "sales/x"}
    assert not allowed(lambda: lake.sales.copy_object(Bucket="lake", Key=target, CopySource=copy))


def test_a_batch_deletes_own_objects_and_no_others(lake: Lake) -> None:
    lake.sales.put_object(Bucket="lake", Key="sales/batch", Body=b"")
    foreign = ("hr/x", "sales-eu/x", "orders/daily/x", ".provisioner/owners/sales.json")
    batch: Any = {"Objects": [{"Key": each} for each in ("sales/batch", *foreign)]}
    answer = lake.sales.delete_objects(Bucket="lake", Delete=batch)
    assert [each["Key"] for each in answer["Deleted"]] == ["sales/batch"]
    assert {(each["Key"], each["Code"]) for each in answer["Errors"]} == {
        (each, "AccessDenied") for each in foreign
    }
    assert all(exists(lake, each) for each in foreign)


def test_without_the_batch_statement_a_batch_deletes_nothing(lake: Lake) -> None:
    plain = policy.document(bucket="lake", own=["sales/"], grants=[])
    _, key = lake.rgw.user(policy.text(plain))
    batch: Any = {"Objects": [{"Key": "sales/deep/er/x"}]}
    assert not allowed(lambda: lake.rgw.s3(key).delete_objects(Bucket="lake", Delete=batch))
    assert exists(lake, "sales/deep/er/x")


BUCKET_CALLS: dict[str, dict[str, Any]] = {
    "head_bucket": {},
    "list_object_versions": {"Prefix": "sales/"},
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
    assert lake.sales.list_buckets()["Buckets"] == []


def test_a_key_is_proven_by_itself_and_leaves_no_probe(lake: Lake) -> None:
    prober = s3.S3Prober(endpoint=lake.rgw.endpoint, region="us-east-1", bucket="lake")
    assert prober.prove(lake.key, "sales/", rounds=3, pause_seconds=0)
    assert not prober.prove(lake.key, "hr/", rounds=1, pause_seconds=0)
    assert not prober.prove(lake.key, "orders/daily/", rounds=1, pause_seconds=0)
    wrong = model.AccessKey(lake.key.id, "x" * 40)
    assert not prober.prove(wrong, "sales/", rounds=1, pause_seconds=0)
    assert not exists(lake, "sales/.provisioner-probe-")
    listed = lake.admin.list_objects_v2(Bucket="lake", Prefix="sales/.provisioner-probe-")
    assert listed["KeyCount"] == 0


def test_a_revoked_grant_is_refused_at_once_and_the_rest_goes_on(lake: Lake) -> None:
    uid, key = lake.rgw.user(policy.text(DOCUMENT))
    client = lake.rgw.s3(key)
    assert allowed(lambda: client.get_object(Bucket="lake", Key="orders/daily/x"))
    lake.rgw.put_policy(uid, policy.text(policy.document(bucket="lake", own=["sales/"], grants=[])))
    assert not allowed(lambda: client.get_object(Bucket="lake", Key="orders/daily/x"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix="orders/daily/"))
    assert not allowed(lambda: client.put_object(Bucket="lake", Key="shared/in/x", Body=b""))
    assert allowed(lambda: client.get_object(Bucket="lake", Key="sales/x"))


def test_a_document_of_nothing_denies_everything(lake: Lake) -> None:
    uid, key = lake.rgw.user(policy.text(DOCUMENT))
    lake.rgw.put_policy(uid, policy.text(policy.document(bucket="lake", own=[], grants=[])))
    client = lake.rgw.s3(key)
    assert not allowed(lambda: client.get_object(Bucket="lake", Key="sales/x"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix="sales/"))


def test_a_document_of_two_buckets_keeps_them_apart(lake: Lake) -> None:
    elsewhere = model.Location(bucket="vault", prefix="hr/")
    document = policy.document(
        bucket="lake",
        own=["sales/"],
        grants=[
            model.Grant(
                producer_id="p",
                producer_namespace="p",
                port_id="q",
                port_namespace="q",
                access=model.Access.READ,
                locations=(elsewhere,),
            )
        ],
    )
    _, key = lake.rgw.user(policy.text(document))
    client = lake.rgw.s3(key)
    assert allowed(lambda: client.get_object(Bucket="vault", Key="hr/x"))
    assert allowed(lambda: client.list_objects_v2(Bucket="vault", Prefix="hr/"))
    assert not allowed(lambda: client.get_object(Bucket="lake", Key="hr/x"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix="hr/"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="vault", Prefix="sales/"))


@pytest.mark.parametrize("namespace", ["a.b", "a+b", "a=b", "a,b", "a@b", "_a", "a..b", "0"])
def test_every_character_of_a_namespace_is_taken_literally(lake: Lake, namespace: str) -> None:
    document = policy.document(bucket="lake", own=[f"{namespace}/"], grants=[])
    _, key = lake.rgw.user(policy.text(document))
    client = lake.rgw.s3(key)
    assert allowed(lambda: client.put_object(Bucket="lake", Key=f"{namespace}/x", Body=b""))
    assert allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix=f"{namespace}/"))
    for other in ("aXb", "a", "b", "a/b", f"{namespace}x", f"x{namespace}"):
        assert not allowed(lambda o=other: client.put_object(Bucket="lake", Key=f"{o}/x", Body=b""))  # type: ignore[misc]


def test_a_deleted_user_is_refused_at_once(lake: Lake) -> None:
    uid, key = lake.rgw.user(policy.text(DOCUMENT))
    client = lake.rgw.s3(key)
    assert allowed(lambda: client.get_object(Bucket="lake", Key="sales/x"))
    lake.rgw.delete_user(uid)
    assert not allowed(lambda: client.get_object(Bucket="lake", Key="sales/x"))
    assert not allowed(lambda: client.list_objects_v2(Bucket="lake", Prefix="sales/"))


def test_an_rgw_before_the_iam_api_is_refused_by_name(lake: Lake) -> None:
    client = s3.connect(
        endpoint=lake.rgw.endpoint,
        region="us-east-1",
        access_key=lake.rgw.admin.id,
        secret_key=lake.rgw.admin.secret,
        service="iam",
    )
    issuer, _ = choose.choose("auto", client=client, endpoint=lake.rgw.endpoint)
    product = "6f1e2d3c-0000-4000-8000-000000000001"
    principal = model.Principal(name="dp-sales-6f1e2d3c", product_id=product)
    with pytest.raises(errors.IssuerRejected, match="rgw"):
        issuer.ensure_principal(principal)


def test_a_bucket_of_another_user_is_not_ours(lake: Lake) -> None:
    store = s3.S3Store(lake.sales, bucket="vault", region="us-east-1")
    with pytest.raises(errors.NotOurs):
        store.ensure_bucket()


def test_a_region_that_is_no_place_here_is_no_obstacle(lake: Lake) -> None:
    client = s3.connect(
        endpoint=lake.rgw.endpoint,
        region="eu-west-1",
        access_key=lake.rgw.admin.id,
        secret_key=lake.rgw.admin.secret,
    )
    name = lake.rgw.name()
    s3.S3Store(client, bucket=name, region="eu-west-1").ensure_bucket()
    rules = lake.admin.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert [rule["AbortIncompleteMultipartUpload"] for rule in rules] == [
        {"DaysAfterInitiation": 7}
    ]
