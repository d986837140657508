"""Read which products a verified message is a hint about.

Two wires, told apart by content: v1 repeats an API call of the portal (method, URL, answer), v2
is a CloudEvent. Nothing here decides what to do: a hint only says where to look, so where the
message leaves a doubt more keys are named, and where it names nobody a resync is asked for.

Texts of a message are hostile. What leaves this module are lower-case UUIDs and words from the
tables below; a URL or a type that is in no table is `other`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from provisioner import errors, model
from provisioner.domain import paths

_EVERY_PORT = "*"


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a message says happened: ids and words from our tables, nothing else of it."""

    wire: model.Wire
    subject: str
    """v1: `METHOD /path/with/{id}`; v2: the event type; `other` where we know neither."""
    status_code: int | None
    """How the portal answered the call (v1); None on v2, which reports successes only."""
    named: model.Touched
    """Whom it names, whether the call succeeded or not."""


def parse(message: object) -> Event:
    """Read a message of either wire; raise `errors.PayloadError` if it has the shape of neither."""
    if not isinstance(message, dict):
        raise errors.PayloadError("a delivery is a JSON object")
    return _parse_v2(message) if "specversion" in message else _parse_v1(message)


def touched(event: Event) -> model.Touched:
    """Return whom an event touches: nobody, if the portal refused the call."""
    if event.status_code is not None and not 200 <= event.status_code <= 299:
        return model.Touched()
    return event.named


@dataclass(frozen=True)
class _Row:
    """Say whom a URL (v1) or a type of event (v2) names.

    Roles: `product` is a key, and the producer of `port`; `consumer` and `exploration` are keys;
    `link` is the id of a legacy link; `id` and `name` say nothing to us.
    """

    methods: str
    pattern: str
    """v1: below a root, as `paths` reads it; v2: what the type says before its verb."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Role -> dotted path of an id in the answer (v1) or in the event's data (v2).

    A row with fields that finds nobody to name asks for a resync.
    """
    every_port: bool = False
    """The consumers of all ports of the product are touched too."""
    resync: bool = False
    """It concerns somebody, and the message cannot say whom."""


_P = "/data_products/{product}"
_PORT = "/data_products/{product}/output_ports/{port}"
_ANY = "POST PUT DELETE"

