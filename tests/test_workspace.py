from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provisioner import errors, ports, workspace
from tests import crashing

_ID = "6b2ea4ae-9a3e-4d5f-8a0e-0c2f3a4b5c6d"
_OTHER = "0d9f1a52-1b7c-4c55-9a53-7f0a1d2e3f40"
_FILES = ports.OwnedFiles(
    plain={
        "ports.json": "{}\n",
        "INPUTS.md": "# Inputs\n",
        "external_models/upstream.yaml": "# Ours.\n[]\n",
    },
    secret={".aws/config": "[a]\n", ".aws/credentials": "[b]\n", ".env": "KEY=1\n"},
)
_ROTATED = ports.OwnedFiles(
    plain={
        "ports.json": '{"a": 1}\n',
        "INPUTS.md": "# More\n",
        "external_models/upstream.yaml": "# Ours.\n- name: upstream.a\n",
    },
    secret={".aws/config": "[c]\n", ".aws/credentials": "[d]\n", ".env": "KEY=2\n"},
)
_AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
_FORKS = crashing.FORKS


@pytest.fixture
def template(tmp_path: Path) -> Path:
    folder = tmp_path / "template"
    top = folder / "{{cookiecutter.project_slug}}"
    (top / "models/gold").mkdir(parents=True)
    (folder / "cookiecutter.json").write_text(json.dumps({"project_name": "", "_name": ""}))
    (top / "README.md").write_text("# {{ cookiecutter.project_name }} {{ cookiecutter._name }}\n")
    (top / "models/gold/orders.sql").write_text("select 1\n")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def _kept(output: Path, template: Path) -> workspace.CookiecutterWorkspaces:
    return workspace.CookiecutterWorkspaces(output=output, template=template)


def _spec(product_id: str = _ID, namespace: str = "sales") -> ports.WorkspaceSpec:
    return ports.WorkspaceSpec(
        product_id=product_id,
        namespace=namespace,
        context={"project_name": namespace},
        text={"name": "Sales {{ 7*7 }}"},
    )


def _tree(folder: Path) -> dict[str, tuple[str, str | None]]:
    """Return mode and content of everything below a folder, but for its repository."""
    return {
        path.relative_to(folder).as_posix(): (
            oct(stat.S_IMODE(path.lstat().st_mode)),
            path.read_text() if path.is_file() else None,
        )
        for path in sorted(folder.rglob("*"))
        if ".git" not in path.relative_to(folder).parts
    }


def _complete(output: Path) -> dict[str, tuple[str, str | None]]:
    """Return all that is kept, apart from the identity of the folder in its claim."""
    tree = _tree(output)
    claim = ".provisioner/names/sales"
    if claim in tree:
        mode, text = tree[claim]
        tree[claim] = (mode, json.dumps({**json.loads(text or ""), "folder": ""}))
    return tree


def test_a_workspace_has_the_modes_it_should_have(output: Path, template: Path) -> None:
    before = os.umask(0o077)
    try:
        _kept(output, template).create(_spec(), _FILES)
    finally:
        os.umask(before)

    assert {path: mode for path, (mode, _) in _tree(output / "sales").items()} == {
        ".aws": "0o700",
        ".aws/config": "0o600",
        ".aws/credentials": "0o600",
        ".env": "0o600",
        "INPUTS.md": "0o644",
        "README.md": "0o644",
        "external_models": "0o755",
        "external_models/upstream.yaml": "0o644",
        "models": "0o755",
        "models/gold": "0o755",
        "models/gold/orders.sql": "0o644",
        "ports.json": "0o644",
        "run.sh": "0o755",
    }
    assert stat.S_IMODE((output / "sales").stat().st_mode) == 0o755
    assert stat.S_IMODE((output / ".provisioner").stat().st_mode) == 0o700


def test_the_pristine_rendering_and_the_answers_are_kept_without_secrets(
    output: Path, template: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)

    record = output / ".provisioner" / _ID
    assert sorted(_tree(record / "render")) == [
        "README.md",
        "models",
        "models/gold",
        "models/gold/orders.sql",
        "run.sh",
    ]
    assert (record / "render/README.md").read_text() == "# sales Sales {{ 7*7 }}\n"
    assert json.loads((record / "answers.json").read_text()) == {
        "namespace": "sales",
        "template_digest": kept.template_digest(),
        "template_name": "",
        "context": {"project_name": "sales"},
    }
    assert list((output / ".provisioner/staging").iterdir()) == []


