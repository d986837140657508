"""Look, and touch nothing: what `provisioner plan` prints and `PROV_MODE=observe` asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provisioner import errors, model, names, ports, reading
from provisioner.domain import obstacles, plan
from provisioner.steps import protocol


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a reconcile would do, and who would gain or lose which access."""

    desired: model.Desired
    record: model.Record
    actions: tuple[model.Action, ...]
    access: tuple[plan.AccessChange, ...]
    conditions: tuple[model.Condition, ...]


class Observer:
    """Plan by the portal and the store alone; stands in for the reconciler where asked to."""

    def __init__(
        self, readings: reading.Readings, *, steps: Sequence[protocol.Step], clock: ports.Clock
    ) -> None:
        self._readings = readings
        self._steps = tuple(steps)
        self._clock = clock

    def preview(self, key: model.Key) -> Preview:
        """Plan one product without any effect; one that is refused does not hold up the others."""
        try:
            return self._planned(key)
        except errors.PermanentError as error:
            unread = model.Desired(key=key, phase=model.Phase.GONE, product=None)
            return Preview(
                desired=unread,
                record=self._readings.record(unread) or _unknown(key),
                actions=(),
                access=(),
                conditions=(obstacles.condition(error.condition, str(error), self._clock()),),
            )

    def _planned(self, key: model.Key) -> Preview:
        wanted = self._readings.judged(key, self._readings.view(key), foreseeing=True)
        record = self._readings.record(wanted)
        conditions = list(wanted.conditions)
        conditions += obstacles.drifted(record.drift) if record else ()
        actions: list[model.Action] = []
        if record is None:
            record = _unknown(key)
        elif not names.is_namespace(record.namespace):
            message = "the namespace is not safe; nothing is touched"
            conditions.append(obstacles.condition("NameRejected", message, self._clock()))
        else:
            for step in protocol.in_order(self._steps, wanted):
                actions.extend(step.plan(wanted, record, self._clock()))
        return Preview(
            desired=wanted,
            record=record,
            actions=tuple(actions),
            access=plan.access_changes(record.grants, wanted.grants),
            conditions=tuple(conditions),
        )

    def reconcile(
        self, lease: model.Lease, guard: Callable[[], None] = lambda: None
    ) -> model.Outcome:
        """Return what a reconcile would do."""
        seen = self._planned(lease.key)
        return model.Outcome(
            key=lease.key,
            status="observed",
            actions=tuple(f"{action.step}:{action.verb}" for action in seen.actions),
        )


def _unknown(key: model.Key) -> model.Record:
    """Stand in for the record of what was never ours."""
    return model.Record(key=key, namespace="", phase=model.Phase.GONE)
