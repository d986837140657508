"""Keep entities by id, and filed by what else they are asked for: a big portal walks no lists."""

from __future__ import annotations

from collections import defaultdict
from typing import TypeVar

_T = TypeVar("_T")


class Filed(dict[str, _T]):
    """A dict of entities by id that also finds them by some of their fields, which never change."""

    def __init__(self, *fields: str) -> None:
        super().__init__()
        self._files: dict[str, defaultdict[object, dict[str, _T]]] = {
            field: defaultdict(dict) for field in fields
        }

    def of(self, **field: str) -> tuple[_T, ...]:
        """Return those with this value in this one field, the oldest first."""
        ((name, value),) = field.items()
        return tuple(self._files[name].get(value, {}).values())

    def __setitem__(self, identity: str, entity: _T) -> None:
        super().__setitem__(identity, entity)
        for name, file in self._files.items():
            file[getattr(entity, name)][identity] = entity

    def __delitem__(self, identity: str) -> None:
        entity = self[identity]
        super().__delitem__(identity)
        for name, file in self._files.items():
            del file[getattr(entity, name)][identity]
