from __future__ import annotations

import dataclasses
import io
from datetime import timedelta

import pytest
from rich import console

from provisioner import model, tables
from provisioner.loop import observer
from tests import builders as b

_HOSTILE = "Sales\x1b]0;mine\x07\x1b[2J[red]\u202e\x9b1m"


def a_terminal() -> console.Console:
    return console.Console(file=io.StringIO(), force_terminal=True, no_color=True, width=200)


def shown(out: console.Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_the_portals_text_moves_no_terminal() -> None:
    out = a_terminal()
    record = model.Record(key=model.Key.product(b.SALES), namespace="[red]sales", name=_HOSTILE)
    tables.show_product(out, record, b.NOW)
    text = shown(out)
    assert "[red]sales" in text
    assert r"Sales\x1b]0;mine\x07\x1b[2J[red]\u202e\x9b1m" in text
    assert not {"\x07", "\u202e", "\x9b", "\x1b]", "\x1b[2J"} & {
        piece for piece in ("\x07", "\u202e", "\x9b", "\x1b]", "\x1b[2J") if piece in text
    }


def test_a_list_and_outcomes_move_no_terminal_either() -> None:
    out = a_terminal()
    key = model.Key.product(b.SALES)
    tables.show_status(out, [model.Record(key=key, namespace=_HOSTILE)], b.NOW)
    outcome = model.Outcome(key=key, status="retry", message=_HOSTILE)
    tables.show_outcomes(out, [outcome], {key: _HOSTILE})
    assert "\x1b]" not in shown(out)
    assert "\x1b[2J" not in shown(out)


def test_an_exploration_is_told_from_a_product_of_the_same_name() -> None:
    out = a_terminal()
    key = model.Key(model.Kind.EXPLORATION, b.SALES)
    record = model.Record(key=key, namespace="sales")
    action = model.Action(step="workspace", verb="create-workspace", subject="sales")
    tables.show_status(out, [record], b.NOW)
    tables.show_product(out, record, b.NOW)
    desired = model.Desired(key=key, phase=model.Phase.ACTIVE, product=None)
    preview = observer.Preview(
        desired=desired, record=record, actions=(action,), access=(), conditions=()
    )
    nameless = dataclasses.replace(preview, record=dataclasses.replace(record, namespace=""))
    tables.show_plan(out, [preview, nameless])
    text = shown(out)
    assert text.count(" exploration ") == 2
    assert "sales (exploration)" in text
    assert f"exploration:{b.SALES}" in text


@pytest.mark.parametrize(
    ("condition", "later", "told"),
    [
        (None, None, "on any change"),
        (None, timedelta(days=30), "2026-"),
        ("NotOurs", None, "on any change"),
        ("StorageUnavailable", None, "again and again"),
        ("IssuerUnavailable", timedelta(days=30), "again and again"),
    ],
)
def test_what_is_retried_does_not_seem_to_wait(
    condition: str | None, later: timedelta | None, told: str
) -> None:
    out = a_terminal()
    found = model.Condition(type=condition or "", message="because", since=b.NOW)
    record = model.Record(
        key=model.Key.product(b.SALES),
        namespace="sales",
        conditions=(found,) if condition else (),
        next_at=b.NOW + later if later else None,
    )
    tables.show_product(out, record, b.NOW)
    (line,) = [each for each in shown(out).splitlines() if "looks again" in each]
    assert told in line


def test_versions_of_the_template_and_what_they_did_are_shown() -> None:
    out = a_terminal()
    upgrade = model.Upgrade(
        at=b.NOW,
        before="none",
        after="1.1 (abc)",
        files=(
            ("[red]a.sql\x1b[2J", model.FileChange.CONFLICT),
            ("b.sql", model.FileChange.MERGED),
            ("c.sql", model.FileChange.MERGED),
        ),
        changed=3,
    )
    idle = dataclasses.replace(upgrade, files=(), changed=0)
    state = model.WorkspaceState(
        rendered=True,
        template_digest="f" * 64,
        template_name="1.1",
        conflicts=("a.sql",),
        upgrades=(upgrade, idle),
        brought_at=b.NOW,
    )
    key = model.Key.product(b.SALES)
    record = model.Record(key=key, namespace="sales", workspace=state)
    unnamed = model.Record(key=key, namespace="hr", workspace=model.WorkspaceState(rendered=True))

    tables.show_product(out, record, b.NOW)
    tables.show_standings(out, [(record, "conflicts"), (unnamed, "none")])
    tables.show_changes(out, "Changes", [("sales", "1.1", {"x": "conflict"}), ("hr", "1.1", {})])

    text = shown(out)
    assert "1.1 (ffffffffffff)" in text
    assert "1 conflict, 2 merged" in text
    assert "no file changed" in text
    assert "a.sql.template-new" in text
    assert r"[red]a.sql\x1b[2J" in text
    assert "1 at 1.1 (ffffffffffff)" in text
    assert "at 1.1: no file changes" in text
