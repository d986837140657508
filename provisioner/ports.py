"""Say what the application needs from the outside: one small Protocol a concern.

Every port has a real adapter and an in-memory twin that pass one contract suite; only the portal's
adapter is held against recordings instead. Methods block; the worker calls them in threads. They
raise the errors of `errors` and nothing else: temporary ones where waiting may help, permanent
ones where a person must act. Absence is a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from provisioner import model

Clock = Callable[[], datetime]
"""Return the present as an aware UTC datetime."""


class PortalReader(Protocol):
    """Read the portal's truth."""

    def products(self) -> tuple[model.Product, ...]:
        """List every data product; raise `PortalUnavailable` unless the list is whole."""

    def explorations(self) -> tuple[model.Product, ...]:
        """List every exploration; empty where this portal knows none.

        Raise `PortalUnavailable` unless the list is whole.
        """

    def view(self, key: model.Key) -> model.PortalView | None:
        """Read all about one product or exploration; None where the portal is sure that it is gone.

        Only a 404, or portal < 0.7's 500 confirmed by a 404 of its `/output_ports`, is sure.
        401, 403 and every other failure raise.
        """

    def consumers(self, producer: model.Key, port_id: str) -> tuple[model.Link, ...]:
        """List the links of every status on one output port; empty where the port is gone."""


class PortalWriter(Protocol):
    """Write back to the portal; each call is idempotent."""

    def add_finalizer(self, key: model.Key, name: str) -> None:
        """Ask the portal to wait for us before it deletes the product."""

    def remove_finalizer(self, key: model.Key, name: str) -> None:
        """Let the portal go on; a product or finalizer that is gone is success."""

    def set_lifecycle(self, key: model.Key, name: str) -> bool:
        """Set the lifecycle by name, leaving all else; False where the portal has no such name."""

    def register_asset(self, key: model.Key, location: model.Location) -> str | None:
        """Return the id of the S3 technical asset for a prefix, made if it is not there.

        None where this portal has no S3 service configured.
        """


class ObjectStore(Protocol):
    """Keep prefixes in the bucket, with the admin's own access."""

    def ensure_bucket(self) -> None:
        """Make sure that the bucket is there and ours; `NotOurs` where it is somebody else's."""

    def owner(self, namespace: str) -> str | None:
        """Return the product id in the ownership mark of a prefix."""

    def is_empty(self, prefix: str) -> bool:
        """Tell whether nothing lies below a prefix, our `.keep` aside."""

    def claim(self, namespace: str, product_id: str) -> None:
        """Write the ownership mark, unless one is there: `NotOurs` if it names another id."""

    def keep(self, prefix: str) -> None:
        """Write `<prefix>.keep`, so that the prefix shows before it holds anything."""

    def kept(self, prefix: str) -> bool:
        """Tell whether `<prefix>.keep` is there."""

    def adopt(self, namespace: str, product_id: str) -> None:
        """Write the ownership mark, whoever's is there."""

    def disown(self, namespace: str, product_id: str) -> None:
        """Remove the ownership mark, and `.keep` before it; another's, or none, is left alone."""

    def purge(self, prefix: str) -> bool:
        """Delete one batch of all that lies below a prefix; tell whether there may be more.

        Objects with their old versions, and unfinished uploads as far as the engine lists them.
        """


class Prober(Protocol):
    """Prove a key by using it."""

    def prove(
        self,
        key: model.AccessKey,
        prefix: str | None,
        *,
        rounds: int,
        pause_seconds: float,
        readable: Sequence[model.Location] = (),
    ) -> bool:
        """List, put, get and delete a probe below the prefix, `rounds` times in a row.

        Without a prefix of its own, list the first of the `readable` places in our bucket; where
        there is none either, the engine must know the key, whatever it then refuses. False where
        the engine refuses the key or a call; raise `StorageUnavailable` where it does not answer.
        """


@dataclass(frozen=True, kw_only=True)
class IssuedKey:
    """A key as the engine lists it; not active = the engine refuses it."""

    id: str
    created_at: datetime | None
    active: bool = True


