"""Run every engine and state store that the template offers: plan, read, publish, run again."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from tests.rendered import (
    BUCKET,
    DAILY_REVENUE,
    REVENUE,
    TEMPLATE,
    Storage,
    connect,
    database,
    render,
)

if TYPE_CHECKING:
    from tests import database_server
    from tests.rendered import Shell

pytest_plugins = ["tests.workbench", "tests.database_server"]
pytestmark = [pytest.mark.workspace, pytest.mark.engine]

CHOICES = json.loads((TEMPLATE / "cookiecutter.json").read_text())
COMBINATIONS = list(itertools.product(CHOICES["engine"], CHOICES["state_store"]))[1:]
COMMANDS = (
    "--gateway ci format --check",
    "--gateway ci lint",
    "--gateway ci test",
    "plan --auto-apply --no-prompts",
)
# Java compiles for long runs otherwise.
SPARK = {"SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
VIP = """MODEL (
  name gold.vip,
  kind FULL
);

SELECT
  customer::TEXT AS customer,
  credit::DECIMAL(18, 2) AS credit,
  since::DATE AS since
FROM upstream.crm__customers
"""
ONE_AFTER_ANOTHER = """
import sys
from sqlmesh.cli.main import cli
for line in sys.argv[1:]:
    try:
        cli(line.split())
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture(scope="module")
def upstream(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Publish a port of another product, with a column that only quoting makes harmless."""
    file = tmp_path_factory.mktemp("upstream") / "data.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 'Ada' AS customer, 12.50::DECIMAL(18, 2) AS credit,"
            " DATE '2026-01-05' AS since, TIMESTAMPTZ '2026-01-05 12:00:00+00' AS seen,"
            f""" 1 AS "x""); DROP TABLE 'y`" ) TO '{file}' (FORMAT PARQUET)"""
        )
    storage.s3.upload_file(str(file), BUCKET, "crm/customers/data.parquet")
    return "crm/customers/"


@pytest.mark.parametrize(("engine", "state_store"), COMBINATIONS)
def test_everything_works_on(
    engine: str,
    state_store: str,
    storage: Storage,
    extensions: Path,
    shell: Shell,
    upstream: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if engine == "spark":
        need_spark()
        shell = shell.with_environ(**SPARK)
    namespace = f"on-{engine}-{state_store}"
    workspace = render(tmp_path, namespace, engine=engine, state_store=state_store)
    if "postgres" in (engine, state_store):
        server: database_server.Server = request.getfixturevalue("postgresql")
        with server.connect() as connection:
            connection.execute(f"CREATE DATABASE {database(workspace)}")
        shell = shell.with_environ(**server.libpq())
    key = storage.key(namespace, [upstream])
    connect(workspace, storage.endpoint, extensions, key, ("daily-revenue", "vip"), (upstream,))
    (workspace / "models/gold/vip.sql").write_text(VIP)

    shell.succeed("python", "-c", ONE_AFTER_ANOTHER, *COMMANDS, cwd=workspace)
    again = shell.succeed("python", "publish.py", cwd=workspace)

    assert [line for line in again.splitlines() if line.startswith("Publishing ")] == [
        f"Publishing gold.{model} to s3://{BUCKET}/{namespace}/{port}/data.parquet"
        for port, model in (("daily-revenue", "daily_revenue"), ("vip", "vip"))
    ]
    revenue = storage.rows(f"{namespace}/daily-revenue/data.parquet", tmp_path)
    assert [tuple(row.values()) for row in revenue] == REVENUE
    vip = storage.rows(f"{namespace}/vip/data.parquet", tmp_path)
    assert vip == [{"customer": "Ada", "credit": "12.50", "since": "2026-01-05"}]
    assert storage.writes(f"{namespace}/daily-revenue/") == 4
    port = storage.contract(f"{namespace}/daily-revenue/")
    assert {name: port[name] for name in DAILY_REVENUE} == DAILY_REVENUE
    kinds = [column["type"] for column in storage.contract(f"{namespace}/vip/")["columns"]]
    assert kinds == ["VARCHAR", "DECIMAL(18,2)", "DATE"]


def need_spark() -> None:
    """Skip where a part of Spark is missing, but never in CI."""
    missing = []
    if importlib.util.find_spec("pyspark") is None:
        missing.append("PySpark is missing: scripts/test --engines installs it")
    if shutil.which("java") is None:
        missing.append("Java is missing: apt-get install default-jre-headless")
    if missing and os.environ.get("CI", "").lower() == "true":
        pytest.fail("; ".join(missing))
    if missing:
        pytest.skip("; ".join(missing))
