"""Read the portal's JSON into the model, and write the few bodies that we send.

Pure: no I/O and no log. It knows both styles of answer (before 0.6 a link names its consumer in
`data_product_id` and its port in `input_port`; since then in `consuming_abstract_data_product_id`
and `output_port`) and believes nothing: ids must be UUIDs, and an answer must be about what was
asked. `fields.Malformed` says where an answer is wrong, never what it held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from provisioner import model
from provisioner.portal import assets as portal_assets
from provisioner.portal import fields as portal_fields

PRODUCTS, EXPLORATIONS = "data_products", "explorations"
LISTED = frozenset(
    {PRODUCTS, EXPLORATIONS}
    | {"id", "namespace", "name", "status", "description", "domain", "lifecycle", "finalizers"}
)
"""All that is read of a list of products or explorations."""
_APPROVED = model.LinkStatus.APPROVED.value


@dataclass(frozen=True, kw_only=True)
class LinkedPort:
    """A consumer's link and the port it names, as the link's own entry describes it."""

    link: model.Link
    port: model.OutputPort
    private: bool


def products(body: object) -> tuple[model.Product, ...]:
    """Read the list of all data products, by namespace."""
    return _listed(product(entry) for entry in portal_fields.entries(body, PRODUCTS))


def _listed(read: Iterable[model.Product]) -> tuple[model.Product, ...]:
    found = sorted(read, key=lambda entry: (entry.namespace, entry.id))
    if len({entry.id for entry in found}) != len(found):
        raise portal_fields.Malformed("a product is listed twice")
    return tuple(found)


def product(body: object) -> model.Product:
    """Read one data product."""
    fields = portal_fields.mapping(body)
    return model.Product(
        id=portal_fields.uuid(fields, "id"),
        namespace=portal_fields.text(fields, "namespace"),
        name=portal_fields.text(fields, "name"),
        status=_status(portal_fields.text(fields, "status")),
        description=portal_fields.optional_text(fields, "description"),
        domain=portal_fields.name_of(fields, "domain"),
        lifecycle=portal_fields.name_of(fields, "lifecycle"),
        finalizers=portal_fields.texts(fields, "finalizers"),
    )


def explorations(body: object) -> tuple[model.Product, ...]:
    """Read the list of all explorations, by namespace."""
    return _listed(exploration(entry) for entry in portal_fields.entries(body, EXPLORATIONS))


def exploration(body: object) -> model.Product:
    """Read one exploration as a product that only consumes; it has no lifecycle."""
    return product({"status": model.ProductStatus.ACTIVE.value, **portal_fields.mapping(body)})


def lifecycle_id(body: object, name: str) -> str | None:
    """Find a lifecycle by its name in the list of all lifecycles."""
    for entry in portal_fields.entries(body, "data_product_life_cycles"):
        if entry.get("name") == name:
            return portal_fields.uuid(entry, "id")
    return None


def update_body(body: object, lifecycle: str) -> dict[str, object]:
    """Turn a product as read into the full update that changes its lifecycle alone."""
    fields = portal_fields.mapping(body)
    update: dict[str, object] = {
        "name": portal_fields.text(fields, "name"),
        "namespace": portal_fields.text(fields, "namespace"),
        "description": portal_fields.optional_text(fields, "description"),
        "type_id": portal_fields.uuid(portal_fields.mapping(fields.get("type")), "id"),
        "domain_id": portal_fields.uuid(portal_fields.mapping(fields.get("domain")), "id"),
        "tag_ids": [portal_fields.uuid(tag, "id") for tag in portal_fields.entries(fields, "tags")],
        "lifecycle_id": lifecycle,
    }
    if isinstance(fields.get("about"), str):
        update["about"] = fields["about"]
    return update


def output_ports(
    body: object, producer_id: str, assets: Iterable[portal_assets.LinkedAsset]
) -> tuple[model.OutputPort, ...]:
    """Read a product's ports, each with those of its own assets that are linked to it."""
    linked = tuple(assets)
    found = [
        _port(
            entry,
            producer_id,
            tuple(asset.asset for asset in linked if entry.get("id") in asset.port_ids),
        )
        for entry in portal_fields.entries(body, "output_ports")
    ]
    return tuple(sorted(found, key=lambda port: port.id))


