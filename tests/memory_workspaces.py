"""Workspaces in memory: the same contract as in the output folder, without a template."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from provisioner import errors, model, names, ports
from provisioner.domain import dotenv
from provisioner.workspace import merging

_SECRETS = (".env", ".env.local", ".aws/credentials", ".aws/config")


@dataclass(kw_only=True)
class Folder:
    """One folder: whose it is, and what lies in it."""

    product_id: str
    files: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Kept:
    """What a product's files were last brought to."""

    report: ports.UpgradeReport
    bases: dict[str, str]
    beside: dict[str, tuple[str | None, str]] = field(default_factory=dict)
    """By file in conflict: the version that the user's was brought to, and the newer one."""


class MemoryWorkspaces:
    """Keep workspaces in dictionaries that tests may look into and change."""

    def __init__(self, *, digest: str = "template-1") -> None:
        self.digest = digest
        self.template: dict[str, str] = {"README.md": "# {project_name}\n"}
        self.broken = False
        self.kept: dict[str, Kept] = {}
        self.folders: dict[str, Folder] = {}
        self.archived: dict[str, Folder] = {}
        self.specs: dict[str, ports.WorkspaceSpec] = {}
        self._claims: dict[str, str] = {}
        self._held: set[str] = set()

    def put(self, namespace: str, path: str, text: str) -> None:
        """Write a file as somebody else would."""
        self.folders.setdefault(namespace, Folder(product_id="")).files[path] = text

    @contextlib.contextmanager
    def held(self, product_id: str) -> Iterator[None]:
        _check_id(product_id)
        if product_id in self._held:
            raise errors.Conflict("another process is writing this workspace")
        self._held.add(product_id)
        try:
            yield
        finally:
            self._held.remove(product_id)

    def template_digest(self) -> str:
        return self.digest

    def template_name(self) -> str:
        return ""

    def version(self, product_id: str) -> ports.TemplateVersion | None:
        kept = self.kept.get(product_id)
        return kept.report.after if kept else None

    def _rendered(self, spec: ports.WorkspaceSpec) -> tuple[ports.TemplateVersion, dict[str, str]]:
        if self.broken:
            raise errors.TemplateError("the template does not render")
        version = ports.TemplateVersion(digest=self.digest, rendered=spec.rendered)
        return version, {path: text.format(**spec.rendered) for path, text in self.template.items()}

    def foresee(self, spec: ports.WorkspaceSpec, files: ports.OwnedFiles) -> ports.UpgradeReport:
        after, theirs = self._rendered(spec)
        kept, decisions = self._decide(spec, theirs, files)
        changes = {path: each.change for path, each in decisions.items()}
        return _report(kept.report.after, after, changes)

    def upgrade(self, spec: ports.WorkspaceSpec, files: ports.OwnedFiles) -> ports.UpgradeReport:
        after, theirs = self._rendered(spec)
        kept, decisions = self._decide(spec, theirs, files)
        if kept.report.after == after:
            return kept.report
        folder = self.folders[spec.namespace].files
        beside: dict[str, tuple[str | None, str]] = {}
        for path, decision in decisions.items():
            if decision.beside:
                newer = decision.beside.data.decode()
                base = self._base(kept, folder, path)
                beside[path] = (base, newer)
                folder[f"{path}.template-new"] = newer
            elif path in kept.beside:
                folder.pop(f"{path}.template-new", None)
            if decision.write:
                folder[path] = decision.write.data.decode()
            elif decision.removes:
                del folder[path]
        changes = {path: each.change for path, each in decisions.items()}
        report = _report(kept.report.after, after, changes)
        self.kept[spec.product_id] = Kept(report=report, bases=theirs, beside=beside)
        return report

    def _decide(
        self, spec: ports.WorkspaceSpec, theirs: dict[str, str], files: ports.OwnedFiles
    ) -> tuple[Kept, dict[str, merging.Decision]]:
        _check_id(spec.product_id)
        self._check_owner(spec.namespace, spec.product_id)
        nothing = _report(ports.TemplateVersion(digest=""), ports.TemplateVersion(digest=""), {})
        kept = self.kept.get(spec.product_id) or Kept(report=nothing, bases={})
        ours = self.folders[spec.namespace].files
        left_out = {*files.plain, *files.secret}
        return kept, {
            path: merging.decide(
                _version(self._base(kept, ours, path)),
                _version(theirs.get(path)),
                _version(ours.get(path)),
            )
            for path in {*kept.bases, *theirs} - left_out
        }

    def _base(self, kept: Kept, ours: dict[str, str], path: str) -> str | None:
        if path in kept.beside and _is_open(kept, ours, path):
            return kept.beside[path][0]
        return kept.bases.get(path)

    def conflicts(self, namespace: str, product_id: str) -> ports.OpenConflicts:
        self._check_owner(namespace, product_id)
        kept, ours = self.kept[product_id], self.folders[namespace].files
        still = {path: _is_open(kept, ours, path) for path in sorted(kept.beside)}
        return ports.OpenConflicts(
            unresolved=tuple(path for path, open_ in still.items() if open_),
            resolved=tuple(path for path, open_ in still.items() if not open_),
        )

    def tidy(self, namespace: str, product_id: str) -> None:
        self._check_owner(namespace, product_id)
        ours = self.folders[namespace].files
        for path in self.kept[product_id].beside:
            if ours.get(path) == ours.get(f"{path}.template-new"):
                ours.pop(f"{path}.template-new", None)

    def _check_owner(self, namespace: str, product_id: str) -> None:
        owner = self.owner(namespace)
        if owner is None:
            raise errors.Conflict("the workspace is gone", namespace=namespace)
        if owner != product_id:
            raise errors.NotOurs("the folder is not this product's", namespace=namespace)

    def owner(self, namespace: str) -> str | None:
        folder = self.folders.get(names.check_namespace(namespace))
        if folder is None or not folder.files:
            return None
        return self._claims.get(namespace, "")

    def lying(self, product_id: str) -> tuple[str, ...]:
        _check_id(product_id)
        return tuple(name for name in sorted(self._claims) if self.owner(name) == product_id)

    def names_key(self, namespace: str, product_id: str) -> str:
        _check_id(product_id)
        if self.owner(namespace) != product_id:
            return ""
        return dotenv.named_key(self.folders[namespace].files.get(".env", "").encode())

    def create(self, spec: ports.WorkspaceSpec, files: ports.OwnedFiles) -> None:
        _check_id(spec.product_id)
        owner = self.owner(spec.namespace)
        if owner not in (None, spec.product_id):
            raise errors.NotOurs("the folder is not this product's", namespace=spec.namespace)
        if owner is None:
            version, rendered = self._rendered(spec)
            self.kept[spec.product_id] = Kept(
                report=_report(version, version, {}), bases=dict(rendered)
            )
            self.folders[spec.namespace] = Folder(product_id=spec.product_id, files=rendered)
            self.specs[spec.namespace] = spec
            self._claims[spec.namespace] = spec.product_id
        self.publish(spec.namespace, spec.product_id, files)

    def publish(self, namespace: str, product_id: str, files: ports.OwnedFiles) -> None:
        _check_id(product_id)
        self._check_owner(namespace, product_id)
        self.folders[namespace].files.update({**files.plain, **files.secret})

    def published(self, namespace: str, files: ports.OwnedFiles) -> bool:
        folder = self.folders.get(names.check_namespace(namespace))
        wanted = {**files.plain, **files.secret}
        return folder is not None and wanted.items() <= folder.files.items()

    def retract(self, namespace: str, product_id: str) -> None:
        _check_id(product_id)
        if self.owner(namespace) == product_id:
            for path in _SECRETS:
                self.folders[namespace].files.pop(path, None)

    def move(self, old: str, new: str, product_id: str) -> None:
        _check_id(product_id)
        names.check_namespace(old)
        there = self.owner(new)
        if there not in (None, product_id):
            raise errors.NotOurs("the folder is not this product's", namespace=new)
        if there is None:
            if self.owner(old) != product_id:
                raise errors.Conflict("the workspace is gone", namespace=old)
            self.folders[new] = self.folders.pop(old)
            self._claims[new] = product_id
        if self._claims.get(old) == product_id:
            del self._claims[old]

    def adopt(self, namespace: str, product_id: str) -> None:
        _check_id(product_id)
        if self.owner(namespace) is None:
            raise errors.Conflict("the folder is gone", namespace=namespace)
        self._claims[namespace] = product_id

    def purge(self, product_id: str) -> None:
        _check_id(product_id)
        for name in [each for each in self.archived if each.partition(".")[0] == product_id]:
            del self.archived[name]

    def archive(self, namespace: str, product_id: str) -> None:
        self.retract(namespace, product_id)
        if self._claims.get(namespace) != product_id:
            return
        if self.owner(namespace) == product_id:
            count = 1 + sum(name.partition(".")[0] == product_id for name in self.archived)
            name = product_id if count == 1 else f"{product_id}.{count}"
            self.archived[name] = self.folders.pop(namespace)
        self.kept.pop(product_id, None)
        del self._claims[namespace]


def _report(
    before: ports.TemplateVersion,
    after: ports.TemplateVersion,
    changes: dict[str, model.FileChange],
) -> ports.UpgradeReport:
    conflicts = (path for path, each in changes.items() if each is model.FileChange.CONFLICT)
    return ports.UpgradeReport(
        before=before, after=after, files=changes, conflicts=tuple(sorted(conflicts))
    )


def _version(text: str | None) -> merging.Version | None:
    return None if text is None else merging.Version(data=text.encode())


def _is_open(kept: Kept, ours: dict[str, str], path: str) -> bool:
    newer = ours.get(f"{path}.template-new")
    return newer is not None and newer != ours.get(path)


def _check_id(product_id: str) -> None:
    try:
        model.Key.product(product_id)
    except ValueError as exc:
        raise errors.NameRejected("a product id is a lower-case UUID") from exc