class Issuer(Protocol):
    """Make principals, policies and keys at one kind of engine; every call is idempotent."""

    @property
    def name(self) -> str:
        """Name the kind of engine, as PROV_ISSUER does."""

    @property
    def chooses_key_ids(self) -> bool:
        """Tell whether we choose key pairs; where the engine has to be asked first it is."""

    @property
    def settle_seconds(self) -> float:
        """How long a new key may bounce between working and not."""

    def ensure_principal(self, principal: model.Principal) -> None:
        """Make the principal with our mark; `NotOurs` where one without it has the name."""

    def put_policy(self, principal: model.Principal, document: Mapping[str, Any]) -> None:
        """Make this all that the principal and every key of it may do, now.

        `PolicyTooLarge` where it does not fit: then nothing was changed. `Conflict` where there
        is no such principal.
        """

    def holds(self, principal: model.Principal, document: Mapping[str, Any]) -> bool:
        """Read back whether the principal, and every key, may do exactly what `put_policy` said.

        False too where one is missing or disabled, or was given anything besides.
        """

    def create_key(
        self,
        principal: model.Principal,
        wanted: model.AccessKey | None,
        document: Mapping[str, Any],
    ) -> model.AccessKey:
        """Make a key that may do what the document says, which `put_policy` has written before.

        `wanted` where `chooses_key_ids`: the same one again is success. `Conflict` where the
        principal has as many keys as it may, or is gone.
        """

    def list_keys(self, principal: model.Principal) -> tuple[IssuedKey, ...]:
        """List the principal's keys; empty where there is no such principal."""

    def delete_key(self, principal: model.Principal, key_id: str) -> None:
        """Deactivate and delete a key; one that is gone is success."""

    def delete_principal(self, principal: model.Principal) -> None:
        """Delete keys, then policies, then the principal; one that is gone is success."""

    def principals(self) -> tuple[model.Principal, ...]:
        """List every principal that bears our mark, whoever it was made for."""


class Roles(Protocol):
    """Keep the roles through which people sign in, one a product; every call is idempotent.

    A role is named and marked as a principal is.
    """

    def ensure(self, role: model.Principal, trust: str) -> None:
        """Make the role with our mark and this trust policy; `NotOurs` where it lacks the mark."""

    def put_policy(self, role: model.Principal, document: Mapping[str, Any]) -> None:
        """Make this all that the role may do, now; `PolicyTooLarge` where nothing was changed.

        `Conflict` where there is no such role.
        """

    def holds(self, role: model.Principal, trust: str, document: Mapping[str, Any]) -> bool:
        """Read back whether the role is trusted so and may do exactly this."""

    def delete(self, role: model.Principal) -> None:
        """Delete policies and role; gone is success, `NotOurs` where it lacks our mark."""


@dataclass(frozen=True, kw_only=True)
class WorkspaceSpec:
    """What a workspace is rendered from: safe names in `context`, hostile text in `text`."""

    product_id: str
    namespace: str
    context: Mapping[str, str]
    """Rendered keys: validated names, ids and settings only."""
    text: Mapping[str, str] = field(default_factory=dict)
    """Free text from the portal by bare name; it reaches the template only as `_name`, inert."""


@dataclass(frozen=True, kw_only=True)
class OwnedFiles:
    """The files that are ours in a workspace, ready to be written."""

    plain: Mapping[str, str]
    """`ports.json`, `INPUTS.md`: mode 0644."""
    secret: Mapping[str, str] = field(repr=False)
    """`.aws/config`, `.aws/credentials`, `.env`, published in this order: mode 0600."""


