"""Say how a record that came out of a backup is made true again. Pure.

A store that is brought back says what was so when the backup was made. Since then keys were
replaced and deleted, `.env` names a newer one, grants came and went, products were made, renamed
and deleted. So `mark` marks every record, and as long as one is marked nothing is done for its
product but this comparison: `reviving` looks at the world, and what follows from the look is
decided here. From there on the record is an ordinary one, and the ordinary plan goes on.

    the record says         and the world                     then the record says
    ----------------------  --------------------------------  ----------------------------------
    a current key           the engine lists it               the same: it is published again
                            it does not                       doubted: it is replaced at once
    any other key, an       the engine lists some other key,  it retires, without a last day: it
    intent, last days       known to the store or not         dies a grace after a key that is
                                                              known was published, never before
                            the engine does not list it       nothing: it is forgotten
    a principal, or none    the engine has it under another   the name that the engine has
                            name, by the product's id
    what `.env` names       a key of the product's            that one: where an engine has no
                                                              room it is not the one that goes
                            none, or anything else            nothing
    what we published       (never asked)                     nothing: it is written again
    a policy                (never asked)                     the same: the deep look compares it
    its prefix              its mark names the product        the same
                            no mark, and the portal's name    the same: it is marked again
                            no mark, and another name         not its own until it is claimed
                            its mark names another product    not its own: no policy opens it
    a name that is not      that prefix has the product's     renamed: the earlier prefix stays
    the portal's            mark already                      open where it is still marked
    earlier prefixes        their marks name the product      the same
                            they do not                       nothing: no policy opens them
    a folder                it lies under some name           there: it is moved, if need be
                            it is nowhere                     not rendered
    its template            what is kept beside the folder    that version, and its conflicts

A key is never taken for a stray by its age here, since all of them may be younger than the
backup. What is released stays as it is, for nothing of it lives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from provisioner import model

RESTORED_AT = "restored_at"
"""The flag that says when a store was brought back."""
ASKS = frozenset({model.Ask.COMPROMISED})
"""Wishes that a restore brings back: a leaked key must die, were it the second time. Others may
have been done since, and done twice they would cost a newer key its grace, or delete or take over
something that is somebody's by now."""
FLAGS = {"mass_deletion": "a backup was restored, and no resync has compared the portal since"}
"""Flags of `resync` that a restore sets or keeps; what a person confirmed was meant for its time.

Ports and producers queue single products, too: one by one they would be released before any resync
has counted how many the portal no longer lists. The first that succeeds decides.
"""
_STRANGERS_FOR = timedelta(days=7)


def mark(record: model.Record) -> model.Record:
    """Return the record as it comes out of a backup: nothing of it counts until it was compared.

    A resync queues it, not a timer: until then nothing can be done (see `FLAGS`). What is released
    waits for its purge as before.
    """
    return dataclasses.replace(
        record,
        restored=True,
        failed=True,
        settled_digest="",
        next_at=record.next_at if record.released_at else None,
    )


def may_be_older(restored_at: str | None, now: datetime) -> bool:
    """Tell whether a product that the store does not know may be older than a restore.

    Those that were made after the backup are found by the first resync that succeeds.
    """
    if restored_at is None:
        return False
    return now < datetime.fromisoformat(restored_at) + _STRANGERS_FOR


def keys(record: model.Record, *, principal: str, listed: Collection[str]) -> model.Record:
    """Return the record with the keys that the engine lists, the oldest first."""
    held = record.credentials
    current = held.current.id if held.current else None
    gone = current is not None and current not in listed
    credentials = dataclasses.replace(
        held,
        principal=principal,
        pending=None,
        retiring=tuple(model.Retiring(key_id=each) for each in listed if each != current),
        doubted=held.doubted or gone,
        policy_digest=held.policy_digest if principal == held.principal else "",
    )
    return dataclasses.replace(record, credentials=credentials)


def prefixes(
    record: model.Record,
    *,
    wanted: str,
    owners: Mapping[str, str | None],
    kept_until: datetime,
) -> model.Record:
    """Return the record with the prefixes whose marks name it; `owners` are those marks.

    `wanted` is the portal's name; an earlier prefix is kept at least until `kept_until`.
    """
    ours = {namespace for namespace, owner in owners.items() if owner == record.key.id}
    before = record.namespace
    moved = wanted != before and wanted in ours
    namespace = wanted if moved else before
    former = [
        each
        for each in record.former
        if each.namespace not in (namespace, before) and (each.closed or each.namespace in ours)
    ]
    if moved and before in ours:
        former.append(model.Former(namespace=before, kept_until=kept_until))
    unmarked = owners.get(namespace) is None and wanted == namespace
    return dataclasses.replace(
        record,
        namespace=namespace,
        former=tuple(former),
        prefix=namespace in ours or (record.prefix and unmarked),
        writeback=dataclasses.replace(record.writeback, asset_id="") if moved else record.writeback,
    )


def folder(record: model.Record, *, lies_at: str | None, names_key: str) -> model.Record:
    """Return the record with its folder where it lies, and the key that its `.env` names."""
    known = {each.key_id for each in record.credentials.retiring}
    if record.credentials.current:
        known.add(record.credentials.current.id)
    return dataclasses.replace(
        record,
        workspace=dataclasses.replace(
            record.workspace,
            rendered=record.workspace.rendered and lies_at is not None,
            folder="" if lies_at in (None, record.namespace) else lies_at,
            published_digest="",
            published_key_id=names_key if names_key in known else "",
        ),
    )
