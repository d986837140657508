"""New versions of a template, in an output folder whose users may do whatever they like."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from provisioner import errors, model, ports, workspace
from provisioner.workspace import ground, settling
from tests import crashing

_ID = "6b2ea4ae-9a3e-4d5f-8a0e-0c2f3a4b5c6d"
_FILES = ports.OwnedFiles(
    plain={"ports.json": "{}\n"}, secret={".aws/config": "[a]\n", ".env": "KEY=1\n"}
)
_Change = model.FileChange
_V1: Mapping[str, str | bytes] = {
    "README.md": "one\n",
    "models/gold/a.sql": "1\n2\n3\n",
    "models/gold/b.sql": "old\n",
    "models/gone/x.sql": "old\n",
    "models/gone/y.sql": "old\n",
    "run.sh": "#!/bin/sh\n",
    "logo.png": b"\x89PNG\0one",
}
_V2: Mapping[str, str | bytes] = {
    "README.md": "two\n",
    "models/gold/a.sql": "1\n2\nnew\n",
    "models/gold/b.sql": "new\n",
    "models/gold/c.sql": "new\n",
    "models/platinum/d.sql": "new\n",
    "run.sh": "#!/bin/sh\nset -e\n",
    "logo.png": b"\x89PNG\0two",
}


class Bench:
    """One workspace, its template, and its user's hands."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output"
        self.sales = self.output / "sales"
        self.record = self.output / ".provisioner" / _ID
        self._template = folder / "template"
        self._top = self._template / "{{cookiecutter.project_name}}"
        self._template.mkdir()
        (self._template / "cookiecutter.json").write_text('{"project_name": ""}')
        self.release(_V1)
        self.kept = self.again()
        self.kept.create(self.spec, _FILES)

    spec = ports.WorkspaceSpec(product_id=_ID, namespace="sales", context={"project_name": "sales"})

    def again(self) -> workspace.CookiecutterWorkspaces:
        return workspace.CookiecutterWorkspaces(output=self.output, template=self._template)

    def release(self, files: Mapping[str, str | bytes], *programs: str) -> None:
        shutil.rmtree(self._top, ignore_errors=True)
        self._top.mkdir()
        for path, content in files.items():
            target = self._top / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        for path in programs:
            (self._top / path).chmod(0o755)

    def start_with(self, files: Mapping[str, str | bytes]) -> None:
        """Begin anew, with another first version."""
        shutil.rmtree(self.output)
        self.release(files)
        self.kept.create(self.spec, _FILES)

    def upgrade(self) -> dict[str, model.FileChange]:
        return self.kept.upgrade(self.spec, _FILES).changes

    def upgrade_afresh(self) -> ports.UpgradeReport:
        """Upgrade as a process does that was just started."""
        return self.again().upgrade(self.spec, _FILES)

    def read(self, path: str) -> str:
        return (self.sales / path).read_text()

    def tree(self) -> dict[str, tuple[str, bytes | None]]:
        return _tree(self.sales)


def _tree(folder: Path) -> dict[str, tuple[str, bytes | None]]:
    """Return kind, mode and content of everything below a folder, but for its repository."""
    return {
        path.relative_to(folder).as_posix(): (
            oct(path.lstat().st_mode),
            path.read_bytes() if path.is_file() and not path.is_symlink() else None,
        )
        for path in sorted(folder.rglob("*"))
        if ".git" not in path.relative_to(folder).parts
    }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_untouched_workspace_becomes_what_a_new_one_would_be(
    bench: Bench, tmp_path: Path
) -> None:
    bench.release(_V2, "run.sh")
    bench.upgrade()

    (tmp_path / "fresh").mkdir()
    fresh = Bench(tmp_path / "fresh")
    fresh.release(_V2, "run.sh")
    shutil.rmtree(fresh.output)
    fresh.again().create(fresh.spec, _FILES)
    assert bench.tree() == fresh.tree()
    assert _tree(bench.record / "render") == _tree(fresh.record / "render")
    assert sorted(path.name for path in bench.record.iterdir()) == [
        "answers.json",
        "older",
        "render",
    ]
    assert list((bench.output / ".provisioner/staging").iterdir()) == []


