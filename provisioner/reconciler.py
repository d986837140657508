"""Reconcile one key: read everything again, plan, apply one idempotent action after another.

Never branches on which event came. What is found out on the way stands in the record, so a run
that stops anywhere is continued by the next. `observer` is the same without any effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from provisioner import errors, grants, model, names, obstacles, ports, reading, telemetry
from provisioner.steps import protocol

_log = telemetry.Log(__name__)


def no_checkpoint(effect: str) -> None:
    """Let every effect pass."""


class Reconciler:
    """Make what one product has equal to what the portal says it should have."""

    def __init__(
        self,
        *,
        readings: reading.Readings,
        records: ports.Records,
        links: ports.Links,
        asks: ports.Asks,
        queue: ports.Workqueue,
        steps: Sequence[protocol.Step],
        clock: ports.Clock,
        metrics: telemetry.Metrics,
        checkpoint: Callable[[str], None] = no_checkpoint,
    ) -> None:
        self._readings = readings
        self._records = records
        self._links = links
        self._asks = asks
        self._queue = queue
        self._steps = tuple(steps)
        self._clock = clock
        self._metrics = metrics
        self._checkpoint = checkpoint

    def reconcile(
        self, lease: model.Lease, guard: Callable[[], None] = lambda: None
    ) -> model.Outcome:
        """Reconcile the leased key; `guard` raises `LeaseLost` once the lease is no longer ours.

        Permanent errors are returned as conditions, temporary ones raised after they were noted.
        """

        def checkpoint(effect: str) -> None:
            guard()
            self._checkpoint(effect)

        try:
            view = self._readings.view(lease.key)
            # Before producers are looked up: either their prefix is seen, or we are by them.
            self._links.replace(lease.key, view.links if view else (), lease)
            wanted = self._readings.judged(lease.key, view)
        except (errors.TemporaryError, errors.PermanentError) as error:
            return self._blind(error, lease, checkpoint)
        record = self._readings.record(wanted)
        if record is None:
            return model.Outcome(key=lease.key, status="done", message="unknown to the portal")
        with self._metrics.reconcile_seconds.time():  # those that fail count too
            return self._run(self._begun(wanted, record, lease, checkpoint), lease)

    def _begun(
        self,
        wanted: model.Desired,
        record: model.Record,
        lease: model.Lease,
        checkpoint: Callable[[str], None],
    ) -> protocol.Run:
        return protocol.Run(
            desired=wanted,
            record=record,
            lease=lease,
            records=self._records,
            clock=self._clock,
            checkpoint=checkpoint,
        )

    def _blind(
        self,
        error: errors.TemporaryError | errors.PermanentError,
        lease: model.Lease,
        checkpoint: Callable[[str], None],
    ) -> model.Outcome:
        """Release nothing while the portal cannot be read, but end what the clock has ended."""
        record, now = self._records.load(lease.key), self._clock()
        if record is not None and record.released_at is None:
            wanted = model.Desired(
                key=lease.key,
                phase=record.phase,
                product=None,
                grants=grants.not_ended(record.grants, now),
                asks=self._readings.asked(lease.key),
            )
            run = self._begun(wanted, record, lease, checkpoint)
            # Without a digest the last run stopped in between: what is open is not known.
            unsure = not record.credentials.policy_digest
            unsure = unsure or bool(record.role.name and not record.role.policy_digest)
            if wanted.grants != record.grants or unsure or model.Ask.COMPROMISED in wanted.asks:
                try:
                    self._withdraw(run, [], [])
                except errors.PermanentError as refused:
                    _log.error("a grant that has ended stays open", reason=str(refused))
            if isinstance(error, errors.PermanentError):
                found = [obstacles.condition(error.condition, str(error), now), *record.conditions]
                run.save(
                    conditions=obstacles.since(found, record.conditions),
                    settled_digest="",
                    next_at=grants.next_end(wanted.grants, now),
                )
        if isinstance(error, errors.TemporaryError):
            raise error
        return model.Outcome(key=lease.key, status="condition", message=str(error))

    def _run(self, run: protocol.Run, lease: model.Lease) -> model.Outcome:
        """Apply every step; whatever stops it is noted as a condition first."""
        applied: list[str] = []
        conditions = list(run.desired.conditions)
        try:
            if run.desired.phase is not model.Phase.GONE:
                names.check_namespace(run.record.namespace)
            self._withdraw(run, applied, conditions)
            run.record = self._observe(run)
            # From here on a product that vanishes is found by resync: it is known.
            self._remember(run, lease)
            for step in protocol.in_order(self._steps, run.desired):
                owned = run.record.prefix
                self._apply(step, run, applied, conditions)
                if run.record.prefix and not owned:
                    self._tell_consumers(run.desired)
        except (errors.TemporaryError, errors.PermanentError) as error:
            conditions.append(obstacles.condition(error.condition, str(error), self._clock()))
            self._finish(run, conditions, settled=False)
            if isinstance(error, errors.TemporaryError):
                raise
            self._asks.forget(_answered(run), lease)
            return self._outcome(run, "condition", applied, str(error))
        self._finish(run, conditions, settled=True)
        self._asks.forget(_answered(run), lease)
        return self._outcome(run, "done", applied, "")

    def _tell_consumers(self, wanted: model.Desired) -> None:
        """Queue those whose grants waited for this product to have a prefix of its own."""
        consumers = {each for port in wanted.ports for each in self._links.consumers(port.id)}
        self._queue.touch(consumers, model.Priority.EVENT)

    def _withdraw(
        self, run: protocol.Run, applied: list[str], conditions: list[model.Condition]
    ) -> None:
        """Take away first what is no longer granted: nothing that fails may hold that up.

        Nor may what one step cannot take away hold up another; the first failure is raised.
        """
        failures: list[errors.ReconcileError] = []
        for step in protocol.in_order(self._steps, run.desired):
            actions = step.plan(run.desired, run.record, self._clock())
            try:
                self._carry_all_out(
                    step, [each for each in actions if each.urgent], run, applied, conditions
                )
            except (errors.TemporaryError, errors.PermanentError) as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _observe(self, run: protocol.Run) -> model.Record:
        record = run.record
        for step in protocol.in_order(self._steps, run.desired):
            record = step.observe(record, run.desired)
        return record

    def _remember(self, run: protocol.Run, lease: model.Lease) -> None:
        """Store the first record before the first effect."""
        if self._records.load(run.record.key) is None:
            self._records.save(run.record, lease)

    def _apply(
        self,
        step: protocol.Step,
        run: protocol.Run,
        applied: list[str],
        conditions: list[model.Condition],
    ) -> None:
        """Plan one step and carry its actions out."""
        with self._metrics.step_seconds.labels(step.name).time():
            actions = step.plan(run.desired, run.record, self._clock())
            self._carry_all_out(step, actions, run, applied, conditions)

    def _carry_all_out(
        self,
        step: protocol.Step,
        actions: Sequence[model.Action],
        run: protocol.Run,
        applied: list[str],
        conditions: list[model.Condition],
    ) -> None:
        """Carry actions out in order; an optional step's refusal is a condition."""
        for action in actions:
            try:
                self._carry_out(step, action, run, applied)
            except errors.PermanentError as error:
                if not step.optional:
                    raise
                conditions.append(obstacles.condition(error.condition, str(error), self._clock()))
                _log.warning("optional step refused", step=step.name, reason=str(error))
                return

    def _carry_out(
        self, step: protocol.Step, action: model.Action, run: protocol.Run, applied: list[str]
    ) -> None:
        step.apply(action, run)
        applied.append(f"{step.name}:{action.verb}")
        self._metrics.actions.labels(step.name, action.verb).inc()
        _log.info("action applied", step=step.name, verb=action.verb)

    def _finish(
        self, run: protocol.Run, conditions: Sequence[model.Condition], *, settled: bool
    ) -> None:
        """Store what the run found out; nothing is written where nothing changed.

        Without settling, the next resync looks again even if the portal says nothing new, and
        grants start and end on their day all the same.
        """
        wanted, record = run.desired, run.record
        product = wanted.product
        released = settled and wanted.phase is model.Phase.GONE
        if product and product.namespace != record.namespace and not released:
            conditions = [*conditions, obstacles.renamed(product, record, self._clock())]
        run.save(
            name=product.name if product else record.name,
            phase=wanted.phase,
            grants=wanted.grants if settled else record.grants,
            conditions=obstacles.since(conditions, record.conditions),
            settled_digest=wanted.digest if settled else "",
            next_at=self._next_at(wanted, record) if settled else wanted.next_change_at,
            released_at=(record.released_at or self._clock()) if released else None,
        )

    def _next_at(self, wanted: model.Desired, record: model.Record) -> datetime | None:
        times = [step.next_at(wanted, record) for step in self._steps]
        return min((at for at in (*times, wanted.next_change_at) if at), default=None)

    def _outcome(
        self, run: protocol.Run, status: str, applied: list[str], message: str
    ) -> model.Outcome:
        return model.Outcome(
            key=run.record.key,
            status=status,
            actions=tuple(applied),
            message=message,
            next_at=run.record.next_at,
        )


def _answered(run: protocol.Run) -> dict[model.Ask, datetime]:
    """Return what was asked and had its turn; a new key is asked for until there is one."""
    issued_at = run.record.credentials.issued_at
    renewed = {
        ask
        for ask in (model.Ask.ROTATE, model.Ask.COMPROMISED)
        if run.desired.phase is model.Phase.ACTIVE
        and (issued_at is None or issued_at < run.desired.asks.get(ask, issued_at))
    }
    return {ask: at for ask, at in run.desired.asks.items() if ask not in renewed}
