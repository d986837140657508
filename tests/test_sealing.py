"""Where the sealing keys come from, and what a person asks of them."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from provisioner import assembly, errors, model, sealing, server, settings, store, workqueue
from provisioner.seal import Seal
from tests import opened_store

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
POSTGRES = "postgresql+psycopg://u:p@db.example/provisioner"
Load = Callable[..., settings.Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(**environ: str) -> settings.Settings:
        given = {"PROV_DPP_API_URL": "http://portal.example", **environ}
        return settings.load(given, cwd=tmp_path, serving=False)

    return loaded


def made(source: store.SealSource, *, has_sealed: bool) -> Seal:
    assert not isinstance(source, Seal)
    return source(has_sealed)


@pytest.mark.parametrize("url", ["sqlite:///var/x.db", POSTGRES], ids=["sqlite", "postgresql"])
def test_a_key_file_is_made_private_if_the_store_holds_nothing_sealed(
    url: str, load: Load, tmp_path: Path
) -> None:
    source = sealing.source(load(PROV_DATABASE_URL=url))
    path = tmp_path / "secrets" / "sealing.key"
    with pytest.raises(errors.ConfigurationError, match="PROV_SEALING_KEYS"):
        made(source, has_sealed=True)
    assert not path.exists()
    token = made(source, has_sealed=False).seal("x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made(source, has_sealed=True).open(token) == "x"


def test_the_first_start_on_sqlite_makes_the_key_file_and_a_later_one_does_not(
    load: Load, tmp_path: Path
) -> None:
    read = load()
    path = tmp_path / "secrets" / "sealing.key"
    opened(read).close()
    path.unlink()
    opened(read).close()  # nothing is sealed yet
    save_a_secret(read)
    path.unlink()
    with pytest.raises(errors.ConfigurationError, match="--lost-sealing-key"):
        opened(read)
    assert not path.exists()


def opened(read: settings.Settings) -> store.Store:
    return store.open_store(read.database_url, sealing.source(read), clock=opened_store.now)


def save_a_secret(read: settings.Settings) -> None:
    with contextlib.closing(opened(read)) as held:
        assert held.database.acquire()
        queue = workqueue.SqlWorkqueue(held.database, clock=opened_store.now)
        queue.touch([opened_store.A], model.Priority.EVENT)
        lease = queue.lease("w")
        assert lease is not None
        held.records.save(opened_store.record(), lease)
        queue.done(lease, model.Outcome(key=lease.key, status="done"))


def test_a_lost_key_file_is_made_although_something_is_sealed(load: Load, tmp_path: Path) -> None:
    made(sealing.source(load(), lost_key=True), has_sealed=True)
    assert stat.S_IMODE((tmp_path / "secrets" / "sealing.key").stat().st_mode) == 0o600


def test_keys_that_are_set_need_no_file(load: Load, tmp_path: Path) -> None:
    read = load(PROV_SEALING_KEYS=f"{NEW},{OLD}")
    source = sealing.source(read)
    assert isinstance(source, Seal)
    assert source.position(Seal([OLD]).seal("x")) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o640, True), (0o644, True)], ids=["ours", "group", "all"]
)
@pytest.mark.parametrize("named", [True, False], ids=["named", "default"])
def test_a_key_file_that_others_can_read_is_warned_of_and_used(
    named: bool,
    mode: int,
    warned: bool,
    load: Load,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "mounted" if named else tmp_path / "secrets" / "sealing.key"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{NEW}\n", encoding="ascii")
    path.chmod(mode)
    read = load(**({"PROV_SEALING_KEYS_FILE": "mounted"} if named else {}))
    sealing.warn(read)
    assert ("open to others" in caplog.text) is warned
    assert NEW[:12] not in caplog.text
    opened(read).close()


def test_keys_that_are_set_as_text_have_no_file_to_warn_of(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unused = tmp_path / "secrets" / "sealing.key"
    unused.parent.mkdir()
    unused.touch(0o644)
    sealing.warn(load(PROV_SEALING_KEYS=NEW))
    assert caplog.text == ""


def test_sealing_anew_tells_how_many_rows_the_first_key_opens(load: Load) -> None:
    save_a_secret(load(PROV_SEALING_KEYS=OLD))
    both = load(PROV_SEALING_KEYS=f"{NEW},{OLD}")
    for renewed in (1, 0):
        done = sealing.reseal(both, clock=opened_store.now)
        assert done == sealing.Resealed(renewed=renewed, seals=store.Seals(first=1))
    opened(load(PROV_SEALING_KEYS=NEW)).close()


def test_sealing_anew_works_beside_a_service(load: Load) -> None:
    save_a_secret(load(PROV_SEALING_KEYS=OLD))
    both = load(PROV_SEALING_KEYS=f"{NEW},{OLD}")
    with contextlib.closing(opened(both)) as service:
        assert service.database.acquire()
        assert sealing.reseal(both, clock=opened_store.now).renewed == 1
        assert service.records.load(opened_store.A) == opened_store.record()


def test_a_store_that_is_not_there_is_not_called_well(load: Load, tmp_path: Path) -> None:
    with pytest.raises(errors.PermanentError, match="no store"):
        sealing.reseal(load(PROV_SEALING_KEYS=NEW), clock=opened_store.now)
    assert list(tmp_path.iterdir()) == []


def recovered(read: settings.Settings) -> store.Store:
    return sealing.recover(read, clock=opened_store.now)


def test_after_a_loss_the_store_is_served_without_what_no_key_opens(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    save_a_secret(load(PROV_SEALING_KEYS=OLD))
    with contextlib.closing(recovered(load(PROV_SEALING_KEYS=NEW))) as held:
        assert held.database.is_serving
        assert held.seals() == store.Seals()
        record = held.records.load(opened_store.A)
        assert record is not None
        assert record.credentials.retiring == (model.Retiring(key_id="AKIAPUBLIC"),)
    (logged,) = (each for each in caplog.records if "forgotten" in each.message)
    assert vars(logged)["each"] == [{"products": 1}]
    opened(load(PROV_SEALING_KEYS=NEW)).close()


def test_where_nothing_is_lost_nothing_is_forgotten(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    read = load(PROV_SEALING_KEYS=NEW)
    save_a_secret(read)
    with contextlib.closing(recovered(read)) as held:
        assert held.records.load(opened_store.A) == opened_store.record()
    assert "start without --lost-sealing-key" in caplog.text


def test_beside_a_service_nothing_is_forgotten_and_no_key_is_made(
    load: Load, tmp_path: Path
) -> None:
    save_a_secret(load(PROV_SEALING_KEYS=OLD))
    with contextlib.closing(opened(load(PROV_SEALING_KEYS=OLD))) as service:
        assert service.database.acquire()
        with pytest.raises(errors.ConfigurationError, match="PROV_DATABASE_URL"):
            recovered(load())
        assert service.seals() == store.Seals(first=1)
    assert not (tmp_path / "secrets").exists()


def test_a_mode_that_makes_no_keys_forgets_none(load: Load) -> None:
    save_a_secret(load(PROV_SEALING_KEYS=OLD))
    with pytest.raises(errors.ConfigurationError, match="PROV_MODE"):
        recovered(load(PROV_SEALING_KEYS=NEW, PROV_MODE="observe"))
    opened(load(PROV_SEALING_KEYS=OLD)).close()


def test_a_service_that_goes_on_with_another_key_is_noticed(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save_a_secret(load(PROV_SEALING_KEYS=OLD))
    forget = store.sealed.SqlSealed.forget

    def beaten(self: Any, **given: Any) -> int:
        found = forget(self, **given)
        save_with_the_other_key(self)
        return found

    def save_with_the_other_key(rows: Any) -> None:
        with rows._database.writing() as connection:
            connection.exec_driver_sql("UPDATE records SET sealed = ?", (Seal([OLD]).seal("{}"),))

    monkeypatch.setattr(store.sealed.SqlSealed, "forget", beaten)
    recovered(load(PROV_SEALING_KEYS=NEW)).close()
    assert "another service still seals" in caplog.text


def test_a_start_that_fails_after_a_loss_lets_another_process_serve(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = load(PROV_SEALING_KEYS=NEW)
    save_a_secret(read)

    def fail(*_arguments: object, **_named: object) -> datetime:
        raise errors.StoreUnavailable("for this test")

    with pytest.raises(errors.StoreUnavailable):
        sealing.recover(read, clock=fail)
    monkeypatch.setattr(assembly, "assemble", fail)
    with pytest.raises(errors.StoreUnavailable):
        server.serve(read, lost_sealing_key=True)
    with contextlib.closing(opened(read)) as held:
        assert held.database.acquire()
