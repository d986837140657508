"""Live a whole life with the real program, and find no secret anywhere but where it belongs.

Everything the service and its commands leave is searched for every secret there was, as it is and
as texts carry it (base64, percent, hex): the log in both formats, what commands print, the
store's files, the process list, what HTTP answers, the home and temporary folders, and all that
was rendered.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from provisioner import app, assembly, settings
from provisioner.demo import portal as fake_portal
from tests import leaks
from tests.acceptance import stand as stands
from tests.acceptance.stand import Stand

pytest_plugins = ["tests.engines"]

GIVEN = {
    "PROV_DPP_API_KEY": "portal-key-6b1f0c",
    "PROV_WEBHOOK_SECRET": f"{stands.SECRET},second-webhook-secret-1d9a",
    "PROV_WEBHOOK_BASIC_AUTH": "portal:basic-password-77c2",
    "PROV_ADMIN_TOKEN": f"{stands.ADMIN_TOKEN},second-admin-token-e05b",
    "PROV_ADMIN_READ_TOKEN": "read-token-93be",
}
WORDS = (
    "portal-key-6b1f0c",
    "second-webhook-secret-1d9a",
    "basic-password-77c2",
    stands.SECRET,
    stands.ADMIN_TOKEN,
    "second-admin-token-e05b",
    "read-token-93be",
)
TEAMS = ("sales", "marketing")
BELONGS = {".env", ".env.local", "credentials"}


class Life:
    """Run the service with all its secrets in files, and note every key that it publishes."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.sealing = [Fernet.generate_key().decode() for _ in range(2)]
        self.secrets = {*WORDS, *self.sealing, stand.s3.secret_key}
        self.seen: list[tuple[str, bytes]] = []
        self._portal = httpx.Client(
            base_url=f"{stand.running.url}/api/v2/", headers={"x-key": WORDS[0]}
        )
        given = {
            **GIVEN,
            "S3_SECRET_KEY": stand.s3.secret_key,
            "PROV_SEALING_KEYS": "\n".join(self.sealing),
        }
        self.folder = stand.folder / "given"
        self.folder.mkdir()
        (stand.folder / "tmp").mkdir()
        for name, value in given.items():
            (self.folder / name).write_text(f"{value}\n")

    def close(self) -> None:
        self._portal.close()

    def environment(self, **changes: str) -> dict[str, str]:
        """Return settings that name files; of all secrets only the key's id is in the clear."""
        given = sorted(path.name for path in self.folder.iterdir())
        plain = {
            name: value
            for name, value in self.stand.environment().items()
            if name not in (*given, "WEBHOOK_SECRET")
        }
        named = {f"{name}_FILE": str(self.folder / name) for name in given}
        return {
            **plain,
            **named,
            "TMPDIR": str(self.stand.folder / "tmp"),
            "PROV_LOG_LEVEL": "debug",
            **changes,
        }

    @contextlib.contextmanager
    def service(self, **changes: str) -> Iterator[stands.Process]:
        """Run the service until the block ends, or is killed within."""
        process = self.stand.start(environ=self.environment(**changes))
        try:
            self.stand.until(lambda: self.stand.answers(process), "the service answers")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)

    def command(self, *arguments: str, **changes: str) -> None:
        """Run a command to its end, and keep all that it says."""
        done = subprocess.run(
            [self.stand.python, "-m", "provisioner", *arguments],
            cwd=self.stand.folder,
            env=self.environment(**changes),
            capture_output=True,
            check=False,
            timeout=60,
        )
        self.seen.append((f"provisioner {arguments[0]}", done.stdout + done.stderr))

    def post(self, path: str, body: dict[str, object]) -> str:
        """Change something in the portal, which tells the service."""
        answer = self._portal.post(path, json=body).raise_for_status().json() or {}
        return str(answer.get("id", ""))

    def published(self) -> set[str]:
        """Note the keys that are published now, and return them."""
        envs = (self.stand.env_of(each) for each in TEAMS if self.stand.ready(each))
        found = {env["S3_SECRET_KEY"] for env in envs}
        self.secrets |= found
        return found

    def rotated(self, *options: str) -> None:
        """Rotate all, and wait for keys that are new."""
        before = self.published()
        self.command("rotate", "--all", *options)
        self.stand.until(lambda: not before & self.published(), f"new keys {options}")

    def processes(self, process: stands.Process) -> None:
        """Keep the command line of every process, and the environment of the service's."""
        ours = {str(process.pid)}
        for each in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
            with contextlib.suppress(OSError):
                parent = (each / "stat").read_text().rsplit(")", 1)[1].split()[1]
                self.seen.append((f"{each.name} cmdline", (each / "cmdline").read_bytes()))
                if parent in ours or each.name in ours:
                    ours.add(each.name)
                    self.seen.append((f"{each.name} environ", (each / "environ").read_bytes()))

    def answers(self) -> None:
        """Ask every route there is, with all kinds of proof, and keep every answer."""
        parts = assembly.assemble(settings.load(self.environment(), cwd=self.stand.folder))
        try:
            found = app.routes(app.Service(parts))
        finally:
            parts.close()
        assert len(found) > 8
        product = next(iter(self.stand.portal.state.products))
        proofs = [{"Authorization": f"Bearer {each}"} for each in ("wrong", *WORDS[-3:])]
        proofs += [{}, {"Sign": "00"}, {"Authorization": "Basic cG9ydGFsOndyb25n"}]
        with httpx.Client(base_url=self.stand.url, timeout=20) as client:
            for route, proof in itertools.product(found, proofs):
                path = route.path.replace("{id}", product).replace("{key}", product)
                for method in sorted(route.methods or {"GET"}):
                    answer = client.request(method, path, headers=proof, content=b'{"a":')
                    headers = str(answer.headers).encode()
                    self.seen.append((f"{method} {path}", headers + answer.content))

    def left(self) -> Iterator[tuple[str, bytes]]:
        """Return everything that lies about, but for where secrets belong."""
        for path, body in leaks.files(self.stand.folder):
            inside = path.relative_to(self.stand.folder).parts
            theirs = inside[0] == "products" and inside[1] in TEAMS and inside[-1] in BELONGS
            if not theirs and inside[0] != self.folder.name:
                yield "/".join(inside), body


