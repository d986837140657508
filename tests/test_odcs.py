"""Contracts are held against the JSON Schema of the standard itself."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
import yaml

from provisioner import model
from provisioner.domain import odcs, portfile
from tests import builders as b
from tests import published

_SCHEMA = json.loads(
    resources.files("open_data_contract_standard").joinpath("schema.json").read_text()
)
_VALIDATOR = jsonschema.Draft201909Validator(
    _SCHEMA, format_checker=jsonschema.Draft201909Validator.FORMAT_CHECKER
)


def document(**changes: Any) -> dict[str, Any]:
    """Return the contract of a port whose file was changed, valid by the standard."""
    contract = portfile.parse(published.a_file(**changes), port="orders")
    seen = published.a_port(contract=contract, state=model.PortState.FRESH, version="1.3")
    made = odcs.document(seen, bucket="lake", endpoint="https://s3.example")
    assert made is not None
    _VALIDATOR.validate(made)
    return made


def test_the_schema_is_of_the_version_that_is_claimed() -> None:
    assert _SCHEMA["properties"]["apiVersion"]["default"] == odcs.API_VERSION


def test_the_schema_finds_what_is_wrong() -> None:
    assert not _VALIDATOR.is_valid({**document(), "owner": "nobody"})
    assert not _VALIDATOR.is_valid({**document(), "schema": [{"physicalName": "x"}]})


def test_a_port_becomes_a_contract() -> None:
    assert document() == {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": b.ORDERS,
        "version": "1.3.0",
        "status": "active",
        "name": "sales/orders",
        "description": {"purpose": "Orders a day"},
        "servers": [
            {
                "server": "lake",
                "type": "s3",
                "location": "s3://lake/sales/orders/*.parquet",
                "endpointUrl": "https://s3.example",
                "format": "parquet",
            }
        ],
        "schema": [
            {
                "name": "orders",
                "logicalType": "object",
                "physicalType": "parquet",
                "physicalName": "gold.orders",
                "dataGranularityDescription": "one row for each day",
                "properties": [
                    {
                        "name": "day",
                        "logicalType": "date",
                        "physicalType": "DATE",
                        "required": True,
                        "primaryKey": True,
                        "primaryKeyPosition": 1,
                        "description": "Day of the orders",
                    },
                    {
                        "name": "revenue",
                        "logicalType": "number",
                        "physicalType": "DECIMAL(18,2)",
                        "required": False,
                    },
                ],
                "quality": [
                    {
                        "name": "not_null",
                        "type": "custom",
                        "engine": "sqlmesh",
                        "implementation": "not_null",
                        "description": "An audit of the model; it held when the port was last "
                        "published.",
                    }
                ],
            }
        ],
        "slaProperties": [
            {"property": "frequency", "value": 86400, "unit": "s"},
            {"property": "freshness", "value": 173700, "unit": "s"},
        ],
        "customProperties": [
            {"property": "state", "value": "fresh"},
            {"property": "publishedAt", "value": "2026-11-21T11:00:00+00:00"},
            {"property": "rows", "value": 100},
            {"property": "snapshot", "value": "1234567890"},
            {"property": "columnsLeftOut", "value": 0},
        ],
    }


def test_what_is_not_known_is_left_out() -> None:
    made = document(description="", grain=[], audits=[], expected_every_seconds=None)
    assert "description" not in made
    assert made["slaProperties"] == []
    assert "dataGranularityDescription" not in made["schema"][0]


def test_an_audit_that_failed_once_did_not_hold() -> None:
    audits = [{"name": "a", "passed": False}, {"name": "a", "passed": True}]
    (rule,) = document(audits=audits)["schema"][0]["quality"]
    assert "did not hold" in rule["description"]


def test_every_type_that_is_passed_on_has_its_place_in_the_standard() -> None:
    kinds = [*sorted(portfile.TYPES), "DECIMAL(38,10)"]
    kinds += [f"{kind}[]" for kind in kinds]
    columns = [{"name": f"c{n}", "type": kind} for n, kind in enumerate(kinds)]
    properties = document(columns=columns, grain=[])["schema"][0]["properties"]
    logical = {each["physicalType"]: each["logicalType"] for each in properties}
    assert logical["UHUGEINT"] == "integer"
    assert logical["DECIMAL(38,10)"] == "number"
    assert logical["TIMESTAMP WITH TIME ZONE"] == "timestamp"
    assert logical["TIME"] == "time"
    assert logical["UUID"] == "string"
    assert logical["DATE[]"] == "array"
    assert next(each for each in properties if each["physicalType"] == "DATE[]")["items"] == {
        "logicalType": "date",
        "physicalType": "DATE",
    }


@pytest.mark.parametrize(
    "text", ["'\"\\ - x: &a *b #", "日本語 😀", "{{ 7*7 }}", "- a\n- b\x1b[2J"]
)
def test_the_json_is_yaml_that_says_the_same(text: str) -> None:
    columns = [{"name": "on", "type": "DATE", "description": text}]
    made = document(description=text, columns=columns, grain=["on"])
    written = odcs.text(made)
    assert json.loads(written) == yaml.safe_load(written) == made
    assert "\x1b" not in written


def test_nothing_published_is_no_contract() -> None:
    assert odcs.document(published.a_port(), bucket="lake", endpoint="https://s3.example") is None
