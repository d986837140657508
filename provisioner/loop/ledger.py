"""Note beside a reconcile what is asked for later: since when access is there, where ports lie."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from provisioner import model, ports
from provisioner.domain import access_log
from provisioner.steps import protocol


class Ledger:
    """Keep the log of a consumer's access and the list of a producer's output ports."""

    def __init__(
        self,
        *,
        records: ports.Records,
        contracts: ports.Contracts,
        clock: ports.Clock,
        ports_seconds: int,
    ) -> None:
        self._records = records
        self._contracts = contracts
        self._clock = clock
        self._every = timedelta(seconds=ports_seconds)

    def note_access(self, run: protocol.Run) -> None:
        """Note which access is new and which has ended; an archived consumer's log rests.

        Before anything is taken away: that shortens the record's grants. It is stored with the
        next change of the record, which any change of grants is followed by.
        """
        if run.desired.phase is not model.Phase.ACTIVE:
            return
        before, after = run.record.grants, run.desired.grants
        granted = {grant.port_id for grant in after}
        lost = [grant for grant in before if grant.port_id not in granted]
        gone = {each.port_id: model.EndReason.DELETED for each in lost if self._is_gone(each)}
        log = access_log.followed(
            run.record.access,
            before=before,
            after=after,
            why=gone | dict(run.desired.refusals),
            names=dict(run.record.workspace.input_names),
            now=self._clock(),
        )
        run.record = dataclasses.replace(run.record, access=log)

    def _is_gone(self, grant: model.Grant) -> bool:
        """Tell whether the producer is; a portal that cascades lists no request any more."""
        producer = self._records.load(model.Key.product(grant.producer_id))
        return producer is None or producer.phase is model.Phase.GONE

    def note_ports(self, run: protocol.Run, lease: model.Lease) -> None:
        """Note where the output ports lie, to be looked at; those of an archived product rest."""
        wanted, record = run.desired, run.record
        if not record.key.produces or wanted.phase is model.Phase.ARCHIVED:
            return
        outputs = [
            model.SeenPort(
                port_id=port.id,
                producer=record.key,
                producer_namespace=record.namespace,
                port_namespace=port.namespace,
            )
            for port in wanted.ports
            if record.prefix
        ]
        self._contracts.register(
            record.key, outputs, lease, seen_before=self._clock() - self._every
        )
