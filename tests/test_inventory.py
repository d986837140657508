from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from provisioner import errors, model
from provisioner.domain import dotenv, inventory, portfile
from tests import builders as b
from tests import published


def an_input(name: str = "sales__orders", **changes: object) -> dotenv.Input:
    made = dotenv.Input(
        name=name,
        producer="sales",
        port="orders",
        url="s3://lake/sales/orders/",
        mode=model.Access.READ,
        valid_until=date(2031, 5, 6),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


SEEN = published.a_port(
    contract=published.a_contract(dropped=2), state=model.PortState.FRESH, version="1.0"
)
ENDED = model.EndedAccess(
    port_id=b.REFUNDS,
    name="sales__refunds",
    producer_namespace="sales",
    port_namespace="refunds",
    since=None,
    ended_at=b.NOW,
    why=model.EndReason.REVOKED,
)


def tables(text: str) -> list[list[str]]:
    """Return the cells of every row of every table, as a reader of Markdown finds them."""
    rows: list[list[str]] = []
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and rows and token.level >= 3:
            rows[-1].append("".join(each.content for each in token.children or ()))
    return rows


WHOLE = dataclasses.replace(SEEN, contract=published.a_contract())


def test_columns_that_are_known_stand_with_their_input() -> None:
    text = inventory.upstream_yaml(
        [an_input(), an_input("sales__a", port="a")], {"sales__orders": WHOLE}
    )
    assert yaml.safe_load(text) == [
        {"name": "upstream.sales__a"},
        {
            "name": "upstream.sales__orders",
            "columns": {"day": "DATE", "revenue": "DECIMAL(18,2)"},
        },
    ]


def test_where_a_column_is_left_out_none_is_listed_and_people_are_told_why() -> None:
    seen = {"sales__orders": SEEN}
    assert yaml.safe_load(inventory.upstream_yaml([an_input()], seen)) == [
        {"name": "upstream.sales__orders"}
    ]
    assert "that file lists none" in inventory.inputs_md([], [an_input()], seen=seen)
    whole = inventory.inputs_md([], [an_input()], seen={"sales__orders": WHOLE})
    assert "that file lists none" not in whole


def test_without_inputs_there_is_an_empty_list() -> None:
    assert yaml.safe_load(inventory.upstream_yaml([], {})) == []


@pytest.mark.parametrize("kind", [*sorted(portfile.TYPES), "DECIMAL(38,0)", "DECIMAL(3,2)[]"])
@pytest.mark.parametrize("name", ["yes", "null", "on", "_1e3", "Date"])
def test_yaml_reads_names_and_types_as_text(name: str, kind: str) -> None:
    contract = published.a_contract(columns=(model.Column(name=name, type=kind),))
    seen = dataclasses.replace(WHOLE, contract=contract)
    (entry,) = yaml.safe_load(inventory.upstream_yaml([an_input()], {"sales__orders": seen}))
    assert entry["columns"] == {name: kind}


@pytest.mark.parametrize("change", [{"name": 'a"'}, {"name": "a\nb"}, {"type": 'DATE"'}])
def test_a_column_that_never_came_through_the_parser_is_refused(change: dict[str, Any]) -> None:
    column = dataclasses.replace(model.Column(name="a", type="DATE"), **change)
    seen = dataclasses.replace(SEEN, contract=published.a_contract(columns=(column,)))
    with pytest.raises(ValueError, match="none that we pass on"):
        inventory.upstream_yaml([an_input()], {"sales__orders": seen})


def test_people_are_told_since_when_until_when_and_what_was_seen() -> None:
    text = inventory.inputs_md(
        ["refunds", "daily"],
        [an_input(), an_input("sales__x", port="x", valid_until=None)],
        published=[published.a_port(port="daily", state=model.PortState.UNPUBLISHED)],
        seen={"sales__orders": SEEN},
        since={"sales__orders": b.NOW},
        ended=[ENDED, dataclasses.replace(ENDED, name="", why=model.EndReason.DELETED)],
        portal_url="https://portal.example/base",
    )
    access, place = "read", "s3://lake/sales/orders/"
    days = ("2026-11-21", "2031-05-06")
    assert tables(text)[1:3] == [
        ["upstream.sales__orders", "sales", "orders", access, *days, place],
        ["upstream.sales__x", "sales", "x", access, "-", "no end", place],
    ]
    assert tables(text)[4:6] == [
        ["upstream.sales__orders", "fresh", "100", "2026-11-21", "2, 2 left out"],
        ["upstream.sales__x", "nothing published yet", "-", "-", "-"],
    ]
    gone = ["sales", "refunds", "-", "2026-11-21"]
    assert tables(text)[7:9] == [
        ["upstream.sales__refunds", *gone, "it was revoked", "ask its team, or ask again"],
        ["-", *gone, "the port or its product was deleted", "take another source"],
    ]
    assert tables(text)[10:] == [
        ["daily", "nothing published yet", "-", "-", "-"],
        ["refunds", "nothing published yet", "-", "-", "-"],
    ]
    assert "<https://portal.example/base>" in text


def test_what_is_wrong_with_a_port_is_said() -> None:
    seen = dataclasses.replace(SEEN, state=model.PortState.UNREADABLE, why=portfile.TOO_LARGE)
    text = inventory.inputs_md([], [an_input()], seen={"sales__orders": seen})
    assert tables(text)[3][:2] == ["upstream.sales__orders", "unreadable: " + portfile.TOO_LARGE]


def test_people_are_told_where_there_is_nothing() -> None:
    text = inventory.inputs_md([], [], portal_url="https://portal.example/)<script>")
    assert text.count("None yet") == 2
    assert "|" not in text
    assert "script" not in text


def test_no_word_of_a_producer_is_in_the_files_of_its_consumers() -> None:
    word = "hostile"
    contract = published.a_contract(
        description=word,
        model=f"gold.{word}",
        snapshot=word,
        audits=(model.Audit(name=word, passed=False),),
        columns=(model.Column(name="day", type="DATE", description=word),),
    )
    seen = {"sales__orders": dataclasses.replace(SEEN, contract=contract)}
    text = inventory.inputs_md(["a"], [an_input()], seen=seen, published=list(seen.values()))
    assert word not in text + inventory.upstream_yaml([an_input()], seen)


@pytest.mark.parametrize("state", model.PortState)
def test_every_state_has_words(state: model.PortState) -> None:
    seen = {"sales__orders": dataclasses.replace(SEEN, state=state)}
    assert len(tables(inventory.inputs_md([], [an_input()], seen=seen))[3][1]) > 4


@pytest.mark.parametrize("why", model.EndReason)
def test_every_end_has_words(why: model.EndReason) -> None:
    ended = [dataclasses.replace(ENDED, why=why)]
    assert all(tables(inventory.inputs_md([], [], ended=ended))[1][5:])


def test_an_output_that_is_no_name_is_refused() -> None:
    with pytest.raises(errors.NameRejected):
        inventory.inputs_md(["a|b"], [])
    with pytest.raises(errors.NameRejected):
        inventory.inputs_md([], [], ended=[dataclasses.replace(ENDED, port_namespace="a|b")])
