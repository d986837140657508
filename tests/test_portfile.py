"""Whatever bytes a producer publishes, the answer is a contract or the reason why there is none."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from provisioner import model
from provisioner.domain import portfile
from tests import published

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_KEYS = sorted(published.a_document())


def outcome(body: bytes) -> model.Contract | str:
    """Return what came of it; anything else that is raised fails the test."""
    try:
        return portfile.parse(body, port="orders")
    except portfile.Unreadable as why:
        return str(why)


def reason(body: bytes, port: str = "orders") -> str:
    with pytest.raises(portfile.Unreadable) as caught:
        portfile.parse(body, port=port)
    return str(caught.value)


def test_a_file_as_the_template_publishes_it_is_read() -> None:
    assert portfile.parse(published.a_file(), port="orders") == published.a_contract()


@pytest.mark.parametrize("said", [{"team": [1, 2]}, 0.5, 1e300, [-1.5], 10**30, None])
def test_what_a_newer_template_says_besides_is_passed_over(said: Any) -> None:
    body = published.a_file(owner=said)
    assert portfile.parse(body, port="orders") == published.a_contract()


@hypothesis.given(st.binary(max_size=200))
@hypothesis.example(b'{"":""}')
def test_any_bytes_are_unreadable_by_a_sentence_of_ours(body: bytes) -> None:
    assert reason(body) in {
        "it is no JSON that we read",
        "it is no JSON object",
        "its version is none that we know",
    }


@hypothesis.given(st.sampled_from(_KEYS), _JSON)
def test_any_value_anywhere_is_read_or_refused_and_never_shown(key: str, value: Any) -> None:
    body = json.dumps(published.a_document(**{key: value})).encode("utf-8", "surrogatepass")
    found = outcome(body)
    if isinstance(found, str):
        assert found in {
            "it is no JSON that we read",
            "its version is none that we know",
            "it does not name the port that it lies in",
            *(f"{name} is missing or none that we read" for name in _KEYS),
        }
    else:
        assert_is_plain(found)


@hypothesis.given(st.lists(st.fixed_dictionaries({"name": st.text(), "type": st.text()}) | _JSON))
def test_columns_are_passed_on_or_counted(columns: list[Any]) -> None:
    found = outcome(published.a_file(columns=columns, grain=[]))
    if isinstance(found, str):
        assert found == "it is no JSON that we read"  # NaN or infinity stood in it
    else:
        assert len(found.columns) + found.dropped == len(columns)
        assert_is_plain(found)


def assert_is_plain(contract: model.Contract) -> None:
    """Nothing in it may steer, hide, quote or escape anything."""
    for column in contract.columns:
        assert portfile.is_column_name(column.name)
        assert portfile.is_type(column.type)
    texts = [contract.description, *(column.description for column in contract.columns)]
    for text in texts:
        assert len(text) <= 1000
        assert not {unicodedata.category(each) for each in text} & {"Cc", "Cf", "Cs", "Co", "Zl"}
    assert 0 <= contract.rows < 2**63


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"version": 1, "version": 1}',
        b'{"version": 1',
        b'{"rows": NaN}',
        b'{"rows": Infinity}',
    ],
    ids=lambda body: repr(body[:12] + str(len(body)).encode()),
)
def test_what_would_cost_or_mean_two_things_is_no_json(body: bytes) -> None:
    assert reason(body) == "it is no JSON that we read"


@pytest.mark.parametrize(
    "number",
    [
        "100.0",
        "1e2",
        "1e999",
        "9" * 21,
        "9" * 5_000,
        "1" + "0" * 200_000,
        "0." + "1" * 200_000,
    ],
    ids=lambda number: f"{number[:6]} {len(number)}",
)
@pytest.mark.parametrize("key", ["version", "rows", "expected_every_seconds"])
def test_a_fraction_or_what_is_too_long_is_no_number_of_ours(key: str, number: str) -> None:
    body = json.dumps(published.a_document(**{key: "here"})).replace('"here"', number).encode()
    assert reason(body) in {
        "its version is none that we know",
        f"{key} is missing or none that we read",
    }


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("gold.2024_sales", "gold.2024_sales"),
        ('gold."2024_sales"', "gold.2024_sales"),
        ('"warehouse"."gold"."orders"', "warehouse.gold.orders"),
        ("gold." + "a" * 64, "gold." + "a" * 64),
    ],
)
def test_the_model_of_any_port_that_the_portal_allows_is_read(said: str, read: str) -> None:
    assert portfile.parse(published.a_file(model=said), port="orders").model == read


@pytest.mark.parametrize(
    "said",
    ["gold." + "a" * 65, 'gold."a', 'gold.a"', 'gold."a b"', 'gold.""', "gold.", "a.b.c.d", "a-b"],
)
def test_what_is_no_name_of_a_model_is_not_read(said: str) -> None:
    assert reason(published.a_file(model=said)) == "model is missing or none that we read"


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"version"'])
def test_json_that_is_no_object_is_none_of_ours(body: bytes) -> None:
    assert reason(body) == "it is no JSON object"


def test_not_a_byte_more_than_allowed_is_looked_at() -> None:
    room = portfile.LIMIT_BYTES - len(published.a_file())
    assert portfile.parse(published.a_file() + b" " * room, port="orders").rows == 100
    assert reason(published.a_file() + b" " * (room + 1)) == portfile.TOO_LARGE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 2}, "its version is none that we know"),
        ({"version": True}, "its version is none that we know"),
        ({"port": "refunds"}, "it does not name the port that it lies in"),
        ({"model": "gold.orders; DROP TABLE x"}, "model is missing or none that we read"),
        ({"model": "gold.orders\n"}, "model is missing or none that we read"),
        ({"snapshot": "a" * 129}, "snapshot is missing or none that we read"),
        ({"rows": True}, "rows is missing or none that we read"),
        ({"rows": -1}, "rows is missing or none that we read"),
        ({"rows": 2**63}, "rows is missing or none that we read"),
        ({"published_at": "2026-11-21T11:00:00+01:00"}, "published_at is missing or none that"),
        ({"published_at": "٢٠٢٦-11-21T11:00:00Z"}, "published_at is missing or none that"),
        ({"published_at": "2026-02-30T11:00:00Z"}, "published_at is no date"),
        ({"published_at": "0000-01-01T00:00:00Z"}, "published_at is no date"),
        ({"expected_every_seconds": 0}, "expected_every_seconds is missing or none"),
        ({"description": None}, "description is missing or none that we read"),
        ({"columns": {}}, "columns is missing or none that we read"),
        ({"grain": "day"}, "grain is missing or none that we read"),
        ({"audits": None}, "audits is missing or none that we read"),
    ],
)
def test_a_wrong_shape_is_named_by_its_key(changes: dict[str, Any], why: str) -> None:
    assert reason(published.a_file(**changes)).startswith(why)


@pytest.mark.parametrize("key", _KEYS)
def test_every_key_is_needed(key: str) -> None:
    said = published.a_document()
    del said[key]
    assert reason(json.dumps(said).encode())


def test_an_interval_may_be_unknown() -> None:
    contract = portfile.parse(published.a_file(expected_every_seconds=None), port="orders")
    assert contract.expected_every_seconds is None


@pytest.mark.parametrize(
    "column",
    [
        {"name": "a b", "type": "DATE"},
        {"name": 'a"', "type": "DATE"},
        {"name": "a: !!python/object x", "type": "DATE"},
        {"name": "é", "type": "DATE"},
        {"name": "a\n", "type": "DATE"},
        {"name": "1a", "type": "DATE"},
        {"name": "a" * 64, "type": "DATE"},
        {"name": "a", "type": "date"},
        {"name": "a", "type": "DATE[][]"},
        {"name": "a", "type": "DATE[3]"},
        {"name": "a", "type": "DECIMAL(39,2)"},
        {"name": "a", "type": "DECIMAL(4,5)"},
        {"name": "a", "type": "DECIMAL(04,1)"},
        {"name": "a", "type": "STRUCT(a INTEGER)"},
        {"name": "a", "type": "ENUM('x')"},
        {"name": "a", "type": 'DATE"\n- name: upstream.mine'},
        {"name": "a", "type": "DATE\n"},
        {"name": "a", "type": "DATE", "nullable": 1},
        {"name": "a", "type": "DATE", "description": None},
        {"name": "a"},
        ["a", "DATE"],
        None,
        {"name": "DAY", "type": "DATE"},
    ],
    ids=repr,
)
def test_a_column_outside_the_alphabets_is_dropped_and_counted(column: Any) -> None:
    body = published.a_file(columns=[*published.COLUMNS, column])
    contract = portfile.parse(body, port="orders")
    assert contract == published.a_contract(dropped=1)


def test_no_more_than_a_thousand_columns_are_passed_on() -> None:
    columns = [{"name": f"c{number}", "type": "BIGINT[]"} for number in range(1003)]
    contract = portfile.parse(published.a_file(columns=columns, grain=[]), port="orders")
    assert (len(contract.columns), contract.dropped) == (1000, 3)


def test_what_a_producer_left_out_itself_counts_as_dropped() -> None:
    body = published.a_file(columns=[*published.COLUMNS, None], columns_left_out=7)
    assert portfile.parse(body, port="orders").dropped == 8
    assert reason(published.a_file(columns_left_out=-1)).startswith("columns_left_out is missing")


@pytest.mark.parametrize(("said", "accepted"), [(True, True), (False, False), (1, False)])
def test_only_true_accepts_rows(said: Any, accepted: bool) -> None:
    contract = portfile.parse(published.a_file(rows_accepted=said), port="orders")
    assert contract.rows_accepted is accepted


def test_grain_and_audits_keep_what_has_a_name() -> None:
    contract = portfile.parse(
        published.a_file(
            grain=["day", "day", "gone", 1, ["day"]],
            audits=[
                {"name": "a`b", "passed": True},
                {"name": "x", "passed": 1},
                None,
                {"name": "unique_values", "passed": False},
            ],
        ),
        port="orders",
    )
    assert contract.grain == ("day",)
    assert contract.audits == (model.Audit(name="unique_values", passed=False),)


def test_free_text_becomes_one_short_line_that_steers_nothing() -> None:
    text = "a\x1b]0;mine\x07\u202eb\u200b\ud800\n\n\u2028c\x85d" + "e" * 5000
    contract = portfile.parse(published.a_file(description=text), port="orders")
    assert contract.description.startswith("a ]0;mine b c d")
    assert len(contract.description) == 1000
