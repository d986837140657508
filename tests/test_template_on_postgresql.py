"""Live with the template on one PostgreSQL server: producers that change, neighbours, renames."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from tests.rendered import BUCKET, PLAN, Shell, Storage, connect, database, edit, render

if TYPE_CHECKING:
    from tests import database_server

pytest_plugins = ["tests.workbench", "tests.database_server"]
pytestmark = [pytest.mark.workspace, pytest.mark.engine]

ORDERS = "shop/orders/"
LONG = "l" * 40 + "/" + "p" * 40
COPIED = "MODEL (name gold.copied, kind FULL);\n\nSELECT\n  amount\nFROM upstream.shop__orders\n"
SEEN = "MODEL (name gold.seen, kind VIEW);\n\nSELECT\n  amount\nFROM upstream.shop__orders\n"
COLUMNS = "- name: upstream.shop__orders\n  columns:\n    amount: {}\n"
POSTGRESQL = {"engine": "postgres", "state_store": "postgres"}


def publish(storage: Storage, query: str, folder: Path, port: str = ORDERS) -> None:
    """Publish the rows of a query as another product."""
    file = folder / "published.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{file}' (FORMAT PARQUET)")
    storage.s3.upload_file(str(file), BUCKET, f"{port}data.parquet")


def make_database(postgresql: database_server.Server, workspace: Path) -> None:
    with postgresql.connect() as connection:
        connection.execute(f"CREATE DATABASE {database(workspace)}")


def external(workspace: Path, text: str) -> None:
    """Write what the service knows of the inputs' columns."""
    (workspace / "external_models").mkdir(exist_ok=True)
    (workspace / "external_models/upstream.yaml").write_text(text)


def test_a_producer_changes_a_type_under_a_view_and_nothing_stale_is_published(
    postgresql: database_server.Server,
    storage: Storage,
    extensions: Path,
    shell: Shell,
    tmp_path: Path,
) -> None:
    shell = shell.with_environ(**postgresql.libpq())
    workspace = render(tmp_path, "changing", **POSTGRESQL)
    make_database(postgresql, workspace)
    key = storage.key(workspace.name, [ORDERS])
    connect(workspace, storage.endpoint, extensions, key, ("copied", "seen"), (ORDERS,))
    for name, model in (("copied", COPIED), ("seen", SEEN)):
        (workspace / f"models/gold/{name}.sql").write_text(model)
    external(workspace, COLUMNS.format("INT"))
    publish(storage, "SELECT 12 AS amount", tmp_path)
    shell.succeed(*PLAN, "--execution-time", "2026-01-07", cwd=workspace)
    assert storage.rows("changing/seen/data.parquet", tmp_path) == [{"amount": 12}]

    publish(storage, "SELECT 12.75::DECIMAL(18, 2) AS amount", tmp_path)
    run = shell("sqlmesh", "run", cwd=workspace)

    assert run.returncode == 1
    assert (
        "gold.seen reads upstream.shop__orders, but is a view of the columns that it" in run.stdout
    )
    assert "Traceback" not in run.stdout

    external(workspace, COLUMNS.format("DECIMAL(18, 2)"))
    shell.succeed(*PLAN, "--execution-time", "2026-01-08", cwd=workspace)
    for port in ("copied", "seen"):
        rows = storage.rows(f"changing/{port}/data.parquet", tmp_path)
        assert rows == [{"amount": "12.75"}]
    publish(storage, "SELECT 13.75::DECIMAL(18, 2) AS amount", tmp_path)
    again = shell.succeed("sqlmesh", "run", cwd=workspace)
    assert "have changed" not in again
    assert storage.rows("changing/seen/data.parquet", tmp_path) == [{"amount": "13.75"}]


def test_inputs_whose_names_postgresql_cannot_tell_apart_are_read_by_shorter_ones(
    postgresql: database_server.Server,
    storage: Storage,
    extensions: Path,
    shell: Shell,
    tmp_path: Path,
) -> None:
    shell = shell.with_environ(**postgresql.libpq())
    workspace = render(tmp_path, "long", **POSTGRESQL)
    make_database(postgresql, workspace)
    ports = (f"{LONG}_net/", f"{LONG}_gross/")
    names = [port.rstrip("/").replace("/", "__") for port in ports]
    key = storage.key(workspace.name, ports)
    connect(workspace, storage.endpoint, extensions, key, ("net", "gross"), ports)
    for number, (port, name) in enumerate(zip(ports, names, strict=True)):
        publish(storage, f"SELECT {number} AS amount", tmp_path, port)
        model = COPIED.replace("shop__orders", name).replace("copied", name.rsplit("_", 1)[1])
        (workspace / f"models/gold/{name[-5:]}.sql").write_text(model)
    external(workspace, "".join(COLUMNS.format("INT").replace("shop__orders", n) for n in names))

    planned = shell(*PLAN, cwd=workspace)

    assert planned.returncode == 1
    assert "Traceback" not in planned.stdout
    for name in names:
        said = f"reads upstream.{name}, but PostgreSQL keeps 63 characters of a name: read it as "
        (line,) = (line for line in planned.stdout.splitlines() if said in line)
        shorter = line.split(" read it as upstream.")[1].rstrip(".")
        edit(workspace / f"models/gold/{name[-5:]}.sql", name, shorter)
    for _ in range(2):
        shell.succeed(*PLAN, cwd=workspace)
        shell.succeed("sqlmesh", "run", cwd=workspace)
    for number, port in enumerate(("net", "gross")):
        assert storage.rows(f"long/{port}/data.parquet", tmp_path) == [{"amount": number}]


def test_two_products_of_one_slug_on_one_server_do_not_meet_and_a_rename_keeps_the_state(
    postgresql: database_server.Server, shell: Shell, tmp_path: Path
) -> None:
    shell = shell.with_environ(**postgresql.libpq())
    neighbours = [render(tmp_path, name, **POSTGRESQL) for name in ("a-b", "a.b")]
    for number, workspace in enumerate(neighbours):
        edit(workspace / "models/gold/daily_revenue.sql", "COUNT(*)", f"COUNT(*) + {number}")
        make_database(postgresql, workspace)
        shell.succeed(*PLAN, "--skip-tests", cwd=workspace)
    for number, workspace in enumerate(neighbours):
        assert "No changes to plan" in shell.succeed(*PLAN, "--skip-tests", cwd=workspace)
        with postgresql.connect(database(workspace)) as connection:
            found = connection.execute("SELECT MIN(orders) FROM gold.daily_revenue").fetchone()
        assert found == (1 + number,)

    same = str(uuid.uuid5(uuid.NAMESPACE_URL, "a-b"))
    renamed = render(tmp_path, "renamed", product_id=same, **POSTGRESQL)
    edit(renamed / "models/gold/daily_revenue.sql", "COUNT(*)", "COUNT(*) + 0")
    assert "No changes to plan" in shell.succeed(*PLAN, "--skip-tests", cwd=renamed)
