"""Write a data contract of an output port, by the Open Data Contract Standard. Pure.

Of version 3.1.0, which newer tools read as well. It says what the port publishes and nothing that
the portal has as free text; what the producer describes stands in it as text alone.
"""

from __future__ import annotations

import json

from provisioner import model, names
from provisioner.domain import freshness

API_VERSION = "v3.1.0"
_INTEGERS = ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"]
_LOGICAL = {
    "BOOLEAN": "boolean",
    **dict.fromkeys(_INTEGERS, "integer"),
    **{f"U{name}": "integer" for name in _INTEGERS},
    **dict.fromkeys(("FLOAT", "DOUBLE", "DECIMAL"), "number"),
    "DATE": "date",
    **dict.fromkeys(("TIME", "TIME WITH TIME ZONE"), "time"),
    "TIMESTAMP WITH TIME ZONE": "timestamp",
    **{f"TIMESTAMP{suffix}": "timestamp" for suffix in ("", "_S", "_MS", "_NS")},
}
"""Logical types of the standard; all others are strings there."""


def document(seen: model.SeenPort, *, bucket: str, endpoint: str) -> dict[str, object] | None:
    """Return the contract of a port; None where nothing that it published was ever read."""
    contract = seen.contract
    if contract is None:
        return None
    prefix = names.port_prefix(seen.producer_namespace, seen.port_namespace)
    return {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": seen.port_id,
        "version": f"{seen.version}.0",
        "status": "active",
        "name": f"{seen.producer_namespace}/{seen.port_namespace}",
        **({"description": {"purpose": contract.description}} if contract.description else {}),
        "servers": [
            {
                "server": "lake",
                "type": "s3",
                "location": f"s3://{bucket}/{prefix}*.parquet",
                "endpointUrl": endpoint,
                "format": "parquet",
            }
        ],
        "schema": [_schema(seen, contract)],
        "slaProperties": _promises(contract),
        "customProperties": _facts(seen, contract),
    }


def text(document: dict[str, object]) -> str:
    """Return the JSON of a contract, which is YAML, too."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _schema(seen: model.SeenPort, contract: model.Contract) -> dict[str, object]:
    """Describe the table; what it promises is each column's, its quality the model's audits."""
    grain = ", ".join(contract.grain)
    audits = {each.name: True for each in contract.audits}
    audits |= {each.name: False for each in contract.audits if not each.passed}
    return {
        "name": names.identifier(seen.port_namespace),
        "logicalType": "object",
        "physicalType": "parquet",
        "physicalName": contract.model,
        **({"dataGranularityDescription": f"one row for each {grain}"} if grain else {}),
        "properties": [_property(each, contract.grain) for each in contract.columns],
        "quality": [_rule(name, passed) for name, passed in audits.items()],
    }


def _property(column: model.Column, grain: tuple[str, ...]) -> dict[str, object]:
    key: dict[str, object] = {}
    if column.name in grain:
        key = {"primaryKey": True, "primaryKeyPosition": grain.index(column.name) + 1}
    return {
        "name": column.name,
        **_kind(column.type),
        "required": not column.nullable,
        **key,
        **({"description": column.description} if column.description else {}),
    }


def _kind(duckdb_type: str) -> dict[str, object]:
    scalar = duckdb_type.removesuffix("[]")
    logical = _LOGICAL.get(scalar.partition("(")[0], "string")
    if scalar == duckdb_type:
        return {"logicalType": logical, "physicalType": duckdb_type}
    items = {"logicalType": logical, "physicalType": scalar}
    return {"logicalType": "array", "physicalType": duckdb_type, "items": items}


def _rule(name: str, passed: bool) -> dict[str, object]:
    held = "held" if passed else "did not hold"
    return {
        "name": name,
        "type": "custom",
        "engine": "sqlmesh",
        "implementation": name,
        "description": f"An audit of the model; it {held} when the port was last published.",
    }


def _promises(contract: model.Contract) -> list[dict[str, object]]:
    """Say how often there is new data, and how old it may be before it counts as stale."""
    every = contract.expected_every_seconds
    if every is None:
        return []
    oldest = int(freshness.stale_after(every).total_seconds())
    return [
        {"property": "frequency", "value": every, "unit": "s"},
        {"property": "freshness", "value": oldest, "unit": "s"},
    ]


def _facts(seen: model.SeenPort, contract: model.Contract) -> list[dict[str, object]]:
    """Say what was last seen; it is no part of the promise."""
    facts = {
        "state": str(seen.state),
        "publishedAt": contract.published_at.isoformat(),
        "rows": contract.rows,
        "snapshot": contract.snapshot,
        "columnsLeftOut": contract.dropped,
    }
    return [{"property": name, "value": value} for name, value in facts.items()]
