"""Work in a product's folder while its keys change: read `.env` before every call, and use it.

What is promised of a live product: at every instant the key in `.env` works. So a call has failed
where it was refused and `.env` still names the key that was. A key that was read just before it
was replaced may die between the reading and the call; then the call is made once more with the
key that `.env` names now, and counted as `overtaken`. Where a grace is longer than a call takes
there is none of these either.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from botocore import exceptions

from provisioner import model

if TYPE_CHECKING:
    from tests.engines import Engine


class Readable(Protocol):
    """What can be read as text: a path, or what looks for one."""

    def read_text(self) -> str: ...


PACE_SECONDS = 0.005 if os.environ.get("TEST_EVERYTHING") == "1" else 0.03
"""How long each thread rests between two calls: without a rest they take a whole core."""
_BODY = b"watched"
_TRIES = 5
_connecting = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One call that a team would have seen fail."""

    call: str
    code: str
    key_id: str
    after_seconds: float


class Watch:
    """Put, get and list below the product's prefix, in threads, until the block ends.

    `env` tells where `.env` is; while there is none yet nothing is promised.
    """

    def __init__(
        self,
        env: Callable[[], Readable],
        engine: Engine,
        *,
        threads: int = 2,
        pace_seconds: float = PACE_SECONDS,
    ) -> None:
        self._env = env
        self._engine = engine
        self._pace_seconds = pace_seconds
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._promised = threading.Event()
        self._promised.set()
        self._turn = threading.Lock()
        self._turns = [threading.Lock() for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=(turn, number), name=f"watch-{number}")
            for number, turn in enumerate(self._turns)
        ]
        self._pauses = 0
        self.calls = 0
        self.overtaken = 0
        self.failures: list[Failure] = []

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._promised.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Make no call while nothing is promised: a product is released, or its keys leaked."""
        self._promised.clear()
        for turn in self._turns:  # those that have begun are waited for
            with turn:
                pass
        try:
            yield
        finally:
            self._pauses += 1
            self._promised.set()

    def wait(self, calls: int) -> None:
        """Wait until so many calls more were made."""
        wanted = self.calls + calls
        limit = time.monotonic() + 60
        while self.calls < wanted and time.monotonic() < limit:
            time.sleep(0.005)

    def _work(self, turn: threading.Lock, number: int) -> None:
        with contextlib.closing(_Team(self._engine, number)) as team:
            for call in itertools.cycle(_Team.CALLS):
                self._promised.wait()
                if self._ended.wait(self._pace_seconds):
                    return
                with turn:
                    if self._promised.is_set():
                        self._use(team, call)

    def _use(self, team: _Team, call: str) -> None:
        env = self._read(team)
        if env is None:
            return
        refused = ""
        for _ in range(_TRIES):
            refused = team.refused(call, env)
            with self._turn:
                self.calls += 1
            if not refused:
                return
            now = self._read(team)
            if now is None or now["S3_ACCESS_KEY"] == env["S3_ACCESS_KEY"]:
                break
            with self._turn:
                self.overtaken += 1
            env = now
        self._fail(call, refused, env["S3_ACCESS_KEY"])

    def _read(self, team: _Team) -> dict[str, str] | None:
        """Read `.env`; one that has vanished since is a failure."""
        try:
            text = self._env().read_text()
        except FileNotFoundError:
            if team.seen_in == self._pauses:
                self._fail("read .env", "absent", "")
            team.seen_in = -1
            return None
        team.seen_in = self._pauses
        return dict(line.split("=", 1) for line in text.splitlines())

    def _fail(self, call: str, code: str, key_id: str) -> None:
        after = time.monotonic() - self._started
        self.failures.append(Failure(call=call, code=code, key_id=key_id, after_seconds=after))


class _Team:
    """One who works with a key, by a client that is made anew when the key is another."""

    CALLS = ("put", "get", "list")

    def __init__(self, engine: Engine, number: int) -> None:
        self.seen_in = -1
        """The pause after which it has seen a key, -1 for none."""
        self._engine = engine
        self._name = f"watched-{number}"
        self._key_id = ""
        self._prefix = ""
        self._client: Any = None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def refused(self, call: str, env: dict[str, str]) -> str:
        """Make a call; return the code of its refusal, empty where it did what it should."""
        client, where = self._with(env), {"Bucket": env["S3_BUCKET"]}
        if env["S3_PREFIX"] != self._prefix:
            call, self._prefix = "put", env["S3_PREFIX"]
        name = f"{env['S3_PREFIX']}{self._name}"
        try:
            if call == "put":
                client.put_object(**where, Key=name, Body=_BODY)
            elif call == "get":
                return (
                    "" if client.get_object(**where, Key=name)["Body"].read() == _BODY else "body"
                )
            else:
                listed = client.list_objects_v2(**where, Prefix=env["S3_PREFIX"])
                found = {each["Key"] for each in listed.get("Contents", [])}
                return "" if name in found else "not listed"
        except exceptions.ClientError as error:
            return str(error.response["Error"]["Code"])
        except exceptions.BotoCoreError as error:
            return type(error).__name__
        return ""

    def _with(self, env: dict[str, str]) -> Any:
        if env["S3_ACCESS_KEY"] != self._key_id:
            self.close()
            self._key_id = env["S3_ACCESS_KEY"]
            with _connecting:
                self._client = self._engine.s3(model.AccessKey(self._key_id, env["S3_SECRET_KEY"]))
        return self._client
