from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests import longest_first

ROOT = "tests/engine/test_crash_on_engines.py"
OTHERS = [f"tests/test_names.py::test_{number}" for number in range(10)]


@dataclass(frozen=True)
class Collected:
    """A test, by its name alone."""

    nodeid: str


def arranged(*nodeids: str) -> list[str]:
    return [each.nodeid for each in longest_first.arranged([Collected(each) for each in nodeids])]


def test_both_workers_begin_with_what_takes_long() -> None:
    rgw, minio = ([f"{ROOT}::test_a[{each}-{n}]" for n in range(2)] for each in ("rgw", "minio"))
    found = arranged(*OTHERS[:5], rgw[0], minio[0], *OTHERS[5:], minio[1], rgw[1])
    assert found == [*minio, *OTHERS[:5], *rgw, *OTHERS[5:]]


@pytest.mark.parametrize("number", range(6))
def test_nothing_is_lost_and_what_is_short_keeps_its_order(number: int) -> None:
    long = [f"{file}::test_a" for file in longest_first._LONGEST]
    found = arranged(*long, *OTHERS[:number])
    assert sorted(found) == sorted([*long, *OTHERS[:number]])
    assert [each for each in found if each in OTHERS] == OTHERS[:number]


def test_every_file_that_takes_long_is_there(pytestconfig: pytest.Config) -> None:
    missing = [
        each for each in longest_first._LONGEST if not (pytestconfig.rootpath / each).exists()
    ]
    assert missing == []
