"""What a producer publishes reaches its consumer's workspace through the running service."""

from __future__ import annotations

import json

import httpx
import yaml

from provisioner.demo import consumer
from tests import published
from tests.acceptance.stand import Stand


def test_a_published_port_is_known_to_its_consumer_and_has_a_contract(stand: Stand) -> None:
    def models() -> object:
        path = stand.products / "marketing/external_models/upstream.yaml"
        return yaml.safe_load(path.read_text()) if path.exists() else None

    with (
        stand.service(PROV_PORTS_SECONDS="1"),
        httpx.Client(base_url=f"{stand.running.url}/api/v2") as portal,
    ):
        texts = {"description": "d", "about": ""}
        made = [
            portal.post("data_products", json={"name": name, "namespace": name, **texts})
            for name in ("sales", "marketing")
        ]
        sales, marketing = (each.json()["id"] for each in made)
        asked_port = {"name": "orders", "namespace": "orders", "access_type": "restricted"}
        ports = f"data_products/{sales}/output_ports"
        port = portal.post(ports, json=asked_port).json()["id"]
        asked = {"output_ports": [port], "justification": "because"}
        portal.post(f"data_products/{marketing}/input_ports", json=asked).raise_for_status()
        decision = {"consuming_data_product_id": marketing, "decision_note": "noted"}
        decide = f"{ports}/{port}/input_ports"
        portal.post(f"{decide}/approve", json=decision).raise_for_status()
        stand.until(lambda: models() == [{"name": "upstream.sales__orders"}], "the input")
        assert httpx.get(f"{stand.url}/health").json()["tasks"]["ports"]

        owner = consumer.Workspace(stand.products / "sales").client()
        owner.put_object(
            Bucket=stand.bucket, Key="sales/orders/_port.json", Body=published.a_file()
        )
        owner.close()
        columns = {"day": "DATE", "revenue": "DECIMAL(18,2)"}
        known = [{"name": "upstream.sales__orders", "columns": columns}]
        stand.until(lambda: models() == known, "the columns")
        shown = stand.api("products/marketing").json()["ports"]["inputs"]
        contract = stand.api("products/sales/ports/orders/contract").json()
        assert [(each["name"], each["rows"]) for each in shown] == [("sales__orders", 100)]

        def conditions() -> list[str]:
            return [each["type"] for each in stand.api("products/sales").json()["conditions"]]

        stand.until(lambda: conditions() == ["OutputStale"], "the condition")
        portal.post(f"{decide}/revoke", json=decision).raise_for_status()
        stand.until(lambda: models() == [], "the revocation")
        assert "it was revoked" in (stand.products / "marketing/INPUTS.md").read_text()
        stand.until(
            lambda: (
                'provisioner_ports{state="unpublished"} 0.0'
                in httpx.get(f"{stand.url}/metrics").text
            ),
            "the count",
        )
    printed = stand.provisioner("contract", "sales", "orders")
    assert json.loads(printed.stdout)["schema"] == contract["schema"], printed.stderr
    assert stand.provisioner("contract", "sales", "none").returncode == 1
    status = stand.provisioner("status", "marketing").stdout
    assert "Access that ended" in status
    lines = stand.provisioner("status", "sales", "--json").stdout
    assert json.loads(lines)["ports"]["outputs"][0]["rows"] == 100

    with stand.service(PROV_PORTS_SECONDS="0"):
        stand.until(lambda: conditions() == [], "no verdict of a port that nobody looks at")
        (shown,) = stand.api("products/sales").json()["ports"]["outputs"]
        assert (shown["state"], shown["rows"]) == ("unknown", 100)
