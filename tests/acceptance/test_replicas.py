"""Run three replicas of the real program on PostgreSQL, kill one, and take the database away."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from provisioner import s3 as engine
from provisioner.demo import consumer, stage
from tests.acceptance.stand import SECRET, Stand

if TYPE_CHECKING:
    from tests.database_server import Server

pytest_plugins = ["tests.database_server"]

_LIMIT_SECONDS = 120.0
"""A lease of a replica that was killed runs out after half a minute."""


class Replica:
    """One process of the service, with its own port and log."""

    def __init__(self, stand: Stand, number: int, database_url: str) -> None:
        self.port = stage.free_port(0)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = stand.folder / f"log-{number}"
        environment = stand.environment(
            PROV_PORT=str(self.port), PROV_DATABASE_URL=database_url, PROV_WORKERS="2"
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "provisioner", "serve"],
                cwd=stand.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> int | None:
        """Return the status of an answer, None where nobody answers."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}{path}", timeout=20).status_code
        return None

    def deliver(self, product_id: str) -> int | None:
        """Say that a product was changed, as the portal does."""
        message = {
            "method": "PUT",
            "url": f"/api/data_products/{product_id}",
            "query": "",
            "response": "",
            "status_code": 200,
        }
        sign = hmac.new(SECRET.encode(), json.dumps(message).encode(), hashlib.sha512).hexdigest()
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.post(self.url, json=message, headers={"Sign": sign}, timeout=20)
            return answer.status_code
        return None

    def events(self) -> list[dict[str, Any]]:
        """Return what the replica logged."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@contextlib.contextmanager
def replicas(stand: Stand, count: int, url: str) -> Iterator[list[Replica]]:
    """Run replicas that start together on an empty database."""
    started = [Replica(stand, number, url) for number in range(count)]
    try:
        until(lambda: all(each.get("/readyz") == 200 for each in started), started)
        yield started
    finally:
        for each in started:
            each.end()


def until(condition: Callable[[], bool], started: list[Replica]) -> None:
    ends = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < ends, [each.log.read_text()[-1500:] for each in started]
        time.sleep(0.05)


def works(folder: Path, namespace: str) -> bool:
    return consumer.Workspace(folder).get(f"{namespace}/.keep", expected=200).as_expected


def runs(started: list[Replica]) -> dict[str, list[tuple[str, str, int]]]:
    """Return from when to when each replica acted on each key: one entry a reconcile."""
    acted: dict[tuple[str, int, str], list[str]] = defaultdict(list)
    for number, replica in enumerate(started):
        for event in replica.events():
            if event["event"] == "action applied":
                acted[event["key"], number, event["reconcile_id"]].append(event["at"])
    found: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for (key, number, _), moments in acted.items():
        found[key].append((min(moments), max(moments), number))
    return {key: sorted(each) for key, each in found.items()}


def keys_of(stand: Stand) -> dict[str, int]:
    """Count the keys of every principal."""
    client: Any = engine.connect(
        endpoint=stand.s3.endpoint,
        region="us-east-1",
        access_key=stand.s3.access_key,
        secret_key=stand.s3.secret_key,
        service="iam",
    )
    with contextlib.closing(client) as iam:
        users = [user["UserName"] for user in iam.list_users()["Users"]]
        return {
            user: len(iam.list_access_keys(UserName=user)["AccessKeyMetadata"])
            for user in users
            if user.startswith("dp-replicated-")
        }


@pytest.mark.torture
def test_three_replicas_share_the_work_and_lose_nothing_when_one_is_killed(
    stand: Stand, postgresql: Server, database: str
) -> None:
    state = stand.portal.state
    products: dict[str, str] = {}
    with replicas(stand, 3, postgresql.url(database)) as started:
        heard = [httpx.get(f"{each.url}/metrics").text for each in started]
        assert all("provisioner_wake_ups_heard 1.0" in text for text in heard)
        for number in range(18):
            namespace = f"replicated-{number}"
            product_id = state.create_product(namespace)
            if number == 9:
                # In the middle of work: some keys are leased by it.
                until(lambda: bool(runs(started[1:2])), started)
                started[1].process.kill()
            accepted = [each.deliver(product_id) for each in started]
            assert 200 in accepted
            products[namespace] = product_id
        until(lambda: all(stand.ready(each) for each in products), started)
        until(lambda: _is_idle(postgresql, database), started)
        found = runs(started)
        assert not [event for each in started for event in each.events() if "traceback" in event]
    assert {f"product:{each}" for each in products.values()} <= set(found)
    for key, intervals in found.items():
        for before, after in itertools.pairwise(intervals):
            assert before[1] <= after[0], f"two replicas at once on {key}"
    assert {number for each in found.values() for _, _, number in each} == {0, 1, 2}
    assert all(works(stand.products / each, each) for each in products)
    assert set(keys_of(stand).values()) == {1}
    assert len(keys_of(stand)) == len(products)


def _is_idle(server: Server, database: str) -> bool:
    with server.connect(database) as connection:
        (left,) = connection.execute("SELECT count(*) FROM queue").fetchone() or (1,)
    return bool(left == 0)


@pytest.mark.torture
def test_while_the_database_is_away_deliveries_are_refused_and_nothing_else_ends(
    stand: Stand, postgresql: Server, database: str
) -> None:
    sales = stand.portal.state.create_product("sales")
    with replicas(stand, 1, postgresql.url(database)) as started:
        (only,) = started
        until(lambda: stand.ready("sales"), started)
        postgresql.stop()
        assert only.deliver(sales) == 503
        assert only.get("/readyz") == 503
        assert only.get("/healthz") == 200
        marketing = stand.portal.state.create_product("marketing")
        postgresql.start()
        until(lambda: only.deliver(marketing) == 200, started)
        until(lambda: stand.ready("marketing"), started)
        until(lambda: only.get("/readyz") == 200, started)
        again = "wake-ups of other replicas are heard again"
        until(lambda: again in [event["event"] for event in only.events()], started)
        said = [event["event"] for event in only.events()]
        bugs = [event for event in only.events() if "traceback" in event]
    assert bugs == []
    assert said.count("wake-ups of other replicas are not heard") == 1
    assert said.count(again) == 1
    assert said.count("no work can be taken: the store failed") == 1


def test_migrate_brings_the_tables_forward_and_says_so(
    stand: Stand, postgresql: Server, database: str
) -> None:
    url = postgresql.url(database)
    checked = stand.provisioner("migrate", "--check", PROV_DATABASE_URL=url)
    assert (checked.returncode, checked.stdout[:30]) == (1, "before: empty; after: empty; n")
    assert stand.provisioner("migrate", PROV_DATABASE_URL=url).returncode == 0
    checked = stand.provisioner("migrate", "--check", PROV_DATABASE_URL=url)
    assert checked.returncode == 0
    assert "empty" not in checked.stdout


def test_to_check_an_embedded_store_that_is_not_there_does_not_make_it(stand: Stand) -> None:
    assert stand.provisioner("migrate", "--check").returncode == 1
    assert not (stand.folder / "var" / "store.db").exists()
    assert stand.provisioner("migrate").returncode == 0
    assert (stand.folder / "var" / "store.db").exists()
