"""Speak the API below `/api/v2`, which every portal after release 0.4.2 has.

What a portal can do is found out by what it does: finalizers exist where a product's answer has
them, explorations where their route is. `client` makes the calls, `wire` and `assets` turn JSON
into the model; this module knows which calls answer which question.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from provisioner import errors, model
from provisioner.portal import assets, client, wire
from provisioner.portal.questions import NOBODY, Questions, gone, malformed, parsed

_PRODUCTS = "/api/v2/data_products"
_PRODUCT = f"{_PRODUCTS}/{{product}}"
_OUTPUT_PORTS = f"{_PRODUCT}/output_ports"
_OUTPUT_PORT = f"{_OUTPUT_PORTS}/{{port}}"
_CONSUMERS = f"{_OUTPUT_PORT}/input_ports"
_ASSETS = f"{_PRODUCT}/technical_assets"
_LEGACY_ASSETS = "/api/data_products/{product}/data_output"
_EXPLORATIONS = "/api/v2/explorations"
_EXPLORATION = f"{_EXPLORATIONS}/{{product}}"
_LIFECYCLES = "/api/v2/configuration/data_product_lifecycles"
_PLATFORMS = "/api/v2/configuration/platforms/configs"
_ROOTS = {model.Kind.PRODUCT: _PRODUCT, model.Kind.EXPLORATION: _EXPLORATION}

_NONE: Mapping[str, model.Product] = MappingProxyType({})
_GONE = object()
"""No JSON is this: a null that a portal answers must not read as an absence."""


class ModernApi:
    """Read and write below `/api/v2`."""

    def __init__(self, caller: client.PortalClient) -> None:
        self._client = caller
        self._questions = Questions(caller)

    def close(self) -> None:
        """Let go of what asks side by side."""
        self._questions.close()

    def serves(self) -> bool:
        """Tell whether the portal has this API."""
        return self._questions.knows(_OUTPUT_PORTS, product=NOBODY)

    def products(self) -> tuple[model.Product, ...]:
        """List every data product, by namespace."""
        return self._questions.listed(_PRODUCTS, wire.products, wire.LISTED)

    def explorations(self) -> tuple[model.Product, ...]:
        """List every exploration, by namespace; empty where this portal knows none."""
        try:
            return self._questions.listed(_EXPLORATIONS, wire.explorations, wire.LISTED)
        except client.NoSuchRoute:
            return ()

    def view(
        self, key: model.Key, listed: Mapping[str, model.Product] = _NONE
    ) -> model.PortalView | None:
        """Read all about one product or exploration, but for the pages of what was `listed`."""
        if key.kind is model.Kind.EXPLORATION:
            exploration = self._exploration(key.id)
            if exploration is None:
                return None
            (linked,) = self._questions.parts([_links(key)], key.id)
            return self._consuming(key, exploration, linked)
        product = listed.get(key.id) or self._product(key.id)
        if product is None:
            return None
        routes = (_ASSETS, _OUTPUT_PORTS, _links(key))
        assets_body, ports_body, linked = self._questions.parts(routes, key.id)
        own = parsed(_ASSETS, assets.technical_assets, assets_body)
        ports = parsed(_OUTPUT_PORTS, lambda body: wire.output_ports(body, key.id, own), ports_body)
        assets_only = tuple(one.asset for one in own)
        return self._consuming(key, product, linked, ports, assets_only, listed)

    def consumers(self, producer: model.Key, port_id: str) -> tuple[model.Link, ...]:
        """List the links of every status on one output port; empty where the port is gone."""
        links = self._questions.find(
            _CONSUMERS,
            lambda body: wire.port_links(body, producer.id, port_id),
            product=producer.id,
            port=port_id,
        )
        return links or ()

    def add_finalizer(self, key: model.Key, name: str) -> None:
        """Ask the portal to wait for us before it deletes the product."""
        self._client.call(
            client.Call(
                method="POST",
                route=f"{_ROOTS[key.kind]}/finalizers",
                ids={"product": key.id},
                body={"finalizer": name},
            )
        )

    def remove_finalizer(self, key: model.Key, name: str) -> None:
        """Let the portal go on; a product or finalizer that is gone is success."""
        self._client.call(
            client.Call(
                method="DELETE",
                route=f"{_ROOTS[key.kind]}/finalizers/{{finalizer}}",
                ids={"product": key.id, "finalizer": name},
                accept=frozenset({404}),
            )
        )

    def set_lifecycle(self, key: model.Key, name: str) -> bool:
        """Set the lifecycle by name, leaving all else; False where the portal has no such name."""
        body = self._existing(key)
        if parsed(_PRODUCT, wire.product, body).lifecycle == name:
            return True
        lifecycle = self._questions.get(_LIFECYCLES, lambda found: wire.lifecycle_id(found, name))
        if lifecycle is None:
            return False
        update = parsed(_PRODUCT, lambda found: wire.update_body(found, lifecycle), body)
        self._questions.update(_PRODUCT, update, key.id)
        return True

    def register_asset(self, key: model.Key, location: model.Location) -> str | None:
        """Return the id of the S3 technical asset for a prefix, made if it is not there."""
        for linked in self._questions.part(_ASSETS, assets.technical_assets, key.id):
            if assets.is_at(linked.asset, location):
                return linked.asset.id
        service = self._questions.get(_PLATFORMS, assets.s3_service)
        if service is None:
            return None
        product = parsed(_PRODUCT, wire.product, self._existing(key))
        modern = product.finalizers is not None
        body = assets.asset_body(location, service, knows_finalizers=modern)
        try:
            return self._questions.create(_ASSETS, body, key.id)
        except errors.PortalRejected as exc:
            if modern or exc.attributes.get("status") != 403:
                raise
        # Portals without finalizers refuse owners here and allow them the older route.
        return self._questions.create(_LEGACY_ASSETS, body, key.id)

    # reading, in the order of `view`

    def _product(self, identity: str) -> model.Product | None:
        body = self._product_body(identity)
        if body is _GONE:
            return None
        product = parsed(_PRODUCT, wire.product, body)
        if product.id != identity:
            raise malformed(_PRODUCT, "the answer is about another product")
        return product

    def _product_body(self, identity: str) -> object:
        """Return a product's JSON, `_GONE` where it does not exist for sure.

        Portals before 0.7 answer 500 for a product that is gone; only a 404 of its ports tells
        that from a portal in trouble.
        """
        answer = self._questions.ask(_PRODUCT, {404, 500}, product=identity)
        if answer.status == 500:
            if self._questions.ask(_OUTPUT_PORTS, {404}, product=identity).status == 404:
                return _GONE
            answer = self._questions.ask(_PRODUCT, {404}, product=identity)
        return _GONE if answer.status == 404 else answer.body

    def _existing(self, key: model.Key) -> object:
        body = self._product_body(key.id)
        if body is _GONE:
            raise gone()
        return body

    def _exploration(self, identity: str) -> model.Product | None:
        found = self._questions.find(_EXPLORATION, wire.exploration, product=identity)
        if found is not None and found.id != identity:
            raise malformed(_EXPLORATION, "the answer is about another exploration")
        return found

    def _consuming(
        self,
        key: model.Key,
        product: model.Product,
        links_body: object,
        ports: tuple[model.OutputPort, ...] = (),
        own: tuple[model.Asset, ...] = (),
        listed: Mapping[str, model.Product] = _NONE,
    ) -> model.PortalView:
        """Add to what something is and has what it may read."""
        linked = parsed(_links(key), lambda body: wire.consumer_links(body, key), links_body)
        approved = [one for one in linked if one.link.status is model.LinkStatus.APPROVED]
        wanted = {one.link.producer_id for one in approved}
        # Looked up one by one: thousands may be listed, and this is done for each of them.
        known = {each: listed[each] for each in wanted if each in listed} | {product.id: product}
        producers = self._producers(known, wanted)
        return model.PortalView(
            product=product,
            ports=ports,
            assets=own,
            links=tuple(one.link for one in linked),
            producers=tuple(producers),
            granted_ports=self._granted(approved, {producer.id for producer in producers}),
        )

    def _producers(
        self, known: Mapping[str, model.Product], identities: Collection[str]
    ) -> list[model.Product]:
        """Return those that are not gone, in order; what is not known is asked for."""
        others = sorted(set(identities) - known.keys())
        asked = dict(zip(others, self._questions.each(self._product, others), strict=True))
        found = ((known.get(each) or asked.get(each)) for each in sorted(identities))
        return [producer for producer in found if producer is not None]

    def _granted(
        self, approved: Iterable[wire.LinkedPort], producer_ids: Collection[str]
    ) -> tuple[model.OutputPort, ...]:
        by_id = {one.port.id: one for one in approved if one.port.producer_id in producer_ids}
        linked = [each for _, each in sorted(by_id.items())]
        found = self._questions.each(self._granted_port, linked)
        return tuple(port for port in found if port is not None)

    def _granted_port(self, linked: wire.LinkedPort) -> model.OutputPort | None:
        """Return a port with its assets, None where it went meanwhile.

        A private port's own page is closed to us unless we have a role on it: its assets are
        then unknown, and opened to nobody.
        """
        try:
            return self._questions.find(
                _OUTPUT_PORT,
                lambda body: wire.port_detail(body, linked.port),
                product=linked.port.producer_id,
                port=linked.port.id,
            )
        except errors.PortalRejected as exc:
            if linked.private and exc.attributes.get("status") == 403:
                return linked.port
            raise


def _links(key: model.Key) -> str:
    """Name the route of what something may read."""
    return f"{_ROOTS[key.kind]}/input_ports"
