"""Open a store on a real SQLite file, and fill it."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cryptography.fernet import Fernet

from provisioner import model, store, workqueue
from provisioner.seal import Seal

KEY = Fernet.generate_key().decode()
A = model.Key.product(str(uuid.UUID(int=1)))


def now() -> datetime:
    return datetime.now(UTC)


@contextlib.contextmanager
def opened(url: str) -> Iterator[store.Store]:
    """Open a store."""
    held = store.open_store(url, Seal([KEY]), clock=now)
    try:
        yield held
    finally:
        held.close()


@contextlib.contextmanager
def serving(url: str) -> Iterator[tuple[store.Store, workqueue.SqlWorkqueue]]:
    """Open a store as the process that serves it, with its queue."""
    with opened(url) as held:
        assert held.database.acquire()
        yield held, workqueue.SqlWorkqueue(held.database, clock=now)


def delivery(key: model.Key = A, **touched: Any) -> model.Delivery:
    """Describe a delivery that names a key."""
    return model.Delivery(
        id=str(uuid.uuid4()),
        received_at=now(),
        wire=model.Wire.V1,
        subject="POST /api/data_products",
        status_code=200,
        touched=model.Touched(keys=frozenset({key}), **touched),
    )


def delivery_of_nothing() -> model.Delivery:
    """Describe a delivery that concerns nobody."""
    return dataclasses.replace(delivery(), touched=model.Touched())


def record(key: model.Key = A) -> model.Record:
    """Describe a product with a secret."""
    current = model.AccessKey("AKIAPUBLIC", "a very secret key")
    return model.Record(key=key, namespace="sales", credentials=model.Credentials(current=current))