_ROOTS = ("/api/v2/", "/api/")
# Paths below either root; the first row that fits counts.
_URLS: tuple[_Row, ...] = (
    # A rename, another status and a deletion change what consumers may reach; taking the last
    # finalizer away is the deletion, no other call follows.
    _Row("POST", "/data_products", {"product": "id"}),
    _Row("PUT DELETE", _P, every_port=True),
    _Row("PUT", f"{_P}/status", every_port=True),
    _Row("PUT", f"{_P}/about|usage"),
    _Row("POST", f"{_P}/settings/{{id}}"),
    _Row("POST", f"{_P}/finalizers"),
    _Row("DELETE", f"{_P}/finalizers/{{name}}", every_port=True),
    # Output ports. The second row: what is known about a port, and opens nothing.
    _Row("POST", f"{_P}/output_ports", {"port": "id"}),
    _Row(_ANY, f"{_P}/output_ports/{{id}}/curated_queries|query_stats|data_contract"),
    _Row(_ANY, f"{_P}/output_ports/{{id}}/data_quality_summary/**"),
    _Row("PUT DELETE", _PORT),
    _Row("PUT", f"{_PORT}/about|status"),
    _Row("POST", f"{_PORT}/settings/{{id}}"),
    # Assets: the ports they hang on are not named, unless the URL is a port's.
    _Row("POST", f"{_P}/technical_assets|data_output", every_port=True),
    _Row("PUT DELETE", f"{_P}/technical_assets/{{id}}", every_port=True),
    _Row("PUT", f"{_P}/technical_assets/{{id}}/status", every_port=True),
    _Row("POST", f"{_PORT}/technical_assets/add|approve_link_request|deny_link_request"),
    _Row("DELETE", f"{_PORT}/technical_assets/remove"),
    # The producer decides; only the 0.4.2 demo says about whom.
    _Row("POST", f"{_PORT}/input_ports/approve", {"consumer": "consuming_data_product_id"}),
    _Row("POST", f"{_PORT}/input_ports/deny|revoke|remove"),
    # The consumer asks, or gives back; the last id is the output port, its producer unnamed.
    _Row("POST", "/data_products/{consumer}/input_ports|link_input_ports|link_datasets"),
    _Row("DELETE", "/data_products/{consumer}/input_ports/{id}"),
    _Row("POST", "/data_products/{consumer}/input_ports/{id}/renew|revoke|cancel"),
    _Row("POST DELETE", "/data_products/{consumer}/dataset/{id}"),
    _Row("POST", "/data_product_dataset_links/approve|deny|remove/{link}"),
    _Row("POST", "/explorations", {"exploration": "id"}),
    _Row(_ANY, "/explorations/{exploration}/**"),
    # Roles: PUT and DELETE name the assignment alone, and an assignment opens no data.
    _Row("POST", "/authz/role_assignments/data_product/**", {"product": "data_product.id"}),
    _Row("POST", "/role_assignments/data_product/**", {"product": "data_product.id"}),
    _Row(
        "POST",
        "/authz/role_assignments/output_port/**",
        {"product": "output_port.data_product_id", "port": "output_port.id"},
    ),
    _Row(
        "POST",
        "/role_assignments/dataset/**",
        {"product": "dataset.data_product_id", "port": "dataset.id"},
    ),
    # What the older API keeps apart from its product, and every spelling we do not know.
    _Row(_ANY, "/datasets/{id}/usage|query_stats/**"),
    _Row("POST", "/data_outputs/result_string"),
    _Row(_ANY, "/datasets|data_outputs|data_output_dataset_links/**", resync=True),
    _Row(_ANY, "/data_product_dataset_links/**", resync=True),
    _Row(_ANY, f"{_P}/**", every_port=True),
    _Row(_ANY, "/data_products|explorations/**", resync=True),
    # Configuration concerns nobody.
    _Row(_ANY, "/authz|authn|auth|role_assignments|roles|users|notifications|plugins/**"),
    _Row(_ANY, "/configuration|access_durations|domains|tags|theme_settings/**"),
    _Row(_ANY, "/data_product_types|data_product_lifecycles|data_product_settings/**"),
)

_PATTERNS = paths.Patterns((row.methods, row.pattern) for row in _URLS)

# v2 names what changed, never how: `data_product.event` may be a rename or a deletion. The verbs
# are those of v0.6.0, which sends the whole thing in `after` and `before`.
_VERBS = ("event", "created", "updated", "deleted")
_NOUNS: tuple[_Row, ...] = (
    _Row("", "data_product", {"product": "id"}, every_port=True),
    _Row("", "exploration", {"exploration": "id"}),
    _Row("", "output_port", {"product": "data_product_id", "port": "id"}),
    _Row("", "technical_asset", {"product": "data_product_id"}, every_port=True),
    _Row("", "data_product_setting_value", {"product": "data_product_id"}),
    _Row("", "data_product_role_assignment", {"product": "data_product_id"}),
    _Row(
        "",
        "output_port_technical_asset_link",
        {"product": "data_product_id", "port": "output_port_id"},
    ),
    _Row(
        "",
        "output_port_role_assignment",
        {"product": "data_product_id", "port": "output_port_id"},
    ),
    _Row("", "input_port", {"consumer": "consuming_abstract_data_product_id"}),
)
_TYPES = {f"{row.pattern}.{verb}": row for row in _NOUNS for verb in _VERBS}
_CONSUMER_KIND = "consuming_abstract_data_product_type"
_KINDS = {
    "data_products": (model.Kind.PRODUCT,),
    "explorations": (model.Kind.EXPLORATION,),
}


