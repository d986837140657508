from __future__ import annotations

import dataclasses
from datetime import timedelta

from provisioner import model
from provisioner.domain import obstacles
from tests import builders as b

FOUND = model.Finding(step="prefix", what="the mark was gone", subject="sales/", at=b.NOW)
REPAIRED = model.Finding(
    step="credentials",
    what="the policy was changed",
    subject="dp-sales",
    at=b.NOW - timedelta(hours=1),
    repaired=True,
)


def test_where_nothing_was_found_nothing_is_said() -> None:
    assert obstacles.drifted([]) == ()


def test_what_was_found_is_told_from_what_is_repaired_and_dated_by_the_first() -> None:
    (said,) = obstacles.drifted([FOUND, REPAIRED])
    assert said.type == "Drifted"
    assert said.since == REPAIRED.at
    assert said.message == (
        "found: the mark was gone (sales/); found and repaired: the policy was changed (dp-sales)"
    )


def test_a_condition_keeps_its_date_as_long_as_it_says_the_same() -> None:
    old = obstacles.condition("NotOurs", "the folder is not this product's", b.NOW)
    later = dataclasses.replace(old, since=b.NOW + timedelta(hours=1))
    assert obstacles.since([later, later], [old]) == (old,)
    changed = dataclasses.replace(later, message="the prefix is not this product's")
    assert obstacles.since([changed], [old]) == (changed,)
