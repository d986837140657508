"""Workspaces are git repositories from their start, and a remote gets the first commit."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from provisioner import errors, model, ports, workspace
from provisioner.steps import protocol
from provisioner.steps import repository as repository_step
from provisioner.workspace import pushing, repository
from tests import builders as b
from tests import git_remote, memory_store
from tests.git_remote import git

_ID = "6b2ea4ae-9a3e-4d5f-8a0e-0c2f3a4b5c6d"
_FILES = ports.OwnedFiles(
    plain={"ports.json": "{}\n", "INPUTS.md": "# Inputs\n"},
    secret={".aws/config": "[a]\n", ".aws/credentials": "[b]\n", ".env": "KEY=never-committed\n"},
)


@pytest.fixture(autouse=True)
def needs_git() -> None:
    git_remote.needs_git()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    folder = tmp_path / "template"
    top = folder / "{{cookiecutter.project_name}}"
    (top / "models").mkdir(parents=True)
    (folder / "cookiecutter.json").write_text('{"project_name": ""}')
    (top / "README.md").write_text("# {{ cookiecutter.project_name }}\n")
    (top / 'models/or"ders\\ü.sql').write_text("select 1\n")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    (top / "seed.bin").write_bytes(bytes(range(256)))
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def make(output: Path, template: Path, remote: pushing.Remote | None = None, **owner: int) -> Path:
    spec = ports.WorkspaceSpec(
        product_id=_ID, namespace="sales", context={"project_name": "sales"}, text={}
    )
    kept = workspace.CookiecutterWorkspaces(
        output=output, template=template, remote=remote, **owner
    )
    kept.create(spec, _FILES)
    return output / "sales"


def committed(repository_folder: Path) -> set[str]:
    listed = git(
        "-c", "core.quotePath=false", "ls-tree", "-rz", "--name-only", "main", cwd=repository_folder
    )
    return {each for each in listed.split("\0") if each}


def test_a_workspace_begins_as_a_clean_repository_of_the_rendering(
    output: Path, template: Path
) -> None:
    folder = make(output, template)
    assert committed(folder) == {"README.md", 'models/or"ders\\ü.sql', "run.sh", "seed.bin"}
    # Only our own files are not known to it, and keys not even as unknown ones.
    assert git("status", "--porcelain", cwd=folder) == "?? INPUTS.md\n?? ports.json\n"
    assert git("log", "--format=%an %s", cwd=folder) == "Provisioner Start from the template\n"
    assert git("fsck", "--strict", cwd=folder) == ""
    assert git("log", "-g", "--format=%gn", cwd=folder) == "Provisioner\n"
    assert not (output / ".provisioner" / _ID / repository.UNPUSHED).exists()


def test_keys_are_ignored_though_the_template_forgot_them(output: Path, template: Path) -> None:
    folder = make(output, template)
    assert not (folder / ".gitignore").exists()
    git("add", "--all", cwd=folder)
    assert "KEY=" not in git("diff", "--cached", cwd=folder)
    assert {".env", ".aws/config", ".aws/credentials"}.isdisjoint(
        git("diff", "--cached", "--name-only", cwd=folder).split("\n")
    )


def test_users_go_on_committing(output: Path, template: Path) -> None:
    folder = make(output, template)
    (folder / "README.md").write_text("ours\n")
    identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.invalid")
    git(*identity, "commit", "--quiet", "--all", "--message", "Change it", cwd=folder)
    assert git("log", "--format=%s", cwd=folder) == "Change it\nStart from the template\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_repository_belongs_to_the_workspaces_owner(output: Path, template: Path) -> None:
    folder = make(output, template, uid=1234, gid=1235)
    found = [folder / ".git", *(folder / ".git").rglob("*")]
    assert {(each.lstat().st_uid, each.lstat().st_gid) for each in found} == {(1234, 1235)}
    assert {stat.S_IMODE(each.lstat().st_mode) for each in found} == {0o755, 0o644}


def test_without_git_a_workspace_is_made_all_the_same(
    output: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    folder = make(output, template)
    assert (folder / "README.md").exists()
    assert not (folder / ".git").exists()


# --- remotes


@pytest.fixture(params=["file", "http"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[pushing.Remote]:
    """Have a bare repository for `sales`, over a file's path and over HTTP with a password."""
    root = tmp_path / "remotes"
    git_remote.bare(root / "teams" / "sales.git")
    if request.param == "file":
        yield pushing.Remote(pattern=f"file://{root}/teams/{{namespace}}.git")
        return
    with git_remote.serving(root) as address:
        pattern = f"{address}/teams/{{namespace}}.git"
        yield pushing.Remote(pattern=pattern, basic_auth=git_remote.AUTH)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "remotes" / "teams" / "sales.git"


