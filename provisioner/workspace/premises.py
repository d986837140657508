"""Open the output folder and our own in it; what is made there is made in staging first."""

from __future__ import annotations

import contextlib
import errno
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from provisioner import errors, names
from provisioner.workspace import claims, ground

_OPEN_FOLDER = 0o755


class Premises:
    """Hold the folder in which all workspaces lie, and our own beside them."""

    def __init__(self, path: Path, owner: ground.Owner) -> None:
        self._path = path
        self._owner = owner
        self._sweeping = threading.Lock()
        self._swept = False

    @contextlib.contextmanager
    def disk(self, namespace: str) -> Iterator[None]:
        """Check the name, and translate what the disk says."""
        names.check_namespace(namespace)
        try:
            yield
        except (ground.ChangedByUser, FileNotFoundError) as exc:
            raise errors.Conflict(
                "somebody changed the folder meanwhile", namespace=namespace
            ) from exc
        except OSError as exc:
            raise errors.DiskUnavailable(
                "the output folder cannot be used now",
                path=namespace,
                reason=errno.errorcode.get(exc.errno or 0, "unknown"),
            ) from exc

    def opened(self, *, make: bool = False) -> ground.Tree:
        """Open the output folder itself; `make` it if need be."""
        if make and not self._path.is_dir():
            self._path.mkdir(parents=True, exist_ok=True)
            self._path.chmod(_OPEN_FOLDER)
        return ground.open_tree(self._path, self._owner)

    @contextlib.contextmanager
    def staged(self, private: ground.Tree) -> Iterator[ground.Tree]:
        """Make a folder in staging, held by a lock as long as we live, and remove it after."""
        name = secrets.token_hex(8)
        with private.own_folder("staging") as staging:
            with private.own_folder("staging") as door:
                door.lock(wait=True)  # nobody sweeps between a folder's making and its lock
                stage = staging.own_folder(name)
                stage.lock(wait=True)
            try:
                with stage:
                    yield stage
            finally:
                staging.remove_all(name)

    def sweep(self, root: ground.Tree) -> None:
        """Once a process: remove what makers that died left behind."""
        with self._sweeping:
            if self._swept:
                return
            with root.own_folder(claims.PRIVATE) as private:
                with private.own_folder("staging") as staging:
                    staging.lock(wait=True)
                    for name in staging.names():
                        # What is no folder, or cannot be locked here, is not ours to judge.
                        with contextlib.suppress(OSError, ground.ChangedByUser):
                            _remove_unused(staging, name)
                claims.sweep(private)
            self._swept = True

    @contextlib.contextmanager
    def record(
        self, root: ground.Tree, product_id: str, *, make: bool = True
    ) -> Iterator[ground.Tree]:
        """Open what we keep of one product; `make` it if need be."""
        with (
            root.own_folder(claims.PRIVATE, make=make) as private,
            private.own_folder(product_id, make=make) as record,
        ):
            yield record

    def check_owner(self, root: ground.Tree, namespace: str, product_id: str) -> None:
        """Raise `Conflict` where there is no such workspace, `NotOurs` for another product's."""
        owner = claims.owner(root, namespace)
        if owner is None:
            raise errors.Conflict("the workspace is gone", namespace=namespace)
        if owner != product_id:
            raise claims.not_ours(namespace)


def _remove_unused(staging: ground.Tree, name: str) -> None:
    with staging.folder(name) as left:
        if left.lock(wait=False):
            staging.remove_all(name)
