"""Fit the path of a call to a table of patterns, and read the UUIDs in it.

A pattern is `/word/{role}/one|other/**`: `{role}` is a UUID, `{name}` any segment, `a|b` are
alternatives, a last `**` is any rest, also none. Calls by the thousand have few shapes, so what
fits a shape is worked out once and remembered.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID_LENGTH = 36
_MOST_KEPT = 1024
_LONGEST_KEPT = 256
"""What is remembered must not be as large as senders like."""
_Shape = tuple[str | None, ...]
"""The segments of a path, with None for a UUID."""


@dataclass(frozen=True)
class _Fit:
    """Which pattern fits a shape, by its number."""

    number: int
    words: str
    """The words that fitted, with `{id}` for roles: nothing else of the path."""
    places: Mapping[str, int]
    """Role -> its segment."""


class Patterns:
    """Hold patterns, each with the methods that it is for; the first one that fits counts."""

    def __init__(self, patterns: Iterable[tuple[str, str]]) -> None:
        self._of_method: dict[str, list[tuple[int, list[str]]]] = {}
        for number, (methods, pattern) in enumerate(patterns):
            for method in methods.split():
                row = (number, pattern.split("/")[1:])
                self._of_method.setdefault(method, []).append(row)
        self._remembered = functools.lru_cache(maxsize=_MOST_KEPT)(self._find)

    def find(self, method: str, path: str) -> tuple[int, str, dict[str, str]] | None:
        """Return the number of the pattern, the words that fitted, and the ids by role."""
        if method not in self._of_method:
            return None
        segments = path.split("/", 9)
        ids = [uuid(segment) if len(segment) == _UUID_LENGTH else None for segment in segments]
        shape = tuple(s if i is None else None for s, i in zip(segments, ids, strict=True))
        find = self._remembered if len(path) <= _LONGEST_KEPT else self._find
        fit = find(method, shape)
        if fit is None:
            return None
        return fit.number, fit.words, {role: ids[at] or "" for role, at in fit.places.items()}

    def _find(self, method: str, shape: _Shape) -> _Fit | None:
        for number, pattern in self._of_method[method]:
            match = _match(pattern, shape)
            if match is not None:
                words, places = match
                return _Fit(number, "/".join(words), places)
        return None


def uuid(value: object) -> str | None:
    """Return a UUID in lower case; None for everything else."""
    text = value.lower() if isinstance(value, str) else ""
    return text if _UUID.fullmatch(text) else None


def _match(pattern: list[str], shape: _Shape) -> tuple[list[str], dict[str, int]] | None:
    """Fit a path to a pattern: the words that fitted, with `{id}` for roles, and their places."""
    rest = pattern[-1] == "**"
    fixed = pattern[:-1] if rest else pattern
    if len(shape) < len(fixed) or (len(shape) > len(fixed) and not rest):
        return None
    words: list[str] = []
    places: dict[str, int] = {}
    for place, (expected, word) in enumerate(zip(fixed, shape, strict=False)):
        if expected == "{name}":
            words.append(expected)
        elif expected.startswith("{"):
            if word is not None:
                return None
            places[expected.strip("{}")] = place
            words.append("{id}")
        elif word is not None and word in expected.split("|"):
            words.append(word)
        else:
            return None
    return ([*words, "*"] if rest else words), places
