"""Follow a product that the portal gives another namespace; what it wrote stays where it is.

    claim-new-prefix -> rename                  one save; from there the ordinary plan goes on:
                                                policy widened, workspace moved, `.env` published
    close-former                                the earlier prefix was found empty: an operator
                                                has moved the data; own policy and consumers' go
    free-former                                 no policy opens it any more: its mark goes

`RenameStep` is the beginning and stands before the credentials, `FormerStep` the end and stands
last. Where the new folder or prefix is somebody else's nothing changes: a condition, and all else
goes on under the old name.
"""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import datetime, timedelta

from provisioner import errors, model, names, ports
from provisioner.domain import policy
from provisioner.steps import protocol, scoping

CLAIM, KEEP, RENAME = "claim-new-prefix", "keep-new-prefix", "rename"
CLOSE, FREE = "close-former", "free-former"


class RenameStep:
    """Take the new namespace; close earlier ones that are empty and whose grace is over."""

    name = "rename"
    optional = True

    def __init__(
        self, store: ports.ObjectStore, workspaces: ports.Workspaces, *, grace_seconds: int
    ) -> None:
        self._store = store
        self._workspaces = workspaces
        self._grace = timedelta(seconds=grace_seconds)

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """See which earlier prefixes are empty; one that cannot be looked at now is not."""
        if desired.phase is not model.Phase.ACTIVE or not record.former:
            return record
        return dataclasses.replace(
            record,
            former=tuple(
                each if each.closed else dataclasses.replace(each, empty=self._is_empty(each))
                for each in record.former
            ),
        )

    def _is_empty(self, former: model.Former) -> bool:
        with contextlib.suppress(errors.TemporaryError, errors.PermanentError):
            return self._store.is_empty(names.prefix(former.namespace))
        return False

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return the record: earlier prefixes are looked at in every run."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Close what is empty, then take the name that the portal says."""
        product = desired.product
        if desired.phase is not model.Phase.ACTIVE or product is None or not _bears_name(record):
            return ()
        closing = [
            each.namespace
            for each in record.former
            if _is_over(each, now) and each.namespace != product.namespace
        ]
        renaming = (CLAIM, RENAME) if product.namespace != record.namespace else ()
        shown = errors.printable(product.namespace)
        return (
            *(model.Action(step=self.name, verb=CLOSE, subject=each) for each in closing),
            *(model.Action(step=self.name, verb=verb, subject=shown) for verb in renaming),
        )

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Carry out one of the three."""
        if action.verb == CLOSE:
            run.save(former=_changed(run.record, action.subject, closed=True))
        elif action.verb == CLAIM:
            self._claim(run, names.check_namespace(_wanted(run)))
        else:
            self._rename(run, _wanted(run))

    def _claim(self, run: protocol.Run, namespace: str) -> None:
        """Check folder and prefix of the new name, both, before either is touched."""
        product_id = run.record.key.id
        if self._workspaces.owner(namespace) not in (None, product_id):
            raise errors.NotOurs(
                "a folder that is not this product's has the new name: move it away",
                namespace=namespace,
            )
        if not run.record.key.produces:
            return
        self._check_prefix(namespace, product_id)
        if namespace not in {each.namespace for each in run.record.former}:
            # The intent: if nothing comes of it, the mark is taken back.
            left = model.Former(namespace=namespace, closed=True)
            run.save(former=(*run.record.former, left))
        run.effect(CLAIM)
        self._store.claim(namespace, product_id)
        run.effect(KEEP)
        self._store.keep(names.prefix(namespace))

    def _check_prefix(self, namespace: str, product_id: str) -> None:
        owner = self._store.owner(namespace)
        if owner is None and not self._store.is_empty(names.prefix(namespace)):
            raise errors.NotOurs(
                "the prefix of the new name holds objects that nobody owns: move them or adopt it",
                namespace=namespace,
            )
        if owner not in (None, product_id):
            raise errors.NotOurs(
                "the prefix of the new name belongs to another product: one that was renamed gives"
                " it up once its data are moved; of one that was deleted adopt or purge it",
                namespace=namespace,
                owner=owner,
            )

    def _rename(self, run: protocol.Run, namespace: str) -> None:
        """Change the name in one save; all that follows from it is found out from there."""
        record = run.record
        left = model.Former(namespace=record.namespace, kept_until=run.now() + self._grace)
        both = (namespace, record.namespace)
        former = tuple(each for each in record.former if each.namespace not in both)
        folder = self._lies_at(record)
        # Where a run stopped before there was a folder there is none to move.
        moves = folder != namespace and self._workspaces.owner(folder) == record.key.id
        run.save(
            namespace=namespace,
            former=(*former, left) if record.prefix else former,
            workspace=dataclasses.replace(record.workspace, folder=folder if moves else ""),
            writeback=dataclasses.replace(record.writeback, asset_id=""),
        )

    def _lies_at(self, record: model.Record) -> str:
        """Return where the folder lies: a move that was stopped may have been carried out."""
        before = record.workspace.folder
        moved = before and self._workspaces.owner(before) != record.key.id
        return record.namespace if moved else before or record.namespace

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return when the grace of an earlier prefix ends that was seen empty, while it lives."""
        if desired.phase is not model.Phase.ACTIVE:
            return None
        wanted = desired.product.namespace if desired.product else ""
        ends = [
            each.kept_until
            for each in record.former
            if each.empty and not each.closed and each.namespace != wanted
        ]
        return min((end for end in ends if end), default=None)


