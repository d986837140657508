"""Try with a key what its owner would do, and what a thief would; say what the engine let through.

For `provisioner doctor` and the tests: the key and nothing else is used, as its owner has it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from provisioner import errors, model
from provisioner.s3 import client as s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BODY = b"provisioner"
_REFUSED = frozenset({401, 403})


class KeyTrial:
    """Hold one key and make calls with it; close it after use.

    Every call returns True where the engine did what was asked, False where it refused, and raises
    `StorageUnavailable` where it did not answer. Any other answer is a `PermanentError`.
    """

    def __init__(
        self, key: model.AccessKey, *, endpoint: str | None, region: str, bucket: str
    ) -> None:
        self._bucket = bucket
        self._client: S3Client = s3_client.new_client(
            "s3",
            endpoint=endpoint,
            region=region,
            access_key=key.id,
            secret_key=key.secret,
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def lists(self, prefix: str | None) -> bool:
        """List below a prefix; None lists without naming one."""
        named: Any = {} if prefix is None else {"Prefix": prefix}
        return _allowed(
            lambda: self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1, **named)
        )

    def reads(self, name: str) -> bool:
        """Read an object that is there."""
        return _allowed(
            lambda: self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()
        )

    def writes(self, name: str) -> bool:
        """Write an object."""
        return _allowed(lambda: self._client.put_object(Bucket=self._bucket, Key=name, Body=_BODY))

    def deletes(self, name: str) -> bool:
        """Delete an object."""
        return _allowed(lambda: self._client.delete_object(Bucket=self._bucket, Key=name))

    def deletes_together(self, names: Sequence[str]) -> bool:
        """Delete objects in one batch; True only where each was deleted."""
        batch: Any = {"Objects": [{"Key": name} for name in names]}
        answered: dict[str, Any] = {}

        def ask() -> None:
            answered.update(self._client.delete_objects(Bucket=self._bucket, Delete=batch))

        return _allowed(ask) and not answered.get("Errors")

    def copies(self, source: str, name: str) -> bool:
        """Copy an object."""
        origin: Any = {"Bucket": self._bucket, "Key": source}
        return _allowed(
            lambda: self._client.copy_object(Bucket=self._bucket, Key=name, CopySource=origin)
        )

    def copies_in_parts(self, source: str, name: str) -> bool:
        """Copy an object as a part of an upload; False where the source is refused."""
        origin: Any = {"Bucket": self._bucket, "Key": source}
        upload = self._client.create_multipart_upload(Bucket=self._bucket, Key=name)["UploadId"]
        try:
            return _allowed(
                lambda: self._client.upload_part_copy(
                    Bucket=self._bucket,
                    Key=name,
                    UploadId=upload,
                    PartNumber=1,
                    CopySource=origin,
                )
            )
        finally:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)

    def makes_a_bucket(self) -> bool:
        """Make a bucket of its own; one that was made is deleted again."""
        name = f"provisioner-trial-{uuid.uuid4().hex[:12]}"
        made = _allowed(lambda: self._client.create_bucket(Bucket=name))
        if made:
            _allowed(lambda: self._client.delete_bucket(Bucket=name))
        return made

    def reads_the_bucket_policy(self) -> bool:
        """Read the bucket's own policy: who may do that may often write it too."""
        try:
            return _allowed(lambda: self._client.get_bucket_policy(Bucket=self._bucket))
        except errors.PermanentError as exc:
            if exc.attributes.get("code") == "NoSuchBucketPolicy":
                return True
            raise


def _allowed(operation: Callable[[], object]) -> bool:
    """Tell whether the engine lets a call through; an engine without the call refuses it too."""
    try:
        s3_client.call(operation)
    except errors.PermanentError as exc:
        if exc.attributes.get("status") in _REFUSED:
            return False
        raise
    return True
