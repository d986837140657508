"""Ask the same of workspaces in memory and in an output folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Protocol

import pytest

from provisioner import errors, model, ports, workspace
from tests import memory_workspaces

_ID = "6b2ea4ae-9a3e-4d5f-8a0e-0c2f3a4b5c6d"
_OTHER = "0d9f1a52-1b7c-4c55-9a53-7f0a1d2e3f40"
_FILES = ports.OwnedFiles(
    plain={"ports.json": "{}\n", "INPUTS.md": "# Inputs\n"},
    secret={".aws/config": "[a]\n", ".aws/credentials": "[b]\n", ".env": "KEY=1\n"},
)
_ROTATED = ports.OwnedFiles(
    plain=_FILES.plain, secret={**_FILES.secret, ".aws/credentials": "[c]\n", ".env": "KEY=2\n"}
)


class Bench(Protocol):
    """Workspaces under test, and what a user or another program does to their folders."""

    workspaces: ports.Workspaces

    def files(self, namespace: str) -> dict[str, str]: ...
    def put(self, namespace: str, path: str, text: str) -> None: ...
    def empty(self, namespace: str) -> None: ...
    def delete(self, namespace: str) -> None: ...
    def remove(self, namespace: str, path: str) -> None: ...
    def archived(self) -> dict[str, dict[str, str]]: ...
    def change_template(self, files: dict[str, str]) -> None: ...
    def break_template(self) -> None: ...


class _Memory:
    def __init__(self, tmp_path: Path) -> None:
        self._kept = memory_workspaces.MemoryWorkspaces()
        self.workspaces: ports.Workspaces = self._kept

    def files(self, namespace: str) -> dict[str, str]:
        folder = self._kept.folders.get(namespace)
        return dict(folder.files) if folder else {}

    def put(self, namespace: str, path: str, text: str) -> None:
        self._kept.put(namespace, path, text)

    def empty(self, namespace: str) -> None:
        self._kept.folders[namespace].files.clear()

    def delete(self, namespace: str) -> None:
        del self._kept.folders[namespace]

    def remove(self, namespace: str, path: str) -> None:
        del self._kept.folders[namespace].files[path]

    def archived(self) -> dict[str, dict[str, str]]:
        return {name: folder.files for name, folder in self._kept.archived.items()}

    def change_template(self, files: dict[str, str]) -> None:
        self._kept.template = {
            path: text.replace("{{ cookiecutter.project_name }}", "{project_name}")
            for path, text in files.items()
        }
        self._kept.digest = str(hash(tuple(files.items())))

    def break_template(self) -> None:
        self._kept.broken = True


class _Disk:
    def __init__(self, tmp_path: Path) -> None:
        template = tmp_path / "template"
        self._top = top = template / "{{cookiecutter.project_slug}}"
        top.mkdir(parents=True)
        (template / "cookiecutter.json").write_text(json.dumps({"project_name": ""}))
        (top / "README.md").write_text("# {{ cookiecutter.project_name }}\n")
        self._output = tmp_path / "output"
        self.workspaces: ports.Workspaces = workspace.CookiecutterWorkspaces(
            output=self._output, template=template
        )

    def files(self, namespace: str) -> dict[str, str]:
        return _read(self._output / namespace)

    def put(self, namespace: str, path: str, text: str) -> None:
        target = self._output / namespace / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def empty(self, namespace: str) -> None:
        self.delete(namespace)
        (self._output / namespace).mkdir()

    def delete(self, namespace: str) -> None:
        shutil.rmtree(self._output / namespace)

    def remove(self, namespace: str, path: str) -> None:
        (self._output / namespace / path).unlink()

    def archived(self) -> dict[str, dict[str, str]]:
        archive = self._output / ".provisioner/archive"
        return {path.name: _read(path) for path in archive.glob("*")}

    def change_template(self, files: dict[str, str]) -> None:
        shutil.rmtree(self._top)
        for path, text in files.items():
            (self._top / path).parent.mkdir(parents=True, exist_ok=True)
            (self._top / path).write_text(text)

    def break_template(self) -> None:
        (self._top / "README.md").write_text("{% if %}")


def _read(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


@pytest.fixture(params=[_Memory, _Disk], ids=["memory", "disk"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    made: Bench = request.param(tmp_path)
    return made


def _spec(product_id: str = _ID) -> ports.WorkspaceSpec:
    return ports.WorkspaceSpec(
        product_id=product_id, namespace="sales", context={"project_name": "sales"}
    )


def test_a_new_product_gets_a_rendered_folder_with_our_files(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)

    assert bench.files("sales") == {
        "README.md": "# sales\n",
        **_FILES.plain,
        **_FILES.secret,
    }
    assert bench.workspaces.owner("sales") == _ID
    assert bench.workspaces.published("sales", _FILES)


def test_one_at_a_time_writes_for_a_product_and_different_ones_together(bench: Bench) -> None:
    with bench.workspaces.held(_ID), bench.workspaces.held(_OTHER):
        with pytest.raises(errors.Conflict), bench.workspaces.held(_ID):
            raise AssertionError("two hold it")
        bench.workspaces.create(_spec(), _FILES)
    with bench.workspaces.held(_ID):
        bench.workspaces.publish("sales", _ID, _ROTATED)
    assert bench.files("sales")[".env"] == "KEY=2\n"


def test_what_is_raised_while_a_product_is_held_comes_out_and_frees_it(bench: Bench) -> None:
    with pytest.raises(FileNotFoundError), bench.workspaces.held(_ID):
        raise FileNotFoundError
    with bench.workspaces.held(_ID):
        assert bench.workspaces.owner("sales") is None


@pytest.mark.parametrize("wrong", ["..", "", "sales", "a/b"])
def test_only_a_product_id_can_be_held(bench: Bench, wrong: str) -> None:
    with pytest.raises(errors.NameRejected), bench.workspaces.held(wrong):
        raise AssertionError("held")


def test_what_is_not_there_belongs_to_nobody(bench: Bench) -> None:
    assert bench.workspaces.owner("sales") is None
    assert not bench.workspaces.published("sales", _FILES)


def test_a_folder_of_somebody_else_is_not_touched(bench: Bench) -> None:
    bench.put("sales", "theirs.txt", "theirs")

    assert bench.workspaces.owner("sales") == ""
    with pytest.raises(errors.NotOurs):
        bench.workspaces.create(_spec(), _FILES)
    with pytest.raises(errors.NotOurs):
        bench.workspaces.publish("sales", _ID, _FILES)
    bench.workspaces.retract("sales", _ID)
    bench.workspaces.archive("sales", _ID)
    assert bench.files("sales") == {"theirs.txt": "theirs"}


def test_a_folder_of_another_product_is_not_touched(bench: Bench) -> None:
    bench.workspaces.create(_spec(_OTHER), _FILES)
    before = bench.files("sales")

    with pytest.raises(errors.NotOurs):
        bench.workspaces.create(_spec(), _ROTATED)
    with pytest.raises(errors.NotOurs):
        bench.workspaces.publish("sales", _ID, _ROTATED)
    bench.workspaces.retract("sales", _ID)
    bench.workspaces.archive("sales", _ID)
    assert bench.files("sales") == before
    assert bench.workspaces.owner("sales") == _OTHER


def test_creating_again_keeps_what_the_user_made_of_it(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    bench.put("sales", "README.md", "mine")
    bench.put("sales", "models/new.sql", "select 1")

    bench.workspaces.create(_spec(), _ROTATED)

    assert bench.files("sales") == {
        "README.md": "mine",
        "models/new.sql": "select 1",
        **_ROTATED.plain,
        **_ROTATED.secret,
    }


def test_publishing_replaces_our_files_only(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    bench.put("sales", ".env.mine", "the user's")

    bench.workspaces.publish("sales", _ID, _ROTATED)

    assert bench.workspaces.published("sales", _ROTATED)
    assert not bench.workspaces.published("sales", _FILES)
    assert bench.files("sales")[".env.mine"] == "the user's"


def test_a_changed_file_of_ours_is_noticed_and_mended(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    bench.put("sales", ".env", "KEY=changed\n")

    assert not bench.workspaces.published("sales", _FILES)
    bench.workspaces.publish("sales", _ID, _FILES)
    assert bench.workspaces.published("sales", _FILES)


def test_publishing_waits_for_a_folder_that_is_gone(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    bench.delete("sales")

    with pytest.raises(errors.Conflict):
        bench.workspaces.publish("sales", _ID, _FILES)


@pytest.mark.parametrize("action", ["delete", "empty"])
def test_a_folder_that_the_user_took_away_is_made_anew(action: str, bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    before = bench.files("sales")
    getattr(bench, action)("sales")
    assert bench.workspaces.owner("sales") is None

    bench.workspaces.create(_spec(), _FILES)

    assert bench.files("sales") == before
    assert bench.workspaces.owner("sales") == _ID


def test_retracting_takes_the_secrets_and_nothing_else(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)

    bench.workspaces.retract("sales", _ID)
    bench.workspaces.retract("sales", _ID)

    assert bench.files("sales") == {"README.md": "# sales\n", **_FILES.plain}
    assert bench.workspaces.owner("sales") == _ID


def test_archiving_takes_the_folder_out_of_reach_without_its_secrets(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    bench.put("sales", "mine.txt", "mine")

    bench.workspaces.archive("sales", _ID)
    bench.workspaces.archive("sales", _ID)

    assert bench.workspaces.owner("sales") is None
    assert bench.archived() == {_ID: {"README.md": "# sales\n", "mine.txt": "mine", **_FILES.plain}}


def test_a_second_archive_of_a_product_gets_a_number(bench: Bench) -> None:
    for _ in range(3):
        bench.workspaces.create(_spec(), _FILES)
        bench.workspaces.archive("sales", _ID)

    assert sorted(bench.archived()) == [_ID, f"{_ID}.2", f"{_ID}.3"]


def test_a_namespace_that_is_used_again_inherits_nothing(bench: Bench) -> None:
    bench.workspaces.create(_spec(_OTHER), _FILES)
    bench.put("sales", "old.txt", "old")
    bench.workspaces.archive("sales", _OTHER)

    bench.workspaces.create(_spec(), _ROTATED)
    bench.workspaces.archive("sales", _OTHER)

    assert bench.workspaces.owner("sales") == _ID
    assert "old.txt" not in bench.files("sales")


@pytest.mark.parametrize(
    "namespace", ["..", ".env", ".provisioner", "", "a/b", "A", "a\0b", "/etc"]
)
def test_a_name_that_could_escape_is_rejected_everywhere(namespace: str, bench: Bench) -> None:
    spec = ports.WorkspaceSpec(product_id=_ID, namespace=namespace, context={})

    with pytest.raises(errors.NameRejected):
        bench.workspaces.create(spec, _FILES)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.publish(namespace, _ID, _FILES)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.published(namespace, _FILES)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.owner(namespace)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.names_key(namespace, _ID)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.retract(namespace, _ID)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.archive(namespace, _ID)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.move(namespace, "sales", _ID)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.move("sales", namespace, _ID)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.adopt(namespace, _ID)


@pytest.mark.parametrize("product_id", ["", "..", "staging", _ID.upper(), f"{_ID}/.."])
def test_an_id_that_is_no_uuid_is_rejected_everywhere(product_id: str, bench: Bench) -> None:
    with pytest.raises(errors.NameRejected):
        bench.workspaces.create(_spec(product_id), _FILES)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.publish("sales", product_id, _FILES)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.retract("sales", product_id)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.archive("sales", product_id)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.move("sales", "sales-eu", product_id)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.adopt("sales", product_id)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.purge(product_id)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.lying(product_id)
    with pytest.raises(errors.NameRejected):
        bench.workspaces.names_key("sales", product_id)


def test_the_template_has_a_digest(bench: Bench) -> None:
    assert bench.workspaces.template_digest() == bench.workspaces.template_digest() != ""


def test_a_workspace_moves_with_all_that_is_in_it(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    bench.put("sales", "mine.txt", "mine")
    before = bench.files("sales")

    bench.workspaces.move("sales", "sales-eu", _ID)
    bench.workspaces.move("sales", "sales-eu", _ID)

    assert bench.files("sales-eu") == before
    assert bench.files("sales") == {}
    assert bench.workspaces.owner("sales-eu") == _ID
    assert bench.workspaces.owner("sales") is None


def test_the_old_name_of_a_moved_workspace_is_free(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    bench.workspaces.move("sales", "sales-eu", _ID)

    bench.put("sales", "theirs.txt", "theirs")

    assert bench.workspaces.owner("sales") == ""


def test_a_workspace_that_moved_back_is_where_it_was(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    before = bench.files("sales")
    for old, new in (("sales", "sales-eu"), ("sales-eu", "sales")):
        bench.workspaces.move(old, new, _ID)
    bench.workspaces.publish("sales", _ID, _FILES)

    assert bench.files("sales") == before
    assert bench.workspaces.owner("sales") == _ID


def test_a_workspace_is_not_moved_over_something(bench: Bench) -> None:
    bench.workspaces.create(_spec(), _FILES)
    bench.put("sales-eu", "theirs.txt", "theirs")

    with pytest.raises(errors.NotOurs):
        bench.workspaces.move("sales", "sales-eu", _ID)

    assert bench.files("sales-eu") == {"theirs.txt": "theirs"}
    assert bench.workspaces.owner("sales") == _ID
    bench.workspaces.publish("sales", _ID, _ROTATED)


@pytest.mark.parametrize("owner", [None, _OTHER])
def test_only_the_products_own_workspace_is_moved(owner: str | None, bench: Bench) -> None:
    if owner is not None:
        bench.workspaces.create(_spec(owner), _FILES)

    with pytest.raises(errors.Conflict):
        bench.workspaces.move("sales", "sales-eu", _ID)

    assert bench.workspaces.owner("sales") == owner
    assert bench.files("sales-eu") == {}


def test_an_adopted_folder_keeps_its_files_and_gets_ours(bench: Bench) -> None:
    bench.put("sales", "README.md", "theirs")

    bench.workspaces.adopt("sales", _ID)
    bench.workspaces.publish("sales", _ID, _FILES)

    assert bench.workspaces.owner("sales") == _ID
    assert bench.files("sales") == {"README.md": "theirs", **_FILES.plain, **_FILES.secret}


def test_a_folder_of_another_product_is_adopted_from_it(bench: Bench) -> None:
    bench.workspaces.create(_spec(_OTHER), _FILES)

    bench.workspaces.adopt("sales", _ID)
    bench.workspaces.retract("sales", _OTHER)
    bench.workspaces.archive("sales", _OTHER)

    assert bench.workspaces.owner("sales") == _ID
    assert ".env" in bench.files("sales")


def test_what_is_not_there_cannot_be_adopted(bench: Bench) -> None:
    with pytest.raises(errors.Conflict):
        bench.workspaces.adopt("sales", _ID)


def test_purging_deletes_every_archive_of_a_product_and_no_others(bench: Bench) -> None:
    for product_id in (_ID, _ID, _OTHER):
        bench.workspaces.create(_spec(product_id), _FILES)
        bench.workspaces.archive("sales", product_id)
    bench.workspaces.create(_spec(), _FILES)

    bench.workspaces.purge(_ID)
    bench.workspaces.purge(_ID)

    assert sorted(bench.archived()) == [_OTHER]
    assert bench.workspaces.owner("sales") == _ID


def test_purging_where_nothing_was_ever_made_is_success(bench: Bench) -> None:
    bench.workspaces.purge(_ID)

    assert bench.archived() == {}


_V1 = {
    "README.md": "# {{ cookiecutter.project_name }}\n",
    "apart.sql": "1\n2\n3\n",
    "same-line.sql": "old\n",
    "deleted.sql": "old\n",
    "gone.sql": "old\n",
    "gone-edited.sql": "old\n",
}
_V2 = {
    "README.md": "# {{ cookiecutter.project_name }}, anew\n",
    "apart.sql": "1\n2\nnew\n",
    "same-line.sql": "new\n",
    "deleted.sql": "new\n",
    "new.sql": "new\n",
    "new-on-both.sql": "new\n",
}
_CHANGES = {
    "README.md": model.FileChange.UPDATED,
    "apart.sql": model.FileChange.MERGED,
    "same-line.sql": model.FileChange.CONFLICT,
    "deleted.sql": model.FileChange.KEPT_DELETED,
    "gone.sql": model.FileChange.REMOVED,
    "gone-edited.sql": model.FileChange.KEPT_EDITED,
    "new.sql": model.FileChange.ADDED,
    "new-on-both.sql": model.FileChange.CONFLICT,
}


def _worked_in(bench: Bench) -> dict[str, str]:
    """Make a workspace of the first version that somebody has worked in."""
    bench.change_template(_V1)
    bench.workspaces.create(_spec(), _FILES)
    bench.put("sales", "apart.sql", "mine\n2\n3\n")
    for path in ("same-line.sql", "gone-edited.sql", "new-on-both.sql"):
        bench.put("sales", path, "mine\n")
    bench.remove("sales", "deleted.sql")
    return bench.files("sales")


def _upgraded(before: dict[str, str]) -> dict[str, str]:
    """Say what the second version makes of it."""
    after = {
        **before,
        "README.md": "# sales, anew\n",
        "apart.sql": "mine\n2\nnew\n",
        "same-line.sql.template-new": "new\n",
        "new-on-both.sql.template-new": "new\n",
        "new.sql": "new\n",
    }
    del after["gone.sql"]
    return after


def test_a_new_version_reaches_a_workspace_and_nobody_loses_a_line(bench: Bench) -> None:
    before = _worked_in(bench)
    first = bench.workspaces.version(_ID)
    bench.change_template(_V2)

    foreseen = bench.workspaces.foresee(_spec(), _FILES)
    assert bench.files("sales") == before
    assert bench.workspaces.version(_ID) == first
    report = bench.workspaces.upgrade(_spec(), _FILES)

    assert bench.files("sales") == _upgraded(before)
    assert foreseen == report
    assert report.changes == _CHANGES
    assert report.conflicts == ("new-on-both.sql", "same-line.sql")
    assert (report.before, report.after) == (first, bench.workspaces.version(_ID))
    assert report.after.digest == bench.workspaces.template_digest()


def test_what_was_done_is_told_again_and_not_done_again(bench: Bench) -> None:
    _worked_in(bench)
    bench.change_template(_V2)
    report = bench.workspaces.upgrade(_spec(), _FILES)
    bench.put("sales", "README.md", "mine")
    bench.remove("sales", "new.sql")
    after = bench.files("sales")

    assert bench.workspaces.upgrade(_spec(), _FILES) == report
    assert bench.files("sales") == after


def test_a_conflict_is_open_until_the_newer_version_is_taken_or_taken_away(bench: Bench) -> None:
    _worked_in(bench)
    bench.change_template(_V2)
    bench.workspaces.upgrade(_spec(), _FILES)
    both = ("new-on-both.sql", "same-line.sql")
    assert bench.workspaces.conflicts("sales", _ID) == ports.OpenConflicts(unresolved=both)

    bench.put("sales", "same-line.sql", "new\n")
    bench.remove("sales", "new-on-both.sql.template-new")
    assert bench.workspaces.conflicts("sales", _ID) == ports.OpenConflicts(resolved=both)
    bench.workspaces.tidy("sales", _ID)

    assert not [path for path in bench.files("sales") if path.endswith(".template-new")]
    assert bench.files("sales")["same-line.sql"] == "new\n"


@pytest.mark.parametrize(
    ("third", "change", "text", "beside"),
    [
        ("newer\n", model.FileChange.CONFLICT, "mine\n", "newer\n"),
        ("new\n", model.FileChange.CONFLICT, "mine\n", "new\n"),
        ("old\n", model.FileChange.UNCHANGED, "mine\n", None),
        ("mine\n", model.FileChange.UNCHANGED, "mine\n", None),
        (None, model.FileChange.KEPT_EDITED, "mine\n", None),
    ],
)
def test_the_next_version_replaces_what_lies_beside_a_file_in_conflict(
    third: str | None, change: model.FileChange, text: str, beside: str | None, bench: Bench
) -> None:
    _worked_in(bench)
    bench.change_template(_V2)
    bench.workspaces.upgrade(_spec(), _FILES)
    rest = {path: each for path, each in _V2.items() if path != "same-line.sql"}
    bench.change_template({**rest, "same-line.sql": third} if third else rest)
    bench.put("sales", "README.md", "# sales, anew and mine\n")

    report = bench.workspaces.upgrade(_spec(), _FILES)

    assert report.files["same-line.sql"] is change
    assert bench.files("sales")["same-line.sql"] == text
    assert bench.files("sales").get("same-line.sql.template-new") == beside


def test_a_resolved_conflict_is_the_base_of_the_next_version(bench: Bench) -> None:
    bench.change_template({"README.md": "", "x.sql": "1\n2\n3\n4\n5\n"})
    bench.workspaces.create(_spec(), _FILES)
    bench.put("sales", "x.sql", "mine\n2\n3\n4\n5\n")
    bench.change_template({"README.md": "", "x.sql": "theirs\n2\n3\n4\n5\n"})
    bench.workspaces.upgrade(_spec(), _FILES)
    bench.remove("sales", "x.sql.template-new")
    bench.change_template({"README.md": "", "x.sql": "theirs\n2\n3\n4\nlast\n"})

    report = bench.workspaces.upgrade(_spec(), _FILES)

    assert report.changes == {"x.sql": model.FileChange.MERGED}
    assert bench.files("sales")["x.sql"] == "mine\n2\n3\n4\nlast\n"


def test_a_template_that_does_not_render_changes_nothing(bench: Bench) -> None:
    before = _worked_in(bench)
    version = bench.workspaces.version(_ID)
    bench.break_template()

    with pytest.raises(errors.TemplateError):
        bench.workspaces.upgrade(_spec(), _FILES)
    with pytest.raises(errors.TemplateError):
        bench.workspaces.foresee(_spec(), _FILES)

    assert bench.files("sales") == before
    assert bench.workspaces.version(_ID) == version


def test_a_rename_reaches_what_names_the_product(bench: Bench) -> None:
    _worked_in(bench)
    bench.workspaces.move("sales", "sales-eu", _ID)
    spec = ports.WorkspaceSpec(
        product_id=_ID, namespace="sales-eu", context={"project_name": "sales-eu"}
    )

    report = bench.workspaces.upgrade(spec, _FILES)

    assert report.changes == {"README.md": model.FileChange.UPDATED}
    assert bench.files("sales-eu")["README.md"] == "# sales-eu\n"


def test_an_adopted_folder_gets_what_it_lacks_and_keeps_what_it_has(bench: Bench) -> None:
    bench.put("sales", "README.md", "theirs")
    bench.workspaces.adopt("sales", _ID)
    assert bench.workspaces.version(_ID) is None
    bench.change_template({"README.md": "ours\n", "x.sql": "1\n"})

    report = bench.workspaces.upgrade(_spec(), _FILES)

    assert report.before.shown == "none"
    assert bench.files("sales") == {
        "README.md": "theirs",
        "README.md.template-new": "ours\n",
        "x.sql": "1\n",
    }


def test_our_own_files_are_no_part_of_a_version(bench: Bench) -> None:
    bench.change_template({"README.md": "", "ports.json": "the template's"})
    bench.workspaces.create(_spec(), _FILES)
    bench.change_template({"README.md": "", "INPUTS.md": "the template's"})

    assert bench.workspaces.upgrade(_spec(), _FILES).changes == {}
    assert bench.workspaces.published("sales", _FILES)


@pytest.mark.parametrize("action", ["upgrade", "foresee"])
def test_only_the_products_own_workspace_is_upgraded(action: str, bench: Bench) -> None:
    with pytest.raises(errors.Conflict):
        getattr(bench.workspaces, action)(_spec(), _FILES)
    bench.workspaces.create(_spec(_OTHER), _FILES)
    with pytest.raises(errors.NotOurs):
        getattr(bench.workspaces, action)(_spec(), _FILES)
    with pytest.raises(errors.NotOurs):
        bench.workspaces.tidy("sales", _ID)


def test_a_products_folders_are_found_by_its_id(bench: Bench) -> None:
    assert bench.workspaces.lying(_ID) == ()
    bench.workspaces.create(_spec(), _FILES)
    other = ports.WorkspaceSpec(
        product_id=_OTHER, namespace="finance", context={"project_name": "finance"}
    )
    bench.workspaces.create(other, _FILES)
    assert bench.workspaces.lying(_ID) == ("sales",)
    bench.workspaces.move("sales", "campaigns", _ID)
    assert bench.workspaces.lying(_ID) == ("campaigns",)
    bench.delete("campaigns")
    assert bench.workspaces.lying(_ID) == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("S3_BUCKET=lake\nS3_ACCESS_KEY=AKIA1\nS3_SECRET_KEY=x\n", "AKIA1"),
        ("S3_ACCESS_KEY=\n", ""),
        ("S3_ACCESS_KEY=AKIA/../1\n", ""),
        ("# S3_ACCESS_KEY=AKIA1\n", ""),
        (f"S3_ACCESS_KEY={'A' * 4000}\n", ""),
    ],
)
def test_the_key_that_a_users_env_names_is_read_where_the_folder_is_the_products(
    text: str, named: str, bench: Bench
) -> None:
    bench.workspaces.create(_spec(), _FILES)
    assert bench.workspaces.names_key("sales", _ID) == ""
    bench.put("sales", ".env", text)
    assert bench.workspaces.names_key("sales", _ID) == named
    assert bench.workspaces.names_key("sales", _OTHER) == ""
    assert bench.workspaces.names_key("absent", _ID) == ""
