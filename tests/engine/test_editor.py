"""Open a provisioned workspace in the browser editor, as a newcomer does, on a real S3 engine.

Screenshots are kept in `build/editor/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from provisioner.demo import consumer, stage
from tests import code_server
from tests.acceptance import stand as stands
from tests.acceptance.test_process import a_port, a_product

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.engines import Minio

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine

PICTURES = Path(__file__).parents[2] / "build" / "editor"
IMAGE = Path(__file__).parents[2] / "demo" / "images" / "coder"
SETTINGS: dict[str, object] = {
    **json.loads((IMAGE / "settings.json").read_text()),
    # Letters instead of a drawing, so that a test can read what a terminal shows.
    "terminal.integrated.gpuAcceleration": "off",
}
_PATIENCE = 60_000  # ms; the machine may be busy


@pytest.fixture
def stand(tmp_path: Path, minio: Minio) -> Iterator[stands.Stand]:
    """Have the workspace of `sales`, with a port, made by the real service."""
    running = stands.stand(tmp_path / "stand", minio, issuer="minio")
    # The folder that the service fills, which a workspace's SQLMesh really loads from.
    extensions = tmp_path / "stand" / "products" / ".provisioner" / "duckdb"
    with running as made, made.service(PROV_DUCKDB_EXTENSION_DIRECTORY=str(extensions)):
        api = f"{made.running.url}/api/v2/data_products"
        sales = httpx.post(api, json=a_product("sales")).json()["id"]
        port = a_port("daily-revenue")
        httpx.post(f"{api}/{sales}/output_ports", json=port).raise_for_status()
        made.until(lambda: made.ready("sales"), "the workspace")
        outputs = made.products / "sales" / "ports.json"
        made.until(lambda: "daily-revenue" in outputs.read_text(), "the port")
        yield made


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Run the Chromium of this machine; skip where it, or the editor, is missing."""
    with code_server.chromium() as running:
        yield running


@pytest.fixture
def page(tmp_path: Path, browser: Browser) -> Iterator[Page]:
    """Open an empty page on a screen of usual size."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(_PATIENCE)
    opened = context.new_page()
    yield opened
    photograph(opened, "last")
    context.close()


def photograph(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def log_in(page: Page, address: str, folder: Path) -> None:
    page.goto(f"{address}/?folder={folder}")
    page.fill("input.password", "not the password")
    page.click("input.submit")
    page.wait_for_selector("text=Incorrect password")
    page.fill("input.password", code_server.PASSWORD)
    page.click("input.submit")
    page.wait_for_selector(".monaco-workbench .explorer-folders-view")


def type_into_terminal(page: Page, command: str) -> None:
    page.click(".terminal-wrapper.active .xterm-screen")
    page.keyboard.type(command + "\n")


def wait_for_text(page: Page, pattern: str) -> None:
    """Wait until the terminal shows a text; lines are as wide as the screen."""
    script = "([source]) => new RegExp(source).test(document.querySelector"
    script += "('.terminal-wrapper.active .xterm-rows').innerText.replaceAll('\\u00a0', ' '))"
    page.wait_for_function(script, arg=[pattern])


def test_a_newcomer_reads_changes_and_plans(
    tmp_path: Path, stand: stands.Stand, page: Page
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    workspace = stand.products / "sales"
    with code_server.serving(home, stage.free_port(0), SETTINGS) as address:
        log_in(page, address, workspace)
        readme = page.frame_locator("iframe.webview").frame_locator("iframe")
        readme.locator("h1", has_text="sales").wait_for()
        readme.locator("text=Five minutes").first.wait_for()
        explorer = page.locator(".explorer-folders-view")
        assert explorer.get_by_text("models", exact=True).is_visible()
        for hidden in (".aws", "sales.Rproj"):
            assert explorer.get_by_text(hidden, exact=True).count() == 0
        photograph(page, "1-readme")

        explorer.click(position={"x": 100, "y": 500})  # the preview has the keyboard
        page.keyboard.press("Control+P")
        page.keyboard.type("example.sql")
        page.locator(".quick-input-list").get_by_text("example.sql").first.wait_for()
        page.keyboard.press("Enter")
        page.wait_for_selector(".tab.active >> text=example.sql")
        page.click(".monaco-editor .view-lines")
        page.keyboard.press("Control+F")
        page.keyboard.type("COUNT(*) AS orders")
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        page.keyboard.type("SUM(amount) AS total, COUNT(*) AS orders")
        page.keyboard.press("Control+S")
        page.wait_for_selector(".tab.active:not(.dirty) >> text=example.sql")
        model = workspace / "models" / "example.sql"
        stand.until(lambda: "SUM(amount) AS total" in model.read_text(), "the edit is saved")
        photograph(page, "2-edited")

        page.keyboard.press("Control+Shift+Backquote")
        page.wait_for_selector(".terminal-wrapper.active .xterm-screen")
        type_into_terminal(page, "clear; sqlmesh plan")
        wait_for_text(page, re.escape("[y/n]"))
        photograph(page, "3-plan")
        page.keyboard.type("y\n")
        wait_for_text(page, "Publishing gold.daily_revenue")
        type_into_terminal(page, "clear; sqlmesh fetchdf 'SELECT * FROM gold.example'")
        wait_for_text(page, r"Acorn Garden Centre\s+\S+")
        wait_for_text(page, "total")
        photograph(page, "4-result")

    published = consumer.Workspace(workspace).get("sales/daily-revenue/data.parquet", expected=200)
    assert published.as_expected
