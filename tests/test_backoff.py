from __future__ import annotations

import pytest

from provisioner.domain import backoff


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [(-1, 1.0), (0, 1.0), (1, 2.0), (2, 4.0), (8, 256.0), (9, 300.0), (10_000, 300.0)],
)
def test_the_delay_doubles_up_to_the_cap(attempts: int, expected: float) -> None:
    assert backoff.backoff_seconds(attempts, jitter=lambda: 1.0) == expected


def test_jitter_spreads_over_the_upper_half() -> None:
    assert backoff.backoff_seconds(3, jitter=lambda: 0.0) == 4.0
    assert backoff.backoff_seconds(3, jitter=lambda: 0.5) == 6.0


def test_base_and_cap_are_chosen_by_the_caller() -> None:
    delays = [backoff.backoff_seconds(n, base=0.5, cap=3.0, jitter=lambda: 1.0) for n in range(5)]
    assert delays == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("run", "expected"), [(-5.0, 0.0), (0.0, 0.0), (0.004, 0.1), (0.01, 0.25), (3600.0, 0.25)]
)
def test_a_rest_grows_with_the_run_and_stays_well_below_a_second(
    run: float, expected: float
) -> None:
    assert backoff.rest_seconds(run) == pytest.approx(expected)
