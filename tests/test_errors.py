from __future__ import annotations

import pytest

from provisioner import errors


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe [bold]", "Größe [bold]"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\x07\x9b", "a\\nb\\x07\\x9b"),
        ("a\u202eb\ud800", "a\\u202eb\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert errors.printable(text) == shown


def test_the_words_of_an_engine_are_shown_escaped_and_cut() -> None:
    shown = str(errors.IssuerRejected("the IAM API refused", code="x\x1b[2J" + "y" * 1_000_000))
    assert "\x1b" not in shown
    assert len(shown) < 500
