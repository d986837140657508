"""Run real S3 engines for tests: moto in this process, and one Ceph node with its RGW.

A test module asks for the fixtures with `pytest_plugins = ["tests.engines"]`, so that each engine
is started once a session; import it for types only.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from provisioner import model
from tests import ceph_node

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
_numbers = itertools.count(1)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that runs, and its admin."""

    endpoint: str
    admin: model.AccessKey = field(repr=False)

    @property
    def lax(self) -> bool:
        """Tell whether the engine checks no condition of a policy, as moto does."""
        return type(self) is Engine

    def s3(self, key: model.AccessKey | None = None) -> S3Client:
        """Return a plain client of a key, or of the admin."""
        client: S3Client = self._client("s3", key or self.admin)
        return client

    def iam(self) -> IAMClient:
        """Return the admin's plain client for IAM."""
        client: IAMClient = self._client("iam", self.admin)
        return client

    def _client(self, service: Any, key: model.AccessKey) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
            ),
        )

    def name(self, word: str = "lake") -> str:
        """Return a name that nobody used in this session."""
        return f"{word}-{next(_numbers)}"

    def bucket(self) -> str:
        """Make a bucket of the admin's and return its name."""
        name = self.name()
        self.s3().create_bucket(Bucket=name)
        return name


@pytest.fixture(scope="session")
def moto() -> Iterator[Engine]:
    """Run moto in threads of this process, with IAM enforced."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    iam = Engine(endpoint=endpoint, admin=model.AccessKey("bootstrap", "bootstrap")).iam()
    iam.create_user(UserName="admin")
    iam.put_user_policy(
        UserName="admin",
        PolicyName="all",
        PolicyDocument='{"Version":"2012-10-17",'
        '"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
    )
    made = iam.create_access_key(UserName="admin")["AccessKey"]
    _enforce(endpoint, "0")
    yield Engine(
        endpoint=endpoint, admin=model.AccessKey(made["AccessKeyId"], made["SecretAccessKey"])
    )
    _enforce(endpoint, "inf")
    server.stop()


def _enforce(endpoint: str, free_calls: str) -> None:
    """Let moto check every call after this many; as a form, the body would be lost."""
    httpx.post(
        f"{endpoint}/moto-api/reset-auth",
        content=free_calls,
        headers={"Content-Type": "text/plain"},
    ).raise_for_status()


@dataclass(frozen=True, kw_only=True)
class Rgw(Engine):
    """A Ceph RGW before version 19: users are made by its admin operations."""

    def user(self, document: str) -> tuple[str, model.AccessKey]:
        """Make a user with one key and a policy, who can make no buckets."""
        uid = self.name("user")
        key = model.AccessKey(f"AKIA{uid.upper():0>16}"[:20], f"{uid:s>40}")
        self._admin("PUT", uid, **{"access-key": key.id, "secret-key": key.secret})
        self.put_policy(uid, document)
        return uid, key

    def put_policy(self, uid: str, document: str) -> None:
        """Replace a user's policy."""
        self.iam().put_user_policy(UserName=uid, PolicyName="dp", PolicyDocument=document)

    def delete_user(self, uid: str) -> None:
        """Delete a user and every key of it."""
        self._admin("DELETE", uid)

    def _admin(self, method: str, uid: str, **parameters: str) -> None:
        query = {"uid": uid, "display-name": uid, "max-buckets": "-1", **parameters}
        url = f"{self.endpoint}/admin/user?{urllib.parse.urlencode(query)}"
        request = AWSRequest(method=method, url=url)
        credentials = Credentials(self.admin.id, self.admin.secret)
        S3SigV4Auth(credentials, "s3", REGION).add_auth(request)
        httpx.request(
            method, url, headers=dict(request.headers.items()), timeout=20
        ).raise_for_status()


@pytest.fixture(scope="session")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    """Run a Ceph node of one mon, one osd and one RGW; skip where Ceph is not installed."""
    missing = [each for each in ceph_node.PROGRAMS if shutil.which(each) is None]
    if missing:
        reason = f"no {', '.join(missing)}: apt-get install {' '.join(ceph_node.PACKAGES)}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    admin = model.AccessKey("AKIAADMINADMINADMIN0", "a" * 40)
    with ceph_node.Node(
        tmp_path_factory.mktemp("ceph"), s3_port=free_port(), mon_port=free_port()
    ) as node:
        node.create_admin(admin)
        yield Rgw(endpoint=node.endpoint, admin=admin)
