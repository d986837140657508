"""Bring workspaces to the template as it is now because an operator asks: all, one, or a few first.

What is behind is found by comparing what the store knows with the template, so a call that was
interrupted is gone on with by the next one, which finds less to do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from provisioner import assembly, errors, model, operations, ports, wishes
from provisioner.loop import fleet
from provisioner.steps import template


@dataclass(frozen=True, kw_only=True)
class Berth:
    """One workspace and how it stands to the template."""

    record: model.Record
    standing: template.Standing


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What an upgrade would do to one workspace, or why it cannot be said."""

    record: model.Record
    report: ports.UpgradeReport | None
    refusal: str = ""


def berths(parts: assembly.Parts, name: str | None) -> tuple[Berth, ...]:
    """Return the workspace of a namespace or id, or all by namespace, and how each stands.

    Raise `TemplateError` where the template cannot be read.
    """
    digest = parts.template.workspaces.template_digest()
    found = operations.records(parts, name)
    return tuple(
        Berth(record=record, standing=parts.template.standing(record, digest))
        for record in found
        if fleet.lives(record)
    )


def as_json(found: Iterable[Berth]) -> Iterator[str]:
    """Write how workspaces stand to the template as JSON lines."""
    for each in found:
        state = each.record.workspace
        yield json.dumps(
            {
                "id": each.record.key.id,
                "kind": each.record.key.kind,
                "namespace": each.record.namespace,
                "standing": each.standing,
                "template_digest": state.template_digest,
                "template_name": state.template_name,
                "brought_at": state.brought_at and state.brought_at.isoformat(),
                "conflicts": sorted(state.conflicts),
            }
        )


def chosen(parts: assembly.Parts, name: str | None, *, canary: int | None) -> tuple[Berth, ...]:
    """Return what is to be upgraded: the one that is named, or all that are behind.

    As a canary only the first so many of these, by namespace: those that would end in conflicts
    too, for that is what a person wants to see before the others.
    """
    found = berths(parts, name)
    if name is not None:
        if not found:
            raise errors.PermanentError("this product has no workspace", name=ascii(name))
        return found
    behind = tuple(each for each in found if each.standing is template.Standing.BEHIND)
    return behind if canary is None else behind[:canary]


def foresee(
    parts: assembly.Parts, berths: Sequence[Berth], progress: operations.Progress
) -> tuple[Foreseen, ...]:
    """Say what an upgrade would do to each, and touch nothing."""
    keys = [each.record.key for each in berths]
    return tuple(_foreseen(parts, key) for key in progress(keys, "comparing", len(keys)))


def _foreseen(parts: assembly.Parts, key: model.Key) -> Foreseen:
    record = parts.store.records.load(key)
    assert record is not None  # noqa: S101 - it was listed, and records are never deleted
    try:
        report = parts.template.foresee(parts.readings.desired(key), record)
    except errors.ReconcileError as error:
        return Foreseen(record=record, report=None, refusal=str(error))
    return Foreseen(record=record, report=report)


def roll_out(
    parts: assembly.Parts,
    berths: Sequence[Berth],
    progress: operations.Progress,
    *,
    tell: Callable[[model.Outcome], None] = lambda outcome: None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[model.Outcome, ...]:
    """Upgrade and wait; what a template refuses ends as a condition. `Conflict` in observe mode."""
    keys = tuple(each.record.key for each in berths)
    outcomes = wishes.see_done(
        parts, keys, model.Ask.UPGRADE, progress, title="upgrading", tell=tell, sleep=sleep
    )
    return tuple(_judged(parts, outcome) for outcome in outcomes)


def _judged(parts: assembly.Parts, outcome: model.Outcome) -> model.Outcome:
    """Go by the workspace: a run may end well, or be given up, and leave it behind."""
    if outcome.status != "done":
        return outcome
    (found,) = berths(parts, outcome.key.id)
    if found.standing is not template.Standing.BEHIND:
        return outcome
    why = "; ".join(each.message for each in found.record.conditions)
    return model.Outcome(
        key=outcome.key,
        status="condition",
        actions=outcome.actions,
        message=why or "it is still behind: ask again",
    )
