"""Find the sealing keys, replace them, and go on without one that is lost.

The first key seals and all of them open, so a key is replaced in this order: put the new one in
front, restart, seal anew, drop the old one, restart. What is lost needs a person's word, because
then every product gets a new key.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from provisioner import errors, ports, seal, store, telemetry
from provisioner.settings import Settings

_log = telemetry.Log(__name__)


def source(settings: Settings, *, lost_key: bool = False) -> store.SealSource:
    """Seal with the keys that are set, or with the key file, made if nothing is sealed yet.

    With `lost_key` the file is made in any case.
    """
    path = settings.sealing_key_file
    if settings.sealing_keys or path is None:
        return seal.Seal(settings.sealing_keys)
    return lambda has_sealed: seal.load_or_create(path, may_create=lost_key or not has_sealed)


def warn(settings: Settings) -> None:
    """Say where others on this machine can read the keys."""
    path = settings.sealing_key_file
    if path is not None and seal.is_open_to_others(path):
        _log.warning("the file of sealing keys is open to others than its owner", expected="0600")


@dataclass(frozen=True, kw_only=True)
class Resealed:
    """What sealing anew came to."""

    renewed: int
    seals: store.Seals
    """As they are now, each row opened to see."""


def reseal(settings: Settings, *, clock: ports.Clock) -> Resealed:
    """Seal every stored secret with the first key, beside a running service or without one.

    May be stopped at any time and done again. Raise `PermanentError` where there is no store:
    to say that all is well would cost somebody the old key.
    """
    if not store.exists(settings.database_url):
        raise errors.PermanentError("there is no store to seal anew (PROV_DATABASE_URL)")
    opened = store.open_store(settings.database_url, source(settings), clock=clock)
    with contextlib.closing(opened):
        return Resealed(renewed=opened.sealed.renew(), seals=opened.seals())


def recover(settings: Settings, *, clock: ports.Clock) -> store.Store:
    """Open the store as the one that serves, and forget the secrets that no key opens.

    Their products are queued, and get new keys while the old ones go on working.
    """
    if settings.mode.value == "observe":
        raise errors.ConfigurationError(
            ("PROV_MODE: expects apply, where --lost-sealing-key is to make new keys",)
        )
    keys = source(settings, lost_key=True)
    opened = store.open_store(settings.database_url, keys, clock=clock, lost_key=True)
    try:
        _forget(opened, clock(), timedelta(seconds=settings.rotation_grace_seconds))
    except BaseException:
        opened.close()
        raise
    return opened


def _forget(opened: store.Store, now: datetime, grace: timedelta) -> None:
    forgotten = opened.sealed.forget(now=now, grace=grace)
    if not forgotten:
        _log.warning("every secret could be opened: start without --lost-sealing-key from now on")
        return
    _log.warning("secrets that no sealing key opens are forgotten", products=forgotten)
    left = opened.seals().unopened
    if left:
        _log.error("another service still seals with a key that is not here", products=left)
