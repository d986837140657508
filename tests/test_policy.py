from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from provisioner import errors, model, names
from provisioner.domain import policy
from provisioner.issuers import allowances
from tests import policy_evaluator

ACTIONS = (
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)


def grant(
    *prefixes: str, access: model.Access = model.Access.READ, bucket: str = "lake"
) -> model.Grant:
    return model.Grant(
        producer_id="6f1e2d3c-0000-4000-8000-000000000001",
        producer_namespace="orders",
        port_id="6f1e2d3c-0000-4000-8000-000000000002",
        port_namespace="daily",
        access=access,
        locations=tuple(model.Location(bucket=bucket, prefix=prefix) for prefix in prefixes),
    )


def write_grant(*prefixes: str, bucket: str = "lake") -> model.Grant:
    return grant(*prefixes, access=model.Access.WRITE, bucket=bucket)


def may(document: dict[str, Any], action: str, where: str, prefix: str | None = None) -> bool:
    return policy_evaluator.allowed(document, action, f"arn:aws:s3:::{where}", prefix=prefix)


def statement(document: dict[str, Any], sid: str) -> dict[str, Any]:
    (found,) = [each for each in document["Statement"] if each["Sid"] == sid]
    return dict(found)


def test_the_document_is_the_one_that_was_proven_on_a_real_engine() -> None:
    assert policy.document(bucket="lake", own=["sales/"], grants=[grant("orders/daily/")]) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Own",
                "Effect": "Allow",
                "Action": list(ACTIONS),
                "Resource": ["arn:aws:s3:::lake/sales/*"],
            },
            {
                "Sid": "Granted",
                "Effect": "Allow",
                "Action": ["s3:GetObject"],
                "Resource": ["arn:aws:s3:::lake/orders/daily/*"],
            },
            {
                "Sid": "List",
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": ["arn:aws:s3:::lake"],
                "Condition": {"StringLike": {"s3:prefix": ["orders/daily/*", "sales/*"]}},
            },
            {
                "Sid": "Loc",
                "Effect": "Allow",
                "Action": ["s3:GetBucketLocation"],
                "Resource": ["arn:aws:s3:::lake"],
            },
        ],
    }


@pytest.mark.parametrize(
    ("action", "where", "prefix", "allowed"),
    [
        ("s3:PutObject", "lake/sales/x", None, True),
        ("s3:GetObject", "lake/orders/daily/x", None, True),
        ("s3:PutObject", "lake/orders/daily/x", None, False),
        ("s3:GetObject", "lake/orders/hourly/x", None, False),
        ("s3:GetObject", "lake/sales-eu/x", None, False),
        ("s3:GetObject", "lake/sales", None, False),
        ("s3:GetObject", "lake/SALES/x", None, False),
        ("s3:GetObject", "other/sales/x", None, False),
        ("s3:GetObject", "lake/.provisioner/owners/sales.json", None, False),
        ("s3:PutObject", "lake/.provisioner/owners/sales.json", None, False),
        ("s3:PutObject", "shared/in/x", None, True),
        ("s3:PutObject", "lake/in/x", None, False),
        ("s3:ListBucket", "lake", "sales/", True),
        ("s3:ListBucket", "lake", "sales/deep/er", True),
        ("s3:ListBucket", "lake", "orders/daily/", True),
        ("s3:ListBucket", "shared", "in/", True),
        ("s3:ListBucket", "lake", "in/", False),
        ("s3:ListBucket", "shared", "sales/", False),
        ("s3:ListBucket", "lake", "sales", False),
        ("s3:ListBucket", "lake", "sales-eu/", False),
        ("s3:ListBucket", "lake", "orders/", False),
        ("s3:ListBucket", "lake", "", False),
        ("s3:ListBucket", "lake", None, False),
        ("s3:ListBucketVersions", "lake", "sales/", False),
        ("s3:ListAllMyBuckets", "*", None, False),
        ("s3:GetBucketLocation", "lake", None, True),
        ("s3:GetBucketLocation", "shared", None, True),
        ("s3:GetBucketLocation", "other", None, False),
        ("s3:DeleteObject", "lake", None, False),
        ("s3:DeleteObjectVersion", "lake/sales/x", None, False),
        ("s3:PutObjectAcl", "lake/sales/x", None, False),
        ("s3:PutObjectTagging", "lake/sales/x", None, False),
        ("s3:DeleteBucket", "lake", None, False),
        ("s3:PutBucketPolicy", "lake", None, False),
    ],
)
def test_a_document_opens_what_it_names_and_nothing_else(
    action: str, where: str, prefix: str | None, allowed: bool
) -> None:
    document = policy.document(
        bucket="lake",
        own=["sales/"],
        grants=[grant("orders/daily/"), write_grant("in/", bucket="shared")],
    )
    assert may(document, action, where, prefix) is allowed


