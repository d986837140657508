"""Twins of the bucket, the issuer and the prober that keep everything in memory, for real.

Keys made by `MemoryIssuer` are judged by the policy of their principal at every use, so that a test
can ask what a key may do, and `MemoryProber` proves a key by what it may do. `down` makes a twin
answer nothing.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from provisioner import errors, model, names, ports
from provisioner.domain import policy
from tests import policy_evaluator


class MemoryObjectStore:
    """Keep one bucket; `objects` are its keys, `foreign` makes it somebody else's."""

    def __init__(self, bucket: str = "lake", *, create_bucket: bool = True) -> None:
        self.bucket = bucket
        self.there = False
        self.foreign = False
        self.down = False
        self.objects: dict[str, bytes] = {}
        self.batch = 2
        """How many objects one call of `purge` deletes."""
        self._create_bucket = create_bucket

    def _answer(self) -> None:
        if self.down:
            raise errors.StorageUnavailable("the S3 engine did not answer")

    def ensure_bucket(self) -> None:
        self._answer()
        if self.foreign:
            raise errors.NotOurs("the bucket is somebody else's")
        if not (self.there or self._create_bucket):
            raise errors.PermanentError("the bucket is not there and S3_CREATE_BUCKET is off")
        self.there = True

    def owner(self, namespace: str) -> str | None:
        self._answer()
        body = self.objects.get(_mark(namespace))
        return None if body is None else body.decode()

    def is_empty(self, prefix: str) -> bool:
        self._answer()
        policy.check_prefix(prefix)
        below = [key.removeprefix(prefix) for key in self.objects if key.startswith(prefix)]
        return all(each == ".keep" or each.startswith(".provisioner-probe-") for each in below)

    def claim(self, namespace: str, product_id: str) -> None:
        self._write()
        if self.objects.setdefault(_mark(namespace), product_id.encode()) != product_id.encode():
            raise errors.NotOurs("the prefix belongs to another product")

    def keep(self, prefix: str) -> None:
        self._write()
        self.objects.setdefault(f"{policy.check_prefix(prefix)}.keep", b"")

    def kept(self, prefix: str) -> bool:
        self._answer()
        return f"{policy.check_prefix(prefix)}.keep" in self.objects

    def adopt(self, namespace: str, product_id: str) -> None:
        names.check_namespace(namespace)
        self._write()
        self.objects[_mark(namespace)] = product_id.encode()

    def disown(self, namespace: str, product_id: str) -> None:
        if self.owner(namespace) == product_id:
            self.objects.pop(f"{names.prefix(namespace)}.keep", None)
            del self.objects[_mark(namespace)]

    def purge(self, prefix: str) -> bool:
        self._answer()
        policy.check_prefix(prefix)
        below = sorted(key for key in self.objects if key.startswith(prefix))
        for key in below[: self.batch]:
            del self.objects[key]
        return bool(below)

    def _write(self) -> None:
        self._answer()
        if not self.there:
            raise errors.PermanentError("there is no bucket")


def _mark(namespace: str) -> str:
    return f".provisioner/owners/{names.check_namespace(namespace)}.json"


@dataclass
class _Key:
    secret: str
    created_at: datetime
    active: bool = True


@dataclass
class _Principal:
    product_id: str
    ours: bool = True
    enabled: bool = True
    extra: list[Mapping[str, Any]] = field(default_factory=list)
    """Policies that somebody attached besides ours."""
    document: Mapping[str, Any] = field(default_factory=lambda: {"Statement": []})
    keys: dict[str, _Key] = field(default_factory=dict)


