"""Keep a product's folder: rendered once and swapped in whole, our own files always current.

Everything else in it is the users'. What we own is written from the record and the grants alone;
nothing is ever read from a workspace but to see whether our files still lie there as written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from provisioner import errors, model, names, ports
from provisioner.domain import dotenv, inputs, inventory, plan
from provisioner.steps import protocol

MOVE, CREATE, PUBLISH = "move-workspace", "create-workspace", "publish-files"
RETRACT, ARCHIVE = "retract-secrets", "archive-workspace"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a workspace sees of the world around it."""

    endpoint: str
    bucket: str
    region: str
    root: str
    """The folder of all workspaces, as workspaces see it."""
    extension_directory: str
    portal_url: str
    local_root: str | None = None
    """The same folder as the host sees it; set, `.env.local` is written too."""
    local_endpoint: str | None = None
    choices: tuple[tuple[str, str], ...] = ()
    """Values that the platform picked for keys of the template's own."""

    def place(self, endpoint: str, root: str, namespace: str) -> dotenv.Place:
        """Return where one workspace finds things."""
        return dotenv.Place(
            endpoint=endpoint,
            workspace_dir=f"{root.rstrip('/')}/{namespace}",
            extension_directory=self.extension_directory,
        )

    def local_place(self, namespace: str) -> dotenv.Place | None:
        """Return where one workspace finds things on the host, if that is asked for."""
        if self.local_root is None and self.local_endpoint is None:
            return None
        endpoint = self.local_endpoint or self.endpoint
        return self.place(endpoint, self.local_root or self.root, namespace)


class WorkspaceStep:
    """Give a product a folder that opens, plans and publishes."""

    name = "workspace"
    optional = False

    def __init__(
        self, workspaces: ports.Workspaces, surroundings: Surroundings, *, pushes: bool = False
    ) -> None:
        self._workspaces = workspaces
        self.around = surroundings
        self._pushes = pushes
        """Whether the first commit of what is made here waits for a remote."""

    def observe(self, record: model.Record, desired: model.Desired) -> model.Record:
        """Refuse a folder that is not this product's; notice what was deleted or changed."""
        if desired.phase is not model.Phase.ACTIVE:
            return record
        owner = self._workspaces.owner(record.namespace)
        state = record.workspace
        if state.folder and owner is None and self._is_at(state.folder, record):
            return record  # it is still to be moved
        if owner not in (None, record.key.id):
            raise errors.NotOurs(
                "the workspace folder belongs to somebody else: see provisioner adopt"
            )
        if owner is None and (state.rendered or state.folder):
            state = dataclasses.replace(state, rendered=False, published_digest="", folder="")
        elif state.published_digest and record.credentials.current:
            files = self.files(desired, record, record.credentials.current)
            as_written = _digest(files) == state.published_digest
            if as_written and not self._workspaces.published(record.namespace, files):
                state = dataclasses.replace(state, published_digest="")
        return dataclasses.replace(record, workspace=state)

    def verify(
        self, record: model.Record, desired: model.Desired, look: protocol.Look
    ) -> model.Record:
        """Say what every run looks for."""
        seen = self.observe(record, desired)
        before, after = record.workspace, seen.workspace
        if before.rendered and not after.rendered:
            look.report("the workspace was gone", record.namespace)
        elif before.published_digest and not after.published_digest:
            look.report("files of ours in the workspace were changed or gone", record.namespace)
        return seen

    def _is_at(self, folder: str, record: model.Record) -> bool:
        return self._workspaces.owner(folder) == record.key.id

    def plan(
        self, desired: model.Desired, record: model.Record, now: datetime
    ) -> tuple[model.Action, ...]:
        """Create it once, move it after a rename, publish our files whenever they differ."""
        state = record.workspace
        # As long as there is a principal, a run that stopped may have written what is not noted.
        unsure = bool(record.credentials.principal)
        if desired.phase is model.Phase.ARCHIVED:
            return (self._action(RETRACT, record),) if state.published_key_id or unsure else ()
        if desired.phase is model.Phase.GONE:
            verbs = (RETRACT, ARCHIVE) if state.rendered or unsure else ()
            return tuple(self._action(verb, record) for verb in verbs)
        moving = (self._action(MOVE, record),) if state.folder else ()
        if not state.rendered:
            return (*moving, self._action(CREATE, record))
        key = record.credentials.current
        if key and state.published_digest == _digest(self.files(desired, record, key)):
            return moving
        return (*moving, self._action(PUBLISH, record))

    def _action(self, verb: str, record: model.Record) -> model.Action:
        return model.Action(step=self.name, verb=verb, subject=record.namespace)

    def files(
        self, desired: model.Desired, record: model.Record, key: model.AccessKey
    ) -> ports.OwnedFiles:
        """Return the files that are ours in a workspace."""
        named = inputs.assign(desired.grants, record.workspace.input_names)
        rows = inputs.rows(desired.grants, named)
        outputs = [port.namespace for port in desired.ports]
        around = self.around
        given, seen = dict(named), desired.seen
        upstream = {given[port]: each for port, each in seen.items() if port in given}
        held = record.access.held
        return ports.OwnedFiles(
            plain={
                "ports.json": dotenv.ports_json(outputs, rows),
                "INPUTS.md": inventory.inputs_md(
                    outputs,
                    rows,
                    published=[seen[port.id] for port in desired.ports if port.id in seen],
                    seen=upstream,
                    since={
                        given[each.port_id]: each.since for each in held if each.port_id in given
                    },
                    ended=record.access.ended,
                    portal_url=around.portal_url,
                ),
                inventory.UPSTREAM: inventory.upstream_yaml(rows, upstream),
            },
            secret=dotenv.secret_files(
                bucket=around.bucket,
                prefix=protocol.own_prefix(record) or "",
                region=around.region,
                key=key,
                place=around.place(around.endpoint, around.root, record.namespace),
                local=around.local_place(record.namespace),
            ),
        )

    def apply(self, action: model.Action, run: protocol.Run) -> None:
        """Carry out one action, then remember it.

        A worker that stood still may have lost its lease without knowing. So it asks once nobody
        else can write; who has the lease after it waits until it is done.
        """
        with self._workspaces.held(run.record.key.id):
            run.confirm()
            self._carry_out(action, run)

    def _carry_out(self, action: model.Action, run: protocol.Run) -> None:
        namespace, product_id = run.record.namespace, run.record.key.id
        if action.verb in (CREATE, PUBLISH):
            self._write(action, run)
            return
        run.effect(action.verb)
        state = run.record.workspace
        folders = {namespace, state.folder or namespace}  # both where a move was stopped
        if action.verb == MOVE:
            self._workspaces.move(state.folder, namespace, product_id)
            state = dataclasses.replace(state, folder="")
        elif action.verb == RETRACT:
            for folder in folders:
                self._workspaces.retract(folder, product_id)
            state = dataclasses.replace(state, published_digest="", published_key_id="")
        else:
            for folder in folders:
                self._workspaces.archive(folder, product_id)
            state = dataclasses.replace(state, rendered=False, folder="")
        run.save(workspace=state)

    def _write(self, action: model.Action, run: protocol.Run) -> None:
        record, key = run.record, run.record.credentials.current
        if key is None:
            raise errors.Conflict("there is no key to publish yet")
        files = self.files(run.desired, record, key)
        state = record.workspace
        run.effect(action.verb)
        if action.verb == CREATE:
            self._workspaces.create(self.spec(run.desired, record), files)
            # A folder that was there already, and lost to the store, may be of an older version.
            version = self._workspaces.version(record.key.id)
            state = brought_to(version, state, run.now())
            if version:
                found = self._workspaces.conflicts(record.namespace, record.key.id)
                state = dataclasses.replace(
                    state, conflicts=tuple(sorted((*found.unresolved, *found.resolved)))
                )
            run.record = dataclasses.replace(
                run.record, repository=model.RepositoryState(unpushed=self._pushes)
            )
        else:
            self._workspaces.publish(record.namespace, record.key.id, files)
        run.save(
            workspace=dataclasses.replace(
                state,
                published_digest=_digest(files),
                published_key_id=key.id,
                input_names=inputs.assign(run.desired.grants, state.input_names),
            )
        )

    def spec(self, desired: model.Desired, record: model.Record) -> ports.WorkspaceSpec:
        """Say what its workspace is rendered from."""
        return spec(record.key, record.namespace, desired.product, self.around)

    def next_at(self, desired: model.Desired, record: model.Record) -> datetime | None:
        """Return None: time alone changes nothing here."""
        return None


