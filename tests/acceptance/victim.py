"""Reconcile one product in a process of its own, and die by SIGKILL before its n-th effect.

Run as `python -m tests.acceptance.victim KEY N [WISH]`; N = 0 lives to the end and prints how many
effects there were. Settings come from the environment, as for the service; WISH is noted first, as
`provisioner rotate` does.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from provisioner import assembly, model, settings
from provisioner.loop import worker


def main() -> None:
    key, fatal = model.Key.product(sys.argv[1]), int(sys.argv[2])
    effects = 0

    def checkpoint(effect: str) -> None:
        nonlocal effects
        effects += 1
        if effects == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    parts = assembly.assemble(settings.load(os.environ, cwd=Path.cwd()), checkpoint=checkpoint)
    assembly.prepare(parts)
    parts.queue.reap(all_owners=True)
    parts.queue.touch([key], model.Priority.EVENT)
    for wish in sys.argv[3:]:
        parts.store.asks.ask([key], model.Ask(wish))
    duty = worker.Duty(
        queue=parts.queue,
        reconciler=parts.reconciler,
        portal=parts.portal,
        metrics=parts.metrics,
        clock=parts.clock,
    )
    while (lease := parts.queue.lease("victim")) is not None:
        worker.run_once(duty, lease, worker.Guard(lease, parts.clock))
    parts.close()
    print(effects)


if __name__ == "__main__":
    main()
