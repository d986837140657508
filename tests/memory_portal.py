"""Stand in for the portal behind its ports: views by key, written back to like the real one."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping

from provisioner import errors, model


class MemoryPortal:
    """Implement `ports.PortalReader` and `ports.PortalWriter` on a dict of views."""

    def __init__(self, *views: model.PortalView, lifecycles: tuple[str, ...] = ("Draft", "Ready")):
        self.views = {model.Key.product(view.product.id): view for view in views}
        self.lifecycles = lifecycles
        self.failure: errors.ReconcileError | None = None
        self.failures: dict[model.Key, errors.ReconcileError] = {}
        """Raised where these are viewed."""
        self.knows_explorations = True
        self.explorations_failure: errors.ReconcileError | None = None
        self.refusal: errors.PermanentError | None = None
        """Raised by every write."""
        self.writes: list[str] = []

    def put(self, view: model.PortalView, kind: model.Kind = model.Kind.PRODUCT) -> model.Key:
        key = model.Key(kind, view.product.id)
        self.views[key] = view
        return key

    def change(self, key: model.Key, **changes: object) -> None:
        """Change the product itself."""
        view = self.views[key]
        product = dataclasses.replace(view.product, **changes)  # type: ignore[arg-type]
        self.views[key] = dataclasses.replace(view, product=product)

    def delete(self, key: model.Key) -> None:
        """Delete as the portal does: at once, or after the last finalizer."""
        if self.views[key].product.finalizers:
            self.change(key, status=model.ProductStatus.DELETING)
        else:
            del self.views[key]

    def products(self) -> tuple[model.Product, ...]:
        self._maybe_fail()
        return self._listed(model.Kind.PRODUCT)

    def explorations(self) -> tuple[model.Product, ...]:
        self._maybe_fail()
        if self.explorations_failure is not None:
            raise self.explorations_failure
        return self._listed(model.Kind.EXPLORATION) if self.knows_explorations else ()

    def _listed(self, kind: model.Kind) -> tuple[model.Product, ...]:
        return tuple(view.product for key, view in self.views.items() if key.kind is kind)

    def view(
        self, key: model.Key, *, listed: Mapping[str, model.Product] | None = None
    ) -> model.PortalView | None:
        self._maybe_fail()
        if key.kind is model.Kind.EXPLORATION and not self.knows_explorations:
            raise errors.PortalUnavailable("the portal has no such route")
        if key in self.failures:
            raise self.failures[key]
        view = self.views.get(key)
        page = (listed or {}).get(key.id)
        return dataclasses.replace(view, product=page) if view and page else view

    def consumers(self, producer: model.Key, port_id: str) -> tuple[model.Link, ...]:
        self._maybe_fail()
        links = [link for view in self.views.values() for link in view.links]
        return tuple(link for link in links if link.port_id == port_id)

    def add_finalizer(self, key: model.Key, name: str) -> None:
        self._write("add_finalizer")
        self.change(key, finalizers=(self.views[key].product.finalizers or frozenset()) | {name})

    def remove_finalizer(self, key: model.Key, name: str) -> None:
        self._write("remove_finalizer")
        if key not in self.views:
            return
        product = self.views[key].product
        self.change(key, finalizers=(product.finalizers or frozenset()) - {name})
        if (
            product.status is model.ProductStatus.DELETING
            and not self.views[key].product.finalizers
        ):
            del self.views[key]

    def set_lifecycle(self, key: model.Key, name: str) -> bool:
        if name not in self.lifecycles:
            return False
        self._write("set_lifecycle")
        self.change(key, lifecycle=name)
        return True

    def register_asset(self, key: model.Key, location: model.Location) -> str | None:
        self._write("register_asset")
        asset_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{location.bucket}/{location.prefix}"))
        view = self.views[key]
        asset = model.Asset(
            id=asset_id,
            name=location.prefix,
            namespace=location.prefix.strip("/"),
            status="active",
            configuration_type="S3TechnicalAssetConfiguration",
            bucket=location.bucket,
            path=location.prefix.strip("/"),
        )
        if asset_id not in {known.id for known in view.assets}:
            self.views[key] = dataclasses.replace(view, assets=(*view.assets, asset))
        return asset_id

    def _maybe_fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _write(self, what: str) -> None:
        self._maybe_fail()
        if self.refusal is not None:
            raise self.refusal
        self.writes.append(what)
