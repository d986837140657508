"""Render workspaces from the shipped template, and run commands in them as their users would.

Against an S3 API and IAM that enforce policies; a proxy tells when anything asks for the internet.
The fixtures are in `tests.workbench`.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "templates" / "sqlmesh"
BUCKET = "data-products"
PLAN = ("sqlmesh", "plan", "--auto-apply", "--no-prompts")
PLAN_DEV = ("sqlmesh", "plan", "dev", "--auto-apply", "--no-prompts", "--include-unmodified")
REVENUE = [
    ("2026-01-05", 2, "210.40"),
    ("2026-01-06", 1, "310.00"),
    ("2026-01-07", 2, "80.00"),
    ("2026-01-08", 1, "205.00"),
]
DAILY_REVENUE = {
    "version": 1,
    "port": "daily-revenue",
    "model": "gold.daily_revenue",
    "description": "Revenue a day; cancelled orders do not count.",
    "rows": 4,
    "expected_every_seconds": 86400,
    "grain": ["day"],
    "columns": [
        {"name": "day", "type": "DATE", "nullable": False, "description": "Day of the orders"},
        {
            "name": "orders",
            "type": "BIGINT",
            "nullable": True,
            "description": "Number of orders",
        },
        {
            "name": "revenue",
            "type": "DECIMAL(18,2)",
            "nullable": False,
            "description": "Revenue in euro, VAT included",
        },
    ],
    "audits": [{"name": "not_null", "passed": True}, {"name": "unique_values", "passed": True}],
}
"""What `_port.json` says of the template's own output port, but for when and which version."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """An S3 and IAM that enforces policies, and an admin's access to it."""

    endpoint: str
    iam: Any
    s3: Any

    def key(self, namespace: str | None, granted: Sequence[str] = ()) -> tuple[str, str]:
        """Make a user who may use its own prefix, if it has one, and read the granted ones."""
        user = f"dp-{os.urandom(6).hex()}"
        # moto reads a policy's + as a regular expression's
        own = [] if namespace is None else [namespace.replace("+", "*")]
        allow = {
            "s3:ListBucket": [f"arn:aws:s3:::{BUCKET}"],
            "s3:*": [f"arn:aws:s3:::{BUCKET}/{prefix}/*" for prefix in own],
            "s3:GetObject": [f"arn:aws:s3:::{BUCKET}/{prefix}*" for prefix in granted],
        }
        statements = [
            {"Effect": "Allow", "Action": action, "Resource": resources}
            for action, resources in allow.items()
            if resources
        ]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.iam.create_user(UserName=user)
        self.iam.put_user_policy(UserName=user, PolicyName="scope", PolicyDocument=document)
        made = self.iam.create_access_key(UserName=user)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def revoke(self, key: tuple[str, str]) -> None:
        """Delete a key."""
        used = self.iam.get_access_key_last_used(AccessKeyId=key[0])
        self.iam.delete_access_key(UserName=used["UserName"], AccessKeyId=key[0])

    def objects(self, prefix: str) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for found in listed.get("Contents", [])]

    def writes(self, prefix: str) -> int:
        """Count what was ever written below a prefix: the bucket keeps every version."""
        return len(self.s3.list_object_versions(Bucket=BUCKET, Prefix=prefix)["Versions"])

    def contract(self, folder: str) -> dict[str, Any]:
        """Read what was published about a port."""
        body = self.s3.get_object(Bucket=BUCKET, Key=f"{folder}_port.json")["Body"]
        read: dict[str, Any] = json.loads(body.read())
        return read

    def rows(self, key: str, folder: Path) -> list[dict[str, str | int]]:
        """Read a published Parquet file."""
        copy = folder / "copy.parquet"
        copy.write_bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        with duckdb.connect() as connection:
            query = connection.execute(f"SELECT * FROM '{copy}' ORDER BY 1")
            names = [column[0] for column in query.description or ()]
            return [dict(zip(names, map(_plain, row), strict=True)) for row in query.fetchall()]


def _plain(value: object) -> str | int:
    return value if isinstance(value, int) else str(value)


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Run commands in a bare environment whose only way out is a proxy that nobody may use."""

    environ: Mapping[str, str]
    proxy: socket.socket

    def __call__(
        self, *command: str, cwd: Path, answers: str = ""
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=self.environ,
            input=answers,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=600,
            check=False,
        )
        assert not select.select([self.proxy], [], [], 0)[0], f"{command} asked for the internet"
        return done

    def start(self, *command: str, cwd: Path) -> subprocess.Popen[str]:
        """Start a command that waits for an answer."""
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=self.environ,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def with_environ(self, **environ: str) -> Shell:
        """Return the same with more in its environment."""
        return replace(self, environ={**self.environ, **environ})

    def succeed(self, *command: str, cwd: Path, answers: str = "") -> str:
        done = self(*command, cwd=cwd, answers=answers)
        assert done.returncode == 0, done.stdout
        return done.stdout