def test_our_files_win_over_what_a_template_puts_in_their_place(
    output: Path, template: Path
) -> None:
    top = template / "{{cookiecutter.project_slug}}"
    (top / ".aws").mkdir()
    for name in (".env", "ports.json", ".aws/config", ".aws/other"):
        (top / name).write_text("the template's")
    kept = _kept(output, template)

    kept.create(_spec(), _FILES)

    assert kept.published("sales", _FILES)
    assert not (output / "sales/.aws/other").exists()


def test_looking_makes_nothing(output: Path, template: Path) -> None:
    kept = _kept(output, template)

    kept.owner("sales")
    kept.published("sales", _FILES)
    kept.retract("sales", _ID)
    kept.archive("sales", _ID)

    assert not output.exists()


@pytest.mark.parametrize("make", ["file", "link", "broken link", "pipe"])
def test_a_name_taken_by_something_strange_is_not_ours(
    make: str, output: Path, template: Path, tmp_path: Path
) -> None:
    output.mkdir()
    target = output / "sales"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if make == "file":
        target.write_text("theirs")
    elif make == "pipe":
        os.mkfifo(target)
    else:
        target.symlink_to(elsewhere if make == "link" else tmp_path / "nothing")
    kept = _kept(output, template)

    assert kept.owner("sales") == ""
    with pytest.raises(errors.NotOurs):
        kept.create(_spec(), _FILES)
    kept.retract("sales", _ID)
    kept.archive("sales", _ID)
    assert list(elsewhere.iterdir()) == []
    assert target.is_symlink() or target.exists()


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_closed_folder_that_is_not_ours_stays_closed(
    mode: int, output: Path, template: Path
) -> None:
    (output / "sales").mkdir(parents=True)
    (output / "sales" / "mine").write_text("theirs")
    (output / "sales").chmod(mode)
    kept = _kept(output, template)

    assert kept.owner("sales") == ""
    with pytest.raises(errors.NotOurs):
        kept.create(_spec(), _FILES)
    kept.archive("sales", _ID)

    assert stat.S_IMODE((output / "sales").stat().st_mode) == mode
    (output / "sales").chmod(0o700)  # or nobody can take it away


def test_a_workspace_that_its_user_closed_is_ours_still(output: Path, template: Path) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    (output / "sales").chmod(0)

    assert kept.owner("sales") == _ID
    kept.publish("sales", _ID, _FILES)
    assert kept.published("sales", _FILES)


