from __future__ import annotations

import dataclasses
import io

from rich import console

from provisioner import model, port_tables, portviews
from tests import builders as b
from tests import published

_HOSTILE = "a\x1b]0;mine\x07\x1b[2J[red]\u202e"
_SEEN = published.a_port(
    contract=published.a_contract(dropped=3),
    state=model.PortState.STALE,
    version="1.0",
    rows_before=90,
    read_at=b.NOW,
)
_ENDED = model.EndedAccess(
    port_id=b.REFUNDS,
    name="sales__refunds",
    producer_namespace="sales",
    port_namespace="refunds",
    ended_at=b.NOW,
    why=model.EndReason.REVOKED,
)


def shown(found: portviews.PortsOfProduct) -> str:
    out = console.Console(file=io.StringIO(), force_terminal=True, no_color=True, width=200)
    port_tables.show(out, found)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_ports_are_shown_with_what_was_seen_of_them() -> None:
    new = published.a_port(port_id=b.REFUNDS, port="refunds", state=model.PortState.UNPUBLISHED)
    text = shown(
        portviews.PortsOfProduct(
            outputs=(_SEEN, new), inputs=(("crm__customers", _SEEN),), ended=(_ENDED,)
        )
    )
    rows = [line.split() for line in text.splitlines()]
    seen = ["stale", "100", "90", "2026-11-21", "11:00", "UTC", "2", "3"]
    assert [row[:9] for row in rows if row[:1] in (["orders"], ["crm__customers"])] == [
        ["orders", *seen],
        ["crm__customers", *seen],
    ]
    assert ["refunds", "unpublished", "-", "-", "-", "-", "-", "-"] in rows
    assert next(row for row in rows if row[:2] == ["sales__refunds", "sales/refunds"])[2:] == [
        *("-", "2026-11-21", "12:00", "UTC", "revoked")
    ]


def test_nothing_is_shown_where_there_is_nothing() -> None:
    assert shown(portviews.PortsOfProduct()) == ""


def test_no_text_moves_the_terminal() -> None:
    seen = dataclasses.replace(_SEEN, port_namespace=_HOSTILE, why=_HOSTILE)
    ended = dataclasses.replace(_ENDED, name=_HOSTILE, producer_namespace=_HOSTILE)
    text = shown(
        portviews.PortsOfProduct(outputs=(seen,), inputs=((_HOSTILE, seen),), ended=(ended,))
    )
    assert "[red]" in text
    assert not [each for each in ("\x1b]", "\x1b[2J", "\x07", "\u202e") if each in text]
