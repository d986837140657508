"""Read the portal's truth and write back to it, whatever its version.

What a portal can do is found out by what it does: finalizers exist where a product's answer has
them, a slash belongs where a redirect asks for it. `client` makes the calls, `wire`
turns JSON into the model; this module knows which calls answer which question.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import httpx

from provisioner import errors, model
from provisioner.portal import client, fields, wire

_PRODUCTS = "/api/v2/data_products"
_PRODUCT = f"{_PRODUCTS}/{{product}}"
_INPUT_PORTS = f"{_PRODUCT}/input_ports"
_OUTPUT_PORTS = f"{_PRODUCT}/output_ports"
_OUTPUT_PORT = f"{_OUTPUT_PORTS}/{{port}}"
_CONSUMERS = f"{_OUTPUT_PORT}/input_ports"
_ASSETS = f"{_PRODUCT}/technical_assets"
_LEGACY_ASSETS = "/api/data_products/{product}/data_output"
_LIFECYCLES = "/api/v2/configuration/data_product_lifecycles"
_PLATFORMS = "/api/v2/configuration/platforms/configs"
_ROOTS = {
    model.Kind.PRODUCT: "/api/v2/data_products/{product}",
    model.Kind.EXPLORATION: "/api/v2/explorations/{product}",
}
_FINALIZER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_GONE = object()
"""No JSON is this: a null that a portal answers must not read as an absence."""

_T = TypeVar("_T")


class HttpPortal:
    """Speak to one portal; implements `ports.PortalReader` and `ports.PortalWriter`."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_seconds: float = 10,
        attempts: int = 3,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client.PortalClient(
            base_url=base_url,
            auth=None if api_key is None else client.ApiKey(api_key),
            transport=transport,
            timeout_seconds=timeout_seconds,
            attempts=attempts,
            sleep=sleep,
        )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def products(self) -> tuple[model.Product, ...]:
        """List every data product, by namespace."""
        return self._get(_PRODUCTS, wire.products)

    def view(self, key: model.Key) -> model.PortalView | None:
        """Read all about one product; None where the portal is sure that it does not exist."""
        if key.kind is not model.Kind.PRODUCT:
            raise errors.PermanentError("only data products are provisioned", key=str(key))
        product = self._product(key.id)
        if product is None:
            return None
        assets = self._own(_ASSETS, key, wire.technical_assets)
        ports = self._own(_OUTPUT_PORTS, key, lambda body: wire.output_ports(body, key.id, assets))
        linked = self._own(_INPUT_PORTS, key, lambda body: wire.consumer_links(body, key))
        approved = [one for one in linked if one.link.status is model.LinkStatus.APPROVED]
        producers = self._producers(product, {one.link.producer_id for one in approved})
        return model.PortalView(
            product=product,
            ports=ports,
            assets=tuple(one.asset for one in assets),
            links=tuple(one.link for one in linked),
            producers=tuple(producers),
            granted_ports=self._granted(approved, {producer.id for producer in producers}),
        )

    def consumers(self, producer: model.Key, port_id: str) -> tuple[model.Link, ...]:
        """List the links of every status on one output port; empty where the port is gone."""
        links = self._find(
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
                body={"finalizer": _checked(name)},
            )
        )

    def remove_finalizer(self, key: model.Key, name: str) -> None:
        """Let the portal go on; a product or finalizer that is gone is success."""
        self._client.call(
            client.Call(
                method="DELETE",
                route=f"{_ROOTS[key.kind]}/finalizers/{{finalizer}}",
                ids={"product": key.id, "finalizer": _checked(name)},
                accept=frozenset({404}),
            )
        )

    def set_lifecycle(self, key: model.Key, name: str) -> bool:
        """Set the lifecycle by name, leaving all else; False where the portal has no such name."""
        body = self._existing(key)
        if self._parsed(_PRODUCT, wire.product, body).lifecycle == name:
            return True
        lifecycle = self._get(_LIFECYCLES, lambda found: wire.lifecycle_id(found, name))
        if lifecycle is None:
            return False
        update = self._parsed(_PRODUCT, lambda found: wire.update_body(found, lifecycle), body)
        self._client.call(
            client.Call(method="PUT", route=_PRODUCT, ids={"product": key.id}, body=update)
        )
        return True

    def register_asset(self, key: model.Key, location: model.Location) -> str | None:
        """Return the id of the S3 technical asset for a prefix, made if it is not there."""
        for linked in self._own(_ASSETS, key, wire.technical_assets):
            if wire.is_at(linked.asset, location):
                return linked.asset.id
        service = self._get(_PLATFORMS, wire.s3_service)
        if service is None:
            return None
        product = self._parsed(_PRODUCT, wire.product, self._existing(key))
        modern = product.finalizers is not None
        body = wire.asset_body(location, service, knows_finalizers=modern)
        try:
            return self._create(_ASSETS, key, body)
        except errors.PortalRejected as exc:
            if modern or exc.attributes.get("status") != 403:
                raise
        # Portals without finalizers refuse owners here and allow them the older route.
        return self._create(_LEGACY_ASSETS, key, body)

    # reading, in the order of `view`

    def _product(self, identity: str) -> model.Product | None:
        body = self._product_body(identity)
        if body is _GONE:
            return None
        product = self._parsed(_PRODUCT, wire.product, body)
        if product.id != identity:
            raise _malformed(_PRODUCT, "the answer is about another product")
        return product

    def _product_body(self, identity: str) -> object:
        """Return a product's JSON, `_GONE` where it does not exist for sure.

        Portals before 0.7 answer 500 for a product that is gone; only a 404 of its ports tells
        that from a portal in trouble.
        """
        answer = self._ask(_PRODUCT, {404, 500}, product=identity)
        if answer.status == 500:
            if self._ask(_OUTPUT_PORTS, {404}, product=identity).status == 404:
                return _GONE
            answer = self._ask(_PRODUCT, {404}, product=identity)
        return _GONE if answer.status == 404 else answer.body

    def _existing(self, key: model.Key) -> object:
        body = self._product_body(key.id)
        if body is _GONE:
            raise _gone()
        return body

    def _producers(self, own: model.Product, identities: Collection[str]) -> list[model.Product]:
        found = (
            own if identity == own.id else self._product(identity)
            for identity in sorted(identities)
        )
        return [producer for producer in found if producer is not None]

    def _granted(
        self, approved: Iterable[wire.LinkedPort], producer_ids: Collection[str]
    ) -> tuple[model.OutputPort, ...]:
        by_id = {one.port.id: one for one in approved if one.port.producer_id in producer_ids}
        found = (self._granted_port(by_id[identity]) for identity in sorted(by_id))
        return tuple(port for port in found if port is not None)

    def _granted_port(self, linked: wire.LinkedPort) -> model.OutputPort | None:
        """Return a port with its assets, None where it went meanwhile.

        A private port's own page is closed to us unless we have a role on it: its assets are
        then unknown, and opened to nobody.
        """
        try:
            return self._find(
                _OUTPUT_PORT,
                lambda body: wire.port_detail(body, linked.port),
                product=linked.port.producer_id,
                port=linked.port.id,
            )
        except errors.PortalRejected as exc:
            if linked.private and exc.attributes.get("status") == 403:
                return linked.port
            raise

    def _own(self, route: str, key: model.Key, parse: Callable[[object], _T]) -> _T:
        """Read a part of a product that was there a moment ago."""
        found = self._find(route, parse, product=key.id)
        if found is None:
            raise _gone()
        return found

    # calls

    def _create(self, route: str, key: model.Key, body: dict[str, object]) -> str:
        call = client.Call(
            method="POST", route=route, ids={"product": key.id}, body=body, repeatable=False
        )
        return self._parsed(route, wire.created_id, self._client.call(call).body)

    def _get(self, route: str, parse: Callable[[object], _T], **ids: str) -> _T:
        return self._parsed(route, parse, self._ask(route, (), **ids).body)

    def _find(self, route: str, parse: Callable[[object], _T], **ids: str) -> _T | None:
        """Like `_get`, but None where the portal says that there is no such thing."""
        answer = self._ask(route, {404}, **ids)
        return None if answer.status == 404 else self._parsed(route, parse, answer.body)

    def _ask(self, route: str, accept: Iterable[int], **ids: str) -> client.Answer:
        return self._client.call(
            client.Call(method="GET", route=route, ids=ids, accept=frozenset(accept))
        )

    def _parsed(self, route: str, parse: Callable[[object], _T], body: object) -> _T:
        try:
            return parse(body)
        except fields.Malformed as exc:
            raise _malformed(route, str(exc)) from exc


def _malformed(route: str, problem: str) -> errors.PortalUnavailable:
    return errors.PortalUnavailable(
        "the portal's answer is not what its API promises", path=route, problem=problem
    )


def _gone() -> errors.Conflict:
    return errors.Conflict("the product went while it was read", delay_seconds=1)


def _checked(name: str) -> str:
    """Refuse a name that the portal would take and never find again for its removal."""
    if not _FINALIZER.fullmatch(name):
        raise errors.NameRejected("a finalizer is named with letters, digits and ._- only")
    return name
