"""Prove on the live engine that keys are scoped: two throw-away products, then nothing of them.

The same parts make them as make real ones: prefix, issuer, policy. What is there already is never
touched, since their names and ids are drawn anew each time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from provisioner import errors, model, names, ports
from provisioner.doctor import matrix
from provisioner.domain import policy
from provisioner.domain.findings import Attempt
from provisioner.steps import keypair

_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class Product:
    """A throw-away product."""

    namespace: str
    id: str

    @property
    def principal(self) -> model.Principal:
        """Name its principal."""
        return model.Principal(name=names.principal(self.namespace, self.id), product_id=self.id)

    @property
    def prefix(self) -> str:
        """Name its prefix."""
        return names.prefix(self.namespace)


class Examination:
    """Make two products, try what their keys may do, and remove them."""

    def __init__(
        self,
        *,
        issuer: ports.Issuer,
        prober: ports.Prober,
        objects: ports.ObjectStore,
        bucket: str,
        trial: Callable[[model.AccessKey], matrix.Trial],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._issuer = issuer
        self._prober = prober
        self._objects = objects
        self._bucket = bucket
        self._trial = trial
        self._sleep = sleep
        stem = f"provisioner-doctor-{uuid.uuid4().hex[:8]}"
        # The second name begins with the first: what opens the one must not open the other.
        self._orders = Product(namespace=stem, id=str(uuid.uuid4()))
        self._sales = Product(namespace=f"{stem}-eu", id=str(uuid.uuid4()))

    def run(self) -> Iterator[Attempt]:
        """Yield every attempt as it is made; whatever happens, all of it is removed again."""
        try:
            yield from self._run()
        finally:
            for product in (self._orders, self._sales):
                self._issuer.delete_principal(product.principal)
            for product in (self._orders, self._sales):
                self._erase(product)

    def _erase(self, product: Product) -> None:
        """Delete what a product wrote, then the mark of its prefix."""
        if self._objects.owner(product.namespace) == product.id:
            while self._objects.purge(product.prefix):
                pass
            self._objects.disown(product.namespace, product.id)

    def _run(self) -> Iterator[Attempt]:
        self._objects.ensure_bucket()
        orders = self._trial(self._provision(self._orders))
        key = self._provision(self._sales)
        sales = self._trial(key)
        try:
            yield from matrix.attempts(
                "alone", "producer", matrix.PRODUCER, orders, _places(self._orders, self._sales)
            )
            yield from self._story(sales, key)
        finally:
            orders.close()
            sales.close()

    def _story(self, trial: matrix.Trial, key: model.AccessKey) -> Iterator[Attempt]:
        """Live through a grant as its consumer: before, while it holds, after, and dead."""
        at = _places(self._sales, self._orders)
        yield from matrix.attempts("before a grant", "consumer", matrix.BEFORE, trial, at)
        self._scope(self._sales, self._grant())
        yield from matrix.attempts("while granted", "consumer", matrix.GRANTED, trial, at)
        self._scope(self._sales)
        yield from matrix.attempts("after revoking", "consumer", matrix.REVOKED, trial, at)
        self._issuer.delete_key(self._sales.principal, key.id)
        self._sleep(self._issuer.settle_seconds)
        yield from matrix.attempts("its key deleted", "consumer", matrix.DEAD, trial, at)

    def _provision(self, product: Product) -> model.AccessKey:
        """Make prefix, principal, policy and key as for a real product."""
        self._objects.claim(product.namespace, product.id)
        self._objects.keep(product.prefix)
        self._issuer.ensure_principal(product.principal)
        document = self._scope(product)
        wanted = keypair.choose() if self._issuer.chooses_key_ids else None
        key = self._issuer.create_key(product.principal, wanted, document)
        pause = self._issuer.settle_seconds / 3
        for _ in range(_TRIES):
            if self._prober.prove(key, product.prefix, rounds=3, pause_seconds=pause):
                return key
            self._sleep(max(1.0, pause))
        raise errors.NotProven("a new key does not work: nothing could be tried with it")

    def _scope(self, product: Product, *grants: model.Grant) -> dict[str, object]:
        document = policy.document(bucket=self._bucket, own=[product.prefix], grants=grants)
        self._issuer.put_policy(product.principal, document)
        self._sleep(self._issuer.settle_seconds)
        return document

    def _grant(self) -> model.Grant:
        """Let one product read a port of the other."""
        prefix = names.port_prefix(self._orders.namespace, matrix.PORT)
        return model.Grant(
            producer_id=self._orders.id,
            producer_namespace=self._orders.namespace,
            port_id=self._orders.id,
            port_namespace=matrix.PORT,
            access=model.Access.READ,
            locations=(model.Location(bucket=self._bucket, prefix=prefix),),
        )


def _places(product: Product, other: Product) -> matrix.Places:
    mark = f".provisioner/owners/{other.namespace}.json"
    return matrix.Places(own=product.prefix, other=other.prefix, mark=mark)
