"""Build what output ports publish, and what is seen of it, with all beside the point filled in."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

from provisioner import model
from tests import builders as b

COLUMNS: list[dict[str, Any]] = [
    {"name": "day", "type": "DATE", "nullable": False, "description": "Day of the orders"},
    {"name": "revenue", "type": "DECIMAL(18,2)", "nullable": True, "description": ""},
]


def a_document(**changes: Any) -> dict[str, Any]:
    """Return what one `_port.json` says."""
    return {
        "version": 1,
        "port": "orders",
        "model": "gold.orders",
        "description": "Orders a day",
        "published_at": "2026-11-21T11:00:00Z",
        "rows": 100,
        "snapshot": "1234567890",
        "expected_every_seconds": 86400,
        "grain": ["day"],
        "columns": COLUMNS,
        "audits": [{"name": "not_null", "passed": True}],
        **changes,
    }


def a_file(**changes: Any) -> bytes:
    """Return a `_port.json`."""
    return json.dumps(a_document(**changes)).encode()


def a_contract(**changes: Any) -> model.Contract:
    """Return the contract that `a_file` holds."""
    contract = model.Contract(
        model="gold.orders",
        description="Orders a day",
        published_at=b.NOW - timedelta(hours=1),
        rows=100,
        snapshot="1234567890",
        expected_every_seconds=86400,
        grain=("day",),
        columns=(
            model.Column(name="day", type="DATE", nullable=False, description="Day of the orders"),
            model.Column(name="revenue", type="DECIMAL(18,2)"),
        ),
        audits=(model.Audit(name="not_null", passed=True),),
    )
    return dataclasses.replace(contract, **changes)


def a_port(
    *, port_id: str = b.ORDERS, producer: model.Key | None = None, port: str = "orders", **more: Any
) -> model.SeenPort:
    """Describe a port of sales, never looked at unless more is said."""
    return model.SeenPort(
        port_id=port_id,
        producer=producer or model.Key.product(b.SALES),
        producer_namespace="sales",
        port_namespace=port,
        **more,
    )