def render(folder: Path, namespace: str, **text: str) -> Path:
    """Render a workspace as the service does: no prompt, no replay, no hook."""
    from cookiecutter.generate import generate_context, generate_files
    from cookiecutter.prompt import prompt_for_config

    context = generate_context(
        str(TEMPLATE / "cookiecutter.json"),
        extra_context={
            "project_name": namespace,
            "project_slug": re.sub(r"[^a-z0-9_]", "_", namespace),
            "product_id": str(uuid.uuid5(uuid.NAMESPACE_URL, namespace)),
            **text,
        },
    )
    chosen = {"cookiecutter": prompt_for_config(context, no_input=True)}
    return Path(generate_files(str(TEMPLATE), chosen, str(folder), accept_hooks=False))


def database(workspace: Path) -> str:
    """Return what a workspace calls its database in PostgreSQL."""
    found = re.search(r"\bdp_[0-9a-f]{32}\b", (workspace / "README.md").read_text())
    assert found is not None
    return found.group()


def connect(
    workspace: Path,
    endpoint: str,
    extensions: Path,
    key: tuple[str, str],
    outputs: Sequence[str] = (),
    inputs: Sequence[str] = (),
    *,
    produces: bool = True,
) -> Path:
    """Write what the service adds to a workspace: `.aws/`, `.env` and `ports.json`."""
    prefix = f"{workspace.name}/" if produces else ""
    aws = workspace / ".aws"
    aws.mkdir(mode=0o700)
    (aws / "config").write_text(
        f"[profile workspace]\nregion = us-east-1\nendpoint_url = {endpoint}\n"
    )
    write_key(workspace, key)
    environ = {
        "S3_ENDPOINT": endpoint,
        "S3_BUCKET": BUCKET,
        "S3_PREFIX": prefix,
        "S3_ACCESS_KEY": key[0],
        "S3_SECRET_KEY": key[1],
        "S3_REGION": "us-east-1",
        "WORKSPACE_DIR": workspace,
        "DUCKDB_EXTENSION_DIRECTORY": extensions,
        "AWS_SHARED_CREDENTIALS_FILE": aws / "credentials",
        "AWS_CONFIG_FILE": aws / "config",
        "AWS_PROFILE": "workspace",
        "AWS_ENDPOINT_URL_S3": endpoint,
    }
    (workspace / ".env").write_text("".join(f"{k}={v}\n" for k, v in environ.items()))
    granted = [
        {
            "name": re.sub(r"[^a-z0-9_]", "_", place.rstrip("/").replace("/", "__")),
            "producer": place.split("/")[0],
            "port": place.split("/")[1],
            "url": f"s3://{BUCKET}/{place}",
            "mode": "read",
            "valid_until": None,
        }
        for place in inputs
    ]
    (workspace / "ports.json").write_text(json.dumps({"outputs": outputs, "inputs": granted}))
    return workspace


def write_key(workspace: Path, key: tuple[str, str]) -> None:
    text = f"[workspace]\naws_access_key_id = {key[0]}\naws_secret_access_key = {key[1]}\n"
    (workspace / ".aws" / "credentials").write_text(text)


def move(workspace: Path, folder: Path) -> Path:
    """Copy a built workspace to a folder, without its access."""
    ours = shutil.ignore_patterns(".env", ".aws", "ports.json")
    return Path(shutil.copytree(workspace, folder / folder.name, ignore=ours))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
