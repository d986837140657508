"""A workspace's first commit reaches its remote, whenever that begins to answer."""

from __future__ import annotations

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
