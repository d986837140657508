"""Let portal and engine fail, hang and come back while the service runs."""

from __future__ import annotations

import random
import threading

from tests.torture.fleet import Member
from tests.torture.proxy import Fault, Mood

_KINDS: tuple[tuple[Fault, ...], ...] = (
    (Fault.E500,),
    (Fault.E503,),
    (Fault.HANG,),
    (Fault.LATE,),
    (Fault.LOST, Fault.CUT),
    (Fault.E500, Fault.E503, Fault.HANG, Fault.LATE, Fault.LOST, Fault.CUT),
)


class Weather:
    """Change it at random until the block ends; then all is well."""

    def __init__(
        self, members: list[Member], portal: Mood, s3: Mood, seed: int, *, calm_seconds: float
    ) -> None:
        self._members = members
        self._upstreams = {"portal": portal, "s3": s3}
        self._draw = random.Random(seed)
        self._calm_seconds = calm_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="weather")
        self.refusals = 0

    def __enter__(self) -> Weather:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.wait(self._draw.uniform(0.3, 1.7) * self._calm_seconds):
            name = self._draw.choice(["portal", "s3"])
            mood = self._upstreams[name]
            if self._draw.random() < 0.2:
                self._refuse(name)
            else:
                mood.faults = self._draw.choice(_KINDS)
                mood.share = self._draw.choice([0.1, 0.5, 1.0])
            self._ended.wait(self._draw.uniform(0.1, 1.5))
            mood.share = 0.0
            for member in self._members:
                getattr(member, name).recover()

    def _refuse(self, name: str) -> None:
        self.refusals += 1
        for member in self._members:
            getattr(member, name).refuse()
