"""Keep workspaces in the output folder: one a product, named by its namespace.

A workspace is rendered and filled in `.provisioner/staging/`, on the same file system and closed
to everybody else, and then swapped in whole by one rename, so that a crash half-way leaves
nothing that looks finished. Nothing in a workspace is trusted as state. What belongs to whom is
kept in `.provisioner/`:

    names/<namespace>      which product the folder of that name belongs to, see `claims`
    <product id>/          what the workspace was last brought to, see `keeping`
    staging/<random>/      what is being made; held by a lock, swept when nobody holds it
    archive/<product id>/  workspaces of products that are gone
    turns/<product id>/    locked by the process that is writing for the product, see `turns`
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from provisioner import errors, model, names, ports, telemetry
from provisioner.workspace import (
    blueprint,
    claims,
    ground,
    keeping,
    laying,
    moving,
    owned,
    premises,
    pushing,
    render,
    repository,
    settling,
    turns,
    upgrading,
)

_log = telemetry.Log(__name__)

_OPEN_FOLDER, _CLOSED_FOLDER = 0o755, 0o700
_RETRY_SECONDS = 1.0


class CookiecutterWorkspaces:
    """Keep workspaces rendered from one Cookiecutter template."""

    def __init__(
        self,
        *,
        output: Path,
        template: Path,
        uid: int | None = None,
        gid: int | None = None,
        remote: pushing.Remote | None = None,
    ) -> None:
        self._template = render.Template(template.absolute())
        self._owner = ground.Owner(uid=-1 if uid is None else uid, gid=-1 if gid is None else gid)
        self._remote = remote
        self._premises = premises.Premises(output.absolute(), self._owner)

    def template_digest(self) -> str:
        """Digest the template folder as it is now; `TemplateError` where there is none."""
        return self._template.digest()

    def template_name(self) -> str:
        """Return what the template calls its version, "" where it has no name."""
        return self._template.name()

    @contextlib.contextmanager
    def held(self, product_id: str) -> Iterator[None]:
        """Keep every other process from writing for the product; `Conflict` where one does."""
        _check_id(product_id)
        with contextlib.ExitStack() as stack:
            with self._premises.disk(product_id):
                root = stack.enter_context(self._premises.opened(make=True))
                stack.enter_context(turns.take(root, product_id))
            yield

    def owner(self, namespace: str) -> str | None:
        """Return the product id a folder was rendered for; "" for a foreign, non-empty folder.

        None where there is no folder, or an empty one.
        """
        with self._premises.disk(namespace):
            try:
                with self._premises.opened() as root:
                    return claims.owner(root, namespace)
            except FileNotFoundError:
                return None

    def lying(self, product_id: str) -> tuple[str, ...]:
        """Return the names under which folders of a product lie, by reading every account."""
        _check_id(product_id)
        with (
            self._premises.disk(product_id),
            contextlib.suppress(FileNotFoundError),
            self._premises.opened() as root,
        ):
            return claims.lying(root, product_id)
        return ()

    def names_key(self, namespace: str, product_id: str) -> str:
        """Return the id of the key that `.env` names, whoever wrote that; empty where none."""
        _check_id(product_id)
        unreadable = (FileNotFoundError, PermissionError, ground.ChangedByUser)
        with (
            self._premises.disk(namespace),
            contextlib.suppress(*unreadable),
            self._premises.opened() as root,
        ):
            if claims.owner(root, namespace) == product_id:
                with root.folder(namespace) as workspace:
                    return owned.names_key(workspace)
        return ""

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
        version, rendering = self._rendered(spec, files)
        answers = keeping.answers(spec.namespace, version)
        with self._premises.disk(spec.namespace), self._premises.opened(make=True) as root:
            self._make(root, spec, answers, rendering, files)
        _log.info("made a workspace", namespace=spec.namespace, product_id=spec.product_id)

    def publish(self, namespace: str, product_id: str, files: ports.OwnedFiles) -> None:
        """Write our files into an existing workspace, each by rename, secrets last.

        `NotOurs` where the folder is not the product's, `Conflict` where there is none.
        """
        _check_id(product_id)
        with self._premises.disk(namespace), self._premises.opened() as root:
            self._premises.check_owner(root, namespace, product_id)
            self._premises.sweep(root)
            with root.folder(namespace) as workspace:
                claims.confirm(root, namespace)
                owned.publish(workspace, files)

    def published(self, namespace: str, files: ports.OwnedFiles) -> bool:
        """Tell whether our files lie in the workspace exactly so, and nothing half-written."""
        with self._premises.disk(namespace):
            try:
                with self._premises.opened() as root, root.folder(namespace) as workspace:
                    return owned.is_published(workspace, files)
            except (FileNotFoundError, PermissionError, ground.ChangedByUser):
                return False

    def version(self, product_id: str) -> ports.TemplateVersion | None:
        """Return what the product's files were last brought to; None where that is not known."""
        _check_id(product_id)
        with (
            self._premises.disk(product_id),
            contextlib.suppress(FileNotFoundError),
            self._premises.opened() as root,
            self._premises.record(root, product_id, make=False) as record,
        ):
            found = keeping.read_answers(record)
            return None if found is None else keeping.Kept(answers=found).version
        return None

    def foresee(self, spec: ports.WorkspaceSpec, files: ports.OwnedFiles) -> ports.UpgradeReport:
        """Say what `upgrade` would do now, and do nothing."""
        _check_id(spec.product_id)
        after, rendering = self._rendered(spec, files)
        with self._premises.disk(spec.namespace), self._premises.opened() as root:
            self._premises.check_owner(root, spec.namespace, spec.product_id)
            with root.folder(spec.namespace) as workspace:
                kept = self._kept(root, spec.product_id)
                if kept.version == after:
                    return ports.UpgradeReport(
                        before=after, after=after, files={}, conflicts=kept.report().conflicts
                    )
                return upgrading.foresee(workspace, kept, rendering, after, files)

    def upgrade(self, spec: ports.WorkspaceSpec, files: ports.OwnedFiles) -> ports.UpgradeReport:
        """Bring a workspace to the template as it is now, keeping what its users changed.

        What was stopped is finished first, whether the template renders or not.
        """
        _check_id(spec.product_id)
        with self._at_work(spec) as (workspace, record, stage):
            upgrading.finish(workspace, record, stage, files)
            after, rendering = self._rendered(spec, files)
            report = upgrading.run(
                workspace,
                record,
                stage,
                files,
                answers=keeping.answers(spec.namespace, after),
                rendering=rendering,
            )
        _log.info("brought a workspace to a template", namespace=spec.namespace)
        return report

    def conflicts(self, namespace: str, product_id: str) -> ports.OpenConflicts:
        """Look which files a newer version lies beside."""
        _check_id(product_id)
        with (
            self._premises.disk(namespace),
            self._premises.opened() as root,
            root.folder(namespace) as workspace,
        ):
            return settling.look(workspace, self._conflicts(root, product_id))

    def tidy(self, namespace: str, product_id: str) -> None:
        """Remove newer versions that the file beside them is equal to by now."""
        _check_id(product_id)
        with self._premises.disk(namespace), self._premises.opened() as root:
            self._premises.check_owner(root, namespace, product_id)
            with root.folder(namespace) as workspace:
                settling.tidy(workspace, self._conflicts(root, product_id))

    def retract(self, namespace: str, product_id: str) -> None:
        """Remove `.env`, `.env.local` and `.aws/`; gone or not this product's is left alone.

        What the user put into `.aws/` stays, and `.aws/` with it.
        """
        _check_id(product_id)
        with (
            self._premises.disk(namespace),
            contextlib.suppress(FileNotFoundError),
            self._premises.opened() as root,
        ):
            if claims.owner(root, namespace) == product_id:
                with root.folder(namespace) as workspace:
                    owned.retract(workspace)

    def move(self, old: str, new: str, product_id: str) -> None:
        """Give a workspace another name, by one rename; one that has it already is success."""
        _check_id(product_id)
        names.check_namespace(old)
        with self._premises.disk(new), self._premises.opened() as root:
            self._premises.sweep(root)
            with root.own_folder(claims.PRIVATE) as private:
                moving.move(root, private, old, new, product_id)
        _log.info("moved a workspace", namespace=new, product_id=product_id)

    def adopt(self, namespace: str, product_id: str) -> None:
        """Make a folder the product's, whoever's it was; its files stay as they are."""
        _check_id(product_id)
        with (
            self._premises.disk(namespace),
            self._premises.opened() as root,
            root.own_folder(claims.PRIVATE) as private,
        ):
            moving.adopt(root, private, namespace, product_id)
        _log.info("adopted a folder", namespace=namespace, product_id=product_id)

    def purge(self, product_id: str) -> None:
        """Delete the archived workspaces of a product; none is success."""
        _check_id(product_id)
        with (
            self._premises.disk(product_id),
            contextlib.suppress(FileNotFoundError),
            self._premises.opened() as root,
            root.own_folder(claims.PRIVATE, make=False) as private,
        ):
            moving.purge(private, product_id)

    def archive(self, namespace: str, product_id: str) -> None:
        """Move the workspace to `.provisioner/archive/<id>/`; gone or not ours is success.

        A second one of the same product goes to `<id>.2`, and so on; no secret goes along.
        """
        _check_id(product_id)
        with (
            self._premises.disk(namespace),
            contextlib.suppress(FileNotFoundError),
            self._premises.opened() as root,
        ):
            claim = claims.read(root, namespace)
            if claim is None or claim.product_id != product_id:
                return
            self._premises.sweep(root)
            with root.own_folder(claims.PRIVATE) as private:
                if moving.archive(root, private, namespace, product_id):
                    _log.info("archived a workspace", namespace=namespace, product_id=product_id)

    @contextlib.contextmanager
    def _at_work(
        self, spec: ports.WorkspaceSpec
    ) -> Iterator[tuple[ground.Tree, ground.Tree, ground.Tree]]:
        """Open workspace, record and a folder in staging."""
        with self._premises.disk(spec.namespace), self._premises.opened() as root:
            self._premises.check_owner(root, spec.namespace, spec.product_id)
            self._premises.sweep(root)
            with (
                root.folder(spec.namespace) as workspace,
                self._premises.record(root, spec.product_id) as record,
                root.own_folder(claims.PRIVATE) as private,
                self._premises.staged(private) as stage,
            ):
                claims.confirm(root, spec.namespace)
                yield workspace, record, stage

    def _rendered(
        self, spec: ports.WorkspaceSpec, files: ports.OwnedFiles
    ) -> tuple[ports.TemplateVersion, blueprint.Rendering]:
        """Render, and say what from; `Conflict` where the template is changed meanwhile."""
        digest, name = self._template.digest(), self._template.name()
        rendering = self._template.render(spec.context, spec.text, spec.choices)
        if self._template.digest() != digest:
            raise errors.Conflict("the template is being changed", delay_seconds=_RETRY_SECONDS)
        version = ports.TemplateVersion(digest=digest, name=name, rendered=spec.rendered)
        return version, laying.without(rendering, files)

    def _kept(self, root: ground.Tree, product_id: str) -> keeping.Kept:
        with contextlib.ExitStack() as stack:
            try:
                record = stack.enter_context(self._premises.record(root, product_id, make=False))
            except FileNotFoundError:
                return keeping.Kept()
            return keeping.read(record)

    def _conflicts(self, root: ground.Tree, product_id: str) -> Mapping[str, str]:
        with (
            contextlib.suppress(FileNotFoundError),
            self._premises.record(root, product_id, make=False) as record,
        ):
            return keeping.Kept(answers=keeping.read_answers(record) or {}).conflicts
        return {}

    def _make(
        self,
        root: ground.Tree,
        spec: ports.WorkspaceSpec,
        answers: Mapping[str, object],
        rendering: blueprint.Rendering,
        files: ports.OwnedFiles,
    ) -> None:
        self._premises.sweep(root)
        with root.own_folder(claims.PRIVATE) as private, self._premises.staged(private) as stage:
            with stage.make_folder("record", _CLOSED_FOLDER) as record:
                laying.record(record, answers, rendering)
                origin = self._remote.url(spec.namespace) if self._remote else None
                commit = repository.stage(stage, record, rendering, origin=origin)
            with stage.make_folder("workspace", _OPEN_FOLDER, self._owner) as workspace:
                laying.lay(workspace, rendering)
                if commit:
                    with stage.folder(repository.STAGED) as made:
                        repository.copy(made, workspace, repository.FOLDER)
                owned.lay(workspace, files)
                claim = claims.Claim(product_id=spec.product_id, folder=workspace.identity)
            _swap(root, private, stage, spec.namespace, claim)


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
