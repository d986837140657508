"""Claim a product's prefix in the bucket, with a mark that no product's key reaches.

Once the store has recorded the prefix as ours the store decides: what products write into the
bucket is never trusted as state. Releasing keeps the data and the mark, so that a namespace
used again does not inherit them; from then on the mark decides, for the prefix may be adopted.
"""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import datetime

from provisioner import errors, model, names, ports
from provisioner.steps import protocol

CLAIM, KEEP, RELEASE = "claim-prefix", "keep-prefix", "release-prefix"
RESTORE = "restore-mark"


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
            raise errors.NotOurs("the prefix holds objects that nobody owns: see provisioner adopt")
        if owner not in (None, record.key.id):
            raise errors.NotOurs(
                "the prefix belongs to another product: see provisioner adopt and purge",
                owner=owner,
            )
        ours = (each for each in record.former if self._is_ours(each, record))
        return dataclasses.replace(record, former=tuple(ours))

    def _is_ours(self, former: model.Former, record: model.Record) -> bool:
        """Tell whether an earlier prefix is what it was, after a time in which it was released."""
        return former.closed or self._store.owner(former.namespace) == record.key.id

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Miss the mark and `.keep`; a mark that names another product is a person's to judge.

        The store decides whose the prefix is, so what somebody did to the mark takes nothing from
        its product; neither is the mark fought over with whoever else writes it.
        """
        if desired.phase is not model.Phase.ACTIVE or not record.prefix:
            return record
        prefix = names.prefix(record.namespace)
        owner, kept = self._store.owner(record.namespace), self._store.kept(prefix)
        if owner is None:
            look.report("the ownership mark of the prefix was gone", prefix)
        elif owner != record.key.id:
            look.report(
                "the ownership mark of the prefix names somebody else", prefix, lasting=True
            )
        if not kept:
            look.report("the .keep of the prefix was gone", prefix)
        return dataclasses.replace(record, marked=kept and owner is not None)

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Claim the prefix once, mark it again; let go of it when the product is gone."""
        gone, damaged = desired.phase is model.Phase.GONE, _damaged(desired, record)
        if not (_wanted(desired, record) or damaged or (gone and record.prefix)):
            return ()
        verbs = (RELEASE,) if gone else (RESTORE,) if damaged else (CLAIM, KEEP)
        where = f"s3://{self._bucket}/{names.prefix(record.namespace)}"
        return tuple(model.Action(step=self.name, verb=verb, subject=where) for verb in verbs)

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Write the mark, then `.keep`; recorded only when both are there."""
        namespace = run.record.namespace
        if action.verb == RELEASE:
            run.save(prefix=False)
        elif action.verb == RESTORE:
            self._restore(run)
        elif action.verb == CLAIM:
            run.effect("ensure-bucket")
            self._store.ensure_bucket()
            run.effect(CLAIM)
            self._store.claim(namespace, run.record.key.id)
        else:
            run.effect(KEEP)
            self._store.keep(names.prefix(namespace))
            run.save(prefix=True, marked=True)

    def _restore(self, run: protocol.Run) -> None:
        """Write again what is missing; whoever else has marked the prefix stays marked."""
        run.effect(RESTORE)
        self._store.ensure_bucket()
        with contextlib.suppress(errors.NotOurs):
            self._store.claim(run.record.namespace, run.record.key.id)
        self._store.keep(names.prefix(run.record.namespace))
        run.save(marked=True)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: time alone changes nothing here."""
        return None


def _wanted(desired: model.Desired, record: model.Record) -> bool:
    """Tell whether a prefix is still to be made."""
    active = desired.phase is model.Phase.ACTIVE
    return active and record.key.produces and not record.prefix


def _damaged(desired: model.Desired, record: model.Record) -> bool:
    """Tell whether a prefix that is ours lacks what marks it."""
    return desired.phase is model.Phase.ACTIVE and record.prefix and not record.marked
