"""A workspace's first commit reaches its remote, whenever that begins to answer."""

from __future__ import annotations

import signal
import socket
from typing import Any

import httpx

from tests import git_remote
from tests.acceptance import stand as stands
from tests.acceptance.test_process import a_product


def test_nothing_waits_for_a_remote_that_is_missing(stand: stands.Stand) -> None:
    git_remote.needs_git()
    remote = f"file://{stand.folder}/remotes/{{namespace}}.git"
    with stand.service(PROV_GIT_REMOTE=remote):
        products = f"{stand.running.url}/api/v2/data_products"
        product = httpx.post(products, json=a_product("sales")).json()["id"]

        def shown() -> dict[str, Any]:
            found: dict[str, Any] = stand.api(f"products/{product}").json()
            return found

        def conditions() -> list[str]:
            return [each["type"] for each in shown().get("conditions", [])]

        stand.until(lambda: conditions() == ["RemoteRefused"], "the condition")
        assert stand.ready("sales")
        ready = stand.portal.state.lifecycles["Ready"]
        assert stand.portal.state.products[product].lifecycle_id == ready

        there = git_remote.bare(stand.folder / "remotes" / "sales.git")
        assert stand.provisioner("reconcile", "sales", PROV_GIT_REMOTE=remote).returncode == 0
        stand.until(lambda: conditions() == [], "the push")
        commit = git_remote.git("rev-parse", "main", cwd=stand.products / "sales")
        assert git_remote.git("rev-parse", "main", cwd=there) == commit


def test_a_push_ends_with_the_service(stand: stands.Stand) -> None:
    """A remote that hangs would keep git for half a minute after the service has ended."""
    git_remote.needs_git()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        remote = f"http://127.0.0.1:{silent.getsockname()[1]}/{{namespace}}.git"
        with stand.service(PROV_GIT_REMOTE=remote, PROV_SHUTDOWN_SECONDS="1") as service:
            products = f"{stand.running.url}/api/v2/data_products"
            assert httpx.post(products, json=a_product("sales")).status_code == 200
            connection, _ = silent.accept()
            service.send_signal(signal.SIGTERM)
            service.wait(20)
        with connection:
            connection.settimeout(1)
            while connection.recv(4096):
                pass
