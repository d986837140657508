"""Open trees that their users own: the only module that does.

The users of a workspace may put a link, a pipe or somebody else's folder where the service, with
far more rights than they have, is about to read or write. So nothing here resolves a path twice:
a tree is an open directory, everything below it is reached component by component relative to
that descriptor and never through a link, and what was opened is asked what it is before it is
used. What is not a plain file or folder counts as changed by the user: it is neither read,
followed nor written, only replaced by a rename in the folder that holds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from provisioner import telemetry

_log = telemetry.Log(__name__)

LIMIT_BYTES = 4 * 1024 * 1024
"""Larger files are not ours: nothing that the provisioner writes or merges comes near."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFINISHED = re.compile(r"\.provisioner-[0-9a-f]{16}\.tmp")
_UNOPENED = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EACCES, errno.EPERM})
"""What opening a link, a socket, a device or a file that its mode closes to us gives."""
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})
"""What a file system without hard links says, or a kernel to whom the file has been given away."""
_SYNCED_AT_ONCE, _OPEN_AT_ONCE = 8, 64
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})


class ChangedByUser(Exception):
    """Say that what lies there is no plain file or folder such as we leave behind."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who gets what we make; -1 leaves it to the service's own ids."""

    uid: int = -1
    gid: int = -1


@dataclass(frozen=True, kw_only=True)
class File:
    """A plain file as it was read."""

    data: bytes = field(repr=False)
    mode: int
    uid: int
    stamp: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """Device, inode, size and times before it was read: what is read later is told apart by it."""


