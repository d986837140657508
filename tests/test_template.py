"""Run the shipped template for real: SQLMesh from its command line, a real S3 API, no internet."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jinja2
import pytest
import yaml
from markdown_it import MarkdownIt

from provisioner.domain import portfile
from provisioner.workspace.render import Template
from tests.rendered import (
    BUCKET,
    DAILY_REVENUE,
    PLAN,
    REVENUE,
    ROOT,
    TEMPLATE,
    Shell,
    Storage,
    connect,
    edit,
    move,
    render,
    write_key,
)

pytest_plugins = ["tests.workbench"]
pytestmark = pytest.mark.workspace

HOSTILE = (
    "{{ 7*7 }} [[ 7*7 ]] ]] [% raw %] {% if x %} {# [# `tick` ```` \"two\" 'one' [a](b)\n"
    "---\n```sh\nfalse\n```\n\n# Heading\r</pre><script>1</script>\u2028key: [&a, *b]\n\n\tend"
)


# One process and one connection: Contexts on the same warehouse share it.
PUBLISH_TWICE = """
import publish
publish.main()
print("published once", flush=True)
input()
publish.main()
"""


@dataclass(kw_only=True)
class Tour:
    """What the README's commands did, in their order."""

    workspace: Path
    output: list[tuple[str, str]] = field(default_factory=list)
    published: list[list[dict[str, str | int]]] = field(default_factory=list)
    """Rows of the port `example` after each command."""
    writes: list[int] = field(default_factory=list)
    """Objects written below `sales/` until after each command."""

    def at(self, command: str, occurrence: int = 0) -> int:
        found = [i for i, (name, _) in enumerate(self.output) if name == command]
        return found[occurrence]


@pytest.fixture(scope="session")
def tour(
    storage: Storage, extensions: Path, shell: Shell, tmp_path_factory: pytest.TempPathFactory
) -> Tour:
    """Do what the README says, in a workspace whose portal texts are hostile."""
    folder = tmp_path_factory.mktemp("tour")
    hostile = dict.fromkeys(("_name", "_description", "_domain", "_owners"), HOSTILE)
    workspace = render(folder, "sales", **hostile)
    outputs = ("daily-revenue", "example", "customer-orders")
    connect(workspace, storage.endpoint, extensions, storage.key("sales"), outputs)
    done = Tour(workspace=workspace)
    blocks = re.findall(r"^```sh\n(.*?)^```", (workspace / "README.md").read_text(), re.M | re.S)
    for command in "".join(blocks).splitlines():
        if command == "sqlmesh plan dev":
            edit(
                workspace / "models/example.sql",
                "  COUNT(*) AS orders",
                "  SUM(amount) AS total,\n  COUNT(*) AS orders",
            )
        output = shell.succeed("sh", "-c", command, cwd=workspace, answers="y\n")
        done.output.append((command, output))
        done.published.append(storage.rows("sales/example/data.parquet", folder))
        done.writes.append(storage.writes("sales/"))
    return done


def test_every_command_of_the_readme_works(tour: Tour) -> None:
    assert [command for command, _ in tour.output] == [
        "sqlmesh plan",
        'sqlmesh fetchdf "SELECT * FROM gold.daily_revenue"',
        "sqlmesh plan dev",
        'sqlmesh fetchdf "SELECT * FROM gold__dev.example"',
        "sqlmesh plan",
        "sqlmesh test",
        "sqlmesh audit",
        "sqlmesh lint",
        "python publish.py",
        "sh run.sh",
    ]
    outputs = dict(tour.output)
    assert "310.0" in outputs['sqlmesh fetchdf "SELECT * FROM gold.daily_revenue"']
    assert "total" in outputs['sqlmesh fetchdf "SELECT * FROM gold__dev.example"']
    assert "Successfully Ran `1` Tests" in outputs["sqlmesh test"]
    assert "Finished with 0 audit errors" in outputs["sqlmesh audit"]
    assert "Publishing gold.daily_revenue to s3://" in outputs["python publish.py"]
    assert "Every port holds what prod holds" in outputs["sh run.sh"]
    assert tour.writes[tour.at("sh run.sh")] == tour.writes[tour.at("python publish.py")]


