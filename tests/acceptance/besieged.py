"""Run the service over workspaces that their users have turned against it."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from provisioner.demo import consumer
from tests.acceptance import hostile
from tests.acceptance.stand import ADMIN_TOKEN, Process, Stand

SECRETS = (".env", ".env.local", ".aws/credentials", ".aws/config")
PLAIN = ("ports.json", "INPUTS.md", "external_models/upstream.yaml")
OURS = (*SECRETS, *PLAIN)
"""Every file that the service writes again and again."""
TEMPLATED = ("README.md", "models/orders.sql", "models/added.sql", "models/dropped.sql")

_BYSTANDER = "bystander"
_MOST_GROWTH_KB = 20 * 1024
_TOP = "{{cookiecutter.project_name}}"

File = tuple[int, int, bytes]


class Siege:
    """A service that runs, a victim, and a product for each hostile thing."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        names = {path.rpartition("/")[2] for path in (*OURS, *TEMPLATED)}
        self.victim = hostile.Victim(stand.folder / "victim", tuple(sorted(names)))
        self.ids: dict[str, str] = {}
        self.template = stand.folder / "template" / _TOP
        self._api = httpx.Client(
            base_url=f"{stand.url}/api/v1", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
        )
        self._running = contextlib.ExitStack()
        self._process: Process | None = None
        self._store: sqlite3.Connection | None = None
        self._peak_kb = 0

    def settings(self) -> dict[str, str]:
        """Return the settings of the service."""
        owner = {"PROV_WORKSPACE_UID": str(hostile.OWNER), "PROV_WORKSPACE_GID": str(hostile.OWNER)}
        return {
            "PROV_TEMPLATE_PATH": str(self.template.parent),
            "PROV_TEMPLATE_UPDATES": "manual",
            "PROV_LOCAL_ROOT": str(self.stand.products),
            "PROV_RESYNC_SECONDS": "3600",
            **(owner if hostile.OWNER >= 0 else {}),
        }

    def release(self, **files: str) -> None:
        """Change the template to one with these models, besides a README that names them."""
        hostile.clear(self.template.parent)
        (self.template / "models").mkdir(parents=True)
        (self.template.parent / "cookiecutter.json").write_text('{"project_name": "x"}')
        (self.template / "README.md").write_text(f"{sorted(files.items())}\n")
        for name, text in files.items():
            (self.template / "models" / f"{name}.sql").write_text(text)

    def start(self) -> None:
        """Start the service, and remember how much it takes when nothing hostile is there."""
        process = self._running.enter_context(self.stand.service(**self.settings()))
        self._process = process
        store = sqlite3.connect(self.stand.folder / "var" / "store.db", isolation_level=None)
        self._store = self._running.enter_context(contextlib.closing(store))
        if not self.ids:
            self.make(_BYSTANDER)
        self.settle()
        self._peak_kb = max(self._peak_kb, _peak_kb(process))

    def close(self) -> None:
        """Stop the service for good."""
        self.stop()
        self._api.close()

    def stop(self) -> None:
        """Stop the service."""
        self._running.close()

    def make(self, *namespaces: str) -> None:
        """Make products that are in order."""
        self.register(*namespaces)
        self.check_in_order(namespaces)

    def register(self, *namespaces: str) -> None:
        """Make products in the portal, and wait for what the service makes of them."""
        for each in namespaces:
            self.ids[each] = self.stand.portal.state.create_product(each)
        self.ask(namespaces)
        self.settle()

    def many(self, kind: str, things: Iterable[hostile.Thing]) -> dict[str, hostile.Thing]:
        """Make a product for each thing; return the things by namespace."""
        named = {f"{kind}-{thing.name}": thing for thing in things}
        self.make(*named)
        return named

    def folder(self, namespace: str) -> Path:
        """Return where a workspace lies."""
        return self.stand.products / namespace

    def lay(self, named: Mapping[str, hostile.Thing], *paths: str) -> None:
        """Lay each thing into its product, in the place of each file that it fits."""
        for namespace, thing in named.items():
            for path in paths:
                if thing in hostile.fitting(path):
                    thing.put(self.folder(namespace) / path, self.victim)

    def ask(self, namespaces: Iterable[str], what: str = "reconcile") -> None:
        """Ask the service for something."""
        for each in namespaces:
            answer = self._api.post(f"products/{self.ids[each]}/{what}")
            assert answer.status_code == 202, answer.text

    def settle(self) -> None:
        """Wait until nothing is to be done; as long as it becomes less there is time."""
        while left := self._queued():
            self.stand.until(functools.partial(self._has_less_than, left), "rest")

    def _has_less_than(self, before: int) -> bool:
        return self._queued() < before

    def _queued(self) -> int:
        assert self._store is not None
        (count,) = self._store.execute("SELECT count(*) FROM queue").fetchone()
        return int(count)

    def shown(self, namespace: str) -> dict[str, Any]:
        """Return what the service says of a product."""
        found: dict[str, Any] = self._api.get(f"products/{self.ids[namespace]}").json()
        return found

    def conditions(self, namespaces: Iterable[str]) -> dict[str, list[str]]:
        """Return the types of the products' conditions; none of one that is not known yet."""
        listed = self._api.get("products", params={"limit": 500}).json()["products"]
        found = {each["id"]: each["conditions"] for each in listed}
        return {each: [one["type"] for one in found.get(self.ids[each], ())] for each in namespaces}

    def check_in_order(self, namespaces: Iterable[str]) -> None:
        """Wait for rest; assert that all our files are there, and nothing is in the way."""
        self.settle()
        named = tuple(namespaces)
        assert not {each: found for each, found in self.conditions(named).items() if found}
        missing = {each: [p for p, f in self.files(each).items() if not f] for each in named}
        assert not {each: paths for each, paths in missing.items() if paths}

    def files(self, namespace: str) -> dict[str, File | None]:
        """Return our files as they lie there; None for what is no plain file."""
        return {path: _file(self.folder(namespace) / path) for path in OURS}

    def key_in_env(self, namespace: str) -> str:
        """Return the key that `.env` names."""
        return consumer.Workspace(self.folder(namespace)).environment()["S3_ACCESS_KEY"]

    def works(self, namespace: str) -> bool:
        """Tell whether the key in `.env` opens the product's prefix."""
        team = consumer.Workspace(self.folder(namespace))
        return team.put(f"{team.environment()['S3_PREFIX']}x", expected=200).as_expected

    def aside(self, namespace: str) -> list[Path]:
        """Return what was set aside in a workspace."""
        walked = os.walk(self.folder(namespace))  # which enters no link, as a glob would
        return [
            Path(folder, name)
            for folder, folders, files in walked
            for name in (*folders, *files)
            if ".found-" in name
        ]

    def check(self) -> None:
        """Assert that nothing outside was harmed, nobody else held up, and no secret shown."""
        self._check_bystander()
        self.victim.check()
        assert self._process is not None
        grown = _peak_kb(self._process) - self._peak_kb
        assert grown < _MOST_GROWTH_KB, grown
        shown = self._api.get("products", params={"limit": 500}).text
        said = shown + self.stand.log.read_text()
        assert hostile.CANARY.decode() not in said
        secrets = [_secret(path) for path in self.stand.products.glob("*/.env")]
        assert not [each for each in secrets if each and each in said]
        assert not [path for path in self._copies() if hostile.CANARY in path.read_bytes()]

    def _check_bystander(self) -> None:
        before = self.files(_BYSTANDER)
        (self.folder(_BYSTANDER) / "INPUTS.md").unlink()
        self.ask([_BYSTANDER])
        self.settle()
        assert self.files(_BYSTANDER) == before

    def _copies(self) -> Iterator[Path]:
        """List plain files in the output folder: what was read into one was copied."""
        for folder, _, names in os.walk(self.stand.products):
            for name in names:
                if hostile.plain(Path(folder, name)) is not None:
                    yield Path(folder, name)


def _file(path: Path) -> File | None:
    data = hostile.plain(path)
    if data is None:
        return None
    found = path.lstat()
    return found.st_mode, found.st_uid, data


def _secret(path: Path) -> str:
    found = re.search(rb"^S3_SECRET_KEY=(.+)$", hostile.plain(path) or b"", re.MULTILINE)
    return found[1].decode() if found else ""


def _peak_kb(process: Process) -> int:
    """Return the most memory that a process ever had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1])
