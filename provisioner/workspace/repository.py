"""Make a workspace a git repository from its start.

git runs only in folders of ours, below `.provisioner/`: in a tree that its users own, a mere
`git status` runs what `.git/config` tells it. So the first commit is made in staging from the
rendering alone, before anything secret is written, and becomes the workspace's `.git` by copying
files. A second copy waits in `.provisioner/<product id>/unpushed/` until a remote has it: see
`pushing`.

Without a git program workspaces are made without a repository.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from provisioner import errors, telemetry
from provisioner.workspace import blueprint, ground, program

_log = telemetry.Log(__name__)

FOLDER = ".git"
STAGED = "repository"
UNPUSHED = "unpushed"
HEADS = "refs/heads/"
BRANCH = f"{HEADS}main"
_IGNORED = "# Keys are never committed, whatever .gitignore says.\n.env*\n.aws/\n*.template-new\n"
_OPEN, _CLOSED, _PLAIN = 0o755, 0o700, 0o644
_MAKE_SECONDS = 60.0


def begin(
    folder: ground.Tree, rendering: blueprint.Rendering, *, at: datetime, origin: str | None
) -> bool:
    """Make a repository whose only commit is the rendering, in an empty folder of ours.

    False, and nothing made, where there is no git.
    """
    git = program.found()
    if git is None:
        _log.warning("there is no git: workspaces are no repositories")
        return False
    for name in ("info", "objects", "refs"):
        with folder.make_folder(name, _OPEN):
            pass
    folder.add("HEAD", f"ref: {BRANCH}\n".encode(), _PLAIN)
    folder.add("config", _config(origin).encode(), _PLAIN)
    folder.add("info/exclude", _IGNORED.encode(), _PLAIN)
    environment = {"GIT_DIR": "."}
    options = ["-c", "fastimport.unpackLimit=1"]  # one pack, not a file an object
    importing = [git, *options, "fast-import", "--quiet", "--done", "--date-format=raw"]
    for command, given in (
        (importing, _stream(rendering, at)),
        ([git, "read-tree", BRANCH], b""),
    ):
        said = program.run(command, folder, environment, given, seconds=_MAKE_SECONDS)
        if said is not None:
            raise errors.RemoteRefused("git could not make the first commit")
    return True


def stage(
    folder: ground.Tree, record: ground.Tree, rendering: blueprint.Rendering, *, origin: str | None
) -> bool:
    """Make the first commit in staging, and keep a copy for the remote; False where none was made.

    A git that fails leaves a workspace that is no repository rather than none.
    """
    with folder.make_folder(STAGED, _CLOSED) as made:
        try:
            if not begin(made, rendering, at=datetime.now(UTC), origin=origin):
                return False
        except errors.RemoteRefused as exc:
            _log.error("the workspace is no repository", reason=str(exc))
            return False
        if origin:
            copy(made, record, UNPUSHED)
    return True


def copy(made: ground.Tree, into: ground.Tree, name: str) -> None:
    """Copy a repository of ours into a folder that belongs to somebody, durable."""
    with into.make_folder(name, _OPEN) as target:
        _copy(made.path, target)


def _copy(source: Path, target: ground.Tree) -> None:
    entries = sorted(source.iterdir())
    target.add_all([(each.name, each.read_bytes(), _PLAIN) for each in entries if each.is_file()])
    for each in entries:
        if each.is_dir():
            with target.make_folder(each.name, _OPEN) as below:
                _copy(each, below)
    target.sync()


def _config(origin: str | None) -> str:
    lines = ["[core]", "\trepositoryformatversion = 0", "\tfilemode = true", "\tbare = false"]
    lines += ["\tlogallrefupdates = true"]
    if origin:
        lines += ['[remote "origin"]', f"\turl = {origin}"]
        lines += ["\tfetch = +refs/heads/*:refs/remotes/origin/*"]
        lines += ['[branch "main"]', "\tremote = origin", f"\tmerge = {BRANCH}"]
    return "\n".join([*lines, ""])


def _stream(rendering: blueprint.Rendering, at: datetime) -> bytes:
    """Write the rendering as one commit in the language of `git fast-import`."""
    message = b"Start from the template"
    when = f"{int(at.timestamp())} +0000"
    parts = [
        f"commit {BRANCH}\ncommitter {program.NAME} <{program.EMAIL}> {when}\n".encode(),
        _data(message),
    ]
    for file in rendering.files:
        mode = "100755" if file.executable else "100644"
        parts += [f"M {mode} inline {_quoted(file.path)}\n".encode(), _data(file.data)]
    return b"".join([*parts, b"done\n"])


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
