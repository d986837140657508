"""Run the template's macros against a real PostgreSQL: what it copies there, and under which names.

The files are on disk instead of in S3; `test_template_on_postgresql.py` runs SQLMesh as well.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import duckdb
import jinja2
import psycopg
import pytest
import yaml
from psycopg import rows

from provisioner.workspace.render import Template
from tests.rendered import TEMPLATE, database, render

if TYPE_CHECKING:
    from tests import database_server

pytest_plugins = ["tests.workbench", "tests.database_server"]
pytestmark = pytest.mark.workspace

LONG = "a" * 40 + "__" + "b" * 40
IDS = ("6f1d7a3e-1111-4c1b-9d7e-0a1b2c3d4e5f", "6f1d7a3e-1111-4c1b-9d7e-0a1b2c3d4e60")


@dataclass(kw_only=True)
class Consumer:
    """What one workspace's macros do with PostgreSQL."""

    ports: ModuleType
    db: Any
    connection: psycopg.Connection
    folder: Path

    def connect(self, query: str, upstream: str = "shop__orders") -> None:
        """Publish the rows of a query, and copy them."""
        file = self.folder / "data.parquet"
        with duckdb.connect() as producer:
            producer.execute(f"COPY ({query}) TO '{file}' (FORMAT PARQUET)")
        self.ports.connect(None, self.db, upstream, str(file))

    def rows(self, table: str = "upstream.shop__orders") -> list[dict[str, object]]:
        """Return what PostgreSQL itself holds."""
        with self.connection.cursor(row_factory=rows.dict_row) as cursor:
            return cursor.execute(f"SELECT * FROM {table}").fetchall()

    def execute(self, statement: str) -> None:
        self.connection.execute(statement)

    def tables(self) -> set[str]:
        found = self.connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname LIKE 'upstream%'"
        )
        return {f"{schema}.{table}" for schema, table in found}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Return the macros of a rendered workspace."""
    workspace = render(tmp_path_factory.mktemp("rendered"), "consumer", engine="postgres")
    spec = importlib.util.spec_from_file_location("ports", workspace / "macros/ports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.DATABASE = database(workspace)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLMesh's own, at its import
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def consumer(
    ports: ModuleType,
    postgresql: database_server.Server,
    extensions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Consumer]:
    """Open the empty database of a workspace as its macros do."""
    with postgresql.connect() as connection:
        connection.execute(f"CREATE DATABASE {ports.DATABASE}")
    for variable, value in postgresql.libpq().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("DUCKDB_EXTENSION_DIRECTORY", str(extensions))
    try:
        with ports.open_duckdb(None) as db, postgresql.connect(ports.DATABASE) as connection:
            assert ports.connected(None, db) == set()
            yield Consumer(ports=ports, db=db, connection=connection, folder=tmp_path)
    finally:
        postgresql.drop(ports.DATABASE)


def test_a_column_that_changes_its_type_keeps_what_it_holds(consumer: Consumer) -> None:
    consumer.connect("SELECT 12 AS amount, DATE '2026-01-05' AS at, 'x' AS on_day")
    changed = (
        "SELECT 12.75::DECIMAL(18, 2) AS amount, TIMESTAMP '2026-01-05 13:14:15' AS at,"
        " DATE '2026-01-05' AS on_day"
    )
    consumer.connect(changed)
    (row,) = consumer.rows()
    assert row["amount"] == Decimal("12.75")
    assert str(row["at"]) == "2026-01-05 13:14:15"
    consumer.connect(changed.replace("DATE '2026-01-05'", "'soon'"))
    assert consumer.rows()[0]["on_day"] == "soon"
    assert consumer.tables() == {"upstream.shop__orders"}


def test_types_that_postgresql_has_not_make_no_new_table_each_time(consumer: Consumer) -> None:
    query = (
        "SELECT 1::UTINYINT AS small, 2::HUGEINT AS huge, TIMESTAMP_S '2026-01-05 00:00:00' AS s"
    )
    oid = "pg_class WHERE relname = 'shop__orders'"
    consumer.connect(query)
    first = consumer.rows(oid)[0]["oid"]
    consumer.connect(query)
    assert consumer.rows(oid)[0]["oid"] == first
    assert len(consumer.rows()) == 1


def test_a_column_is_added_under_the_views_that_depend_on_the_copy(consumer: Consumer) -> None:
    consumer.connect("SELECT 1 AS n")
    consumer.execute("CREATE VIEW mine AS SELECT * FROM upstream.shop__orders")
    consumer.connect("""SELECT 'first' AS "a ""new"" one", 2 AS n, 1.5::DECIMAL(18, 2) AS price""")
    assert consumer.rows() == [{"n": 2, 'a "new" one': "first", "price": Decimal("1.50")}]
    assert consumer.rows("mine") == [{"n": 2}]
    assert consumer.tables() == {"upstream.shop__orders"}


@pytest.mark.parametrize("changed", ["SELECT 'two' AS n, 2 AS m", "SELECT 2 AS m"])
def test_a_view_outlives_the_columns_it_depends_on(consumer: Consumer, changed: str) -> None:
    consumer.connect("SELECT 1 AS n, 1 AS m")
    consumer.execute("CREATE VIEW mine AS SELECT n FROM upstream.shop__orders")
    consumer.connect(changed)
    consumer.connect(changed)
    assert consumer.rows()[0]["m"] == 2
    assert consumer.rows("mine") == [{"n": 1}]
    assert len(consumer.tables()) == 2

    consumer.ports.disconnect(None, consumer.db, "shop__orders")

    assert consumer.rows("mine") == []
    assert [table for table in consumer.tables() if table.startswith("upstream.")] == []


def test_a_change_that_fails_half_way_leaves_the_copy_as_it_was(consumer: Consumer) -> None:
    consumer.connect("SELECT 1 AS n")
    consumer.execute("CREATE VIEW mine AS SELECT n FROM upstream.shop__orders")
    with pytest.raises(duckdb.Error):
        consumer.connect("SELECT 'two' AS n, {'no': 'such type'} AS nested")
    assert consumer.rows() == [{"n": 1}]
    consumer.connect("SELECT 3 AS n")
    assert consumer.rows("mine") == [{"n": 3}]


def test_inputs_of_long_names_keep_apart_and_stay_connected(consumer: Consumer) -> None:
    names = [consumer.ports.short(f"{LONG}_{end}") for end in ("net", "gross")]
    for n in (1, 2):
        for name in names:
            consumer.connect(f"SELECT '{name} {n}' AS {'c' * 70}", name)
        assert consumer.ports.connected(None, consumer.db) == set(names)
    for name in names:
        assert list(consumer.rows(f"upstream.{name}")[0].values()) == [f"{name} 2"]
    consumer.ports.disconnect(None, consumer.db, names[0])
    assert consumer.tables() == {f"upstream.{names[1]}"}
    assert consumer.ports.short("x" * 63) == "x" * 63


def test_two_columns_that_postgresql_cannot_tell_apart_are_refused(consumer: Consumer) -> None:
    with pytest.raises(consumer.ports.PortError, match="two columns share these"):
        consumer.connect(f"SELECT 1 AS {'c' * 70}_net, 2 AS {'c' * 70}_gross")


def test_no_two_products_have_a_database_or_a_schema_in_common_whatever_they_are_called() -> None:
    template = Template(TEMPLATE)

    def names(product_id: str, namespace: str, engine: str) -> set[str]:
        context = {
            "project_name": namespace,
            "project_slug": "a_b",
            "product_id": product_id,
            "engine": engine,
            "state_store": "postgres",
        }
        files = {file.path: file.data.decode() for file in template.render(context, {}).files}
        config = jinja2.Template(files["config.yaml"]).render(env_var=lambda _, default: default)
        gateway = yaml.safe_load(config)["gateways"][engine]
        lake = gateway["connection"].get("catalogs", {}).get("lake", {})
        found = {
            gateway["state_connection"]["database"],
            gateway["state_schema"],
            lake.get("metadata_schema", ""),
            lake.get("path", "").removeprefix("postgres:dbname="),
            gateway["connection"].get("database", "") if engine == "postgres" else "",
        } - {""}
        assert all(len(name) <= 63 for name in found)
        assert all(name in files["README.md"] for name in found)
        if engine == "postgres":
            assert f"'dbname={gateway['connection']['database']}'" in files["macros/ports.py"]
        return found

    for engine in ("duckdb", "ducklake", "postgres", "spark"):
        assert names(IDS[0], "a-b", engine).isdisjoint(names(IDS[1], "a.b", engine))
        assert names(IDS[0], "a-b", engine) == names(IDS[0], "renamed", engine)