def test_no_command_warns(tour: Tour) -> None:
    assert [text for _, text in tour.output if "warning" in text.lower()] == []


def test_plan_publishes_the_model_named_after_a_port(
    tour: Tour, storage: Storage, tmp_path: Path
) -> None:
    rows = storage.rows("sales/daily-revenue/data.parquet", tmp_path)
    assert [tuple(row.values()) for row in rows] == REVENUE
    assert storage.objects("sales/") == [
        "sales/daily-revenue/_port.json",
        "sales/daily-revenue/data.parquet",
        "sales/example/_port.json",
        "sales/example/data.parquet",
    ]


def test_what_was_published_is_described_beside_it(tour: Tour, storage: Storage) -> None:
    port = storage.contract("sales/daily-revenue/")
    published_at = port.pop("published_at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", published_at)
    age = datetime.now(UTC) - datetime.fromisoformat(published_at)
    assert timedelta(0) <= age + timedelta(seconds=1) < timedelta(hours=1)
    assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", port.pop("snapshot"))
    assert port == DAILY_REVENUE
    assert storage.contract("sales/example/")["columns"][0]["nullable"] is True


def test_a_port_without_a_model_gets_nothing_and_plan_says_so(tour: Tour) -> None:
    said = "Nothing is published to port customer-orders: there is no model gold.customer_orders."
    assert said in tour.output[0][1]


def test_dev_publishes_nothing_and_promotion_does(tour: Tour) -> None:
    first, dev = tour.at("sqlmesh plan"), tour.at("sqlmesh plan dev")
    assert tour.writes[first] == tour.writes[dev] == 4
    assert len(tour.published[first]) == 3
    assert "total" not in tour.published[dev][0]
    assert "total" in tour.published[tour.at("sqlmesh plan", 1)][0]


def test_portal_text_stays_inside_a_code_block_of_the_readme(tour: Tour, tmp_path: Path) -> None:
    parser = MarkdownIt("commonmark")
    tokens = parser.parse((tour.workspace / "README.md").read_text())
    quoted = next(token.content for token in tokens if token.type == "code_block")
    for line in HOSTILE.splitlines():
        assert line.strip() in quoted

    rendered = render(tmp_path, "sales", _name="n", _description="d", _domain="d", _owners="o")
    harmless = parser.parse((rendered / "README.md").read_text())
    shape = [(token.type, token.tag, token.info) for token in harmless]
    assert [(token.type, token.tag, token.info) for token in tokens] == shape


def test_portal_text_reaches_no_file_but_the_readme(tmp_path: Path) -> None:
    for name, text in (("hostile", HOSTILE), ("none", "")):
        texts = dict.fromkeys(("_name", "_description", "_domain", "_owners"), text)
        (tmp_path / name).mkdir()
        render(tmp_path / name, "sales", **texts)
    differing = {
        path.name
        for path in (tmp_path / "none/sales").rglob("*")
        if path.is_file()
        and path.read_bytes()
        != (tmp_path / "hostile/sales" / path.relative_to(tmp_path / "none/sales")).read_bytes()
    }
    assert differing == {"README.md"}


def test_a_rendered_workspace_is_small_and_whole(tmp_path: Path) -> None:
    workspace = render(tmp_path, "+x=1,y@z.")
    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert len(files) < 25
    assert (workspace / "models/example.sql").is_file()
    assert os.access(workspace / "run.sh", os.X_OK)
    for path in files:
        assert path.read_text().endswith("\n"), path
        assert "cookiecutter" not in path.read_text(), path
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".yaml" and path.name != "config.yaml":  # that one is Jinja until run
            yaml.safe_load(path.read_text())
    ignored = (workspace / ".gitignore").read_text().splitlines()
    assert {".env*", ".aws/", "*.duckdb*", ".cache/", "logs/", ".lock"} <= set(ignored)
    assert {".published.json", "ports.json", "INPUTS.md"} <= set(ignored)
    assert not [line for line in ignored if "external" in line and not line.startswith("#")]


def test_every_choice_renders_whole_and_as_a_formatter_would_leave_it() -> None:
    """By the service's own renderer; Cookiecutter's takes a second for these."""
    declared = json.loads((TEMPLATE / "cookiecutter.json").read_text())
    template = Template(TEMPLATE)
    for engine, state_store, kind in itertools.product(
        declared["engine"], declared["state_store"], ("product", "exploration")
    ):
        chosen = {"engine": engine, "state_store": state_store, "product_kind": kind}
        files = {file.path: file.data.decode() for file in template.render(chosen, {}).files}
        assert len(files) < 25
        for path, text in files.items():
            assert re.fullmatch(r"(?s)(?!\n).*[^\n]\n", text), (chosen, path)
            assert not re.search(r"[ \t]\n|\n\n\n\n|\[%|%\]|\[\[ ", text), (chosen, path)
            if path.endswith(".json"):
                json.loads(text)
        for path in ("macros/ports.py", "publish.py"):
            compile(files[path], path, "exec")
        config = jinja2.Template(files["config.yaml"]).render(env_var=lambda _, default: default)
        gateway = yaml.safe_load(config)["gateways"][engine]
        kinds = (gateway["connection"]["type"], gateway["state_connection"]["type"])
        assert kinds == (
            engine.replace("ducklake", "duckdb"),
            state_store.replace("file", "duckdb"),
        )


def ci_commands(workspace: Path) -> list[str]:
    """Return what both CI files run once they have installed the same."""
    gitlab = yaml.safe_load((workspace / ".gitlab-ci.yml").read_text())["checks"]["script"]
    github = yaml.safe_load((workspace / ".github/workflows/checks.yml").read_text())
    steps = github["jobs"]["checks"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == gitlab
    devcontainer = json.loads((workspace / ".devcontainer/devcontainer.json").read_text())
    installed = set(gitlab[0].split()) - {"pip", "install"}
    assert installed <= set(devcontainer["postCreateCommand"].split())
    locked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"sqlmesh==0.236.4", "duckdb==1.5.5"} <= installed
    assert installed <= set(locked["optional-dependencies"]["workspace"])
    return list(gitlab[1:])


def test_the_dev_container_installs_what_its_choices_need_each_from_its_place() -> None:
    declared = json.loads((TEMPLATE / "cookiecutter.json").read_text())
    template = Template(TEMPLATE)
    for engine, state_store in itertools.product(declared["engine"], declared["state_store"]):
        chosen = {"engine": engine, "state_store": state_store}
        files = {file.path: file.data.decode() for file in template.render(chosen, {}).files}
        container = json.loads(files[".devcontainer/devcontainer.json"])
        commands = [each.strip() for each in container["postCreateCommand"].split("&&")]
        gitlab = yaml.safe_load(files[".gitlab-ci.yml"])["checks"]["script"]
        assert set(commands.pop(0).split()) == {*gitlab[0].split(), "duckdb-cli==1.5.5"}
        java = ["apt-get update", "apt-get install -y openjdk-17-jre-headless"]
        assert commands == (java if engine == "spark" else [])
        assert container["image"] == "python:3.11-bookworm"  # the Debian that has that Java
        assert ("needs Java 17" in files["README.md"]) == (engine == "spark")


def test_models_are_loaded_in_one_process_wherever_the_template_starts_sqlmesh(
    tmp_path: Path,
) -> None:
    workspace = render(tmp_path, "single")
    settings = json.loads((workspace / ".vscode/settings.json").read_text())
    container = json.loads((workspace / ".devcontainer/devcontainer.json").read_text())
    assert settings["terminal.integrated.env.linux"]["MAX_FORK_WORKERS"] == "1"
    assert container["containerEnv"]["MAX_FORK_WORKERS"] == "1"
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sqlmesh", "python"):
        (tools / name).write_text('#!/bin/sh\necho "$MAX_FORK_WORKERS"\n')
        (tools / name).chmod(0o755)
    for chosen, counted in (({}, "1"), ({"MAX_FORK_WORKERS": "8"}, "8")):
        environ = {"PATH": f"{tools}:/usr/bin:/bin", **chosen}
        done = subprocess.run(
            ["sh", "run.sh"], cwd=workspace, env=environ, check=True, capture_output=True, text=True
        )
        assert done.stdout.split() == [counted, counted]


def test_the_dev_container_is_found_where_env_says_that_the_workspace_is(tmp_path: Path) -> None:
    workspace = render(tmp_path, "contained")
    container = json.loads((workspace / ".devcontainer/devcontainer.json").read_text())
    place = tmp_path / "workspace/products/contained"
    start = ["sh", "-ec", container["postStartCommand"]]
    subprocess.run(start, cwd=workspace, check=True)
    assert not place.exists()
    (workspace / ".env").write_text(f"S3_PREFIX=contained/\nWORKSPACE_DIR={place}\n")
    for _ in range(2):
        subprocess.run(start, cwd=workspace, check=True)
        assert (place / "config.yaml").samefile(workspace / "config.yaml")
    assert not (workspace / "contained").exists()


def test_ci_and_work_without_env_need_neither_s3_nor_the_internet(
    shell: Shell, tmp_path: Path
) -> None:
    workspace = render(tmp_path, "offline")
    commands = ci_commands(workspace)
    assert [command.split()[3] for command in commands] == ["format", "lint", "test", "plan"]
    outputs = [shell.succeed("sh", "-ec", command, cwd=workspace) for command in commands]
    assert "Successfully Ran `1` Tests" in outputs[2]
    assert "gold.daily_revenue" in outputs[3]
    assert list(workspace.glob("*.duckdb")) == []

    planned = shell.succeed(*PLAN, cwd=workspace)
    assert "Nothing is published: ports.json names no output port" in planned


def test_a_port_without_env_is_refused_not_sent_to_aws(shell: Shell, tmp_path: Path) -> None:
    workspace = render(tmp_path, "lost")
    (workspace / "ports.json").write_text('{"outputs": ["example"]}')
    planned = shell(*PLAN, cwd=workspace)
    assert planned.returncode == 1
    assert "S3_BUCKET and S3_PREFIX are missing in .env" in planned.stdout
    assert "amazonaws" not in planned.stdout