def test_the_first_commit_reaches_the_remote_and_users_can_pull_from_it(
    output: Path, template: Path, remote: pushing.Remote, there: Path
) -> None:
    folder = make(output, template, remote)
    remotes = pushing.GitRemotes(output=output, remote=remote)
    assert remotes.waits(_ID)
    remotes.push("sales", _ID)
    assert not remotes.waits(_ID)
    assert git("rev-parse", "main", cwd=there) == git("rev-parse", "main", cwd=folder)
    assert git("remote", "get-url", "origin", cwd=folder).strip() == remote.url("sales")
    assert git_remote.AUTH.encode() not in (folder / ".git/config").read_bytes()
    remotes.push("sales", _ID)  # nothing waits: success


def test_a_template_update_keeps_what_waits(
    output: Path, template: Path, remote: pushing.Remote, there: Path
) -> None:
    folder = make(output, template, remote)
    first = git("rev-parse", "main", cwd=folder)
    (template / "{{cookiecutter.project_name}}" / "README.md").write_text("newer\n")
    kept = workspace.CookiecutterWorkspaces(output=output, template=template, remote=remote)
    spec = ports.WorkspaceSpec(
        product_id=_ID, namespace="sales", context={"project_name": "sales"}, text={}
    )
    kept.upgrade(spec, _FILES)
    assert (folder / "README.md").read_text() == "newer\n"
    pushing.GitRemotes(output=output, remote=remote).push("sales", _ID)
    assert git("rev-parse", "main", cwd=there) == first


def test_a_remote_with_a_history_of_its_own_keeps_it_and_gets_a_branch_beside(
    tmp_path: Path, output: Path, template: Path, remote: pushing.Remote, there: Path
) -> None:
    other = make(tmp_path / "other", template)
    (other / "README.md").write_text("another\n")
    identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.invalid")
    git(*identity, "commit", "--quiet", "--all", "--amend", "--message", "Theirs", cwd=other)
    git("push", "--quiet", str(there), "main", cwd=other)
    folder = make(output, template, remote)
    first = git("rev-parse", "main", cwd=folder)
    remotes = pushing.GitRemotes(output=output, remote=remote)
    remotes.push("sales", _ID)
    assert not remotes.waits(_ID)
    assert git("log", "--format=%s", "main", cwd=there) == "Theirs\n"
    assert git("rev-parse", f"dpp/{first[:12]}", cwd=there) == first


def test_a_remote_that_takes_no_commit_at_all_is_asked_again(
    output: Path, template: Path, remote: pushing.Remote, there: Path
) -> None:
    hook = there / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    make(output, template, remote)
    remotes = pushing.GitRemotes(output=output, remote=remote)
    with pytest.raises(errors.RemoteRefused, match="refuses the commit"):
        remotes.push("sales", _ID)
    assert remotes.waits(_ID)
    assert git("branch", "--list", cwd=there) == ""


def test_a_workspace_that_was_renamed_is_pushed_where_its_origin_is(
    output: Path, template: Path, remote: pushing.Remote, there: Path
) -> None:
    folder = make(output, template, remote)
    pushing.GitRemotes(output=output, remote=remote).push("vertrieb", _ID)
    assert git("rev-parse", "main", cwd=there) == git("rev-parse", "main", cwd=folder)


def test_a_workspace_whose_remotes_are_elsewhere_by_now_is_pushed_there(
    tmp_path: Path, output: Path, template: Path
) -> None:
    there = git_remote.bare(tmp_path / "right" / "sales.git")
    folder = make(output, template, pushing.Remote(pattern=f"file://{tmp_path}/{{namespace}}"))
    right = pushing.Remote(pattern=f"file://{tmp_path}/right/{{namespace}}.git")
    pushing.GitRemotes(output=output, remote=right).push("sales", _ID)
    assert git("rev-parse", "main", cwd=there) == git("rev-parse", "main", cwd=folder)


def test_what_a_remote_says_against_it_is_told_in_our_words(
    tmp_path: Path, output: Path, template: Path
) -> None:
    git_remote.bare(tmp_path / "remotes" / "sales.git")
    with git_remote.serving(tmp_path / "remotes") as address:
        cases = {
            f"{address}/{{namespace}}.git": ("wrong:password", "refuses who asks"),
            f"file://{tmp_path}/nowhere/{{namespace}}": (None, "no such remote repository"),
            "http://127.0.0.1:1/{namespace}": (None, "does not answer"),
        }
        make(output, template, pushing.Remote(pattern=next(iter(cases))))
        for pattern, (auth, meaning) in cases.items():
            remote = pushing.Remote(pattern=pattern, basic_auth=auth)
            assert "password" not in repr(remote)
            remotes = pushing.GitRemotes(output=output, remote=remote)
            with pytest.raises(errors.RemoteRefused, match=meaning):
                remotes.push("sales", _ID)
            assert remotes.waits(_ID)


def test_a_namespace_never_leads_out_of_the_pattern() -> None:
    remote = pushing.Remote(pattern="https://git.example/{namespace}.git")
    assert remote.url("sales+eu") == "https://git.example/sales+eu.git"
    with pytest.raises(errors.NameRejected):
        remote.url("../admin")


