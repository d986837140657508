"""Read small objects that producers publish: anything may lie there, and change meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from provisioner import errors, ports
from provisioner.s3 import client as s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ABSENT = frozenset({"NoSuchKey", "NoSuchBucket", "404"})
_UNCHANGED = frozenset({"304", "NotModified"})
_OF_OUR_KEY = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""Refusals that are no object's: whoever asks is wrong."""
_NOT_ASKED = ""
"""Of what was refused without asking the engine: there are no credentials."""
_LONGEST_ETAG = 200


class S3PublishedFiles:
    """Implement `ports.PublishedFiles` with the admin's own access."""

    def __init__(self, client: S3Client, *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def read(self, key: str, *, limit: int, etag: str = "") -> ports.PublishedFile:
        """Read an object of at most `limit` bytes whole, unless it still has the ETag."""
        condition = {"IfNoneMatch": etag} if etag else {}
        try:
            found = s3_client.call(lambda: self._read(key, limit, condition), tolerate=_ABSENT)
        except errors.PermanentError as exc:
            if exc.attributes.get("code") in _UNCHANGED:
                return ports.PublishedFile(found=ports.Found.UNCHANGED, etag=etag)
            if exc.attributes.get("code", _NOT_ASKED) in {*_OF_OUR_KEY, _NOT_ASKED}:
                raise
            # Encrypted with a key of its writer's, archived, closed by a policy: one port's affair.
            return ports.PublishedFile(found=ports.Found.REFUSED)
        return found or ports.PublishedFile(found=ports.Found.ABSENT)

    def _read(self, key: str, limit: int, condition: Any) -> ports.PublishedFile:
        """Take in one answer; what is too large is hung up on, whatever its head says."""
        answer = self._client.get_object(Bucket=self._bucket, Key=key, **condition)
        stream = answer["Body"]
        try:
            if answer.get("ContentLength", 0) > limit:  # a gateway may leave it out
                return ports.PublishedFile(found=ports.Found.TOO_LARGE)
            body = stream.read(limit + 1)
        finally:
            stream.close()
        if len(body) > limit:
            return ports.PublishedFile(found=ports.Found.TOO_LARGE)
        etag = answer.get("ETag", "")
        return ports.PublishedFile(
            found=ports.Found.READ,
            body=body,
            etag=etag if len(etag) <= _LONGEST_ETAG else "",
            modified_at=answer.get("LastModified"),
        )
