"""Use a workspace as its team does: with the key in its `.env`, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore import exceptions


@dataclass(frozen=True, kw_only=True)
class Call:
    """One S3 call and how the engine answered."""

    who: str
    what: str
    answer: int
    expected: int

    @property
    def as_expected(self) -> bool:
        """Tell whether the answer is the one we promise."""
        return self.answer == self.expected


class Workspace:
    """Stand in a product's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """Return the product's namespace."""
        return self.folder.name

    def environment(self) -> dict[str, str]:
        """Read `.env` afresh: it changes when keys rotate."""
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def client(self) -> Any:
        """Open an S3 client with the key in `.env`."""
        import boto3
        from botocore.config import Config

        env = self.environment()
        return boto3.client(
            "s3",
            endpoint_url=env["S3_ENDPOINT"],
            region_name=env["S3_REGION"],
            aws_access_key_id=env["S3_ACCESS_KEY"],
            aws_secret_access_key=env["S3_SECRET_KEY"],
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def get(self, key: str, *, expected: int) -> Call:
        """Try to read an object."""
        status = self._status("get_object", Key=key)
        return Call(who=self.name, what=f"read  {key}", answer=status, expected=expected)

    def put(self, key: str, *, expected: int) -> Call:
        """Try to write an object."""
        status = self._status("put_object", Key=key, Body=b"from the demo")
        return Call(who=self.name, what=f"write {key}", answer=status, expected=expected)

    def _status(self, operation: str, **arguments: Any) -> int:
        client = self.client()
        try:
            bucket = self.environment()["S3_BUCKET"]
            answer = getattr(client, operation)(Bucket=bucket, **arguments)
        except exceptions.ClientError as error:
            answer = error.response
        finally:
            client.close()
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])

    def sqlmesh(self, *arguments: str) -> str:
        """Run SQLMesh in the workspace and return what it printed; raise where it failed."""
        tool = Path(sys.executable).with_name("sqlmesh")
        home = self.folder.parent.parent
        done = subprocess.run(
            [str(tool), *arguments],
            cwd=self.folder,
            env={
                "PATH": os.defpath,
                "HOME": str(home),
                "NO_COLOR": "1",
                "PYTHONWARNINGS": "ignore",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"sqlmesh {arguments[0]} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout
