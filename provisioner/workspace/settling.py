"""Bring one workspace to a new rendering of its template, file by file, keeping users' changes.

Every file is read, decided on (`merging`), compared once more and put in place by a rename, so
that at every instant it is the old one or the new one, whole. What was meant stands written down
(`upgrading`): whoever goes on after a crash tells by it which files are done, for what was merged
must not be merged twice. Whatever the users do meanwhile is decided on afresh.

A newer version that did not merge lies beside the user's file as `X.template-new`. As long as it
does, the file counts as brought to the version before; once it is taken away, or the file equal
to it, as brought to the newer one.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from provisioner import errors, model, ports
from provisioner.workspace import blueprint, ground, keeping, merging

SUFFIX = ".template-new"
_TRIES = 3
_RETRY_SECONDS = 2.0
_OPEN_FOLDER = 0o755
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.ENAMETOOLONG})
"""Where we cannot write: what lies there stays the user's."""
_Change = model.FileChange
_WRITES = frozenset({_Change.ADDED, _Change.UPDATED, _Change.MERGED, _Change.REMOVED})
_GONE = "gone"

_Ours = merging.Version | merging.Untouchable | None


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What became of the files of a workspace."""

    changes: Mapping[str, model.FileChange]
    conflicts: Mapping[str, str]
    """Files in conflict, each with the digest of what was put beside it."""
    older: Mapping[str, merging.Version]
    """The versions that these were brought to, as far as there are any."""


class Settling:
    """Compare what is kept of a workspace, a new rendering, and what lies there."""

    def __init__(
        self,
        workspace: ground.Tree,
        kept: keeping.Kept,
        rendering: blueprint.Rendering,
        *,
        leaving_out: frozenset[str] = frozenset(),
    ) -> None:
        self._workspace = workspace
        self._kept = kept
        self._rendering = rendering
        self._left_out = leaving_out
        self._before = keeping.versions(kept.rendering)
        self._theirs = keeping.versions(rendering)
        self._bases: dict[str, merging.Version | None] = {}

    @property
    def is_idle(self) -> bool:
        """Tell whether the new rendering is the old one, and nothing is in conflict."""
        same = self._before == self._theirs and not self._kept.conflicts
        return same and set(self._kept.rendering.folders) == set(self._rendering.folders)

    def paths(self) -> tuple[str, ...]:
        """List every file of either version; what the template has no more comes first."""
        both = {*self._before, *self._theirs} - self._left_out
        return tuple(sorted(both, key=lambda path: (path in self._theirs, path)))

    def foresee(self) -> dict[str, merging.Decision]:
        """Decide on every file as they are now."""
        return {path: self._decide(path, *_look(self._workspace, path)) for path in self.paths()}

    def settle(self, hints: Mapping[str, tuple[str, str]]) -> Settled:
        """Carry it all out, by what was meant where that is done already."""
        self._tidy()
        paths, put = self.paths(), dict[str, str]()
        bases = {path: self._base(path) for path in paths}  # before any of them is touched
        dropped = [path for path in paths if path not in self._theirs]
        changes = {path: self._settle(path, hints.get(path), put) for path in dropped}
        self._change_folders()
        for path in paths[len(dropped) :]:
            changes[path] = self._settle(path, hints.get(path), put)
        for path in self._kept.conflicts.keys() - put.keys():
            self._drop_beside(path)
        older = {path: base for path in put if (base := bases[path]) is not None}
        return Settled(changes=changes, conflicts=put, older=older)

    def _base(self, path: str) -> merging.Version | None:
        """Return the version that the user's file was brought to, as it was when first asked."""
        if path not in self._bases:
            stuck = path in self._kept.conflicts and is_open(self._workspace, path)
            kept = self._kept.older if stuck else self._before
            self._bases[path] = kept.get(path)
        return self._bases[path]

    def _decide(self, path: str, ours: _Ours, seen: ground.File | None) -> merging.Decision:
        base, theirs = self._base(path), self._theirs.get(path)
        foreign = seen is not None and seen.uid != self._workspace.uid
        if foreign and ours not in (base, theirs):
            ours = merging.UNTOUCHABLE  # it would become somebody else's
        decision = merging.decide(base, theirs, ours)
        if decision.change is _Change.ADDED and self._was_deleted(path):
            return merging.Decision(change=_Change.KEPT_DELETED)
        if decision.beside is not None and not self._is_reachable(path):
            return merging.Decision(change=_Change.KEPT_EDITED)
        return decision

    def _was_deleted(self, path: str) -> bool:
        """Tell whether a new file belongs into a folder that its users have deleted."""
        known = set(self._kept.rendering.folders)
        return any(
            folder in known and not _is_there(self._workspace, folder) for folder in _above(path)
        )

    def _is_reachable(self, path: str) -> bool:
        above = _above(path)
        return not above or _is_there(self._workspace, above[-1])

    def _settle(self, path: str, hint: tuple[str, str] | None, put: dict[str, str]) -> _Change:
        for _ in range(_TRIES):
            ours, seen = _look(self._workspace, path)
            if hint is not None and hint[1] == state(ours):
                return _Change(hint[0])
            decision = self._decide(path, ours, seen)
            try:
                if self._carry_out(path, decision, seen, put):
                    return decision.change
            except FileNotFoundError:
                continue  # its folder went meanwhile
            except (OSError, ground.ChangedByUser) as exc:
                if isinstance(exc, OSError) and exc.errno not in _CLOSED:
                    raise
                return _Change.KEPT_EDITED
        raise errors.Conflict(
            "a file is changed all the time", delay_seconds=_RETRY_SECONDS, file=path
        )

    def _carry_out(
        self,
        path: str,
        decision: merging.Decision,
        seen: ground.File | None,
        put: dict[str, str],
    ) -> bool:
        """Do what was decided; False where the file is another by now."""
        if decision.write is not None:
            mode = _mode(seen, executable=decision.write.executable)
            return self._workspace.swap(path, seen, decision.write.data, mode)
        if decision.removes and seen is not None:
            return self._workspace.remove_seen(path, seen)
        if decision.beside is not None:
            if not self._put_beside(path, decision.beside):
                return False
            put[path] = keeping.digest(decision.beside.data)
        return True

    def _put_beside(self, path: str, version: merging.Version) -> bool:
        """Put a newer version beside a file; what a user made of an earlier one is set aside."""
        name = f"{path}{SUFFIX}"
        there, seen = _look(self._workspace, name)
        if isinstance(there, merging.Version):
            ours = (self._kept.conflicts.get(path), keeping.digest(version.data))
            if there.data == version.data:
                return True
            if keeping.digest(there.data) not in ours:
                there = merging.UNTOUCHABLE
        if isinstance(there, merging.Untouchable):
            self._workspace.set_aside(name)
            seen = None
        mode = _mode(None, executable=version.executable)
        return self._workspace.swap(name, seen, version.data, mode)

    def _drop_beside(self, path: str) -> None:
        """Take away what was put beside a file that is in conflict no more, unless it changed."""
        name = f"{path}{SUFFIX}"
        there, seen = _look(self._workspace, name)
        ours = self._kept.conflicts[path]
        if isinstance(there, merging.Version) and seen and keeping.digest(there.data) == ours:
            with contextlib.suppress(PermissionError, FileNotFoundError, ground.ChangedByUser):
                self._workspace.remove_seen(name, seen)

    def _change_folders(self) -> None:
        """Remove folders that the template has no more and that are empty; make new ones."""
        old, new = set(self._kept.rendering.folders), self._rendering.folders
        for folder in sorted(old - set(new), reverse=True):
            above, _, name = folder.rpartition("/")
            with _passing_over(), _opened(self._workspace, above) as tree:
                tree.remove_empty(name)
        for folder in new:
            if folder not in old and not self._was_deleted(f"{folder}/"):
                with _passing_over():
                    self._workspace.add_folder(folder, _OPEN_FOLDER)

    def _tidy(self) -> None:
        """Remove what an upgrade that was stopped left half-written."""
        for folder in {path.rpartition("/")[0] for path in self.paths()}:
            with _passing_over(), _opened(self._workspace, folder) as tree:
                for name in tree.unfinished():
                    tree.remove(name)


@contextlib.contextmanager
def _passing_over() -> Iterator[None]:
    """Leave alone what is not there, is no folder, or is closed to us."""
    with contextlib.suppress(FileNotFoundError, PermissionError, ground.ChangedByUser):
        yield


def hints(decisions: Mapping[str, merging.Decision]) -> dict[str, tuple[str, str]]:
    """Say of each file that is to be written what it is then."""
    return {
        path: (decision.change, state(decision.write))
        for path, decision in decisions.items()
        if decision.change in _WRITES
    }


def state(version: _Ours) -> str:
    """Name what lies in a place."""
    if version is None:
        return _GONE
    if isinstance(version, merging.Untouchable):
        return ""
    return f"{keeping.digest(version.data)}:{version.executable}"


def look(workspace: ground.Tree, conflicts: Iterable[str]) -> ports.OpenConflicts:
    """Look which of the files in conflict are still so."""
    found: dict[bool, list[str]] = {True: [], False: []}
    for path in sorted(conflicts):
        found[is_open(workspace, path)].append(path)
    return ports.OpenConflicts(unresolved=tuple(found[True]), resolved=tuple(found[False]))


def is_open(workspace: ground.Tree, path: str) -> bool:
    """Tell whether a newer version lies beside a file that is not equal to it."""
    newer, _ = _look(workspace, f"{path}{SUFFIX}")
    return isinstance(newer, merging.Version) and not _is_taken(workspace, path, newer)


