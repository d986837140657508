"""Run the shipped template for real: SQLMesh from its command line, a real S3 API, no internet."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
import yaml
from markdown_it import MarkdownIt

pytestmark = pytest.mark.workspace

TEMPLATE = Path(__file__).parents[1] / "templates" / "sqlmesh"
BUCKET = "data-products"
PLAN = ("sqlmesh", "plan", "--auto-apply", "--no-prompts")
PLAN_DEV = ("sqlmesh", "plan", "dev", "--auto-apply", "--no-prompts", "--include-unmodified")
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
S3_SERVER = """
import contextlib, io, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
with contextlib.redirect_stdout(io.StringIO()):
    server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An S3 and IAM that enforces policies, and an admin's access to it."""

    endpoint: str
    iam: Any
    s3: Any

    def key(self, namespace: str | None, granted: Sequence[str] = ()) -> tuple[str, str]:
        """Make a user who may use its own prefix, if it has one, and read the granted ones."""
        user = f"dp-{os.urandom(6).hex()}"
        # moto reads a policy's + as a regular expression's
        own = [] if namespace is None else [namespace.replace("+", "*")]
        allow = {
            "s3:ListBucket": [f"arn:aws:s3:::{BUCKET}"],
            "s3:*": [f"arn:aws:s3:::{BUCKET}/{prefix}/*" for prefix in own],
            "s3:GetObject": [f"arn:aws:s3:::{BUCKET}/{prefix}*" for prefix in granted],
        }
        statements = [
            {"Effect": "Allow", "Action": action, "Resource": resources}
            for action, resources in allow.items()
            if resources
        ]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.iam.create_user(UserName=user)
        self.iam.put_user_policy(UserName=user, PolicyName="scope", PolicyDocument=document)
        made = self.iam.create_access_key(UserName=user)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def objects(self, prefix: str) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for found in listed.get("Contents", [])]

    def writes(self, prefix: str) -> int:
        """Count what was ever written below a prefix: the bucket keeps every version."""
        return len(self.s3.list_object_versions(Bucket=BUCKET, Prefix=prefix)["Versions"])

    def rows(self, key: str, folder: Path) -> list[dict[str, str | int]]:
        """Read a published Parquet file."""
        copy = folder / "copy.parquet"
        copy.write_bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        with duckdb.connect() as connection:
            query = connection.execute(f"SELECT * FROM '{copy}' ORDER BY 1")
            names = [column[0] for column in query.description or ()]
            return [dict(zip(names, map(_plain, row), strict=True)) for row in query.fetchall()]


