"""An exploration from its creation to its deletion, by the portal's events alone."""

from __future__ import annotations

from pathlib import Path

import httpx

from provisioner.demo import consumer, embedded_s3
from tests.acceptance import stand as stands
from tests.acceptance.test_process import a_port, a_product


def test_an_exploration_reads_what_was_granted_until_it_is_gone(
    tmp_path: Path, s3: embedded_s3.EmbeddedS3
) -> None:
    running = stands.stand(tmp_path, s3, style="main")
    with running as stand, stand.service(PROV_RESYNC_SECONDS="1"):
        portal = httpx.Client(base_url=f"{stand.running.url}/api/v2")
        sales = portal.post("data_products", json=a_product("sales")).json()["id"]
        ports = f"data_products/{sales}/output_ports"
        port = portal.post(ports, json=a_port("orders")).json()["id"]
        stand.until(lambda: stand.ready("sales"), "the producer's workspace")
        owner = consumer.Workspace(stand.products / "sales")
        assert owner.put("sales/orders/data", expected=200).answer == 200

        body = {"name": "Why", "namespace": "why", "description": "", "domain_id": sales}
        why = portal.post("explorations", json=body).json()["id"]
        stand.until(lambda: stand.ready("why"), "the exploration's workspace")
        assert stand.env_of("why")["S3_PREFIX"] == ""
        reader = consumer.Workspace(stand.products / "why")
        assert reader.get("sales/orders/data", expected=403).answer == 403
        assert reader.put("why/data", expected=403).answer == 403
        shown = stand.api(f"products/{why}").json()
        assert shown["kind"] == "exploration"
        assert [each["type"] for each in shown["conditions"]] == ["PortalRejected"]

        asked = {"output_ports": [{"output_port_id": port}], "justification": "because"}
        portal.post(f"explorations/{why}/input_ports", json=asked).raise_for_status()
        decision = {"consuming_data_product_id": why, "decision_note": "noted"}
        portal.post(f"{ports}/{port}/input_ports/approve", json=decision).raise_for_status()
        stand.until(lambda: reader.get("sales/orders/data", expected=200).as_expected, "the grant")
        assert reader.put("sales/orders/data", expected=403).answer == 403
        inputs = stand.products / "why" / "ports.json"
        stand.until(lambda: "sales__orders" in inputs.read_text(), "the input's name")
        listed = stand.provisioner("status", "why").stdout
        assert "exploration" in listed

        assert portal.delete(f"explorations/{why}").status_code == 200
        stand.until(lambda: not reader.folder.exists(), "the release")
        assert owner.get("sales/orders/data", expected=200).answer == 200
        portal.close()
