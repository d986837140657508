"""Rotate keys because an operator asks; interrupted, the next call goes on where one stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

from provisioner import assembly, errors, model, operations, wishes


def chosen(parts: assembly.Parts, name: str | None) -> tuple[model.Key, ...]:
    """Return the product of a namespace or id, or all that have keys."""
    found = operations.records(parts, name)
    keys = tuple(record.key for record in found if _has_keys(record))
    if name is not None and not keys:
        raise errors.PermanentError("this product has no keys", name=ascii(name))
    return keys


def _has_keys(record: model.Record) -> bool:
    return record.phase is model.Phase.ACTIVE and record.released_at is None


def unfinished(
    parts: assembly.Parts, keys: tuple[model.Key, ...], *, compromised: bool
) -> tuple[model.Key, ...]:
    """Return those of the keys that an earlier call asked for and that are not done."""
    waiting = parts.store.asks.waiting(_wish(compromised=compromised))
    return tuple(key for key in keys if key in waiting)


def _wish(*, compromised: bool) -> model.Ask:
    return model.Ask.COMPROMISED if compromised else model.Ask.ROTATE


def rotate(
    parts: assembly.Parts,
    keys: tuple[model.Key, ...],
    progress: operations.Progress,
    *,
    compromised: bool,
    resume: bool = False,
    tell: Callable[[model.Outcome], None] = lambda outcome: None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[model.Outcome, ...]:
    """Rotate and wait; `resume` asks for nothing new. Raise `Conflict` in observe mode.

    `tell` hears once of each product that keeps the service trying, and why.
    """
    return wishes.see_done(
        parts,
        keys,
        _wish(compromised=compromised),
        progress,
        title="rotating",
        resume=resume,
        tell=tell,
        sleep=sleep,
    )
