"""A bucket full of everybody's objects on each real engine, and the issued key of `sales`.

`sales` owns `sales/`, reads `orders/daily/`, writes `shared/in/`, and nothing else of `lake`. The
fixture `lake` is in `tests.engines`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from provisioner import model
from provisioner.domain import policy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests import engines

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
FOREIGN = b"everybody's"


def grant(access: model.Access, prefix: str, bucket: str = "lake") -> model.Grant:
    """Grant one prefix."""
    return model.Grant(
        producer_id="p",
        producer_namespace="p",
        port_id="q",
        port_namespace="q",
        access=access,
        locations=(model.Location(bucket=bucket, prefix=prefix),),
    )


DOCUMENT = policy.document(
    bucket="lake",
    own=["sales/"],
    grants=[grant(model.Access.READ, "orders/daily/"), grant(model.Access.WRITE, "shared/in/")],
)


@dataclass(frozen=True, kw_only=True)
class Lake:
    """The bucket, its admin, and the key of `sales`."""

    engine: engines.Rgw | engines.Minio
    name: str
    """Which engine it is: a few things are told apart by it, each with its reason."""
    admin: S3Client
    sales: S3Client
    holder: engines.Holder
    upload: str
    """An upload that the admin has begun at `hr/upload`."""

    def client(self, document: dict[str, Any]) -> S3Client:
        """Return the client of a new key."""
        return self.engine.s3(self.engine.holder(document).key)

    def body(self, key: str, bucket: str = "lake") -> bytes | None:
        """Return what an object holds; None if there is none."""
        try:
            return self.admin.get_object(Bucket=bucket, Key=key)["Body"].read()
        except self.admin.exceptions.NoSuchKey:
            return None


def fill(engine: engines.Rgw | engines.Minio, name: str) -> Lake:
    """Fill the buckets `lake` and `vault` of an engine; an earlier module may have made them."""
    admin = engine.s3()
    for bucket in ("lake", "vault"):
        with contextlib.suppress(admin.exceptions.BucketAlreadyOwnedByYou):
            admin.create_bucket(Bucket=bucket)
        for key in (*OTHERS, *OWN, *GRANTED, *WRITABLE):
            if name == "minio" and key in ("sales", "shared/in"):
                continue  # MinIO keeps keys as paths, on which a name is an object or a folder
            admin.put_object(Bucket=bucket, Key=key, Body=FOREIGN)
    holder = engine.holder(DOCUMENT)
    upload = admin.create_multipart_upload(Bucket="lake", Key="hr/upload")["UploadId"]
    return Lake(
        engine=engine,
        name=name,
        admin=admin,
        sales=engine.s3(holder.key),
        holder=holder,
        upload=upload,
    )


def allowed(call: Callable[[], object], *, refusals: Collection[int] = (403,)) -> bool:
    """Tell whether the engine lets a call through; anything but a refusal is a failure."""
    try:
        call()
    except ClientError as exc:
        if exc.response["ResponseMetadata"]["HTTPStatusCode"] not in refusals:
            raise
        return False
    return True
