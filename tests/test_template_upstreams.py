"""Read from other products: granted, refused, down, revoked; and explorations, which only read."""

from __future__ import annotations

import socket
from pathlib import Path

import duckdb
import pytest

from tests.rendered import BUCKET, PLAN, PLAN_DEV, Shell, Storage, connect, edit, move, render

pytest_plugins = ["tests.workbench"]
pytestmark = pytest.mark.workspace

GRANTED = ("shop/daily-revenue/",)
BEST_DAYS = """MODEL (
  name gold.best_days,
  kind FULL
);

SELECT
  day,
  revenue
FROM upstream.shop__daily_revenue
WHERE
  revenue > 100
"""
UNIT_TEST = """
test_slow_days_are_left_out:
  model: gold.best_days
  inputs:
    upstream.shop__daily_revenue:
      rows:
      - {day: 2026-01-05, revenue: 100.00}
      - {day: 2026-01-06, revenue: 100.01}
  outputs:
    query:
      rows:
      - {day: 2026-01-06, revenue: 100.01}
"""
COLUMNS = """- name: upstream.shop__daily_revenue
  columns:
    day: DATE
    revenue: DECIMAL(18, 2)
- name: upstream.crm__customers
"""
NO_ACCESS = (
    "gold.best_days reads upstream.shop__daily_revenue, but this product has no access to it: it"
    " was never approved, or was revoked, or has ended. INPUTS.md says what may be read, and what"
    " ended when.\nAsk for access in the portal, http://127.0.0.1:8080, or take it out of the model"
)


def best_days(workspace: Path) -> Path:
    """Write a model that reads an input, and the columns that the service knows of it."""
    (workspace / "models/gold/best_days.sql").write_text(BEST_DAYS)
    (workspace / "tests/test_best_days.yaml").write_text(UNIT_TEST)
    (workspace / "external_models").mkdir(exist_ok=True)
    (workspace / "external_models/upstream.yaml").write_text(COLUMNS)
    return workspace


