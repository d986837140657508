"""Stop a replica in the middle of its writing: once it goes on it puts nothing old over newer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from provisioner import errors, model
from provisioner.steps import workspace as workspace_step
from provisioner.store import schema
from provisioner.workspace import claims, ground, turns
from tests import opened_store, stalling_writer
from tests.stalling_writer import KEY, Writer

pytest_plugins = ["tests.database_server"]

CREATE, PUBLISH = workspace_step.CREATE, workspace_step.PUBLISH


@pytest.fixture
def url(emptied: Callable[[], str]) -> str:
    return emptied()


@pytest.fixture
def other(url: str, tmp_path: Path) -> Iterator[Writer]:
    """Return another replica, and a workspace that it has made."""
    top = tmp_path / "template" / "{{cookiecutter.project_slug}}"
    top.mkdir(parents=True)
    (tmp_path / "template" / "cookiecutter.json").write_text(json.dumps({"project_name": ""}))
    (top / "README.md").write_text("# {{ cookiecutter.project_name }}\n")
    with stalling_writer.writer(url, tmp_path, opened_store.KEY) as made:
        made.queue.touch([KEY], model.Priority.EVENT)
        lease = made.lease()
        made.write(CREATE, "AKIAFIRST", lease)
        made.queue.done(lease, model.Outcome(key=KEY, status="done"))
        made.queue.touch([KEY], model.Priority.EVENT)
        yield made


@contextlib.contextmanager
def stalled(url: str, folder: Path, moment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a replica that has stopped at a moment."""
    module = ["-m", "tests.stalling_writer", url, str(folder), moment, opened_store.KEY]
    with subprocess.Popen([sys.executable, *module]) as process:
        try:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            yield process
        finally:
            process.kill()


def take_over(replica: Writer) -> model.Lease:
    """Lease the key once the lease of whoever stands still has run out."""
    with replica.store.database.writing() as connection:
        connection.execute(sqlalchemy.update(schema.queue).values(leased_until=opened_store.now()))
    assert replica.queue.reap() == 1
    return replica.lease()


def published(folder: Path) -> str:
    lines = (folder / "products" / "sales" / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)["S3_ACCESS_KEY"]


@pytest.mark.engine
def test_a_replica_that_stalls_before_it_writes_writes_nothing(
    url: str, other: Writer, tmp_path: Path
) -> None:
    with stalled(url, tmp_path, "before") as process:
        other.write(PUBLISH, "AKIANEWER", take_over(other))
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == stalling_writer.LEASE_LOST
    assert published(tmp_path) == "AKIANEWER"


@pytest.mark.engine
def test_while_a_replica_stalls_within_its_writing_nobody_writes_what_it_could_undo(
    url: str, other: Writer, tmp_path: Path
) -> None:
    with stalled(url, tmp_path, "rename") as process:
        lease = take_over(other)
        with pytest.raises(errors.Conflict):
            other.write(PUBLISH, "AKIANEWER", lease)
        assert published(tmp_path) == "AKIAFIRST"
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == stalling_writer.LEASE_LOST
        assert published(tmp_path) == "AKIASTALLED"
        other.write(PUBLISH, "AKIANEWER", lease)
    assert published(tmp_path) == "AKIANEWER"


@pytest.mark.engine
def test_a_replica_that_dies_within_its_writing_holds_up_nobody(
    url: str, other: Writer, tmp_path: Path
) -> None:
    with stalled(url, tmp_path, "rename") as process:
        lease = take_over(other)
        process.kill()
        process.wait(30)
        other.write(PUBLISH, "AKIANEWER", lease)
    assert published(tmp_path) == "AKIANEWER"
    left = [path.name for path in (tmp_path / "products" / ".provisioner" / "turns").iterdir()]
    assert left == []


def test_whoever_locked_a_folder_that_is_gone_locks_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder removes the folder between another's opening of it and its locking."""
    lock = ground.Tree.lock
    removed: list[str] = []

    def slow_lock(tree: ground.Tree, *, wait: bool) -> bool:
        if not removed:
            removed.append(tree.identity)
            (tmp_path / claims.PRIVATE / "turns" / KEY.id).rmdir()
        return lock(tree, wait=wait)

    monkeypatch.setattr(ground.Tree, "lock", slow_lock)
    with (
        ground.open_tree(tmp_path) as root,
        turns.take(root, KEY.id),
        pytest.raises(errors.Conflict),
        turns.take(root, KEY.id),
    ):
        raise AssertionError("two hold it")
    assert removed


def test_a_folder_that_vanishes_whenever_it_is_made_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = ground.Tree.lock

    def removing_lock(tree: ground.Tree, *, wait: bool) -> bool:
        (tmp_path / claims.PRIVATE / "turns" / KEY.id).rmdir()
        return lock(tree, wait=wait)

    monkeypatch.setattr(ground.Tree, "lock", removing_lock)
    with (
        ground.open_tree(tmp_path) as root,
        pytest.raises(errors.Conflict),
        turns.take(root, KEY.id),
    ):
        raise AssertionError("nothing is held")
