"""The image, the compose file, the scripts and the wheel agree with the code.

None of them is run here but the scripts' syntax and the wheel's build: no Docker is needed.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import provisioner
from provisioner import cli, settings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "demo" / "compose.yaml").read_text(encoding="utf-8"))
SERVICE = COMPOSE["services"]["provisioner"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEFAULTS = {each.name: each.default for each in settings.SETTINGS}
KNOWN = {name for each in settings.SETTINGS for name in (each.name, *each.aliases)}
SCRIPTS = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"]
EXECUTABLES = [path for path in SCRIPTS if path.name != "setup"]
SECRETS = {n for each in settings.SETTINGS if each.secret for n in (each.name, *each.aliases)}


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and their arguments, lines joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE))
    return [(line.split()[0], line.split(None, 1)[1]) for line in joined.splitlines() if line]


def last(instruction: str) -> str:
    return [argument for name, argument in instructions() if name == instruction][-1]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in last("ENV").split())


def program(name: str) -> Path:
    return Path(sys.executable).parent / name


# the image


def test_the_dockerfile_pleases_its_linter() -> None:
    done = subprocess.run(
        [program("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_variable_of_the_image_is_a_setting() -> None:
    ours = {name for name in image_environment() if name.startswith(("PROV_", "S3_"))}
    assert ours - KNOWN == set()
    assert ours >= {"PROV_TEMPLATE_PATH", "PROV_TEMPLATE_OUTPUT_PATH", "PROV_HOST"}


def test_the_image_sets_no_secret() -> None:
    assert set(image_environment()) & SECRETS == set()


def test_the_images_paths_are_made_in_it() -> None:
    environment = image_environment()
    assert environment["PROV_TEMPLATE_PATH"] == "/templates/sqlmesh"
    assert "COPY templates/sqlmesh /templates/sqlmesh" in DOCKERFILE
    assert environment["PROV_TEMPLATE_OUTPUT_PATH"] in json.loads(last("VOLUME"))
    assert last("WORKDIR") in json.loads(last("VOLUME"))


def test_the_settings_of_the_image_can_be_read(tmp_path: Path) -> None:
    environment = {k: v for k, v in image_environment().items() if k.startswith("PROV_")}
    environment |= {"PROV_DPP_API_URL": "http://portal", "PROV_WEBHOOK_SECRET": "secret"}
    environment["PROV_TEMPLATE_PATH"] = str(ROOT / "templates" / "sqlmesh")
    loaded = settings.load(environment, cwd=tmp_path)
    assert (loaded.host, str(loaded.port)) == ("0.0.0.0", last("EXPOSE"))
    assert loaded.unknown == ()


def test_the_image_runs_a_command_that_exists_as_somebody_without_rights() -> None:
    name, command = json.loads(last("CMD"))
    assert name in PROJECT["project"]["scripts"]
    assert command in cli.cli.commands
    assert last("USER") == "1000:1000"


def test_the_image_asks_a_route_that_exists() -> None:
    check = last("HEALTHCHECK")
    (route,) = re.findall(r"'GET', '([^']+)'", check)
    assert f'"{route}"' in (ROOT / "provisioner" / "status.py").read_text(encoding="utf-8")
    code = json.loads(check[check.index("[") :])[2]
    compile(code, "healthcheck", "exec")


def test_the_image_installs_what_is_locked() -> None:
    syncs = [argument for name, argument in instructions() if "uv sync" in argument]
    assert syncs
    assert all("--locked --no-dev --no-editable" in each for each in syncs)


def test_the_image_and_the_scripts_use_one_version_of_uv() -> None:
    setup = (ROOT / "scripts" / "setup").read_text(encoding="utf-8")
    versions = re.findall(r"UV_VERSION=([0-9.]+)", setup)
    assert re.findall(r"uv==([0-9.]+)", DOCKERFILE) == versions


def test_only_what_is_named_reaches_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    copied = {
        source
        for name, argument in instructions()
        if name == "COPY" and not argument.startswith("--from")
        for source in argument.split()[:-1]
    }
    assert {source.split("/")[0] for source in copied} == allowed
    assert [source for source in copied if not (ROOT / source).exists()] == []


# compose


def test_the_composed_image_is_this_version() -> None:
    images = {service["image"] for service in COMPOSE["services"].values()}
    assert images == {f"dpp-provisioner:{provisioner.__version__}"}


def test_published_ports_are_the_defaults_and_reach_no_network() -> None:
    port = DEFAULTS["PROV_PORT"]
    published = [p for each in COMPOSE["services"].values() for p in each.get("ports", [])]
    assert published == [f"127.0.0.1:{port}:{port}"]


def test_composed_variables_are_settings() -> None:
    names = {re.sub("_FILE$", "", name) for name in SERVICE["environment"]}
    assert names - KNOWN == set()


def test_composed_defaults_are_those_of_the_settings() -> None:
    found = re.findall(r"\$\{(\w+):-([^}]+)\}", json.dumps(SERVICE["environment"]))
    assert {name: DEFAULTS[name] for name, _ in found} == dict(found)


def test_composed_settings_can_be_read(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    for name, value in SERVICE["environment"].items():
        if name.endswith("_FILE"):
            secret = tmp_path / Path(value).name
            secret.write_text("secret", encoding="utf-8")
            environment[name] = str(secret)
        else:
            environment[name] = re.sub(
                r"\$\{\w+(?::-([^}]*)|:\?[^}]*)\}", lambda m: m[1] or "", value
            )
    environment["PROV_DPP_API_URL"] = "http://portal"
    environment["PROV_TEMPLATE_PATH"] = str(ROOT / "templates" / "sqlmesh")
    loaded = settings.load(environment, cwd=tmp_path)
    assert loaded.webhook_secret == ("secret",)
    assert str(loaded.workspace_root) == "/workspace/products"
    assert loaded.unknown == ()


def test_secrets_reach_the_service_only_as_files() -> None:
    environment = SERVICE["environment"]
    assert {name for name in environment if name in SECRETS} == set()
    files = {value for name, value in environment.items() if name.endswith("_FILE")}
    assert files == {f"/run/secrets/{name}" for name in SERVICE["secrets"]}
    assert set(SERVICE["secrets"]) == set(COMPOSE["secrets"])
    assert all(set(secret) == {"environment"} for secret in COMPOSE["secrets"].values())


def test_composed_volumes_are_those_of_the_image() -> None:
    targets = [volume.partition(":")[2] for volume in SERVICE["volumes"]]
    assert sorted(targets) == sorted(json.loads(last("VOLUME")))
    named = [v.partition(":")[0] for v in SERVICE["volumes"] if not v.startswith(".")]
    assert named == list(COMPOSE["volumes"])


def test_the_service_waits_for_what_prepares_its_folder() -> None:
    condition = {"condition": "service_completed_successfully"}
    assert SERVICE["depends_on"] == {"init": condition}
    assert (
        COMPOSE["services"]["init"]["command"][-1]
        == image_environment()["PROV_TEMPLATE_OUTPUT_PATH"]
    )


def test_services_hold_no_rights_they_do_not_need() -> None:
    for service in COMPOSE["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert COMPOSE["services"]["init"]["cap_add"] == ["CHOWN"]
    assert "cap_add" not in SERVICE


def test_the_service_gets_longer_to_stop_than_it_takes_itself() -> None:
    granted = int(SERVICE["stop_grace_period"].removesuffix("s"))
    assert granted > int(DEFAULTS["PROV_SHUTDOWN_SECONDS"] or "0")


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
