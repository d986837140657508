"""Carry actions out, one after another: what takes something away first, then step by step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from provisioner import errors, model, ports, telemetry
from provisioner.domain import obstacles
from provisioner.steps import protocol

_log = telemetry.Log(__name__)


@dataclass(kw_only=True)
class Progress:
    """How far one run has come."""

    applied: list[str] = field(default_factory=list)
    """Actions carried out: `step:verb`."""
    conditions: list[model.Condition] = field(default_factory=list)
    withheld: bool = False
    """An optional step was refused to take something away: it is to be tried again."""


class Applying:
    """Have steps plan, and apply what they plan."""

    def __init__(
        self, steps: Sequence[protocol.Step], *, clock: ports.Clock, metrics: telemetry.Metrics
    ) -> None:
        self._steps = tuple(steps)
        self._clock = clock
        self._metrics = metrics

    def withdraw(self, run: protocol.Run, progress: Progress) -> None:
        """Take away first what is no longer granted: nothing that fails may hold that up.

        Backwards, so that keys die before the policies they would have had. What one step cannot
        take away does not hold up another; the first failure is raised.
        """
        failures: list[errors.ReconcileError] = []
        for step in reversed(self._steps):
            actions = step.plan(run.desired, run.record, self._clock())
            try:
                urgent = (each for each in actions if each.urgent)
                progress.withheld |= not self._carry_out(step, urgent, run, progress)
            except (errors.TemporaryError, errors.PermanentError) as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def apply(self, step: protocol.Step, run: protocol.Run, progress: Progress) -> None:
        """Plan one step and carry its actions out."""
        with self._metrics.step_seconds.labels(step.name).time():
            actions = step.plan(run.desired, run.record, self._clock())
            self._carry_out(step, actions, run, progress)

    def _carry_out(
        self,
        step: protocol.Step,
        actions: Iterable[model.Action],
        run: protocol.Run,
        progress: Progress,
    ) -> bool:
        """Carry actions out in order; an optional step's refusal is a condition, and False."""
        for action in actions:
            try:
                self._apply_one(step, action, run, progress)
            except errors.PermanentError as error:
                if not step.optional:
                    raise
                refused = obstacles.condition(error.condition, str(error), self._clock())
                progress.conditions.append(refused)
                _log.warning("optional step refused", step=step.name, reason=str(error))
                return False
        return True

    def _apply_one(
        self, step: protocol.Step, action: model.Action, run: protocol.Run, progress: Progress
    ) -> None:
        step.apply(action, run)
        progress.applied.append(f"{step.name}:{action.verb}")
        self._metrics.actions.labels(step.name, action.verb).inc()
        _log.info("action applied", step=step.name, verb=action.verb)
