"""Find which lines differ, and merge two changes of one text. Pure.

Lines are compared by Myers' greedy algorithm. What a workspace holds is hostile, so the work is
bounded: texts that differ too much are not merged at all. Two changes that overlap or touch do
not merge unless both say the same; so does `git merge-file`, against which this is tested.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

_MOST_STEPS = 1_000_000
"""About half a second; some 1,400 changed lines that are not in one piece."""

Lines = Sequence[bytes]


class TooDifferent(Exception):
    """Say that comparing the texts would cost too much."""


@dataclass(frozen=True)
class Hunk:
    """Lines `start` to `end` of the old text became `new_start` to `new_end` of the new one."""

    start: int
    end: int
    new_start: int
    new_end: int


def merge(base: Lines, ours: Lines, theirs: Lines) -> list[bytes] | None:
    """Return the lines with both changes in them; None where they do not merge cleanly.

    Raise `TooDifferent` where that would cost too much to find out.
    """
    sides = (ours, theirs)
    waiting = (hunks(base, ours), hunks(base, theirs))
    shift = [0, 0]
    merged: list[bytes] = []
    done = 0
    for region in _regions(*waiting):
        start = min(hunk.start for side in region for hunk in side)
        end = max(hunk.end for side in region for hunk in side)
        texts: list[list[bytes]] = []
        for number, side in enumerate(region):
            new_start = start + shift[number]
            shift[number] += sum((h.new_end - h.new_start) - (h.end - h.start) for h in side)
            texts.append(list(sides[number][new_start : end + shift[number]]))
        if all(region) and texts[0] != texts[1]:
            return None
        merged += base[done:start]
        merged += texts[0] if region[0] else texts[1]
        done = end
    return [*merged, *base[done:]]


def _regions(ours: list[Hunk], theirs: list[Hunk]) -> list[tuple[list[Hunk], list[Hunk]]]:
    """Gather hunks of both sides that overlap or touch, in order."""
    every = sorted(
        [(hunk, 0) for hunk in ours] + [(hunk, 1) for hunk in theirs],
        key=lambda each: (each[0].start, each[0].end),
    )
    regions: list[tuple[list[Hunk], list[Hunk]]] = []
    reached = -1
    for hunk, side in every:
        if hunk.start > reached:
            regions.append(([], []))
        regions[-1][side].append(hunk)
        reached = max(reached, hunk.end)
    return regions


def hunks(old: Lines, new: Lines) -> list[Hunk]:
    """List what differs, in order; no two hunks touch."""
    first = 0
    most = min(len(old), len(new))
    while first < most and old[first] == new[first]:
        first += 1
    last = 0
    while last < most - first and old[-1 - last] == new[-1 - last]:
        last += 1
    inner = _compare(old[first : len(old) - last], new[first : len(new) - last])
    return [
        Hunk(h.start + first, h.end + first, h.new_start + first, h.new_end + first) for h in inner
    ]


def _compare(old: Lines, new: Lines) -> list[Hunk]:
    if not old and not new:
        return []
    if not old or not new:
        return [Hunk(0, len(old), 0, len(new))]
    return _gathered(_kept_lines(old, new, _trace(old, new)), len(old), len(new))


def _trace(old: Lines, new: Lines) -> list[array[int]]:
    """Go as far as each number of changes leads; return where, by number and diagonal."""
    here = {1: 0}
    trace: list[array[int]] = []
    steps = 0
    for changes in range(len(old) + len(new) + 1):
        for diagonal in range(-changes, changes + 1, 2):
            down = diagonal == -changes or (
                diagonal != changes and here[diagonal - 1] < here[diagonal + 1]
            )
            x = here[diagonal + 1] if down else here[diagonal - 1] + 1
            y = x - diagonal
            begun = x
            while x < len(old) and y < len(new) and old[x] == new[y]:
                x, y = x + 1, y + 1
            here[diagonal] = x
            steps += 1 + x - begun
            if x >= len(old) and y >= len(new):
                trace.append(_row(here, changes))
                return trace
        if steps > _MOST_STEPS:
            raise TooDifferent
        trace.append(_row(here, changes))
    raise AssertionError("all lines changed is always enough")  # pragma: no cover


def _row(here: dict[int, int], changes: int) -> array[int]:
    """Keep how far each diagonal of one number of changes has come; -1 where none did."""
    return array("i", (here.get(each, -1) for each in range(-changes, changes + 1, 2)))


def _kept_lines(old: Lines, new: Lines, trace: list[array[int]]) -> list[tuple[int, int]]:
    """Walk back from the end; return the pairs of lines that are the same, last first.

    The texts begin differently, so that the way of no change at all has none.
    """
    x, y = len(old), len(new)
    kept: list[tuple[int, int]] = []
    for changes in range(len(trace) - 1, 0, -1):
        row, diagonal = trace[changes - 1], x - y

        def reached(each: int, row: array[int] = row, changes: int = changes) -> int:
            index = (each + changes - 1) // 2
            return row[index] if 0 <= index < len(row) else -1

        down = diagonal == -changes or (
            diagonal != changes and reached(diagonal - 1) < reached(diagonal + 1)
        )
        before = diagonal + 1 if down else diagonal - 1
        from_x = reached(before)
        from_y = from_x - before
        start_x = from_x if down else from_x + 1
        while x > start_x:
            x, y = x - 1, y - 1
            kept.append((x, y))
        x, y = from_x, from_y
    return kept


def _gathered(kept: list[tuple[int, int]], old_end: int, new_end: int) -> list[Hunk]:
    """Turn the lines that stayed into the hunks between them."""
    found: list[Hunk] = []
    x, y = 0, 0
    for next_x, next_y in [*reversed(kept), (old_end, new_end)]:
        if next_x > x or next_y > y:
            found.append(Hunk(x, next_x, y, next_y))
        x, y = next_x + 1, next_y + 1
    return found
