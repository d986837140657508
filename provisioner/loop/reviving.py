"""Compare a record that came out of a backup with the world, before anything else is done for it.

What follows from the look is decided in `revival`; here it is read: the marks of its prefixes, the
keys at the engine, its folder. Nothing is changed but the record. As long as one of them cannot
be read the record stays marked, and nothing of the product is touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from datetime import datetime, timedelta

from provisioner import errors, model, names, ports, telemetry
from provisioner.domain import revival
from provisioner.steps import protocol
from provisioner.steps import workspace as workspace_step

_LIST_FOR = timedelta(minutes=10)
"""How long a list of principals is good: it is asked for names of products that had none."""
_log = telemetry.Log(__name__)


class Reviving:
    """Make restored records true again."""

    def __init__(
        self,
        *,
        objects: ports.ObjectStore,
        folders: ports.Workspaces,
        issuer: ports.Issuer,
        clock: ports.Clock,
        grace_seconds: int,
    ) -> None:
        self._objects = objects
        self._folders = folders
        self._issuer = issuer
        self._clock = clock
        self._grace = timedelta(seconds=grace_seconds)
        self._listing = threading.Lock()
        self._named: dict[str, str] = {}
        self._named_until: datetime | None = None

    def revive(self, run: protocol.Run) -> None:
        """Compare the record with the world if it is marked, and unmark it."""
        record = run.record
        if not record.restored:
            return
        run.effect("revive")
        if record.released_at is None:
            record = self._with_prefixes(record, run.desired)
            record = self._with_keys(record)
            record = self._with_folder(record, run.desired)
        record = dataclasses.replace(record, restored=False)
        run.save(**{each.name: getattr(record, each.name) for each in dataclasses.fields(record)})
        _log.info("compared a restored record with the world", namespace=record.namespace)

    def _with_prefixes(self, record: model.Record, wanted: model.Desired) -> model.Record:
        """Read the marks; what is going needs none, and its keys must not wait for S3."""
        if not record.key.produces or wanted.phase is model.Phase.GONE:
            return record
        each = {record.namespace, *(former.namespace for former in record.former)}
        name = wanted.product.namespace if wanted.product else record.namespace
        owners = {
            namespace: self._objects.owner(namespace)
            for namespace in sorted(each | {name})
            if names.is_namespace(namespace)
        }
        until = self._clock() + self._grace
        return revival.prefixes(record, wanted=name, owners=owners, kept_until=until)

    def _with_keys(self, record: model.Record) -> model.Record:
        name = record.credentials.principal
        listed = self._keys(name, record)
        if not listed:
            name = self._principals().get(record.key.id, name)
            listed = self._keys(name, record)
        return revival.keys(record, principal=name, listed=listed)

    def _keys(self, principal: str, record: model.Record) -> tuple[str, ...]:
        """List a principal's keys, the oldest first."""
        if not principal:
            return ()
        named = model.Principal(name=principal, product_id=record.key.id)
        found = self._issuer.list_keys(named)
        return tuple(key.id for key in sorted(found, key=lambda key: str(key.created_at or "")))

    def _principals(self) -> dict[str, str]:
        """Return the principals at the engine by product; one list serves many products."""
        with self._listing:
            now = self._clock()
            if self._named_until is None or now >= self._named_until:
                self._named = {each.product_id: each.name for each in self._issuer.principals()}
                self._named_until = now + _LIST_FOR
            return self._named

    def _with_folder(self, record: model.Record, wanted: model.Desired) -> model.Record:
        lies_at = self._lies_at(record, wanted)
        named = self._folders.names_key(lies_at, record.key.id) if lies_at else ""
        if lies_at and record.workspace.template_digest:
            record = self._with_version(record, lies_at)
        return revival.folder(record, lies_at=lies_at, names_key=named)

    def _with_version(self, record: model.Record, lies_at: str) -> model.Record:
        """Read which version of the template the folder was brought to since, and its conflicts."""
        version = self._folders.version(record.key.id)
        if version is None:
            return record
        before, conflicts = record.workspace, record.workspace.conflicts
        with contextlib.suppress(errors.TemporaryError):  # it must hold up no key
            found = self._folders.conflicts(lies_at, record.key.id)
            conflicts = tuple(sorted((*found.unresolved, *found.resolved)))
        state = dataclasses.replace(
            workspace_step.brought_to(version, before, self._clock()),
            rendered=before.rendered,
            brought_at=before.brought_at,
            conflicts=conflicts,
        )
        return dataclasses.replace(record, workspace=state)

    def _lies_at(self, record: model.Record, wanted: model.Desired) -> str | None:
        """Look under the names that the product has or had, then under all that are accounted."""
        likely = [record.namespace, record.workspace.folder]
        likely += [wanted.product.namespace] if wanted.product else []
        likely += [each.namespace for each in record.former]
        for name in likely:
            if names.is_namespace(name) and self._folders.owner(name) == record.key.id:
                return name
        return next(iter(self._folders.lying(record.key.id)), None)
