"""Rotate again and again on a real engine while a team works, and let no call of it fail.

TEST_ROTATIONS says how many rotations, each with a grace that has to be waited for and without
any (30 by default; hundreds take minutes).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from provisioner import model
from tests import real_world, watching
from tests.real_world import RealWorld

if TYPE_CHECKING:
    from tests.engines import Engine

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine

ROTATIONS = int(os.environ.get("TEST_ROTATIONS", "30"))


def by_asking(world: RealWorld, key: model.Key) -> None:
    """Ask, as `provisioner rotate` does; a key that still retires dies early for it."""
    world.parts.store.asks.ask([key], model.Ask.ROTATE)


def by_age(world: RealWorld, key: model.Key) -> None:
    """Let the grace of the last rotation end, and the key grow old."""
    world.clock.advance(real_world.GRACE_SECONDS)
    world.settle(key)
    world.clock.advance(31 * 86400)


@pytest.mark.parametrize(
    ("grace", "due"),
    [
        pytest.param("0", by_asking, id="asked, no grace"),
        pytest.param("3600", by_asking, id="asked, the grace cut short"),
        pytest.param("3600", by_age, id="by age, the grace over"),
    ],
)
def test_no_call_fails_however_often_keys_rotate(
    grace: str,
    due: Callable[[RealWorld, model.Key], None],
    engine: Engine,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    seconds, used = [], set()
    with real_world.world(tmp_path, engine, PROV_ROTATION_GRACE_SECONDS=grace) as world:
        key = model.Key.product(world.state.create_product("sales"))
        world.rest(key)
        with watching.Watch(
            lambda: world.env("sales"), engine, threads=3, pace_seconds=0.005
        ) as watch:
            for _ in range(-(-ROTATIONS // 3)):
                due(world, key)
                started = time.perf_counter()
                assert world.reconcile(key).status == "done"
                seconds.append(time.perf_counter() - started)
                used.add(world.published_key("sales"))
                watch.wait(calls=6)
        world.rest(key)
        assert len(used) == len(seconds)
        assert world.found() == world.expected()
    assert watch.failures == []
    # Without a grace the old key dies as soon as the new one is out.
    assert watch.overtaken == 0 or due is by_asking
    said = (
        f"{len(seconds)} rotations, median {statistics.median(seconds) * 1000:.0f} ms beside"
        f" {watch.calls} calls of the team: 0 failed, {watch.overtaken} overtaken"
    )
    record_property("measured", f"{engine.issuer_name}: {said}")
