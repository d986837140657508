"""Run real S3 engines for tests: moto in this process, a Ceph node with its RGW, and MinIO.

A test module asks for the fixtures with `pytest_plugins = ["tests.engines"]`, so that each engine
is started once a session; import it for types only.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import boto3
import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from provisioner import model, names, ports
from provisioner.issuers import adminops, choose, signed
from provisioner.issuers import rgw as ceph
from provisioner.issuers.madmin import MinioIssuer, admin, client, codec
from provisioner.steps import keypair
from tests import ceph_node, minio_server
from tests import lake as lakes

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
    issuer_name: ClassVar[str] = "iam"
    """What PROV_ISSUER calls who makes keys here."""

    @property
    def lax(self) -> bool:
        """Tell whether the engine checks no condition of a policy, as moto does."""
        return type(self) is Engine

    @property
    def access_key(self) -> str:
        """Return the admin's id."""
        return self.admin.id

    @property
    def secret_key(self) -> str:
        """Return the admin's secret."""
        return self.admin.secret

    def s3(self, key: model.AccessKey | None = None) -> S3Client:
        """Return a plain client of a key, or of the admin."""
        client: S3Client = self.client("s3", key or self.admin)
        return client

    def iam(self) -> IAMClient:
        """Return the admin's plain client for IAM."""
        client: IAMClient = self.client("iam", self.admin)
        return client

    def as_chosen_from(self) -> choose.Engine:
        """Return what the choice of an issuer needs."""
        account = signed.Account(
            endpoint=self.endpoint,
            region=REGION,
            access_key=self.admin.id,
            secret_key=self.admin.secret,
        )
        return choose.Engine(account=account, iam=self.iam(), versioned=lambda: False)

    def client(self, service: Any, key: model.AccessKey) -> Any:
        """Return a plain client of a key for any service."""
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
    from moto import backends
    from moto.server import ThreadedMotoServer

    modules = frozenset(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules  # each call looks at every folder of moto
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
class Holder:
    """A principal with a key, whose policy can be replaced."""

    name: str
    key: model.AccessKey
    put_policy: Callable[[Mapping[str, Any]], None]
    delete: Callable[[], None]


def _issued(issuer: ports.Issuer, document: Mapping[str, Any]) -> Holder:
    product = str(uuid.uuid4())
    principal = model.Principal(name=names.principal("sales", product), product_id=product)
    issuer.ensure_principal(principal)
    issuer.put_policy(principal, document)
    return Holder(
        name=principal.name,
        key=issuer.create_key(principal, keypair.choose(), document),
        put_policy=lambda other: issuer.put_policy(principal, other),
        delete=lambda: issuer.delete_principal(principal),
    )


@dataclass(frozen=True, kw_only=True)
class Rgw(Engine):
    """A Ceph RGW before version 19: users are made by its admin operations."""

    issuer_name: ClassVar[str] = "rgw"

    def issuer(self) -> ceph.RgwIssuer:
        """Return an issuer of its own."""
        ops = adminops.AdminOps(signed.Caller(self.as_chosen_from().account))
        return ceph.RgwIssuer(ops, self.iam(), clock=lambda: datetime.now(UTC))

    def holder(self, document: Mapping[str, Any]) -> Holder:
        """Issue a key to a new principal."""
        return _issued(self.issuer(), document)

    def user(self, document: str) -> tuple[str, model.AccessKey]:
        """Make a user with one key and a policy, who can make no buckets."""
        uid = self.name("user")
        key = model.AccessKey(f"AKIA{uid.upper():0>16}"[:20], f"{uid:s>40}")
        self.admin_call("PUT", uid, {"access-key": key.id, "secret-key": key.secret})
        self.put_policy(uid, document)
        return uid, key

    def put_policy(self, uid: str, document: str) -> None:
        """Replace a user's policy."""
        self.iam().put_user_policy(UserName=uid, PolicyName="dp", PolicyDocument=document)

    def delete_user(self, uid: str) -> None:
        """Delete a user and every key of it."""
        self.admin_call("DELETE", uid)

    def plant(self, uid: str) -> None:
        """Make a user as people do by hand, with a key that the engine chooses."""
        self.admin_call("PUT", uid)

    def modify(self, uid: str, subresource: str = "", **parameters: str) -> None:
        """Change a user as people do by hand, which makes the engine forget its policy."""
        query = {"uid": uid, **parameters}
        if not subresource:
            self.admin_call("POST", uid, parameters)
        elif subresource in parameters:
            self._call("PUT", "user", query)
        else:
            self._call("PUT", f"user?{subresource}", query)

    def record(self, uid: str) -> dict[str, Any]:
        """Return all that the engine keeps of a user."""
        kept: dict[str, Any] = self._call("GET", "metadata/user", {"key": uid}).json()["data"]
        return kept

    def keys(self, uid: str) -> list[str]:
        """Return the access keys of a user."""
        return [each["access_key"] for each in self.record(uid)["keys"]]

    def uids(self) -> set[str]:
        """Return every user there is."""
        return set(self._call("GET", "metadata/user", {}).json())

    def admin_call(
        self,
        method: str,
        uid: str,
        parameters: Mapping[str, str] | None = None,
        *,
        key: model.AccessKey | None = None,
    ) -> None:
        """Make a call of the admin operations on a user."""
        query = {"uid": uid, "display-name": uid, "max-buckets": "-1", **(parameters or {})}
        self._call(method, "user", query, key)

    def _call(
        self, method: str, path: str, query: Mapping[str, str], key: model.AccessKey | None = None
    ) -> httpx.Response:
        asked = urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        url = f"{self.endpoint}/admin/{path}{'&' if '?' in path else '?'}{asked}"
        request = AWSRequest(method=method, url=url)
        signer = key or self.admin
        credentials = Credentials(signer.id, signer.secret)
        S3SigV4Auth(credentials, "s3", REGION).add_auth(request)
        headers = dict(request.headers.items())
        # Without `verify` every call would load all certificates first.
        answer = httpx.request(method, url, headers=headers, timeout=20, verify=False)
        return answer.raise_for_status()


@pytest.fixture(scope="session")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    """Run a Ceph node of one mon, one osd and one RGW; skip where Ceph is not installed."""
    missing = [each for each in ceph_node.PROGRAMS if shutil.which(each) is None]
    if missing:
        _without(f"no {', '.join(missing)}: apt-get install {' '.join(ceph_node.PACKAGES)}")
    admin = model.AccessKey("AKIAADMINADMINADMIN0", "a" * 40)
    with ceph_node.Node(
        tmp_path_factory.mktemp("ceph"), s3_port=free_port(), mon_port=free_port()
    ) as node:
        node.create_admin(admin)
        yield Rgw(endpoint=node.endpoint, admin=admin)


@dataclass(frozen=True, kw_only=True)
class Minio(Engine):
    """A MinIO, whose admin is its root."""

    issuer_name: ClassVar[str] = "minio"

    def issuer(self, **arguments: Any) -> MinioIssuer:
        """Return an issuer of its own."""
        return MinioIssuer(endpoint=self.endpoint, region=REGION, admin=self.admin, **arguments)

    def holder(self, document: Mapping[str, Any]) -> Holder:
        """Issue a key to a new principal."""
        return _issued(self.issuer(), document)

    def calls(self, key: model.AccessKey | None = None) -> admin.Admin:
        """Return the admin API as a key, or the admin, calls it."""
        return admin.Admin(
            admin.MINIO, endpoint=self.endpoint, region=REGION, admin=key or self.admin
        )

    def raw(self, key: model.AccessKey | None = None) -> client.AdminClient:
        """Return what makes any call of the admin API."""
        signer = key or self.admin
        return client.AdminClient(
            endpoint=self.endpoint,
            region=REGION,
            admin=signer,
            prefix=admin.MINIO.prefix,
            cipher=codec.Codec(signer.secret),
        )


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """Run a MinIO; skip where it is not installed."""
    program = minio_server.find() or _without(f"no minio: go install {minio_server.MODULE}")
    root = model.AccessKey("AKIAROOTROOTROOTROOT", "r" * 40)
    with minio_server.Server(
        program, tmp_path_factory.mktemp("minio"), port=free_port(), admin=root
    ) as server:
        yield Minio(endpoint=server.endpoint, admin=root)


@pytest.fixture(scope="session", params=["rgw", "minio"])
def lake(request: pytest.FixtureRequest) -> lakes.Lake:
    """Fill a bucket on each real engine, with the key of one product."""
    return lakes.fill(request.getfixturevalue(request.param), request.param)


EVERYTHING = os.environ.get("TEST_EVERYTHING") == "1"
"""Whether tests that take minutes do all they can."""


@pytest.fixture(scope="session", params=["rgw", "minio", *(["moto"] if EVERYTHING else [])])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Be each real engine in turn; and IAM at moto, which knows no policy of listings."""
    found: Engine = request.getfixturevalue(request.param)
    return found


def _without(reason: str) -> NoReturn:
    """Skip for want of an engine; in CI, where all are installed, fail."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)
