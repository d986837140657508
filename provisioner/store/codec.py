"""Turn a record into JSON and back, with its secrets apart.

Driven by the types in `model`, so that a field added there is stored without a change here: one
that is missing in old JSON gets its default, one that is no longer known is dropped. The secret
of an `AccessKey` never enters the JSON; secrets travel beside it, by path, to be sealed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any, TypeVar

from provisioner import model

_T = TypeVar("_T")
Secrets = Mapping[str, str]
"""Secrets by the path of their key in the record: `credentials.current`."""


def encode(record: model.Record) -> tuple[str, Secrets]:
    """Return the JSON of a record and its secrets.

    Raise ValueError for a key without its secret: such a record came from a list, and writing it
    would lose the secret that is stored.
    """
    secrets: dict[str, str] = {}
    plain = _plain(record, "", secrets)
    return json.dumps(plain, separators=(",", ":"), sort_keys=True), secrets


def decode(text: str, secrets: Secrets) -> model.Record:
    """Return the record; keys whose secret is not given have an empty one."""
    record = _value(model.Record, json.loads(text), "", secrets)
    assert isinstance(record, model.Record)  # noqa: S101 - tells the type checker what it is
    return record


def dumps(value: object) -> str:
    """Return the JSON of any value of the model that holds no secret."""
    return json.dumps(_plain(value, "", {}), separators=(",", ":"), sort_keys=True)


def loads(kind: type[_T], text: str) -> _T:
    """Return the value of a type."""
    value = _value(kind, json.loads(text), "", {})
    assert isinstance(value, kind)  # noqa: S101 - tells the type checker what it is
    return value


def _plain(value: object, path: str, secrets: dict[str, str]) -> Any:
    """Reduce a value to what JSON knows, gathering secrets on the way."""
    if isinstance(value, model.AccessKey):
        if not value.secret:
            raise ValueError("a key without its secret cannot be stored")
        secrets[path] = value.secret
        return {"id": value.id}
    if isinstance(value, model.Key):
        return str(value)
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        return {name: _plain(getattr(value, name), _join(path, name), secrets) for name in fields}
    if isinstance(value, tuple | list):
        return [_plain(each, _join(path, str(n)), secrets) for n, each in enumerate(value)]
    if isinstance(value, frozenset):
        return sorted(_plain(each, path, secrets) for each in value)
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    return value


def _value(kind: Any, plain: Any, path: str, secrets: Secrets) -> Any:
    """Build a value of a type from what JSON holds."""
    origin, arguments = _anatomy(kind)
    if origin is types.UnionType or origin is typing.Union:
        if plain is None:
            return None
        kind = next(each for each in arguments if each is not type(None))
        return _value(kind, plain, path, secrets)
    if origin is tuple:
        return _items(arguments, plain, path, secrets)
    if origin is frozenset:
        return frozenset(_value(arguments[0], each, path, secrets) for each in plain)
    return _scalar(kind, plain, path, secrets)


def _items(arguments: tuple[Any, ...], plain: Any, path: str, secrets: Secrets) -> Any:
    """Build a tuple, of one type repeated (`...`) or of one type each."""
    kinds = arguments[:1] * len(plain) if arguments[-1] is Ellipsis else arguments
    pairs = zip(kinds, plain, strict=True)
    return tuple(_value(k, p, _join(path, str(n)), secrets) for n, (k, p) in enumerate(pairs))


def _scalar(kind: Any, plain: Any, path: str, secrets: Secrets) -> Any:
    if kind is model.AccessKey:
        return model.AccessKey(plain["id"], secrets.get(path, ""))
    if kind is model.Key:
        return model.Key.parse(plain)
    if dataclasses.is_dataclass(kind):
        hints = _hints(typing.cast("Any", kind))
        given = {
            name: _value(hints[name], each, _join(path, name), secrets)
            for name, each in plain.items()
            if name in hints
        }
        return typing.cast("Any", kind)(**given)
    if kind in (datetime, date):
        return kind.fromisoformat(plain)
    return kind(plain) if issubclass(kind, StrEnum) else plain


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


@functools.cache
def _anatomy(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(kind), typing.get_args(kind)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