class MemoryIssuer:
    """Make keys; `policy_limit` is the engine's room for one policy, in characters."""

    name = "memory"

    def __init__(
        self,
        *,
        clock: ports.Clock = lambda: datetime.now(UTC),
        chooses_key_ids: bool = False,
        max_live_keys: int = 2,
        settle_seconds: float = 0.0,
        policy_limit: int = 2048,
    ) -> None:
        self.chooses_key_ids = chooses_key_ids
        self.max_live_keys = max_live_keys
        self.settle_seconds = settle_seconds
        self.down = False
        self.held: dict[str, _Principal] = {}
        self._clock = clock
        self._limit = policy_limit
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def plant(self, principal: str) -> None:
        """Put a principal of somebody else's in the way."""
        self.held[principal] = _Principal(product_id="", ours=False)

    def knows(self, key: model.AccessKey) -> bool:
        """Tell whether a key pair is live."""
        held = self._held(key.id)
        enabled = held is not None and held[0].enabled and held[1].active
        return enabled and held is not None and held[1].secret == key.secret

    def allowed(
        self, key_id: str, action: str, resource: str, *, prefix: str | None = None
    ) -> bool:
        """Tell whether a live key may do this; `prefix` is a listing's, None where not given."""
        held = self._held(key_id)
        if held is None or not held[1].active or not held[0].enabled:
            return False
        documents = (held[0].document, *held[0].extra)
        return any(policy_evaluator.allowed(d, action, resource, prefix=prefix) for d in documents)

    def _held(self, key_id: str) -> tuple[_Principal, _Key] | None:
        for principal in self.held.values():
            if key_id in principal.keys:
                return principal, principal.keys[key_id]
        return None

    def _answer(self) -> None:
        if self.down:
            raise errors.IssuerUnavailable("the IAM API did not answer")

    def ensure_principal(self, principal: model.Principal) -> None:
        self._answer()
        made = _Principal(product_id=principal.product_id)
        with self._lock:
            held = self.held.setdefault(principal.name, made)
        if not held.ours or held.product_id != principal.product_id:
            raise errors.NotOurs("a principal of that name is not ours")
        held.enabled = True

    def put_policy(self, principal: model.Principal, document: Mapping[str, Any]) -> None:
        self._answer()
        if len(policy.text(document)) > self._limit:
            raise errors.PolicyTooLarge("the grants do not fit into a policy")
        held = self._there(principal)
        held.document = dict(document)
        held.extra.clear()

    def holds(self, principal: model.Principal, document: Mapping[str, Any]) -> bool:
        self._answer()
        held = self.held.get(principal.name)
        if held is None or not (held.ours and held.enabled):
            return False
        return held.document == document and not held.extra

    def create_key(
        self,
        principal: model.Principal,
        wanted: model.AccessKey | None,
        document: Mapping[str, Any],
    ) -> model.AccessKey:
        self._answer()
        assert (wanted is not None) is self.chooses_key_ids
        with self._lock:
            held = self._there(principal)
            if wanted and held.keys.get(wanted.id):
                return wanted
            if len(held.keys) >= self.max_live_keys:
                raise errors.Conflict("the principal has as many keys as it may", delay_seconds=2.0)
            number = next(self._numbers)
            key = model.AccessKey(f"AKIA{number:016d}", f"{number:040d}")
            key = wanted or key
            held.keys[key.id] = _Key(secret=key.secret, created_at=self._clock())
        return key

    def _there(self, principal: model.Principal) -> _Principal:
        if principal.name not in self.held:
            raise errors.Conflict("somebody else changed the principal meanwhile")
        return self.held[principal.name]

    def list_keys(self, principal: model.Principal) -> tuple[ports.IssuedKey, ...]:
        self._answer()
        held = self.held.get(principal.name)
        keys = held.keys if held else {}
        return tuple(
            ports.IssuedKey(id=name, created_at=key.created_at, active=key.active)
            for name, key in keys.items()
        )

    def delete_key(self, principal: model.Principal, key_id: str) -> None:
        self._answer()
        held = self._ours(principal)
        if held is not None:
            held.keys.pop(key_id, None)

    def delete_principal(self, principal: model.Principal) -> None:
        self._answer()
        if self._ours(principal) is not None:
            del self.held[principal.name]

    def principals(self) -> tuple[model.Principal, ...]:
        self._answer()
        ours = [(name, held) for name, held in self.held.items() if held.ours]
        return tuple(model.Principal(name=name, product_id=h.product_id) for name, h in ours)

    def _ours(self, principal: model.Principal) -> _Principal | None:
        held = self.held.get(principal.name)
        if held is not None and not held.ours:
            raise errors.NotOurs("a principal of that name is not ours")
        return held


class MemoryProber:
    """Prove keys of a `MemoryIssuer`; `pauses` are the waits between rounds."""

    def __init__(self, issuer: MemoryIssuer, bucket: str = "lake") -> None:
        self.down = False
        self.pauses: list[float] = []
        self.on_round: Callable[[], None] = lambda: None
        self._issuer = issuer
        self._bucket = bucket

    def prove(
        self,
        key: model.AccessKey,
        prefix: str | None,
        *,
        rounds: int,
        pause_seconds: float,
        readable: Sequence[model.Location] = (),
    ) -> bool:
        places = [place.prefix for place in readable if place.bucket == self._bucket]
        for each in places if prefix is None else [prefix]:
            policy.check_prefix(each)
        for turn in range(rounds):
            if turn:
                self.pauses.append(pause_seconds)
            self.on_round()
            if self.down:
                raise errors.StorageUnavailable("the S3 engine did not answer")
            if not (self._issuer.knows(key) and self._works(key.id, prefix, places)):
                return False
        return rounds > 0

    def _works(self, key_id: str, prefix: str | None, places: Sequence[str]) -> bool:
        bucket = f"arn:aws:s3:::{self._bucket}"
        if prefix is None:
            return all(
                self._issuer.allowed(key_id, "s3:ListBucket", bucket, prefix=place)
                for place in places
            )
        probe = f"{bucket}/{prefix}.provisioner-probe-0"
        calls = ("s3:PutObject", "s3:GetObject", "s3:DeleteObject")
        return self._issuer.allowed(key_id, "s3:ListBucket", bucket, prefix=prefix) and all(
            self._issuer.allowed(key_id, action, probe) for action in calls
        )
