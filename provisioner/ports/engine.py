"""Keep prefixes, keys and policies at an S3 engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from provisioner import model


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
