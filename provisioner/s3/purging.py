"""Delete what lies below a prefix, for good: objects, their old versions, unfinished uploads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from provisioner import errors
from provisioner.s3 import client as s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ABSENT = frozenset({"NoSuchBucket", "404"})
_GONE = frozenset({"NoSuchUpload", "NoSuchKey", "404"})
_UNKNOWN = frozenset({"NotImplemented", "MethodNotAllowed"})
_OBJECTS = 1000


def purge(client: S3Client, bucket: str, prefix: str) -> bool:
    """Delete one batch; True while there may be more.

    Raise `PermanentError` where something may not be deleted, such as an object under a lock.
    """
    found = _versions(client, bucket, prefix)
    if found:
        _delete(client, bucket, found)
        return True
    return _abort_uploads(client, bucket, prefix)


def _versions(client: S3Client, bucket: str, prefix: str) -> list[dict[str, str]]:
    """List versions and delete markers; plain objects where the engine knows no versions."""
    try:
        page: Any = s3_client.call(
            lambda: client.list_object_versions(Bucket=bucket, Prefix=prefix, MaxKeys=_OBJECTS),
            tolerate=_ABSENT,
        )
    except errors.PermanentError as exc:
        if exc.attributes.get("code") not in _UNKNOWN:
            raise
        page = s3_client.call(
            lambda: client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=_OBJECTS)
        )
        return [{"Key": each["Key"]} for each in (page or {}).get("Contents", [])]
    listed = [*(page or {}).get("Versions", []), *(page or {}).get("DeleteMarkers", [])]
    return [_named(each) for each in listed]


def _named(version: dict[str, Any]) -> dict[str, str]:
    """Name one version; in a bucket that never had versions they have no id."""
    identity = version.get("VersionId")
    key = {"Key": version["Key"]}
    return {**key, "VersionId": identity} if identity else key


def _delete(client: S3Client, bucket: str, found: list[dict[str, str]]) -> None:
    wanted: Any = {"Objects": found, "Quiet": True}
    answer: Any = s3_client.call(lambda: client.delete_objects(Bucket=bucket, Delete=wanted))
    for failed in (answer or {}).get("Errors", []):
        if failed.get("Code") in _GONE:
            continue
        said: Any = {"code": failed.get("Code", ""), "key": failed.get("Key", "")}
        if failed.get("Code") in ("InternalError", "SlowDown", "ServiceUnavailable"):
            raise errors.StorageUnavailable("the S3 engine did not delete an object", **said)
        raise errors.PermanentError("an object cannot be deleted", **said)


def _abort_uploads(client: S3Client, bucket: str, prefix: str) -> bool:
    """Abort uploads that were never finished; True where there were any.

    Asked for a prefix MinIO lists none, so that all of the bucket's are looked through as well.
    """
    uploads = next(_uploads(client, bucket, Prefix=prefix), [])
    for page in _uploads(client, bucket) if not uploads else ():
        uploads += [each for each in page if each["Key"].startswith(prefix)]
    for each in uploads:
        _abort(client, bucket, each)
    return bool(uploads)


def _uploads(client: S3Client, bucket: str, **where: str) -> Iterator[list[dict[str, Any]]]:
    """List unfinished uploads page by page; none where the engine does not list them."""
    more: dict[str, str] | None = {}
    while more is not None:
        page = _page(client, bucket, where | more)
        yield list(page.get("Uploads", []))
        more = None
        if page.get("IsTruncated"):
            more = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }


def _page(client: S3Client, bucket: str, arguments: dict[str, str]) -> dict[str, Any]:
    wanted: Any = arguments
    try:
        page: Any = s3_client.call(
            lambda: client.list_multipart_uploads(Bucket=bucket, **wanted), tolerate=_ABSENT
        )
    except errors.PermanentError as exc:
        if exc.attributes.get("code") not in _UNKNOWN:
            raise
        return {}
    return page or {}


def _abort(client: S3Client, bucket: str, upload: dict[str, Any]) -> None:
    s3_client.call(
        lambda: client.abort_multipart_upload(
            Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        ),
        tolerate=_GONE,
    )
