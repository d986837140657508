"""Fill a folder with DuckDB's extensions from installed wheels, so that it loads them offline.

DuckDB looks below its `extension_directory` for `v<version>/<platform>/<name>.duckdb_extension`.
Each binary says in its own footer which version and platform it was built for, so DuckDB itself,
heavy and not needed by the service, is never imported.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from provisioner import errors, telemetry

_log = telemetry.Log(__name__)

_DISTRIBUTION = re.compile(r"duckdb[-_]extension[-_]", re.IGNORECASE)
_SUFFIX = ".duckdb_extension"
_NAME = re.compile(r"[a-z0-9_]+")
_FOOTER_BYTES = 512
_FIELD_BYTES = 32
_CHUNK_BYTES = 1 << 20
_VERSION = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+[a-z0-9.-]*")
_PLATFORM = re.compile(r"[a-z0-9]+_[a-z0-9_]+")


def installed() -> tuple[Path, ...]:
    """Find the extension binaries that installed `duckdb-extension-*` distributions carry.

    By the names of their folders: to ask every distribution for its name reads all that each one
    says of itself, which takes longer than all the rest of a start.
    """
    found = [
        Path(str(distribution.locate_file(file)))
        for place in sys.path
        for folder in Path(place).glob("*.dist-info")
        if _DISTRIBUTION.match(folder.name)
        for distribution in [importlib.metadata.Distribution.at(folder)]
        for file in distribution.files or ()
        if file.name.endswith(_SUFFIX)
    ]
    return tuple(sorted(found))


def fill(directory: Path, binaries: Iterable[Path]) -> tuple[str, ...]:
    """Copy binaries that are not there yet to where DuckDB looks; return what lies there now.

    The folder is the service's own: workspaces only read it. Files appear whole, by rename, and
    are readable by everybody whatever the umask. What is no extension is skipped with a warning;
    `DiskUnavailable` where the folder cannot be written.
    """
    placed: list[str] = []
    try:
        for binary in binaries:
            if (rel := _destination(binary)) is None:
                _log.warning("skipped what is no DuckDB extension", file=binary.name)
                continue
            _place(directory, rel, binary)
            placed.append(rel)
    except OSError as exc:
        raise errors.DiskUnavailable(
            "DuckDB's extensions cannot be copied", path=str(directory)
        ) from exc
    return tuple(placed)


def _destination(binary: Path) -> str | None:
    """Return the path for a binary by its footer: eight fields, the last first, a signature."""
    name = binary.name.removesuffix(_SUFFIX)
    footer = _footer(binary)
    version = footer[_FIELD_BYTES * 5 : _FIELD_BYTES * 6].rstrip(b"\0").decode("ascii", "replace")
    platform = footer[_FIELD_BYTES * 6 : _FIELD_BYTES * 7].rstrip(b"\0").decode("ascii", "replace")
    if not (_NAME.fullmatch(name) and _VERSION.fullmatch(version)):
        return None
    if not _PLATFORM.fullmatch(platform):
        return None
    return f"{version}/{platform}/{binary.name}"


def _footer(binary: Path) -> bytes:
    with binary.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _FOOTER_BYTES))
        return stream.read()


def _is_copy(target: Path, binary: Path) -> bool:
    """Compare sizes and footers: the footer holds a signature of all the rest."""
    if not target.is_file() or target.stat().st_size != binary.stat().st_size:
        return False
    return _footer(target) == _footer(binary)


def _place(directory: Path, rel: str, binary: Path) -> None:
    target = directory / rel
    if _is_copy(target, binary):
        return
    for folder in (directory, target.parent.parent, target.parent):
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(0o755)
    descriptor, beside = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as copy, binary.open("rb") as stream:
            shutil.copyfileobj(stream, copy, _CHUNK_BYTES)
            os.fchmod(copy.fileno(), 0o644)
            copy.flush()
            os.fsync(copy.fileno())
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    _log.info("copied a DuckDB extension", file=rel)
