from __future__ import annotations

import random

import pytest

from provisioner import model
from provisioner.workspace import merging

_Change = model.FileChange
_Text = str | None


def _v(text: str | bytes | None, *, executable: bool = False) -> merging.Version | None:
    if text is None:
        return None
    data = text if isinstance(text, bytes) else text.encode()
    return merging.Version(data=data, executable=executable)


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "change", "becomes"),
    [
        ("a\n", "b\n", "a\n", _Change.UPDATED, "b\n"),
        ("1\n2\n3\n", "1\n2\nC\n", "A\n2\n3\n", _Change.MERGED, "A\n2\nC\n"),
        ("a\n", "b\n", "c\n", _Change.CONFLICT, None),
        ("a\n", "b\n", None, _Change.KEPT_DELETED, None),
        ("a\n", None, "a\n", _Change.REMOVED, None),
        ("a\n", None, "b\n", _Change.KEPT_EDITED, None),
        (None, "a\n", None, _Change.ADDED, "a\n"),
        (None, "a\n", "b\n", _Change.CONFLICT, None),
        (None, "a\n", "a\n", _Change.UNCHANGED, None),
        ("a\n", "a\n", "b\n", _Change.UNCHANGED, None),
        ("a\n", "b\n", "b\n", _Change.UNCHANGED, None),
        ("a\n", None, None, _Change.UNCHANGED, None),
        ("1\n2\n3\n", "1\n2\nC\n", "A\n2\nC\n", _Change.UNCHANGED, None),
        ("", "a\n", "", _Change.UPDATED, "a\n"),
        ("a\n", "", "a\n", _Change.UPDATED, ""),
        ("a\n", "b\n", "", _Change.CONFLICT, None),
    ],
)
def test_every_situation_of_a_file(
    base: _Text, theirs: _Text, ours: _Text, change: model.FileChange, becomes: _Text
) -> None:
    decision = merging.decide(_v(base), _v(theirs), _v(ours))
    assert decision.change is change
    assert decision.write == _v(becomes)
    assert decision.beside == (_v(theirs) if change is _Change.CONFLICT else None)
    assert decision.removes == (change is _Change.REMOVED)


@pytest.mark.parametrize(
    ("base", "theirs", "change"),
    [
        ("a\n", "b\n", _Change.CONFLICT),
        (None, "b\n", _Change.CONFLICT),
        ("a\n", None, _Change.KEPT_EDITED),
        ("a\n", "a\n", _Change.UNCHANGED),
    ],
)
def test_what_cannot_be_touched_is_the_users(
    base: _Text, theirs: _Text, change: model.FileChange
) -> None:
    assert merging.decide(_v(base), _v(theirs), merging.UNTOUCHABLE).change is change


@pytest.mark.parametrize(
    ("base", "theirs", "ours"),
    [
        (b"\0a\n2\n3\n", b"\0a\n2\nC\n", b"\0A\n2\n3\n"),
        (b"\xe9\n2\n3\n", b"\xe9\n2\nC\n", b"A\n2\n3\n"),
    ],
    ids=["binary", "not UTF-8"],
)
def test_what_is_no_text_is_not_merged(base: bytes, theirs: bytes, ours: bytes) -> None:
    assert merging.decide(_v(base), _v(theirs), _v(ours)).change is _Change.CONFLICT
    assert merging.decide(_v(base), _v(theirs), _v(base)).write == _v(theirs)


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "merged"),
    [
        (b"1\n2\n3\n", b"1\n2\nC\n", b"A\r\n2\r\n3\r\n", b"A\r\n2\r\nC\r\n"),
        (b"1\n2\n3\n", b"1\n2\nC\n", b"1\r\n2\r\n3\r\n", b"1\r\n2\r\nC\r\n"),
        (b"1\r\n2\r\n3\r\n", b"1\r\n2\r\nC\r\n", b"A\n2\n3\n", b"A\n2\nC\n"),
        (b"1\n2\n3\n", b"1\r\n2\r\n3\r\n", b"A\n2\n3\n", b"A\r\n2\r\n3\r\n"),
        (b"1\n2\n3\n4\n", b"1\n2\n3\nD\n", b"A\r\n2\n3\n4\n", b"A\r\n2\n3\nD\n"),
        (b"1\n2\n3\n", b"1\n2\nC\n", b"1\r\n2\r\n3", None),
        (b"1\n2\n3", b"Z\n2\n3", b"1\n2\n3\n", b"Z\n2\n3\n"),
        (b"1\n2\n3", b"1\n2\n3\n4", b"A\n2\n3", b"A\n2\n3\n4"),
    ],
)
def test_line_ends_are_the_users_and_do_not_keep_texts_from_merging(
    base: bytes, theirs: bytes, ours: bytes, merged: bytes | None
) -> None:
    assert merging.decide(_v(base), _v(theirs), _v(ours)).write == _v(merged)


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "merged"),
    [
        (False, True, False, True),
        (True, False, True, False),
        (False, False, True, True),
        (True, True, False, False),
        (False, True, True, True),
    ],
)
def test_whether_a_file_is_a_program_is_merged_as_its_text_is(
    base: bool, theirs: bool, ours: bool, merged: bool
) -> None:
    decision = merging.decide(
        _v("1\n2\n3\n", executable=base),
        _v("1\n2\nC\n", executable=theirs),
        _v("A\n2\n3\n", executable=ours),
    )
    assert decision.write == _v("A\n2\nC\n", executable=merged)


def test_a_mode_alone_is_a_change() -> None:
    decision = merging.decide(_v("a\n"), _v("a\n", executable=True), _v("b\n"))
    assert decision.write == _v("b\n", executable=True)
    decision = merging.decide(_v("a\n"), _v("b\n"), _v("a\n", executable=True))
    assert decision.write == _v("b\n", executable=True)


def test_what_differs_too_much_is_a_conflict() -> None:
    chance = random.Random(1)

    def text() -> bytes:
        return b"".join(b"%d\n" % chance.randrange(250) for _ in range(5_000))

    assert merging.decide(_v(text()), _v(text()), _v(text())).change is _Change.CONFLICT


def test_what_has_too_many_lines_is_not_taken_apart() -> None:
    many = "\n" * 20_001
    decision = merging.decide(_v("1\n2\n3\n"), _v("1\n2\nC\n"), _v("1\n2\n3\n" + many))
    assert decision.change is _Change.CONFLICT


def test_nothing_that_a_user_changed_is_ever_lost() -> None:
    chance = random.Random(3)
    seen = set()
    for _ in range(2_000):
        base, theirs, ours = (
            chance.choice([None, "".join(f"{chance.randrange(3)}\n" for _ in range(4))])
            for _ in range(3)
        )
        decision = merging.decide(_v(base), _v(theirs), _v(ours))
        seen.add(decision.change)
        if ours not in (base, None):
            assert not decision.removes
            assert decision.change is _Change.MERGED or decision.write is None
        if ours is None and base is not None:
            assert decision.write is None
    assert seen == set(_Change)