@pytest.fixture(scope="module")
def published(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Publish what another product lets its consumers read, one column of it hostile."""
    file = tmp_path_factory.mktemp("published") / "data.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT day::DATE AS day, revenue::DECIMAL(18, 2) AS revenue,"
            """ 1 AS "'); DROP SCHEMA gold; --@x{{ 1/0 }}" """
            "FROM (VALUES ('2026-01-05', 210.40), ('2026-01-06', 310), ('2026-01-07', 80))"
            f" AS made(day, revenue)) TO '{file}' (FORMAT PARQUET)"
        )
    storage.s3.upload_file(str(file), BUCKET, f"{GRANTED[0]}data.parquet")


@pytest.fixture(scope="module")
def consumer(
    published: None,
    storage: Storage,
    extensions: Path,
    shell: Shell,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """Build a product that reads a granted port, under the oddest name that the portal allows."""
    granted = GRANTED
    workspace = render(tmp_path_factory.mktemp("consumer"), "marketing+eu=1,x@y")
    key = storage.key(workspace.name, granted)
    inputs = (*granted, "crm/customers/")
    connect(workspace, storage.endpoint, extensions, key, ("best-days",), inputs)
    return best_days(workspace), shell.succeed(*PLAN, cwd=workspace)


def test_a_consumer_reads_the_port_it_was_granted(
    consumer: tuple[Path, str], storage: Storage, tmp_path: Path
) -> None:
    rows = storage.rows("marketing+eu=1,x@y/best-days/data.parquet", tmp_path)
    assert [tuple(row.values()) for row in rows] == [
        ("2026-01-05", "210.40"),
        ("2026-01-06", "310.00"),
    ]


def test_a_unit_test_makes_up_an_upstream(consumer: tuple[Path, str]) -> None:
    assert "Successfully Ran `2` Tests" in consumer[1]


def test_an_input_that_no_model_reads_stops_nothing(consumer: tuple[Path, str]) -> None:
    said = f"upstream.crm__customers: left out, s3://{BUCKET}/crm/customers/ cannot be read"
    assert said in consumer[1]


def test_an_upstream_that_is_down_does_not_stop_dev(
    consumer: tuple[Path, str], extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(consumer[0], tmp_path)
    inputs = GRANTED
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    connect(workspace, nobody, extensions, ("AKIAXXXXXXXXXXXXXXXX", "x" * 40), (), inputs)
    planned = shell.succeed(*PLAN_DEV, cwd=workspace)
    assert "upstream.shop__daily_revenue: left out, s3://" in planned


def test_an_upstream_that_is_refused_stops_prod_and_is_named(
    consumer: tuple[Path, str], storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(consumer[0], tmp_path)
    inputs = GRANTED
    connect(workspace, storage.endpoint, extensions, storage.key(workspace.name), (), inputs)
    edit(workspace / "models/gold/best_days.sql", "> 100", "> 200")
    planned = shell(*PLAN, "--skip-tests", cwd=workspace)
    assert planned.returncode == 1
    said = (
        f"gold.best_days reads upstream.shop__daily_revenue, but s3://{BUCKET}/{inputs[0]} cannot"
    )
    assert said in planned.stdout
    assert "403" in planned.stdout


def test_a_revoked_upstream_stops_who_reads_it_and_says_what_to_do(
    consumer: tuple[Path, str], storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(consumer[0], tmp_path)
    connect(workspace, storage.endpoint, extensions, storage.key(workspace.name))
    (workspace / "external_models/upstream.yaml").write_text("[]\n")
    edit(workspace / "models/example.sql", "  COUNT(*) AS orders", "  COUNT(*) + 1 AS orders")

    for plan in (PLAN, PLAN_DEV):
        stopped = shell(*plan, "--skip-tests", cwd=workspace)
        assert stopped.returncode == 1
        assert NO_ACCESS in stopped.stdout
        assert "Traceback" not in stopped.stdout

    others = shell.succeed(*PLAN_DEV, "--select-model", "gold.example", cwd=workspace)
    assert "gold.best_days reads upstream.shop__daily_revenue: left out, " in others
    with duckdb.connect(workspace / "warehouse.duckdb") as warehouse:
        query = "SELECT * FROM information_schema.tables WHERE table_schema = 'upstream'"
        assert warehouse.execute(query).fetchall() == []


@pytest.fixture(scope="module")
def exploration(
    published: None,
    storage: Storage,
    extensions: Path,
    shell: Shell,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """Build an exploration: no prefix, no port, a key that only reads what was granted."""
    granted = GRANTED
    folder = tmp_path_factory.mktemp("exploration")
    workspace = render(folder, "why", product_kind="exploration")
    connect(
        workspace,
        storage.endpoint,
        extensions,
        storage.key(None, granted),
        (),
        granted,
        produces=False,
    )
    return best_days(workspace), shell.succeed(*PLAN, cwd=workspace)


def test_an_exploration_plans_on_what_it_was_granted(
    exploration: tuple[Path, str], shell: Shell
) -> None:
    query = "SELECT COUNT(*) AS days FROM gold.best_days"
    fetched = shell.succeed("sqlmesh", "fetchdf", query, cwd=exploration[0])
    assert fetched.split()[-1] == "2"


def test_an_exploration_publishes_nothing_and_says_so(
    exploration: tuple[Path, str], storage: Storage, shell: Shell
) -> None:
    said = "Nothing is published: ports.json names no output port"
    assert said in exploration[1]
    assert said in shell.succeed("sh", "run.sh", cwd=exploration[0])
    assert storage.objects("why") == []


def test_an_exploration_that_is_given_a_port_by_hand_still_publishes_nothing(
    exploration: tuple[Path, str], extensions: Path, shell: Shell, storage: Storage, tmp_path: Path
) -> None:
    workspace = move(exploration[0], tmp_path)
    key = storage.key(None, GRANTED)
    granted = GRANTED
    connect(workspace, storage.endpoint, extensions, key, ("example",), granted, produces=False)
    edit(workspace / "models/gold/best_days.sql", "> 100", "> 200")
    planned = shell(*PLAN, "--skip-tests", cwd=workspace)
    assert planned.returncode == 1
    assert "S3_BUCKET and S3_PREFIX are missing in .env" in planned.stdout
    assert storage.objects("example") == []
