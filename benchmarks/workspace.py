"""Measure what people wait for in a workspace, and what a new version of the template takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import world
from benchmarks.table import Row, median
from provisioner.settings import rules

_PLAN = ("sqlmesh", "plan", "--auto-apply", "--no-prompts")
_COMMANDS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("first `sqlmesh plan`, published", _PLAN),
    ("`sqlmesh plan` without changes", _PLAN),
    ("`python publish.py`", ("python", "publish.py")),
    ("`sqlmesh test`", ("sqlmesh", "test")),
)
_FIRST_TABLES_SECONDS = 3.0
_TERMINAL = "terminal.integrated.env.linux"
"""What the editor's settings add to the environment of its terminals."""
_CHANGED = "README.md", "run.sh"
"""Of the template, for its new version; the first is changed by the users, too."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    teams: int
    upgraded: int


FULL = Size(teams=5, upgraded=50)
QUICK = Size(teams=1, upgraded=2)


def measure(root: Path, size: Size) -> list[Row]:
    """Measure in an empty folder."""
    template = root / "template"
    shutil.copytree(rules.shipped_template(), template)
    with world.world(root) as here:
        here.environment["PROV_TEMPLATE_PATH"] = str(template)
        here.environment["PROV_TEMPLATE_UPDATES"] = "manual"
        with here.serving():
            rows = _teams(here, size.teams)
            rows.append(_upgrade(here, template, size.upgraded))
    return rows


def _teams(here: world.World, count: int) -> list[Row]:
    """Let some teams work in new workspaces, one after another."""
    taken: dict[str, list[float]] = {what: [] for what, _ in _COMMANDS}
    for number in range(count):
        product = here.create(f"team-{number}")
        here.create_port(product, "daily-revenue")
        here.wait_for(here.folder(f"team-{number}") / ".env")
        here.wait_idle()
        for what, command in _COMMANDS:
            taken[what].append(_run(here, here.folder(f"team-{number}"), command))
    note = f"median of {count}"
    first, *others = (
        Row(what=what, value=median(times), unit="s", note=note) for what, times in taken.items()
    )
    return [replace(first, bar=_FIRST_TABLES_SECONDS), *others]


def _run(here: world.World, folder: Path, command: Sequence[str]) -> float:
    """Run a command as a terminal in the workspace does."""
    tool = Path(sys.executable).with_name(command[0])
    environment = {
        **json.loads((folder / ".vscode" / "settings.json").read_text())[_TERMINAL],
        "PATH": os.defpath,
        "HOME": str(here.made.root),
        "PYTHONWARNINGS": "ignore",
    }
    started = time.perf_counter()
    done = subprocess.run(
        [str(tool), *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    taken = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return taken


def _upgrade(here: world.World, template: Path, count: int) -> Row:
    """Bring workspaces to a new version, each with a file that both sides have changed."""
    for number in range(count):
        here.create(f"upgraded-{number}")
    for number in range(count):
        here.wait_for(here.folder(f"upgraded-{number}") / ".env")
    here.wait_idle()
    for readme in here.made.products.glob(f"*/{_CHANGED[0]}"):
        readme.write_text("Ours first.\n" + readme.read_text())
    (project,) = (each for each in template.iterdir() if each.name.startswith("[["))
    for name in _CHANGED:
        with (project / name).open("a") as file:
            file.write("\n# Added by the next version.\n")
    command = [sys.executable, "-m", "provisioner", "upgrade", "--all"]
    started = time.perf_counter()
    subprocess.run(
        command, cwd=here.made.root, env=here.environment, check=True, stdout=subprocess.DEVNULL
    )
    taken = time.perf_counter() - started
    workspaces = len(list(here.made.products.glob("*/.env")))
    return Row(
        what="`provisioner upgrade --all`, a workspace",
        value=taken / workspaces * 1000,
        unit="ms",
        note=f"{workspaces} workspaces, {len(_CHANGED)} files each, one of them merged, in"
        f" {taken:.1f} s",
    )
