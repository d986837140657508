"""Claim a product's prefix in the bucket, with a mark that no product's key reaches.

Once the store has recorded the prefix as ours the store decides: what products write into the
bucket is never trusted as state. Releasing keeps the data and the mark, so that a namespace
used again does not inherit them.
"""

from __future__ import annotations

from datetime import datetime

from provisioner import errors, model, names, ports
from provisioner.steps import protocol

CLAIM, KEEP = "claim-prefix", "keep-prefix"


class PrefixStep:
    """Give a product `s3://<bucket>/<namespace>/`."""

    name = "prefix"
    optional = False

    def __init__(self, store: ports.ObjectStore, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Refuse a prefix that belongs to another product, or to none and is not empty."""
        if not _wanted(desired, record):
            return record
        owner = self._store.owner(record.namespace)
        if owner is None and not self._store.is_empty(names.prefix(record.namespace)):
            raise errors.NotOurs("the prefix holds objects that nobody owns")
        if owner not in (None, record.key.id):
            raise errors.NotOurs("the prefix belongs to another product", owner=owner)
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Claim the prefix once."""
        if not _wanted(desired, record):
            return ()
        where = f"s3://{self._bucket}/{names.prefix(record.namespace)}"
        return tuple(
            model.Action(step=self.name, verb=verb, subject=where) for verb in (CLAIM, KEEP)
        )

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Write the mark, then `.keep`; recorded only when both are there."""
        namespace = run.record.namespace
        if action.verb == CLAIM:
            run.effect("ensure-bucket")
            self._store.ensure_bucket()
            run.effect(CLAIM)
            self._store.claim(namespace, run.record.key.id)
        else:
            run.effect(KEEP)
            self._store.keep(names.prefix(namespace))
            run.save(prefix=True)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: time alone changes nothing here."""
        return None


def _wanted(desired: model.Desired, record: model.Record) -> bool:
    """Tell whether a prefix is still to be made."""
    active = desired.phase is model.Phase.ACTIVE
    return active and record.key.produces and not record.prefix
