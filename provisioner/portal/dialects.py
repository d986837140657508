"""Find out which API the portal speaks, and remember it for a while.

Every portal is taken for a modern one until its own router says that it has no such route; only
then is it asked, with an id that nobody has, whether it lacks the newer API and has the older
one. A portal that fails, refuses or is not there says nothing about that. What was found out is
asked again after some minutes and after any failure, because a portal may be upgraded meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from provisioner import errors, telemetry
from provisioner.portal import client, legacy, modern

Api = modern.ModernApi | legacy.LegacyApi

_ASK_AGAIN_SECONDS = 600.0

_log = telemetry.Log(__name__)
_T = TypeVar("_T")


class Dialects:
    """Put questions in the API that the portal has; `clock` counts seconds."""

    def __init__(
        self, *, modern: modern.ModernApi, legacy: legacy.LegacyApi, clock: Callable[[], float]
    ) -> None:
        self._modern = modern
        self._legacy = legacy
        self._clock = clock
        self._legacy_until: float | None = None

    def ask(self, question: Callable[[Api], _T]) -> _T:
        """Return the answer; raise `PortalUnavailable` where the portal has neither API."""
        api = self._remembered()
        try:
            return question(api)
        except client.NoSuchRoute:
            # Nothing was changed: whatever writes reads the product first.
            other = self._found_out()
            if other is None or other is api:
                raise
        except errors.PortalUnavailable:
            self._legacy_until = None
            raise
        return question(other)

    def _remembered(self) -> Api:
        if self._legacy_until is None:
            return self._modern
        if self._clock() < self._legacy_until:
            return self._legacy
        return self._found_out() or self._modern

    def _found_out(self) -> Api | None:
        """Ask the portal; None where it has neither API."""
        if self._modern.serves():
            self._legacy_until = None
            return self._modern
        if not self._legacy.serves():
            self._legacy_until = None
            return None
        if self._legacy_until is None:
            _log.info("the portal has only the API of release 0.4.2")
        self._legacy_until = self._clock() + _ASK_AGAIN_SECONDS
        return self._legacy
