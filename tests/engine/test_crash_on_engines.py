"""Stop at every single effect on a real engine, start again, and find nothing out of place.

What a product goes through is gone through again and again, and stopped before the first effect,
then before the next, until there is none left; where it must be quick every fourth is, another one
on each engine, and with TEST_EVERYTHING=1 all are. All the while a team reads `.env` and uses it,
and before each effect the key in it is tried once more.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from provisioner import model
from tests import real_world, watching
from tests.real_world import Killed, RealWorld

if TYPE_CHECKING:
    from tests.engines import Engine

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine


class Subject:
    """A product that may ask to read the port of `sales`, in a world of its own."""

    def __init__(self, world: RealWorld) -> None:
        self.world = world
        self.state = world.state
        self.sales = model.Key.product(self.state.create_product("sales"))
        self.port = self.state.create_port(self.sales.id, "orders")
        world.settle(self.sales)
        self._numbers = itertools.count(1)
        self.create()
        world.rest(self.key)

    def create(self) -> None:
        self.namespace = f"marketing-{next(self._numbers)}"  # one that was used is not ours again
        self.key = model.Key.product(self.state.create_product(self.namespace))

    def env(self) -> Path:
        return self.world.env(self.namespace)

    def published_key(self) -> model.AccessKey | None:
        return self.world.published_key(self.namespace)

    def delete(self) -> None:
        self.state.delete_product(self.key.id)

    def approve(self) -> None:
        self.state.request_access(self.key.id, self.port)
        self.state.approve(self.port, self.key.id)

    def remove(self) -> None:
        self.state.remove(self.port, self.key.id)

    def archive(self) -> None:
        self.state.set_status(self.key.id, "archived")

    def activate(self) -> None:
        self.state.set_status(self.key.id, "active")

    def grow_old(self) -> None:
        self.world.clock.advance(31 * 86400)

    def rotate(self) -> None:
        self.world.parts.store.asks.ask([self.key], model.Ask.ROTATE)

    def leak(self) -> None:
        self.world.parts.store.asks.ask([self.key], model.Ask.COMPROMISED)

    def rotate_twice(self) -> None:
        self.rotate()
        self.world.reconcile(self.key)
        self.rotate()


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that happens; `keeps` tells whether the key in `.env` must work meanwhile."""

    happen: Callable[[Subject], None]
    keeps: bool = True


ROUNDS: dict[str, tuple[Change, ...]] = {
    "delete and issue": (Change(happen=Subject.delete, keeps=False), Change(happen=Subject.create)),
    "approve and revoke": (Change(happen=Subject.approve), Change(happen=Subject.remove)),
    "archive and activate": (
        Change(happen=Subject.archive, keeps=False),
        Change(happen=Subject.activate),
    ),
    "rotate by age": (Change(happen=Subject.grow_old),),
    "rotate while a key retires": (Change(happen=Subject.rotate_twice),),
    "kill what leaked": (Change(happen=Subject.leak, keeps=False),),
}
FEWEST = {
    "delete and issue": 30,
    "approve and revoke": 20,
    "archive and activate": 20,
    "rotate by age": 10,
    "rotate while a key retires": 10,
    "kill what leaked": 10,
}
EVERY = os.environ.get("TEST_EVERYTHING") == "1"


def effects(engine: Engine) -> tuple[int, int]:
    """Return the first effect to stop before, and the step to the next one."""
    if EVERY:
        return 1, 1
    return (3 if engine.issuer_name == "minio" else 1), 4


class Torture:
    """Let one change happen and kill whoever carries it out before its n-th effect."""

    def __init__(self, subject: Subject, watch: watching.Watch) -> None:
        self._subject = subject
        self._world = subject.world
        self._watch = watch
        self._key: model.AccessKey | None = None
        self.kills = 0

    def go_through(self, change: Change, fatal: int) -> bool:
        """Return whether there was an n-th effect; at rest again, compare engine and store."""
        with contextlib.nullcontext() if change.keeps else self._watch.paused():
            change.happen(self._subject)
            killed = self._until_rest(change, fatal)
        self._compare(f"{change.happen.__name__}, killed before effect {fatal}")
        return killed

    def _until_rest(self, change: Change, fatal: int) -> bool:
        passed = 0

        def checkpoint(effect: str) -> None:
            nonlocal passed
            if change.keeps:
                self._try_key(effect)
            passed += 1
            if passed == fatal:
                raise Killed

        self._world.checkpoint = checkpoint
        try:
            self._world.rest(self._subject.key)
        except Killed:
            self.kills += 1
            self._world.restart()
            self._world.rest(self._subject.key)
            return True
        self._world.checkpoint = lambda effect: None
        return False

    def _try_key(self, effect: str) -> None:
        """Use the key in `.env`, if there is one: nobody else does anything meanwhile."""
        key = self._subject.published_key()
        if key is not None:
            if key != self._key:
                self._key, self._client = key, self._world.engine.s3(key)
            kept = f"{self._subject.namespace}/.keep"
            found = self._client.get_object(Bucket=self._world.bucket, Key=kept)
            assert found["ContentLength"] == 0, effect

    def _compare(self, what: str) -> None:
        assert self._world.found() == self._world.expected(), what
        held = self._world.record(self._subject.key).credentials
        assert self._subject.published_key() == held.current, what


@pytest.fixture(scope="module")
def subject(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with real_world.world(tmp_path_factory.mktemp("crash"), engine) as world:
        yield Subject(world)


@pytest.mark.parametrize("name", ROUNDS)
def test_a_crash_before_any_effect_harms_nobody_and_leaves_nothing(
    name: str, subject: Subject, record_property: Callable[[str, object], None]
) -> None:
    with watching.Watch(subject.env, subject.world.engine) as watch:
        torture = Torture(subject, watch)
        for fatal in itertools.count(*effects(subject.world.engine)):
            killed = [torture.go_through(change, fatal) for change in ROUNDS[name]]
            if not any(killed):
                break
        watch.wait(calls=30)
    assert watch.failures == []
    _, step = effects(subject.world.engine)
    assert torture.kills >= FEWEST[name] // step
    assert watch.overtaken == 0
    said = f"{torture.kills} crashes, {watch.calls} calls of the team, 0 failed"
    record_property("measured", f"{subject.world.engine.issuer_name}, {name}: {said}")
