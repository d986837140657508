"""Say how long to wait before a key that failed is tried again, and one that ran runs once more."""

from __future__ import annotations

from collections.abc import Callable

_LARGEST_EXPONENT = 62
"""Far beyond any cap; a key that fails for months must not overflow a float."""
_REST_FACTOR = 25
"""A key that is touched without end takes this small a part of a worker, if its runs are short."""
LONGEST_REST_SECONDS = 0.25
"""Whoever waits for a product hardly notices."""


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


def rest_seconds(run_seconds: float) -> float:
    """Return how long a key rests that was touched during a run of so many seconds.

    Whatever it was touched for until then is one run, and the others have their turn. A clock that
    was set meanwhile makes no difference beyond that.
    """
    return min(max(run_seconds, 0.0) * _REST_FACTOR, LONGEST_REST_SECONDS)