class FormerStep:
    """Give up an earlier prefix for good, once no policy opens it any more."""

    name = "former"
    optional = True

    def __init__(self, store: ports.ObjectStore, records: ports.Records, *, bucket: str) -> None:
        self._store = store
        self._records = records
        self._bucket = bucket

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Return the record: what `RenameStep` saw is in it."""
        return record

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Return the record: earlier prefixes are looked at in every run."""
        return record

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Free what is closed, unless the product is to have it again."""
        product = desired.product
        if desired.phase is not model.Phase.ACTIVE or product is None:
            return ()
        return tuple(
            model.Action(step=self.name, verb=FREE, subject=each.namespace)
            for each in record.former
            if each.closed and each.namespace != product.namespace
        )

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Take the mark away; come back while a consumer's policy still opens the prefix."""
        namespace, product_id = action.subject, run.record.key.id
        if self._store.owner(namespace) == product_id:
            prefix = names.prefix(namespace)
            if not self._store.is_empty(prefix):
                run.save(former=_changed(run.record, namespace, closed=False))
                raise errors.Conflict(
                    "objects appeared in an earlier prefix; it is opened again", delay_seconds=1.0
                )
            if self._is_open(prefix):
                raise errors.Conflict("a policy may still open a prefix that is to be given up")
            run.effect(FREE)
            self._store.disown(namespace, product_id)
        run.save(former=tuple(e for e in run.record.former if e.namespace != namespace))

    def _is_open(self, prefix: str) -> bool:
        """Tell whether any policy opens the prefix, or one that is being written may."""
        return any(self._may_open(record, prefix) for record in self._records.known())

    def _may_open(self, record: model.Record, prefix: str) -> bool:
        """Tell whether the principal's policy, or the role's, opens it as far as we know."""
        held, role = record.credentials, record.role
        unsure = bool(held.current or held.retiring) and not held.policy_digest
        unsure = unsure or (record.restored and record.released_at is None)
        if role.name and not unsure:
            written = (  # without grants where those did not fit
                scoping.document(record, grants, bucket=self._bucket)
                for grants in (record.grants, ())
            )
            unsure = role.policy_digest not in map(policy.digest, written)
        places = (place for grant in record.grants for place in grant.locations)
        return unsure or any(
            place.bucket == self._bucket and place.prefix.startswith(prefix) for place in places
        )

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: what is closed is freed by the same run, or its retry."""
        return None


def _bears_name(record: model.Record) -> bool:
    """Tell whether anything has the record's namespace; without, it follows the portal's."""
    return record.prefix if record.key.produces else record.workspace.rendered


def _wanted(run: protocol.Run) -> str:
    return run.desired.product.namespace if run.desired.product else run.record.namespace


def _is_over(former: model.Former, now: datetime) -> bool:
    """Tell whether an earlier prefix may be given up."""
    kept = former.kept_until is not None and now < former.kept_until
    return former.empty and not former.closed and not kept


def _changed(record: model.Record, namespace: str, *, closed: bool) -> tuple[model.Former, ...]:
    """Open or close one earlier prefix; whether it is empty is to be seen anew."""
    return tuple(
        dataclasses.replace(each, closed=closed, empty=False)
        if each.namespace == namespace
        else each
        for each in record.former
    )
