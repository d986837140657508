"""Push a workspace's first commit to a git remote, where there is one.

Nothing else waits for it: a remote that is away or refuses is a condition, and is asked again at
every run of the product, and by backoff without one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta

from provisioner import errors, model, ports
from provisioner.domain import backoff
from provisioner.steps import protocol

PUSH = "push"
_FIRST_SECONDS, _LONGEST_SECONDS = 60.0, 3600.0


class RepositoryStep:
    """Push what waits; the last step, for it may wait for somebody else's server."""

    name = "repository"
    optional = True

    def __init__(self, repositories: ports.Repositories, *, jitter: Callable[[], float]) -> None:
        self._repositories = repositories
        self._jitter = jitter

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Look whether anything waits: what made the workspace left it there."""
        unpushed = self._repositories.waits(record.key.id)
        if unpushed == record.repository.unpushed:
            return record
        state = dataclasses.replace(record.repository, unpushed=unpushed)
        return dataclasses.replace(record, repository=state)

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return the record: what becomes of the repository is its users' affair."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Push as long as something waits."""
        if desired.phase is not model.Phase.ACTIVE or not record.repository.unpushed:
            return ()
        return (model.Action(step=self.name, verb=PUSH, subject=record.namespace),)

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Push, and note when to try again where that failed."""
        run.effect(PUSH)
        try:
            self._repositories.push(
                run.record.namespace, run.record.key.id, heed=lambda: run.effect(PUSH)
            )
        except errors.RemoteRefused:
            attempts = run.record.repository.attempts
            seconds = backoff.backoff_seconds(
                attempts, base=_FIRST_SECONDS, cap=_LONGEST_SECONDS, jitter=self._jitter
            )
            run.save(
                repository=model.RepositoryState(
                    unpushed=True,
                    attempts=attempts + 1,
                    again_at=run.now() + timedelta(seconds=seconds),
                )
            )
            raise
        run.save(repository=model.RepositoryState())

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return when to try again; never for what is at rest, whose moment would pass for ever."""
        waits = record.repository.unpushed and desired.phase is model.Phase.ACTIVE
        return record.repository.again_at if waits else None
