"""Hand over or delete what a product left, because an operator asks for it.

Both are wishes in the store: done here, or by the service that runs on the same store.
"""

from __future__ import annotations

from collections.abc import Sequence

from provisioner import assembly, errors, model, operations
from provisioner.domain import obstacles


def heir(parts: assembly.Parts, name: str) -> model.Record:
    """Return the product of a namespace or id that something of somebody else's is in the way of.

    Raise `PermanentError` where there is none.
    """
    (record,) = operations.records(parts, name)
    if not obstacles.is_in_the_way(record):
        raise errors.PermanentError(
            "nothing of somebody else's is in this product's way", name=ascii(name)
        )
    return record


def dead(parts: assembly.Parts, name: str) -> model.Record:
    """Return the released product of an id, or of a namespace that it was the only one to leave.

    Raise `PermanentError` for one that lives, or that was purged already.
    """
    known = parts.store.records.known()
    named = [record for record in known if name in (record.key.id, *_left(record))]
    found = [record for record in named if obstacles.has_remains(record)]
    if len(found) > 1:
        ids = ", ".join(record.key.id for record in found)
        raise errors.PermanentError("several products left this: name one by id", ids=ids)
    if not found:
        why = "this product is not released" if named else "the store knows no such product"
        if any(record.purged_at for record in named):
            why = "this product was purged"
        raise errors.PermanentError(why, name=ascii(name))
    return found[0]


def _left(record: model.Record) -> Sequence[str]:
    """Return the namespaces that a product had at its end."""
    return (record.namespace, *(each.namespace for each in record.former))


def ask(
    parts: assembly.Parts, record: model.Record, wish: model.Ask, progress: operations.Progress
) -> tuple[model.Outcome, ...]:
    """Note a wish for one product; do it here unless a service does. `Conflict` in observe mode."""
    if parts.observes:
        raise errors.Conflict("PROV_MODE=observe touches nothing")
    parts.store.asks.ask([record.key], wish)
    if not operations.serves(parts):
        return (model.Outcome(key=record.key, status="queued"),)
    return tuple(operations.work(parts, (record.key,), progress, title=f"asked to {wish}"))
