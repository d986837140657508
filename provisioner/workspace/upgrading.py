"""Upgrade a workspace to another rendering of its template, so that a crash loses nothing.

    begin      what is meant is written down beside the workspace, the new rendering with it
    settle     file after file, see `settling`
    advance    the new rendering takes the place of the one that was kept

One that was stopped is finished first, by what was written down: it may lead to a version that the
template has left behind meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping

from provisioner import model, ports
from provisioner.workspace import blueprint, ground, keeping, owned, settling

_VERSION_KEYS: Mapping[str, object] = {"template_digest": "", "template_name": "", "context": {}}


def foresee(
    workspace: ground.Tree,
    kept: keeping.Kept,
    rendering: blueprint.Rendering,
    after: ports.TemplateVersion,
    files: ports.OwnedFiles,
) -> ports.UpgradeReport:
    """Say what an upgrade would do now."""
    decisions = settling.Settling(
        workspace, kept, rendering, leaving_out=_owned(kept, files)
    ).foresee()
    return ports.UpgradeReport(
        before=kept.version,
        after=after,
        files={path: each.change for path, each in decisions.items()},
        conflicts=tuple(
            p for p, each in decisions.items() if each.change is model.FileChange.CONFLICT
        ),
    )


def run(
    workspace: ground.Tree,
    record: ground.Tree,
    stage: ground.Tree,
    files: ports.OwnedFiles,
    *,
    answers: keeping.Answers,
    rendering: blueprint.Rendering,
) -> ports.UpgradeReport:
    """Upgrade; done already, say what was done."""
    kept = keeping.read(record)
    if kept.answers and keeping.Kept(answers=answers).version == kept.version:
        return kept.report()
    upgrade = settling.Settling(workspace, kept, rendering, leaving_out=_owned(kept, files))
    if kept.answers and upgrade.is_idle:
        changed = {**answers, "conflicts": {}, "report": _report(kept, {})}
        keeping.restate(record, changed)
        return keeping.Kept(answers=changed).report()
    plan = keeping.Plan(
        answers=answers, rendering=rendering, hints=settling.hints(upgrade.foresee())
    )
    keeping.begin(record, stage, plan)
    return _go_on(upgrade, kept, plan, record, stage)


def finish(
    workspace: ground.Tree, record: ground.Tree, stage: ground.Tree, files: ports.OwnedFiles
) -> None:
    """Finish an upgrade that was stopped, if there is one."""
    for name in record.unfinished():
        record.remove(name)
    plan = keeping.begun(record)
    if plan is not None:
        kept = keeping.read(record)
        upgrade = settling.Settling(
            workspace, kept, plan.rendering, leaving_out=_owned(kept, files)
        )
        _go_on(upgrade, kept, plan, record, stage)
    keeping.advance(record, stage)


def _go_on(
    files: settling.Settling,
    kept: keeping.Kept,
    plan: keeping.Plan,
    record: ground.Tree,
    stage: ground.Tree,
) -> ports.UpgradeReport:
    settled = files.settle(plan.hints)
    report = _report(kept, settled.changes)
    changed = {**plan.answers, "conflicts": settled.conflicts, "report": report}
    keeping.settle(record, changed, settled.older)
    keeping.advance(record, stage)
    return keeping.Kept(answers=changed).report()


def _report(kept: keeping.Kept, changes: Mapping[str, model.FileChange]) -> dict[str, object]:
    before = {key: kept.answers.get(key) or empty for key, empty in _VERSION_KEYS.items()}
    return {"before": before, "files": dict(changes)}


def _owned(kept: keeping.Kept, files: ports.OwnedFiles) -> frozenset[str]:
    """Return the paths that are ours, whichever template had them: nothing of ours is merged."""
    ours = {*files.plain, *files.secret}
    return frozenset(
        file.path
        for file in kept.rendering.files
        if file.path in ours or file.path.split("/")[0] == owned.KEYS
    )
