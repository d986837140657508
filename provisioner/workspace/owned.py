"""Put our files into a workspace, tell whether they are there, and take the secret ones away.

All else in a workspace is the user's. A link or a special file that has the name of one of ours
is replaced, never followed.
"""

from __future__ import annotations

import contextlib

from provisioner import ports
from provisioner.domain import dotenv
from provisioner.workspace import ground

KEYS = ".aws"
"""The folder of the credentials files: ours, mode 0700."""

_PLAIN, _SECRET, _FOLDER, _SHARED_FOLDER = 0o644, 0o600, 0o700, 0o755


def lay(workspace: ground.Tree, files: ports.OwnedFiles) -> None:
    """Write the files into a workspace that nobody sees yet: side by side, none by rename."""
    folders = _folders(files)
    for folder in folders:
        with workspace.make_folder(folder, _FOLDER if folder == KEYS else _SHARED_FOLDER):
            pass
    for mode, texts in ((_PLAIN, files.plain), (_SECRET, files.secret)):
        workspace.add_all([(path, text.encode(), mode) for path, text in texts.items()])
    for folder in folders:
        with workspace.folder(folder) as opened:
            opened.sync()
    workspace.sync()


def publish(workspace: ground.Tree, files: ports.OwnedFiles) -> None:
    """Write the files that differ, each by rename, plain ones first, in their order."""
    for mode, texts in ((_PLAIN, files.plain), (_SECRET, files.secret)):
        for path, text in texts.items():
            if path.startswith(f"{KEYS}/"):
                with workspace.make_folder(KEYS, _FOLDER):
                    pass
            if not _is_file(workspace, path, text, mode):
                _put(workspace, path, text.encode(), mode)
    _tidy(workspace)
    for folder in _folders(files):
        with contextlib.suppress(FileNotFoundError), workspace.folder(folder) as opened:
            _tidy(opened)


def _put(workspace: ground.Tree, path: str, data: bytes, mode: int) -> None:
    """Write a file; where its folder is missing, closed or a link, make one that is ours first.

    Any other stays as it is, with whatever rights and files the user gave it.
    """
    folder = path.rpartition("/")[0]
    if folder not in ("", KEYS):
        _spare(workspace, path, data)
    try:
        workspace.write(path, data, mode)
    except (FileNotFoundError, PermissionError, ground.ChangedByUser):
        if not folder:
            raise
        with workspace.make_folder(folder, _SHARED_FOLDER):
            pass
        workspace.write(path, data, mode)


def _spare(workspace: ground.Tree, path: str, data: bytes) -> None:
    """Set a user's file aside that lies in a folder of theirs where ours goes.

    Every file of ours there begins with the line that says so.
    """
    with contextlib.suppress(ground.ChangedByUser):  # a link is replaced, as everywhere
        there = workspace.read(path)
        if there is not None and not there.data.startswith(data.partition(b"\n")[0]):
            workspace.set_aside(path)


def _folders(files: ports.OwnedFiles) -> set[str]:
    """Name the folders that our files lie in, besides the workspace itself."""
    return {path.rpartition("/")[0] for path in (*files.plain, *files.secret)} - {""}


def is_published(workspace: ground.Tree, files: ports.OwnedFiles) -> bool:
    """Tell whether the files lie there exactly so, and nothing half-written beside them."""
    for mode, texts in ((_PLAIN, files.plain), (_SECRET, files.secret)):
        if not all(_is_file(workspace, path, text, mode) for path, text in texts.items()):
            return False
    if workspace.unfinished():
        return False
    for folder in _folders(files):
        with contextlib.suppress(FileNotFoundError), workspace.folder(folder) as opened:
            if opened.unfinished():
                return False
    return True


def names_key(workspace: ground.Tree) -> str:
    """Return the key that `.env` names, whoever wrote it; empty where it names none."""
    try:
        found = workspace.read(".env")
    except ground.ChangedByUser:
        return ""
    return dotenv.named_key(found.data) if found else ""


def _is_file(workspace: ground.Tree, path: str, text: str, mode: int) -> bool:
    wanted = ground.File(data=text.encode(), mode=mode, uid=workspace.uid)
    try:
        return workspace.read(path) == wanted
    except ground.ChangedByUser:
        return False


def retract(workspace: ground.Tree) -> None:
    """Remove the secret files; what the user put into `.aws/` stays, and `.aws/` with it."""
    for path in (".env", ".env.local"):
        workspace.remove(path)
    _tidy(workspace)
    try:
        with workspace.folder(KEYS) as keys:
            for path in ("credentials", "config"):
                keys.remove(path)
            _tidy(keys)
    except FileNotFoundError:
        return
    except ground.ChangedByUser:
        workspace.remove(KEYS)
    else:
        workspace.remove_empty(KEYS)


def _tidy(folder: ground.Tree) -> None:
    for name in folder.unfinished():
        folder.remove(name)