def _plain(value: object) -> str | int:
    return value if isinstance(value, int) else str(value)


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Run commands in a bare environment whose only way out is a proxy that nobody may use."""

    environ: Mapping[str, str]
    proxy: socket.socket

    def __call__(
        self, *command: str, cwd: Path, answers: str = ""
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=self.environ,
            input=answers,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        assert not select.select([self.proxy], [], [], 0)[0], f"{command} asked for the internet"
        return done

    def succeed(self, *command: str, cwd: Path, answers: str = "") -> str:
        done = self(*command, cwd=cwd, answers=answers)
        assert done.returncode == 0, done.stdout
        return done.stdout


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
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    environ = {
        "HOME": str(tmp_path_factory.mktemp("s3")),
        "PATH": os.environ["PATH"],
        "INITIAL_NO_AUTH_ACTION_COUNT": "3",  # the three calls that make the admin
    }
    with subprocess.Popen(
        [sys.executable, "-c", S3_SERVER],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        key = ("anyone", "anyone")
        iam = _client("iam", endpoint, key)
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
        iam.create_user(UserName="admin")
        iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=document)
        made = iam.create_access_key(UserName="admin")["AccessKey"]
        key = (made["AccessKeyId"], made["SecretAccessKey"])
        admin = Engine(
            endpoint=endpoint,
            iam=_client("iam", endpoint, key),
            s3=_client("s3", endpoint, key),
        )
        admin.s3.create_bucket(Bucket=BUCKET)
        admin.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield admin
        for client in (iam, admin.iam, admin.s3):
            client.close()
        server.terminate()


def _client(service: str, endpoint: str, key: tuple[str, str]) -> Any:
    return boto3.session.Session(*key, region_name="us-east-1").client(
        service,  # type: ignore[call-overload]
        endpoint_url=endpoint,
    )


@pytest.fixture(scope="session")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill an extension directory from the installed wheels, as an image build does."""
    folder = tmp_path_factory.mktemp("extensions")
    pattern = f"duckdb_extension_*/extensions/v{duckdb.__version__}/*.duckdb_extension"
    with duckdb.connect(config={"extension_directory": str(folder)}) as connection:
        for binary in sorted(Path(duckdb.__file__).parents[1].glob(pattern)):
            connection.execute(f"INSTALL '{binary}'")
    return folder


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory, extensions: Path) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("home")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        environ = {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "COLUMNS": "240",
            "PYTHONPYCACHEPREFIX": str(home / "pycache"),
            "DUCKDB_EXTENSION_DIRECTORY": str(extensions),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        for scheme in ("http", "https", "all"):
            environ[f"{scheme}_proxy"] = environ[f"{scheme.upper()}_PROXY"] = address
        yield Shell(environ=environ, proxy=proxy)


def render(folder: Path, namespace: str, **text: str) -> Path:
    """Render a workspace as the service does: no prompt, no replay, no hook."""
    from cookiecutter.generate import generate_context, generate_files

    context = generate_context(
        str(TEMPLATE / "cookiecutter.json"),
        extra_context={
            "project_name": namespace,
            "project_slug": re.sub(r"[^a-z0-9_]", "_", namespace),
            **text,
        },
    )
    return Path(generate_files(str(TEMPLATE), context, str(folder), accept_hooks=False))


def connect(
    workspace: Path,
    endpoint: str,
    extensions: Path,
    key: tuple[str, str],
    outputs: Sequence[str] = (),
    inputs: Sequence[str] = (),
    *,
    produces: bool = True,
) -> Path:
    """Write what the service adds to a workspace: `.aws/`, `.env` and `ports.json`."""
    prefix = f"{workspace.name}/" if produces else ""
    aws = workspace / ".aws"
    aws.mkdir(mode=0o700)
    (aws / "config").write_text(
        f"[profile workspace]\nregion = us-east-1\nendpoint_url = {endpoint}\n"
    )
    write_key(workspace, key)
    environ = {
        "S3_ENDPOINT": endpoint,
        "S3_BUCKET": BUCKET,
        "S3_PREFIX": prefix,
        "S3_ACCESS_KEY": key[0],
        "S3_SECRET_KEY": key[1],
        "S3_REGION": "us-east-1",
        "WORKSPACE_DIR": workspace,
        "DUCKDB_EXTENSION_DIRECTORY": extensions,
        "AWS_SHARED_CREDENTIALS_FILE": aws / "credentials",
        "AWS_CONFIG_FILE": aws / "config",
        "AWS_PROFILE": "workspace",
        "AWS_ENDPOINT_URL_S3": endpoint,
    }
    (workspace / ".env").write_text("".join(f"{k}={v}\n" for k, v in environ.items()))
    granted = [
        {
            "name": re.sub(r"[^a-z0-9_]", "_", place.rstrip("/").replace("/", "__")),
            "producer": place.split("/")[0],
            "port": place.split("/")[1],
            "url": f"s3://{BUCKET}/{place}",
            "mode": "read",
            "valid_until": None,
        }
        for place in inputs
    ]
    (workspace / "ports.json").write_text(json.dumps({"outputs": outputs, "inputs": granted}))
    return workspace


def write_key(workspace: Path, key: tuple[str, str]) -> None:
    text = f"[workspace]\naws_access_key_id = {key[0]}\naws_secret_access_key = {key[1]}\n"
    (workspace / ".aws" / "credentials").write_text(text)


def move(workspace: Path, folder: Path) -> Path:
    """Copy a built workspace to a folder, without its access."""
    ours = shutil.ignore_patterns(".env", ".aws", "ports.json")
    return Path(shutil.copytree(workspace, folder / folder.name, ignore=ours))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="session")
