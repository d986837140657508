"""The images' Dockerfiles agree with the code, with the lock file and with each other.

No image is built here. What can be run without Docker is run: scripts, snippets, the baking.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from provisioner import cli, settings
from provisioner.workspace import extensions
from tests import dockerfiles
from tests.dockerfiles import CODER_IMAGE, IMAGES, PROJECT, ROOT, RSTUDIO_IMAGE, SERVICE_IMAGE

EDITORS = [CODER_IMAGE, RSTUDIO_IMAGE]
LOCKED = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
every_image = pytest.mark.parametrize("image", IMAGES.values(), ids=list(IMAGES))
every_editor = pytest.mark.parametrize("image", EDITORS, ids=["coder", "rstudio"])


# all of them


def test_the_dockerfiles_please_their_linter() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, *(image.path for image in IMAGES.values())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_check_script_lints_every_dockerfile() -> None:
    text = (ROOT / "scripts" / "check").read_text(encoding="utf-8")
    (patterns,) = re.findall(r"check hadolint (.*)", text)
    linted = {path for pattern in patterns.split() for path in ROOT.glob(pattern)}
    assert linted == {image.path for image in IMAGES.values()}
    assert linted == {ROOT / "Dockerfile", *(ROOT / "demo").rglob("Dockerfile")}


@every_image
def test_every_base_is_pinned_by_tag_and_can_be_by_digest(image: dockerfiles.Dockerfile) -> None:
    name, _, base = image.all("ARG")[0].partition("=")
    assert re.fullmatch(r"[a-z/-]+:[0-9]+\.[0-9][a-z0-9.-]*", base)
    assert {each.split()[0] for each in image.all("FROM")} == {f"${{{name}}}"}
    assert f"--build-arg {name}={base}@sha256:" in image.text


@every_image
def test_the_image_sets_no_secret(image: dockerfiles.Dockerfile) -> None:
    names = {name for name in image.environment if re.search("PASSWORD|SECRET|TOKEN|KEY", name)}
    assert names == set()
    assert set(image.environment) & dockerfiles.SECRETS == set()


@every_image
def test_every_image_and_the_scripts_use_one_version_of_uv(image: dockerfiles.Dockerfile) -> None:
    setup = (ROOT / "scripts" / "setup").read_text(encoding="utf-8")
    assert re.findall(r"uv==([0-9.]+)", image.scripted) == re.findall(
        r"UV_VERSION=([0-9.]+)", setup
    )


@every_image
def test_the_image_installs_what_is_locked_and_pins_nothing_again(
    image: dockerfiles.Dockerfile,
) -> None:
    syncs = re.findall(r"uv sync(?:.*\\\n)*.*", image.scripted)
    assert syncs
    assert all("--locked --no-dev" in each and "--compile-bytecode" in each for each in syncs)
    assert set(re.findall(r"([a-z0-9-]+)==", image.scripted)) == {"uv"}


@every_image
def test_only_what_is_named_reaches_the_build(image: dockerfiles.Dockerfile) -> None:
    beside = image.path.with_name("Dockerfile.dockerignore")
    ignore = beside if beside.exists() else ROOT / ".dockerignore"
    lines = ignore.read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert [each for each in image.copied if not (ROOT / each).exists()] == []
    # Each source lies in what is let through, and nothing is let through for no source.
    holders = {
        source: {each for each in allowed if f"{source}/".startswith(f"{each}/")}
        for source in image.copied
    }
    assert [source for source, found in holders.items() if len(found) != 1] == []
    assert {each for found in holders.values() for each in found} == allowed


@every_image
def test_the_health_check_asks_the_port_that_the_image_has(image: dockerfiles.Dockerfile) -> None:
    compile(image.health, "healthcheck", "exec")
    port = image.last("EXPOSE")
    asked = re.findall(r"HTTPConnection\('127\.0\.0\.1', ([^,]+),", image.health)
    assert asked in ([port], ["int(os.environ['PROV_PORT'])"])


# the service


def test_every_variable_of_the_service_is_a_setting() -> None:
    environment = SERVICE_IMAGE.environment
    ours = {name for name in environment if name.startswith(("PROV_", "S3_"))}
    assert ours - dockerfiles.KNOWN == set()
    assert ours >= {"PROV_TEMPLATE_PATH", "PROV_TEMPLATE_OUTPUT_PATH", "PROV_HOST"}


def test_the_services_paths_are_made_in_its_image() -> None:
    environment = SERVICE_IMAGE.environment
    assert environment["PROV_TEMPLATE_PATH"] == "/templates/sqlmesh"
    assert "templates/sqlmesh /templates/sqlmesh" in SERVICE_IMAGE.all("COPY")
    assert environment["PROV_TEMPLATE_OUTPUT_PATH"] in json.loads(SERVICE_IMAGE.last("VOLUME"))
    assert SERVICE_IMAGE.last("WORKDIR") in json.loads(SERVICE_IMAGE.last("VOLUME"))


def test_the_settings_of_the_service_can_be_read(tmp_path: Path) -> None:
    environment = {k: v for k, v in SERVICE_IMAGE.environment.items() if k.startswith("PROV_")}
    environment |= {"PROV_DPP_API_URL": "http://portal", "PROV_WEBHOOK_SECRET": "secret"}
    environment["PROV_TEMPLATE_PATH"] = str(ROOT / "templates" / "sqlmesh")
    loaded = settings.load(environment, cwd=tmp_path)
    assert (loaded.host, str(loaded.port)) == ("0.0.0.0", SERVICE_IMAGE.last("EXPOSE"))
    assert loaded.unknown == ()


def test_the_service_runs_a_command_that_exists_as_somebody_without_rights() -> None:
    name, command = json.loads(SERVICE_IMAGE.last("CMD"))
    assert name in PROJECT["project"]["scripts"]
    assert command in cli.cli.commands
    assert SERVICE_IMAGE.last("USER") == "1000:1000"


def test_the_service_is_asked_at_a_route_that_exists() -> None:
    (route,) = re.findall(r"'GET', '([^']+)'", SERVICE_IMAGE.health)
    assert f'"{route}"' in (ROOT / "provisioner" / "edge" / "status.py").read_text(encoding="utf-8")


# the editors


@every_editor
def test_the_editors_install_the_workspace_part_and_not_the_service(
    image: dockerfiles.Dockerfile,
) -> None:
    assert 'RUN ["./tools.sh", "build"]' in image.text
    (sync,) = re.findall(r"uv sync(?:.*\\\n)*.*", image.scripted)
    (extra,) = re.findall(r"--extra (\w+)", sync)
    assert extra in PROJECT["project"]["optional-dependencies"]
    assert "--no-install-project" in sync
    assert not {each for each in image.copied if each.startswith(("provisioner", "templates"))}


def test_everything_of_duckdb_is_locked_in_one_version() -> None:
    parts = {each["name"]: each["version"] for each in LOCKED if each["name"].startswith("duckdb")}
    assert set(parts) >= {"duckdb", "duckdb-cli", "duckdb-extension-httpfs", "duckdb-extension-aws"}
    assert len(set(parts.values())) == 1


@every_editor
def test_the_editors_bake_extensions_where_workspaces_look(image: dockerfiles.Dockerfile) -> None:
    (target,) = re.findall(r"extensions\.py (/\S+)", image.scripted)
    assert target == image.environment["DUCKDB_EXTENSION_DIRECTORY"]
    assert target == SERVICE_IMAGE.environment["PROV_DUCKDB_EXTENSION_DIRECTORY"]
    assert f"--from=build {Path(target).parent} {Path(target).parent}" in image.all("COPY")


def installed(image: dockerfiles.Dockerfile) -> list[str]:
    """Return the arguments that an image gives to the script which installs the tools."""
    (arguments,) = re.findall(r"/tmp/tools\.sh install (\S+ \S+)", image.text)
    return str(arguments).split()


@every_editor
def test_tools_are_where_terminals_look(image: dockerfiles.Dockerfile) -> None:
    links = dict(re.findall(r"ln -s \"?(/opt[^\s\"]+)\"? /usr/local/bin/(\w+)", image.scripted))
    tools = {name: target for target, name in links.items()}
    assert set(tools) == {"sqlmesh", "duckdb"}
    assert tools["sqlmesh"] == "/opt/venv/bin/sqlmesh"
    # The version in the path is that of the base image, which its first lines name.
    assert tools["duckdb"] == "/opt/venv/lib/$python/site-packages/duckdb_cli/duckdb"
    python = installed(image)[0].removeprefix("python")
    assert re.search(rf"whose Python is {re.escape(python)}\.$", image.text, re.MULTILINE)
    assert python in {"3.11", "3.12", "3.13"}


@pytest.mark.workspace
def test_the_linked_tools_are_in_their_wheels() -> None:
    pytest.importorskip("duckdb_cli")
    scripts = importlib.metadata.entry_points(group="console_scripts")
    assert "sqlmesh" in scripts.names
    files = importlib.metadata.files("duckdb-cli") or []
    assert "duckdb_cli/duckdb" in {str(file) for file in files}


@every_editor
def test_python_outside_of_its_environment_still_is_the_environments(
    image: dockerfiles.Dockerfile, tmp_path: Path
) -> None:
    (printf,) = re.findall(r"(printf '[^']+') > /usr/local/bin/python", image.scripted)
    there = printf.replace("/opt/venv/bin/python", sys.executable)
    wrapper = tmp_path / "python"
    subprocess.run(["sh", "-c", f"{there} > {wrapper}"], check=True)
    wrapper.chmod(0o755)
    done = subprocess.run(
        [wrapper, "-c", "import sys; print(sys.prefix, *sys.argv[1:])", "a b"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{sys.prefix} a b\n"


@pytest.mark.engine
@pytest.mark.workspace
def test_baking_makes_every_extension_loadable_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("duckdb_extension_httpfs")
    target = tmp_path / "opt" / "extensions"
    done = subprocess.run(
        [sys.executable, ROOT / "demo" / "images" / "extensions.py", target],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    version = importlib.metadata.version("duckdb")
    baked = list(target.glob(f"v{version}/*/*.duckdb_extension"))
    assert {path.name for path in baked} == {path.name for path in extensions.installed()}
    assert set(done.stdout.split()[1:]) == {path.stem for path in baked}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in baked)
    assert not (tmp_path / ".duckdb").exists()


@every_editor
def test_the_editors_homes_lead_to_the_products(image: dockerfiles.Dockerfile) -> None:
    home = "/home/coder" if image is CODER_IMAGE else "/home/rstudio"
    assert installed(image)[1] == home
    script = image.scripted
    assert 'ln -s /workspace "$home/workspace"' in script
    assert 'ln -s /workspace/products "$home/products"' in script
    assert re.search(r"install -d -o 1000 -g 1000 /workspace /workspace/products ", script)
    assert 'cp -rs /opt/duckdb/extensions "$home/.duckdb/extensions"' in script


def test_the_script_that_editors_share_is_one_that_a_shell_reads_and_may_run() -> None:
    script = ROOT / "demo" / "images" / "tools.sh"
    assert os.access(script, os.X_OK)
    for shell in ("sh", "bash"):
        subprocess.run([shell, "-n", script], check=True)
    unknown = subprocess.run([script, "nothing"], check=False)
    assert unknown.returncode == 2


@every_editor
def test_the_editors_tell_nobody_what_is_done_in_them(image: dockerfiles.Dockerfile) -> None:
    assert image.environment["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] == "true"


@every_editor
def test_models_are_loaded_in_one_process_in_every_editor(image: dockerfiles.Dockerfile) -> None:
    assert image.environment["MAX_FORK_WORKERS"] == "1"


def test_code_server_runs_as_the_owner_of_the_workspaces_and_cannot_become_root() -> None:
    assert CODER_IMAGE.last("USER") == SERVICE_IMAGE.last("USER")
    assert "rm -f /etc/sudoers.d/nopasswd" in CODER_IMAGE.text


def test_code_server_opens_the_readme_and_keeps_to_itself() -> None:
    path = ROOT / "demo" / "images" / "coder" / "settings.json"
    user = json.loads(path.read_text(encoding="utf-8"))
    assert user["workbench.startupEditor"] == "readme"
    assert user["workbench.welcomePage.walkthroughs.openOnInstall"] is False
    assert user["telemetry.telemetryLevel"] == "off"
    assert user["python.defaultInterpreterPath"] == "/opt/venv/bin/python"
    assert (
        f"{path.relative_to(ROOT)} /home/coder/.local/share/code-server/User/settings.json"
        in CODER_IMAGE.text.replace("\\\n    ", "")
    )


def test_every_extension_of_code_server_is_pinned() -> None:
    named = re.findall(r"--install-extension (\S+)", CODER_IMAGE.text)
    assert named
    assert [each for each in named if not re.fullmatch(r"[\w.-]+@[0-9.]+", each)] == []


def started(tmp_path: Path, *arguments: str, **environment: str) -> list[str]:
    """Run the start script with a code-server that says how it was called."""
    program = tmp_path / "code-server"
    program.write_text('#!/bin/sh\necho "$PGPASSWORD"\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        [ROOT / "demo" / "images" / "coder" / "start", *arguments],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_code_server_asks_for_the_password_at_the_port_of_its_image(tmp_path: Path) -> None:
    assert CODER_IMAGE.last("ENTRYPOINT") == '["dumb-init", "--", "start-code-server"]'
    password, *said = started(tmp_path, *json.loads(CODER_IMAGE.last("CMD")))
    assert password == ""
    assert said[:4] == [
        "--bind-addr",
        f"0.0.0.0:{CODER_IMAGE.last('EXPOSE')}",
        "--auth",
        "password",
    ]
    assert "--disable-telemetry" in said
    assert said[-1] == CODER_IMAGE.last("WORKDIR")


def test_terminals_of_code_server_get_postgresqls_password_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "pgpassword"
    file.write_text("from the file\n", encoding="utf-8")
    assert started(tmp_path, "/x", PGPASSWORD_FILE=str(file))[0] == "from the file"


@pytest.mark.engine
@pytest.mark.parametrize("there", [True, False])
def test_r_gets_postgresqls_password_from_its_file(tmp_path: Path, *, there: bool) -> None:
    if shutil.which("Rscript") is None:
        missing = "Rscript is missing: apt-get install r-base-core"
        (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)(missing)
    file = tmp_path / "pgpassword"
    if there:
        file.write_text("from the file\n", encoding="utf-8")
    done = subprocess.run(
        ["Rscript", "-e", 'cat(Sys.getenv("PGPASSWORD"))'],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "R_PROFILE": str(ROOT / "demo" / "images" / "rstudio" / "Rprofile.site"),
            "PGPASSWORD_FILE": str(file),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ("from the file" if there else "")
