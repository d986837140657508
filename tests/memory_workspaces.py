"""Workspaces in memory: the same contract as in the output folder, without a template."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from provisioner import dotenv, errors, model, names, ports

_SECRETS = (".env", ".env.local", ".aws/credentials", ".aws/config")


@dataclass(kw_only=True)
class Folder:
    """One folder: whose it is, and what lies in it."""

    product_id: str
    files: dict[str, str] = field(default_factory=dict)


class MemoryWorkspaces:
    """Keep workspaces in dictionaries that tests may look into and change."""

    def __init__(self, *, digest: str = "template-1") -> None:
        self.digest = digest
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
            rendered = {"README.md": f"# {spec.namespace}\n"}
            self.folders[spec.namespace] = Folder(product_id=spec.product_id, files=rendered)
            self.specs[spec.namespace] = spec
            self._claims[spec.namespace] = spec.product_id
        self.publish(spec.namespace, spec.product_id, files)

    def publish(self, namespace: str, product_id: str, files: ports.OwnedFiles) -> None:
        _check_id(product_id)
        owner = self.owner(namespace)
        if owner is None:
            raise errors.Conflict("the workspace is gone", namespace=namespace)
        if owner != product_id:
            raise errors.NotOurs("the folder is not this product's", namespace=namespace)
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
        del self._claims[namespace]


def _check_id(product_id: str) -> None:
    try:
        model.Key.product(product_id)
    except ValueError as exc:
        raise errors.NameRejected("a product id is a lower-case UUID") from exc
