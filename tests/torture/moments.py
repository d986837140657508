"""Choose when to kill: at any time, while it starts, in a call, as a file or an answer appears."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.torture.fleet import DELIVERY, Member, Trigger
from tests.torture.proxy import Call, Moment

_PATIENCE_SECONDS = 10.0
"""For a call or a file; then it is killed at just this moment."""


class Moments:
    """Kill members, each time at a moment of another kind."""

    def __init__(self, products: Path, seed: int) -> None:
        self._products = products
        self._draw = random.Random(seed)
        self._deck: list[Callable[[Member], str]] = []
        self.kinds: Counter[str] = Counter()

    def kill(self, member: Member) -> None:
        """Wait for a moment, kill, and see that the process is gone; it is still starting."""
        if not self._deck:
            self._deck = self._shuffled()
        happened = self._deck.pop()(member)
        member.kill()
        member.buried()
        self.kinds[happened] += 1

    def _shuffled(self) -> list[Callable[[Member], str]]:
        """Return a dozen moments: of every kind some, in an order that is drawn."""
        deck: list[Callable[[Member], str]] = [self._start]
        deck += [self._any_time, self._file] * 2 + [self._delivery] * 3 + [self._call] * 4
        self._draw.shuffle(deck)
        return deck

    def _any_time(self, member: Member) -> str:
        member.wait_ready()
        time.sleep(self._draw.uniform(0.0, 1.2))
        return "at any time"

    def _start(self, member: Member) -> str:
        time.sleep(self._draw.uniform(0.2, 1.5))
        return "while it started"

    def _call(self, member: Member) -> str:
        member.wait_ready()
        fired = member.arm(self.call())
        if fired.wait(_PATIENCE_SECONDS):
            return "in a call"
        member.disarm()
        return "at any time"

    def call(self) -> Trigger:
        """Choose one of the next calls, more likely one that changes something."""
        left = self._draw.randint(1, 20)
        moment = self._draw.choice(list(Moment))
        ignored = {DELIVERY} | ({"GET", "HEAD"} if self._draw.random() < 0.7 else set())
        lock = threading.Lock()  # deliveries and the two proxies are in different threads

        def fits(now: Moment, call: Call) -> bool:
            nonlocal left
            if now is not moment or call.method in ignored:
                return False
            with lock:
                left -= 1
                return left == 0

        return fits

    def _delivery(self, member: Member) -> str:
        """Kill as soon as the sender of a delivery has its acknowledgement."""
        member.wait_ready()
        fired = member.arm(_nth_delivery(self._draw.randint(1, 60)))
        if fired.wait(_PATIENCE_SECONDS):
            return "at an acknowledgement"
        member.disarm()
        return "at any time"

    def _file(self, member: Member) -> str:
        """Kill just after something was staged, or a file of ours replaced."""
        member.wait_ready()
        before, ends = self._seen(), time.monotonic() + _PATIENCE_SECONDS
        while (now := self._seen()) == before or not now - before:
            before &= now
            if time.monotonic() > ends:
                return "at any time"
            time.sleep(0.0005)
        time.sleep(self._draw.choice([0.0, 0.001, 0.005]))
        return "as a file appeared"

    def _seen(self) -> set[tuple[str, int]]:
        found = [*self._products.glob("*/.env"), *self._products.glob(".provisioner/staging/*")]
        seen = set()
        for path in found:
            try:
                seen.add((str(path), path.lstat().st_ino))
            except FileNotFoundError:
                continue  # it has been swapped in meanwhile
        return seen


def _nth_delivery(number: int) -> Trigger:
    left = itertools.count(number, -1)
    return lambda moment, call: call.method == DELIVERY and next(left) == 1