def test_run_publishes_and_what_fails_its_audits_is_held_back(
    storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = render(tmp_path, "audited")
    key = storage.key("audited")
    connect(workspace, storage.endpoint, extensions, key, ("daily-revenue", "example"))
    edit(
        workspace / "models/gold/daily_revenue.sql",
        "audits (",
        "audits (forall(criteria := (day < '2026-01-08')), ",
    )
    shell.succeed(*PLAN, "--execution-time", "2026-01-07", cwd=workspace)
    early = storage.rows("audited/daily-revenue/data.parquet", tmp_path)
    assert [tuple(row.values()) for row in early] == REVENUE[:2]
    assert len(storage.rows("audited/example/data.parquet", tmp_path)) == 3

    run = shell("sqlmesh", "run", cwd=workspace)

    assert run.returncode == 1
    assert "Nothing is published to port daily-revenue: gold.daily_revenue fails" in run.stdout
    assert storage.rows("audited/daily-revenue/data.parquet", tmp_path) == early
    orders = [row["orders"] for row in storage.rows("audited/example/data.parquet", tmp_path)]
    assert orders == [3, 3, 2]

    # What failed is tried again, the others are left alone; a person may publish all.
    writes = storage.writes("audited/example/")
    tick = shell("python", "publish.py", "--missing", cwd=workspace)
    assert tick.returncode == 1
    assert "Nothing is published to port daily-revenue: gold.daily_revenue fails" in tick.stdout
    assert storage.writes("audited/example/") == writes
    edit_audit_away(workspace, shell)
    assert storage.rows("audited/daily-revenue/data.parquet", tmp_path) != early
    shell.succeed("sqlmesh", "run", cwd=workspace)  # what that failure has held up
    writes, published_at = storage.writes("audited/"), storage.contract("audited/example/")
    assert "Every port holds" in shell.succeed("sh", "run.sh", cwd=workspace)
    assert storage.writes("audited/") == writes
    assert storage.contract("audited/example/") == published_at
    shell.succeed("python", "publish.py", "--accept", "example", cwd=workspace)
    assert storage.writes("audited/") == writes + 4
    assert storage.contract("audited/example/")["rows_accepted"] is True
    assert "rows_accepted" not in storage.contract("audited/daily-revenue/")


def edit_audit_away(workspace: Path, shell: Shell) -> None:
    """Take the audit that fails out of the model, and bring that to production."""
    edit(
        workspace / "models/gold/daily_revenue.sql",
        "audits (forall(criteria := (day < '2026-01-08')), ",
        "audits (",
    )
    shell.succeed(*PLAN, cwd=workspace)


def test_a_port_that_is_new_is_published_by_the_next_tick(
    tour: Tour, storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    # It is another place: what the note says of the first one does not count here.
    workspace = move(tour.workspace, tmp_path).rename(tmp_path / "ticking")
    key = storage.key("ticking")
    connect(workspace, storage.endpoint, extensions, key, ("example",))
    assert "Publishing gold.example to" in shell.succeed("sh", "run.sh", cwd=workspace)
    ports = json.loads((workspace / "ports.json").read_text())
    ports["outputs"].append("daily-revenue")
    (workspace / "ports.json").write_text(json.dumps(ports))
    ticked = shell.succeed("sh", "run.sh", cwd=workspace)
    assert "Publishing gold.daily_revenue to" in ticked
    assert "Publishing gold.example" not in ticked


def test_what_is_said_of_a_port_stays_readable_however_much_its_model_says(
    storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = render(tmp_path, "talkative")
    connect(workspace, storage.endpoint, extensions, storage.key("talkative"), ("wide", "long"))
    for name, columns, comment in (
        ("wide", 900, "\u20ac" * 400),
        ("long", 60, "\U0001f600" * 1000),
    ):
        selected = ",\n".join(f"  {n}::INT AS c{n:03} /* {comment} */" for n in range(columns))
        text = f"MODEL (name gold.{name}, kind FULL);\n\nSELECT\n{selected}\n"
        (workspace / f"models/gold/{name}.sql").write_text(text)
    shell.succeed(*PLAN, "--skip-tests", cwd=workspace)
    for name, columns, comments in (("wide", 900, 5), ("long", 60, 50)):
        key = f"talkative/{name}/_port.json"
        body = storage.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert len(body) <= portfile.LIMIT_BYTES
        described = json.loads(body)["columns"]
        assert len(described) == columns
        assert min(len(column["description"]) for column in described) > comments


def test_a_command_from_elsewhere_builds_no_second_warehouse(
    tour: Tour, storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(tour.workspace, tmp_path)
    connect(workspace, storage.endpoint, extensions, storage.key(workspace.name))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    planned = shell.succeed("sqlmesh", "-p", str(workspace), *PLAN[1:], cwd=elsewhere)
    assert "No changes to plan" in planned
    assert list(elsewhere.rglob("*.duckdb")) == []


def test_a_rotation_in_the_middle_harms_nobody_and_a_dead_key_is_named(
    tour: Tour, storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(tour.workspace, tmp_path)
    namespace = workspace.name
    old = storage.key(namespace)
    connect(workspace, storage.endpoint, extensions, old, ("example",))
    with shell.start("python", "-c", PUBLISH_TWICE, cwd=workspace) as process:
        assert process.stdout is not None
        assert "published once\n" in iter(process.stdout.readline, "")
        write_key(workspace, new := storage.key(namespace))
        storage.revoke(old)
        rest, _ = process.communicate("go on\n")
    assert process.returncode == 0, rest
    assert storage.writes(f"{namespace}/") == 4

    storage.revoke(new)
    refused = shell("python", "publish.py", cwd=workspace)
    assert refused.returncode == 1
    assert "Nothing is published to port example: " in refused.stdout
    assert "InvalidAccessKeyId" in refused.stdout
    assert new[1] not in refused.stdout
    assert storage.writes(f"{namespace}/") == 4


def test_the_readme_of_an_exploration_promises_no_publication(tmp_path: Path) -> None:
    explores = (render(tmp_path, "why", product_kind="exploration") / "README.md").read_text()
    produces = (render(tmp_path, "sales") / "README.md").read_text()
    assert "workspace of an exploration" in explores
    assert "## Publish" not in explores
    assert "## Publish" in produces
    for text in (explores, produces):
        assert "\n\n\n" not in text
        assert "## Run" in text
