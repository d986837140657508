"""Keep what a workspace was last brought to, beside it and out of its users' reach.

    <product id>/answers.json   the template's digest, what was rendered into it, open conflicts
                 render/        its pristine rendering: the base of the next merge
                 older/         of files in conflict, the version that the user's was brought to
                 next/          an upgrade that is under way, see `upgrading`

The base moves on only once every file is settled. `next/` appears whole, by one rename, before the
first file is touched; once it holds answers of its own all files are settled, and what remains is
to put its folders in place, which can be done again after a crash at any point.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from provisioner import model, ports
from provisioner.workspace import blueprint, ground, laying, merging

_ANSWERS, _RENDER, _OLDER, _PLAN = "answers.json", "render", "older", "plan.json"
NEXT = "next"
_PLAIN, _CLOSED_FOLDER, _OPEN_FOLDER = 0o644, 0o700, 0o755

Answers = Mapping[str, Any]
Versions = Mapping[str, merging.Version]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept of one workspace."""

    answers: Answers = field(default_factory=dict)
    rendering: blueprint.Rendering = field(
        default_factory=lambda: blueprint.Rendering(folders=(), files=())
    )
    older: Versions = field(default_factory=dict)

    @property
    def conflicts(self) -> Mapping[str, str]:
        """Return the files in conflict, each with the digest of what was put beside it."""
        conflicts: Mapping[str, str] = self.answers.get("conflicts", {})
        return conflicts

    @property
    def version(self) -> ports.TemplateVersion:
        """Return what the workspace was last brought to."""
        return _version(self.answers)

    def report(self) -> ports.UpgradeReport:
        """Return what the upgrade to this version did."""
        last = self.answers.get("report", {})
        changes = {path: model.FileChange(each) for path, each in last.get("files", {}).items()}
        return ports.UpgradeReport(
            before=_version(last.get("before", self.answers)),
            after=self.version,
            files=changes,
            conflicts=tuple(sorted(self.conflicts)),
        )


def answers(namespace: str, version: ports.TemplateVersion, **more: object) -> dict[str, object]:
    """Write down what a workspace is rendered from; no secret is ever among it."""
    return {"namespace": namespace, **_plain(version), **more}


def _plain(version: ports.TemplateVersion) -> dict[str, object]:
    return {
        "template_digest": version.digest,
        "template_name": version.name,
        "context": dict(version.rendered),
    }


def _version(found: Answers) -> ports.TemplateVersion:
    return ports.TemplateVersion(
        digest=found.get("template_digest", ""),
        name=found.get("template_name", ""),
        rendered=found.get("context", {}),
    )


def read_answers(record: ground.Tree) -> Answers | None:
    """Return the answers; None where the product has none."""
    return _json(record, _ANSWERS)


def _json(folder: ground.Tree, name: str) -> Answers | None:
    file = folder.read(name)
    if file is None:
        return None
    loaded: Answers = json.loads(file.data)
    return loaded


def read(record: ground.Tree) -> Kept:
    """Return all that is kept; where nothing is, that."""
    found = read_answers(record)
    if found is None:
        return Kept()
    with record.folder(_RENDER) as pristine:
        rendering = laying.recall(pristine)
    older: Versions = {}
    if record.holds(_OLDER):
        with record.folder(_OLDER) as folder:
            older = versions(laying.recall(folder))
    return Kept(answers=found, rendering=rendering, older=older)


def versions(rendering: blueprint.Rendering) -> dict[str, merging.Version]:
    """Return the files of a rendering by path, ready to be compared."""
    return {
        file.path: merging.Version(data=file.data, executable=file.executable)
        for file in rendering.files
    }


def digest(data: bytes) -> str:
    """Digest what was put into a workspace."""
    return sha256(data).hexdigest()


def restate(record: ground.Tree, changed: Answers) -> None:
    """Replace the answers alone, where the new rendering is the old one."""
    record.write(_ANSWERS, _text(changed), _PLAIN)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An upgrade that is under way: where it leads, and what it meant to do."""

    answers: Answers
    rendering: blueprint.Rendering
    hints: Mapping[str, tuple[str, str]]
    """What was to become of a file, and what it then is: see `upgrading`."""


def begin(record: ground.Tree, stage: ground.Tree, plan: Plan) -> None:
    """Write an upgrade down, whole, before its first effect."""
    with stage.make_folder(NEXT, _CLOSED_FOLDER) as folder:
        folder.add(_PLAN, _text({"answers": plan.answers, "hints": plan.hints}), _PLAIN)
        with folder.make_folder(_RENDER, _OPEN_FOLDER) as pristine:
            laying.lay(pristine, plan.rendering)
        folder.sync()
    stage.move(NEXT, record, NEXT)


def begun(record: ground.Tree) -> Plan | None:
    """Return the upgrade whose files are not all settled; None where there is none."""
    if not record.holds(NEXT):
        return None
    with record.folder(NEXT) as folder:
        if folder.holds(_ANSWERS):
            return None
        found = _json(folder, _PLAN)
        assert found is not None  # noqa: S101 - the folder appeared whole
        with folder.folder(_RENDER) as pristine:
            rendering = laying.recall(pristine)
    hints = {path: (change, after) for path, (change, after) in found["hints"].items()}
    return Plan(answers=found["answers"], rendering=rendering, hints=hints)


def settle(record: ground.Tree, changed: Answers, older: Versions) -> None:
    """Write down that every file is settled."""
    with record.folder(NEXT) as folder:
        folder.remove_all(_OLDER)
        with folder.make_folder(_OLDER, _OPEN_FOLDER) as kept:
            laying.lay(kept, _rendering(older))
        folder.write(_ANSWERS, _text(changed), _PLAIN)


def advance(record: ground.Tree, stage: ground.Tree) -> None:
    """Put an upgrade whose files are settled in the place of what was kept; none is success."""
    if not record.holds(NEXT):
        return
    with record.folder(NEXT) as folder:
        found = _json(folder, _ANSWERS)
        if found is None:
            return
        for name in (_RENDER, _OLDER):
            if folder.holds(name):  # otherwise it is in its place already
                record.remove_all(name)
                folder.move(name, record, name)
        restate(record, found)
    record.move(NEXT, stage, "done")
    stage.remove_all("done")


def _rendering(files: Versions) -> blueprint.Rendering:
    folders = {
        "/".join(parts[:length])
        for parts in (path.split("/") for path in files)
        for length in range(1, len(parts))
    }
    return blueprint.Rendering(
        folders=tuple(sorted(folders)),
        files=tuple(
            blueprint.RenderedFile(path=path, data=each.data, executable=each.executable)
            for path, each in files.items()
        ),
    )


def _text(found: Answers) -> bytes:
    return (json.dumps(found, indent=2) + "\n").encode()
