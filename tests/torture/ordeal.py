"""Run the whole ordeal: load, kills, trouble on all sides, then peace, and the verdict.

Everything that is drawn follows from the seed, but when a process gets how far does not: a seed
tells what was tried, not what happened.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioner import assembly, settings
from provisioner.demo.portal.state import PortalState
from tests import census, engines, watching
from tests.acceptance import stand as stands
from tests.torture import final
from tests.torture.fleet import DELIVERY, Member, Reads
from tests.torture.load import Acknowledged, People, Sender
from tests.torture.moments import Moments
from tests.torture.proxy import Moment, Mood, Street
from tests.torture.weather import Weather
from tests.torture.world import Place

GRACE_SECONDS = 2
_FROZEN_SECONDS = 33.0
"""Longer than a lease, so that others work on what the frozen one had."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done to the service."""

    kills: int
    seed: int
    database_url: str = ""
    """Empty: SQLite."""
    replicas: int = 1
    freezes: int = 0
    """How often a replica is stopped in the middle of a call for longer than its lease."""
    products: int = 5
    calm_seconds: float = 1.0
    """How long portal and engine are well at a time, about."""
    lull_seconds: tuple[float, float] = (0.0, 0.4)
    """Between two bursts of a sender."""


@dataclass(kw_only=True)
class Result:
    """What was done, and what came of it; `wrong` should be empty."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    frozen: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    unacknowledged: int = 0
    calls: int = 0
    overtaken: int = 0
    dead: int = 0
    products: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({kinds}), {self.frozen} freezes,"
            f" {self.acknowledged} deliveries acknowledged and {self.unacknowledged} not,"
            f" {self.changes.total()} changes in the portal, {self.faults.total()} calls spoiled,"
            f" {self.calls} calls of watching clients ({self.overtaken} overtaken,"
            f" {self.dead} with a dead key), {self.products} products compared,"
            f" {len(self.wrong)} things wrong, {self.seconds:.0f} s, seed {self.seed}"
        )


class _Home:
    """Where a product's `.env` is now: under its newest name, or still under an earlier one."""

    def __init__(self, products: Path, names: Sequence[str]) -> None:
        self._products = products
        self._names = names

    def read_text(self) -> str:
        """Read it; a folder that moves while it is looked for is looked for again."""
        for _ in range(3):
            for name in reversed(tuple(self._names)):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    return (self._products / name / ".env").read_text()
        raise FileNotFoundError(self._names[-1])


