"""Say what remains of a product's keys once nobody can open their secrets any more. Pure.

The keys live on at the engine, and `.env` holds one of them: that one must work until its
successor is published. So nothing is forgotten but secrets. The key that `.env` holds waits to be
replaced, undated, like any key whose successor is not out yet; the next reconcile issues that.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from provisioner import model

_AT_LEAST = timedelta(hours=1)


def without_secrets(record: model.Record, *, now: datetime, grace: timedelta) -> model.Record:
    """Return the record as a reconcile can go on from it, its keys known by id alone.

    A key that was replaced already gets its last day here: the one that would have dated it is
    among the forgotten, and engines that allow two keys would have no room for the next. Where
    a crash hid which of two keys `.env` got, the later one is dated too, at least an hour away.
    """
    held = record.credentials
    retiring = held.retiring
    if held.current is not None:
        retiring += (model.Retiring(key_id=held.current.id),)
    in_use = _in_use(record)
    until = now + max(grace, _AT_LEAST)
    dated = tuple(
        key
        if key.delete_after or key.key_id == in_use
        else dataclasses.replace(key, delete_after=until)
        for key in retiring
    )
    # An intent without a key: the one it had is nobody's by now, and its reconcile deletes it.
    pending = held.pending and dataclasses.replace(held.pending, key=None, made=False)
    # `issued_at` stays: it tells whether what retires is older than a leak that was reported.
    credentials = dataclasses.replace(held, current=None, pending=pending, retiring=dated)
    return dataclasses.replace(record, credentials=credentials, settled_digest="")


def _in_use(record: model.Record) -> str | None:
    """Return the id of the key that `.env` names, as far as we know."""
    held, published = record.credentials, record.workspace.published_key_id
    if any(key.key_id == published for key in held.retiring):
        return published
    return held.current.id if held.current else None
