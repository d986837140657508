from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from provisioner import model
from provisioner.domain import freshness
from tests import builders as b
from tests import published

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def read(known: model.SeenPort, *, now: Any = b.NOW, **changes: Any) -> model.SeenPort:
    """Read a contract of a port, written just now unless it says otherwise."""
    contract = published.a_contract(**changes)
    return freshness.readable(known, contract, etag='"1"', modified_at=now, now=now)


SEEN = read(published.a_port())


def test_a_first_contract_is_fresh_and_begins_to_count() -> None:
    assert (SEEN.state, SEEN.version, SEEN.etag) == (model.PortState.FRESH, "1.0", '"1"')
    assert (SEEN.read_at, SEEN.changed_at, SEEN.rows_before) == (b.NOW, b.NOW, None)


@pytest.mark.parametrize(
    ("late", "state"), [(-1, model.PortState.FRESH), (1, model.PortState.STALE)]
)
def test_a_port_is_stale_after_twice_its_interval_and_a_grace(
    late: int, state: model.PortState
) -> None:
    age = 2 * DAY + freshness.GRACE + timedelta(seconds=late)
    published_at = b.NOW - HOUR  # as built
    later = freshness.unchanged(SEEN, now=published_at + age)
    assert later.state is state
    assert (later.changed_at == later.read_at) is (state is model.PortState.STALE)


def test_a_port_without_an_interval_is_never_stale() -> None:
    seen = read(published.a_port(), expected_every_seconds=None)
    assert freshness.unchanged(seen, now=b.NOW + 1000 * DAY).state is model.PortState.FRESH


def test_a_date_in_the_future_keeps_nothing_fresh() -> None:
    seen = read(published.a_port(), published_at=b.NOW + 9999 * DAY)
    assert seen.contract is not None
    assert seen.contract.published_at == b.NOW
    assert freshness.unchanged(seen, now=b.NOW + 3 * DAY).state is model.PortState.STALE


def test_where_the_engine_tells_no_date_the_present_is_the_latest() -> None:
    contract = published.a_contract(published_at=b.NOW + DAY)
    seen = freshness.readable(published.a_port(), contract, etag="", modified_at=None, now=b.NOW)
    assert seen.contract is not None
    assert seen.contract.published_at == b.NOW


@pytest.mark.parametrize(
    ("rows", "state"),
    [(50, model.PortState.FRESH), (49, model.PortState.SHRUNKEN), (0, model.PortState.SHRUNKEN)],
)
def test_a_port_that_lost_more_than_half_its_rows_is_shrunken(
    rows: int, state: model.PortState
) -> None:
    fewer = read(SEEN, rows=rows, published_at=b.NOW)
    assert (fewer.state, fewer.rows_before) == (state, 100)
    assert freshness.unchanged(fewer, now=b.NOW + HOUR).state is state


def later(known: model.SeenPort, hours: int, **changes: Any) -> model.SeenPort:
    """Read what is published some hours after now."""
    moment = b.NOW + hours * HOUR
    return read(known, now=moment, published_at=moment, **changes)


def test_a_port_stays_shrunken_however_often_the_few_rows_are_published() -> None:
    seen = SEEN
    for hours, rows in enumerate((10, 10, 11, 49)):
        seen = later(seen, hours, rows=rows)
        assert (seen.state, seen.rows_before) == (model.PortState.SHRUNKEN, 100)
    seen = later(seen, 4, rows=50)
    assert (seen.state, seen.rows_before) == (model.PortState.FRESH, 100)
    seen = later(seen, 5, rows=30)
    assert (seen.state, seen.rows_before) == (model.PortState.FRESH, 50)


def test_rows_that_a_person_accepts_are_what_later_ones_are_compared_with() -> None:
    seen = later(later(SEEN, 0, rows=10), 1, rows=10, rows_accepted=True)
    assert (seen.state, seen.rows_before) == (model.PortState.FRESH, None)
    seen = later(seen, 2, rows=10)
    assert (seen.state, seen.rows_before) == (model.PortState.FRESH, 10)
    assert later(seen, 3, rows=4).state is model.PortState.SHRUNKEN