def spec(
    key: model.Key, namespace: str, product: model.Product | None, around: Surroundings
) -> ports.WorkspaceSpec:
    """Say what a workspace is rendered from; portal text goes in as text only."""
    return ports.WorkspaceSpec(
        product_id=key.id,
        namespace=namespace,
        context={
            "project_name": namespace,
            "project_slug": names.identifier(namespace),
            "s3_endpoint": around.endpoint,
            "s3_bucket": around.bucket,
            "portal_url": around.portal_url,
            "product_id": key.id,
            "product_kind": key.kind.value,
        },
        text={
            "name": product.name if product else "",
            "description": product.description if product else "",
            "domain": product.domain if product else "",
            "owners": ", ".join(product.owners) if product else "",
        },
        choices=dict(around.choices),
    )


def brought_to(
    version: ports.TemplateVersion | None, state: model.WorkspaceState, now: datetime
) -> model.WorkspaceState:
    """Note what the files of a workspace are brought to; None where that is not known."""
    known = version or ports.TemplateVersion(digest="")
    return dataclasses.replace(
        state,
        rendered=True,
        template_digest=known.digest,
        template_name=known.name,
        rendered_digest=rendered_digest(known.digest, known.rendered) if version else "",
        brought_at=now,
    )


def rendered_digest(template_digest: str, rendered: Mapping[str, str]) -> str:
    """Digest a template and what is rendered into it: what differs brings a new version."""
    return plan.digest([template_digest, dict(rendered)])


def _digest(files: ports.OwnedFiles) -> str:
    """Digest our files, secrets included: it shows nothing of them."""
    return plan.digest([dict(files.plain), dict(files.secret)])
