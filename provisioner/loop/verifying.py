"""Look deep: read back what was made, since nobody tells us what is changed by hand.

A run looks deep because somebody asked, because it is the product's turn, or because the run
before it failed. What is found is written down first and then repaired by the ordinary plan; a
further look says whether that is so. A product's turn comes at a time of its own, from its id:
however many were made or upgraded at once, they are spread evenly over PROV_VERIFY_HOURS.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from provisioner import errors, model, ports, telemetry
from provisioner.steps import protocol

_LOOKS = 3
"""The first, one that should find nothing any more, and one where that found something new."""
_log = telemetry.Log(__name__)


class Verifying:
    """Say when a run looks deep, and look."""

    def __init__(
        self,
        *,
        hours: int,
        steps: Sequence[protocol.Step],
        clock: ports.Clock,
        metrics: telemetry.Metrics,
    ) -> None:
        self._seconds = hours * 3600
        self._steps = tuple(steps)
        self._clock = clock
        self._metrics = metrics

    def is_wanted(self, run: protocol.Run) -> bool:
        """Tell whether this run is to look deep; what has nothing yet has nothing to look at."""
        record = run.record
        if run.desired.phase is not model.Phase.ACTIVE or is_new(record):
            return False
        return record.failed or model.Ask.VERIFY in run.desired.asks or self._is_due(record)

    def _is_due(self, record: model.Record) -> bool:
        """Tell whether its turn has come; one never verified was given its turn by a run before."""
        if record.verified_at is not None:
            return self.turn(record.key, record.verified_at) <= self._clock()
        return record.next_at is not None and record.next_at <= self._clock()

    def turn(self, key: model.Key, after: datetime) -> datetime:
        """Return the first of the moments after one that are this key's own."""
        digest = hashlib.sha256(str(key).encode()).digest()
        # Whole seconds: a turn is never found to come after itself.
        offset = int.from_bytes(digest[:8]) % self._seconds
        passed = (int(after.timestamp()) - offset) // self._seconds
        return datetime.fromtimestamp((passed + 1) * self._seconds + offset, UTC)

    def looks(self, run: protocol.Run) -> Iterator[bool]:
        """Look, and yield before each time that the caller is to make what is missing.

        Yield whether anything was found. Raise what kept the last look from its end, or
        `Conflict` where what was made did not last.
        """
        run.save(drift=tuple(each for each in run.record.drift if not each.repaired))
        for turn in range(_LOOKS):
            found, failure = self._look(run)
            left = [each for each in found if not each.lasting]
            if (turn and not left) or turn == _LOOKS - 1:
                break
            yield bool(found)
            if not left:
                break
        if failure:
            raise failure
        if left:
            raise errors.Conflict("what was repaired is not as it was left", what=left[0].what)
        # Stored with all else that settles: a crash in between must not lose what nobody saw.
        drift = _confirmed(run.record.drift, found)
        run.record = dataclasses.replace(run.record, drift=drift)

    def _look(
        self, run: protocol.Run
    ) -> tuple[tuple[model.Finding, ...], errors.ReconcileError | None]:
        """Let every step look, and write down what they found and what the record should say."""
        run.effect("verify")
        record, failure = run.record, None
        found: list[model.Finding] = []
        for step in self._steps:
            look = protocol.Look(step.name, self._clock())
            try:
                record = step.verify(record, run.desired, look)
            except (errors.TemporaryError, errors.PermanentError) as error:
                _log.warning("a step could not look", step=step.name, reason=str(error))
                # The others are repaired all the same; it is raised unless a later look succeeds.
                if not (step.optional and isinstance(error, errors.PermanentError)):
                    failure = failure or error
            else:
                found += look.found
        known = {_what(each) for each in run.record.drift}
        new = tuple(each for each in found if _what(each) not in known)
        for each in new:
            self._metrics.drift.labels(each.step).inc()
            _log.warning("drift found", step=each.step, what=each.what, subject=each.subject)
        corrected = {each.name: getattr(record, each.name) for each in dataclasses.fields(record)}
        run.save(**{**corrected, "drift": run.record.drift + new})
        return tuple(found), failure


def is_new(record: model.Record) -> bool:
    """Tell whether nothing bears the product's name yet: what is made now is proven by that."""
    return not (record.prefix or record.workspace.rendered or record.credentials.principal)


def _confirmed(
    drift: tuple[model.Finding, ...], left: Sequence[model.Finding]
) -> tuple[model.Finding, ...]:
    """Say of what is found no more that it is repaired; forget it where a person ended it."""
    still = {_what(each) for each in left}
    return tuple(
        dataclasses.replace(each, repaired=_what(each) not in still)
        for each in drift
        if _what(each) in still or not each.lasting
    )


def _what(finding: model.Finding) -> tuple[str, str, str]:
    return finding.step, finding.what, finding.subject
