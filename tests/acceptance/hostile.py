"""Lay into a workspace what its users may lay there; keep a folder that it must not harm."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OWNER = 65534 if os.geteuid() == 0 else -1
"""Whom workspaces belong to: only root can give them to somebody else than the service."""
CANARY = b"canary-that-nobody-may-read"
ENORMOUS_BYTES = 5 * 1024**3
_LIMIT_BYTES = 4 * 1024**2
_THEN, _LONG_AGO = 1_000_000_000 * 10**9, 900_000_000 * 10**9
"""Changed then, read long before: whatever reads it leaves a later time, where such are kept."""


class Victim:
    """A folder outside of every workspace, with files that have the names of ours."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.folder = folder
        self.secret = folder / "secret"
        (folder / "inner").mkdir(parents=True)
        for name in ("secret", "inner/secret", *names):
            (folder / name).write_bytes(CANARY)
            (folder / name).chmod(0o640)
        self._paths = sorted(folder.rglob("*"))
        for path in (*self._paths, folder):
            os.utime(path, ns=(_LONG_AGO, _THEN))
        self._before = self._looked()

    def _looked(self) -> dict[str, tuple[object, ...]]:
        """Look at times first, since looking at contents changes them; then put them back."""
        known = {str(path): _status(path) for path in (self.folder, *self._paths)}
        listed = {str(path): path for path in self.folder.rglob("*")}
        contents = {
            name: path.read_bytes() if path.is_file() else b"" for name, path in listed.items()
        }
        for path in (*self._paths, self.folder):
            os.utime(path, ns=(_LONG_AGO, path.stat().st_mtime_ns))
        names = known.keys() | contents.keys()
        return {name: (*known.get(name, ()), contents.get(name)) for name in sorted(names)}

    def check(self) -> None:
        """Assert that nothing was read, written, made, removed, given away or opened up."""
        now, before = self._looked(), self._before
        changed = {name for name in now | before if now.get(name) != before.get(name)}
        assert not changed, {name: (before.get(name), now.get(name)) for name in changed}


def _status(path: Path) -> tuple[object, ...]:
    """Return all that tells of a use; not the number of links, which our test makes."""
    found = path.lstat()
    ids = (found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid)
    return (*ids, found.st_size, found.st_mtime_ns, found.st_atime_ns)


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that lies in the place of a file, or of the folder that should hold it."""

    name: str
    lay: Callable[[Path, Victim], None]
    in_parent: bool = False
    keeps: bool = False
    """There is something of the user's in it, which has to be somewhere after."""
    given: bool = True
    """It goes to the owner of the workspace, as what they make themselves is theirs."""

    def put(self, path: Path, victim: Victim) -> None:
        """Lay it, in the place of whatever is there."""
        place = self.place(path)
        clear(place)
        self.lay(place, victim)
        if self.given:
            for each in (place, *(place.rglob("*") if _is_folder(place) else ())):
                os.chown(each, OWNER, OWNER, follow_symlinks=False)

    def place(self, path: Path) -> Path:
        """Return what it takes the place of."""
        return path.parent if self.in_parent else path


def clear(path: Path) -> None:
    """Take away whatever lies there."""
    if _is_folder(path):
        path.chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def plain(path: Path) -> bytes | None:
    """Return a plain file of its own and of no great size, opening nothing else."""
    try:
        found = path.lstat()
        alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if not alone or found.st_size > _LIMIT_BYTES or path.parent.is_symlink():
            return None
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def told_by(path: Path) -> tuple[int, ...]:
    """Return what tells a thing that was left alone from one that was touched."""
    found = path.lstat()
    return (found.st_ino, found.st_mode, found.st_uid, found.st_size, found.st_mtime_ns)


def _closed(place: Path, victim: Victim) -> None:
    place.write_text("mine")
    place.chmod(0)


def _enormous(place: Path, victim: Victim) -> None:
    place.touch()
    os.truncate(place, ENORMOUS_BYTES)


def _folder(place: Path, victim: Victim) -> None:
    place.mkdir()
    (place / "kept").write_text("mine")


def _closed_folder(place: Path, victim: Victim) -> None:
    _folder(place, victim)
    place.chmod(0)


IN_PLACE = (
    Thing(
        name="link", lay=lambda place, victim: place.symlink_to(victim.folder / "inner" / "secret")
    ),
    Thing(name="dangling", lay=lambda place, victim: place.symlink_to(victim.folder / "new")),
    Thing(name="device", lay=lambda place, victim: place.symlink_to("/dev/zero")),
    Thing(name="folder-link", lay=lambda place, victim: place.symlink_to(victim.folder)),
    Thing(
        name="hard-link", lay=lambda place, victim: place.hardlink_to(victim.secret), given=False
    ),
    Thing(name="pipe", lay=lambda place, victim: os.mkfifo(place)),
    Thing(name="closed", lay=_closed),
    Thing(name="enormous", lay=_enormous),
    Thing(name="folder", lay=_folder, keeps=True),
    Thing(name="closed-folder", lay=_closed_folder, keeps=True),
)
"""What lies in the place of a file."""

IN_PARENT = (
    Thing(
        name="parent-link",
        lay=lambda place, victim: place.symlink_to(victim.folder),
        in_parent=True,
    ),
    Thing(name="parent-pipe", lay=lambda place, victim: os.mkfifo(place), in_parent=True),
    Thing(name="parent-closed", lay=_closed_folder, in_parent=True),
)
"""What lies in the place of the folder that a file is in."""

THINGS = (*IN_PLACE, *IN_PARENT)


def fitting(path: str) -> tuple[Thing, ...]:
    """Return what can lie there: a workspace itself is no folder that a file is in."""
    return THINGS if "/" in path else IN_PLACE
