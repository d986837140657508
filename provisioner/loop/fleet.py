"""See which workspaces are at the template as it is now, which are behind, which have conflicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Protocol

from provisioner import errors, model, ports, telemetry
from provisioner.steps import template

_PAGE = 500
_log = telemetry.Log(__name__)


class Pages(Protocol):
    """Read all records without holding them all."""

    def page(self, *, limit: int, after: model.Key | None = None) -> tuple[model.Record, ...]:
        """Return records by key, those behind `after`."""


class Fleet:
    """Count workspaces by how they stand to the template, at most every so often."""

    def __init__(
        self,
        records: Pages,
        *,
        template: template.TemplateStep,
        clock: ports.Clock,
        every_seconds: float,
        metrics: telemetry.Metrics,
    ) -> None:
        self._records = records
        self._template = template
        self._clock = clock
        self._every = timedelta(seconds=every_seconds)
        self._metrics = metrics
        self._next_at: datetime | None = None

    def tick(self) -> None:
        """Count if it is time; a template that cannot be read leaves what was counted."""
        now = self._clock()
        if self._next_at is not None and now < self._next_at:
            return
        self._next_at = now + self._every
        try:
            digest = self._template.workspaces.template_digest()
        except errors.TemplateError as error:
            _log.warning("the template cannot be read", reason=str(error))
            return
        counted = Counter(self._standings(digest))
        for standing in template.Standing:
            self._metrics.workspaces.labels(standing.value).set(counted[standing])

    def _standings(self, digest: str) -> Iterator[template.Standing]:
        after: model.Key | None = None
        while page := self._records.page(limit=_PAGE, after=after):
            yield from (self._template.standing(each, digest) for each in page if lives(each))
            after = page[-1].key


def lives(record: model.Record) -> bool:
    """Tell whether a product has a workspace that follows templates."""
    return (
        record.released_at is None
        and record.phase is model.Phase.ACTIVE
        and record.workspace.rendered
    )
