from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from provisioner import listener

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
    except ConnectionResetError:
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
        "import threading; from provisioner import listener;"
        "threading.Thread(target=threading.Event().wait).start();"
        f"listener.leave({code})"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == code
    )


def test_nothing_is_cut_short_where_no_thread_is_left() -> None:
    listener.leave(1)
