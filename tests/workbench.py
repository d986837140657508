"""Start what rendered workspaces need: S3 and IAM that enforce policies, extensions of DuckDB.

A test module asks for the fixtures with `pytest_plugins = ["tests.workbench"]`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest

from tests import warm
from tests.rendered import BUCKET, Shell, Storage

S3_SERVER = """
import contextlib, io, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
with contextlib.redirect_stdout(io.StringIO()):
    server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    environ = {
        "HOME": str(tmp_path_factory.mktemp("s3")),
        "PATH": os.environ["PATH"],
        "INITIAL_NO_AUTH_ACTION_COUNT": "3",  # the three calls that make the admin
    }
    with subprocess.Popen(
        [sys.executable, "-c", S3_SERVER],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        key = ("anyone", "anyone")
        iam = _client("iam", endpoint, key)
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
        iam.create_user(UserName="admin")
        iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=document)
        made = iam.create_access_key(UserName="admin")["AccessKey"]
        key = (made["AccessKeyId"], made["SecretAccessKey"])
        admin = Storage(
            endpoint=endpoint,
            iam=_client("iam", endpoint, key),
            s3=_client("s3", endpoint, key),
        )
        admin.s3.create_bucket(Bucket=BUCKET)
        admin.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield admin
        for client in (iam, admin.iam, admin.s3):
            client.close()
        server.terminate()


def _client(service: str, endpoint: str, key: tuple[str, str]) -> Any:
    return boto3.session.Session(*key, region_name="us-east-1").client(
        service,  # type: ignore[call-overload]
        endpoint_url=endpoint,
    )


@pytest.fixture(scope="session")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill an extension directory from the installed wheels, as an image build does."""
    folder = tmp_path_factory.mktemp("extensions")
    pattern = f"duckdb_extension_*/extensions/v{duckdb.__version__}/*.duckdb_extension"
    with duckdb.connect(config={"extension_directory": str(folder)}) as connection:
        for binary in sorted(Path(duckdb.__file__).parents[1].glob(pattern)):
            connection.execute(f"INSTALL '{binary}'")
    return folder


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory, extensions: Path) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("home")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        environ = {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "COLUMNS": "240",
            "DUCKDB_EXTENSION_DIRECTORY": str(extensions),
            "MAX_FORK_WORKERS": "1",  # as the editor's terminals have it
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        for scheme in ("http", "https", "all"):
            environ[f"{scheme}_proxy"] = environ[f"{scheme.upper()}_PROXY"] = address
        shell = Shell(environ=environ, proxy=proxy)
        if not warm.wanted():
            yield shell
            return
        with warm.stubs(tmp_path_factory.mktemp("stubs"), environ, "sqlmesh") as stubs:
            yield shell.with_environ(PATH=f"{stubs.folder}:{environ['PATH']}")