@pytest.mark.parametrize("action", ACTIONS)
def test_a_write_grant_opens_what_an_own_prefix_does(action: str) -> None:
    document = policy.document(bucket="lake", own=["sales/"], grants=[write_grant("orders/d/")])
    assert may(document, action, "lake/orders/d/x")
    assert not may(document, action, "lake/orders/x")


def test_each_bucket_has_a_listing_of_its_own() -> None:
    document = policy.document(
        bucket="lake", own=["sales/"], grants=[grant("a/", bucket="aaa"), grant("z/", bucket="zzz")]
    )
    listed = {
        each["Resource"][0]: each["Condition"]["StringLike"]["s3:prefix"]
        for each in document["Statement"]
        if each["Action"] == ["s3:ListBucket"]
    }
    assert listed == {
        "arn:aws:s3:::lake": ["sales/*"],
        "arn:aws:s3:::aaa": ["a/*"],
        "arn:aws:s3:::zzz": ["z/*"],
    }
    assert [each["Sid"] for each in document["Statement"] if "List" in each["Sid"]] == [
        "List",
        "List2",
        "List3",
    ]


@pytest.mark.parametrize(
    ("grants", "readable", "writable"),
    [
        ([grant("o/"), grant("o/p/")], ["o/"], []),
        ([grant("o/p/"), grant("o/p/"), grant("o/")], ["o/"], []),
        ([write_grant("o/"), grant("o/p/")], [], ["o/"]),
        ([write_grant("o/p/"), grant("o/p/")], [], ["o/p/"]),
        ([grant("o/"), write_grant("o/p/")], ["o/"], ["o/p/"]),
        ([grant("sales/x/")], [], []),
        ([write_grant("sales/x/")], [], []),
        ([grant("o/"), grant("o-eu/")], ["o-eu/", "o/"], []),
    ],
)
def test_what_a_shorter_prefix_of_the_same_or_wider_access_covers_is_dropped(
    grants: list[model.Grant], readable: list[str], writable: list[str]
) -> None:
    document = policy.document(bucket="lake", own=["sales/"], grants=grants)
    found = {each["Sid"]: each["Resource"] for each in document["Statement"]}
    assert found.get("Granted", []) == [f"arn:aws:s3:::lake/{prefix}*" for prefix in readable]
    assert found.get("GrantedWrite", []) == [f"arn:aws:s3:::lake/{prefix}*" for prefix in writable]


def test_a_grant_in_another_bucket_is_not_covered_by_the_same_prefix_here() -> None:
    document = policy.document(bucket="lake", own=["a/"], grants=[grant("a/b/", bucket="other")])
    assert may(document, "s3:GetObject", "other/a/b/x")


def test_batch_delete_is_allowed_on_buckets_only_where_asked_for() -> None:
    given_ = {"bucket": "lake", "own": ["sales/"], "grants": [grant("o/", bucket="shared")]}
    plain = policy.document(**given_)  # type: ignore[arg-type]
    batch = policy.with_batch_delete(plain)
    assert not may(plain, "s3:DeleteObject", "lake")
    assert statement(batch, "Batch")["Resource"] == ["arn:aws:s3:::lake"]
    assert not may(batch, "s3:DeleteObject", "lake/orders/x")


