"""Take over a folder or prefix of somebody who is gone, because an operator said so.

Only what is in the way of this product, under the name that the portal gives it. Nothing else of
a dead product is inherited: its grants and keys are gone. Done before anything is observed, since
observing refuses what is not ours.
"""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import datetime

from provisioner import errors, model, names, ports
from provisioner.steps import protocol
from provisioner.steps import workspace as workspace_step

ADOPT = "adopt"
_PREFIX, _FOLDER = "adopt-prefix", "adopt-folder"


class AdoptRefused(errors.PermanentError):
    """Report that what is to be adopted may still be somebody's."""


class AdoptStep:
    """Make a folder and a prefix this product's own where a person asked for it."""

    name = "adopt"
    optional = False

    def __init__(
        self,
        store: ports.ObjectStore,
        workspaces: ports.Workspaces,
        issuer: ports.Issuer,
        *,
        records: ports.Records,
        portal: ports.PortalReader,
    ) -> None:
        self._store = store
        self._workspaces = workspaces
        self._issuer = issuer
        self._records = records
        self._portal = portal

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record: what is in the way is looked at when it is adopted."""
        return record

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return the record: what was adopted is looked at as anything else of its own."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Adopt where that was asked for; twice is as good as once."""
        product = desired.product
        if model.Ask.ADOPT not in desired.asks or product is None:
            return ()
        if desired.phase is not model.Phase.ACTIVE or not names.is_namespace(product.namespace):
            return ()
        return (model.Action(step=self.name, verb=ADOPT, subject=product.namespace, urgent=True),)

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Look who has folder and prefix, refuse the living, take over the rest."""
        namespace, record = action.subject, run.record
        prefix, folder = self._prefix_owner(record, namespace), self._workspaces.owner(namespace)
        adopts_folder = folder not in (None, record.key.id)
        if adopts_folder and (record.workspace.folder or record.namespace) != namespace:
            raise AdoptRefused("the workspace is to move there: move that folder away instead")
        for owner in sorted({each for each in (prefix, folder) if each} - {record.key.id}):
            self._check_gone(owner)
        if prefix is not None:
            run.effect(_PREFIX)
            self._store.adopt(namespace, record.key.id)
        if adopts_folder:
            # First: its files are the users', and no template must count as rendered there.
            state = workspace_step.brought_to(None, record.workspace, run.now())
            run.save(
                workspace=dataclasses.replace(state, folder="", conflicts=(), resolved=()),
            )
            with self._workspaces.held(record.key.id):
                run.confirm()
                run.effect(_FOLDER)
                try:
                    self._workspaces.adopt(namespace, record.key.id)
                except errors.NotOurs:  # a link or a file: there is no workspace after all
                    run.save(workspace=record.workspace)
                    raise

    def _prefix_owner(self, record: model.Record, namespace: str) -> str | None:
        """Return who has a prefix that is in the way; "" for nobody, None where none is."""
        if not record.key.produces:
            return None
        owner = self._store.owner(namespace)
        if owner is None:
            return None if self._store.is_empty(names.prefix(namespace)) else ""
        return None if owner == record.key.id else owner

    def _check_gone(self, owner: str) -> None:
        """Raise `AdoptRefused` while the owner lives, has keys, or is being purged."""
        said = {"owner": owner}
        with contextlib.suppress(ValueError):
            for key in (model.Key(kind, owner) for kind in model.Kind):
                self._check_record(self._records.load(key), said)
            view = self._portal.view(model.Key.product(owner))
            if view is not None and view.product.status is not model.ProductStatus.DELETING:
                raise AdoptRefused("it belongs to a product that the portal has", **said)
        theirs = [each for each in self._issuer.principals() if each.product_id == owner]
        if any(self._issuer.list_keys(each) for each in theirs):
            raise AdoptRefused("it belongs to a product that still has keys", **said)

    @staticmethod
    def _check_record(record: model.Record | None, said: dict[str, str]) -> None:
        if record is not None and record.released_at is None:
            raise AdoptRefused("it belongs to a product that lives", **said)
        if record is not None and record.purging:
            raise AdoptRefused("it belongs to a product that is being purged", **said)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: only a person asks for it."""
        return None
