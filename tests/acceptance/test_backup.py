"""Back the real service up while it works, let the world go on, and bring last week back."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from provisioner.demo import consumer, embedded_s3
from tests.acceptance.stand import Stand

if TYPE_CHECKING:
    from tests.database_server import Server

pytest_plugins = ["tests.database_server"]

_GRACE = {"PROV_ROTATION_GRACE_SECONDS": "2", "PROV_RESYNC_SECONDS": "5"}


def works(team: consumer.Workspace) -> bool:
    """Tell whether the key in `.env` opens the product's own prefix."""
    while True:
        before = team.environment()
        if team.put(f"{before['S3_PREFIX']}watched", expected=200).as_expected:
            return True
        if team.environment() == before:
            return False


@contextmanager
def watched(*folders: Path) -> Iterator[list[str]]:
    """Use the keys in `.env` all the time; yield the names of those that failed."""
    ended, failed = threading.Event(), list[str]()

    def watch() -> None:
        teams = [consumer.Workspace(folder) for folder in folders]
        while not ended.wait(0.02):
            failed.extend(team.name for team in teams if not works(team))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield failed
    finally:
        ended.set()
        thread.join()


def keys_at(s3: embedded_s3.EmbeddedS3, products: Iterable[str]) -> dict[str, list[str]]:
    """Return the live keys of every principal of these products."""
    import boto3

    iam = boto3.client(
        "iam",
        endpoint_url=s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    users = [user["UserName"] for user in iam.list_users()["Users"]]
    found = {
        name: [
            key["AccessKeyId"] for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]
        ]
        for name in users
        if name.rpartition("-")[2] in {each[:8] for each in products}
    }
    iam.close()
    return found


@pytest.fixture
def target(request: pytest.FixtureRequest) -> str | None:
    """Return where the backup goes: back into SQLite, or into a new PostgreSQL."""
    if request.param == "sqlite":
        return None
    server: Server = request.getfixturevalue("postgresql")
    return server.url(request.getfixturevalue("database"))


@pytest.mark.parametrize(
    "target", ["sqlite", pytest.param("postgresql", marks=pytest.mark.engine)], indirect=True
)
def test_last_weeks_store_becomes_right_again_and_no_key_in_env_dies(
    target: str | None, stand: Stand, s3: embedded_s3.EmbeddedS3
) -> None:
    state = stand.portal.state
    folders = [stand.products / name for name in ("sales", "marketing")]
    api = httpx.Client(base_url=f"{stand.running.url}/api/v2")

    def made(name: str) -> str:
        body = {"name": name, "namespace": name, "description": "d", "about": ""}
        identity: str = api.post("data_products", json=body).json()["id"]
        stand.until(lambda: stand.ready(name), f"the workspace of {name}")
        return identity

    with api, stand.service(**_GRACE):
        sales, marketing = made("sales"), made("marketing")
        port = state.create_port(sales, "orders")
        state.request_access(marketing, port, justification="because")
        state.approve(port, marketing)
        reader = consumer.Workspace(folders[1])
        data = "sales/orders/watched"
        assert consumer.Workspace(folders[0]).put(data, expected=200).as_expected
        stand.until(lambda: reader.get(data, expected=200).as_expected, "the grant")
        taken = stand.provisioner("backup", "last-week")
        assert taken.returncode == 0, taken.stderr

        state.revoke(port, marketing)
        stand.until(lambda: reader.get(data, expected=403).as_expected, "the revocation")
        for _ in range(2):
            assert stand.provisioner("rotate", "--all", **_GRACE).returncode == 0
        made("finance")
        old = {name: stand.env_of(name)["S3_ACCESS_KEY"] for name in ("sales", "finance")}
        refused = stand.provisioner("restore", "last-week", "--replace", "--yes")
        assert refused.returncode == 1
        assert "a service or a command works on this store" in refused.stderr

    url = {} if target is None else {"PROV_DATABASE_URL": target}
    folders.append(stand.products / "finance")
    with watched(*folders) as failed:
        done = stand.provisioner("restore", "last-week", "--replace", "--yes", **url)
        assert done.returncode == 0, done.stderr
        assert "restored: 2 products" in done.stdout
        with stand.service(**_GRACE, **url):
            stand.until(
                lambda: all(stand.env_of(name)["S3_ACCESS_KEY"] != old[name] for name in old),
                "keys that the store knows",
            )
            stand.until(
                lambda: all(len(each) == 1 for each in keys_at(s3, state.products).values()),
                "no key is left over",
            )
            assert reader.get(data, expected=403).as_expected
    assert failed == []
    left = sorted(each for keys in keys_at(s3, state.products).values() for each in keys)
    assert left == sorted(stand.env_of(folder.name)["S3_ACCESS_KEY"] for folder in folders)
