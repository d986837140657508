"""Back a store up while it is used, and bring it back as a whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet

from provisioner import backup_file, cli, errors, migrations, model, store, workqueue
from provisioner.domain import revival
from provisioner.seal import Seal
from provisioner.store import dump, schema
from tests import builders as b
from tests import opened_store

pytest_plugins = ["tests.database_server"]

SALES = opened_store.A
_UNREADABLE: dict[str, object] = {
    "key": f"product:{b.FINANCE}",
    "kind": "product",
    "namespace": "finance",
    "phase": "active",
    "settled_digest": "",
    "next_at": None,
    "verified_at": None,
    "released_at": None,
    "sealed": None,
}
_PORT = model.SeenPort(
    port_id=b.ORDERS, producer=SALES, producer_namespace="sales", port_namespace="orders"
)
_SEEN = dataclasses.replace(
    _PORT, state=model.PortState.UNREADABLE, why="it is no JSON", read_at=b.NOW, changed_at=b.NOW
)
Command = Callable[..., Result]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/var/store.db"


@pytest.fixture
def command(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROV_DPP_API_URL", "http://portal.example")
    monkeypatch.setenv("PROV_SEALING_KEYS", opened_store.KEY)
    monkeypatch.setenv("PROV_DATABASE_URL", url)
    monkeypatch.setenv("PROV_DUCKDB_EXTENSION_DIRECTORY", "not-filled")

    def run(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(cli.cli, list(arguments), env=environ)

    return run


def fill(url: str) -> None:
    """Have one product with a secret, a link, wishes, flags, a queue and history."""
    with opened_store.serving(url) as (held, queue):
        held.inbox.accept([opened_store.delivery()])
        lease = queue.lease("test")
        assert lease is not None
        held.records.save(opened_store.record(), lease)
        held.links.replace(SALES, [b.a_link(valid_until=b.TODAY)], lease)
        held.contracts.register(SALES, [_PORT], lease, seen_before=b.NOW)
        held.contracts.save([_SEEN], ())
        for wish in (model.Ask.ROTATE, model.Ask.COMPROMISED, model.Ask.PURGE):
            held.asks.ask([SALES], wish)
        for flag in ("mass_deletion", "deletions_confirmed"):
            held.flags.put(flag, "yes")
        queue.done(lease, model.Outcome(key=SALES, status="done"))
        queue.touch([SALES], model.Priority.EVENT)


def check_restored(url: str) -> None:
    """Expect the record, marked, with its secret; what was good only for its time is gone."""
    with opened_store.serving(url) as (held, queue):
        before = opened_store.record()
        assert held.records.load(SALES) == revival.mark(before)
        assert held.records.digests() == {SALES: ""}
        assert held.links.consumers(b.ORDERS) == {SALES}
        assert held.contracts.of_producer(SALES) == (_SEEN,)
        assert set(held.asks.of(SALES)) == {model.Ask.COMPROMISED}
        flags = {name: held.flags.get(name) for name in ("mass_deletion", "resync_wanted")}
        assert flags == {"mass_deletion": "yes", "resync_wanted": "yes"}
        assert held.flags.get("deletions_confirmed") is None
        assert held.flags.get(revival.RESTORED_AT) is not None
        assert queue.lease("test") is None
        assert held.history.outcomes(SALES, limit=1) == []
        # What the database counts by itself goes on where nothing is yet.
        held.inbox.accept([opened_store.delivery()])
        assert len(held.history.deliveries(limit=9)) == 1


def test_a_backup_is_restored_into_every_kind_of_store(
    any_url: str, url: str, command: Command, tmp_path: Path
) -> None:
    fill(any_url)
    with opened_store.opened(any_url):  # somebody has it open meanwhile
        taken = command("backup", "b", PROV_DATABASE_URL=any_url)
    assert taken.exit_code == 0, taken.output
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    for target in (elsewhere, any_url):
        done = command("restore", "b", "--replace", "--yes", PROV_DATABASE_URL=target)
        assert done.exit_code == 0, done.output
        assert "restored: 1 products" in done.output
        check_restored(target)


def test_a_restored_store_releases_nothing_before_a_resync_has_counted(
    url: str, command: Command
) -> None:
    with opened_store.serving(url) as (held, _):
        held.flags.put("deletions_confirmed", "yes")
    assert command("backup", "b").exit_code == 0
    assert command("restore", "b", "--replace", "--yes").exit_code == 0
    with opened_store.opened(url) as opened:
        assert opened.flags.get("mass_deletion") == revival.FLAGS["mass_deletion"]
        assert opened.flags.get("deletions_confirmed") is None


def test_sqlite_is_outgrown_by_a_backup(
    emptied: Callable[[], str], url: str, command: Command
) -> None:
    fill(url)
    assert command("backup", "b").exit_code == 0
    target = emptied()
    assert command("restore", "b", PROV_DATABASE_URL=target).exit_code == 0
    check_restored(target)


def test_a_backup_holds_no_secret_and_no_sealing_key(
    url: str, command: Command, tmp_path: Path
) -> None:
    fill(url)
    command("backup", "b")
    text = (tmp_path / "b").read_text()
    assert "a very secret key" not in text
    assert opened_store.KEY not in text


def test_a_backup_is_one_state_however_much_is_written_meanwhile(url: str) -> None:
    fill(url)
    with store.reading(url, clock=opened_store.now) as (_, rows):
        first = next(rows)
        with opened_store.serving(url) as (held, _):
            held.flags.put("later", "yes")
        names = {row["name"] for table, row in rows if table == "flags"}
    assert first[0] == "records"
    assert "later" not in names


def test_a_file_that_is_there_is_overwritten_only_by_force(
    url: str, command: Command, tmp_path: Path
) -> None:
    fill(url)
    (tmp_path / "b").write_text("mine")
    assert isinstance(command("backup", "b").exception, errors.PermanentError)
    assert (tmp_path / "b").read_text() == "mine"
    assert command("backup", "b", "--force").exit_code == 0
    assert json.loads((tmp_path / "b").read_text().splitlines()[0])["version"] == 1
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_file_that_appears_meanwhile_stays_and_links_are_not_needed(
    url: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(url)
    failure: OSError = FileExistsError(errno.EEXIST, "somebody was faster")

    def link(*_: object) -> None:
        raise failure

    monkeypatch.setattr("os.link", link)
    assert "there already" in str(command("backup", "b").exception)
    failure = PermissionError(errno.EPERM, "no links here")
    assert command("backup", "b").exit_code == 0
    assert (tmp_path / "b").exists()


def test_a_backup_that_fails_leaves_nothing(command: Command, tmp_path: Path) -> None:
    assert isinstance(command("backup", "b").exception, errors.PermanentError)
    assert list(tmp_path.iterdir()) == []
    assert command("backup", "nowhere/b").exit_code == 1


def test_standard_output_and_input_do(url: str, command: Command, tmp_path: Path) -> None:
    fill(url)
    taken = command("backup", "-")
    assert taken.exit_code == 0
    target = {"PROV_DATABASE_URL": f"sqlite:///{tmp_path}/elsewhere.db"}
    run = CliRunner()
    done = run.invoke(cli.cli, ["restore", "-"], input=taken.stdout_bytes, env=target)
    assert done.exit_code == 0, done.output
    check_restored(target["PROV_DATABASE_URL"])
    asked = run.invoke(cli.cli, ["restore", "-", "--replace"], input=b"", env=target)
    assert asked.exit_code == 2


def test_a_store_that_holds_anything_is_replaced_only_after_asking(
    url: str, command: Command, tmp_path: Path
) -> None:
    fill(url)
    command("backup", "b")
    with opened_store.serving(url) as (held, _):
        held.flags.put("untouched", "yes")
    refused = command("restore", "b")
    assert "holds something" in str(refused.exception)
    assert CliRunner().invoke(cli.cli, ["restore", "b", "--replace"], input="n\n").exit_code == 1
    with opened_store.opened(url) as opened:
        assert opened.flags.get("untouched") == "yes"
    assert CliRunner().invoke(cli.cli, ["restore", "b", "--replace"], input="y\n").exit_code == 0
    check_restored(url)


@contextlib.contextmanager
def served(url: str) -> Iterator[None]:
    """Serve a store as another process does."""
    with opened_store.serving(url) as (held, _):
        ready = held.database.wake_ups
        if not held.database.single_process:
            heard = threading.Event()
            ready.start(heard.set)
            assert heard.wait(10)
        yield


def test_a_store_that_is_served_is_not_restored(
    any_url: str, command: Command, tmp_path: Path
) -> None:
    fill(any_url)
    command("backup", "b", PROV_DATABASE_URL=any_url)
    with served(any_url):
        refused = command("restore", "b", "--replace", "--yes", PROV_DATABASE_URL=any_url)
        assert "works on this store" in str(refused.exception)
    assert command("restore", "b", "--replace", "--yes", PROV_DATABASE_URL=any_url).exit_code == 0


def test_a_store_that_somebody_works_on_without_listening_is_not_restored(
    emptied: Callable[[], str], command: Command
) -> None:
    target = emptied()
    fill(target)
    command("backup", "b", PROV_DATABASE_URL=target)
    with opened_store.serving(target) as (_, queue):
        assert queue.lease("cli") is not None
    refused = command("restore", "b", "--replace", "--yes", PROV_DATABASE_URL=target)
    assert "works on this store" in str(refused.exception)


def damage(data: bytes, how: str) -> bytes:
    lines = data.splitlines(keepends=True)
    return {
        "empty": b"",
        "foreign": b"PGDMP" + data,
        "another JSON": b'{"format": "something else"}\n' + b"".join(lines[1:]),
        "deep": b"[" * 100_000 + b"\n",
        "cut within a line": data[:-40],
        "cut between lines": b"".join(lines[:-1]),
        "a row is missing": b"".join([lines[0], *lines[2:]]),
        "a row twice": b"".join([*lines[:2], lines[1], *lines[2:]]),
        "a changed byte": data.replace(b'"sales"', b'"salez"', 1),
        "no row": b"".join([lines[0], b"[1]\n", *lines[1:]]),
        "something behind it": data + b"\n",
        "a newer file": data.replace(b'"version":1', b'"version":2', 1),
        "newer tables": data.replace(b'"revision":"', b'"revision":"9', 1),
    }[how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("empty", "no backup"),
        ("foreign", "no backup"),
        ("another JSON", "no backup"),
        ("deep", "no backup"),
        *(
            (each, "damaged or was cut short")
            for each in (
                "cut within a line",
                "cut between lines",
                "a row is missing",
                "a row twice",
                "a changed byte",
                "no row",
                "something behind it",
            )
        ),
        ("a newer file", "newer version"),
        ("newer tables", "newer version"),
    ],
)
def test_a_file_that_is_not_whole_and_ours_is_refused_before_the_store_is_touched(
    how: str, said: str, url: str, command: Command, tmp_path: Path
) -> None:
    fill(url)
    command("backup", "b")
    (tmp_path / "b").write_bytes(damage((tmp_path / "b").read_bytes(), how))
    empty = f"sqlite:///{tmp_path}/elsewhere.db"
    refused = command("restore", "b", PROV_DATABASE_URL=empty)
    assert isinstance(refused.exception, backup_file.BackupRefused)
    assert said in str(refused.exception)
    assert not (tmp_path / "elsewhere.db").exists()


def rewritten(path: Path, table: str, row: dict[str, object]) -> None:
    """Write a backup that is whole, with another row in it."""
    reader = backup_file.Reader(io.BytesIO(path.read_bytes()))
    rows = [*reader.rows(), (table, row)]
    with path.open("wb") as into:
        backup_file.write(into, reader.header, rows)


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("elsewhere", {}),
        ("flags", {"name": "x"}),
        ("flags", {"name": "x", "value": ["no text"]}),
        ("links", {"consumer": "x"}),
        ("records", {**_UNREADABLE, "state": "{}"}),
        ("records", {**_UNREADABLE, "state": "no JSON"}),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_restored(
    table: str, row: dict[str, object], url: str, command: Command, tmp_path: Path
) -> None:
    fill(url)
    command("backup", "b")
    rewritten(tmp_path / "b", table, row)
    refused = command("restore", "b", "--replace", "--yes")
    assert isinstance(refused.exception, dump.Unfit)
    with opened_store.opened(url) as opened:
        assert opened.flags.get("deletions_confirmed") == "yes"
        assert opened.records.load(SALES) == opened_store.record()


def test_keys_that_do_not_open_the_backup_end_with_2_and_restore_nothing(
    url: str, command: Command, tmp_path: Path
) -> None:
    fill(url)
    command("backup", "b")
    other = Fernet.generate_key().decode()
    refused = command("restore", "b", "--replace", "--yes", PROV_SEALING_KEYS=other)
    assert isinstance(refused.exception, errors.ConfigurationError)
    assert "the secrets of 1 products stay closed, and nothing was restored" in str(
        refused.exception
    )
    with opened_store.opened(url) as opened:
        assert opened.records.load(SALES) == opened_store.record()
    both = f"{other},{opened_store.KEY}"
    assert command("restore", "b", "--replace", "--yes", PROV_SEALING_KEYS=both).exit_code == 0


def test_a_missing_key_file_is_not_made_for_a_backup_that_holds_secrets(
    url: str, command: Command, tmp_path: Path
) -> None:
    fill(url)
    command("backup", "b")
    refused = command("restore", "b", "--replace", "--yes", PROV_SEALING_KEYS="")
    assert isinstance(refused.exception, errors.ConfigurationError)
    assert not (tmp_path / "secrets").exists()


def test_a_backup_of_older_tables_is_brought_forward(
    url: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "var").mkdir()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        migrations.upgrade(connection, to="0001")
        connection.execute(sqlalchemy.text("INSERT INTO flags VALUES ('mass_deletion', 'yes')"))
    engine.dispose()
    assert command("backup", "b").exit_code == 0
    assert store.version(url) == "0001"  # it was only read
    done = command("restore", "b", "--replace", "--yes")
    assert done.exit_code == 0, done.output
    assert store.version(url) == migrations.HEAD
    with opened_store.opened(url) as opened:
        assert opened.flags.get("mass_deletion") == "yes"


def test_a_restore_that_is_stopped_half_way_has_restored_nothing(
    url: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(url)
    command("backup", "b")

    def stop(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dump, "revive", stop)
        assert command("restore", "b", "--replace", "--yes").exit_code != 0
    with opened_store.serving(url) as (held, queue):
        assert held.records.load(SALES) == opened_store.record()
        assert queue.lease("test") is not None


def test_every_table_is_in_a_backup_or_left_out_knowingly() -> None:
    assert {*dump.KEPT, *dump.LEFT} == set(schema.metadata.tables)


def test_a_lease_from_before_a_restore_is_lost(url: str, command: Command) -> None:
    fill(url)
    command("backup", "b")
    held = store.open_store(url, Seal([opened_store.KEY]), clock=opened_store.now)
    assert held.database.acquire()
    queue = workqueue.SqlWorkqueue(held.database, clock=opened_store.now)
    lease = queue.lease("stopped")
    held.close()
    assert lease is not None
    assert command("restore", "b", "--replace", "--yes").exit_code == 0
    with opened_store.serving(url) as (again, _), pytest.raises(errors.LeaseLost):
        again.records.save(opened_store.record(), lease)


def test_a_store_without_tables_is_not_backed_up_and_a_newer_one_is_not_replaced(
    url: str, command: Command, tmp_path: Path
) -> None:
    fill(url)
    command("backup", "b")
    empty = f"sqlite:///{tmp_path}/empty.db"
    (tmp_path / "empty.db").touch()
    assert "no store" in str(command("backup", "c", PROV_DATABASE_URL=empty).exception)
    assert not (tmp_path / "c").exists()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    refused = command("restore", "b", "--replace", "--yes")
    assert "newer version" in str(refused.exception)
