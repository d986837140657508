from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from provisioner import errors
from provisioner.domain import policy
from provisioner.issuers.madmin import mark, versions

PRODUCT = "6f1e2d3c-0000-4000-8000-000000000001"
DOCUMENT = policy.document(bucket="lake", own=["sales/"], grants=[])


def test_a_marked_policy_names_its_product_and_denies_administration() -> None:
    marked = mark.marked(DOCUMENT, PRODUCT)
    assert marked["Statement"][:-1] == DOCUMENT["Statement"]
    assert marked["Statement"][-1] == {
        "Sid": "DataProduct6f1e2d3c000040008000000000000001",
        "Effect": "Deny",
        "Action": ["admin:*"],
        "Resource": ["arn:aws:s3:::*"],
    }
    assert mark.product_of(marked) == PRODUCT
    assert mark.product_of(mark.nothing(PRODUCT)) == PRODUCT


@pytest.mark.parametrize("product", ["", "x", PRODUCT.upper(), PRODUCT.replace("-", "")])
def test_only_the_id_of_a_product_is_a_mark(product: str) -> None:
    with pytest.raises(errors.NameRejected):
        mark.marked(DOCUMENT, product)


@pytest.mark.parametrize(
    "document",
    [
        None,
        "text",
        [],
        {},
        {"Statement": None},
        {"Statement": {}},
        {"Statement": ["text", None]},
        {"Statement": [{}]},
        {"Statement": [{"Sid": 1}]},
        {"Statement": [{"Sid": "DataProduct6f1e"}]},
        {"Statement": [{"Sid": "xDataProduct6f1e2d3c000040008000000000000001"}]},
        DOCUMENT,
    ],
)
def test_a_policy_without_the_mark_is_nobodys_of_ours(document: Any) -> None:
    assert mark.product_of(document) is None


@pytest.mark.parametrize(
    "other",
    [
        {**DOCUMENT, "Statement": list(reversed(DOCUMENT["Statement"]))},
        {**DOCUMENT, "ID": ""},
        {
            **DOCUMENT,
            "Statement": [
                {**each, "Action": list(reversed(each["Action"])), "NotAction": []}
                for each in DOCUMENT["Statement"]
            ],
        },
        {
            **DOCUMENT,
            "Statement": [
                {**each, "Resource": each["Resource"][0], "Condition": each.get("Condition", {})}
                for each in DOCUMENT["Statement"]
            ],
        },
    ],
)
def test_what_engines_rewrite_in_a_policy_is_no_difference(other: dict[str, Any]) -> None:
    assert mark.same(DOCUMENT, other)


def changed(at: int, **members: object) -> dict[str, Any]:
    statements = list(DOCUMENT["Statement"])
    statements[at] = {**statements[at], **members}
    return {**DOCUMENT, "Statement": statements}


@pytest.mark.parametrize(
    "other",
    [
        None,
        {},
        {**DOCUMENT, "Statement": DOCUMENT["Statement"][1:]},
        {**DOCUMENT, "Statement": [*DOCUMENT["Statement"], *mark.nothing(PRODUCT)["Statement"]]},
        changed(0, Effect="Deny"),
        changed(0, Action=["s3:*"]),
        changed(0, Resource=["arn:aws:s3:::lake/*"]),
        changed(0, Sid="Mine"),
        changed(1, Condition={}),
        changed(1, Condition={"StringLike": {"s3:prefix": ["*"]}}),
        changed(0, NotResource=["arn:aws:s3:::lake/x"]),
    ],
)
def test_what_a_person_changes_in_a_policy_is_a_difference(other: Any) -> None:
    assert not mark.same(DOCUMENT, other)


def test_an_account_says_for_whom_and_when_it_was_made() -> None:
    now = datetime(2026, 1, 2, 4, 4, 5, 999999, tzinfo=timezone(timedelta(hours=1)))
    text = mark.description(PRODUCT, now)
    assert mark.described_product(text) == PRODUCT
    assert mark.made_at(text) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert len(text) <= 256


@pytest.mark.parametrize(
    "text",
    [
        *(None, 1, "", "made by hand", f"product={PRODUCT} made=yesterday"),
        f"product={PRODUCT} made=2026-13-02T03:04:05Z",
    ],
)
def test_an_account_that_does_not_say_so_has_no_time(text: object) -> None:
    assert mark.made_at(text) is None


@pytest.mark.parametrize("text", [None, 1, "", "product=x made=2026-01-02T03:04:05Z"])
def test_an_account_that_does_not_say_so_has_no_product(text: object) -> None:
    assert mark.described_product(text) is None


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("2025-10-15T17:29:55Z", "safe"),
        ("2025-10-14T23:59:59Z", "unsafe"),
        ("RELEASE.2025-09-07T16-13-09Z", "unsafe"),
        ("RELEASE.2025-10-15T17-29-55Z", "safe"),
        ("DEVELOPMENT.GOGET", "unknown"),
        ("DEVELOPMENT.2025-01-01T00-00-00Z", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_release_of_minio_is_judged_by_its_day(version: str, verdict: str) -> None:
    assert versions.of_minio(version) is versions.Verdict(verdict)


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("1.0.0-beta.12", "safe"),
        ("1.0.0-beta.11", "unsafe"),
        ("refs/tags/1.0.0-beta.12", "safe"),
        ("refs/tags/1.0.0-alpha.99", "unsafe"),
        ("1.0.0-rc.3", "safe"),
        ("v1.0.0", "safe"),
        ("0.9.9", "unsafe"),
        ("1.2.3-alpha.1", "safe"),
        ("@deadbeef", "unknown"),
        ("1.0.0-beta.12 ", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_release_of_rustfs_is_judged_by_its_number(version: str, verdict: str) -> None:
    assert versions.of_rustfs(version) is versions.Verdict(verdict)


@pytest.mark.parametrize("info", [[], "x", {}, {"servers": None}, {"servers": {}}])
def test_what_another_engine_says_is_no_description(info: object) -> None:
    assert not versions.is_info(info)


def test_each_release_of_several_servers_is_named_once() -> None:
    servers = [{"version": "b"}, {"version": "a"}, {"version": "b"}, "odd"]
    assert versions.named({"servers": servers}) == ("a", "b")
    assert versions.named(None) == ()
