"""Hold the policy document against real engines: which objects an issued key reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.lake import GRANTED, OTHERS, OWN, WRITABLE, Lake, allowed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine


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
    assert not lake.body(key) is not None


@pytest.mark.parametrize("key", [*OTHERS, *GRANTED])
def test_no_other_object_is_written_or_deleted(lake: Lake, key: str) -> None:
    before = lake.body(key)
    assert not allowed(lambda: lake.sales.put_object(Bucket="lake", Key=key, Body=b"ours"))
    assert not allowed(lambda: lake.sales.delete_object(Bucket="lake", Key=key))
    assert lake.body(key) == before


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
    assert lake.body("sales/stolen") is None


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
    assert all(lake.body(each) is not None for each in foreign)
