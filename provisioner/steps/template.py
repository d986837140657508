"""Bring existing workspaces to the template as it is now, keeping what their users changed.

With PROV_TEMPLATE_UPDATES=auto a workspace follows by itself; otherwise, and at any time, when a
person asks. It stands near the end and is optional: a template that does not render, or a file
that changes all the time, holds up nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum

from provisioner import errors, model, ports
from provisioner.steps import protocol
from provisioner.steps import workspace as workspace_step

UPGRADE, TIDY = "upgrade", "tidy-conflicts"
_UNREADABLE = "unreadable"
_LOOK_EVERY = timedelta(seconds=1)
_UPGRADES_KEPT = 10
_FILES_KEPT = 100


class Standing(StrEnum):
    """How a workspace stands to the template as it is now."""

    CURRENT = "current"
    BEHIND = "behind"
    CONFLICTS = "conflicts"
    """It is at the template, and newer versions lie beside some of its files."""
    NONE = "none"
    """Its files are no template's: the folder was adopted."""


class TemplateStep:
    """Bring workspaces to new versions of the template."""

    name = "template"
    optional = True

    def __init__(self, workspaces: ports.Workspaces, within: workspace_step.WorkspaceStep) -> None:
        self.workspaces = workspaces
        self.within = within

    def follows(
        self, *, automatically: bool, clock: ports.Clock, look_every: timedelta = _LOOK_EVERY
    ) -> Callable[[], str]:
        """Return what tells the digest of the template that workspaces follow by themselves.

        A resync asks for each product: the folder is looked at once in a while only.
        """
        seen_at: datetime | None = None
        digest = ""

        def follow() -> str:
            nonlocal seen_at, digest
            now = clock()
            if seen_at is None or now - seen_at >= look_every:
                digest = self._digest()
                seen_at = now
            return digest

        return follow if automatically else lambda: ""

    def _digest(self) -> str:
        """Return the template's digest; each product says by itself that it cannot be read."""
        try:
            return self.workspaces.template_digest()
        except errors.TemplateError:
            return _UNREADABLE

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """See which conflicts somebody has dealt with; one that cannot be looked at stays."""
        state = record.workspace
        there = state.rendered and not state.folder and desired.phase is model.Phase.ACTIVE
        if not (there and state.conflicts):
            return record
        try:
            found = self.workspaces.conflicts(record.namespace, record.key.id)
        except errors.TemporaryError:  # it must hold up no key
            return record
        resolved = tuple(path for path in state.conflicts if path not in found.unresolved)
        state = dataclasses.replace(state, resolved=resolved)
        return dataclasses.replace(record, workspace=state)

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return what every run looks for: what users make of their files is no drift."""
        return self.observe(record, desired)

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Upgrade what is behind or asked for; take away what lies beside files needlessly."""
        state = record.workspace
        held = record.credentials.current is not None
        if desired.phase is not model.Phase.ACTIVE or not state.rendered or not held:
            return ()
        behind = desired.template and self.standing(record, desired.template) is Standing.BEHIND
        verbs = (TIDY,) if state.resolved else ()
        if behind or _is_asked(desired, state):
            verbs = (*verbs, UPGRADE)
        return tuple(
            model.Action(step=self.name, verb=verb, subject=record.namespace) for verb in verbs
        )

    def standing(self, record: model.Record, template_digest: str) -> Standing:
        """Tell how a workspace stands to a template."""
        state = record.workspace
        if not (state.rendered and state.template_digest):
            return Standing.NONE
        rendered = workspace_step.spec(record.key, record.namespace, None, self.within.around)
        wanted = workspace_step.rendered_digest(template_digest, rendered.rendered)
        if state.rendered_digest != wanted:
            return Standing.BEHIND
        return Standing.CONFLICTS if state.conflicts else Standing.CURRENT

    def foresee(self, desired: model.Desired, record: model.Record) -> ports.UpgradeReport:
        """Say what an upgrade would do now; nothing is touched."""
        return self.workspaces.foresee(*self._given(desired, record))

    def _given(
        self, desired: model.Desired, record: model.Record
    ) -> tuple[ports.WorkspaceSpec, ports.OwnedFiles]:
        key = record.credentials.current
        if key is None:
            raise errors.Conflict("the workspace is not finished yet")
        return self.within.spec(desired, record), self.within.files(desired, record, key)

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Carry out one of the two, as `WorkspaceStep` writes: nobody else does meanwhile."""
        record = run.record
        with self.workspaces.held(record.key.id):
            run.confirm()
            run.effect(action.verb)
            if action.verb == TIDY:
                self.workspaces.tidy(record.namespace, record.key.id)
                left = tuple(
                    path
                    for path in record.workspace.conflicts
                    if path not in record.workspace.resolved
                )
                state = dataclasses.replace(record.workspace, conflicts=left, resolved=())
            else:
                report = self.workspaces.upgrade(*self._given(run.desired, record))
                state = _noted(report, record.workspace, run.now())
            run.save(workspace=state)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: resync sees that the template is another."""
        return None


def _is_asked(desired: model.Desired, state: model.WorkspaceState) -> bool:
    asked_at = desired.asks.get(model.Ask.UPGRADE)
    return asked_at is not None and (state.brought_at is None or state.brought_at < asked_at)


def _noted(
    report: ports.UpgradeReport, state: model.WorkspaceState, now: datetime
) -> model.WorkspaceState:
    """Note where an upgrade led, and what it did to which file."""
    changes = report.changes
    upgrade = model.Upgrade(
        at=now,
        before=report.before.shown,
        after=report.after.shown,
        files=tuple(changes.items())[:_FILES_KEPT],
        changed=len(changes),
    )
    known = state.upgrades[:1] == (upgrade,)
    empty = not changes and upgrade.before == upgrade.after
    upgrades = state.upgrades if known or empty else (upgrade, *state.upgrades)
    return dataclasses.replace(
        workspace_step.brought_to(report.after, state, now),
        conflicts=report.conflicts,
        resolved=(),
        upgrades=upgrades[:_UPGRADES_KEPT],
    )
