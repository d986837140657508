"""Run the processes of the service, each behind proxies of its own, and kill or freeze them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from provisioner.demo import stage
from tests.acceptance.stand import Stand
from tests.torture.proxy import Call, Moment, Mood, Proxy, Street

_START_SECONDS = 60.0
_END_SECONDS = 60.0
_READ = re.compile(r"/api/v2/(?:data_products|explorations)/([0-9a-f-]{36})")

DELIVERY = "delivery"
"""The method of what is a call to us."""

Trigger = Callable[[Moment, Call], bool]


class Reads:
    """Remember when each product was last read from the portal, and answered."""

    def __init__(self) -> None:
        self.began: dict[str, datetime] = {}
        """When the last reading of it began that was answered to the end."""

    def hear(self, moment: Moment, call: Call, status: int) -> None:
        """Take note of a call to the portal."""
        found = _READ.fullmatch(call.path.partition("?")[0])
        if moment is Moment.AFTER and call.method == "GET" and found and status in (200, 404):
            self.began[found[1]] = max(call.began_at, self.began.get(found[1], call.began_at))


class Member:
    """One process of the service; it may be killed and started again."""

    def __init__(
        self,
        number: int,
        stand: Stand,
        street: Street,
        moods: tuple[Mood, Mood],
        reads: Reads,
        changes: dict[str, str],
    ) -> None:
        self.number = number
        self.port = stage.free_port(0) if number else stand.port
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = stand.folder / f"log-{number}"
        self.ready = False
        """It has answered: a balancer would send it something."""
        self.frozen = False
        self.starts = 0
        self._stand = stand
        self._armed: Trigger | None = None
        self._then: Callable[[], None] = self.kill
        self._fired = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

        def hear_portal(moment: Moment, call: Call, status: int) -> None:
            reads.hear(moment, call, status)
            self._hear(moment, call)

        self.portal = Proxy(street, stand.running.url, moods[0], hear_portal)
        self.s3 = Proxy(street, stand.s3.endpoint, moods[1], lambda m, c, _: self._hear(m, c))
        self.environment = stand.environment(
            PROV_PORT=str(self.port),
            PROV_DPP_API_URL=self.portal.url,
            S3_ENDPOINT=self.s3.url,
            S3_PUBLIC_ENDPOINT=stand.s3.endpoint,
            **changes,
        )

    # --- life and death -------------------------------------------------------------------------

    def start(self) -> None:
        """Start it; it answers a little later."""
        self.starts += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "provisioner", "serve"],
                cwd=self._stand.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Wait until it answers."""
        ends = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, self.tail()
            assert time.monotonic() < ends, self.tail()
            time.sleep(0.02)
        self.ready = True

    def _answers(self) -> bool:
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(asked), contextlib.suppress(OSError, http.client.HTTPException):
            asked.request("GET", "/health")
            return asked.getresponse().status == 200
        return False

    def kill(self) -> None:
        """End it by SIGKILL, at once."""
        self.ready = False
        if self._process is not None:
            self._process.kill()

    def buried(self) -> None:
        """Wait until the killed process is gone."""
        assert self._process is not None
        assert self._process.wait(_END_SECONDS) == -signal.SIGKILL, self.tail()

    def freeze(self) -> None:
        """Stop it where it stands."""
        assert self._process is not None
        self.frozen, self.ready = True, False
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
        self.frozen, self.ready = False, True

    def end(self) -> int:
        """Stop it in good order; return its exit code."""
        assert self._process is not None
        self.ready = False
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_END_SECONDS)

    # --- what happens at a call -----------------------------------------------------------------

    def arm(self, trigger: Trigger, then: Callable[[], None] | None = None) -> threading.Event:
        """Have it killed (or something else done) in the middle of a call that fits."""
        self._fired.clear()
        self._then = then or self.kill
        self._armed = trigger
        return self._fired

    def acknowledges(self) -> None:
        """Hear of an acknowledgement, in the very moment in which its sender has it."""
        self._hear(Moment.AFTER, Call(DELIVERY, "/", datetime.now(UTC)))

    def disarm(self) -> None:
        """Let every call pass."""
        self._armed = None

    def _hear(self, moment: Moment, call: Call) -> None:
        armed = self._armed
        if armed is not None and armed(moment, call):
            self._armed = None
            self._then()
            self._fired.set()

    # --- what it said ---------------------------------------------------------------------------

    def said(self) -> Iterator[dict[str, Any]]:
        """Read its log; a line that a kill cut short is left out."""
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-3000:]
