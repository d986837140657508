"""Break the database in every way we know of: it says so, and nothing is half done."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy

from provisioner import errors, model, store
from provisioner.seal import Seal
from provisioner.store import places, schema
from tests import opened_store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/var/state.db"


@pytest.mark.parametrize(
    "wrong",
    ["", "nonsense", "sqlite://", "sqlite:///:memory:", "sqlite:///x?mode=ro", "mysql://u:pw@h/d"],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(wrong: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        store.open_store(wrong, Seal([opened_store.KEY]), clock=opened_store.now)
    (line,) = caught.value.problems
    assert line.startswith("PROV_DATABASE_URL: expects ")
    assert "pw" not in line


def test_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.ConfigurationError, match="PROV_DATABASE_URL"):
        store.open_store(
            f"sqlite:///{tmp_path}/file/state.db", Seal([opened_store.KEY]), clock=opened_store.now
        )


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    url = "postgresql+psycopg://user:hidden-password@127.0.0.1:1/state?connect_timeout=1"
    with pytest.raises(errors.StoreUnavailable) as caught:
        store.open_store(url, Seal([opened_store.KEY]), clock=opened_store.now)
    assert "hidden-password" not in f"{caught.value} {caught.value.__cause__}"


def test_a_file_that_is_no_database_is_unavailable(url: str, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "state.db").write_bytes(b"something else entirely " * 99)
    with pytest.raises(errors.StoreUnavailable) as caught:
        store.open_store(url, Seal([opened_store.KEY]), clock=opened_store.now)
    assert caught.value.attributes == {"reason": "SQLITE_NOTADB"}


def test_a_database_that_was_removed_takes_nothing_in(url: str, tmp_path: Path) -> None:
    with opened_store.opened(url) as opened:
        (tmp_path / "var" / "state.db").unlink()
        with pytest.raises(errors.StoreUnavailable, match="gone"):
            opened.inbox.accept([opened_store.delivery()])
        assert not opened.database.healthy()
        (tmp_path / "var" / "state.db").touch()
        with pytest.raises(errors.StoreUnavailable, match="replaced"):
            opened.records.known()


def test_a_database_that_somebody_keeps_locked_is_unavailable(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_BUSY_SECONDS", 0.01)
    with opened_store.opened(url) as opened:
        path = tmp_path / "var" / "state.db"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            with pytest.raises(errors.StoreUnavailable) as caught:
                opened.inbox.accept([opened_store.delivery()])
            assert opened.history.deliveries(limit=9) == []
            somebody.execute("ROLLBACK")
        assert caught.value.attributes == {"reason": "SQLITE_BUSY"}
        opened.inbox.accept([opened_store.delivery()])
        assert len(opened.history.deliveries(limit=9)) == 1


def test_a_full_disk_takes_nothing_in_and_recovers(url: str) -> None:
    with opened_store.opened(url) as opened:

        def limit(pages: int) -> None:
            with opened.database.reading() as connection:
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        many = [
            opened_store.delivery(model.Key.product(str(uuid.UUID(int=n)))) for n in range(2000)
        ]
        limit(1)  # SQLite takes the present size instead
        with pytest.raises(errors.StoreUnavailable) as caught:
            opened.inbox.accept(many)
        assert caught.value.attributes == {"reason": "SQLITE_FULL"}
        assert opened.history.deliveries(limit=1) == []
        limit(1_000_000)
        opened.inbox.accept(many)
        assert len(opened.history.deliveries(limit=9999)) == 2000


def test_a_broken_constraint_is_a_bug_and_stays_one(url: str) -> None:
    twice = {"name": "f", "value": "v"}
    with (
        opened_store.opened(url) as opened,
        pytest.raises(sqlalchemy.exc.IntegrityError),
        opened.database.writing() as connection,
    ):
        connection.execute(sqlalchemy.insert(schema.flags), [twice, twice])


def test_what_failed_half_way_left_nothing(url: str) -> None:
    def stop_half_way(connection: sqlalchemy.Connection) -> None:
        connection.execute(sqlalchemy.insert(schema.flags), {"name": "f", "value": "v"})
        raise RuntimeError("a bug")

    with opened_store.opened(url) as opened:
        with pytest.raises(RuntimeError), opened.database.writing() as connection:
            stop_half_way(connection)
        assert opened.flags.get("f") is None


def test_a_naive_moment_is_refused(url: str) -> None:
    with (
        opened_store.opened(url) as opened,
        pytest.raises((TypeError, sqlalchemy.exc.StatementError)),
    ):
        opened.history.prune(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_a_device_is_no_database_and_keeps_its_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[int] = []
    monkeypatch.setattr(os, "fchmod", lambda _descriptor, mode: changed.append(mode))
    with pytest.raises(errors.ConfigurationError):
        places.SqliteFile(Path("/dev/null"))
    assert changed == []
