"""Kill the real process by SIGKILL before every effect of a reconcile, and start it again.

The world afterwards (folders, bucket, IAM, portal) is the same as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provisioner import s3 as engine
from provisioner.demo import embedded_s3
from tests.acceptance import stand as stands
from tests.acceptance.stand import Stand


class Story:
    """A product `sales`, and `marketing` that may read its port; the change is marketing's."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.state = stand.portal.state
        self.sales = self.state.create_product("sales", name="Sales")
        self.port = self.state.create_port(self.sales, "orders")
        self.marketing = self.state.create_product("marketing", name="Marketing")

    def create(self) -> None:
        """Nothing more is needed."""

    def approve(self) -> None:
        self.stand.run("tests.acceptance.victim", self.sales, "0")  # it grants what it owns
        self.settle()
        self.state.request_access(self.marketing, self.port)
        self.state.approve(self.port, self.marketing)

    def delete(self) -> None:
        self.settle()
        self.state.delete_product(self.marketing)

    def settle(self) -> None:
        assert self.reconcile() == 0

    def reconcile(self, fatal: int = 0) -> int:
        """Reconcile in a process of its own that dies before an effect; return its exit code."""
        done = self.stand.run("tests.acceptance.victim", self.marketing, str(fatal))
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        self.effects = int(done.stdout or 0)
        return done.returncode

    def world(self) -> dict[str, Any]:
        """Describe all that lasts, without what is random."""
        return {
            "files": sorted(self._files()),
            "objects": sorted(self._objects()),
            "keys": self._keys(),
            "portal": self._portal(),
            "env": self.env_works(),
        }

    def _files(self) -> list[str]:
        products = self.stand.products
        found = [str(path.relative_to(products)) for path in products.rglob("*") if path.is_file()]
        # Packs are named by what is in them: ids and dates.
        found = [path for path in found if "/.git/objects/" not in path]
        return [path.replace(self.marketing, "ID").replace(self.sales, "ID-2") for path in found]

    def _client(self, service: Any) -> Any:
        client: Any = engine.connect(
            endpoint=self.stand.s3.endpoint,
            region="us-east-1",
            access_key=self.stand.s3.access_key,
            secret_key=self.stand.s3.secret_key,
            service=service,
        )
        return contextlib.closing(client)

    def _objects(self) -> list[str]:
        with self._client("s3") as client:
            listed = client.list_objects_v2(Bucket=self.stand.bucket)
        return [item["Key"] for item in listed.get("Contents", [])]

    def _keys(self) -> dict[str, int]:
        suffix = self.marketing.replace("-", "")[:8]
        found = {}
        with self._client("iam") as iam:
            for user in (each["UserName"] for each in iam.list_users()["Users"]):
                if user.endswith(suffix):
                    keys = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
                    found[user.replace(suffix, "ID")] = len(keys)
        return found

    def _portal(self) -> Any:
        product = self.state.products.get(self.marketing)
        return product and (product.status, sorted(product.finalizers), len(self.state.assets))

    def env_works(self) -> bool | None:
        if not self.stand.ready("marketing"):
            return None
        from provisioner.demo.consumer import Workspace

        workspace = Workspace(self.stand.products / "marketing")
        return workspace.get("marketing/.keep", expected=200).as_expected


STORIES: dict[str, Callable[[Story], None]] = {
    "create": Story.create,
    "approve": Story.approve,
    "delete": Story.delete,
}


def check(name: str, folder: Path, s3: embedded_s3.EmbeddedS3, *, every: int) -> int:
    """Compare a whole run with one killed before each (or every n-th) effect."""
    with stands.stand(folder / "whole", s3) as stand:
        expected = Story(stand)
        STORIES[name](expected)
        assert expected.reconcile() == 0
        effects = expected.effects
        world = expected.world()
    for fatal in range(every, effects + 1, every):
        with stands.stand(folder / str(fatal), s3) as stand:
            story = Story(stand)
            STORIES[name](story)
            assert story.reconcile(fatal) == -signal.SIGKILL
            if name == "approve":
                assert story.env_works(), f"the key in .env is dead after a kill before {fatal}"
            assert story.reconcile() == 0
            assert story.world() == world, f"killed before effect {fatal} of {effects}"
    return effects


@pytest.mark.parametrize("name", ["approve"])
def test_a_kill_before_some_effects_changes_nothing_in_the_end(
    name: str, tmp_path: Path, s3: embedded_s3.EmbeddedS3
) -> None:
    assert check(name, tmp_path, s3, every=5) > 5


@pytest.mark.torture
@pytest.mark.parametrize("name", STORIES)
def test_a_kill_before_any_effect_changes_nothing_in_the_end(
    name: str, tmp_path: Path, s3: embedded_s3.EmbeddedS3
) -> None:
    assert check(name, tmp_path, s3, every=1) > 5
