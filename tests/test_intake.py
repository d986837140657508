from __future__ import annotations

import asyncio
from typing import Any

import pytest

from provisioner import errors
from provisioner.edge import intake


class Slow:
    """Send a part, and the rest when told to."""

    def __init__(self, first: bytes, last: bytes = b"") -> None:
        self._parts = [(first, True), (last, False)]
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()

    def more(self, body: bytes) -> None:
        """Send one more part in between."""
        self._parts.insert(0, (body, True))
        self.go_on.set()

    async def receive(self) -> dict[str, Any]:
        if self.begun.is_set() or len(self._parts) == 1:
            self.begun.set()
            await self.go_on.wait()
            self.go_on.clear()
        body, more = self._parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": more}


async def begin(bodies: intake.Intake, first: bytes) -> tuple[Slow, asyncio.Task[bytes | None]]:
    sender = Slow(first)
    task = asyncio.create_task(bodies.read(sender.receive))
    await sender.begun.wait()
    return sender, task


def test_when_too_much_arrives_the_oldest_is_given_up_and_the_others_are_read() -> None:
    async def run() -> None:
        bodies = intake.Intake(most_bytes=250)
        opened = [await begin(bodies, b"x" * 100) for _ in range(4)]
        for _, oldest in opened[:2]:
            with pytest.raises(errors.Overfull):
                await oldest
        assert bodies.held_bytes == 200
        for sender, task in opened[2:]:
            sender.go_on.set()
            assert await task == b"x" * 100
        assert bodies.held_bytes == 0

    asyncio.run(run())


def test_a_body_that_comes_at_once_is_never_given_up() -> None:
    async def run() -> None:
        bodies = intake.Intake(most_bytes=1)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"x" * 100}

        assert await bodies.read(receive) == b"x" * 100

    asyncio.run(run())


def test_a_body_that_alone_is_too_much_is_given_up() -> None:
    async def run() -> None:
        bodies = intake.Intake(most_bytes=10)
        _, task = await begin(bodies, b"x" * 100)
        with pytest.raises(errors.Overfull):
            await task
        assert bodies.held_bytes == 0

    asyncio.run(run())


def test_a_sender_that_goes_or_is_stopped_holds_nothing() -> None:
    async def run() -> None:
        bodies = intake.Intake()
        parts: list[dict[str, Any]] = [
            {"type": "http.request", "body": b"x", "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            return parts.pop(0)

        assert await bodies.read(receive) is None
        _, task = await begin(bodies, b"x")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bodies.held_bytes == 0

    asyncio.run(run())


def test_what_was_given_up_and_still_sends_gives_up_nobody_else() -> None:
    async def run() -> None:
        bodies = intake.Intake(most_bytes=150)
        oldest, given_up = await begin(bodies, b"x" * 100)
        other, task = Slow(b"x" * 100), asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not task.is_set():
                task.set()
                oldest.more(b"x" * 100)  # is read between the decision and its effect
            return await other.receive()

        reading = asyncio.create_task(bodies.read(receive))
        with pytest.raises(errors.Overfull):
            await given_up
        assert bodies.held_bytes == 100
        other.go_on.set()
        assert await reading == b"x" * 100

    asyncio.run(run())
