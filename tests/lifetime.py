"""Live through what happens to products on a real engine: real settings, store, folders, keys.

Only the portal is a small one of our own. What a key may do is asked of the engine itself, by a
plain client that knows nothing but what `.env` says.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from provisioner import model, operations, settings, succession
from provisioner.demo import portal as fake_portal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests import engines

_PATIENCE_SECONDS = 20.0


def straight(keys: Iterable[model.Key], title: str, total: int) -> Iterator[model.Key]:
    yield from keys


class Lifetime:
    """One service on one engine, reconciled by commands; `sales` offers a port to `marketing`."""

    def __init__(
        self, engine: engines.Engine, portal: fake_portal.RunningPortal, folder: Path
    ) -> None:
        self.engine = engine
        self.portal = portal.portal.state
        self.bucket = engine.name("lifetime")
        self._folder = folder
        _template(folder / "template")
        self.environ = {
            "PROV_DPP_API_URL": portal.url,
            "PROV_ISSUER": "auto",
            "S3_ENDPOINT": engine.endpoint,
            "S3_BUCKET": self.bucket,
            "S3_ACCESS_KEY": engine.admin.id,
            "S3_SECRET_KEY": engine.admin.secret,
            "PROV_TEMPLATE_PATH": str(folder / "template"),
            "PROV_TEMPLATE_OUTPUT_PATH": str(folder / "products"),
            "PROV_DUCKDB_EXTENSION_DIRECTORY": "not-filled",
            "PROV_ROTATION_GRACE_SECONDS": "0",
            "PROV_ON_DELETE": "archive",
        }
        self.settings = settings.load(self.environ, cwd=folder, serving=False)
        self._opened = contextlib.ExitStack()
        self._parts = self._opened.enter_context(operations.opened(self.settings))
        self._clients: dict[model.AccessKey, S3Client] = {}
        self.portal.create_lifecycle("Ready")
        self.sales = self.portal.create_product("sales", name="Sales")
        self.marketing = self.portal.create_product("marketing", name="Marketing")
        self.port = self.portal.create_port(self.sales, "orders")

    def close(self) -> None:
        """Close the store."""
        self._opened.close()

    def settle(self, *products: str) -> None:
        """Reconcile products until every one of them is done, a few seconds at most."""
        for product in products or (self.sales, self.marketing):
            self._until_done(
                lambda each=product: operations.reconcile(self._parts, each, straight)  # type: ignore[misc]
            )

    def _until_done(self, work: Callable[[], tuple[model.Outcome, ...]]) -> model.Outcome:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            (outcome,) = work()
            if outcome.status != "retry" or time.monotonic() > end:
                assert outcome.status in ("done", "condition"), outcome.message
                return outcome

    def adopt(self, product: str) -> model.Outcome:
        """Do what `provisioner adopt` does."""
        return self._ask(product, model.Ask.ADOPT)

    def purge(self, product: str) -> model.Outcome:
        """Do what `provisioner purge` does."""
        return self._ask(product, model.Ask.PURGE)

    def _ask(self, product: str, wish: model.Ask) -> model.Outcome:
        find = succession.heir if wish is model.Ask.ADOPT else succession.dead
        record = find(self._parts, product)
        return self._until_done(lambda: succession.ask(self._parts, record, wish, straight))

    def record(self, product: str) -> model.Record:
        (found,) = operations.records(self._parts, product)
        return found

    def conditions(self, product: str) -> list[str]:
        return [each.type for each in self.record(product).conditions]

    def folder(self, namespace: str) -> Path:
        return self._folder / "products" / namespace

    def env(self, namespace: str) -> dict[str, str]:
        lines = (self.folder(namespace) / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def key(self, namespace: str) -> model.AccessKey:
        env = self.env(namespace)
        return model.AccessKey(env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"])

    def inputs(self, namespace: str) -> list[dict[str, str]]:
        listed: list[dict[str, str]] = json.loads(
            (self.folder(namespace) / "ports.json").read_text()
        )["inputs"]
        return listed

    def client(self, key: model.AccessKey) -> S3Client:
        """Return a plain client of a key."""
        if key not in self._clients:
            self._clients[key] = self.engine.s3(key)
        return self._clients[key]

    def put(self, key: model.AccessKey, name: str) -> bool:
        """Tell whether a key may write an object."""
        return self._may(
            lambda: self.client(key).put_object(Bucket=self.bucket, Key=name, Body=b"data")
        )

    def get(self, key: model.AccessKey, name: str) -> bool:
        """Tell whether a key may read an object that is there."""
        return self._may(lambda: self.client(key).get_object(Bucket=self.bucket, Key=name))

    def lists(self, key: model.AccessKey, prefix: str) -> bool:
        """Tell whether a key may list a prefix; moto lets everybody who may list anything."""
        return self._may(
            lambda: self.client(key).list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        )

    def is_dead(self, key: model.AccessKey) -> bool:
        """Tell whether the engine does not know a key at all any more."""
        try:
            self.client(key).list_objects_v2(Bucket=self.bucket, Prefix="x/")
        except ClientError as exc:
            return exc.response["Error"]["Code"] == "InvalidAccessKeyId"
        return False

    @staticmethod
    def _may(call: Callable[[], object]) -> bool:
        try:
            call()
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            assert code in ("AccessDenied", "InvalidAccessKeyId", "403"), code
            return False
        return True

    def objects(self, prefix: str = "") -> set[str]:
        """List what lies in the bucket, as the admin sees it."""
        page = self.engine.s3().list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return {each["Key"] for each in page.get("Contents", [])}

    def move_data(self, old: str, new: str) -> None:
        """Move what a renamed product wrote, with its own key, as its team or an operator does.

        The admin's key would not do everywhere: at Ceph an object is its writer's.
        """
        mover = self.client(self.key(new))
        for key in self.objects(f"{old}/") - {f"{old}/.keep"}:
            source = {"Bucket": self.bucket, "Key": key}
            moved = f"{new}/{key.removeprefix(f'{old}/')}"
            mover.copy_object(Bucket=self.bucket, Key=moved, CopySource=source)  # type: ignore[arg-type]
            mover.delete_object(Bucket=self.bucket, Key=key)


def _template(folder: Path) -> None:
    inside = folder / "{{cookiecutter.project_name}}"
    inside.mkdir(parents=True)
    (folder / "cookiecutter.json").write_text('{"project_name": ""}')
    (inside / "README.md").write_text("made for [[cookiecutter.project_name]]")