class Workspaces(Protocol):
    """Keep workspaces in the output folder; the only port that touches user-owned trees."""

    def template_digest(self) -> str:
        """Digest the template folder as it is now; `TemplateError` where there is none."""

    def owner(self, namespace: str) -> str | None:
        """Return the product id a folder was rendered for; "" for a foreign, non-empty folder.

        None where there is no folder, or an empty one.
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


class Inbox(Protocol):
    """Take in deliveries."""

    def accept(self, deliveries: Sequence[model.Delivery]) -> None:
        """Store deliveries and queue what they touch in one durable transaction.

        Consumers with a link of any status on a touched port are queued too; a link id that is
        unknown, like `Touched.resync`, asks for a resync.
        """


class Workqueue(Protocol):
    """Hand out keys: waiting ones coalesce, running ones exclude."""

    def touch(
        self, keys: Iterable[model.Key], priority: model.Priority, *, ports: Iterable[str] = ()
    ) -> None:
        """Queue keys, or note on a running one that it must run once more."""

    def lease(self, owner: str) -> model.Lease | None:
        """Take the most urgent ready key, if any."""

    def heartbeat(self, lease: model.Lease) -> model.Lease:
        """Extend a lease; raise `LeaseLost` where it is no longer ours."""

    def done(self, lease: model.Lease, outcome: model.Outcome) -> None:
        """Give a key back for good (or once more, if touched meanwhile) and keep the outcome."""

    def retry(self, lease: model.Lease, outcome: model.Outcome, delay_seconds: float) -> None:
        """Give a key back to be tried again after a delay; a later touch does not wait for it."""

    def reap(self, *, all_owners: bool = False) -> int:
        """Free leases that have run out; at the start of a single-process store, all of them."""

    def depth(self) -> tuple[int, int]:
        """Count (waiting, running) keys."""


class Records(Protocol):
    """Keep what we know of each product, secrets sealed; every write is fenced by a lease.

    What one module alone asks of the same store stands there: `resync.Digests`, and
    `status.ProductRecords` for a person who looks.
    """

    def load(self, key: model.Key) -> model.Record | None:
        """Return the record of a key."""

    def by_namespace(self, namespace: str) -> model.Record | None:
        """Return the record of a namespace: products first, the living before the released."""

    def save(self, record: model.Record, lease: model.Lease) -> None:
        """Write a record; raise `LeaseLost` where the lease is no longer ours."""

    def known(self) -> tuple[model.Record, ...]:
        """Return every record, by namespace; without secrets, so they cannot be saved."""

    def due(self, now: datetime) -> tuple[model.Key, ...]:
        """Return the keys whose `next_at` has come and that are not in the queue."""


class Links(Protocol):
    """Remember who has a link of any status on which port."""

    def replace(self, consumer: model.Key, links: Iterable[model.Link], lease: model.Lease) -> None:
        """Store all links of a consumer; fenced; writes nothing where nothing changed."""

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        """Return everyone with a link on the port."""


class Asks(Protocol):
    """Remember what a person asked for until it is done."""

    def ask(self, keys: Iterable[model.Key], what: model.Ask) -> None:
        """Note the wish and queue the keys in one durable transaction.

        Asked again, the time moves on.
        """

    def of(self, key: model.Key) -> Mapping[model.Ask, datetime]:
        """Return what was asked of a key, and when."""

    def forget(self, done: Mapping[model.Ask, datetime], lease: model.Lease) -> None:
        """Forget what was asked of the leased key until then; what came later stays. Fenced."""

    def waiting(self, what: model.Ask) -> frozenset[model.Key]:
        """Return the keys of which it is still asked."""


class Flags(Protocol):
    """Keep the few facts that belong to no product (`resync_wanted`, `mass_deletion`, …)."""

    def get(self, name: str) -> str | None:
        """Return a flag's text."""

    def put(self, name: str, value: str | None) -> None:
        """Set a flag, or clear it with None."""


class History(Protocol):
    """Show what arrived and what came of it."""

    def deliveries(self, *, limit: int, before: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the newest deliveries first, ids and enums only; page by row id."""

    def outcomes(self, key: model.Key, *, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return a key's newest outcomes first."""

    def prune(self, before: datetime) -> int:
        """Drop what is older; return how many rows went."""
