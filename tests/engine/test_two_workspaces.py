"""Let two teams work on a real engine: one publishes, the other reads as long as it may."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from provisioner.demo import consumer
from tests.acceptance import stand as stands
from tests.acceptance.test_process import a_port, a_product

if TYPE_CHECKING:
    from tests.engines import Rgw

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine

PLAN = ("plan", "--auto-apply", "--no-prompts")
UPSTREAM = "sales__daily_revenue"
MODEL = f"""MODEL (
  name gold.reach,
  kind FULL
);

SELECT
  *
FROM upstream.{UPSTREAM}
"""


@pytest.fixture
def stand(tmp_path: Path, rgw: Rgw) -> Iterator[stands.Stand]:
    """Have the service work on a Ceph gateway; it looks at what is published every second."""
    running = stands.stand(tmp_path / "stand", rgw, issuer="rgw")
    extensions = tmp_path / "stand" / "products" / ".provisioner" / "duckdb"
    settings = {
        "PROV_DUCKDB_EXTENSION_DIRECTORY": str(extensions),
        "PROV_PORTS_SECONDS": "1",
    }
    with running as made, made.service(**settings):
        yield made


def post(stand: stands.Stand, path: str, body: Any) -> Any:
    url = f"{stand.running.url}/api/v2/data_products{path}"
    return httpx.post(url, json=body).raise_for_status().json()


def in_r(workspace: consumer.Workspace, expression: str) -> str:
    """Evaluate R in a workspace, as RStudio does with its project; return what it prints."""
    tools = Path(sys.executable).parent
    done = subprocess.run(
        ["Rscript", "-e", f'source("R/dp.R"); cat({expression})'],
        cwd=workspace.folder,
        env={"PATH": f"{tools}:{os.defpath}", "HOME": str(workspace.folder.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def inputs(workspace: consumer.Workspace) -> list[str]:
    listed = json.loads((workspace.folder / "ports.json").read_text())["inputs"]
    return [each["name"] for each in listed]


def test_a_port_is_published_read_and_revoked(stand: stands.Stand) -> None:
    if shutil.which("Rscript") is None:
        reason = "no Rscript: apt-get install r-base-core"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    ids = {name: post(stand, "", a_product(name))["id"] for name in ("sales", "marketing")}
    port = post(stand, f"/{ids['sales']}/output_ports", a_port("daily-revenue"))["id"]
    sales, marketing = (consumer.Workspace(stand.products / name) for name in ids)
    stand.until(lambda: all(map(stand.ready, ids)), "both workspaces")
    own_ports = sales.folder / "ports.json"
    stand.until(lambda: "daily-revenue" in own_ports.read_text(), "the port")

    assert "Publishing gold.daily_revenue" in sales.sqlmesh(*PLAN)
    asked = {"output_ports": [port], "justification": "because"}
    post(stand, f"/{ids['marketing']}/input_ports", asked)
    decision = {"consuming_data_product_id": ids["marketing"], "decision_note": "noted"}
    of_port = f"/{ids['sales']}/output_ports/{port}/input_ports"
    post(stand, f"{of_port}/approve", decision)
    stand.until(lambda: inputs(marketing) == [UPSTREAM], "the input")
    columns = marketing.folder / "external_models" / "upstream.yaml"
    stand.until(lambda: "revenue" in columns.read_text(), "its columns")

    (marketing.folder / "models" / "reach.sql").write_text(MODEL)
    marketing.sqlmesh(*PLAN)
    table = marketing.sqlmesh("fetchdf", "SELECT SUM(revenue) AS total FROM gold.reach")
    assert "805.4" in table
    assert in_r(marketing, f'nrow(dp_upstream("{UPSTREAM}"))') == "4"
    assert in_r(sales, 'sum(dp_port("daily-revenue")$revenue)') == "805.4"

    # A key is replaced while the producer plans and publishes anew.
    orders = sales.folder / "seeds" / "orders.csv"
    orders.write_text(orders.read_text().replace("120.50", "220.50"))
    before = sales.environment()["S3_ACCESS_KEY"]
    tool = Path(sys.executable).with_name("sqlmesh")
    with subprocess.Popen(
        [str(tool), *PLAN],
        cwd=sales.folder,
        env={"PATH": os.defpath, "HOME": str(stand.folder)},
        stdout=subprocess.PIPE,
        text=True,
    ) as planning:
        assert stand.provisioner("rotate", "sales").returncode == 0
        said, _ = planning.communicate(timeout=120)
    assert planning.returncode == 0, said
    assert sales.environment()["S3_ACCESS_KEY"] != before
    assert in_r(marketing, f'sum(dp_upstream("{UPSTREAM}")$revenue)') == "905.4"
    assert in_r(sales, 'sum(dp_port("daily-revenue")$revenue)') == "905.4"

    post(stand, f"{of_port}/revoke", decision)
    stand.until(lambda: inputs(marketing) == [], "the revocation")
    example = marketing.folder / "models" / "example.sql"
    example.write_text(example.read_text().replace("COUNT(*)", "COUNT(*) + 1"))
    refusal = f"gold.reach reads upstream.{UPSTREAM}, but this product has no access to it"
    with pytest.raises(RuntimeError, match=refusal) as failed:
        marketing.sqlmesh(*PLAN, "--skip-tests")
    assert stand.running.url in str(failed.value)
    assert UPSTREAM in (marketing.folder / "INPUTS.md").read_text()
    refused = marketing.get("sales/daily-revenue/data.parquet", expected=403)
    assert refused.as_expected
