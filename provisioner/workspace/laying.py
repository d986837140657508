"""Lay a rendering into a folder, and beside it the record of what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping

from provisioner import ports
from provisioner.workspace import blueprint, ground, owned

_PLAIN, _PROGRAM = 0o644, 0o755
_OPEN_FOLDER = 0o755
_LARGEST_TEMPLATE_FILE = 256 * 1024 * 1024
"""Our own copy of what a template holds is read back whatever its size, within reason."""


def without(rendering: blueprint.Rendering, files: ports.OwnedFiles) -> blueprint.Rendering:
    """Leave out what a template puts where our own files go."""
    ours = {*files.plain, *files.secret}
    return blueprint.Rendering(
        folders=tuple(path for path in rendering.folders if path.split("/")[0] != owned.KEYS),
        files=tuple(
            file
            for file in rendering.files
            if file.path not in ours and file.path.split("/")[0] != owned.KEYS
        ),
    )


def lay(tree: ground.Tree, rendering: blueprint.Rendering) -> None:
    """Write a rendering into an empty folder, durable."""
    for path in rendering.folders:
        with tree.make_folder(path, _OPEN_FOLDER):
            pass
    tree.add_all(
        [
            (file.path, file.data, _PROGRAM if file.executable else _PLAIN)
            for file in rendering.files
        ]
    )
    for path in rendering.folders:
        with tree.folder(path) as folder:
            folder.sync()
    tree.sync()


def record(
    folder: ground.Tree, answers: Mapping[str, object], rendering: blueprint.Rendering
) -> None:
    """Write down what a workspace was made from, and its pristine rendering."""
    folder.add("answers.json", (json.dumps(answers, indent=2) + "\n").encode(), _PLAIN)
    with folder.make_folder("render", _OPEN_FOLDER) as pristine:
        lay(pristine, rendering)
    folder.sync()


def recall(folder: ground.Tree) -> blueprint.Rendering:
    """Read a pristine rendering back."""
    folders: list[str] = []
    files: list[blueprint.RenderedFile] = []
    _recall(folder, "", folders, files)
    return blueprint.Rendering(folders=tuple(folders), files=tuple(files))


def _recall(
    tree: ground.Tree, prefix: str, folders: list[str], files: list[blueprint.RenderedFile]
) -> None:
    for name in tree.names():
        path = f"{prefix}{name}"
        try:
            below = tree.folder(name)
        except ground.ChangedByUser:
            file = tree.read(name, most_bytes=_LARGEST_TEMPLATE_FILE)
            if file is not None:
                executable = bool(file.mode & 0o100)
                files.append(
                    blueprint.RenderedFile(path=path, data=file.data, executable=executable)
                )
            continue
        with below:
            folders.append(path)
            _recall(below, f"{path}/", folders, files)