def test_the_same_publication_read_twice_is_compared_with_the_one_before_it() -> None:
    fewer = read(SEEN, rows=1, published_at=b.NOW)
    assert read(fewer, rows=1, published_at=b.NOW).state is model.PortState.SHRUNKEN


def test_what_is_unreadable_keeps_what_was_known_and_is_read_again() -> None:
    broken = freshness.unreadable(SEEN, "it is broken", now=b.NOW + HOUR)
    assert (broken.state, broken.why, broken.etag) == (
        model.PortState.UNREADABLE,
        "it is broken",
        "",
    )
    assert broken.contract == SEEN.contract
    assert freshness.unchanged(broken, now=b.NOW + 9 * DAY).state is model.PortState.UNREADABLE
    mended = read(broken, published_at=b.NOW)
    assert (mended.state, mended.why, mended.version) == (model.PortState.FRESH, "", "1.0")


def test_what_is_no_longer_published_has_no_columns_any_more() -> None:
    gone = freshness.unpublished(SEEN, now=b.NOW)
    assert (gone.state, gone.contract, gone.etag) == (model.PortState.UNPUBLISHED, None, "")
    assert freshness.unchanged(gone, now=b.NOW).state is model.PortState.UNPUBLISHED
    assert read(gone).version == "2.0"


DAY_COLUMN, REVENUE = published.a_contract().columns


@pytest.mark.parametrize(
    ("columns", "version"),
    [
        ((REVENUE, DAY_COLUMN), "1.0"),
        ((dataclasses.replace(DAY_COLUMN, description="new"), REVENUE), "1.0"),
        ((DAY_COLUMN, REVENUE, model.Column(name="more", type="DATE")), "1.1"),
        ((DAY_COLUMN,), "2.0"),
        ((DAY_COLUMN, dataclasses.replace(REVENUE, type="DOUBLE")), "2.0"),
        ((dataclasses.replace(DAY_COLUMN, nullable=True), REVENUE), "2.0"),
    ],
)
def test_the_version_says_whether_a_consumer_may_break(
    columns: tuple[model.Column, ...], version: str
) -> None:
    assert read(SEEN, columns=columns).version == version


def test_rows_and_hours_alone_are_told_nobody() -> None:
    later = read(SEEN, rows=101, published_at=b.NOW, snapshot="9")
    assert freshness.told(later) == freshness.told(SEEN)
    assert later.changed_at == SEEN.changed_at


def test_having_looked_at_nothing_is_told_nobody() -> None:
    new = published.a_port()
    silent = freshness.unpublished(new, now=b.NOW)
    assert freshness.told(new) == freshness.told(silent) == []
    assert (silent.read_at, silent.changed_at) == (b.NOW, None)
    assert freshness.told(freshness.unreadable(new, "why", now=b.NOW)) != []


@pytest.mark.parametrize(
    "changes",
    [
        {"published_at": b.NOW - DAY},
        {"columns": (DAY_COLUMN,)},
        {"dropped": 1},
        {"rows": 1, "published_at": b.NOW},
    ],
)
def test_columns_days_and_findings_are_told(changes: dict[str, Any]) -> None:
    later = read(SEEN, now=b.NOW + HOUR, **changes)
    assert freshness.told(later) != freshness.told(SEEN)
    assert later.changed_at == b.NOW + HOUR


def test_a_finding_is_a_condition_of_both_sides() -> None:
    stale = dataclasses.replace(SEEN, state=model.PortState.STALE)
    broken = freshness.unreadable(
        published.a_port(port_id=b.REFUNDS, port="refunds"), "it is broken", now=b.NOW
    )
    silent = freshness.unpublished(published.a_port(port_id=b.an_id(13)), now=b.NOW)
    seen = {each.port_id: each for each in (stale, broken, silent)}

    def found(key: model.Key) -> dict[str, str]:
        return {each.type: each.message for each in freshness.conditions(seen, key, b.NOW)}

    assert found(model.Key.product(b.SALES)) == {
        "OutputStale": "sales/orders",
        "OutputUnreadable": "sales/refunds (it is broken)",
    }
    assert found(model.Key.product(b.MARKETING)) == {
        "InputStale": "sales/orders",
        "InputUnreadable": "sales/refunds (it is broken)",
    }
