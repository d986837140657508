"""Keep prefixes in a bucket, with the admin's own access."""

from __future__ import annotations

import json
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from provisioner import errors, names, telemetry
from provisioner.domain import policy
from provisioner.s3 import client as s3_client
from provisioner.s3 import purging

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MARKS = ".provisioner/owners/"
KEEP = ".keep"
PROBE = ".provisioner-probe-"
_UNFINISHED_DAYS = 7
_ABSENT = frozenset({"NoSuchKey", "NoSuchBucket", "404"})
_THERE = frozenset({"PreconditionFailed", "412"})
_UNKNOWN_REGION = frozenset({"InvalidLocationConstraint", "InvalidRegion"})
_log = telemetry.Log(__name__)


class S3Store:
    """Implement `ports.ObjectStore` with the admin's own access."""

    def __init__(
        self, client: S3Client, *, bucket: str, region: str, create_bucket: bool = True
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._region = region
        self._create_bucket = create_bucket
        self._bucket_seen = False
        self._heeds_conditions: bool | None = None  # not known yet

    def ensure_bucket(self) -> None:
        """Make sure that the bucket is there and ours; asked once, and again where it has gone.

        Raise `NotOurs` where it is somebody else's, `PermanentError` where it is missing and may
        not be made.
        """
        if self._bucket_seen:
            return
        if not self._found():
            if not self._create_bucket:
                raise errors.PermanentError(
                    "the bucket is not there and S3_CREATE_BUCKET is off", bucket=self._bucket
                )
            self._make_bucket()
        self._limit_uploads()
        self._bucket_seen = True

    def keeps_versions(self) -> bool:
        """Tell whether there are versions of objects in the bucket; False where it is missing."""
        answer = s3_client.call(
            lambda: self._client.get_bucket_versioning(Bucket=self._bucket), tolerate=_ABSENT
        )
        return answer is not None and "Status" in answer

    def _found(self) -> bool:
        """Look at the bucket by a listing: an error of a HEAD has no code that says why."""
        try:
            listed = s3_client.call(
                lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=MARKS, MaxKeys=1),
                tolerate=_ABSENT,
            )
        except errors.PermanentError as exc:
            if exc.attributes.get("code") == "AccessDenied":
                raise errors.NotOurs(
                    "the bucket is somebody else's, or our key may not list it",
                    bucket=self._bucket,
                ) from exc
            raise
        return listed is not None

    def _make_bucket(self) -> None:
        """Create the bucket; a self-hosted engine may know no place by the region's name."""
        where: Any = {"LocationConstraint": self._region}
        there = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}
        made = None
        if self._region != "us-east-1":
            made = s3_client.call(
                lambda: self._client.create_bucket(
                    Bucket=self._bucket, CreateBucketConfiguration=where
                ),
                tolerate=there | _UNKNOWN_REGION,
            )
        made = made or s3_client.call(
            lambda: self._client.create_bucket(Bucket=self._bucket), tolerate=there
        )
        if made is None and not self._found():
            raise errors.Conflict("the bucket is being made or deleted", bucket=self._bucket)

    def _limit_uploads(self) -> None:
        """Let the engine drop uploads never finished, where nobody has set any lifecycle.

        Products cannot list each other's uploads, and nobody would pay attention to them.
        """
        rule: Any = {
            "ID": "provisioner-unfinished-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UNFINISHED_DAYS},
        }
        try:
            held = s3_client.call(
                lambda: self._client.get_bucket_lifecycle_configuration(Bucket=self._bucket),
                tolerate={"NoSuchLifecycleConfiguration"},
            )
            if held is None:
                s3_client.call(
                    lambda: self._client.put_bucket_lifecycle_configuration(
                        Bucket=self._bucket, LifecycleConfiguration={"Rules": [rule]}
                    )
                )
        except errors.PermanentError as exc:
            _log.info("unfinished uploads are kept", code=exc.attributes.get("code", ""))

    def owner(self, namespace: str) -> str | None:
        """Return the product id in the mark of a prefix; "" for a mark that cannot be read."""
        body = s3_client.call(
            lambda: self._client.get_object(Bucket=self._bucket, Key=_mark(namespace))[
                "Body"
            ].read(),
            tolerate=_ABSENT,
        )
        return None if body is None else _product_id(body)

    def time(self) -> datetime | None:
        """Return what the engine's clock says, in whole seconds; None where it does not tell."""
        answer = s3_client.call(
            lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=MARKS, MaxKeys=1),
            tolerate=_ABSENT,
        )
        headers = answer["ResponseMetadata"]["HTTPHeaders"] if answer else {}
        told = headers.get("date")
        return parsedate_to_datetime(told) if told else None

    def is_empty(self, prefix: str) -> bool:
        """Tell whether nothing lies below a prefix, our `.keep` and probes aside."""
        policy.check_prefix(prefix)
        page = self._page(prefix)
        while all(_is_ours(each["Key"], prefix) for each in page.get("Contents", [])):
            if not page.get("IsTruncated"):
                return True
            page = self._page(prefix, ContinuationToken=page["NextContinuationToken"])
        return False

    def _page(self, prefix: str, **more: Any) -> Any:
        """List one page below a prefix; an empty one where there is no bucket yet."""
        page = s3_client.call(
            lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more),
            tolerate=_ABSENT,
        )
        return page or {}

    def claim(self, namespace: str, product_id: str) -> None:
        """Write the ownership mark unless there is one; `NotOurs` if it names another product.

        An engine that ignores the condition would overwrite it. So it is looked at first and read
        back, until the engine has shown that it refuses to write what is there.
        """
        mark, body = _mark(namespace), _mark_of(product_id)
        if self._heeds_conditions and self._put_new(mark, body):
            return
        owner = self.owner(namespace)
        if owner is None:
            refused = not self._put_new(mark, body)
            if self._heeds_conditions is None:
                self._heeds_conditions = refused or not self._put_new(mark, body)
            owner = self.owner(namespace)
        if owner != product_id:
            raise errors.NotOurs("the prefix belongs to another product", owner=owner)

    def keep(self, prefix: str) -> None:
        """Write `<prefix>.keep` unless it is there."""
        self._put_new(f"{policy.check_prefix(prefix)}{KEEP}", b"")

    def kept(self, prefix: str) -> bool:
        """Tell whether `<prefix>.keep` is there, by a listing: a HEAD does not say what failed."""
        wanted = f"{policy.check_prefix(prefix)}{KEEP}"
        found = self._page(wanted, MaxKeys=1).get("Contents", [])
        return [each["Key"] for each in found] == [wanted]

    def adopt(self, namespace: str, product_id: str) -> None:
        """Write the ownership mark over whatever is there."""
        body = _mark_of(product_id)
        s3_client.call(
            lambda: self._client.put_object(Bucket=self._bucket, Key=_mark(namespace), Body=body)
        )

    def disown(self, namespace: str, product_id: str) -> None:
        """Remove `.keep`, then the mark, if it names this product."""
        if self.owner(namespace) == product_id:
            for key in (f"{names.prefix(namespace)}{KEEP}", _mark(namespace)):
                self._delete_key(key)

    def _delete_key(self, key: str) -> None:
        s3_client.call(
            lambda: self._client.delete_object(Bucket=self._bucket, Key=key), tolerate=_ABSENT
        )

    def purge(self, prefix: str) -> bool:
        """Delete one batch of all that lies below a prefix; True while there may be more."""
        return purging.purge(self._client, self._bucket, policy.check_prefix(prefix))

    def _put_new(self, key: str, body: bytes) -> bool:
        """Write an object unless it is there; without that condition where it is not known.

        False where the engine says that it is there; `Conflict` where the bucket has gone.
        """
        try:
            written = s3_client.call(
                lambda: self._client.put_object(
                    Bucket=self._bucket, Key=key, Body=body, IfNoneMatch="*"
                ),
                tolerate=_THERE,
            )
        except errors.PermanentError as exc:
            code = exc.attributes.get("code")
            if code == "NoSuchBucket" and self._bucket_seen:
                self._bucket_seen = False
                raise errors.Conflict("the bucket has gone", bucket=self._bucket) from exc
            if code != "NotImplemented":
                raise
            self._heeds_conditions = False
            written = s3_client.call(
                lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=body)
            )
        return written is not None


def _mark(namespace: str) -> str:
    return f"{MARKS}{names.check_namespace(namespace)}.json"


def _mark_of(product_id: str) -> bytes:
    return json.dumps({"product_id": product_id}).encode()


def _product_id(body: bytes) -> str:
    """Read a mark; whatever is no mark belongs to somebody we do not know."""
    try:
        mark = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    found = mark.get("product_id") if isinstance(mark, dict) else None
    return found if isinstance(found, str) else ""


def _is_ours(key: str, prefix: str) -> bool:
    return key == f"{prefix}{KEEP}" or key.startswith(f"{prefix}{PROBE}")