def test_binaries_are_replaced_where_nobody_touched_them_and_never_merged(bench: Bench) -> None:
    bench.release(_V2)
    assert bench.upgrade()["logo.png"] is _Change.UPDATED
    (bench.sales / "logo.png").write_bytes(b"\x89PNG\0mine")
    bench.release({**_V2, "logo.png": b"\x89PNG\0three"})

    assert bench.upgrade() == {"logo.png": _Change.CONFLICT}
    assert (bench.sales / "logo.png").read_bytes() == b"\x89PNG\0mine"
    assert (bench.sales / "logo.png.template-new").read_bytes() == b"\x89PNG\0three"


def test_a_users_mode_is_kept_and_the_templates_change_of_it_arrives(bench: Bench) -> None:
    (bench.sales / "README.md").chmod(0o640)
    (bench.sales / "run.sh").chmod(0o600)
    bench.release(_V2, "run.sh")

    bench.upgrade()

    modes = {
        path: stat.S_IMODE((bench.sales / path).stat().st_mode) for path in ("README.md", "run.sh")
    }
    assert modes == {"README.md": 0o640, "run.sh": 0o700}
    bench.release({**_V2, "run.sh": "#!/bin/sh\nexit\n"})
    bench.upgrade()
    assert stat.S_IMODE((bench.sales / "run.sh").stat().st_mode) == 0o600


def test_a_folder_that_the_user_deleted_stays_deleted(bench: Bench) -> None:
    shutil.rmtree(bench.sales / "models/gold")
    bench.release(_V2)

    changes = bench.upgrade()

    kept = {path: change for path, change in changes.items() if path.startswith("models/gold/")}
    assert kept == dict.fromkeys(
        ("models/gold/a.sql", "models/gold/b.sql", "models/gold/c.sql"), _Change.KEPT_DELETED
    )
    assert not (bench.sales / "models/gold").exists()
    assert bench.read("models/platinum/d.sql") == "new\n"


def test_a_folder_that_the_template_dropped_goes_once_it_is_empty(bench: Bench) -> None:
    (bench.sales / "models/gone/mine.sql").write_text("mine\n")
    bench.release(_V2)
    bench.upgrade()
    assert sorted(path.name for path in (bench.sales / "models/gone").iterdir()) == ["mine.sql"]

    bench.release({"README.md": "three\n"})
    bench.upgrade()
    assert not (bench.sales / "models/platinum").exists()


def test_a_file_becomes_a_folder_and_back(bench: Bench) -> None:
    bench.release({"README.md": "one\n", "run.sh/x": "new\n"})
    bench.upgrade()
    assert bench.read("run.sh/x") == "new\n"
    bench.release({"README.md": "one\n", "run.sh": "again\n"})
    bench.upgrade()
    assert bench.read("run.sh") == "again\n"


def _link(bench: Bench, victim: Path) -> None:
    (bench.sales / "README.md").unlink()
    (bench.sales / "README.md").symlink_to(victim / "secret")


def _hard_link(bench: Bench, victim: Path) -> None:
    (bench.sales / "README.md").unlink()
    os.link(victim / "secret", bench.sales / "README.md")


def _pipe(bench: Bench, victim: Path) -> None:
    (bench.sales / "README.md").unlink()
    os.mkfifo(bench.sales / "README.md")


def _enormous(bench: Bench, victim: Path) -> None:
    os.truncate(bench.sales / "README.md", ground.LIMIT_BYTES + 1)


def _folder(bench: Bench, victim: Path) -> None:
    (bench.sales / "README.md").unlink()
    (bench.sales / "README.md").mkdir()