def _is_taken(workspace: ground.Tree, path: str, newer: merging.Version) -> bool:
    ours, _ = _look(workspace, path)
    return isinstance(ours, merging.Version) and ours.data == newer.data


def tidy(workspace: ground.Tree, conflicts: Iterable[str]) -> None:
    """Remove newer versions that the file beside them is equal to."""
    for path in conflicts:
        name = f"{path}{SUFFIX}"
        newer, seen = _look(workspace, name)
        if isinstance(newer, merging.Version) and seen and _is_taken(workspace, path, newer):
            with _passing_over():
                workspace.remove_seen(name, seen)


def _look(workspace: ground.Tree, path: str) -> tuple[_Ours, ground.File | None]:
    """Return what lies in a place, and the file as it was read."""
    try:
        file = workspace.read(path)
    except (PermissionError, ground.ChangedByUser):
        return merging.UNTOUCHABLE, None
    if file is None:
        return None, None
    return merging.Version(data=file.data, executable=bool(file.mode & 0o100)), file


def _is_there(workspace: ground.Tree, folder: str) -> bool:
    try:
        with workspace.folder(folder):
            return True
    except (FileNotFoundError, PermissionError, ground.ChangedByUser):
        return False


def _opened(workspace: ground.Tree, folder: str) -> contextlib.AbstractContextManager[ground.Tree]:
    """Open a folder below; "" is the workspace itself, which stays open."""
    return workspace.folder(folder) if folder else contextlib.nullcontext(workspace)


def _above(path: str) -> list[str]:
    """List the folders that a path lies in, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _mode(seen: ground.File | None, *, executable: bool) -> int:
    """Return the mode for a file: the user's own, but for whether it is a program."""
    if seen is None:
        return 0o755 if executable else 0o644
    mode = seen.mode & 0o777
    if bool(mode & 0o100) == executable:
        return mode
    return mode | (mode & 0o444) >> 2 if executable else mode & ~0o111