def test_a_workspace_swapped_for_a_link_is_not_followed(
    output: Path, template: Path, tmp_path: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    (output / "sales").rename(tmp_path / "moved")
    (output / "sales").symlink_to(tmp_path / "moved")

    with pytest.raises(errors.NotOurs):
        kept.publish("sales", _ID, _ROTATED)
    kept.retract("sales", _ID)

    assert not kept.published("sales", _FILES)
    assert (tmp_path / "moved/.env").read_text() == "KEY=1\n"


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".aws", ".aws/credentials", "ports.json"),
        *("external_models", "external_models/upstream.yaml"),
    ],
)
def test_a_link_in_the_place_of_our_file_is_replaced(
    path: str, output: Path, template: Path, tmp_path: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    theirs = tmp_path / "theirs"
    (output / "sales" / path).rename(theirs)
    before = _tree(theirs) or theirs.read_text()
    (output / "sales" / path).symlink_to(theirs)
    assert not kept.published("sales", _FILES)

    kept.publish("sales", _ID, _ROTATED)

    assert kept.published("sales", _ROTATED)
    assert (_tree(theirs) or theirs.read_text()) == before


def test_a_mode_that_the_user_opened_is_mended(output: Path, template: Path) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    (output / "sales/.env").chmod(0o644)
    (output / "sales/.aws").chmod(0o755)
    assert not kept.published("sales", _FILES)

    kept.publish("sales", _ID, _FILES)

    assert _tree(output / "sales")[".env"][0] == "0o600"
    assert _tree(output / "sales")[".aws"][0] == "0o700"


def _replace_by_file(folder: Path) -> None:
    folder.write_text("mine")


def _replace_by_pipe(folder: Path) -> None:
    os.mkfifo(folder)


def _close(folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.yaml").write_text("[]")
    folder.chmod(0)


@pytest.mark.parametrize("do", [_replace_by_file, _replace_by_pipe, _close, Path.mkdir])
def test_whatever_has_the_name_of_our_folder_does_not_hold_up_the_key(
    do: Callable[[Path], None], output: Path, template: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    shutil.rmtree(output / "sales/external_models")
    do(output / "sales/external_models")
    assert not kept.published("sales", _FILES)

    kept.publish("sales", _ID, _ROTATED)

    assert kept.published("sales", _ROTATED)
    assert (output / "sales/.env").read_text() == _ROTATED.secret[".env"]


def test_what_the_user_keeps_beside_our_models_stays_as_it_is(output: Path, template: Path) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    folder = output / "sales/external_models"
    (folder / "mine.yaml").write_text("[]")
    folder.chmod(0o775)

    kept.publish("sales", _ID, _ROTATED)

    assert (folder / "mine.yaml").read_text() == "[]"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o775
    assert kept.published("sales", _ROTATED)


def test_a_file_that_the_user_had_before_ours_had_its_name_is_set_aside(
    output: Path, template: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    folder = output / "sales/external_models"
    (folder / "upstream.yaml").write_text("- name: mine\n")

    kept.publish("sales", _ID, _FILES)
    kept.publish("sales", _ID, _ROTATED)  # what is ours is replaced

    assert kept.published("sales", _ROTATED)
    (aside,) = folder.glob("upstream.yaml.found-*")
    assert aside.read_text() == "- name: mine\n"


def test_what_the_user_keeps_beside_our_secrets_stays(output: Path, template: Path) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    for path in (".env.mine", ".aws/cache"):
        (output / "sales" / path).write_text("mine")

    kept.retract("sales", _ID)

    left = _tree(output / "sales")
    assert {path for path in left if path.startswith((".env", ".aws"))} == {
        ".env.mine",
        ".aws",
        ".aws/cache",
    }


def test_retracting_takes_a_link_away_and_leaves_its_target(
    output: Path, template: Path, tmp_path: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    (output / "sales/.aws").rename(tmp_path / "moved")
    (output / "sales/.aws").symlink_to(tmp_path / "moved")

    kept.retract("sales", _ID)

    assert not (output / "sales/.aws").is_symlink()
    assert len(list((tmp_path / "moved").iterdir())) == 2


def test_a_folder_that_appears_during_the_swap_is_not_taken_over(
    output: Path, template: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    claim = output / ".provisioner/names/sales"
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "confirmed": False}))
    assert kept.owner("sales") == _ID
    (output / "theirs").mkdir()  # while ours is there: a freed inode would be given out again
    (output / "theirs/theirs").write_text("theirs")
    shutil.rmtree(output / "sales")
    (output / "theirs").rename(output / "sales")

    assert kept.owner("sales") == ""
    with pytest.raises(errors.NotOurs):
        kept.create(_spec(), _FILES)


def test_our_own_folder_must_not_be_a_link(output: Path, template: Path, tmp_path: Path) -> None:
    output.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (output / ".provisioner").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(errors.Conflict):
        _kept(output, template).create(_spec(), _FILES)

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (output / "sales").exists()


def test_a_template_error_leaves_nothing(output: Path, template: Path) -> None:
    (template / "{{cookiecutter.project_slug}}/bad").write_text("{{ nothing }}")

    with pytest.raises(errors.TemplateError):
        _kept(output, template).create(_spec(), _FILES)

    assert not output.exists()


def test_many_products_are_made_at_once(output: Path, template: Path) -> None:
    kept = _kept(output, template)
    specs = [_spec(f"{_ID[:-2]}{number:02d}", f"p{number}") for number in range(24)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda spec: kept.create(spec, _FILES), specs))

    assert [kept.owner(spec.namespace) for spec in specs] == [spec.product_id for spec in specs]
    assert all(kept.published(spec.namespace, _FILES) for spec in specs)


def test_of_two_products_that_want_one_name_one_gets_it(output: Path, template: Path) -> None:
    kept = _kept(output, template)
    refused: list[str] = []
    start = threading.Barrier(2)

    def _create(product_id: str) -> None:
        start.wait()
        try:
            kept.create(_spec(product_id), _FILES)
        except (errors.Conflict, errors.NotOurs):
            refused.append(product_id)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_create, (_ID, _OTHER)))

    assert len(refused) == 1
    assert {kept.owner("sales"), *refused} == {_ID, _OTHER}


# What a crash leaves.