@pytest.mark.parametrize("trick", [_link, _hard_link, _pipe, _enormous, _folder])
def test_what_is_no_plain_file_is_left_and_the_new_version_goes_beside(
    trick: Callable[[Bench, Path], None], bench: Bench, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("untouched")
    trick(bench, victim)
    before = (bench.sales / "README.md").lstat()
    bench.release(_V2)

    assert bench.upgrade()["README.md"] is _Change.CONFLICT

    after = (bench.sales / "README.md").lstat()
    assert (before.st_ino, before.st_mode, before.st_mtime_ns) == (
        after.st_ino,
        after.st_mode,
        after.st_mtime_ns,
    )
    assert bench.read("README.md.template-new") == "two\n"
    assert _tree(victim) == {"secret": (oct(stat.S_IFREG | 0o644), b"untouched")}
    assert bench.kept.conflicts("sales", _ID).unresolved == ("README.md",)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_nothing_is_written_through_a_folder_that_became_something_else(
    kind: str, bench: Bench, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    shutil.move(bench.sales / "models", victim)
    before = _tree(victim)
    if kind == "link":
        (bench.sales / "models").symlink_to(victim)
    else:
        (bench.sales / "models").write_text("mine")
    bench.release(_V2)

    changes = bench.upgrade()

    assert _tree(victim) == before
    models = {change for path, change in changes.items() if path.startswith("models/")}
    assert models == {_Change.KEPT_EDITED}
    assert bench.read("README.md") == "two\n"


@pytest.mark.parametrize("kind", ["edited", "link", "folder"])
def test_what_a_user_made_of_a_newer_version_is_set_aside_not_replaced(
    kind: str, bench: Bench, tmp_path: Path
) -> None:
    (bench.sales / "README.md").write_text("mine\n")
    bench.release(_V2)
    bench.upgrade()
    beside = bench.sales / "README.md.template-new"
    if kind != "edited":
        beside.unlink()
    if kind == "edited":
        beside.write_text("half-way\n")
    elif kind == "link":
        beside.symlink_to(tmp_path / "elsewhere")
    else:
        beside.mkdir()
    inode = beside.lstat().st_ino
    bench.release({**_V2, "README.md": "three\n"})

    assert bench.upgrade()["README.md"] is _Change.CONFLICT

    assert beside.read_text() == "three\n"
    (aside,) = bench.sales.glob("README.md.template-new.found-*")
    assert aside.lstat().st_ino == inode
    assert not (tmp_path / "elsewhere").exists()


class _Editor:
    """Save a file at the moment when the service is about to put its own in place."""

    def __init__(self, path: Path, times: int) -> None:
        self._path = path
        self.left = times

    def __call__(self, event: str, name: object) -> None:
        begins = isinstance(name, str) and name.startswith(".provisioner-")
        if event == "open" and begins and self.left:
            self.left -= 1
            self._path.write_text(f"saved {self.left}\n")


def test_what_an_editor_saves_at_the_same_moment_stays(bench: Bench) -> None:
    bench.release({**_V1, "README.md": "two\n"})
    with crashing.watching(_Editor(bench.sales / "README.md", 1)):
        assert bench.upgrade() == {"README.md": _Change.CONFLICT}
    assert bench.read("README.md") == "saved 0\n"
    assert bench.read("README.md.template-new") == "two\n"


def test_a_new_file_does_not_replace_one_that_appears_at_the_same_moment(bench: Bench) -> None:
    bench.release({**_V1, "new.sql": "theirs\n"})
    with crashing.watching(_Editor(bench.sales / "new.sql", 1)):
        assert bench.upgrade() == {"new.sql": _Change.CONFLICT}
    assert bench.read("new.sql") == "saved 0\n"


def test_nor_one_that_appears_after_it_was_looked_at_for_the_last_time(bench: Bench) -> None:
    bench.release({**_V1, "new.sql": "theirs\n"})
    new = bench.sales / "new.sql"

    def save(event: str, name: object) -> None:
        puts = isinstance(name, str) and name.startswith(".provisioner-")
        if event in ("os.link", "os.rename") and puts and not new.exists():
            new.write_text("saved\n")

    with crashing.watching(save):
        assert bench.upgrade() == {"new.sql": _Change.CONFLICT}
    assert bench.read("new.sql") == "saved\n"


def test_where_no_file_can_be_linked_a_new_one_comes_all_the_same(bench: Bench) -> None:
    bench.release({**_V1, "new.sql": "theirs\n"})

    def refuse(event: str, name: object) -> None:
        if event == "os.link":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with crashing.watching(refuse):
        assert bench.upgrade() == {"new.sql": _Change.ADDED}
    assert bench.read("new.sql") == "theirs\n"


def test_a_file_that_changes_all_the_time_is_come_back_to(bench: Bench) -> None:
    (bench.sales / "README.md.template-new").write_text("mine\n")
    bench.release(_V2)
    editor = _Editor(bench.sales / "README.md.template-new", 99)
    (bench.sales / "README.md").write_text("mine\n")
    with crashing.watching(editor), pytest.raises(errors.Conflict):
        bench.upgrade()

    assert bench.kept.version(_ID) != bench.kept.foresee(bench.spec, _FILES).after
    assert bench.upgrade()["README.md"] is _Change.CONFLICT
    assert bench.read("README.md") == "mine\n"


@crashing.FORKS
def test_a_crash_anywhere_leaves_every_file_whole_and_the_next_run_finishes(
    bench: Bench, tmp_path: Path
) -> None:
    few = {"a.sql": "1\n2\n3\n", "b.sql": "old\n", "c.sql": "old\n", "gone/d.sql": "old\n"}
    bench.start_with(few)
    (bench.sales / "a.sql").write_text("mine\n2\n3\n")
    (bench.sales / "b.sql").write_text("mine\n")
    bench.release({"a.sql": "1\n2\nnew\n", "b.sql": "new\n", "c.sql": "new\n", "e/f.sql": ""})
    shutil.copytree(bench.output, tmp_path / "start")
    old = bench.tree()
    report = bench.kept.upgrade(bench.spec, _FILES)
    new, record = bench.tree(), _tree(bench.record)
    count = 0

    def reset() -> None:
        shutil.rmtree(bench.output)
        shutil.copytree(tmp_path / "start", bench.output)

    for count in crashing.crashes(bench.upgrade_afresh, reset):
        now = bench.tree()
        for path in {*old, *new, *now}:
            if ".provisioner-" not in path and path != "e":  # a folder is made, then opened
                assert now.get(path) in (old.get(path), new.get(path)), f"{path} before {count}"
        assert bench.upgrade_afresh() == report, f"before effect {count}"
        assert bench.tree() == new, f"after a crash before effect {count}"
        assert _tree(bench.record) == record
    assert count > 40


@crashing.FORKS
def test_what_was_stopped_is_finished_before_the_version_after_it(
    bench: Bench, tmp_path: Path
) -> None:
    bench.start_with({"a.sql": "1\n2\n3\n"})
    (bench.sales / "a.sql").write_text("mine\n2\n3\n")
    shutil.copytree(bench.output, tmp_path / "start")

    def reset() -> None:
        shutil.rmtree(bench.output)
        shutil.copytree(tmp_path / "start", bench.output)
        bench.release({"a.sql": "1\n2\nnew\n"})

    for count in crashing.crashes(bench.upgrade_afresh, reset, step=3):
        bench.release({"a.sql": "1\n2\nnewest\n"})
        bench.upgrade_afresh()
        assert bench.read("a.sql") == "mine\n2\nnewest\n", f"after a crash before {count}"


def test_what_cannot_be_written_to_is_its_users(bench: Bench) -> None:
    long = "x" * 250
    bench.release({**_V1, long: "old\n"})
    bench.upgrade()
    (bench.sales / long).write_text("mine\n")
    bench.release({**_V1, long: "new\n"})

    assert bench.upgrade() == {long: _Change.KEPT_EDITED}
    assert bench.read(long) == "mine\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_edited_file_of_another_user_stays_that_users(bench: Bench) -> None:
    (bench.sales / "models/gold/a.sql").write_text("mine\n2\n3\n")
    for path in ("models/gold/a.sql", "README.md"):
        os.chown(bench.sales / path, 12345, 12345)
    bench.release(_V2)

    changes = bench.upgrade()

    assert changes["models/gold/a.sql"] is _Change.CONFLICT
    assert (bench.sales / "models/gold/a.sql").stat().st_uid == 12345
    assert changes["README.md"] is _Change.UPDATED


def test_a_version_that_changes_no_file_rewrites_none(bench: Bench) -> None:
    before = {p: (s.st_ino, s.st_mtime_ns) for p, s in _stats(bench.sales)}
    pristine = (bench.record / "render/README.md").stat().st_ino
    bench.release(_V1)
    (bench._template / "NOTES").write_text("for authors")

    assert bench.upgrade() == {}
    assert {p: (s.st_ino, s.st_mtime_ns) for p, s in _stats(bench.sales)} == before
    assert (bench.record / "render/README.md").stat().st_ino == pristine
    answers = json.loads((bench.record / "answers.json").read_text())
    assert answers["template_digest"] == bench.kept.template_digest()


def _stats(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    return ((path, path.stat()) for path in folder.rglob("*"))


def test_what_is_being_put_in_place_is_not_mistaken_for_nothing(bench: Bench) -> None:
    (bench.sales / "README.md").write_text("mine\n")
    bench.release(_V2)
    bench.upgrade()
    (bench.record / "render").rename(bench.record / "moving")
    bench.release(_V1)

    assert bench.kept.conflicts("sales", _ID).unresolved == ("README.md",)
    with pytest.raises(errors.Conflict):
        bench.kept.foresee(bench.spec, _FILES)


def test_the_suffix_is_what_people_are_told() -> None:
    assert settling.SUFFIX == ".template-new"