def tour(
    engine: Engine, extensions: Path, shell: Shell, tmp_path_factory: pytest.TempPathFactory
) -> Tour:
    """Do what the README says, in a workspace whose portal texts are hostile."""
    folder = tmp_path_factory.mktemp("tour")
    hostile = dict.fromkeys(("_name", "_description", "_domain", "_owners"), HOSTILE)
    workspace = render(folder, "sales", **hostile)
    outputs = ("daily-revenue", "example", "customer-orders")
    connect(workspace, engine.endpoint, extensions, engine.key("sales"), outputs)
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
        done.published.append(engine.rows("sales/example/data.parquet", folder))
        done.writes.append(engine.writes("sales/"))
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
    tour: Tour, engine: Engine, tmp_path: Path
) -> None:
    rows = engine.rows("sales/daily-revenue/data.parquet", tmp_path)
    assert [tuple(row.values()) for row in rows] == REVENUE
    assert engine.objects("sales/") == [
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
    engine: Engine, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = render(tmp_path, "audited")
    key = engine.key("audited")
    connect(workspace, engine.endpoint, extensions, key, ("daily-revenue", "example"))
    edit(
        workspace / "models/gold/daily_revenue.sql",
        "audits (",
        "audits (forall(criteria := (day < '2026-01-08')), ",
    )
    shell.succeed(*PLAN, "--execution-time", "2026-01-07", cwd=workspace)
    early = engine.rows("audited/daily-revenue/data.parquet", tmp_path)
    assert [tuple(row.values()) for row in early] == REVENUE[:2]
    assert len(engine.rows("audited/example/data.parquet", tmp_path)) == 3

    run = shell("sqlmesh", "run", cwd=workspace)

    assert run.returncode == 1
    assert "Nothing is published to port daily-revenue: gold.daily_revenue fails" in run.stdout
    assert engine.rows("audited/daily-revenue/data.parquet", tmp_path) == early
    orders = [row["orders"] for row in engine.rows("audited/example/data.parquet", tmp_path)]
    assert orders == [3, 3, 2]


def test_a_command_from_elsewhere_builds_no_second_warehouse(
    tour: Tour, engine: Engine, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(tour.workspace, tmp_path)
    connect(workspace, engine.endpoint, extensions, engine.key(workspace.name))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    planned = shell.succeed("sqlmesh", "-p", str(workspace), *PLAN[1:], cwd=elsewhere)
    assert "No changes to plan" in planned
    assert list(elsewhere.rglob("*.duckdb")) == []


def test_keys_rotated_in_aws_credentials_are_followed(
    tour: Tour, engine: Engine, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(tour.workspace, tmp_path)
    namespace = workspace.name
    old = engine.key(namespace)
    connect(workspace, engine.endpoint, extensions, old, ("example",))
    used = engine.iam.get_access_key_last_used(AccessKeyId=old[0])
    engine.iam.delete_access_key(UserName=used["UserName"], AccessKeyId=old[0])

    refused = shell("python", "publish.py", cwd=workspace)
    assert refused.returncode == 1
    assert "InvalidAccessKeyId" in refused.stdout
    assert old[1] not in refused.stdout
    assert engine.objects(f"{namespace}/") == []

    write_key(workspace, engine.key(namespace))
    shell.succeed("python", "publish.py", cwd=workspace)
    assert engine.objects(f"{namespace}/") == [f"{namespace}/example/data.parquet"]


@pytest.fixture(scope="session")
def consumer(
    tour: Tour,
    engine: Engine,
    extensions: Path,
    shell: Shell,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """Build a product that reads a granted port, under the oddest name that the portal allows."""
    granted = ("sales/daily-revenue/",)
    workspace = render(tmp_path_factory.mktemp("consumer"), "marketing+eu=1,x@y")
    key = engine.key(workspace.name, granted)
    inputs = (*granted, "crm/customers/")
    connect(workspace, engine.endpoint, extensions, key, ("best-days",), inputs)
    (workspace / "models/gold/best_days.sql").write_text(
        "MODEL (\n  name gold.best_days,\n  kind FULL\n);\n\n"
        "SELECT\n  *\nFROM upstream.sales__daily_revenue\nWHERE\n  revenue > 100\n"
    )
    return workspace, shell.succeed(*PLAN, cwd=workspace)


def test_a_consumer_reads_the_port_it_was_granted(
    consumer: tuple[Path, str], engine: Engine, tmp_path: Path
) -> None:
    rows = engine.rows("marketing+eu=1,x@y/best-days/data.parquet", tmp_path)
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
    consumer: tuple[Path, str], engine: Engine, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = move(consumer[0], tmp_path)
    inputs = ("sales/daily-revenue/",)
    connect(workspace, engine.endpoint, extensions, engine.key(workspace.name), (), inputs)
    edit(workspace / "models/gold/best_days.sql", "> 100", "> 200")
    planned = shell(*PLAN, cwd=workspace)
    assert planned.returncode == 1
    assert 'upstream."sales__daily_revenue"' in planned.stdout
    assert "s3://data-products/sales/daily-revenue/" in planned.stdout
    assert "403" in planned.stdout


@pytest.fixture(scope="session")
def exploration(
    tour: Tour,
    engine: Engine,
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
        engine.endpoint,
        extensions,
        engine.key(None, granted),
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
    exploration: tuple[Path, str], engine: Engine, shell: Shell
) -> None:
    said = "Nothing is published: ports.json names no output port"
    assert said in exploration[1]
    assert said in shell.succeed("sh", "run.sh", cwd=exploration[0])
    assert engine.objects("why") == []


def test_an_exploration_that_is_given_a_port_by_hand_still_publishes_nothing(
    exploration: tuple[Path, str], extensions: Path, shell: Shell, engine: Engine, tmp_path: Path
) -> None:
    workspace = move(exploration[0], tmp_path)
    key = engine.key(None, ("sales/daily-revenue/",))
    granted = ("sales/daily-revenue/",)
    connect(workspace, engine.endpoint, extensions, key, ("example",), granted, produces=False)
    edit(workspace / "models/gold/best_days.sql", "> 100", "> 200")
    planned = shell(*PLAN, cwd=workspace)
    assert planned.returncode == 1
    assert "S3_BUCKET and S3_PREFIX are missing in .env" in planned.stdout
    assert engine.objects("example") == []


def test_the_readme_of_an_exploration_promises_no_publication(tmp_path: Path) -> None:
    explores = (render(tmp_path, "why", product_kind="exploration") / "README.md").read_text()
    produces = (render(tmp_path, "sales") / "README.md").read_text()
    assert "workspace of an exploration" in explores
    assert "## Publish" not in explores
    assert "## Publish" in produces
    for text in (explores, produces):
        assert "\n\n\n" not in text
        assert "## Run" in text