class Tree:
    """An open directory; everything below is reached through its descriptor.

    Relative paths are given with `/`, without empty, `.` and `..` components. Methods raise
    OSError as the system gives it and `ChangedByUser` for what must not be touched.
    """

    def __init__(self, descriptor: int, owner: Owner) -> None:
        self._descriptor = descriptor
        self._owner = owner

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def identity(self) -> str:
        """Name the directory itself, whatever it is called: device and inode."""
        status = os.fstat(self._descriptor)
        return f"{status.st_dev}:{status.st_ino}"

    @property
    def path(self) -> Path:
        """Name the directory for a program that works in it, as long as this tree is open.

        For folders that nobody but the service may enter: below, a path is followed as any other.
        """
        return Path(f"/proc/{os.getpid()}/fd/{self._descriptor}")

    @property
    def uid(self) -> int:
        """Whom what we make here belongs to."""
        return os.geteuid() if self._owner.uid < 0 else self._owner.uid

    def names(self) -> tuple[str, ...]:
        """List what lies in the directory, sorted."""
        with os.scandir(self._descriptor) as entries:
            return tuple(sorted(entry.name for entry in entries))

    def is_empty(self) -> bool:
        """Tell whether nothing lies in the directory."""
        with os.scandir(self._descriptor) as entries:
            return next(entries, None) is None

    def holds(self, name: str) -> bool:
        """Tell whether anything, a broken link too, has that name in the directory."""
        try:
            os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def folder(self, rel: str, *, mends: bool = True) -> Tree:
        """Open a folder below; FileNotFoundError where there is none.

        One of the service's own user that was closed to it is opened up, if it `mends`.
        """
        descriptor = os.dup(self._descriptor)
        for segment in _segments(rel):
            try:
                opened = _open_folder(segment, descriptor, mends=mends)
            finally:
                os.close(descriptor)
            descriptor = opened
        return Tree(descriptor, self._owner)

    def make_folder(self, rel: str, mode: int, owner: Owner | None = None) -> Tree:
        """Open a folder of ours, made if it is not there; its parent must be.

        It and what is made in it go to `owner`, or else to the owner of this tree. Anything else
        of that name is set aside: a link, a file, a folder that belongs to somebody else.
        """
        with self._parent(rel) as (parent, name):
            for _ in range(2):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=parent)
                with contextlib.suppress(ChangedByUser, PermissionError):
                    tree = Tree(_open_folder(name, parent), owner or self._owner)
                    if tree._claim(mode):
                        return tree
                    os.close(tree._descriptor)
                _set_aside(name, parent)
        raise ChangedByUser(rel)

    def own_folder(self, name: str, *, make: bool = True) -> Tree:
        """Open a folder that nobody but the service may enter (0700); `make` one if need be."""
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._descriptor)
        tree = Tree(_open_folder(name, self._descriptor), Owner())
        status = os.fstat(tree._descriptor)
        if status.st_uid != os.geteuid():
            os.close(tree._descriptor)
            raise ChangedByUser(name)
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(tree._descriptor, 0o700)
        return tree

    def read(self, rel: str, *, most_bytes: int = LIMIT_BYTES) -> File | None:
        """Return a plain file; None where nothing lies there."""
        try:
            with self._parent(rel) as (parent, name):
                descriptor = os.open(name, _READ, dir_fd=parent)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno in _UNOPENED:
                raise ChangedByUser(rel) from exc
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise ChangedByUser(rel)
            if status.st_size > most_bytes:
                raise ChangedByUser(rel)
            data = _read_all(descriptor, most_bytes)
        finally:
            os.close(descriptor)
        if len(data) > most_bytes:
            raise ChangedByUser(rel)
        return File(
            data=data,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            stamp=_stamp(status),
        )

    def add(self, rel: str, data: bytes | memoryview, mode: int) -> None:
        """Make a new file, durable; FileExistsError where anything has that name."""
        with self._parent(rel) as (parent, name):
            descriptor = self._new(parent, name, data, mode)
            try:
                os.fsync(descriptor)
            except BaseException:
                _forget(name, parent)
                raise
            finally:
                os.close(descriptor)

    def add_all(self, files: Sequence[tuple[str, bytes, int]]) -> None:
        """Make new files as `add` does; after a failure what was made so far stays.

        They are made durable side by side: a disk takes many at once about as soon as one.
        """
        with ThreadPoolExecutor(_SYNCED_AT_ONCE) as threads:
            for first in range(0, len(files), _OPEN_AT_ONCE):
                with contextlib.ExitStack() as opened:
                    descriptors = []
                    for rel, data, mode in files[first : first + _OPEN_AT_ONCE]:
                        with self._parent(rel) as (parent, name):
                            descriptors.append(self._new(parent, name, data, mode))
                        opened.callback(os.close, descriptors[-1])
                    for _ in threads.map(os.fsync, descriptors):
                        pass

    def _new(self, parent: int, name: str, data: bytes | memoryview, mode: int) -> int:
        """Make a file and return its descriptor; it is not durable yet."""
        descriptor = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            _write_all(descriptor, data)
            os.fchmod(descriptor, mode)
            if self._owner != Owner():
                os.fchown(descriptor, self._owner.uid, self._owner.gid)
        except BaseException:
            os.close(descriptor)
            _forget(name, parent)
            raise
        return descriptor

    def write(self, rel: str, data: bytes | memoryview, mode: int) -> None:
        """Put a file in place by rename, durable.

        A link of that name is replaced itself; a folder is set aside.
        """
        with self._parent(rel) as (parent, name):
            folder = Tree(parent, self._owner)
            beside = f".provisioner-{secrets.token_hex(8)}.tmp"
            folder.add(beside, data, mode)
            try:
                folder._rename_over(beside, name)
            except BaseException:
                _forget(beside, parent)
                raise
            os.fsync(parent)

    def swap(self, rel: str, seen: File | None, data: bytes, mode: int) -> bool:
        """Put a file in place of the one that was read, durable; False where it is another now.

        Compared again right before the rename, so that what an editor saves meanwhile stays, but
        for the instant between the two. Where nothing lay nothing is ever replaced.
        """
        with self._parent(rel) as (parent, name):
            folder = Tree(parent, self._owner)
            beside = f".provisioner-{secrets.token_hex(8)}.tmp"
            folder.add(beside, data, mode)
            try:
                if not folder._is_still(name, seen) or not folder._put(beside, name, seen):
                    _forget(beside, parent)
                    return False
            except BaseException:
                _forget(beside, parent)
                raise
            os.fsync(parent)
        return True

    def _put(self, beside: str, name: str, seen: File | None) -> bool:
        """Rename a file; where nothing lay only onto nothing, if the file system has links."""
        here = self._descriptor
        if seen is None:
            try:
                os.link(beside, name, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
            except FileExistsError:
                return False
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise
            else:
                os.unlink(beside, dir_fd=here)
                return True
        os.rename(beside, name, src_dir_fd=here, dst_dir_fd=here)
        return True

    def remove_seen(self, rel: str, seen: File) -> bool:
        """Remove the file that was read, durable; False where it is another now."""
        with self._parent(rel) as (parent, name):
            if not Tree(parent, self._owner)._is_still(name, seen):
                return False
            os.unlink(name, dir_fd=parent)
            os.fsync(parent)
        return True

    def _is_still(self, name: str, seen: File | None) -> bool:
        """Tell whether the very file that was read lies there, or still nothing."""
        try:
            now = self.read(name)
        except ChangedByUser:
            return False
        if now is None or seen is None:
            return now is seen
        return now == seen and now.stamp == seen.stamp

    def add_folder(self, rel: str, mode: int) -> None:
        """Make a folder, durable, unless there is one; `ChangedByUser` for anything else.

        One that was made and not yet given away when we died is given away now.
        """
        with self._parent(rel) as (parent, name):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
            with Tree(_open_folder(name, parent), self._owner) as tree:
                status = os.fstat(tree._descriptor)
                fresh = stat.S_IMODE(status.st_mode) == 0o700 and tree.is_empty()
                if fresh and status.st_uid == os.geteuid():
                    tree._claim(mode)
            os.fsync(parent)

    def set_aside(self, rel: str) -> None:
        """Give what lies there another name, whatever it is."""
        with self._parent(rel) as (parent, name):
            _set_aside(name, parent)

    def remove(self, rel: str) -> None:
        """Remove a file or a link; a folder is left, and what is gone is success."""
        with contextlib.suppress(FileNotFoundError), self._parent(rel) as (parent, name):
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                return
            os.unlink(name, dir_fd=parent)
            os.fsync(parent)

    def remove_empty(self, name: str) -> None:
        """Remove a folder unless something lies in it."""
        try:
            os.rmdir(name, dir_fd=self._descriptor)
        except OSError as exc:
            if exc.errno not in _TAKEN and not isinstance(exc, FileNotFoundError):
                raise
        else:
            os.fsync(self._descriptor)

    def remove_all(self, name: str) -> None:
        """Remove a folder with all that is in it; links in it are removed, not followed.

        However deep it is: what lies in a folder below is first moved to the top.
        """
        with contextlib.suppress(FileNotFoundError):
            with self.folder(name) as top:
                while inner := top._remove_files():
                    for each in inner:
                        with top.folder(each) as below:
                            for deeper in below._remove_files():
                                below._lift(deeper, top)
                        os.rmdir(each, dir_fd=top._descriptor)
            os.rmdir(name, dir_fd=self._descriptor)
            os.fsync(self._descriptor)

    def _remove_files(self) -> tuple[str, ...]:
        """Remove all that is no folder from the directory itself; return the folders in it."""
        with os.scandir(self._descriptor) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in found:
            if not is_folder:
                os.unlink(name, dir_fd=self._descriptor)
        return tuple(name for name, is_folder in found if is_folder)

    def _lift(self, name: str, into: Tree) -> None:
        """Move a folder that is about to be removed; one closed to us could not be moved."""
        os.close(_open_folder(name, self._descriptor))
        as_name = secrets.token_hex(8)
        os.rename(name, as_name, src_dir_fd=self._descriptor, dst_dir_fd=into._descriptor)

    def unfinished(self) -> tuple[str, ...]:
        """List what writes that were interrupted left in the directory; a folder is none."""
        with os.scandir(self._descriptor) as entries:
            return tuple(
                sorted(
                    entry.name
                    for entry in entries
                    if _UNFINISHED.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False)
                )
            )

    def move(self, name: str, into: Tree, as_name: str) -> None:
        """Rename a folder into another tree, durable; FileExistsError unless onto nothing.

        An empty folder counts as nothing.
        """
        try:
            os.rename(name, as_name, src_dir_fd=self._descriptor, dst_dir_fd=into._descriptor)
        except OSError as exc:
            if exc.errno in _TAKEN:
                raise FileExistsError(exc.errno, os.strerror(exc.errno), as_name) from exc
            raise
        os.fsync(into._descriptor)
        os.fsync(self._descriptor)

    def sync(self) -> None:
        """Make the names in the directory durable."""
        os.fsync(self._descriptor)

    def lock(self, *, wait: bool) -> bool:
        """Hold the directory until this tree is closed; the kernel frees it if we die."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def _claim(self, mode: int) -> bool:
        """Give a new folder its owner and mode; False where it is not ours.

        Only a folder that is the service's and empty is new: giving away one that holds
        something would open whatever the user moved there.
        """
        status = os.fstat(self._descriptor)
        fresh = status.st_uid == os.geteuid() and self.is_empty()
        if not fresh and status.st_uid != self.uid:
            return False
        if stat.S_IMODE(status.st_mode) != mode:
            os.fchmod(self._descriptor, mode)
        if fresh and self._owner != Owner():
            os.fchown(self._descriptor, self._owner.uid, self._owner.gid)
        return True

    def _rename_over(self, beside: str, name: str) -> None:
        here = self._descriptor
        try:
            os.rename(beside, name, src_dir_fd=here, dst_dir_fd=here)
        except IsADirectoryError:
            _set_aside(name, here)
            os.rename(beside, name, src_dir_fd=here, dst_dir_fd=here)

    @contextlib.contextmanager
    def _parent(self, rel: str) -> Iterator[tuple[int, str]]:
        *folders, name = _segments(rel)
        if not folders:
            yield self._descriptor, name
            return
        with self.folder("/".join(folders)) as tree:
            yield tree._descriptor, name


def open_tree(path: Path, owner: Owner | None = None) -> Tree:
    """Open a folder that the operator named; links on the way to it are the operator's own."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Tree(descriptor, owner or Owner())


