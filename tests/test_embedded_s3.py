from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from provisioner import errors
from provisioner.demo import embedded_s3
from provisioner.domain import policy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def client(service: Any, endpoint: str, access_key: str, secret_key: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


class Product:
    """A product's key on the embedded engine, and the admin's clients."""

    def __init__(self, engine: embedded_s3.EmbeddedS3) -> None:
        admin = (engine.endpoint, engine.access_key, engine.secret_key)
        self.iam = client("iam", *admin)
        self.admin: S3Client = client("s3", *admin)
        self.admin.create_bucket(Bucket="lake")
        self.admin.put_object(Bucket="lake", Key="hr/x", Body=b"x")
        self.iam.create_user(UserName="sales")
        document = policy.document(bucket="lake", own=["sales/"], grants=[])
        self.iam.put_user_policy(
            UserName="sales", PolicyName="dp", PolicyDocument=policy.text(document)
        )
        made = self.iam.create_access_key(UserName="sales")["AccessKey"]
        self.key_id = made["AccessKeyId"]
        self.s3: S3Client = client("s3", engine.endpoint, self.key_id, made["SecretAccessKey"])


@pytest.fixture(scope="module")
def engine() -> Iterator[embedded_s3.EmbeddedS3]:
    with embedded_s3.EmbeddedS3() as running:
        yield running


@pytest.fixture(scope="module")
def product(engine: embedded_s3.EmbeddedS3) -> Product:
    return Product(engine)


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except ClientError:
        return True
    return False


def test_a_key_that_was_never_issued_is_refused(engine: embedded_s3.EmbeddedS3) -> None:
    stranger = client("s3", engine.endpoint, "AKIASTRANGER00000000", "x" * 40)
    assert refused(stranger.list_buckets)


def test_a_product_reaches_its_own_objects_and_no_others(product: Product) -> None:
    product.s3.put_object(Bucket="lake", Key="sales/x", Body=b"1")
    assert product.s3.get_object(Bucket="lake", Key="sales/x")["Body"].read() == b"1"
    assert refused(lambda: product.s3.get_object(Bucket="lake", Key="hr/x"))
    assert refused(lambda: product.s3.put_object(Bucket="lake", Key="hr/y", Body=b""))


def test_what_is_said_not_to_be_enforced_is_not(product: Product) -> None:
    """The sentences are facts about this version of moto; another may enforce more, or less."""
    product.s3.put_object(Bucket="lake", Key="sales/own", Body=b"1")
    facts = {
        "Listings": not refused(lambda: product.s3.list_objects_v2(Bucket="lake")),
        "Copies": not refused(
            lambda: product.s3.copy_object(
                Bucket="lake", Key="sales/copy", CopySource={"Bucket": "lake", "Key": "hr/x"}
            )
        ),
        "Batch deletes": "Deleted"
        not in product.s3.delete_objects(Bucket="lake", Delete={"Objects": [{"Key": "sales/own"}]}),
        "Presigned links": httpx.get(
            product.s3.generate_presigned_url(
                "get_object", Params={"Bucket": "lake", "Key": "sales/own"}
            )
        ).is_error,
        "Policies of any size": not refused(
            lambda: product.iam.put_user_policy(
                UserName="sales",
                PolicyName="large",
                PolicyDocument=json.dumps(
                    policy.document(
                        bucket="lake",
                        own=[f"sales/{number:03}/" for number in range(99)],
                        grants=[],
                    )
                ),
            )
        ),
    }
    product.iam.delete_user_policy(UserName="sales", PolicyName="large")
    said = " ".join(embedded_s3.NOT_ENFORCED)
    assert facts == dict.fromkeys(facts, True)
    assert all(each in said for each in facts)


def test_an_inactive_key_still_works_and_a_deleted_one_does_not(product: Product) -> None:
    made = product.iam.create_access_key(UserName="sales")["AccessKey"]
    second = client(
        "s3", product.s3.meta.endpoint_url, made["AccessKeyId"], made["SecretAccessKey"]
    )
    name = {"UserName": "sales", "AccessKeyId": made["AccessKeyId"]}
    product.iam.update_access_key(**name, Status="Inactive")
    assert not refused(lambda: second.put_object(Bucket="lake", Key="sales/y", Body=b""))
    product.iam.delete_access_key(**name)
    assert refused(lambda: second.put_object(Bucket="lake", Key="sales/y", Body=b""))
    assert any(each.startswith("Inactive keys") for each in embedded_s3.NOT_ENFORCED)


def test_a_port_that_is_taken_is_said_so(engine: embedded_s3.EmbeddedS3) -> None:
    taken = int(engine.endpoint.rpartition(":")[2])
    with pytest.raises(errors.StorageUnavailable, match="taken"), embedded_s3.EmbeddedS3(taken):
        pass


def test_the_engine_ends_with_its_parent_however_that_ends() -> None:
    script = (
        "from provisioner.demo import embedded_s3\n"
        "s = embedded_s3.EmbeddedS3().__enter__()\n"
        "print(s._process.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        engine_pid = int(parent.stdout.readline())
        watched = os.pidfd_open(engine_pid)
        parent.send_signal(signal.SIGKILL)
    ended, _, _ = select.select([watched], [], [], 10)
    os.close(watched)
    assert ended == [watched]