@_FORKS
def test_a_crash_while_creating_leaves_nothing_half_made(
    output: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")  # git works in staging alone, as what follows does
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    wanted, workspace_wanted = _complete(output), _tree(output / "sales")
    count = 0

    for count in crashing.crashes(
        lambda: _kept(output, template).create(_spec(), _FILES),
        lambda: shutil.rmtree(output, ignore_errors=True),
    ):
        if (output / "sales").exists():
            assert _tree(output / "sales") == workspace_wanted
            assert _kept(output, template).owner("sales") == _ID
        _kept(output, template).create(_spec(), _FILES)
        assert _complete(output) == wanted, f"after a crash before effect {count}"

    assert count > 40


@_FORKS
def test_a_crash_while_publishing_leaves_every_file_whole(output: Path, template: Path) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    old = _tree(output / "sales")
    kept.publish("sales", _ID, _ROTATED)
    new = _tree(output / "sales")
    count = 0

    for count in crashing.crashes(
        lambda: kept.publish("sales", _ID, _ROTATED),
        lambda: kept.publish("sales", _ID, _FILES),
    ):
        now = _tree(output / "sales")
        assert all(now[path] in (old[path], new[path]) for path in new)
        order = [*_ROTATED.plain, *_ROTATED.secret]
        done = [now[path] == new[path] for path in order]
        assert done == sorted(done, reverse=True), "published out of order"
        kept.publish("sales", _ID, _ROTATED)
        assert _tree(output / "sales") == new, f"after a crash before effect {count}"

    assert count > 10


@_FORKS
def test_a_crash_while_archiving_loses_nothing(
    output: Path, template: Path, tmp_path: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    user = {path for path in _tree(output / "sales") if not path.startswith((".env", ".aws"))}
    shutil.copytree(output, tmp_path / "start")
    count = 0

    def _reset() -> None:
        shutil.rmtree(output)
        shutil.copytree(tmp_path / "start", output)

    for count in crashing.crashes(lambda: kept.archive("sales", _ID), _reset):
        kept.archive("sales", _ID)
        assert not (output / "sales").exists(), f"after a crash before effect {count}"
        assert set(_tree(output / ".provisioner/archive" / _ID)) == user
        assert not (output / ".provisioner/names/sales").exists()
        assert not (output / ".provisioner" / _ID).exists()

    assert count > 10


@_FORKS
def test_a_crash_while_moving_loses_nothing_and_leaves_one_name(
    output: Path, template: Path, tmp_path: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    wanted = _tree(output / "sales")
    shutil.copytree(output, tmp_path / "start")
    count = 0

    def _reset() -> None:
        shutil.rmtree(output)
        shutil.copytree(tmp_path / "start", output)

    for count in crashing.crashes(lambda: kept.move("sales", "sales-eu", _ID), _reset):
        owners = {name: kept.owner(name) for name in ("sales", "sales-eu")}
        assert sorted(owners.values(), key=str) == [_ID, None], f"before effect {count}"
        _kept(output, template).move("sales", "sales-eu", _ID)
        assert _tree(output / "sales-eu") == wanted, f"after a crash before effect {count}"
        assert not (output / "sales").exists()
        assert [path.name for path in (output / ".provisioner/names").iterdir()] == ["sales-eu"]

    assert count > 5


@_FORKS
def test_a_folder_that_appears_after_a_crash_in_a_move_is_nobodys(
    output: Path, template: Path, tmp_path: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    shutil.copytree(output, tmp_path / "start")

    def _reset() -> None:
        shutil.rmtree(output)
        shutil.copytree(tmp_path / "start", output)

    for count in crashing.crashes(lambda: kept.move("sales", "sales-eu", _ID), _reset):
        free = "sales" if (output / "sales-eu").exists() else "sales-eu"
        (output / free).mkdir()
        (output / free / "theirs.txt").write_text("theirs")
        assert kept.owner(free) == "", f"after a crash before effect {count}"


def test_a_link_is_neither_adopted_nor_moved_over(
    output: Path, template: Path, tmp_path: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    (tmp_path / "elsewhere").mkdir()
    (output / "hr").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(errors.NotOurs):
        kept.adopt("hr", _ID)
    with pytest.raises(errors.NotOurs):
        kept.move("sales", "hr", _ID)

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert kept.owner("sales") == _ID


@_FORKS
def test_a_crash_while_purging_is_gone_on_with(
    output: Path, template: Path, tmp_path: Path
) -> None:
    kept = _kept(output, template)
    kept.create(_spec(), _FILES)
    (output / "sales/deep/er").mkdir(parents=True)
    (output / "sales/deep/er/mine.txt").write_text("mine")
    kept.archive("sales", _ID)
    shutil.copytree(output, tmp_path / "start")
    count = 0

    def _reset() -> None:
        shutil.rmtree(output)
        shutil.copytree(tmp_path / "start", output)

    for count in crashing.crashes(lambda: kept.purge(_ID), _reset):
        kept.purge(_ID)
        archived = list((output / ".provisioner/archive").iterdir())
        assert archived == [], f"after a crash before effect {count}"

    assert count > 3


def test_what_another_maker_is_at_work_on_is_not_swept(output: Path, template: Path) -> None:
    _kept(output, template).create(_spec(), _FILES)
    staging = output / ".provisioner/staging"
    for name in ("dead", "alive"):
        (staging / name).mkdir()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, os, sys; d = os.open(sys.argv[1], os.O_RDONLY);"
            "fcntl.flock(d, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()",
            str(staging / "alive"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        _kept(output, template).create(_spec(_OTHER, "crm"), _FILES)
        left = sorted(path.name for path in staging.iterdir())

    assert left == ["alive"]


# A disk that does not take it.


@contextlib.contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@_AS_ROOT
def test_a_full_disk_is_waited_for(output: Path, template: Path) -> None:
    kept = _kept(output, template)
    with _mounted(output, "size=256k"):
        (output / "ballast").write_bytes(b"x" * 236 * 1024)
        with pytest.raises(errors.DiskUnavailable) as caught:
            kept.create(_spec(), _FILES)
        assert not (output / "sales").exists()
        (output / "ballast").unlink()

        kept.create(_spec(), _FILES)

        assert kept.published("sales", _FILES)
        assert list((output / ".provisioner/staging").iterdir()) == []
    assert caught.value.attributes == {"path": "sales", "reason": "ENOSPC"}


@_AS_ROOT
def test_a_disk_that_fills_while_publishing_keeps_the_old_files(
    output: Path, template: Path
) -> None:
    kept = _kept(output, template)
    with _mounted(output, "size=256k"):
        kept.create(_spec(), _FILES)
        before = _tree(output / "sales")
        with pytest.raises(OSError, match="No space"):
            (output / "ballast").write_bytes(b"x" * 300 * 1024)

        with pytest.raises(errors.DiskUnavailable):
            kept.publish("sales", _ID, _ROTATED)

        assert _tree(output / "sales") == before


@_AS_ROOT
def test_a_read_only_disk_is_waited_for(output: Path, template: Path) -> None:
    with _mounted(output, "ro"), pytest.raises(errors.DiskUnavailable) as caught:
        _kept(output, template).create(_spec(), _FILES)

    assert caught.value.attributes["reason"] == "EROFS"


@_FORKS
def test_a_file_that_cannot_grow_is_waited_for(output: Path, template: Path) -> None:
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
        try:
            _kept(output, template).create(_spec(), _FILES)
        except errors.DiskUnavailable:
            os._exit(7)
        os._exit(1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 7
    assert not (output / "sales").exists()


@_FORKS
@_AS_ROOT
def test_a_folder_that_we_may_not_write_is_waited_for(template: Path, tmp_path: Path) -> None:
    output = tmp_path / "closed"
    output.mkdir(mode=0o755)
    os.chmod(tmp_path, 0o755)  # noqa: PTH101
    kept = _kept(output, template)
    child = os.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.setuid(65534)
        relative = workspace.CookiecutterWorkspaces(output=Path(output), template=template)
        try:
            relative.create(_spec(), _FILES)
        except errors.DiskUnavailable:
            os._exit(7)
        except BaseException:
            os._exit(1)
        os._exit(2)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 7
    assert kept.owner("sales") is None


@_AS_ROOT
def test_everything_in_a_workspace_goes_to_its_owner(output: Path, template: Path) -> None:
    kept = workspace.CookiecutterWorkspaces(output=output, template=template, uid=1234, gid=2345)
    kept.create(_spec(), _FILES)
    kept.publish("sales", _ID, _ROTATED)

    folder = output / "sales"
    owners = {(p.lstat().st_uid, p.lstat().st_gid) for p in [folder, *folder.rglob("*")]}
    private = output / ".provisioner"
    assert owners == {(1234, 2345)}
    assert {p.lstat().st_uid for p in [private, *private.rglob("*")]} == {0}
    assert kept.published("sales", _ROTATED)


@_AS_ROOT
def test_a_secret_file_that_its_user_cannot_read_is_mended(output: Path, template: Path) -> None:
    kept = workspace.CookiecutterWorkspaces(output=output, template=template, uid=1234, gid=2345)
    kept.create(_spec(), _FILES)
    os.chown(output / "sales/.env", 0, 0)
    assert not kept.published("sales", _FILES)

    kept.publish("sales", _ID, _FILES)

    assert (output / "sales/.env").stat().st_uid == 1234
