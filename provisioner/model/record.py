"""Hold what we have done so far; it is kept in the store, secrets sealed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from provisioner.model.access import AccessLog
from provisioner.model.desired import Condition, Grant, Phase
from provisioner.model.identity import Key


@dataclass(frozen=True)
class AccessKey:
    """A key pair; the secret never reaches a repr."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Pending:
    """An intent to make a key, written before the engine was asked."""

    intent_at: datetime
    key: AccessKey | None = None
    """The key: chosen with the intent where we choose, otherwise once the engine answered."""
    made: bool = False
    """The engine has it."""


@dataclass(frozen=True, kw_only=True)
class Retiring:
    """A key that was replaced; it dies at `delete_after`, not before that is set."""

    key_id: str
    delete_after: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A product's keys; `generation` counts every intent to replace them."""

    principal: str = ""
    """Name at the engine; empty before the first intent."""
    generation: int = 0
    current: AccessKey | None = None
    issued_at: datetime | None = None
    pending: Pending | None = None
    retiring: tuple[Retiring, ...] = ()
    policy_digest: str = ""
    """Of the policy the engine holds as far as we know; empty = unknown."""
    doubted: bool = False
    """`current` was found dead or not working: it is replaced without waiting for its age."""
    leak_at: datetime | None = None
    """Of the report of a leak for which every key was killed."""
    grants_digest: str = ""
    """Of the grants `current` was issued for: a change rotates (PROV_ROTATE_ON_GRANT)."""


@dataclass(frozen=True, kw_only=True)
class RoleState:
    """The role through which people sign in as a product."""

    name: str = ""
    """Written before the engine was asked for it; empty = there is none."""
    trust_digest: str = ""
    """Of the trust policy it was made with; empty = not known to be there."""
    policy_digest: str = ""
    """Of the policy it has as far as we know; empty = unknown."""


class FileChange(StrEnum):
    """What became of one file when a new version of the template reached a workspace."""

    UNCHANGED = "unchanged"
    ADDED = "added"
    UPDATED = "updated"
    MERGED = "merged"
    """Both the template and the user had changed it, and the changes went together."""
    REMOVED = "removed"
    CONFLICT = "conflict"
    """The user's file stays as it was; the new version lies beside it."""
    KEPT_EDITED = "kept-edited"
    """The template has it no more, or it is of a kind that we do not touch: the user's stays."""
    KEPT_DELETED = "kept-deleted"
    """The template changed what the user had deleted: it stays deleted."""


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """One new version of the template in one workspace, file by file."""

    at: datetime = field(compare=False)
    before: str
    after: str
    """Versions as they are shown: a name, the beginning of a digest."""
    files: tuple[tuple[str, FileChange], ...]
    """The first of those that did not stay as they were, by path."""
    changed: int
    """How many did not stay as they were."""


@dataclass(frozen=True, kw_only=True)
class WorkspaceState:
    """What was written into a product's folder."""

    rendered: bool = False
    template_digest: str = ""
    """Of the template that its files were last brought to; empty = no template's: adopted."""
    template_name: str = ""
    """What that version calls itself, if anything."""
    rendered_digest: str = ""
    """Of that template and all that was put into it but people's texts."""
    conflicts: tuple[str, ...] = ()
    """Files that a newer version lies beside, as far as we know."""
    resolved: tuple[str, ...] = ()
    """Those of them that somebody was seen to have dealt with."""
    upgrades: tuple[Upgrade, ...] = ()
    """What new versions of the template did, the newest first."""
    brought_at: datetime | None = None
    """When it was last rendered, or brought to the template."""
    published_digest: str = ""
    """Of the files we own in it (`.env`, `.aws/`, `ports.json`, `INPUTS.md`, …)."""
    published_key_id: str = ""
    """The key that `.env` names."""
    input_names: tuple[tuple[str, str], ...] = ()
    """(port id, name) of every input ever given a name: names are never reassigned."""
    folder: str = ""
    """Where it still lies after a rename; empty = under the product's namespace."""


@dataclass(frozen=True, kw_only=True)
class RepositoryState:
    """What a git remote has of a workspace."""

    unpushed: bool = False
    """Its first commit waits, as was seen when last looked."""
    attempts: int = 0
    """Pushes that failed, one after another."""
    again_at: datetime | None = None
    """When to try again without any event."""


@dataclass(frozen=True, kw_only=True)
class Writeback:
    """What we told the portal."""

    lifecycle: str = ""
    asset_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Former:
    """A namespace that was a product's, or nearly, and whose mark may still name it."""

    namespace: str
    kept_until: datetime | None = None
    """The prefix is not given up before, empty or not: jobs that began in it may end."""
    empty: bool = False
    """It was found empty when last looked at."""
    closed: bool = False
    """No policy opens it from now on; once none does, the mark goes."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a deep look found otherwise than we had left it."""

    step: str
    what: str
    """A constant sentence."""
    subject: str
    """Fit to be shown: a principal, a key id, a prefix, a folder."""
    at: datetime
    lasting: bool = False
    """Nothing that we may do ends it: a person must."""
    repaired: bool = False
    """A later look did not find it any more."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """All we know of a product that we have touched; one row in the store."""

    key: Key
    namespace: str
    """As provisioned: it names the folder and the prefix."""
    former: tuple[Former, ...] = ()
    """Earlier ones, the oldest first."""
    name: str = ""
    phase: Phase = Phase.ACTIVE
    finalizer: bool = False
    prefix: bool = False
    """The prefix is ours: the mark is written, and from then on this flag decides."""
    marked: bool = True
    """Mark and `.keep` lie in the bucket as far as we know; False = write them again."""
    credentials: Credentials = field(default_factory=Credentials)
    role: RoleState = field(default_factory=RoleState)
    workspace: WorkspaceState = field(default_factory=WorkspaceState)
    repository: RepositoryState = field(default_factory=RepositoryState)
    writeback: Writeback = field(default_factory=Writeback)
    grants: tuple[Grant, ...] = ()
    access: AccessLog = field(default_factory=AccessLog)
    conditions: tuple[Condition, ...] = ()
    settled_digest: str = ""
    """`Desired.digest` (and settings) of the last reconcile that left nothing to do."""
    failed: bool = False
    """The last run did not come to its end: the next one looks deep."""
    restored: bool = False
    """It came out of a backup and was not compared with the world yet: see `revival`."""
    next_at: datetime | None = None
    """When to look again without any event."""
    verified_at: datetime | None = None
    """When all of it was last read back, or proven while it was made."""
    drift: tuple[Finding, ...] = ()
    """What the last deep look found, and ones before it that nobody has seen repaired."""
    released_at: datetime | None = None
    purging: bool = False
    """What it left is being deleted: nobody may adopt it any more."""
    purged_at: datetime | None = None

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Name the prefixes that are open to it: its own, then those it had before a rename."""
        return (self.namespace, *(each.namespace for each in self.former if not each.closed))
