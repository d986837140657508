from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy
from alembic import config, script

from provisioner import errors, migrations, store
from provisioner.seal import Seal
from provisioner.store import schema
from tests import opened_store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/var/state.db"


def _schema_of(path: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in rows if name != "alembic_version"}


def test_migrations_make_the_tables_that_the_queries_know(url: str, tmp_path: Path) -> None:
    with opened_store.opened(url):
        pass
    drawn = tmp_path / "drawn.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{drawn}")
    schema.metadata.create_all(engine)
    engine.dispose()
    assert _schema_of(tmp_path / "var" / "state.db") == _schema_of(drawn)


def test_the_newest_version_is_the_one_we_name() -> None:
    settings = config.Config()
    settings.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert script.ScriptDirectory.from_config(settings).get_heads() == [migrations.HEAD]


def test_a_database_that_is_up_to_date_is_opened_without_migrating(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_store.opened(url):
        pass
    monkeypatch.setattr(migrations, "upgrade", None)
    with opened_store.opened(url) as opened:
        assert opened.database.healthy()


def test_a_migration_happens_as_a_whole_or_not_at_all(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(connection: sqlalchemy.Connection) -> None:
        migrations_upgrade(connection)
        raise RuntimeError("power failure")

    migrations_upgrade = migrations.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "upgrade", half)
        with pytest.raises(RuntimeError):
            store.open_store(url, Seal([opened_store.KEY]), clock=opened_store.now)
    assert _schema_of(tmp_path / "var" / "state.db") == {}
    with opened_store.opened(url) as opened:
        assert opened.database.healthy()


def test_of_starts_that_race_one_migrates_and_one_serves(url: str) -> None:
    together, end = threading.Barrier(4), threading.Barrier(4)

    def start(_: int) -> bool:
        together.wait()
        try:
            with opened_store.opened(url) as opened:
                serving = opened.database.acquire()
                end.wait()
                return serving
        except BaseException:
            end.abort()
            raise

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(start, range(4))) == [False, False, False, True]


def test_nothing_is_migrated_under_a_process_that_serves(url: str, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    with (tmp_path / "var" / "state.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(errors.StoreUnavailable, match="must be migrated"):
            store.open_store(url, Seal([opened_store.KEY]), clock=opened_store.now)
    with opened_store.opened(url) as opened:
        assert opened.database.healthy()


def test_a_database_of_a_newer_version_is_refused(url: str, tmp_path: Path) -> None:
    with opened_store.opened(url):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "var" / "state.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(errors.ConfigurationError, match="PROV_DATABASE_URL"):
        store.open_store(url, Seal([opened_store.KEY]), clock=opened_store.now)