def test_a_principal_without_prefix_and_grants_is_denied_everything() -> None:
    document = policy.document(bucket="lake", own=[], grants=[])
    assert document["Statement"] == [
        {"Sid": "Nothing", "Effect": "Deny", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}
    ]


def test_a_principal_without_a_prefix_reads_what_was_granted_and_writes_nothing() -> None:
    document = policy.document(bucket="lake", own=[], grants=[grant("orders/")])
    assert may(document, "s3:GetObject", "lake/orders/x")
    assert not any(may(document, action, "lake/orders/x") for action in ACTIONS[1:])


UNSAFE = [
    "sales",
    "",
    "/",
    "*/",
    "sa*/",
    "sales?/",
    "sales$/",
    "${aws:username}/",
    "../",
    "..",
    "sales/../hr/",
    "sales/./",
    "sales//x/",
    "/sales/",
    ".provisioner/",
    "sales/.provisioner/",
    "sales /",
    "sales\n/",
    "sales/\n",
    "s\u00e4les/",
    "sales%2f/",
    "sales\\/",
    'sales"/',
]


@pytest.mark.parametrize("prefix", UNSAFE)
def test_an_own_prefix_that_could_reach_beyond_itself_is_refused(prefix: str) -> None:
    with pytest.raises(errors.NameRejected) as caught:
        policy.document(bucket="lake", own=[prefix], grants=[])
    assert caught.value.attributes["prefix"] == ascii(prefix)


@pytest.mark.parametrize("prefix", [each for each in UNSAFE if each.endswith("/")])
@pytest.mark.parametrize("access", list(model.Access))
def test_a_granted_prefix_that_could_reach_beyond_itself_is_refused(
    prefix: str, access: model.Access
) -> None:
    with pytest.raises(errors.NameRejected):
        policy.document(bucket="lake", own=["sales/"], grants=[grant(prefix, access=access)])


@pytest.mark.parametrize("bucket", ["*", "la*e", "lake/x", "", "${x}", "a:lake", "lake?", "x\n"])
def test_a_bucket_that_could_name_others_is_refused(bucket: str) -> None:
    with pytest.raises(errors.NameRejected):
        policy.document(bucket=bucket, own=["sales/"], grants=[])
    with pytest.raises(errors.NameRejected):
        policy.document(bucket="lake", own=["sales/"], grants=[grant("o/", bucket=bucket)])


def test_the_text_is_compact_and_reads_back_as_the_document() -> None:
    document = policy.document(bucket="lake", own=["sales/"], grants=[])
    written = policy.text(document)
    assert json.loads(written) == document
    assert not set(written) & set(" \n\t")


def test_a_plus_is_written_so_that_no_engine_reads_a_space() -> None:
    document = policy.document(bucket="lake", own=["a+b/"], grants=[])
    written = policy.text(document)
    assert json.loads(written) == document
    assert "+" not in written


namespaces = st.from_regex(r"[a-z0-9_][a-z0-9+=,.@_-]{0,12}", fullmatch=True)
places = st.builds(
    lambda bucket, parts: model.Location(bucket=bucket, prefix="".join(f"{p}/" for p in parts)),
    st.sampled_from(["lake", "shared"]),
    st.lists(namespaces, min_size=1, max_size=2),
)
granted = st.builds(
    lambda access, found: model.Grant(
        producer_id="p",
        producer_namespace="p",
        port_id="q",
        port_namespace="q",
        access=access,
        locations=tuple(found),
    ),
    st.sampled_from(list(model.Access)),
    st.lists(places, min_size=1, max_size=2),
)
keys = st.one_of(
    namespaces,
    st.builds("{}/{}".format, namespaces, st.text(max_size=6)),
    st.builds(".provisioner/owners/{}.json".format, namespaces),
)


