"""Decide what becomes of one file when its template changes. Pure.

Three versions of it are compared: `base`, which the workspace was last brought to, `theirs`, which
the new template renders, and `ours`, which lies in the workspace and is the user's. Nothing a user
changed is ever lost: what does not merge cleanly stays, and the new version goes beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from provisioner import model
from provisioner.workspace import difference

_MOST_LINES = 20_000
"""A user may make a file that takes long to compare; no file of a template is near this."""
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a file."""

    data: bytes = field(repr=False)
    executable: bool = False


class Untouchable:
    """Stand for what is no plain file of ours or the user's: a link, a pipe, one too large."""


UNTOUCHABLE = Untouchable()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done with one file."""

    change: model.FileChange
    write: Version | None = None
    """What the user's file becomes; None leaves it, unless it is removed."""
    beside: Version | None = None
    """What goes to `X.template-new`."""

    @property
    def removes(self) -> bool:
        """Tell whether the user's file goes."""
        return self.change is model.FileChange.REMOVED


def decide(
    base: Version | None, theirs: Version | None, ours: Version | Untouchable | None
) -> Decision:
    """Say what becomes of a file; None stands for a version that has none."""
    if theirs in (base, ours):
        return Decision(change=model.FileChange.UNCHANGED)
    if theirs is None:  # a user who worked on it keeps it
        gone = model.FileChange.REMOVED if ours == base else model.FileChange.KEPT_EDITED
        return Decision(change=gone)
    if ours is None:
        if base is None:
            return Decision(change=model.FileChange.ADDED, write=theirs)
        return Decision(change=model.FileChange.KEPT_DELETED)
    if ours == base:
        return Decision(change=model.FileChange.UPDATED, write=theirs)
    if base is None or isinstance(ours, Untouchable):
        return Decision(change=model.FileChange.CONFLICT, beside=theirs)
    merged = merge(base, theirs, ours)
    if merged is None:
        return Decision(change=model.FileChange.CONFLICT, beside=theirs)
    if merged == ours:
        return Decision(change=model.FileChange.UNCHANGED)
    return Decision(change=model.FileChange.MERGED, write=merged)


def merge(base: Version, theirs: Version, ours: Version) -> Version | None:
    """Return a version with both changes in it; None where they do not go together."""
    data = _merged(base.data, theirs.data, ours.data)
    if data is None:
        return None
    executable = theirs.executable if ours.executable == base.executable else ours.executable
    return Version(data=data, executable=executable)


def _merged(base: bytes, theirs: bytes, ours: bytes) -> bytes | None:
    if ours in (base, theirs):
        return theirs
    if theirs == base:
        return ours
    if not all(map(_is_text, (base, theirs, ours))):
        return None
    ends = [_line_end(each) for each in (base, theirs, ours)]
    if None in ends:  # one has both kinds: its lines are compared as they are
        return _by_lines(base, theirs, ours)
    end = ends[1] if ends[2] == ends[0] else ends[2]
    merged = _by_lines(*(each.replace(b"\r\n", b"\n") for each in (base, theirs, ours)))
    return merged if merged is None or end == b"\n" else merged.replace(b"\n", b"\r\n")


def _by_lines(base: bytes, theirs: bytes, ours: bytes) -> bytes | None:
    if max(each.count(b"\n") for each in (base, theirs, ours)) > _MOST_LINES:
        return None
    old, new, edited = (_LINE.findall(each) for each in (base, theirs, ours))
    try:
        lines = difference.merge(old, edited, new)
    except difference.TooDifferent:
        return None
    return None if lines is None else b"".join(lines)


def _is_text(data: bytes) -> bool:
    """Tell whether it is UTF-8 without a zero byte: anything else is not ours to take apart."""
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line_end(data: bytes) -> bytes | None:
    """Return how all lines end: as in Windows, or as elsewhere; None where it is mixed."""
    windows, every = data.count(b"\r\n"), data.count(b"\n")
    if windows == 0:
        return b"\n"
    return b"\r\n" if windows == every else None
