"""Whatever is moved, the parts of a policy allow what the whole does, at every instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner import errors, model
from provisioner.domain import policy
from provisioner.issuers import allowances, arrangement
from tests import policy_evaluator

Held = dict[int, frozenset[allowances.Allowance]]
ACTIONS = ("s3:GetObject", "s3:PutObject")
LIMIT = 2048


def grant(
    prefix: str, access: model.Access = model.Access.READ, bucket: str = "lake"
) -> model.Grant:
    return model.Grant(
        producer_id="p",
        producer_namespace="p",
        port_id="q",
        port_namespace="q",
        access=access,
        locations=(model.Location(bucket=bucket, prefix=prefix),),
    )


def document(*grants: model.Grant, own: Sequence[str] = ("sales/",)) -> dict[str, Any]:
    return policy.document(bucket="lake", own=own, grants=grants)


def many(first: int, last: int, access: model.Access = model.Access.READ) -> list[model.Grant]:
    return [grant(f"producer-{number:04}/port/", access) for number in range(first, last)]


def apply(held: Mapping[int, frozenset[allowances.Allowance]], move: arrangement.Move) -> Held:
    """Do what the engine does at one move."""
    after = dict(held)
    if isinstance(move, arrangement.Remove):
        del after[move.place]
    else:
        after[move.place] = allowances.read(move.document)
    return after


def union(held: Mapping[int, frozenset[allowances.Allowance]]) -> frozenset[allowances.Allowance]:
    return frozenset(each for part in held.values() for each in part)


def change(held: Held, wanted: dict[str, Any], limit: int = LIMIT) -> tuple[Held, int]:
    """Make every move, hold each to its promises; return what is held and how much was written."""
    old, new = union(held), allowances.read(wanted)
    moves = arrangement.moves(held, wanted, inline_limit=limit)
    for move in moves:
        if isinstance(move, arrangement.Write):
            most = limit if move.place == arrangement.INLINE else arrangement.PART_LIMIT
            assert allowances.size(move.document) <= most
        held = apply(held, move)
        assert old & new <= union(held) <= old | new
        assert len(set(held) - {arrangement.INLINE}) <= arrangement.MOST_PARTS
    assert union(held) == new
    return held, len(moves)


def answers(documents: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[bool]:
    """Ask all kinds of requests of policies that add up."""

    def may(action: str, where: str, prefix: str | None = None) -> bool:
        resource = f"arn:aws:s3:::{where}"
        return any(policy_evaluator.allowed(d, action, resource, prefix=prefix) for d in documents)

    found = []
    for bucket in ("lake", "shared"):
        found += [may("s3:GetBucketLocation", bucket), may("s3:ListBucket", bucket)]
        for key in keys:
            found += [may(action, f"{bucket}/{key}") for action in ACTIONS]
            found.append(may("s3:ListBucket", bucket, key))
    return found


namespaces = st.from_regex(r"[a-z0-9_][a-z0-9+=,.@_-]{0,9}", fullmatch=True)
prefixes = st.builds(
    lambda parts: "".join(f"{part}/" for part in parts),
    st.lists(namespaces, min_size=1, max_size=2),
)
grants = st.builds(
    grant, prefixes, st.sampled_from(list(model.Access)), st.sampled_from(["lake", "shared"])
)
documents = st.builds(
    lambda own, found: document(*found, own=own),
    st.lists(namespaces.map("{}/".format), max_size=2),
    st.lists(grants, max_size=6),
)


def near(wanted: Mapping[str, Any]) -> list[str]:
    """Return keys at and just beside everything that a document opens."""
    resources = [a.resource for a in allowances.read(wanted) if "/" in a.resource]
    opened = [each.split("/", 1)[1].removesuffix("*") for each in resources]
    tails = ("", "x", "../x")
    siblings = [f"{each[:-1]}{tail}" for each in opened for tail in ("", "-eu/x")]
    return ["", "/", ".provisioner/x", *siblings, *(each + t for each in opened for t in tails)]


@given(wanted=documents)
@settings(max_examples=40, deadline=None)
def test_the_short_form_allows_exactly_what_the_long_one_does(wanted: dict[str, Any]) -> None:
    short = allowances.compact(wanted)
    assert answers([short], near(wanted)) == answers([wanted], near(wanted))
    assert allowances.read(short) == allowances.read(wanted)
    assert allowances.compact(short) == short
    assert allowances.size(short) < allowances.size(wanted)


@given(wanted=documents)
@settings(max_examples=40, deadline=None)
def test_the_parts_together_allow_exactly_what_the_whole_does(wanted: dict[str, Any]) -> None:
    if wanted["Statement"][0]["Sid"] == "Nothing":
        return
    moves = arrangement.moves({}, wanted, inline_limit=0)
    parts = [move.document for move in moves if isinstance(move, arrangement.Write)]
    assert answers(parts, near(wanted)) == answers([wanted], near(wanted))


@given(wanted=documents, cut=st.integers(min_value=0, max_value=30))
@settings(max_examples=40, deadline=None)
def test_no_piece_of_a_policy_reaches_beyond_the_whole(wanted: dict[str, Any], cut: int) -> None:
    pieces = sorted(allowances.read(wanted))
    some = allowances.write(pieces[cut % (len(pieces) + 1) :])
    both = zip(answers([some], near(wanted)), answers([wanted], near(wanted)), strict=True)
    if wanted["Statement"][0]["Sid"] != "Nothing":
        assert all(whole or not piece for piece, whole in both)


def test_the_short_form_is_the_one_that_is_meant() -> None:
    wanted = document(grant("in/", model.Access.WRITE), grant("orders/daily/"))
    assert allowances.compact(wanted)["Statement"] == [
        {
            "Effect": "Allow",
            "Action": [
                "s3:AbortMultipartUpload",
                "s3:DeleteObject",
                "s3:GetObject",
                "s3:ListMultipartUploadParts",
                "s3:PutObject",
            ],
            "Resource": ["arn:aws:s3:::lake/in/*", "arn:aws:s3:::lake/sales/*"],
        },
        {"Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": "arn:aws:s3:::lake"},
        {
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::lake/orders/daily/*",
        },
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": "arn:aws:s3:::lake",
            "Condition": {"StringLike": {"s3:prefix": ["in/*", "orders/daily/*", "sales/*"]}},
        },
    ]


FOREIGN: list[Any] = [
    {"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"},
    {"Effect": "Allow", "Action": "s3:*"},
    {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::lake",
        "Condition": {"StringLikeIfExists": {"s3:prefix": "sales/*"}},
    },
    {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::lake",
        "Condition": {"StringLike": {"s3:prefix": ["sales/*", ""]}},
    },
    {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::lake",
        "Condition": {"StringLike": {"s3:prefix": "sales/*", "aws:PrincipalTag/x": "y"}},
    },
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*", "Condition": "odd"},
    "no statement at all",
]


@pytest.mark.parametrize("statement", FOREIGN, ids=range(len(FOREIGN)))
def test_what_we_never_write_equals_only_itself(statement: Any) -> None:
    given_ = {"Version": "2012-10-17", "Statement": [*document()["Statement"], statement]}
    assert allowances.read(given_) != allowances.read(document())
    assert allowances.read(allowances.compact(given_)) == allowances.read(given_)
    assert allowances.read({"Statement": statement}) == allowances.read({"Statement": [statement]})


def test_a_text_that_is_no_policy_is_no_policy_of_ours() -> None:
    assert allowances.read("%7B") != allowances.read(document())
    assert allowances.read(None) != frozenset()


def test_what_fits_is_one_inline_policy_whatever_was_there() -> None:
    held, _ = change({}, document(*many(0, 99)))
    assert arrangement.INLINE not in held
    held, moves = change(held, document(*many(0, 9)))
    assert (set(held), moves) == ({arrangement.INLINE}, 3)


@pytest.mark.parametrize(("grants", "parts"), [(80, 1), (150, 2), (300, 4)])
def test_more_grants_take_as_many_parts_as_they_must(grants: int, parts: int) -> None:
    held, _ = change({}, document(*many(0, grants)))
    assert sorted(held) == list(range(1, parts + 1))


@pytest.mark.parametrize("grants", [945, 2000])
def test_what_does_not_fit_is_refused(grants: int) -> None:
    with pytest.raises(errors.PolicyTooLarge) as caught:
        arrangement.moves({}, document(*many(0, grants)), inline_limit=LIMIT)
    assert caught.value.attributes == {"parts": 10, "limit": 6144}


def test_one_more_grant_rewrites_one_part() -> None:
    held, _ = change({}, document(*many(0, 250)))
    for last in range(251, 262):
        _, moves = change(held, document(*many(0, last)))
        assert moves <= 1 + (last - 250)
    middle = [*many(0, 250), grant("producer-0100-b/port/")]
    assert change(held, document(*middle))[1] == 1


def test_one_grant_less_rewrites_one_part() -> None:
    held, _ = change({}, document(*many(0, 250)))
    assert change(held, document(*many(0, 120), *many(121, 250)))[1] == 1
    assert change(held, document(*many(0, 250)))[1] == 0


def test_a_grant_that_learns_to_write_keeps_what_it_had_meanwhile() -> None:
    held, _ = change({}, document(*many(0, 250)))
    both = [*many(0, 100), *many(100, 103, model.Access.WRITE), *many(103, 250)]
    after, moves = change(held, document(*both))
    assert moves <= 3
    assert change(after, document(*many(0, 250)))[1] <= 3


def test_parts_that_became_small_are_given_up() -> None:
    held, _ = change({}, document(*many(0, 300)))
    held, _ = change(held, document(*many(0, 300)[::4]))
    assert len(held) == 2


def test_part_by_part_a_policy_shrinks_back_to_an_inline_one() -> None:
    held: Held = {}
    for grants_ in (300, 200, 100, 60, 10, 60, 300, 0):
        held, _ = change(held, document(*many(0, grants_)))
    assert set(held) == {arrangement.INLINE}


def test_what_somebody_changed_by_hand_is_put_right() -> None:
    held, _ = change({}, document(*many(0, 150)))
    wide = allowances.read(
        {"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}}
    )
    held[1] |= wide
    held[2] |= held[1]
    held[7] = wide
    moves = arrangement.moves(held, document(*many(0, 150)), inline_limit=LIMIT)
    for move in moves:
        held = apply(held, move)
    assert union(held) == allowances.read(document(*many(0, 150)))
    assert 7 not in held


access_of = st.dictionaries(
    st.integers(min_value=0, max_value=140), st.sampled_from(list(model.Access)), max_size=120
)


@given(stories=st.lists(access_of, min_size=2, max_size=4), stop=st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_from_anything_to_anything_nothing_that_stays_blinks(
    stories: list[dict[int, model.Access]], stop: int
) -> None:
    held: Held = {}
    for story in stories:
        granted = [grant(f"producer-{number:04}/port/", how) for number, how in story.items()]
        wanted = document(*granted)
        for move in arrangement.moves(held, wanted, inline_limit=LIMIT)[:stop]:
            held = apply(held, move)  # a crash: what follows starts from what is there
        held, _ = change(held, wanted)
    assert change(held, wanted)[1] <= 1
