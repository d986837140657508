"""Run every engine and state store that the template offers: plan, read, publish, run again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rendered import Storage, connect, render

if TYPE_CHECKING:
    from tests import database_server
    from tests.rendered import Shell

pytest_plugins = ["tests.workbench", "tests.database_server"]
pytestmark = [pytest.mark.workspace, pytest.mark.engine]

CHOICES = json.loads(Path("templates/sqlmesh/cookiecutter.json").read_text())
COMBINATIONS = list(itertools.product(CHOICES["engine"], CHOICES["state_store"]))[1:]
COMMANDS = ("format --check", "lint", "test", "plan --auto-apply --no-prompts")
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
    import duckdb

    file = tmp_path_factory.mktemp("upstream") / "data.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 'Ada' AS customer, 12.50::DECIMAL(18, 2) AS credit,"
            " DATE '2026-01-05' AS since, TIMESTAMPTZ '2026-01-05 12:00:00+00' AS seen,"
            f""" 1 AS "x""); DROP TABLE 'y`" ) TO '{file}' (FORMAT PARQUET)"""
        )
    storage.s3.upload_file(str(file), "data-products", "crm/customers/data.parquet")
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
    workspace = render(
        tmp_path, f"on-{engine}-{state_store}", engine=engine, state_store=state_store
    )
    print(shell.succeed("bash", "-c", "true", cwd=workspace))
    if "postgres" in (engine, state_store):
        server: database_server.Server = request.getfixturevalue("postgresql")
        with server.connect() as connection:
            connection.execute(f"CREATE DATABASE on_{engine}_{state_store}")
        shell = shell.with_environ(**server.libpq())
    key = storage.key(workspace.name, [upstream])
    connect(workspace, storage.endpoint, extensions, key, ("daily-revenue", "vip"), (upstream,))
    (workspace / "models/gold/vip.sql").write_text(
        "MODEL (\n  name gold.vip,\n  kind FULL\n);\n\n"
        "SELECT\n  customer::TEXT AS customer,\n  credit::DECIMAL(18, 2) AS credit,\n"
        "  since::DATE AS since\nFROM upstream.crm__customers\n"
    )

    print(shell.succeed("python", "-c", ONE_AFTER_ANOTHER, *COMMANDS, cwd=workspace))
    print(storage.objects(""))