class Ordeal:
    """One service, of one or more processes, on one engine, before one portal."""

    def __init__(
        self,
        plan: Plan,
        stand: stands.Stand,
        street: Street,
        engine: engines.Engine,
        result: Result,
    ) -> None:
        self._plan = plan
        self._stand = stand
        self._result = result
        self._draw = random.Random(plan.seed)
        self._seeds = itertools.count(plan.seed * 1000)
        self.engine = engine
        self.acks, self.reads = Acknowledged(), Reads()
        self.moods = Mood(next(self._seeds)), Mood(next(self._seeds))
        self.changes = {
            "PROV_ROTATION_GRACE_SECONDS": str(GRACE_SECONDS),
            "PROV_WEBHOOK_BASIC_AUTH": "portal:v2-password",  # our own writes come back on v2
            "PROV_RESYNC_SECONDS": "3600",  # what an acknowledgement promises must not need one
        }
        if plan.database_url:
            self.changes["PROV_DATABASE_URL"] = plan.database_url
        self.members = [
            Member(number, stand, street, self.moods, self.reads, self.changes)
            for number in range(plan.replicas)
        ]
        self._voice = self.sender()
        self.people = People(self.state, self._voice, next(self._seeds))
        self.people.settle(plan.products)
        self.moments = Moments(stand.products, next(self._seeds))

    @property
    def state(self) -> PortalState:
        """Return the hand on the portal's data."""
        return self._stand.portal.state

    @property
    def _anybody(self) -> bool:
        """Tell whether anybody would hear of a change."""
        return any(member.ready for member in self.members)

    def sender(self) -> Sender:
        """Return a sender for one thread."""
        return Sender(self.members, self.acks, next(self._seeds))

    def watches(self) -> list[watching.Watch]:
        """Watch every product that stays."""
        homes = [
            _Home(self._stand.products, self.people.names[each]) for each in self.people.steady
        ]
        return [
            watching.Watch(lambda home=home: home, self.engine, threads=1, pace_seconds=0.05)  # type: ignore[misc]
            for home in homes
        ]

    @contextlib.contextmanager
    def place(self) -> Iterator[Place]:
        """Look at the world of the service, beside it."""
        read = settings.load(self.members[0].environment, cwd=self._stand.folder, serving=False)
        parts = assembly.assemble(read)
        try:
            yield Place(
                engine=self.engine,
                bucket=self._stand.bucket,
                products=self._stand.products,
                parts=parts,
            )
        finally:
            parts.close()

    # --- the storm ------------------------------------------------------------------------------

    def storm(self) -> None:
        """Kill under load until the plan is done."""
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_ready()
        # Whoever watches needs a key first: under fire it could take to the end.
        self._result.wrong += final.wait(self._without_a_key)
        weather = Weather(
            self.members,
            *self.moods,
            next(self._seeds),
            calm_seconds=self._plan.calm_seconds,
        )
        with self._loaded(), weather:
            self._kill_all()
        for mood in self.moods:
            self._result.faults += mood.made
        self._result.faults["refused"] += weather.refusals

    def _without_a_key(self) -> list[str]:
        """Name steady products whose workspace is not there yet."""
        firsts = [self.people.names[each][0] for each in self.people.steady]
        return [each for each in firsts if not (self._stand.products / each / ".env").exists()]

    def _kill_all(self) -> None:
        freezes = self._plan.freezes
        thaws: list[threading.Timer] = []
        for number in range(self._plan.kills):
            if freezes and number >= 1 and not any(each.frozen for each in self.members):
                freezes -= 1
                thaws.append(self._freeze())
            member = self._draw.choice([each for each in self.members if not each.frozen])
            self.moments.kill(member)
            member.start()
        for thaw in thaws:
            thaw.join()
        for member in self.members:
            member.wait_ready()
        self._result.frozen = len(thaws)
        self._result.kills = self.moments.kinds

    def _freeze(self) -> threading.Timer:
        """Stop a member in the middle of a call that changes something, for too long."""
        member = self._draw.choice([each for each in self.members if not each.frozen])
        member.wait_ready()
        wanted = self._draw.choice([Moment.BEFORE, Moment.BETWEEN])
        fired = member.arm(
            lambda moment, call: moment is wanted and call.method not in ("GET", "HEAD", DELIVERY),
            member.freeze,
        )
        if not fired.wait(20):
            member.disarm()
            member.freeze()
        thaw = threading.Timer(_FROZEN_SECONDS, member.thaw)
        thaw.start()
        return thaw

    @contextlib.contextmanager
    def _loaded(self) -> Iterator[None]:
        """Let people change the portal, senders hint at full speed, clients use their keys."""
        ended = threading.Event()
        senders = [self.sender() for _ in range(2)]
        works: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
            (self._change, (ended, self._drawing())),
            *((self._hint, (ended, self._drawing(), sender)) for sender in senders),
        ]
        threads = [threading.Thread(target=work, args=given) for work, given in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()
            for sender in (*senders, self._voice):
                sender.close()

    def _drawing(self) -> random.Random:
        return random.Random(next(self._seeds))

    def _change(self, ended: threading.Event, draw: random.Random) -> None:
        while not ended.wait(draw.uniform(0.0, 0.15 if self._anybody else 2.0)):
            self.people.step()

    def _hint(self, ended: threading.Event, draw: random.Random, sender: Sender) -> None:
        """Send rounds at full speed, with a lull between them."""
        while not ended.wait(draw.uniform(*self._plan.lull_seconds)):
            for _ in range(draw.randint(5, 60)):
                if not sender.hint(draw.choice(self.people.everybody)) or ended.is_set():
                    break


def run(plan: Plan, folder: Path, engine: engines.Engine, beside: engines.Engine) -> Result:
    """Do all of it; `beside` is another engine of the kind, to reconcile from scratch on."""
    started, result = time.monotonic(), Result(seed=plan.seed)
    before = census.take(engine)
    with (
        stands.stand(folder / "world", engine, issuer=engine.issuer_name) as stand,
        Street() as street,
    ):
        ordeal = Ordeal(plan, stand, street, engine, result)
        watches = ordeal.watches()
        with contextlib.ExitStack() as stack:
            for member in ordeal.members:
                stack.callback(member.kill)
            with contextlib.ExitStack() as watched:
                for watch in watches:
                    watched.enter_context(watch)
                ordeal.storm()
                final.owed(ordeal, result)
            final.count(watches, result)
            final.peace(ordeal, result)
            final.compare(ordeal, stand, beside, before, folder / "scratch", result)
    result.changes = ordeal.people.changes
    result.starts = sum(member.starts for member in ordeal.members)
    result.acknowledged, result.unacknowledged = ordeal.acks.deliveries, ordeal.acks.lost
    result.seconds = time.monotonic() - started
    return result