def test_a_remote_that_hangs_holds_up_one_push_and_not_every_products(
    output: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "_PUSH_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        remote = pushing.Remote(pattern=f"{address}/{{namespace}}.git")
        make(output, template, remote)
        moments = iter((0.0, 30.0, 31.0, 331.0, 361.0))
        remotes = pushing.GitRemotes(output=output, remote=remote, clock=lambda: next(moments))
        for reached in (True, False, True):
            with pytest.raises(errors.RemoteRefused):
                remotes.push("sales", _ID)
            try:
                silent.accept()[0].close()
            except BlockingIOError:
                assert not reached
            else:
                assert reached
        assert remotes.waits(_ID)


@pytest.fixture
def hanging(output: Path, template: Path) -> Iterator[tuple[socket.socket, pushing.GitRemotes]]:
    """Have a first commit wait for a remote that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        remote = pushing.Remote(pattern=f"{address}/{{namespace}}.git")
        make(output, template, remote)
        yield silent, pushing.GitRemotes(output=output, remote=remote)


def ended(silent: socket.socket) -> bool:
    """Wait until whoever pushes has let go of its connection; git itself would in 15 seconds."""
    connection, _ = silent.accept()
    with connection:
        connection.settimeout(5)
        while connection.recv(4096):
            pass
    return True


def test_a_push_is_ended_with_its_helpers_once_it_is_not_ours_any_more(
    hanging: tuple[socket.socket, pushing.GitRemotes],
) -> None:
    silent, remotes = hanging

    def lost() -> None:
        raise errors.LeaseLost("the lease has run out")

    with pytest.raises(errors.LeaseLost):
        remotes.push("sales", _ID, heed=lost)
    assert ended(silent)
    assert remotes.waits(_ID)


def test_a_push_is_ended_by_whoever_closes_and_none_begins_after_it(
    hanging: tuple[socket.socket, pushing.GitRemotes],
) -> None:
    silent, remotes = hanging
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(remotes.push, "sales", _ID)
        connection, _ = silent.accept()
        with connection:
            remotes.close()
            assert isinstance(pushing.exception(timeout=0.5), errors.LeaseLost)
            connection.settimeout(0.5)
            while connection.recv(4096):
                pass
    with pytest.raises(errors.LeaseLost):
        remotes.push("sales", _ID)
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.accept()


# --- the step


class RecordingRepositories:
    """Refuse a number of pushes, then take them."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.waiting = True

    def waits(self, product_id: str) -> bool:
        return self.waiting

    def push(
        self, namespace: str, product_id: str, heed: Callable[[], None] = lambda: None
    ) -> None:
        heed()
        if self.refusals:
            self.refusals -= 1
            raise errors.RemoteRefused("the remote does not answer as a git remote does")
        self.waiting = False


def test_a_refused_push_is_tried_again_ever_more_seldom_until_it_is_taken() -> None:
    remotes = RecordingRepositories(refusals=2)
    step = repository_step.RepositoryStep(remotes, jitter=lambda: 1.0)
    store = memory_store.MemoryStore(clock=lambda: b.NOW)
    key = model.Key.product(b.SALES)
    store.queue.touch([key], model.Priority.EVENT)
    lease = store.queue.lease("test")
    assert lease is not None
    wanted = model.Desired(key=key, phase=model.Phase.ACTIVE, product=b.a_product())
    record = step.observe(model.Record(key=key, namespace="sales"), wanted)
    run = protocol.Run(
        desired=wanted,
        record=record,
        lease=lease,
        records=store.records,
        clock=lambda: b.NOW,
        checkpoint=lambda effect: None,
    )
    for seconds in (60, 120):
        (action,) = step.plan(wanted, run.record, b.NOW)
        with pytest.raises(errors.RemoteRefused):
            step.apply(action, run)
        assert step.next_at(wanted, run.record) == b.NOW + timedelta(seconds=seconds)
    step.apply(action, run)
    assert step.plan(wanted, step.observe(run.record, wanted), b.NOW) == ()
    assert step.next_at(wanted, run.record) is None
    assert run.record.repository == model.RepositoryState()


def test_a_product_that_goes_pushes_nothing() -> None:
    step = repository_step.RepositoryStep(RecordingRepositories(refusals=0), jitter=lambda: 1.0)
    wanted = model.Desired(key=model.Key.product(b.SALES), phase=model.Phase.GONE, product=None)
    record = step.observe(model.Record(key=wanted.key, namespace="sales"), wanted)
    assert step.plan(wanted, record, b.NOW) == ()


@pytest.mark.parametrize("phase", [model.Phase.ARCHIVED, model.Phase.GONE])
def test_a_product_at_rest_is_not_queued_again_for_a_push_that_failed(phase: model.Phase) -> None:
    """A moment that has passed and that no run moves on would queue it every second."""
    step = repository_step.RepositoryStep(RecordingRepositories(refusals=0), jitter=lambda: 1.0)
    wanted = model.Desired(key=model.Key.product(b.SALES), phase=phase, product=b.a_product())
    failed = model.RepositoryState(unpushed=True, attempts=1, again_at=b.NOW)
    record = model.Record(key=wanted.key, namespace="sales", repository=failed)
    assert step.plan(wanted, step.observe(record, wanted), b.NOW) == ()
    assert step.next_at(wanted, record) is None
