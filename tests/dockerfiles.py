"""Read Dockerfiles and compose files as the tests of the images and of the demo need them."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provisioner import settings

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
KNOWN = {name for each in settings.SETTINGS for name in (each.name, *each.aliases)}
SECRETS = {n for each in settings.SETTINGS if each.secret for n in (each.name, *each.aliases)}


@dataclass(frozen=True)
class Dockerfile:
    """One Dockerfile: its instructions and their arguments, lines joined, comments left out."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def scripted(self) -> str:
        """Return its text and that of the script which editors' images share, as far as it runs."""
        script = ROOT / "demo" / "images" / "tools.sh"
        named = "tools.sh" in self.text
        return self.text + (script.read_text(encoding="utf-8") if named else "")

    @property
    def instructions(self) -> list[tuple[str, str]]:
        joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", self.text))
        return [(line.split()[0], line.split(None, 1)[1]) for line in joined.splitlines() if line]

    def all(self, instruction: str) -> list[str]:
        """Return the arguments of every such instruction."""
        return [argument for name, argument in self.instructions if name == instruction]

    def last(self, instruction: str) -> str:
        """Return the arguments of the last such instruction: the one that counts."""
        return self.all(instruction)[-1]

    @property
    def environment(self) -> dict[str, str]:
        """Return what the last ENV sets."""
        return dict(pair.split("=", 1) for pair in self.last("ENV").split())

    @property
    def copied(self) -> set[str]:
        """Return what is copied out of the build context."""
        return {
            source
            for argument in self.all("COPY")
            if "--from=" not in argument
            for source in [word for word in argument.split() if not word.startswith("--")][:-1]
        }

    @property
    def health(self) -> str:
        """Return the Python code of the health check."""
        check = self.last("HEALTHCHECK")
        return str(json.loads(check[check.index("[") :])[2])


SERVICE_IMAGE = Dockerfile(ROOT / "Dockerfile")
CODER_IMAGE = Dockerfile(ROOT / "demo" / "images" / "coder" / "Dockerfile")
RSTUDIO_IMAGE = Dockerfile(ROOT / "demo" / "images" / "rstudio" / "Dockerfile")
IMAGES = {
    "dpp-provisioner": SERVICE_IMAGE,
    "dpp-coder": CODER_IMAGE,
    "dpp-rstudio": RSTUDIO_IMAGE,
}


def compose(name: str) -> dict[str, Any]:
    """Return a compose file of the demo, anchors and merges resolved."""
    loaded = yaml.safe_load((ROOT / "demo" / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def resolved(value: str, environ: dict[str, str]) -> str:
    """Replace `${NAME…}` as compose does."""

    def one(found: re.Match[str]) -> str:
        name, operator, word = found["name"], found["operator"] or "", found["word"] or ""
        there = environ.get(name, "")
        if operator == ":+":
            return word if there else ""
        assert there or operator != ":?", word
        return there or (word if operator == ":-" else "")

    return re.sub(r"\$\{(?P<name>\w+)(?P<operator>:[-+?])?(?P<word>[^}]*)\}", one, value)
