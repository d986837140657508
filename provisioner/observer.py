"""Do what `PROV_MODE=observe` asks for: look at leased keys, and touch nothing."""

from __future__ import annotations

from collections.abc import Callable

from provisioner import model, reconciler


class Observer:
    """Stand in for the reconciler where `PROV_MODE=observe`: plan, and touch nothing."""

    def __init__(self, reconciles: reconciler.Reconciler) -> None:
        self._reconciler = reconciles

    def reconcile(
        self, lease: model.Lease, guard: Callable[[], None] = lambda: None
    ) -> model.Outcome:
        """Return what a reconcile would do."""
        seen = self._reconciler.preview(lease.key)
        return model.Outcome(
            key=lease.key,
            status="observed",
            actions=tuple(f"{action.step}:{action.verb}" for action in seen.actions),
        )
