"""Read back what the engine holds of a principal: somebody may have changed it by hand.

What differs is corrected in the record alone; the plan that follows repairs it. Only what the
record is sure of is compared: where it is not, the plan writes anyway.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from provisioner import model, ports
from provisioner.steps import issuing, protocol, scoping


class Inspecting:
    """Compare principal, policy and keys with what the record says of them."""

    def __init__(
        self, issuer: ports.Issuer, issues: issuing.Issuing, scope: scoping.Scoping
    ) -> None:
        self._issuer = issuer
        self._issuing = issues
        self._scoping = scope

    def verify(self, record: model.Record, look: protocol.Look) -> model.Credentials:
        """Return the credentials as they are found."""
        held = record.credentials
        if held.current is None and held.pending is None:
            return held
        policy_held = self._scoping.is_held(record)
        if policy_held is False:
            look.report("the policy was changed, or the principal disabled or gone", held.principal)
            held = dataclasses.replace(held, policy_digest="")
        if held.pending is not None:
            return held  # what an intent left behind is settled by the run that goes on with it
        listed = {key.id: key for key in self._issuer.list_keys(protocol.principal(record))}
        doubted = self._doubted(record, listed, look, provable=policy_held is True)
        return dataclasses.replace(
            held,
            doubted=held.doubted or doubted,
            retiring=_retiring(held, listed, look),
        )

    def _doubted(
        self,
        record: model.Record,
        listed: Mapping[str, ports.IssuedKey],
        look: protocol.Look,
        *,
        provable: bool,
    ) -> bool:
        """Tell whether the current key is dead; it is used where its policy is as it should be."""
        held, key = record.credentials, record.credentials.current
        if key is None or held.doubted or self._is_settling(held, look.at):
            return False
        if key.id not in listed:
            look.report("the key in .env was gone", key.id)
            return True
        if not listed[key.id].active:
            look.report("the key in .env was disabled", key.id)
            return True
        if provable and not self._issuing.works(record, key):
            look.report("the key in .env did not work", key.id)
            return True
        return False

    def _is_settling(self, held: model.Credentials, now: datetime) -> bool:
        """Tell whether the engine may not know the key everywhere yet."""
        settle = timedelta(seconds=self._issuer.settle_seconds)
        return held.issued_at is not None and now < held.issued_at + settle


def _retiring(
    held: model.Credentials, listed: Mapping[str, ports.IssuedKey], look: protocol.Look
) -> tuple[model.Retiring, ...]:
    """Forget retiring keys that are gone, and let those retire that the store does not know.

    They live for a minute. But where the current key is gone an older store may have been brought
    back: `.env` may hold the newest of them, which then retires like any other key. Whatever
    somebody disabled dies now: writing the policy may enable it again.
    """
    known = {key.key_id for key in held.retiring} | {held.current.id if held.current else ""}
    disabled = [key for key in listed.values() if not key.active]
    strays = [key for key in listed.values() if key.id not in known]
    lost = held.current is not None and held.current.id not in listed
    spared = _newest([key for key in strays if key.active]) if lost else None
    for stray in strays:
        look.report("a key that the store does not know was found; it is let die", stray.id)
    ends = {key.key_id: key.delete_after for key in held.retiring if key.key_id in listed}
    ends |= {key.id: None if key == spared else _end(key, look.at) for key in strays}
    ends |= {key.id: look.at for key in disabled}
    return tuple(model.Retiring(key_id=key, delete_after=end) for key, end in ends.items())


def _newest(keys: Sequence[ports.IssuedKey]) -> ports.IssuedKey | None:
    return max(keys, key=lambda key: (str(key.created_at or ""), key.id), default=None)


def _end(key: ports.IssuedKey, now: datetime) -> datetime:
    """Return when a key that nobody knows has had its minute."""
    return now if key.created_at is None else min(key.created_at, now) + issuing.STRAY_AFTER