@pytest.fixture(
    params=[
        "s3",
        pytest.param("rgw", marks=pytest.mark.engine),
        pytest.param("minio", marks=pytest.mark.engine),
    ]
)
def life(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Life]:
    engine = request.getfixturevalue(request.param)
    issuer = getattr(engine, "issuer_name", "iam")
    with (
        stands.stand(tmp_path / "life", engine, issuer=issuer, api_key=WORDS[0]) as stand,
        contextlib.closing(Life(stand)) as made,
    ):
        yield made


def live(life: Life) -> None:
    """Go through everything that keys go through, and through what goes wrong besides."""
    stand, state = life.stand, life.stand.portal.state
    stand.anew = True  # what the first one shows of itself is looked at
    with life.service() as process:
        body: dict[str, object] = {"description": "", "about": ""}
        ids = {
            each: life.post("data_products", {**body, "name": each, "namespace": each})
            for each in TEAMS
        }
        port = life.post(
            f"data_products/{ids['sales']}/output_ports",
            {**body, "name": "orders", "namespace": "orders", "access_type": "restricted"}
            | {"tag_ids": []},
        )
        stand.until(lambda: all(map(stand.ready, TEAMS)), "the workspaces")
        before = life.published()
        life.processes(process)
        state.request_access(ids["marketing"], port)
        state.approve(port, ids["marketing"])
        life.command("reconcile", "--all")
        stand.until(lambda: len(life.published() - before) > 0, "a key for the grant")
        life.rotated()
        life.answers()
        for kind in ("html", "half", "status"):
            stand.portal.faults.append(fake_portal.Fault(kind=kind, times=3))
            life.command("plan", "--all")
            life.command("reconcile", "sales")
        life.rotated("--compromised")
        life.processes(process)
        process.kill()
        process.wait()
    stand.anew = False
    with life.service(PROV_LOG_FORMAT="text") as process:
        stand.until(lambda: b"resync done" in stand.log.read_bytes(), "a resync")
        life.rotated()
        for command in (("status",), ("status", "sales", "--json"), ("plan", "--all")):
            life.command(*command)
        life.command("reseal")
        life.command("status", S3_ACCESS_KEY="")
        state.set_status(ids["marketing"], "archived")
        state.delete_product(ids["sales"])
        life.command("reconcile", "--all")
        stand.until(lambda: not any(map(stand.ready, TEAMS)), "the release")
        process.kill()  # so that the write-ahead log is left as it was
        process.wait()
    life.command("serve", S3_SECRET_KEY_FILE=str(life.folder / "PROV_DPP_API_KEY"), PROV_PORT="x")
    life.command("plan", PROV_SEALING_KEYS_FILE=str(life.folder / "PROV_DPP_API_KEY"))


def test_no_secret_is_found_after_a_whole_life(life: Life) -> None:
    live(life)
    issued = life.secrets - {*WORDS, *life.sealing, life.stand.s3.secret_key}
    assert len(issued) >= 8
    left = dict(life.left())
    names = set(left)
    assert {"log", "var/store.db", "var/store.db-wal"} <= names
    assert not any(".cookiecutter_replay" in name or name.startswith("tmp/") for name in names)
    assert b'"event"' in left["log"]
    assert b"resync done  " in left["log"]
    assert [each for each, said in life.seen if b"Traceback" in said] == []
    needles = {spelt for each in life.secrets for spelt in leaks.spellings(each)}
    found = {
        where for where, text in (*left.items(), *life.seen) if any(one in text for one in needles)
    }
    assert found == set()
