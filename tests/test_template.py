"""Run the shipped template for real: SQLMesh from its command line, a real S3 API, no internet."""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.rendered import (
    BUCKET,
    PLAN,
    PLAN_DEV,
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
REVENUE = [
    ("2026-01-05", 2, "210.40"),
    ("2026-01-06", 1, "310.00"),
    ("2026-01-07", 2, "80.00"),
    ("2026-01-08", 1, "205.00"),
]


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
    assert "Publishing gold.daily_revenue to s3://" in outputs["sh run.sh"]


def test_no_command_warns(tour: Tour) -> None:
    assert [text for _, text in tour.output if "warning" in text.lower()] == []


def test_plan_publishes_the_model_named_after_a_port(
    tour: Tour, storage: Storage, tmp_path: Path
) -> None:
    rows = storage.rows("sales/daily-revenue/data.parquet", tmp_path)
    assert [tuple(row.values()) for row in rows] == REVENUE
    assert storage.objects("sales/") == [
        "sales/daily-revenue/data.parquet",
        "sales/example/data.parquet",
    ]


def test_a_port_without_a_model_gets_nothing_and_plan_says_so(tour: Tour) -> None:
    said = "Nothing is published to port customer-orders: there is no model gold.customer_orders."
    assert said in tour.output[0][1]


def test_dev_publishes_nothing_and_promotion_does(tour: Tour) -> None:
    first, dev = tour.at("sqlmesh plan"), tour.at("sqlmesh plan dev")
    assert tour.writes[first] == tour.writes[dev] == 2
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


def test_work_without_env_needs_neither_s3_nor_the_internet(shell: Shell, tmp_path: Path) -> None:
    workspace = render(tmp_path, "offline")
    shell.succeed("sqlmesh", "format", "--check", cwd=workspace)
    tested = shell.succeed("sqlmesh", "test", cwd=workspace)
    assert "Successfully Ran `1` Tests" in tested
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


def test_keys_rotated_in_aws_credentials_are_followed(
    tour: Tour, storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(tour.workspace, tmp_path)
    namespace = workspace.name
    old = storage.key(namespace)
    connect(workspace, storage.endpoint, extensions, old, ("example",))
    used = storage.iam.get_access_key_last_used(AccessKeyId=old[0])
    storage.iam.delete_access_key(UserName=used["UserName"], AccessKeyId=old[0])

    refused = shell("python", "publish.py", cwd=workspace)
    assert refused.returncode == 1
    assert "InvalidAccessKeyId" in refused.stdout
    assert old[1] not in refused.stdout
    assert storage.objects(f"{namespace}/") == []

    write_key(workspace, storage.key(namespace))
    shell.succeed("python", "publish.py", cwd=workspace)
    assert storage.objects(f"{namespace}/") == [f"{namespace}/example/data.parquet"]


@pytest.fixture(scope="session")
def consumer(
    tour: Tour,
    storage: Storage,
    extensions: Path,
    shell: Shell,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """Build a product that reads a granted port, under the oddest name that the portal allows."""
    granted = ("sales/daily-revenue/",)
    workspace = render(tmp_path_factory.mktemp("consumer"), "marketing+eu=1,x@y")
    key = storage.key(workspace.name, granted)
    inputs = (*granted, "crm/customers/")
    connect(workspace, storage.endpoint, extensions, key, ("best-days",), inputs)
    (workspace / "models/gold/best_days.sql").write_text(
        "MODEL (\n  name gold.best_days,\n  kind FULL\n);\n\n"
        "SELECT\n  *\nFROM upstream.sales__daily_revenue\nWHERE\n  revenue > 100\n"
    )
    return workspace, shell.succeed(*PLAN, cwd=workspace)


def test_a_consumer_reads_the_port_it_was_granted(
    consumer: tuple[Path, str], storage: Storage, tmp_path: Path
) -> None:
    rows = storage.rows("marketing+eu=1,x@y/best-days/data.parquet", tmp_path)
    assert [tuple(row.values()) for row in rows] == [REVENUE[0], REVENUE[1], REVENUE[3]]


def test_an_input_that_no_model_reads_stops_nothing(consumer: tuple[Path, str]) -> None:
    said = f"upstream.crm__customers is left out: s3://{BUCKET}/crm/customers/ cannot be read."
    assert said in consumer[1]


def test_an_upstream_that_is_down_does_not_stop_dev(
    consumer: tuple[Path, str], extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(consumer[0], tmp_path)
    inputs = ("sales/daily-revenue/",)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    connect(workspace, nobody, extensions, ("AKIAXXXXXXXXXXXXXXXX", "x" * 40), (), inputs)
    planned = shell.succeed(*PLAN_DEV, cwd=workspace)
    assert "upstream.sales__daily_revenue is left out: s3://" in planned


def test_an_upstream_that_is_refused_stops_prod_and_is_named(
    consumer: tuple[Path, str], storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(consumer[0], tmp_path)
    inputs = ("sales/daily-revenue/",)
    connect(workspace, storage.endpoint, extensions, storage.key(workspace.name), (), inputs)
    edit(workspace / "models/gold/best_days.sql", "> 100", "> 200")
    planned = shell(*PLAN, cwd=workspace)
    assert planned.returncode == 1
    assert 'upstream."sales__daily_revenue"' in planned.stdout
    assert "s3://data-products/sales/daily-revenue/" in planned.stdout
    assert "403" in planned.stdout


@pytest.fixture(scope="session")
def exploration(
    tour: Tour,
    storage: Storage,
    extensions: Path,
    shell: Shell,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """Build an exploration: no prefix, no port, a key that only reads what was granted."""
    granted = ("sales/daily-revenue/",)
    folder = tmp_path_factory.mktemp("exploration")
    workspace = render(folder, "why", product_kind="exploration")
    connect(
        workspace,
        storage.endpoint,
        extensions,
        storage.key(None, granted),
        (),
        granted,
        produces=False,
    )
    (workspace / "models/gold/best_days.sql").write_text(
        "MODEL (\n  name gold.best_days,\n  kind FULL\n);\n\n"
        "SELECT\n  *\nFROM upstream.sales__daily_revenue\nWHERE\n  revenue > 100\n"
    )
    return workspace, shell.succeed(*PLAN, cwd=workspace)


def test_an_exploration_plans_on_what_it_was_granted(
    exploration: tuple[Path, str], shell: Shell
) -> None:
    query = "SELECT COUNT(*) AS days FROM gold.best_days"
    fetched = shell.succeed("sqlmesh", "fetchdf", query, cwd=exploration[0])
    assert fetched.split()[-1] == "3"


def test_an_exploration_publishes_nothing_and_says_so(
    exploration: tuple[Path, str], storage: Storage, shell: Shell
) -> None:
    said = "Nothing is published: ports.json names no output port"
    assert said in exploration[1]
    assert said in shell.succeed("sh", "run.sh", cwd=exploration[0])
    assert storage.objects("why") == []


def test_an_exploration_that_is_given_a_port_by_hand_still_publishes_nothing(
    exploration: tuple[Path, str], extensions: Path, shell: Shell, storage: Storage, tmp_path: Path
) -> None:
    workspace = move(exploration[0], tmp_path)
    key = storage.key(None, ("sales/daily-revenue/",))
    granted = ("sales/daily-revenue/",)
    connect(workspace, storage.endpoint, extensions, key, ("example",), granted, produces=False)
    edit(workspace / "models/gold/best_days.sql", "> 100", "> 200")
    planned = shell(*PLAN, cwd=workspace)
    assert planned.returncode == 1
    assert "S3_BUCKET and S3_PREFIX are missing in .env" in planned.stdout
    assert storage.objects("example") == []


def test_the_readme_of_an_exploration_promises_no_publication(tmp_path: Path) -> None:
    explores = (render(tmp_path, "why", product_kind="exploration") / "README.md").read_text()
    produces = (render(tmp_path, "sales") / "README.md").read_text()
    assert "workspace of an exploration" in explores
    assert "## Publish" not in explores
    assert "## Publish" in produces
    for text in (explores, produces):
        assert "\n\n\n" not in text
        assert "## Run" in text
