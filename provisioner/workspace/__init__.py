"""Keep workspaces in the output folder: one a product, named by its namespace.

A workspace is rendered and filled in `.provisioner/staging/`, on the same file system and closed
to everybody else, and then swapped in whole by one rename, so that a crash half-way leaves
nothing that looks finished. Nothing in a workspace is trusted as state. What belongs to whom is
kept in `.provisioner/`:

    names/<namespace>      which product the folder of that name belongs to, see `claims`
    <product id>/          answers.json and render/, the pristine rendering
    staging/<random>/      what is being made; held by a lock, swept when nobody holds it
    archive/<product id>/  workspaces of products that are gone
    turns/<product id>/    locked by the process that is writing for the product, see `turns`
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from provisioner import errors, model, names, ports, telemetry
from provisioner.workspace import blueprint, claims, ground, laying, moving, owned, render, turns

_log = telemetry.Log(__name__)

_OPEN_FOLDER, _CLOSED_FOLDER = 0o755, 0o700


class CookiecutterWorkspaces:
    """Keep workspaces rendered from one Cookiecutter template."""

    def __init__(
        self, *, output: Path, template: Path, uid: int | None = None, gid: int | None = None
    ) -> None:
        self._output = output.absolute()
        self._template = render.Template(template.absolute())
        self._owner = ground.Owner(uid=-1 if uid is None else uid, gid=-1 if gid is None else gid)
        self._sweeping = threading.Lock()
        self._swept = False

    def template_digest(self) -> str:
        """Digest the template folder as it is now; `TemplateError` where there is none."""
        return self._template.digest()

    @contextlib.contextmanager
    def held(self, product_id: str) -> Iterator[None]:
        """Keep every other process from writing for the product; `Conflict` where one does."""
        _check_id(product_id)
        with contextlib.ExitStack() as stack:
            with self._disk(product_id):
                root = stack.enter_context(self._opened(make=True))
                stack.enter_context(turns.take(root, product_id))
            yield

    def owner(self, namespace: str) -> str | None:
        """Return the product id a folder was rendered for; "" for a foreign, non-empty folder.

        None where there is no folder, or an empty one.
        """
        with self._disk(namespace):
            try:
                with self._opened() as root:
                    return claims.owner(root, namespace)
            except FileNotFoundError:
                return None

    def create(self, spec: ports.WorkspaceSpec, files: ports.OwnedFiles) -> None:
        """Render in staging, add our files, swap the folder in whole; `NotOurs`, `TemplateError`.

        A folder of the same product that is already there is kept; our files are published.
        """
        _check_id(spec.product_id)
        if (owner := self.owner(spec.namespace)) == spec.product_id:
            self.publish(spec.namespace, spec.product_id, files)
            return
        if owner is not None:
            raise claims.not_ours(spec.namespace)
        answers = {
            "namespace": spec.namespace,
            "template_digest": self._template.digest(),
            "context": dict(spec.context),
        }
        rendering = laying.without(self._template.render(spec.context, spec.text), files)
        with self._disk(spec.namespace), self._opened(make=True) as root:
            self._make(root, spec, answers, rendering, files)
        _log.info("made a workspace", namespace=spec.namespace, product_id=spec.product_id)

    def publish(self, namespace: str, product_id: str, files: ports.OwnedFiles) -> None:
        """Write our files into an existing workspace, each by rename, secrets last.

        `NotOurs` where the folder is not the product's, `Conflict` where there is none.
        """
        _check_id(product_id)
        with self._disk(namespace), self._opened() as root:
            owner = claims.owner(root, namespace)
            if owner is None:
                raise errors.Conflict("the workspace is gone", namespace=namespace)
            if owner != product_id:
                raise claims.not_ours(namespace)
            self._sweep(root)
            with root.folder(namespace) as workspace:
                claims.confirm(root, namespace)
                owned.publish(workspace, files)

    def published(self, namespace: str, files: ports.OwnedFiles) -> bool:
        """Tell whether our files lie in the workspace exactly so, and nothing half-written."""
        with self._disk(namespace):
            try:
                with self._opened() as root, root.folder(namespace) as workspace:
                    return owned.is_published(workspace, files)
            except (FileNotFoundError, PermissionError, ground.ChangedByUser):
                return False

    def retract(self, namespace: str, product_id: str) -> None:
        """Remove `.env`, `.env.local` and `.aws/`; gone or not this product's is left alone.

        What the user put into `.aws/` stays, and `.aws/` with it.
        """
        _check_id(product_id)
        with self._disk(namespace), contextlib.suppress(FileNotFoundError), self._opened() as root:
            if claims.owner(root, namespace) == product_id:
                with root.folder(namespace) as workspace:
                    owned.retract(workspace)

    def move(self, old: str, new: str, product_id: str) -> None:
        """Give a workspace another name, by one rename; one that has it already is success."""
        _check_id(product_id)
        names.check_namespace(old)
        with self._disk(new), self._opened() as root:
            self._sweep(root)
            with root.own_folder(claims.PRIVATE) as private:
                moving.move(root, private, old, new, product_id)
        _log.info("moved a workspace", namespace=new, product_id=product_id)

    def adopt(self, namespace: str, product_id: str) -> None:
        """Make a folder the product's, whoever's it was; its files stay as they are."""
        _check_id(product_id)
        with (
            self._disk(namespace),
            self._opened() as root,
            root.own_folder(claims.PRIVATE) as private,
        ):
            moving.adopt(root, private, namespace, product_id)
        _log.info("adopted a folder", namespace=namespace, product_id=product_id)

    def purge(self, product_id: str) -> None:
        """Delete the archived workspaces of a product; none is success."""
        _check_id(product_id)
        with (
            self._disk(product_id),
            contextlib.suppress(FileNotFoundError),
            self._opened() as root,
            root.own_folder(claims.PRIVATE, make=False) as private,
        ):
            moving.purge(private, product_id)

    def archive(self, namespace: str, product_id: str) -> None:
        """Move the workspace to `.provisioner/archive/<id>/`; gone or not ours is success.

        A second one of the same product goes to `<id>.2`, and so on; no secret goes along.
        """
        _check_id(product_id)
        with self._disk(namespace), contextlib.suppress(FileNotFoundError), self._opened() as root:
            claim = claims.read(root, namespace)
            if claim is None or claim.product_id != product_id:
                return
            self._sweep(root)
            with root.own_folder(claims.PRIVATE) as private:
                if moving.archive(root, private, namespace, product_id):
                    _log.info("archived a workspace", namespace=namespace, product_id=product_id)

    def _make(
        self,
        root: ground.Tree,
        spec: ports.WorkspaceSpec,
        answers: Mapping[str, object],
        rendering: blueprint.Rendering,
        files: ports.OwnedFiles,
    ) -> None:
        self._sweep(root)
        with root.own_folder(claims.PRIVATE) as private, self._staged(private) as stage:
            with stage.make_folder("record", _CLOSED_FOLDER) as record:
                laying.record(record, answers, rendering)
            with stage.make_folder("workspace", _OPEN_FOLDER, self._owner) as workspace:
                laying.lay(workspace, rendering)
                owned.lay(workspace, files)
                claim = claims.Claim(product_id=spec.product_id, folder=workspace.identity)
            _swap(root, private, stage, spec.namespace, claim)

    @contextlib.contextmanager
    def _disk(self, namespace: str) -> Iterator[None]:
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

    def _opened(self, *, make: bool = False) -> ground.Tree:
        if make and not self._output.is_dir():
            self._output.mkdir(parents=True, exist_ok=True)
            self._output.chmod(_OPEN_FOLDER)
        return ground.open_tree(self._output, self._owner)

    @contextlib.contextmanager
    def _staged(self, private: ground.Tree) -> Iterator[ground.Tree]:
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

    def _sweep(self, root: ground.Tree) -> None:
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


def _remove_unused(staging: ground.Tree, name: str) -> None:
    with staging.folder(name) as left:
        if left.lock(wait=False):
            staging.remove_all(name)


def _swap(
    root: ground.Tree, private: ground.Tree, stage: ground.Tree, namespace: str, claim: claims.Claim
) -> None:
    """Put record, claim and workspace in place, in this order, one maker at a time."""
    private.lock(wait=True)
    if claims.owner(root, namespace) is not None:  # it was not there before we rendered
        raise errors.Conflict("somebody made the folder meanwhile", namespace=namespace)
    if private.holds(claim.product_id):
        private.move(claim.product_id, stage, "previous")
    stage.move("record", private, claim.product_id)
    claims.write(private, namespace, claim)
    try:
        stage.move("workspace", root, namespace)
    except FileExistsError as exc:
        raise claims.not_ours(namespace) from exc
    claims.write(private, namespace, replace(claim, confirmed=True))


def _check_id(product_id: str) -> None:
    try:
        model.Key.product(product_id)
    except ValueError as exc:
        raise errors.NameRejected("a product id is a lower-case UUID") from exc
