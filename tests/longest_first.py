"""Let tests that take longest begin first, so that two workers end together.

With `--dist worksteal` the first worker begins at the beginning and the second in the middle, and
who has nothing left takes what comes last at the other: so the long ones are dealt out to both
beginnings. All others stay in the random order they have.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol, TypeVar

_LONGEST = (
    "tests/engine/test_crash_on_engines.py",
    "tests/acceptance/test_torture.py",
    "tests/acceptance/test_kill.py",
    "tests/engine/test_kill_on_engines.py",
    "tests/acceptance/test_replicas.py",
    "tests/engine/test_rotation_on_engines.py",
    "tests/acceptance/test_demo.py",
    "tests/acceptance/test_secrets.py",
    "tests/test_template_engines.py",
    "tests/acceptance/test_abuse.py",
    "tests/test_template_r.py",
    "tests/test_growth.py",
)
"""Files whose tests take ten seconds or more, the longest first."""


class Item(Protocol):
    """A test that was collected."""

    @property
    def nodeid(self) -> str: ...


_Collected = TypeVar("_Collected", bound=Item)


def arranged(items: Sequence[_Collected]) -> list[_Collected]:
    """Return the tests with the long ones at the beginning and in the middle.

    What one file does on one engine stays together: its tests share what was made for them.
    """
    units: dict[tuple[int, str], list[_Collected]] = {}
    others = []
    for item in items:
        file = item.nodeid.partition("::")[0]
        if file in _LONGEST:
            units.setdefault((_LONGEST.index(file), _engine(item)), []).append(item)
        else:
            others.append(item)
    first: list[_Collected] = []
    second: list[_Collected] = []
    halves = itertools.cycle((first, second, second, first))
    for key in sorted(units):
        next(halves).extend(units[key])
    middle = max(0, len(items) // 2 - len(first))
    return [*first, *others[:middle], *second, *others[middle:]]


def _engine(item: Item) -> str:
    """Return the engine by which a test is named, if there is one."""
    parameters = item.nodeid.partition("[")[2]
    return next((each for each in ("minio", "rgw") if parameters.startswith(each)), "")
