"""Bring an older store back at any moment of any life: no key in `.env` dies, nothing is left.

The lives are those of `test_random_orders`. A backup is taken at every point of them, in the
middle of what a crash left too, and later one of them is brought back, while the world has gone on:
keys were replaced, grants were revoked, the product was renamed, archived, made active again.
"""

from __future__ import annotations

import pytest

from provisioner import model
from tests import memory_store
from tests import memory_world as w
from tests.memory_world import MARKETING
from tests.test_random_orders import NAMES, Life, Status

SEEDS = (
    *range(20),
    *(479, 649, 724),
    *(pytest.param(seed, marks=pytest.mark.engine) for seed in range(20, 160)),
)
"""Three were found among thousands: an engine that is full while the only known key is dead."""
_READ = "s3:GetObject"


class RestoredLife(Life):
    """A life of which backups are taken all the time."""

    def __init__(self, seed: int) -> None:
        self.backups: list[memory_store.Backup] = []
        self.closed = False
        super().__init__(seed)

    def step(self) -> None:
        super().step()
        self.backups.append(self.world.store.backup())

    def link(self, status: model.LinkStatus) -> None:
        self.closed = False
        super().link(status)

    def calm(self) -> None:
        super().calm()
        view = self.world.portal.views[MARKETING]
        self.closed = view.links[0].status is model.LinkStatus.REVOKED

    def restore(self) -> None:
        taken = self.draw.choice(self.backups)
        leak = (MARKETING, model.Ask.COMPROMISED)
        if leak in taken.asks:
            self.excused = True  # its keys are killed again
        if taken.asks.get(leak) != self.world.store.backup().asks.get(leak):
            self.leaked.clear()  # what was reported after the backup has to be reported again
        self.world.store.restore(taken)
        self.world.checkpoint = self.check

    def check(self, effect: str) -> None:
        super().check(effect)
        if self.closed:
            for place in ("sales", "vertrieb"):
                assert not self.reads(f"{place}/orders/x"), f"open again before {effect}"

    def reads(self, key: str) -> bool:
        """Tell whether any key of the product opens what was granted to it once."""
        ours = [
            key_id
            for held in self.world.issuer.held.values()
            if held.product_id == MARKETING.id
            for key_id in held.keys
        ]
        place = f"arn:aws:s3:::{w.BUCKET}/{key}"
        return any(self.world.issuer.allowed(each, _READ, place) for each in ours)

    def rest(self) -> None:
        """Let every grace run out: then one key of the product is left, where `.env` names it."""
        for _ in range(3):  # what was granted meanwhile waits for a grace to rotate
            self.world.clock.advance(w.GRACE_SECONDS + 120)
            self.calm()
        ours = {
            name: set(held.keys)
            for name, held in self.world.issuer.held.items()
            if held.product_id == MARKETING.id
        }
        folders = [name for name in NAMES if self.world.published_key(name)]
        if self.world.portal.views[MARKETING].product.status is not Status.ACTIVE:
            assert (ours, folders) == ({}, [])
            return
        record = self.world.record(MARKETING)
        key = self.world.published_key(record.namespace)
        assert key is not None
        assert ours == {record.credentials.principal: {key.id}}
        assert folders == [record.namespace]


@pytest.mark.parametrize("seed", SEEDS)
def test_whichever_store_is_brought_back_no_key_dies_and_nothing_is_left(seed: int) -> None:
    life = RestoredLife(seed)
    for _ in range(2):
        for _ in range(life.draw.randint(3, 25)):
            life.step()
        if life.draw.random() < 0.7:
            life.calm()
        life.restore()
        for _ in range(life.draw.randint(0, 8)):
            life.step()
        life.calm()
        life.rest()
