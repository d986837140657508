"""Kill a real process by SIGKILL on a real engine, start it again, and find nothing left over.

TEST_EVERYTHING=1 kills before every effect, otherwise before some.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import census, watching
from tests.acceptance import stand as stands
from tests.acceptance.stand import Stand

if TYPE_CHECKING:
    from tests.engines import Engine

pytest_plugins = ["tests.engines"]
pytestmark = [pytest.mark.engine, pytest.mark.torture]

STEP = 1 if os.environ.get("TEST_EVERYTHING") == "1" else 5


@pytest.fixture
def stand(engine: Engine, tmp_path: Path) -> Iterator[Stand]:
    with stands.stand(tmp_path / "kill", engine, issuer=engine.issuer_name) as made:
        yield made


def reconcile(stand: Stand, product: str, *wish: str, fatal: int = 0) -> int:
    """Reconcile in a process that dies before an effect; return how many there were."""
    done = stand.run(
        *("tests.acceptance.victim", product, str(fatal), *wish), PROV_ROTATION_GRACE_SECONDS="0"
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    assert done.returncode == 0 or fatal
    return int(done.stdout or 0)


def key_ids(found: census.Census) -> set[str]:
    return {key for held in found.keys.values() for key in held}


def test_a_rotation_that_is_killed_harms_nobody_and_leaves_no_key(
    stand: Stand, engine: Engine, record_property: Callable[[str, object], None]
) -> None:
    before = census.take(engine)
    product = stand.portal.state.create_product("sales")
    reconcile(stand, product)
    at_rest = census.take(engine).since(before)
    kills = 0
    with watching.Watch(lambda: stand.products / "sales" / ".env", engine) as watch:
        effects = reconcile(stand, product, "rotate")
        for fatal in range(1, effects + 1, STEP):
            old = stand.env_of("sales")["S3_ACCESS_KEY"]
            kills += reconcile(stand, product, "rotate", fatal=fatal) == 0
            for _ in range(2):  # the second ends what the first one gave a grace
                reconcile(stand, product)
            found, new = census.take(engine).since(before), stand.env_of("sales")["S3_ACCESS_KEY"]
            assert new != old
            assert key_ids(found) == {new}, f"killed before {fatal}"
            assert (found.users, found.policies) == (at_rest.users, at_rest.policies)
    assert watch.failures == []
    assert kills == len(range(1, effects + 1, STEP)) > 1
    said = f"{kills} kills in a rotation, {watch.calls} calls of the team, 0 failed"
    record_property("measured", f"{engine.issuer_name}: {said}, {watch.overtaken} overtaken")


def test_an_issue_and_a_deletion_that_are_killed_leave_nothing_but_one_key(
    stand: Stand, engine: Engine
) -> None:
    state, before = stand.portal.state, census.take(engine)
    for number in range(4):
        product = state.create_product(f"sales-{number}")
        reconcile(stand, product, fatal=4 * number + 3)
        reconcile(stand, product)
        found = census.take(engine).since(before)
        assert key_ids(found) == {stand.env_of(f"sales-{number}")["S3_ACCESS_KEY"]}
        state.delete_product(product)
        reconcile(stand, product, fatal=2 * number + 1)
        reconcile(stand, product)
        gone = census.take(engine).since(before)
        assert gone == census.Census(users=frozenset(), keys={}, policies=frozenset())
        assert product not in state.products
