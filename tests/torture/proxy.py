"""Stand between a service and whom it calls, and fail: refuse, hang, answer late, half or wrongly.

Bytes are passed on as they come, so that signatures hold. A call is what a client sends first
after it connected or was answered, if it begins like one. All proxies live in one loop, `Street`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

_T = TypeVar("_T")
_CALL = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_CONTINUE = b"100"
_CHUNK = 65536
_LINGER_SECONDS = 0.5
_TURNS_TO_CLOSE = 5
"""Of the loop: to accept, to begin to serve, to abort, to close."""


class Fault(enum.StrEnum):
    """What comes of a call."""

    NONE = "none"
    E500 = "500"
    E503 = "503"
    HANG = "hang"
    """It is accepted and never answered, until the trouble ends, and sometimes beyond."""
    LATE = "late"
    LOST = "lost"
    """It is carried out, and the connection ends before the answer."""
    CUT = "cut"
    """Half of the answer comes."""


class Moment(enum.StrEnum):
    """Where a call has got to."""

    BEFORE = "before"
    BETWEEN = "between"
    """Carried out, not answered yet."""
    AFTER = "after"


@dataclass(frozen=True)
class Call:
    """What a client asks for."""

    method: str
    path: str
    began_at: datetime


Hears = Callable[[Moment, Call, int], None]
"""Told of every moment of a call, with the status of its answer; 0 before there is one."""


class Mood:
    """What one upstream is like now; shared by all proxies before it."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.faults: tuple[Fault, ...] = ()
        self.share = 0.0
        """How many of the calls fail."""
        self.refuses = False
        self.made: Counter[str] = Counter()
        """Faults by kind."""

    def of_a_call(self) -> Fault:
        """Draw what comes of the next call."""
        if not self.faults or self._draw.random() >= self.share:
            return Fault.NONE
        fault = self._draw.choice(self.faults)
        self.made[fault] += 1
        return fault

    def seconds(self) -> float:
        """Draw how late an answer comes."""
        return self._draw.uniform(0.2, 2.0)

    def for_good(self) -> bool:
        """Draw whether a call that hangs stays so when all is well again."""
        return self._draw.random() < 0.1


class Street:
    """Run proxies in a thread of their own until the block ends."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies")
        self.proxies: list[Proxy] = []

    def __enter__(self) -> Street:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something in the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _end(self) -> None:
        await self._close_all()  # a task cancelled before it began would lose what was accepted
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._close_all()

    async def _close_all(self) -> None:
        """Close also what is only being accepted, and let the loop get to it."""
        for _ in range(_TURNS_TO_CLOSE):
            for proxy in self.proxies:
                await proxy.close()
            await asyncio.sleep(0)


class Proxy:
    """Pass calls on to an upstream from a port of its own."""

    def __init__(self, street: Street, upstream: str, mood: Mood, hears: Hears) -> None:
        place = urlsplit(upstream)
        self._upstream = (place.hostname or "", place.port or 80)
        self._street = street
        self._mood = mood
        self._hears = hears
        self._calls: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        street.do(self._listen())
        street.proxies.append(self)
        self.url = f"http://127.0.0.1:{self._port}"

    def refuse(self) -> None:
        """Take no connection, and end those there are."""
        self._street.do(self.close())

    def recover(self) -> None:
        """Take connections again; calls that hang end, but for some that hang for good."""
        self._street.do(self._recover())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Close the port and every connection; in the loop."""
        if self._server is not None:
            server, self._server = self._server, None
            for each in server.sockets:
                asyncio.get_running_loop().remove_reader(each.fileno())
            await asyncio.sleep(0)  # what was accepted begins: a closed server would lose it
            server.close()
        for call in tuple(self._calls):
            call.abort()

    async def _recover(self) -> None:
        if self._server is None:
            await self._listen()
        for call in tuple(self._calls):
            if call.hangs and not self._mood.for_good():
                call.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Remember a connection at once: a task that is cancelled may never have begun."""
        call = _Connection(reader, writer, self._mood, self._hears)
        self._calls.add(call)
        self._tasks.add(task := asyncio.create_task(self._serve(call)))
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, call: _Connection) -> None:
        try:
            await call.run(self._upstream)
        except (OSError, asyncio.CancelledError):
            pass  # either end went away, or all is over
        finally:
            self._calls.discard(call)
            call.abort()


class _Connection:
    """One client's connection and the one that it is passed on by."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        mood: Mood,
        hears: Hears,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._mood, self._hears = mood, hears
        self._beyond: asyncio.StreamWriter | None = None
        self._fault = Fault.NONE
        self._call = Call("", "", datetime.now(UTC))
        self._answered = True
        self.hangs = False

    def abort(self) -> None:
        """End it without a word."""
        for writer in (self._writer, self._beyond):
            if writer is not None:
                writer.transport.abort()

    async def run(self, upstream: tuple[str, int]) -> None:
        """Pass on until either end is done."""
        answers, self._beyond = await asyncio.open_connection(*upstream)
        back = asyncio.create_task(self._back(answers))
        try:
            while sent := await self._reader.read(_CHUNK):
                if not await self._passes(sent):
                    return
                self._beyond.write(sent)
                await self._beyond.drain()
        finally:
            back.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await back

    async def _passes(self, sent: bytes) -> bool:
        """Tell whether what was sent is passed on; False where the connection is done for."""
        begins = _CALL.match(sent) if self._answered else None
        if begins is None:
            return True
        self._answered = False
        method, path = begins[1].decode(), begins[2].decode("latin-1")
        self._call = Call(method, path, datetime.now(UTC))
        self._fault = self._mood.of_a_call()
        self._hears(Moment.BEFORE, self._call, 0)
        if self._fault is Fault.LATE:
            await asyncio.sleep(self._mood.seconds())
        elif self._fault is Fault.HANG:
            self.hangs = True
            while await self._reader.read(_CHUNK):
                pass
            return False
        elif self._fault in (Fault.E500, Fault.E503):
            await self._answer(self._fault.value)
            return False
        return True

    async def _answer(self, status: str) -> None:
        """Fail as a balancer does that has nobody behind it, and hang up."""
        head = f"HTTP/1.1 {status} Trouble\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self._writer.write(head.encode())
        await self._writer.drain()
        self._hears(Moment.AFTER, self._call, int(status))
        with contextlib.suppress(TimeoutError):  # or what is still being sent would reset it
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(_CHUNK):
                    pass

    async def _back(self, answers: asyncio.StreamReader) -> None:
        """Pass answers back."""
        while said := await answers.read(_CHUNK):
            found = _STATUS.match(said)
            if self._answered or found is None or found[1] == _CONTINUE:
                self._writer.write(said)
            elif not self._begin(said, int(found[1])):
                self.abort()
                return
            await self._writer.drain()
        self._writer.close()  # once all of it is out

    def _begin(self, said: bytes, status: int) -> bool:
        """Begin an answer; tell whether it is passed on to its end."""
        self._hears(Moment.BETWEEN, self._call, status)
        if self._fault is Fault.LOST:
            return False
        self._answered = True
        if self._fault is Fault.CUT:
            self._writer.write(said[: len(said) // 2])
            return False
        self._writer.write(said)
        self._hears(Moment.AFTER, self._call, status)
        return True
