"""The scripts and the wheel agree with the code; the wheel is built."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import provisioner
from provisioner import cli
from tests.dockerfiles import PROJECT, ROOT

SCRIPTS = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"]
EXECUTABLES = [path for path in SCRIPTS if path.name != "setup"]


# scripts


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(path: Path) -> None:
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", EXECUTABLES, ids=lambda path: path.name)
def test_scripts_can_be_started_and_stop_at_what_fails(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert re.search(r"^set -e?uo pipefail$", text, re.MULTILINE)
    assert path.stat().st_mode & 0o111


def test_the_demo_starts_a_command_that_exists() -> None:
    text = (ROOT / "scripts" / "demo").read_text(encoding="utf-8")
    (command,) = re.findall(r"bin/provisioner (\w+)", text)
    assert command in cli.cli.commands


@pytest.mark.parametrize("name", ["demo", "test", "check"])
def test_scripts_install_parts_that_exist(name: str) -> None:
    text = (ROOT / "scripts" / name).read_text(encoding="utf-8")
    assert set(re.findall(r"--extra (\w+)", text)) <= set(
        PROJECT["project"]["optional-dependencies"]
    )
    assert set(re.findall(r"--group (\w+)", text)) <= set(PROJECT["dependency-groups"])


# the package


def test_the_package_says_what_it_is() -> None:
    project = PROJECT["project"]
    assert project["version"] == provisioner.__version__
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert {"Typing :: Typed"} <= set(project["classifiers"])
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in project["classifiers"]


def test_what_the_wheel_takes_along_exists() -> None:
    wheel: dict[str, Any] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    (source,) = wheel["force-include"]
    assert wheel["force-include"][source] == "provisioner/templates/sqlmesh"
    assert (ROOT / source / "cookiecutter.json").is_file()


@pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed"
)
def test_the_wheel_holds_the_template_and_the_migrations(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "provisioner/templates/sqlmesh/cookiecutter.json" in names
    assert "provisioner/py.typed" in names
    shipped = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "provisioner").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert shipped - names == set()
    assert any(name.startswith("provisioner/migrations/versions/") for name in names)
