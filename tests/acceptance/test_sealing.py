"""Replace the sealing key and lose it, with the real program, while teams use their keys."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import stat
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import exceptions
from cryptography.fernet import Fernet

from provisioner import s3 as engine
from tests.acceptance.stand import Stand

TEAMS = ("finance", "marketing", "sales")
OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


class Teams:
    """Read each product's `.env` again and again and use the key in it at once."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._ended = threading.Event()
        self._client = functools.cache(self._connect)
        self.calls = 0
        self.failures: list[tuple[str, str]] = []

    def _connect(self, access_key: str, secret_key: str) -> Any:
        return engine.connect(
            endpoint=self._stand.s3.endpoint,
            region="us-east-1",
            access_key=access_key,
            secret_key=secret_key,
        )

    def use(self, namespace: str, env: dict[str, str]) -> None:
        """Read one object of a product with a key."""
        client = self._client(env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"])
        self.calls += 1
        try:
            client.get_object(Bucket=self._stand.bucket, Key=f"{namespace}/.keep")["Body"].read()
        except exceptions.ClientError as error:
            self.failures.append((namespace, error.response["Error"]["Code"]))

    def _work(self) -> None:
        while not self._ended.is_set():
            for namespace in TEAMS:
                self.use(namespace, self._stand.env_of(namespace))

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()


def provision(stand: Stand, **changes: str) -> dict[str, dict[str, str]]:
    """Make a product for every team and end the service; return what is in each `.env`."""
    for namespace in TEAMS:
        stand.portal.state.create_product(namespace, name=namespace.title())
    with stand.service(**changes):
        stand.until(lambda: all(map(stand.ready, TEAMS)), "the workspaces")
        stand.until(lambda: settled(stand), "the records")
    return {namespace: stand.env_of(namespace) for namespace in TEAMS}


def settled(stand: Stand) -> bool:
    """Tell whether the service has noted what it published, for every product."""
    answers = [stand.api(f"products/{namespace}") for namespace in TEAMS]
    return all(
        answer.status_code == 200
        and answer.json()["next_at"]
        and answer.json()["workspace"]["published_key_id"] == stand.env_of(name)["S3_ACCESS_KEY"]
        for answer, name in zip(answers, TEAMS, strict=True)
    )


@pytest.mark.torture
def test_a_lost_key_stops_the_start_and_with_the_flag_every_product_gets_a_new_key(
    stand: Stand,
) -> None:
    before = provision(stand)
    path = stand.folder / "secrets" / "sealing.key"
    path.unlink()
    for command in ("serve", "status"):
        done = stand.provisioner(command)
        assert done.returncode == 2
        assert done.stderr.startswith("PROV_SEALING_KEYS: ")
        assert "provisioner serve --lost-sealing-key" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not path.exists()

    teams = Teams(stand)

    def rotated() -> bool:
        return all(stand.env_of(n) != before[n] for n in TEAMS)

    with teams.working(), stand.service("--lost-sealing-key") as process:
        stand.until(rotated, "new keys")
        stand.until(lambda: settled(stand), "the records")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    for namespace, env in before.items():
        teams.use(namespace, env)  # the old keys have their grace
    assert teams.failures == []
    assert teams.calls > 20
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    logged = [json.loads(line) for line in stand.log.read_text().splitlines() if line[:1] == "{"]
    (forgotten,) = (each for each in logged if "are forgotten" in each["event"])
    assert forgotten["products"] == str(len(TEAMS))

    after = {namespace: stand.env_of(namespace) for namespace in TEAMS}
    with stand.service():
        stand.until(lambda: settled(stand), "the records")
    assert {namespace: stand.env_of(namespace) for namespace in TEAMS} == after


@pytest.mark.torture
def test_a_key_is_replaced_by_the_order_that_is_written_down(stand: Stand) -> None:
    before = provision(stand, PROV_SEALING_KEYS=OLD)
    both = f"{NEW},{OLD}"
    with stand.service(PROV_SEALING_KEYS=both):
        done = stand.provisioner("reseal", PROV_SEALING_KEYS=both)
        assert done.returncode == 0, done.stderr
        # Those that the service has written meanwhile are sealed by the first key already.
        assert f"sealed by the first key now: {len(TEAMS)}" in done.stdout
        assert "the others may go" in done.stdout
        again = stand.provisioner("reseal", PROV_SEALING_KEYS=both)
        assert "sealed anew: 0" in again.stdout
        assert done.stderr + again.stderr == ""
    with stand.service(PROV_SEALING_KEYS=NEW):
        stand.until(lambda: settled(stand), "the records")
    assert {namespace: stand.env_of(namespace) for namespace in TEAMS} == before
    assert stand.provisioner("status", PROV_SEALING_KEYS=OLD).returncode == 2


@pytest.mark.parametrize("command", ["serve", "reseal"])
def test_keys_that_are_wrong_are_refused_and_never_shown(command: str, stand: Stand) -> None:
    (stand.folder / "keys").write_text(OLD, encoding="ascii")
    wrong = (
        {"PROV_SEALING_KEYS": f"{NEW}{OLD}"},
        {"PROV_SEALING_KEYS": NEW, "PROV_SEALING_KEYS_FILE": "keys"},
        {"PROV_SEALING_KEYS_FILE": "missing"},
    )
    for changes in wrong:
        done = stand.provisioner(command, **changes)
        assert done.returncode == 2
        assert done.stderr.startswith("PROV_SEALING_KEYS")
        assert not any(key[2:-1] in done.stderr + done.stdout for key in (OLD, NEW))
        assert [path.name for path in stand.folder.iterdir()] == ["keys"]


def test_there_is_nothing_to_seal_anew_without_a_store(stand: Stand) -> None:
    done = stand.provisioner("reseal", PROV_SEALING_KEYS=NEW)
    assert done.returncode == 1
    assert "PROV_DATABASE_URL" in done.stderr