def _parse_v1(message: Mapping[str, object]) -> Event:
    texts = [message.get(name) for name in ("method", "url", "query", "response")]
    status_code = message.get("status_code")
    # `type`, because True is an int; the bounds, because a store has columns.
    if set(map(type, texts)) != {str} or type(status_code) is not int:
        raise errors.PayloadError("a delivery has the shape of neither wire")
    if not 100 <= status_code <= 599:
        raise errors.PayloadError("status_code is no HTTP status")
    method, url, _, response = map(str, texts)
    subject, row, ids = _look_up(method, url)
    if row is None:
        return _event(model.Wire.V1, "other", status_code, model.Touched())
    ids |= _read(_answer(response), row.fields) if row.fields else {}
    return _event(model.Wire.V1, subject, status_code, _name(row, ids))


def _parse_v2(message: Mapping[str, object]) -> Event:
    kind, data = message.get("type"), message.get("data")
    if message["specversion"] != "1.0" or not isinstance(kind, str):
        raise errors.PayloadError("a delivery has the shape of neither wire")
    row = _TYPES.get(kind)
    if row is None:
        return _event(model.Wire.V2, "other", None, model.Touched())
    ids: dict[str, str] = {}
    for state in (data, _at(data, "before"), _at(data, "after")):
        ids |= _read(state, row.fields)
    if ids.keys() != row.fields.keys():
        raise errors.PayloadError("an event does not name what its type promises")
    kinds = _KINDS.get(str(_at(data, _CONSUMER_KIND)), tuple(model.Kind))
    return _event(model.Wire.V2, kind, None, _name(row, ids, kinds))


def _event(wire: model.Wire, subject: str, status_code: int | None, named: model.Touched) -> Event:
    return Event(wire=wire, subject=subject, status_code=status_code, named=named)


def _look_up(method: str, url: str) -> tuple[str, _Row | None, dict[str, str]]:
    """Find the row of a call: its subject in the table's own words, and the ids in the URL."""
    path = url.partition("?")[0].removesuffix("/")
    for root in _ROOTS:
        if path.startswith(root):
            found = _PATTERNS.find(method, path.removeprefix(root))
            if found is None:
                break
            number, words, ids = found
            return f"{method} {root}{words}", _URLS[number], ids
    return "", None, {}


def _name(
    row: _Row, ids: Mapping[str, str], consumer: tuple[model.Kind, ...] = (model.Kind.PRODUCT,)
) -> model.Touched:
    """Turn the ids that a row found into keys, ports and links."""
    keys: set[model.Key] = set()
    ports: set[tuple[model.Key, str]] = set()
    if "product" in ids:
        producer = model.Key.product(ids["product"])
        keys.add(producer)
        if row.every_port:
            ports.add((producer, _EVERY_PORT))
        elif "port" in ids or "port" in row.fields:
            ports.add((producer, ids.get("port", _EVERY_PORT)))
    if "exploration" in ids:
        keys.add(model.Key(model.Kind.EXPLORATION, ids["exploration"]))
    if "consumer" in ids:
        keys |= {model.Key(kind, ids["consumer"]) for kind in consumer}
    return model.Touched(
        keys=frozenset(keys),
        ports=frozenset(ports),
        links=frozenset({ids["link"]} if "link" in ids else ()),
        resync=row.resync or (bool(row.fields) and not keys),
    )


def _read(value: object, fields: Mapping[str, str]) -> dict[str, str]:
    """Collect the ids at dotted paths; what is absent or no UUID is left out."""
    found = {role: paths.uuid(_at(value, path)) for role, path in fields.items()}
    return {role: identity for role, identity in found.items() if identity is not None}


def _at(value: object, path: str) -> object:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _answer(response: str) -> object:
    """Read the portal's answer, which need not be JSON."""
    try:
        return json.loads(response)
    except (ValueError, RecursionError):
        return None
