"""Read the `_port.json` that a producer publishes beside an output port. Pure.

Its producer is as hostile to consumers as anybody: whatever the bytes, the answer is a contract or
the constant reason why there is none. What may reach SQL, YAML, Markdown or a terminal is from
fixed alphabets; a column outside of them is dropped and counted. Keys that nobody knows are
passed over, whatever JSON they hold, so that a newer template may say more.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from provisioner import model

LIMIT_BYTES = 256 * 1024
TOO_LARGE = "it is larger than 256 KiB"
REFUSED = "the engine does not let us read it"
_MOST_COLUMNS = 1000
_MOST_LEFT_OUT = 1_000_000
_MOST_AUDITS = 1000
_LONGEST_TEXT = 1000
_MOST_ROWS = 2**63 - 1
_LONGEST_WAIT_SECONDS = 10 * 366 * 86_400
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_PART = r"(?:[A-Za-z0-9_]{1,64}|\"[A-Za-z0-9_]{1,64}\")"
_MODEL = re.compile(rf"{_PART}(?:\.{_PART}){{0,2}}")
"""Ports may have 64 characters and begin with a digit; SQLMesh names the model of such a one with
quotes if its author has written them."""
_SNAPSHOT = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_DECIMAL = re.compile(r"DECIMAL\(([1-9][0-9]?),(0|[1-9][0-9]?)\)")
TYPES = frozenset(
    {
        "BOOLEAN",
        *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
        *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
        *("FLOAT", "DOUBLE"),
        *("VARCHAR", "BLOB", "BIT", "UUID", "JSON"),
        *("DATE", "TIME", "TIME WITH TIME ZONE", "INTERVAL"),
        *("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"),
    }
)
"""The types that are passed on, besides `DECIMAL(p,s)` and one-dimensional lists, `T[]`."""

_NO_COUNT: Final = object()
"""Stands for a fraction, or a number too long to be a count: no key that we know may hold it."""


class Unreadable(Exception):
    """Say by a constant sentence why a file is no contract."""


def parse(body: bytes, *, port: str) -> model.Contract:
    """Return what the file says of a port; raise `Unreadable`, and nothing else, for any bytes."""
    if len(body) > LIMIT_BYTES:
        raise Unreadable(TOO_LARGE)
    said = _document(body)
    if said.get("version") is True or said.get("version") != 1:
        raise Unreadable("its version is none that we know")
    if said.get("port") != port:
        raise Unreadable("it does not name the port that it lies in")
    columns, dropped = _columns(_listed(said, "columns"))
    names = {column.name for column in columns}
    return model.Contract(
        model=_matching(said, "model", _MODEL).replace('"', ""),
        description=_plain(_text(said, "description")),
        published_at=_moment(said),
        rows=_whole(said, "rows", 0, _MOST_ROWS),
        snapshot=_matching(said, "snapshot", _SNAPSHOT),
        expected_every_seconds=_interval(said),
        grain=tuple(dict.fromkeys(each for each in _listed(said, "grain") if _is_in(each, names))),
        columns=columns,
        audits=_audits(_listed(said, "audits")),
        dropped=dropped + _left_out(said),
        rows_accepted=said.get("rows_accepted") is True,
    )


def _document(body: bytes) -> dict[str, Any]:
    """Read JSON strictly: no key twice, nothing that is no JSON; numbers as far as they count."""
    try:
        said = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_once,
            parse_int=_short,
            parse_float=lambda _text: _NO_COUNT,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError):
        raise Unreadable("it is no JSON that we read") from None
    if not isinstance(said, dict):
        raise Unreadable("it is no JSON object")
    return said


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _short(text: str) -> object:
    return int(text) if len(text) <= 20 else _NO_COUNT


def _refuse(_text: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _columns(listed: list[Any]) -> tuple[tuple[model.Column, ...], int]:
    """Return the columns that are passed on, and how many are not.

    SQL takes no heed of case, so of two names that differ in nothing else one is dropped.
    """
    found: dict[str, model.Column] = {}
    for each in listed[:_MOST_COLUMNS]:
        column = _column(each)
        if column is not None:
            found.setdefault(column.name.lower(), column)
    return tuple(found.values()), len(listed) - len(found)


def _column(said: Any) -> model.Column | None:
    if not isinstance(said, dict):
        return None
    name, kind, nullable = said.get("name"), said.get("type"), said.get("nullable", True)
    description = said.get("description", "")
    plain = isinstance(nullable, bool) and isinstance(description, str)
    if not plain or not (isinstance(name, str) and isinstance(kind, str)):
        return None
    if not (is_column_name(name) and is_type(kind)):
        return None
    return model.Column(name=name, type=kind, nullable=nullable, description=_plain(description))


def is_column_name(text: str) -> bool:
    """Tell whether a name is one that is passed on."""
    return _NAME.fullmatch(text) is not None


def is_type(text: str) -> bool:
    """Tell whether a type is one that is passed on."""
    scalar = text.removesuffix("[]")
    if scalar in TYPES:
        return True
    decimal = _DECIMAL.fullmatch(scalar)
    return decimal is not None and int(decimal[2]) <= int(decimal[1]) <= 38


def _audits(listed: list[Any]) -> tuple[model.Audit, ...]:
    """Return the audits whose names are names; the same one may stand there several times."""
    return tuple(
        model.Audit(name=each["name"], passed=each["passed"])
        for each in listed[:_MOST_AUDITS]
        if isinstance(each, dict)
        and _fits(each.get("name"), _NAME)
        and isinstance(each.get("passed"), bool)
    )


def _moment(said: dict[str, Any]) -> datetime:
    text = _matching(said, "published_at", _MOMENT)
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Unreadable("published_at is no date") from None


def _interval(said: dict[str, Any]) -> int | None:
    if said.get("expected_every_seconds", 0) is None:
        return None
    return _whole(said, "expected_every_seconds", 1, _LONGEST_WAIT_SECONDS)


def _left_out(said: dict[str, Any]) -> int:
    """Return how many columns the producer itself has left out; most files do not say."""
    if "columns_left_out" not in said:
        return 0
    return _whole(said, "columns_left_out", 0, _MOST_LEFT_OUT)


def _listed(said: dict[str, Any], name: str) -> list[Any]:
    return list(_of_kind(said, name, lambda value: isinstance(value, list)))


def _text(said: dict[str, Any], name: str) -> str:
    return str(_of_kind(said, name, lambda value: isinstance(value, str)))


def _matching(said: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    return str(_of_kind(said, name, lambda value: _fits(value, pattern)))


def _whole(said: dict[str, Any], name: str, least: int, most: int) -> int:
    def fits(value: Any) -> bool:
        return type(value) is int and least <= value <= most

    return int(_of_kind(said, name, fits))


def _of_kind(said: dict[str, Any], name: str, fits: Callable[[Any], bool]) -> Any:
    """Return a value; the reason names the key, which is ours, and never the value."""
    if not fits(said.get(name)):
        raise Unreadable(f"{name} is missing or none that we read")
    return said[name]


def _fits(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_in(value: Any, names: set[str]) -> bool:
    return isinstance(value, str) and value in names


def _plain(text: str) -> str:
    """Make one short line of free text, without what steers a terminal, hides or turns round.

    Only so much of it is looked at that the rest could not change the answer by much.
    """
    kept = (
        " " if unicodedata.category(each) in ("Cc", "Zl", "Zp", "Zs") else each
        for each in text[: 4 * _LONGEST_TEXT]
        if unicodedata.category(each) not in ("Cf", "Cs", "Co", "Cn")
    )
    return " ".join("".join(kept).split())[:_LONGEST_TEXT].rstrip()
