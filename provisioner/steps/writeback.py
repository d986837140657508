"""Tell the portal what was made: the lifecycle, and a technical asset for the prefix."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from provisioner import errors, model, names, ports
from provisioner.steps import protocol

LIFECYCLE, ASSET = "set-lifecycle", "register-asset"


class LifecycleUnknown(errors.PermanentError):
    """Report a lifecycle that the portal does not have."""


class LifecycleStep:
    """Set the lifecycle once, when the product is provisioned; a person may change it after."""

    name = "lifecycle"
    optional = True

    def __init__(self, portal: ports.PortalWriter, *, lifecycle: str) -> None:
        self._portal = portal
        self._lifecycle = lifecycle

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record."""
        return record

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return the record: a person may change the lifecycle."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Set it once."""
        wanted = self._lifecycle and record.writeback.lifecycle != self._lifecycle
        if not _may_tell(desired, record) or not wanted:
            return ()
        return (model.Action(step=self.name, verb=LIFECYCLE, subject=self._lifecycle),)

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Tell the portal, then remember it."""
        run.effect(LIFECYCLE)
        if not self._portal.set_lifecycle(run.record.key, self._lifecycle):
            raise LifecycleUnknown(
                "the portal has no such lifecycle: see PROV_READY_LIFECYCLE",
                lifecycle=self._lifecycle,
            )
        told = dataclasses.replace(run.record.writeback, lifecycle=self._lifecycle)
        run.save(writeback=told)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: time alone changes nothing here."""
        return None


class AssetStep:
    """Keep an S3 technical asset for the whole prefix in the portal; it opens nothing."""

    name = "asset"
    optional = True

    def __init__(self, portal: ports.PortalWriter, *, bucket: str) -> None:
        self._portal = portal
        self._bucket = bucket

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Forget an asset that somebody deleted in the portal."""
        known = record.writeback.asset_id
        if not known or known in {asset.id for asset in desired.assets}:
            return record
        return dataclasses.replace(
            record, writeback=dataclasses.replace(record.writeback, asset_id="")
        )

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return the record: the portal is read in every run."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Register it if it is not there."""
        if not _may_tell(desired, record) or record.writeback.asset_id:
            return ()
        location = self._location(record)
        subject = f"s3://{location.bucket}/{location.prefix}"
        return (model.Action(step=self.name, verb=ASSET, subject=subject),)

    def _location(self, record: model.Record) -> model.Location:
        return model.Location(bucket=self._bucket, prefix=names.prefix(record.namespace))

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Find or make it, then remember its id."""
        run.effect(ASSET)
        asset_id = self._portal.register_asset(run.record.key, self._location(run.record))
        if asset_id is None:
            raise errors.PortalRejected("the portal has no S3 service to register the prefix with")
        run.save(writeback=dataclasses.replace(run.record.writeback, asset_id=asset_id))

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: time alone changes nothing here."""
        return None


def _may_tell(desired: model.Desired, record: model.Record) -> bool:
    """Tell whether the portal has a place for it: explorations have no lifecycle and no assets."""
    return desired.phase is model.Phase.ACTIVE and record.key.produces