def forms(document: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the document as it is written, in short, and cut into one policy a place."""
    pieces: dict[str, set[allowances.Allowance]] = {}
    for each in allowances.read(document):
        pieces.setdefault(each.opens, set()).add(each)
    cut = [allowances.write(piece) for piece in pieces.values()]
    return [[document], [allowances.compact(document)], cut]


@settings(deadline=None)
@given(
    own=st.lists(namespaces, max_size=3),
    grants=st.lists(granted, max_size=4),
    near=st.lists(keys, max_size=6),
)
@example(own=["a.b"], grants=[], near=["aXb/x"])
@example(own=["sales"], grants=[], near=["sales-eu/x", "sales", "sale"])
def test_no_document_reaches_a_key_outside_the_own_and_granted_prefixes(
    own: list[str], grants: list[model.Grant], near: list[str]
) -> None:
    prefixes = [names.prefix(namespace) for namespace in own]
    document = policy.document(bucket="lake", own=prefixes, grants=grants)
    writable = {("lake", prefix) for prefix in prefixes} | {
        (place.bucket, place.prefix)
        for each in grants
        if each.access is model.Access.WRITE
        for place in each.locations
    }
    readable = writable | {(p.bucket, p.prefix) for each in grants for p in each.locations}
    named = [prefix + tail for _, prefix in readable for tail in ("", "x", "../x")]
    siblings = [prefix[:-1] + tail for _, prefix in readable for tail in ("", "-eu/x", "x/y")]
    for form in forms(document):
        for bucket in ("lake", "shared", "third"):
            for key in {*near, *named, *siblings, "", "/", ".provisioner/owners/x.json"}:
                read = any(bucket == b and key.startswith(prefix) for b, prefix in readable)
                write = any(bucket == b and key.startswith(prefix) for b, prefix in writable)
                where = f"{bucket}/{key}"
                assert any(may(each, "s3:GetObject", where) for each in form) is read
                assert any(may(each, "s3:PutObject", where) for each in form) is write
                assert any(may(each, "s3:DeleteObject", where) for each in form) is write
                assert any(may(each, "s3:ListBucket", bucket, key) for each in form) is read


@given(
    own=st.lists(namespaces, max_size=4),
    grants=st.lists(granted, max_size=4),
    seed=st.integers(min_value=0, max_value=99),
)
def test_the_digest_does_not_depend_on_the_order_of_what_is_given(
    own: list[str], grants: list[model.Grant], seed: int
) -> None:
    prefixes = [names.prefix(namespace) for namespace in own]
    one = policy.document(bucket="lake", own=prefixes, grants=grants)
    shuffled = random.Random(seed)
    shuffled.shuffle(prefixes)
    grants = list(grants)
    shuffled.shuffle(grants)
    other = policy.document(bucket="lake", own=prefixes, grants=grants)
    assert policy.digest(one) == policy.digest(other)


def test_the_digest_changes_with_what_is_open() -> None:
    one = policy.document(bucket="lake", own=["sales/"], grants=[])
    other = policy.document(bucket="lake", own=["sales/"], grants=[grant("orders/")])
    assert policy.digest(one) != policy.digest(other)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a/*", "a/", True),
        ("a/*", "a/b/c", True),
        ("a/*", "a", False),
        ("a?c", "abc", True),
        ("*b*", "abc", True),
        ("*b", "bab", True),
        ("a.b/*", "aXb/x", False),
        ("", "", True),
        ("*", "", True),
        ("a*b*c", "a-b-b", False),
    ],
)
def test_the_evaluator_matches_wildcards_literally_otherwise(
    pattern: str, text: str, expected: bool
) -> None:
    assert policy_evaluator.matches(pattern, text) is expected


def test_versions_may_be_read_wherever_objects_may_and_nowhere_else() -> None:
    plain = policy.document(bucket="lake", own=["sales/"], grants=[])
    versioned = policy.with_versions(plain)
    for before, after in zip(plain["Statement"], versioned["Statement"], strict=True):
        more = ["s3:GetObjectVersion"] if "s3:GetObject" in before["Action"] else []
        assert after == {**before, "Action": [*before["Action"], *more]}
    assert any("s3:GetObjectVersion" in each["Action"] for each in versioned["Statement"])
