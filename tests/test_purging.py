"""Delete what lies below a prefix, at engines that answer oddly."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from provisioner import errors, s3
from provisioner.s3 import client as s3_client

_VERSIONS = {"Bucket": "lake", "Prefix": "sales/", "MaxKeys": 1000}
_UPLOADS = {"Bucket": "lake", "Prefix": "sales/"}


@pytest.fixture
def stubbed() -> tuple[s3.S3Store, Stubber]:
    client = s3_client.new_client(
        "s3", endpoint="http://127.0.0.1:9", region="us-east-1", access_key="a", secret_key="b"
    )
    stubber = Stubber(client)
    stubber.activate()
    return s3.S3Store(client, bucket="lake", region="us-east-1"), stubber


def deletes(stubber: Stubber, objects: list[dict[str, str]], failed: Any = ()) -> None:
    stubber.add_response(
        "delete_objects",
        {"Errors": list(failed)},
        {"Bucket": "lake", "Delete": {"Objects": objects, "Quiet": True}},
    )


def test_where_no_versions_are_known_plain_objects_go(stubbed: tuple[s3.S3Store, Stubber]) -> None:
    store, stubber = stubbed
    stubber.add_client_error("list_object_versions", "NotImplemented", http_status_code=501)
    stubber.add_response("list_objects_v2", {"Contents": [{"Key": "sales/x"}]}, _VERSIONS)
    deletes(stubber, [{"Key": "sales/x"}])
    assert store.purge("sales/")
    stubber.assert_no_pending_responses()


def test_versions_and_markers_are_named_each(stubbed: tuple[s3.S3Store, Stubber]) -> None:
    store, stubber = stubbed
    listed: Any = {
        "Versions": [{"Key": "sales/x", "VersionId": "1"}, {"Key": "sales/y"}],
        "DeleteMarkers": [{"Key": "sales/x", "VersionId": "2"}],
    }
    stubber.add_response("list_object_versions", listed, _VERSIONS)
    deletes(
        stubber,
        [
            {"Key": "sales/x", "VersionId": "1"},
            {"Key": "sales/y"},
            {"Key": "sales/x", "VersionId": "2"},
        ],
        [{"Key": "sales/x", "Code": "NoSuchKey"}],
    )
    assert store.purge("sales/")


@pytest.mark.parametrize(
    ("code", "error"),
    [("AccessDenied", errors.PermanentError), ("SlowDown", errors.StorageUnavailable)],
)
def test_an_object_that_stays_is_said(
    stubbed: tuple[s3.S3Store, Stubber], code: str, error: type[errors.ReconcileError]
) -> None:
    store, stubber = stubbed
    listed: Any = {"Versions": [{"Key": "sales/x", "VersionId": "1"}]}
    stubber.add_response("list_object_versions", listed, _VERSIONS)
    objects = [{"Key": "sales/x", "VersionId": "1"}]
    deletes(stubber, objects, [{"Key": "sales/x", "Code": code}])
    with pytest.raises(error) as caught:
        store.purge("sales/")
    assert caught.value.attributes["code"] == code


def test_who_may_not_list_versions_is_told_so(stubbed: tuple[s3.S3Store, Stubber]) -> None:
    store, stubber = stubbed
    stubber.add_client_error("list_object_versions", "AccessDenied", http_status_code=403)
    with pytest.raises(errors.PermanentError):
        store.purge("sales/")


@pytest.mark.parametrize(("code", "status"), [("NotImplemented", 501), ("AccessDenied", 403)])
def test_uploads_that_cannot_be_listed_are_left_where_that_is_not_known(
    stubbed: tuple[s3.S3Store, Stubber], code: str, status: int
) -> None:
    store, stubber = stubbed
    stubber.add_response("list_object_versions", {}, _VERSIONS)
    for _ in range(2):
        stubber.add_client_error("list_multipart_uploads", code, http_status_code=status)
    if code == "NotImplemented":
        assert not store.purge("sales/")
    else:
        with pytest.raises(errors.PermanentError):
            store.purge("sales/")


def test_all_pages_are_searched_for_uploads_below_the_prefix(
    stubbed: tuple[s3.S3Store, Stubber],
) -> None:
    store, stubber = stubbed
    stubber.add_response("list_object_versions", {}, _VERSIONS)
    stubber.add_response("list_multipart_uploads", {}, _UPLOADS)
    first: Any = {
        "Uploads": [{"Key": "hr/x", "UploadId": "1"}],
        "IsTruncated": True,
        "NextKeyMarker": "hr/x",
        "NextUploadIdMarker": "1",
    }
    stubber.add_response("list_multipart_uploads", first, {"Bucket": "lake"})
    second: Any = {"Uploads": [{"Key": "sales/x", "UploadId": "2"}]}
    after = {"Bucket": "lake", "KeyMarker": "hr/x", "UploadIdMarker": "1"}
    stubber.add_response("list_multipart_uploads", second, after)
    stubber.add_response(
        "abort_multipart_upload", {}, {"Bucket": "lake", "Key": "sales/x", "UploadId": "2"}
    )
    assert store.purge("sales/")
    stubber.assert_no_pending_responses()
