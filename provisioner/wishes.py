"""Note what a person wishes of products in the store, then see it done.

A wish outlives whoever asked. Beside a service its workers do the work and this only watches;
without one it is done here. Interrupted, what is left is done by the service, or by the next call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from provisioner import assembly, errors, model, operations

_POLL_SECONDS = 0.5
_LOOK_CLOSER_AFTER = 6
"""Polls without progress, after which it is looked who is in the way."""


def see_done(
    parts: assembly.Parts,
    keys: tuple[model.Key, ...],
    wish: model.Ask,
    progress: operations.Progress,
    *,
    title: str,
    resume: bool = False,
    tell: Callable[[model.Outcome], None] = lambda outcome: None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[model.Outcome, ...]:
    """Ask and wait; `resume` asks for nothing new. Raise `Conflict` in observe mode.

    `tell` hears once of each product that keeps the service trying, and why.
    """
    if parts.observes:
        raise errors.Conflict("PROV_MODE=observe touches nothing")
    before = parts.store.history.newest_outcome()
    if resume:
        parts.queue.touch(keys, model.Priority.EVENT)
    else:
        parts.store.asks.ask(keys, wish)
    if operations.serves(parts):
        return tuple(operations.work(parts, keys, progress, title=title))
    ended: dict[model.Key, model.Outcome] = {}
    for key in progress(_ended(parts, keys, wish, before, ended, tell, sleep), title, len(keys)):
        ended.setdefault(key, model.Outcome(key=key, status="done"))
    return tuple(ended[key] for key in keys)


def _ended(
    parts: assembly.Parts,
    keys: tuple[model.Key, ...],
    wish: model.Ask,
    before: int,
    failed: dict[model.Key, model.Outcome],
    tell: Callable[[model.Outcome], None],
    sleep: Callable[[float], None],
) -> Iterator[model.Key]:
    """Pass keys on as the service is done with them, those that it gives up on too."""
    waiting, told, idle = set(keys), set[model.Key](), 0
    while waiting:
        done = waiting - parts.store.asks.waiting(wish)
        if not done and idle >= _LOOK_CLOSER_AFTER:
            failed |= _last(parts, waiting, "condition", before)
            done, idle = waiting & failed.keys(), 0
            for outcome in _last(parts, waiting - told, "retry", before).values():
                told.add(outcome.key)
                tell(outcome)
        idle = 0 if done else idle + 1
        waiting -= done
        yield from sorted(done)
        if waiting:
            sleep(_POLL_SECONDS)


def _last(
    parts: assembly.Parts, keys: set[model.Key], status: str, before: int
) -> dict[model.Key, model.Outcome]:
    """Return how products ended that ended so: `condition` needs a person, `retry` does not.

    What had come of them before they were asked for is no answer.
    """
    found: dict[model.Key, model.Outcome] = {}
    for key in sorted(keys):
        for last in parts.store.history.outcomes(key, limit=1):
            if last["status"] == status and last["row_id"] > before:
                found[key] = model.Outcome(key=key, status=status, message=last["message"])
    return found
