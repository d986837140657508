"""Prepare the demo's folders as its init service does, without Docker and without root."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests import dockerfiles
from tests.dockerfiles import ROOT

DEMO = ROOT / "demo"
SERVICES: dict[str, dict[str, Any]] = dockerfiles.compose("compose.yaml")["services"]
# Who runs in the images that are not ours: their Dockerfiles say so.
OWNERS = {"rustfs": "10001", "provisioner": "1000", "postgresql": "999", "portal": "0"}
OWNERS |= {"editors": "1000"}


def mounts(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a service's mounts by target, whichever way they are written."""
    found = {}
    for each in service.get("volumes", []):
        if isinstance(each, str):
            source, target, *options = each.split(":")
            kind = "bind" if source.startswith(".") else "volume"
            each = {"type": kind, "source": source, "target": target}
            each["read_only"] = options == ["ro"]
        found[each["target"]] = each
    return found


class Prepared:
    """The folders that the demo's init service has prepared."""

    def __init__(self, folder: Path) -> None:
        self.secrets = folder / "secrets"
        self.products = folder / "products"
        self.owners: dict[str, str] = {}
        self._programs = folder / "programs"
        self._given = folder / "given"
        for reader in (*OWNERS, "../products", "../programs"):
            (self.secrets / reader).mkdir(parents=True)
        # Only root may give files away: what would be given to whom is written down instead.
        chown = self._programs / "chown"
        chown.write_text(f'#!/bin/sh\necho "$*" >> {self._given}\n', encoding="utf-8")
        chown.chmod(0o755)

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the service's own command, its script where the compose file mounts it."""
        shell, script = SERVICES["init"]["command"]
        self._given.write_text("", encoding="utf-8")
        done = subprocess.run(
            [shell, DEMO / mounts(SERVICES["init"])[script]["source"]],
            env={
                "PATH": f"{self._programs}:/usr/bin:/bin",
                "SECRETS": str(self.secrets),
                "PRODUCTS": str(self.products),
            }
            | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for line in self._given.read_text(encoding="utf-8").splitlines():
            owner, path = line.split()
            self.owners[path.removesuffix(".new")] = owner
        return done

    @property
    def texts(self) -> dict[str, str]:
        """Return every secret by its reader and name."""
        return {
            str(path.relative_to(self.secrets)): path.read_text(encoding="utf-8").rstrip("\n")
            for path in self.secrets.rglob("*")
            if path.is_file()
        }


def prepare(folder: Path) -> Prepared:
    """Let the init service run for the first time."""
    made = Prepared(folder)
    done = made.run(**init_environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return made


def init_environment(**exported: str) -> dict[str, str]:
    """Return the environment that compose gives the init service."""
    return {
        name: dockerfiles.resolved(value, exported)
        for name, value in SERVICES["init"]["environment"].items()
    }
