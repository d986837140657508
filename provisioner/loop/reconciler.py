"""Reconcile one key: read everything again, plan, apply one idempotent action after another.

Never branches on which event came. What is found out on the way stands in the record, so a run
that stops anywhere is continued by the next. `observer` is the same without any effect.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime

from provisioner import errors, model, names, ports, reading, telemetry
from provisioner.domain import blind, obstacles
from provisioner.loop import applying, ledger, resync, reviving, verifying
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
        flags: ports.Flags,
        queue: ports.Workqueue,
        ledger: ledger.Ledger,
        steps: Sequence[protocol.Step],
        clock: ports.Clock,
        metrics: telemetry.Metrics,
        reviving: reviving.Reviving,
        verify_hours: int = 24,
        checkpoint: Callable[[str], None] = no_checkpoint,
    ) -> None:
        self._readings = readings
        self._records = records
        self._links = links
        self._asks = asks
        self._flags = flags
        self._queue = queue
        self._ledger = ledger
        self._steps = tuple(steps)
        self._applying = applying.Applying(steps, clock=clock, metrics=metrics)
        self._verifying = verifying.Verifying(
            hours=verify_hours, steps=steps, clock=clock, metrics=metrics
        )
        self._reviving = reviving
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
            if view is None:
                self._heed_guard(lease.key)
            # Before producers are looked up: either their prefix is seen, or we are by them.
            self._links.replace(lease.key, view.links if view else (), lease)
            wanted = self._readings.judged(lease.key, view)
        except (errors.TemporaryError, errors.PermanentError) as error:
            return self._blind(error, lease, checkpoint)
        record = self._readings.record(wanted)
        if record is None:
            self._asks.forget(wanted.asks, lease)
            return model.Outcome(key=lease.key, status="done", message="unknown to the portal")
        with self._metrics.reconcile_seconds.time():  # those that fail count too
            return self._run(self._begun(wanted, record, lease, checkpoint), lease)

    def _heed_guard(self, key: model.Key) -> None:
        """Raise `MassDeletion` where resync holds back releases and this would be one.

        Clocks and commands look at single products too: one by one an emptied portal would take
        what all at once it may not.
        """
        record = self._records.load(key)
        if record is not None and record.released_at is None:
            held_back = self._flags.get(resync.MASS_DELETION)
            if held_back is not None:
                raise errors.MassDeletion("held back until a person confirms", because=held_back)

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
        record = self._records.load(lease.key)
        if record is not None and record.released_at is None:
            wanted = blind.wanted(record, self._readings.asked(lease.key), self._clock())
            run = self._begun(wanted, record, lease, checkpoint)
            if blind.must_act(record, wanted):
                try:
                    if not record.restored:  # else nobody knows yet what has ended
                        self._ledger.note_access(run)
                    self._applying.withdraw(run, applying.Progress())
                except errors.PermanentError as refused:
                    _log.error("a grant that has ended stays open", reason=str(refused))
            if isinstance(error, errors.PermanentError):
                run.save(**blind.noted(error, run.record, wanted, self._clock()))
        if isinstance(error, errors.TemporaryError):
            raise error
        return model.Outcome(key=lease.key, status="condition", message=str(error))

    def _run(self, run: protocol.Run, lease: model.Lease) -> model.Outcome:
        """Apply every step; whatever stops it is noted as a condition first.

        A deep look comes after what must be taken away, and again until it finds nothing.
        """
        progress = applying.Progress(conditions=list(run.desired.conditions))
        deep = self._verifying.is_wanted(run)
        proves = deep or verifying.is_new(run.record)
        try:
            if run.desired.phase is not model.Phase.GONE:
                names.check_namespace(run.record.namespace)
            self._ledger.note_access(run)
            self._revive(run)
            self._applying.withdraw(run, progress)
            for found in self._verifying.looks(run) if deep else (False,):
                if found:
                    progress.conditions = list(run.desired.conditions)
                    self._applying.withdraw(run, progress)
                self._make(run, lease, progress)
        except (errors.TemporaryError, errors.PermanentError) as error:
            progress.conditions.append(
                obstacles.condition(error.condition, str(error), self._clock())
            )
            self._finish(run, progress.conditions, settled=False)
            if isinstance(error, errors.TemporaryError):
                raise
            self._asks.forget(_answered(run), lease)
            return self._outcome(run, "condition", progress.applied, str(error))
        self._finish(
            run, progress.conditions, settled=True, final=not progress.withheld, proven=proves
        )
        self._asks.forget(_answered(run), lease)
        return self._outcome(run, "done", progress.applied, "")

    def _revive(self, run: protocol.Run) -> None:
        """Compare what came out of a backup with the world before anything follows from it."""
        before = run.record
        self._reviving.revive(run)
        if before.restored and run.record.key.produces:
            self._tell_consumers(run.desired)

    def _make(self, run: protocol.Run, lease: model.Lease, progress: applying.Progress) -> None:
        """Observe, then plan and apply step by step."""
        run.record = self._observe(run)
        # From here on a product that vanishes is found by resync: it is known.
        self._remember(run, lease)
        for step in protocol.in_order(self._steps, run.desired):
            before = _open_prefixes(run.record)
            self._applying.apply(step, run, progress)
            if _open_prefixes(run.record) != before:
                self._tell_consumers(run.desired)
        self._ledger.note_ports(run, lease)

    def _tell_consumers(self, wanted: model.Desired) -> None:
        """Queue those whose grants follow the prefixes that this product has of its own."""
        consumers = {each for port in wanted.ports for each in self._links.consumers(port.id)}
        self._queue.touch(consumers, model.Priority.EVENT)

    def _observe(self, run: protocol.Run) -> model.Record:
        record = run.record
        for step in protocol.in_order(self._steps, run.desired):
            record = step.observe(record, run.desired)
        return record

    def _remember(self, run: protocol.Run, lease: model.Lease) -> None:
        """Store the first record before the first effect."""
        if self._records.load(run.record.key) is None:
            self._records.save(run.record, lease)

    def _finish(
        self,
        run: protocol.Run,
        conditions: Sequence[model.Condition],
        *,
        settled: bool,
        final: bool = True,
        proven: bool = False,
    ) -> None:
        """Store what the run found out; nothing is written where nothing changed.

        Without settling, or where that is not `final`, the next resync looks again even if the
        portal says nothing new; grants start and end on their day all the same.
        """
        wanted, product = run.desired, run.desired.product
        gone = wanted.phase is model.Phase.GONE
        released_at = run.record.released_at or (self._clock() if settled else None)
        record = dataclasses.replace(
            run.record,
            released_at=released_at if gone else None,
            purged_at=run.record.purged_at if gone else None,
            purging=run.record.purging and gone,
        )
        final = final and settled
        if product and product.namespace != record.namespace and not gone:
            conditions = [*conditions, obstacles.renamed(product, record, self._clock())]
            # Whatever is in the way may go without our hearing of it.
            final = final and wanted.phase is not model.Phase.ACTIVE
        conditions = [*conditions, *obstacles.drifted(record.drift)]
        verified_at = self._clock() if proven else record.verified_at
        run.save(
            name=product.name if product else record.name,
            phase=wanted.phase,
            grants=wanted.grants if settled else record.grants,
            conditions=obstacles.since(conditions, record.conditions),
            settled_digest=wanted.digest if final else "",
            failed=not settled,
            next_at=self._next_at(wanted, record, verified_at)
            if settled
            else wanted.next_change_at,
            verified_at=verified_at,
            released_at=record.released_at,
            purged_at=record.purged_at,
            purging=record.purging,
        )

    def _next_at(
        self, wanted: model.Desired, record: model.Record, verified_at: datetime | None
    ) -> datetime | None:
        times = [step.next_at(wanted, record) for step in self._steps]
        if wanted.phase is model.Phase.ACTIVE:
            times.append(self._verifying.turn(record.key, verified_at or self._clock()))
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


def _open_prefixes(record: model.Record) -> tuple[str, ...]:
    """Return the namespaces whose prefixes its consumers may be granted."""
    return record.namespaces if record.prefix else ()


def _answered(run: protocol.Run) -> dict[model.Ask, datetime]:
    """Return what was asked and had its turn; a new key is asked for until there is one."""
    held = run.record.credentials

    def waits(ask: model.Ask, asked_at: datetime) -> bool:
        renews = ask in (model.Ask.ROTATE, model.Ask.COMPROMISED)
        if not renews or run.desired.phase is not model.Phase.ACTIVE:
            return False
        old = held.issued_at is None or held.issued_at < asked_at
        return old or (ask is model.Ask.COMPROMISED and held.leak_at != asked_at)

    return {ask: at for ask, at in run.desired.asks.items() if not waits(ask, at)}
