from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import errors, names

LEGAL_IN_THE_PORTAL = st.from_regex(r"[a-z0-9+=,.@_-]{1,64}", fullmatch=True)


@pytest.mark.parametrize(
    "good", ["sales", "sales-eu", "_hidden", "a", "a+b=c,d.e@f", "0", "a" * 64]
)
def test_a_plain_namespace_is_taken(good: str) -> None:
    assert names.check_namespace(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "",
        ".",
        "..",
        ".env",
        "-rf",
        "../up",
        "a/b",
        "a b",
        "A",
        "é",
        "a\n",
        "a\x00",
        "=x",
        "a" * 65,
        "*",
        "a$b",
        "a?",
    ],
)
def test_a_namespace_that_could_escape_is_refused(bad: str) -> None:
    with pytest.raises(errors.NameRejected):
        names.check_namespace(bad)


def test_a_refused_namespace_is_shown_escaped_and_cut_short() -> None:
    with pytest.raises(errors.NameRejected) as refused:
        names.check_namespace("\x1b[31m" + "x" * 500)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 250


@given(LEGAL_IN_THE_PORTAL)
def test_an_accepted_namespace_is_one_plain_path_segment(namespace: str) -> None:
    if not names.is_namespace(namespace):
        return
    assert "/" not in namespace
    assert namespace not in (".", "..")
    assert not namespace.startswith((".", "-"))
    assert names.prefix(namespace) == namespace + "/"


@given(LEGAL_IN_THE_PORTAL, st.uuids())
def test_a_principal_fits_every_engine(namespace: str, identity: object) -> None:
    name = names.principal(namespace, str(identity))
    assert re.fullmatch(r"dp-[a-z0-9-]{1,40}-[0-9a-f]{8}", name)


def test_products_with_the_same_slug_have_different_principals() -> None:
    one = names.principal("a.b", "11111111-0000-0000-0000-000000000000")
    other = names.principal("a_b", "22222222-0000-0000-0000-000000000000")
    assert one != other


@given(st.text(min_size=1, max_size=80))
def test_an_identifier_is_always_one(text: str) -> None:
    assert re.fullmatch(r"[a-z_][a-z0-9_]*", names.identifier(text))


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("sales/raw", True),
        ("sales/year=2026/x.parquet", True),
        ("sales//raw", False),
        ("sales/../hr", False),
        ("sales/.hidden", False),
        ("sales/*", False),
        ("sales/${aws:username}", False),
        ("/sales", False),
        ("", False),
    ],
)
def test_only_plain_asset_paths_are_plain(path: str, plain: bool) -> None:
    assert names.is_asset_path(path) is plain


@pytest.mark.parametrize(
    ("template", "namespace", "expected"),
    [
        ("{namespace}", "sales", "sales"),
        ("portal-{namespace}.dev", "a+b=c,d.e@f_g-h", "portal-a+b=c,d.e@f_g-h.dev"),
        ("{namespace}", "n" * 64, "n" * 64),
        ("x{namespace}", "n" * 63, "x" + "n" * 63),
    ],
)
def test_a_role_is_named_after_the_whole_namespace(
    template: str, namespace: str, expected: str
) -> None:
    assert names.role(template, namespace) == expected


@pytest.mark.parametrize(
    ("template", "namespace"), [("x{namespace}", "n" * 64), ("{namespace}", ".."), ("*", "sales")]
)
def test_a_name_that_iam_does_not_have_is_refused(template: str, namespace: str) -> None:
    with pytest.raises(errors.NameRejected):
        names.role(template, namespace)