def port_detail(body: object, port: model.OutputPort) -> model.OutputPort:
    """Read a port's own page: it alone tells which assets are linked to it."""
    fields = portal_fields.mapping(body)
    if portal_fields.uuid(fields, "id") != port.id:
        raise portal_fields.Malformed("the answer is about another port")
    found = [
        portal_assets.read_asset(portal_fields.mapping(entry.get("technical_asset")))
        for entry in portal_fields.entries(fields, "technical_asset_links")
        if entry.get("status") == _APPROVED
    ]
    assets = tuple(sorted(found, key=lambda asset: asset.id))
    return _port(fields, port.producer_id, assets)


def consumer_links(body: object, consumer: model.Key) -> tuple[LinkedPort, ...]:
    """Read a consumer's links of every status."""
    found = [_linked_port(entry, consumer) for entry in portal_fields.entries(body, "input_ports")]
    return tuple(sorted(found, key=lambda linked: linked.link.id))


def port_links(body: object, producer_id: str, port_id: str) -> tuple[model.Link, ...]:
    """Read everyone's links of every status on one port."""
    found = []
    for entry in portal_fields.entries(body, "input_ports"):
        consumer = _consumer(entry)
        if consumer is not None:
            found.append(_link(entry, consumer, producer_id, port_id))
    return tuple(sorted(found, key=lambda link: link.id))


def _linked_port(entry: Mapping[str, Any], consumer: model.Key) -> LinkedPort:
    named = entry.get("data_product_id")
    if named is not None and named != consumer.id:
        raise portal_fields.Malformed("a link is another consumer's")
    fields = portal_fields.mapping(entry.get("output_port", entry.get("input_port")))
    producer_id = portal_fields.uuid(fields, "data_product_id")
    port = _port(fields, producer_id, ())
    if portal_fields.uuid(entry, "output_port_id") != port.id:
        raise portal_fields.Malformed("a link names two ports")
    return LinkedPort(
        link=_link(entry, consumer, producer_id, port.id),
        port=port,
        private=fields.get("access_type") == "private",
    )


def _consumer(entry: Mapping[str, Any]) -> model.Key | None:
    if "consuming_abstract_data_product_id" not in entry:
        return model.Key.product(portal_fields.uuid(entry, "data_product_id"))
    kind = portal_fields.mapping(entry.get("consuming_abstract_data_product")).get(
        "abstract_data_product_type"
    )
    identity = portal_fields.uuid(entry, "consuming_abstract_data_product_id")
    if kind == "data_products":
        return model.Key.product(identity)
    if kind == "explorations":
        return model.Key(model.Kind.EXPLORATION, identity)
    return None  # a kind of consumer that we do not provision is nobody to reconcile


def _link(
    entry: Mapping[str, Any], consumer: model.Key, producer_id: str, port_id: str
) -> model.Link:
    request = entry.get("current_request")
    request = {} if request is None else portal_fields.mapping(request)
    return model.Link(
        id=portal_fields.uuid(entry, "id"),
        consumer=consumer,
        producer_id=producer_id,
        port_id=port_id,
        status=_link_status(entry),
        valid_from=portal_fields.day(request, "valid_from"),
        valid_until=portal_fields.day(request, "valid_until"),
        mode=portal_fields.name_of(request, "access_mode") or "read",
    )


def _status(text: str) -> model.ProductStatus:
    try:
        return model.ProductStatus(text)
    except ValueError:
        # One such product must not hold up all others: it alone is left as it is.
        return model.ProductStatus.UNKNOWN


def _link_status(entry: Mapping[str, Any]) -> model.LinkStatus:
    text = portal_fields.text(entry, "status")
    try:
        return model.LinkStatus(text)
    except ValueError:
        # A word that a later portal added is not an approval; one such link must not hold up
        # the revocation of the consumer's others.
        return model.LinkStatus.PENDING


def _port(
    fields: Mapping[str, Any], producer_id: str, assets: tuple[model.Asset, ...]
) -> model.OutputPort:
    if portal_fields.uuid(fields, "data_product_id") != producer_id:
        raise portal_fields.Malformed("a port belongs to another product")
    return model.OutputPort(
        id=portal_fields.uuid(fields, "id"),
        namespace=portal_fields.text(fields, "namespace"),
        name=portal_fields.text(fields, "name"),
        producer_id=producer_id,
        status=portal_fields.text(fields, "status"),
        assets=assets,
    )
