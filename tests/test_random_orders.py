"""Let everything happen in any order, with crashes anywhere: the promises hold all the same.

Each seed is one life of a product: grants, archiving, renames, rotations and leaks, while portal,
engine and clock misbehave. Until somebody archives it, deletes it or reports a leak, the key in
`.env` works before every single effect; once all is quiet nothing is left over.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest

from provisioner import errors, model
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import MARKETING, SALES, MemoryWorld

NAMES = ("marketing", "campaigns", "promo")
SEEDS = (*range(80), 287)
"""The last one was found among thousands: it renames twice around a move that was stopped."""
Status = model.ProductStatus


class Life:
    """One product's life, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.world = MemoryWorld(w.a_producer(), chooses_key_ids=self.draw.random() < 0.5)
        self.world.issuer.max_live_keys = self.draw.choice([2, 2, 4])
        self.excused = True
        self.leaked: set[str] = set()
        self._unproven = 0.0
        prove = self.world.prober.prove
        self.world.prober.prove = lambda *given, **named: (  # type: ignore[method-assign]
            self.draw.random() >= self._unproven and prove(*given, **named)
        )
        self.world.portal.put(b.a_consumer_view(b.a_link()))
        for key in (SALES, MARKETING):
            self.world.settle(key)
        self.excused = False

    # what happens

    def link(self, status: model.LinkStatus) -> None:
        product = self.world.portal.views[MARKETING].product
        view = b.a_consumer_view(b.a_link(status))
        self.world.portal.put(dataclasses.replace(view, product=product))

    def archive(self) -> None:
        self.excused = True
        self.world.portal.change(MARKETING, status=Status.ARCHIVED)

    def leak(self) -> None:
        self.excused = True
        self.world.clock.advance(1)
        held = self.world.record(MARKETING).credentials
        keys = self.world.issuer.held.get(held.principal)
        self.leaked |= set(keys.keys) if keys else set()
        self.world.store.asks.ask([MARKETING], model.Ask.COMPROMISED)

    def misbehave(self) -> None:
        self._unproven = self.draw.choice([0.0, 0.5, 1.0])
        self.world.issuer.down = self.draw.random() < 0.3
        self.world.objects.down = self.draw.random() < 0.3
        away = errors.PortalUnavailable("no answer")
        self.world.portal.failure = away if self.draw.random() < 0.3 else None

    def reconcile(self) -> None:
        """Reconcile once, and stop before some effect of it more often than not."""
        fatal = self.draw.choice([0, self.draw.randint(1, 6), self.draw.randint(1, 40)])
        passed = 0

        def checkpoint(effect: str) -> None:
            nonlocal passed
            self.check(effect)
            passed += 1
            if passed == fatal:
                raise w.Killed

        self.world.checkpoint = checkpoint
        try:
            self.world.reconcile(MARKETING if self.draw.random() < 0.85 else SALES)
        except w.Killed:
            self.world.restart()
        self.check("nothing more")

    def step(self) -> None:
        """Let one thing happen."""
        change, ask = self.world.portal.change, self.world.store.asks.ask
        happens: list[Callable[[], object]] = [
            lambda: self.link(model.LinkStatus.APPROVED),
            lambda: self.link(model.LinkStatus.REVOKED),
            self.archive,
            lambda: change(MARKETING, status=Status.ACTIVE),
            lambda: change(MARKETING, namespace=self.draw.choice(NAMES)),
            lambda: change(SALES, namespace=self.draw.choice(["sales", "vertrieb"])),
            lambda: ask([MARKETING], model.Ask.ROTATE),
            lambda: ask([MARKETING], model.Ask.VERIFY),
            self.leak,
            self.misbehave,
            lambda: self.world.clock.advance(self.draw.choice([1, 61, 3700, 86400, 31 * 86400])),
            *[self.reconcile] * 8,
        ]
        self.draw.choice(happens)()

    # what must hold

    def check(self, effect: str) -> None:
        """Every `.env` that lies anywhere holds a key that works."""
        for name in NAMES if not self.excused else ():
            key = self.world.published_key(name)
            assert key is None or self.world.issuer.knows(key), f"a dead key before {effect}"

    def calm(self) -> None:
        """Let all come to rest; then nothing is dead, left over or open that should not be."""
        world = self.world
        world.issuer.down = world.objects.down = False
        world.portal.failure, self._unproven = None, 0.0
        world.restart()
        world.checkpoint = self.check
        for key in (SALES, MARKETING) * 2:
            self._settle(key)
        assert not self.leaked & world.live_keys()
        view = world.portal.views[MARKETING]
        held = world.record(MARKETING).credentials
        if view.product.status is Status.ACTIVE:
            published = world.published_key(world.record(MARKETING).namespace)
            assert published is not None
            assert world.issuer.knows(published)
            known = {held.current.id if held.current else "", *(k.key_id for k in held.retiring)}
            assert set(world.issuer.held[held.principal].keys) <= known
            approved = view.links[0].status is model.LinkStatus.APPROVED
            assert bool(world.record(MARKETING).grants) is approved
            self.excused = False
        else:
            producer = world.record(SALES).credentials.principal
            assert set(world.issuer.held) == {producer}

    def _settle(self, key: model.Key) -> None:
        """Reconcile until nothing is left to do but what only time, or a person, can do."""
        for _ in range(60):
            outcome = self.world.reconcile(key)
            if outcome.status != "retry" and not self.world.effects:
                return
            if outcome.status == "retry":
                self.world.clock.advance(301)
        raise AssertionError("never settled")


@pytest.mark.parametrize("seed", SEEDS)
def test_in_whatever_order_things_happen_no_key_dies_and_nothing_is_left(seed: int) -> None:
    life = Life(seed)
    for _ in range(3):
        for _ in range(life.draw.randint(3, 25)):
            life.step()
        life.calm()
