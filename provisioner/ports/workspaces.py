"""Keep workspaces: the only port that touches trees that are the users'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from provisioner import model


@dataclass(frozen=True, kw_only=True)
class WorkspaceSpec:
    """What a workspace is rendered from: safe names in `context`, hostile text in `text`."""

    product_id: str
    namespace: str
    context: Mapping[str, str]
    """Rendered keys: validated names, ids and settings only."""
    text: Mapping[str, str] = field(default_factory=dict)
    """Free text from the portal by bare name; it reaches the template only as `_name`, inert."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """Values the platform picked for the template's own keys; `TemplateError` for any other."""

    @property
    def rendered(self) -> dict[str, str]:
        """Return all that is rendered, text from the portal aside."""
        return {**self.context, **self.choices}


@dataclass(frozen=True, kw_only=True)
class OwnedFiles:
    """The files that are ours in a workspace, ready to be written."""

    plain: Mapping[str, str]
    """`ports.json`, `INPUTS.md`, `external_models/upstream.yaml`: mode 0644."""
    secret: Mapping[str, str] = field(repr=False)
    """`.aws/config`, `.aws/credentials`, `.env`, published in this order: mode 0600."""


@dataclass(frozen=True, kw_only=True)
class TemplateVersion:
    """What the files of a workspace were last brought to."""

    digest: str
    """Of the template folder; empty where none is known."""
    name: str = ""
    """What the template calls this version of itself, if anything."""
    rendered: Mapping[str, str] = field(default_factory=dict)
    """What was rendered into it, text from the portal aside."""

    @property
    def shown(self) -> str:
        """Name it for a person."""
        short = self.digest[:12]
        return f"{self.name} ({short})" if self.name else short or "none"


@dataclass(frozen=True, kw_only=True)
class UpgradeReport:
    """What a new version of the template does, or would do, to one workspace."""

    before: TemplateVersion
    after: TemplateVersion
    files: Mapping[str, model.FileChange]
    """Every file of either version, by path."""
    conflicts: tuple[str, ...] = ()
    """Files that a newer version then lies beside."""

    @property
    def changes(self) -> dict[str, model.FileChange]:
        """Return the files that do not stay as they are, by path."""
        unchanged = model.FileChange.UNCHANGED
        return {
            path: self.files[path] for path in sorted(self.files) if self.files[path] != unchanged
        }


@dataclass(frozen=True, kw_only=True)
class OpenConflicts:
    """Which files a newer version lies beside, and which of those are dealt with."""

    unresolved: tuple[str, ...] = ()
    resolved: tuple[str, ...] = ()
    """The newer version was taken away, or the file is equal to it."""


class Workspaces(Protocol):
    """Keep workspaces in the output folder; the only port that touches user-owned trees."""

    def template_digest(self) -> str:
        """Digest the template folder as it is now; `TemplateError` where there is none."""

    def template_name(self) -> str:
        """Return what the template calls its version, "" where it has no name."""

    def version(self, product_id: str) -> TemplateVersion | None:
        """Return what the product's files were last brought to; None where that is not known."""

    def foresee(self, spec: WorkspaceSpec, files: OwnedFiles) -> UpgradeReport:
        """Say what `upgrade` would do now, and do nothing."""

    def upgrade(self, spec: WorkspaceSpec, files: OwnedFiles) -> UpgradeReport:
        """Bring a workspace to the template as it is now, keeping what its users changed.

        What does not merge cleanly stays; the new version goes beside it, as `X.template-new`.
        Our own `files` are left out. Done already, it returns what was done. An upgrade that was
        stopped is finished first. `TemplateError` where the template does not render, `Conflict`
        where somebody changes it, or a file, all the time.
        """

    def conflicts(self, namespace: str, product_id: str) -> OpenConflicts:
        """Look which files a newer version lies beside."""

    def tidy(self, namespace: str, product_id: str) -> None:
        """Remove newer versions that the file beside them is equal to by now."""

    def held(self, product_id: str) -> AbstractContextManager[None]:
        """Keep every other process from writing for the product meanwhile.

        `Conflict` where one does. Whoever asks the store within whether its lease still holds can
        be sure that nobody writes anything newer before it is done.
        """

    def owner(self, namespace: str) -> str | None:
        """Return the product id a folder was rendered for; "" for a foreign, non-empty folder.

        None where there is no folder, or an empty one.
        """

    def lying(self, product_id: str) -> tuple[str, ...]:
        """Return the names under which folders of a product lie, by reading every account."""

    def names_key(self, namespace: str, product_id: str) -> str:
        """Return the id of the key that `.env` names; empty where it names none, or cannot be read.

        What users may have written: good for nothing but to spare that very key of the product's.
        """

    def create(self, spec: WorkspaceSpec, files: OwnedFiles) -> None:
        """Render in staging, add our files, swap the folder in whole; `NotOurs`, `TemplateError`.

        A folder of the same product that is already there is kept; our files are published.
        """

    def publish(self, namespace: str, product_id: str, files: OwnedFiles) -> None:
        """Write our files into an existing workspace, each by rename, secrets last.

        `Conflict` where the folder is gone or is being changed meanwhile.
        """

    def published(self, namespace: str, files: OwnedFiles) -> bool:
        """Tell whether our files lie in the workspace exactly so."""

    def retract(self, namespace: str, product_id: str) -> None:
        """Remove the secret files that are ours; users' own (`.env.mine`, `.aws/cache`) stay.

        A folder that is gone or not this product's is left alone.
        """

    def move(self, old: str, new: str, product_id: str) -> None:
        """Give the product's workspace another name; one that has it already is success.

        `NotOurs` where something lies there, `Conflict` where the workspace is gone.
        """

    def adopt(self, namespace: str, product_id: str) -> None:
        """Make a folder the product's, whoever's it was; its files stay. `NotOurs` for a link."""

    def archive(self, namespace: str, product_id: str) -> None:
        """Move the workspace to `.provisioner/archive/<id>/`; gone or not ours is success."""

    def purge(self, product_id: str) -> None:
        """Delete the product's archived workspaces; none is success."""


class Repositories(Protocol):
    """Bring the first commits of workspaces to a git remote."""

    def waits(self, product_id: str) -> bool:
        """Tell whether a product's first commit is still to be pushed; a cheap look."""

    def push(
        self, namespace: str, product_id: str, heed: Callable[[], None] = lambda: None
    ) -> None:
        """Push it, never by force; nothing that waits is success, else `RemoteRefused`.

        `heed` is called now and then meanwhile, and what it raises ends the push.
        """