def _segments(rel: str) -> list[str]:
    segments = rel.split("/")
    if any(segment in ("", ".", "..") or "\0" in segment for segment in segments):
        raise ValueError("a path below a tree has plain components only")
    return segments


def _open_folder(name: str, parent: int, *, mends: bool = True) -> int:
    """Open a folder; one of the service's own user that was closed to it is opened up."""
    try:
        try:
            descriptor = os.open(name, _FOLDER, dir_fd=parent)
        except PermissionError:  # pragma: no cover - root never meets this
            if not mends:
                raise
            _open_up(name, parent)
            descriptor = os.open(name, _FOLDER, dir_fd=parent)
    except OSError as exc:
        if exc.errno in (errno.ENOTDIR, errno.ELOOP):
            raise ChangedByUser(name) from exc
        raise
    if mends and _is_closed(descriptor):
        _open_up(name, parent)
    return descriptor


def _open_up(name: str, parent: int) -> None:
    """Give the owner's rights back to a folder of ours, or its user could hold up its deletion."""
    descriptor = os.open(name, _FOLDER | os.O_PATH, dir_fd=parent)
    try:
        if _is_closed(descriptor):
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode) | 0o700
            Path(f"/proc/self/fd/{descriptor}").chmod(mode)  # fchmod takes no such descriptor
    finally:
        os.close(descriptor)


def _is_closed(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return status.st_uid == os.geteuid() and status.st_mode & 0o700 != 0o700


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _read_all(descriptor: int, most_bytes: int) -> bytes:
    """Read to the end, or one byte past the limit: a file may grow while it is read."""
    chunks: list[bytes] = []
    left = most_bytes + 1
    while left and (chunk := os.read(descriptor, min(left, 1 << 20))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _forget(name: str, parent: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=parent)


def _set_aside(name: str, parent: int) -> None:
    """Rename what lies there, without looking at it; gone is success."""
    aside = f"{name}.found-{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=parent)
        _log.warning("set aside what lay where a file of ours belongs", name=name, aside=aside)
