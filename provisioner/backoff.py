"""Say how long to wait before a key that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable

_LARGEST_EXPONENT = 62
"""Far beyond any cap; a key that fails for months must not overflow a float."""


def backoff_seconds(
    attempts: int, *, base: float = 1.0, cap: float = 300.0, jitter: Callable[[], float]
) -> float:
    """Return the delay after `attempts` earlier failures in a row.

    It doubles from `base` up to `cap`; `jitter` (0 to 1) spreads it over its upper half, so that
    keys which failed together do not come back together.
    """
    exponent = min(max(attempts, 0), _LARGEST_EXPONENT)
    ceiling: float = min(cap, base * 2.0**exponent)
    return ceiling * (0.5 + 0.5 * jitter())
