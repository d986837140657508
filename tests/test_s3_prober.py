from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from provisioner import errors, model, s3
from provisioner.domain import policy
from provisioner.s3 import prober as s3_prober

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]


def closed_endpoint() -> str:
    """Return an address that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


class Sandbox:
    """A bucket on moto with a key that owns `sales/`."""

    def __init__(self, engine: engines.Engine) -> None:
        self.engine, self.bucket = engine, engine.bucket()
        self.user = engine.name("user")
        self.put_policy(policy.document(bucket=self.bucket, own=["sales/"], grants=[]), new=True)
        made = engine.iam().create_access_key(UserName=self.user)["AccessKey"]
        self.key = model.AccessKey(made["AccessKeyId"], made["SecretAccessKey"])
        self.pauses: list[float] = []
        self.prober = s3.S3Prober(
            endpoint=engine.endpoint,
            region="us-east-1",
            bucket=self.bucket,
            sleep=self.pauses.append,
        )

    def put_policy(self, document: dict[str, Any], *, new: bool = False) -> None:
        iam = self.engine.iam()
        if new:
            iam.create_user(UserName=self.user)
        iam.put_user_policy(
            UserName=self.user, PolicyName="dp", PolicyDocument=policy.text(document)
        )

    def left(self) -> list[str]:
        listed = self.engine.s3().list_objects_v2(Bucket=self.bucket)
        return [each["Key"] for each in listed.get("Contents", [])]


@pytest.fixture
def sandbox(moto: engines.Engine) -> Sandbox:
    return Sandbox(moto)


def test_a_working_key_is_proven_round_after_round_and_leaves_nothing(sandbox: Sandbox) -> None:
    assert sandbox.prober.prove(sandbox.key, "sales/", rounds=3, pause_seconds=2.5)
    assert sandbox.pauses == [2.5, 2.5]
    assert sandbox.left() == []


@pytest.mark.parametrize(
    "key",
    [
        model.AccessKey("AKIANOBODYMADETHIS00", "x" * 40),
        model.AccessKey("", ""),
    ],
)
def test_a_key_that_the_engine_does_not_know_is_not_proven(
    sandbox: Sandbox, key: model.AccessKey
) -> None:
    assert not sandbox.prober.prove(key, "sales/", rounds=1, pause_seconds=0)


def test_a_key_that_may_not_read_is_not_proven_and_its_probe_is_gone(sandbox: Sandbox) -> None:
    document = policy.document(bucket=sandbox.bucket, own=["sales/"], grants=[])
    document["Statement"][0]["Action"].remove("s3:GetObject")
    sandbox.put_policy(document)
    assert not sandbox.prober.prove(sandbox.key, "sales/", rounds=1, pause_seconds=0)
    assert sandbox.left() == []


def test_a_key_that_stops_working_between_rounds_is_not_proven(sandbox: Sandbox) -> None:
    iam = sandbox.engine.iam()

    def revoke(seconds: float) -> None:
        iam.delete_access_key(UserName=sandbox.user, AccessKeyId=sandbox.key.id)

    prober = s3.S3Prober(
        endpoint=sandbox.engine.endpoint, region="us-east-1", bucket=sandbox.bucket, sleep=revoke
    )
    assert not prober.prove(sandbox.key, "sales/", rounds=2, pause_seconds=1)


def test_a_bucket_that_is_gone_is_not_the_keys_fault(sandbox: Sandbox) -> None:
    prober = s3.S3Prober(
        endpoint=sandbox.engine.endpoint, region="us-east-1", bucket="never-made-bucket"
    )
    with pytest.raises(errors.PermanentError) as caught:
        prober.prove(sandbox.engine.admin, "sales/", rounds=1, pause_seconds=0)
    assert caught.value.attributes["code"] == "NoSuchBucket"


def test_an_engine_that_is_down_proves_and_disproves_nothing() -> None:
    prober = s3.S3Prober(endpoint=closed_endpoint(), region="us-east-1", bucket="lake")
    with pytest.raises(errors.StorageUnavailable):
        prober.prove(model.AccessKey("a", "b"), "sales/", rounds=1, pause_seconds=0)


def test_two_keys_are_proven_at_the_same_time_each_by_itself(moto: engines.Engine) -> None:
    meeting = threading.Barrier(2, timeout=30)

    def wait(seconds: float) -> None:
        meeting.wait()

    first, second = Sandbox(moto), Sandbox(moto)
    second.put_policy(policy.document(bucket=first.bucket, own=["hr/"], grants=[]))
    prober = s3.S3Prober(
        endpoint=moto.endpoint,
        region="us-east-1",
        bucket=first.bucket,
        sleep=wait,
    )

    def prove(key: model.AccessKey, prefix: str) -> bool:
        return prober.prove(key, prefix, rounds=3, pause_seconds=0)

    with ThreadPoolExecutor(2) as threads:
        pairs = ([first.key, second.key], ["sales/", "hr/"])
        assert list(threads.map(prove, *pairs)) == [True, True]
    assert not prove(second.key, "sales/")


def test_probes_that_a_kill_left_are_deleted_with_the_next_proof(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = f"sales/.provisioner-probe-{'0f' * 8}"
    theirs = {
        "sales/.provisioner-probe-notes": b"provisioner",
        f"sales/.provisioner-probe-{'1f' * 8}": b"a text of theirs",
        "sales/a": b"provisioner",
        "sales/zebra": b"provisioner",
        f"sales/orders/.provisioner-probe-{'0f' * 8}": b"provisioner",
    }
    client = sandbox.engine.s3()
    for key, body in {left: b"provisioner", **theirs}.items():
        client.put_object(Bucket=sandbox.bucket, Key=key, Body=body)
    assert sandbox.prober.prove(sandbox.key, "sales/", rounds=1, pause_seconds=0)
    assert sandbox.left() == sorted([left, *theirs])  # somebody else may be proving just now
    monkeypatch.setattr(s3_prober, "_STALE_AFTER", timedelta(seconds=-5))
    assert sandbox.prober.prove(sandbox.key, "sales/", rounds=1, pause_seconds=0)
    assert sandbox.left() == sorted(theirs)
