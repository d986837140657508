"""Write and read the file of a backup: one of our own, so that any kind of store can have it.

Lines of JSON. The first says what it is, then comes one line a row, and the last holds how many
rows there are and the SHA-256 of all that stands before it:

    {"format": "dpp-provisioner backup", "version": 1, "revision": "0002", ...}
    ["records", {"key": ..., "state": ...}]
    {"rows": 1, "sha256": "..."}

Rows are those of the tables of that `revision`; what is sealed in them stays sealed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from provisioner import errors

Row = tuple[str, Mapping[str, Any]]
"""A table and the values of one row by column."""
FORMAT, VERSION = "dpp-provisioner backup", 1
_LONGEST_LINE = 64 * 1024 * 1024


class BackupRefused(errors.PermanentError):
    """Report a file that nothing can be restored from."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a backup says of itself."""

    revision: str
    """Version of the tables whose rows follow."""
    taken_at: str
    program: str


def write(into: IO[bytes], header: Header, rows: Iterable[Row]) -> int:
    """Write a backup; return how many rows it holds."""
    digest, count = hashlib.sha256(), 0

    def put(line: object) -> None:
        data = _line(line)
        digest.update(data)
        into.write(data)

    put({"format": FORMAT, "version": VERSION, **vars(header)})
    for table, row in rows:
        put([table, dict(row)])
        count += 1
    into.write(_line({"rows": count, "sha256": digest.hexdigest()}))
    return count


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


class Reader:
    """Read a backup from its beginning; raise `BackupRefused` for anything else."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self._line = self._next()
        self.header = _header(_parsed(self._line, "this file is no backup of the provisioner"))

    def rows(self) -> Iterator[Row]:
        """Yield every row; the last one only where all of them are what was written."""
        count = 0
        while True:
            before, line = self._digest.hexdigest(), self._next()
            value = _parsed(line, _DAMAGED)
            if isinstance(value, dict):
                break
            if not _is_row(value):
                raise BackupRefused(_DAMAGED)
            count += 1
            yield value[0], value[1]
        if value != {"rows": count, "sha256": before} or self._source.read(1):
            raise BackupRefused(_DAMAGED)

    def check(self) -> int:
        """Read to the end; return how many rows there are."""
        return sum(1 for _ in self.rows())

    def _next(self) -> bytes:
        line = self._source.readline(_LONGEST_LINE)
        self._digest.update(line)
        return line


_DAMAGED = "the backup is damaged or was cut short"


def _parsed(line: bytes, otherwise: str) -> Any:
    try:
        if not line.endswith(b"\n"):
            raise ValueError("a line has no end")
        return json.loads(line)
    except (ValueError, RecursionError):
        raise BackupRefused(otherwise) from None


def _is_row(value: object) -> bool:
    match value:
        case [str(), dict()]:
            return True
    return False


def _header(value: object) -> Header:
    """Read the first line; what comes of a newer program is said to be that."""
    match value:
        case {
            "format": str(kind),
            "version": int(version),
            "revision": str(revision),
            "taken_at": str(taken_at),
            "program": str(program),
        } if kind == FORMAT:
            if version != VERSION:
                raise BackupRefused("the backup was made by a newer version of the provisioner")
            return Header(revision=revision, taken_at=taken_at, program=program)
    raise BackupRefused("this file is no backup of the provisioner")
