"""Run an S3 and an IAM on one machine for the demo: moto's server in a process of its own.

The process ends with its parent, however that ends: it watches its standard input. Everything is
kept in memory. moto checks keys and policies, but not all of them: `NOT_ENFORCED` says what, so
that nobody takes the demo for a proof.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Any

from provisioner import errors

NOT_ENFORCED: tuple[str, ...] = (
    "Listings: the condition on the prefix is ignored, so a key can list the whole bucket.",
    "Copies: reading the source of a copy is not checked, so a key can copy from any prefix.",
    "Batch deletes: they are refused even for a product's own objects; single deletes work.",
    "Inactive keys: a key that is only deactivated still works; a deleted one does not.",
    "Presigned links: they fail with an error, whoever signed them.",
    "Session policies of temporary credentials are ignored.",
    "Policies of any size are accepted; AWS takes 2,048 characters.",
)
_HOST = "127.0.0.1"
_START_SECONDS = 30.0
_ADMIN = "provisioner-admin"
_EVERYTHING = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
)


class EmbeddedS3:
    """Run the engine until the block ends; access is enforced from the first moment of the block.

    `port` 0 takes any free one. Raise `ConfigurationError` where the extra `demo` is not
    installed, `StorageUnavailable` where the engine does not start.
    """

    def __init__(self, port: int = 0) -> None:
        self.access_key = ""
        self.secret_key = ""
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Return the URL of both S3 and IAM."""
        return f"http://{_HOST}:{self._port}"

    def __enter__(self) -> EmbeddedS3:
        if importlib.util.find_spec("moto") is None:
            raise errors.ConfigurationError(
                ("the demo needs its extra: pip install 'dpp-provisioner[demo]'",)
            )
        self._port = free_port(self._port)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the demo, which still needs its S3 to end well
        )
        try:
            self._wait()
            self._make_admin()
            self._enforce()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise errors.StorageUnavailable("the embedded S3 did not start", port=self._port)
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self._request("GET", "/moto-api/data.json") == 200
        except OSError:
            return False

    def _make_admin(self) -> None:
        """Make the admin while nothing is enforced yet."""
        iam = self._client("iam", "bootstrap", "bootstrap")
        iam.create_user(UserName=_ADMIN)
        iam.put_user_policy(UserName=_ADMIN, PolicyName="all", PolicyDocument=_EVERYTHING)
        made = iam.create_access_key(UserName=_ADMIN)["AccessKey"]
        self.access_key, self.secret_key = made["AccessKeyId"], made["SecretAccessKey"]

    def _enforce(self) -> None:
        """Switch enforcement on, and make sure that it is: a key never issued is refused."""
        from botocore.exceptions import ClientError

        self._request("POST", "/moto-api/reset-auth", b"0")
        self._client("s3", self.access_key, self.secret_key).list_buckets()
        try:
            self._client("s3", "AKIANOBODYEVERMADETHIS", "x" * 40).list_buckets()
        except ClientError:
            return
        raise errors.StorageUnavailable("the embedded S3 does not check keys")

    def _client(self, service: Any, access_key: str, secret_key: str) -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )

    def _request(self, method: str, path: str, body: bytes | None = None) -> int:
        """Call moto's own API; the body is text, since as a form it would be lost."""
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=5)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "text/plain"})
            return connection.getresponse().status

    def _stop(self) -> None:
        if self._process is None:
            return
        with self._process as process:  # waits for its end
            process.kill()  # there is nothing to save
        self._process = None


def free_port(wanted: int) -> int:
    """Return the port, any free one for 0; raise `StorageUnavailable` where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted))
        except OSError as exc:
            raise errors.StorageUnavailable("the port is taken", port=wanted) from exc
        return int(probe.getsockname()[1])


def _serve(port: int) -> None:  # pragma: no cover - this process is killed
    """Run moto's server until the standard input ends."""
    from moto.server import main

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    main(["-H", _HOST, "-p", str(port)])


if __name__ == "__main__":  # pragma: no cover
    _serve(int(sys.argv[1]))
