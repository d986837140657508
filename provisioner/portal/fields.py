"""Read single fields of a JSON answer that nothing vouches for.

Each reader returns the field in its type or raises `Malformed`, which names the field and never
holds what it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Malformed(ValueError):
    """Report an answer that is not shaped as the portal's API promises."""


def mapping(value: object) -> Mapping[str, Any]:
    """Return a value that must be an object."""
    if not isinstance(value, dict):
        raise Malformed("an object is missing")
    return value


def entries(body: object, name: str) -> list[Mapping[str, Any]]:
    """Return a list that must hold objects only."""
    value = mapping(body).get(name)
    if not isinstance(value, list):
        raise Malformed(f"the list {name} is missing")
    return [mapping(entry) for entry in value]


def bare_list(body: object, name: str) -> dict[str, object]:
    """Put a list that stands alone, as the oldest API writes it, under its newer name."""
    if not isinstance(body, list):
        raise Malformed("the answer is no list")
    return {name: body}


def text(fields: Mapping[str, Any], name: str) -> str:
    """Return a text that must be there."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise Malformed(f"the text {name} is missing")
    return value


def optional_text(fields: Mapping[str, Any], name: str) -> str:
    """Return a text, empty where it is null or missing."""
    return "" if fields.get(name) is None else text(fields, name)


def texts(fields: Mapping[str, Any], name: str) -> frozenset[str] | None:
    """Return a list of texts as a set, None where the portal does not know the field."""
    if name not in fields:
        return None
    value = fields[name]
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise Malformed(f"the list {name} is missing")
    return frozenset(value)


def name_of(fields: Mapping[str, Any], name: str) -> str:
    """Return the name of an object, empty where the object is null or missing."""
    value = fields.get(name)
    return "" if value is None else text(mapping(value), "name")


def uuid(fields: Mapping[str, Any], name: str) -> str:
    """Return a lower-case UUID: ids become file names and queue keys."""
    value = text(fields, name)
    if not _UUID.fullmatch(value):
        raise Malformed(f"{name} is no UUID")
    return value


def day(fields: Mapping[str, Any], name: str) -> date | None:
    """Return the day of a date or a time, None where it is null or missing."""
    if fields.get(name) is None:
        return None
    try:
        return date.fromisoformat(text(fields, name)[:10])
    except ValueError as exc:
        raise Malformed(f"{name} is no day") from exc
