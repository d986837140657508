"""Make portal and store know many products that are in order, while the service is down.

Each is a copy of one that the service made: its record, its secrets and its asset in the portal,
so that memory, rows and answers are real. Keys and workspaces, which resync never looks at, are
not made.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy

from benchmarks import world
from provisioner import assembly, model, names, settings
from provisioner.demo.portal import records
from provisioner.store import codec, schema

_AT_ONCE = 500


def know(here: world.World, namespaces: Sequence[str], like: str) -> None:
    """Add copies of a product by these names."""
    if not namespaces:
        return
    parts = assembly.assemble(settings.load(here.environment, cwd=here.made.root, serving=True))
    try:
        copies = _Copies(here, parts, model.Key.product(like))
        for first in range(0, len(namespaces), _AT_ONCE):
            rows = [copies.add(each) for each in namespaces[first : first + _AT_ONCE]]
            with parts.store.database.writing() as connection:
                connection.execute(sqlalchemy.insert(schema.records), rows)
        copies.check()
    finally:
        parts.close()


class _Copies:
    def __init__(self, here: world.World, parts: assembly.Parts, like: model.Key) -> None:
        self._state = here.players.state
        self._parts = parts
        pattern, view = parts.store.records.load(like), parts.readings.view(like)
        if pattern is None or view is None:
            raise RuntimeError("there is no product to copy")
        self._pattern, self._view = pattern, view
        with parts.store.database.reading() as connection:
            statement = sqlalchemy.select(schema.records).where(schema.records.c.key == str(like))
            self._row = dict(connection.execute(statement).mappings().one())
        self._last: tuple[model.Key, str] | None = None

    def add(self, namespace: str) -> dict[str, Any]:
        """Put one into the portal and return its row."""
        key = model.Key.product(records.new_id())
        asset = self._tell_portal(key.id, namespace)
        digest = self._digest(key, namespace, asset)
        self._last = (key, digest)
        record = dataclasses.replace(
            self._pattern,
            key=key,
            namespace=namespace,
            name=namespace,
            settled_digest=digest,
            credentials=dataclasses.replace(
                self._pattern.credentials, principal=names.principal(namespace, key.id)
            ),
            writeback=dataclasses.replace(self._pattern.writeback, asset_id=asset),
            next_at=self._parts.clock() + timedelta(days=1),
        )
        state, _ = codec.encode(record)
        return self._row | {
            "key": str(key),
            "namespace": namespace,
            "settled_digest": digest,
            "next_at": record.next_at,
            "state": state,
        }

    def _tell_portal(self, product: str, namespace: str) -> str:
        """Add product and asset by hand: the portal's own way looks at every name for each."""
        own = self._pattern.key.id
        self._state.products[product] = dataclasses.replace(
            self._state.products[own],
            id=product,
            namespace=namespace,
            name=namespace,
            finalizers=list(self._state.products[own].finalizers),
        )
        (asset,) = self._state.assets.of(product_id=own)
        configuration = copy.deepcopy(asset.configuration) | {"path": namespace}
        identity = records.new_id()
        self._state.assets[identity] = dataclasses.replace(
            asset,
            id=identity,
            product_id=product,
            namespace=namespace,
            name=f"S3 prefix {namespace}/",
            configuration=configuration,
            links={},
        )
        return identity

    def _digest(self, key: model.Key, namespace: str, asset: str) -> str:
        """Compute what the service will find, without asking the portal four times for each."""
        product = dataclasses.replace(
            self._view.product, id=key.id, namespace=namespace, name=namespace
        )
        (own,) = self._view.assets
        held = dataclasses.replace(
            own, id=asset, namespace=namespace, name=f"S3 prefix {namespace}/", path=namespace
        )
        view = dataclasses.replace(self._view, product=product, assets=(held,))
        return self._parts.readings.judged(key, view).digest

    def check(self) -> None:
        """Make sure that the last one is what the portal says."""
        if (
            self._last is not None
            and self._parts.readings.desired(self._last[0]).digest != self._last[1]
        ):
            raise RuntimeError("the copies are not in order")
