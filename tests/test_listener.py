from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from provisioner.edge import crowd, listener

_WHOLE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
_Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, ServerState], Awaitable[None]]


class Impatient(listener.Connection):
    exchange_seconds = 0.05
    last_seconds = 0.05


class Hurried(listener.Connection):
    last_seconds = 0.05


async def answer(_scope: Any, receive: Any, send: Any) -> None:
    while (part := await receive()).get("more_body"):
        pass
    if part["type"] == "http.request":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


def talk(connection: type[listener.Connection], conversation: _Talk) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        state = ServerState()
        config = uvicorn.Config(answer, http=connection, ws="none", log_config=None)
        server = await loop.create_server(
            lambda: connection(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            async with asyncio.timeout(10):
                await conversation(reader, writer, state)
        finally:
            writer.close()
            server.close()
            for task in list(state.tasks):
                await task

    asyncio.run(run())


async def rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "begun", [b"", b"POST / HT", _WHOLE[:20], _WHOLE[:-1]], ids=["nothing", "line", "head", "body"]
)
def test_a_request_that_never_comes_whole_ends_its_connection(begun: bytes) -> None:
    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _state: ServerState
    ) -> None:
        writer.write(begun)
        assert await rest(reader) == b""

    talk(Impatient, conversation)


def test_a_second_request_that_never_comes_whole_ends_its_connection() -> None:
    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _state: ServerState
    ) -> None:
        writer.write(_WHOLE + _WHOLE[:-1])
        assert (await rest(reader)).count(b"HTTP/1.1 200") == 1

    talk(Impatient, conversation)


def test_requests_that_come_whole_share_a_connection() -> None:
    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _state: ServerState
    ) -> None:
        for _ in range(3):
            writer.write(_WHOLE)
            assert b"200 OK" in await reader.readuntil(b"done\r\n0\r\n\r\n")

    talk(listener.Connection, conversation)


def test_a_stop_does_not_wait_for_a_request_that_is_still_arriving() -> None:
    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: ServerState
    ) -> None:
        writer.write(_WHOLE[:-1])
        while not state.tasks:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0)
        for connection in list(state.connections):
            connection.shutdown()
        assert await rest(reader) == b""

    talk(Hurried, conversation)


def test_a_stop_lets_a_request_that_is_just_arriving_be_answered() -> None:
    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: ServerState
    ) -> None:
        writer.write(_WHOLE[:-1])
        while not state.tasks:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0)
        for connection in list(state.connections):
            connection.shutdown()
        writer.write(_WHOLE[-1:])
        assert b"200 OK" in await rest(reader)

    talk(listener.Connection, conversation)


@pytest.mark.parametrize("code", [0, 3])
def test_a_thread_in_a_call_does_not_hold_the_process(code: int) -> None:
    program = (
        "import threading; from provisioner.edge import listener;"
        "threading.Thread(target=threading.Event().wait).start();"
        f"listener.leave({code})"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == code
    )


def test_nothing_is_cut_short_where_no_thread_is_left() -> None:
    listener.leave(1)


_CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000,
        _CHUNKED + b"1\r\n \r\n" * 3000,
        _CHUNKED + b"zz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=["junk", "many headers", "long header", "crumbs", "no chunk", "negative", "two lengths"],
)
def test_what_is_no_request_of_ours_is_refused_and_ends_the_connection(sent: bytes) -> None:
    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _state: ServerState
    ) -> None:
        writer.write(sent)
        assert (await rest(reader)).startswith(b"HTTP/1.1 400 ")

    talk(listener.Connection, conversation)


def test_a_body_in_many_parts_is_read() -> None:
    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _state: ServerState
    ) -> None:
        writer.write(_CHUNKED + b"1\r\n \r\n" * 1000 + b"0\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"done\r\n0\r\n\r\n")

    talk(listener.Connection, conversation)


def test_an_answer_leaves_in_one_piece() -> None:
    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _state: ServerState
    ) -> None:
        writer.write(_WHOLE)
        assert (await reader.read(4096)).endswith(b"0\r\n\r\n")

    talk(listener.Connection, conversation)


def test_one_connection_too_many_ends_the_one_that_waits_longest() -> None:
    class Few(listener.Connection):
        crowd = crowd.Crowd(1)

    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: ServerState
    ) -> None:
        writer.write(_WHOLE)
        await reader.readuntil(b"done\r\n0\r\n\r\n")
        host, port = writer.get_extra_info("peername")
        other_reader, other = await asyncio.open_connection(host, port)
        assert await rest(reader) == b""
        other.write(_WHOLE)
        assert b"200 OK" in await other_reader.readuntil(b"done\r\n0\r\n\r\n")
        other.close()

    talk(Few, conversation)


_pieces = st.sampled_from(
    [
        _WHOLE,
        _WHOLE[:-1],
        _CHUNKED,
        b"2\r\n{}\r\n0\r\n\r\n",
        b"1\r\n{\r\n",
        b"fffffffffffffffff\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"\r\n",
        b"\r\n\r\n",
    ]
) | st.binary(max_size=40)


@given(st.lists(_pieces, max_size=6), st.booleans())
@settings(deadline=None)
def test_whatever_the_bytes_the_connection_ends_and_nothing_breaks(
    pieces: list[bytes], at_once: bool
) -> None:
    broken: list[object] = []

    async def conversation(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _state: ServerState
    ) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
        with contextlib.suppress(OSError):  # it may have ended already
            for piece in pieces:
                writer.write(piece)
                if not at_once:
                    await writer.drain()
                    await asyncio.sleep(0)
            writer.write_eof()
        answered = await rest(reader)
        assert b"HTTP/1.1 500" not in answered

    talk(Impatient, conversation)

    assert broken == []
