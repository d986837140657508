from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioner.workspace import difference

_GIT = shutil.which("git")


def _lines(*words: str) -> list[bytes]:
    return [f"{word}\n".encode() for word in words]


def _applied(old: list[bytes], new: list[bytes]) -> list[bytes]:
    """Build the new text from the old one and what is said to differ."""
    built: list[bytes] = []
    done = 0
    for hunk in difference.hunks(old, new):
        assert hunk.start >= done
        built += old[done : hunk.start]
        built += new[hunk.new_start : hunk.new_end]
        done = hunk.end
    return built + old[done:]


def _edited(chance: random.Random, lines: list[bytes], new: list[bytes]) -> list[bytes]:
    """Change a few places of a text as people do."""
    edited = list(lines)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(edited) + 1)
        until = min(len(edited), at + chance.randrange(3))
        edited[at:until] = [new.pop() for _ in range(chance.randrange(3))]
    return edited


@pytest.mark.parametrize("kinds", [2, 5, 1000], ids=["alike", "some", "distinct"])
def test_what_differs_makes_one_text_of_the_other(kinds: int) -> None:
    chance = random.Random(kinds)
    for _ in range(300):
        old, new = (
            [str(chance.randrange(kinds)).encode() for _ in range(chance.randrange(12))]
            for _ in range(2)
        )
        assert _applied(old, new) == new
        hunks = difference.hunks(old, new)
        assert all(a.end < b.start for a, b in itertools.pairwise(hunks))
        assert all(h.end > h.start or h.new_end > h.new_start for h in hunks)


def test_as_few_lines_differ_as_possible() -> None:
    old, new = _lines(*"abcabba"), _lines(*"cbabac")
    changed = sum(h.end - h.start + h.new_end - h.new_start for h in difference.hunks(old, new))
    assert changed == 5


@pytest.mark.parametrize("kinds", [3, 1000], ids=["alike", "distinct"])
def test_merging_with_nothing_or_with_the_same_changes_nothing(kinds: int) -> None:
    chance = random.Random(kinds)
    for _ in range(300):
        base, ours, theirs = (
            [str(chance.randrange(kinds)).encode() for _ in range(chance.randrange(9))]
            for _ in range(3)
        )
        assert difference.merge(base, ours, base) == ours
        assert difference.merge(base, base, theirs) == theirs
        assert difference.merge(base, ours, ours) == ours
        assert difference.merge(base, ours, theirs) == difference.merge(base, theirs, ours)


@pytest.mark.skipif(_GIT is None and "CI" not in os.environ, reason="git is not installed")
def test_it_merges_what_git_merges_and_as_git_does(tmp_path: Path) -> None:
    assert _GIT is not None, "install git: merging is held against it"
    chance = random.Random(7)
    clean = 0
    for _ in range(100):
        base = _lines(*(f"line {number}" for number in range(chance.randrange(14))))
        fresh = _lines(*(f"new {number}" for number in range(40)))
        ours, theirs = _edited(chance, base, fresh), _edited(chance, base, list(fresh))
        for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
            (tmp_path / name).write_bytes(b"".join(text))
        said = subprocess.run(
            [_GIT, "merge-file", "-p", "ours", "base", "theirs"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        merged = difference.merge(base, ours, theirs)
        assert (merged is not None) == (said.returncode == 0), (base, ours, theirs)
        if merged is not None:
            clean += 1
            assert b"".join(merged) == said.stdout
    assert 20 < clean < 100, "both kinds of merges are to be seen"


@pytest.mark.parametrize(
    ("ours", "theirs", "merged"),
    [
        ("A.b.c.d.e", "a.b.c.d.E", "A.b.c.d.E"),
        ("A.b.c.d.e", "A.b.c.d.e", "A.b.c.d.e"),
        ("a.b.c.d.e.f", "z.a.b.c.d.e", "z.a.b.c.d.e.f"),
        ("a.b.d.e", "a.b.c.d.E", "a.b.d.E"),
        ("A.b.c.d.e", "Z.b.c.d.e", None),
        ("A.b.c.d.e", "a.B.c.d.e", None),
        ("a.b.d.e", "a.b.C.d.e", None),
        ("a.b.c.d.e.f", "a.b.c.d.e.g", None),
    ],
)
def test_changes_apart_merge_and_changes_that_touch_do_not(
    ours: str, theirs: str, merged: str | None
) -> None:
    base = _lines(*"abcde")
    wanted = None if merged is None else _lines(*merged.split("."))
    assert difference.merge(base, _lines(*ours.split(".")), _lines(*theirs.split("."))) == wanted


def test_what_would_cost_too_much_is_not_compared() -> None:
    chance = random.Random(1)
    old, new = ([bytes([chance.randrange(250)]) for _ in range(20_000)] for _ in range(2))
    with pytest.raises(difference.TooDifferent):
        difference.hunks(old, new)
