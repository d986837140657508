"""Kill the real program twenty times under load, on SQLite and as three replicas on PostgreSQL.

TEST_SEED draws another ordeal; `scripts/bench --torture 200` is a longer one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from provisioner import model
from provisioner.demo import embedded_s3
from tests import engines
from tests.torture import ordeal

if TYPE_CHECKING:
    from tests.database_server import Server

pytest_plugins = ["tests.database_server"]
pytestmark = pytest.mark.torture

SEED = int(os.environ.get("TEST_SEED", "4"))


def as_engine(s3: embedded_s3.EmbeddedS3) -> engines.Engine:
    admin = model.AccessKey(s3.access_key, s3.secret_key)
    return engines.Engine(endpoint=s3.endpoint, admin=admin)


def endure(plan: ordeal.Plan, folder: Path, s3: embedded_s3.EmbeddedS3) -> ordeal.Result:
    with embedded_s3.EmbeddedS3() as beside:
        result = ordeal.run(plan, folder, as_engine(s3), as_engine(beside))
    assert result.wrong == [], f"seed {plan.seed}"
    assert result.kills.total() == plan.kills
    # It was an ordeal: there was work, there was trouble, and somebody looked.
    assert min(result.acknowledged, result.changes.total()) > plan.kills
    assert result.faults.total() > 0
    assert result.calls > 100
    return result


def test_one_process_that_is_killed_twelve_times_owes_nothing_and_leaves_nothing(
    tmp_path: Path, s3: embedded_s3.EmbeddedS3, record_property: Callable[[str, object], None]
) -> None:
    result = endure(ordeal.Plan(kills=12, seed=SEED), tmp_path, s3)
    record_property("measured", f"SQLite: {result}")


def test_three_replicas_of_which_eight_are_killed_and_one_is_frozen_owe_nothing(
    tmp_path: Path,
    s3: embedded_s3.EmbeddedS3,
    postgresql: Server,
    database: str,
    record_property: Callable[[str, object], None],
) -> None:
    plan = ordeal.Plan(
        kills=8, seed=SEED, database_url=postgresql.url(database), replicas=3, freezes=1
    )
    result = endure(plan, tmp_path, s3)
    record_property("measured", f"PostgreSQL: {result}")
