"""Connect this product to others: read the inputs it was granted, publish its output ports.

Both come from ports.json, which is rewritten when ports or grants change.
config.yaml runs these macros before and after each plan and each run.
"""

import json
import os
import re
[% if cookiecutter.engine == "spark" -%]
import shutil
[% endif -%]
from datetime import datetime, timezone
from pathlib import Path

[% if cookiecutter.engine in ("postgres", "spark") -%]
import duckdb
[% endif -%]
from rich.markup import escape
from sqlglot import exp
from sqlmesh import macro
from sqlmesh.core.console import get_console
from sqlmesh.core.snapshot import SnapshotEvaluator
from sqlmesh.utils.date import now

DONE = ["SELECT 1 AS done"]  # SQLMesh warns where a macro leaves it nothing to do
PORTAL = [[ cookiecutter.portal_url | tojson ]]


class PortError(Exception):
    """What went wrong with an input or an output port, in words for people."""

    __traceback__ = None  # SQLMesh would print it before the message


def workspace():
    """Return this workspace's folder."""
    return Path(os.environ.get("WORKSPACE_DIR", "."))


def ports(direction):
    """Return the product's own ports ("outputs") or the granted ones ("inputs").

    None without ports.json: a clone, or CI, knows of no ports.
    """
    path = workspace() / "ports.json"
    return json.loads(path.read_text()).get(direction, []) if path.is_file() else None


def place():
    """Return where the output ports lie; None where the workspace was not told."""
    bucket, prefix = os.environ.get("S3_BUCKET"), os.environ.get("S3_PREFIX")
    return f"s3://{bucket}/{prefix}" if bucket and prefix else None


def note():
    """Return the file that notes which ports hold what prod holds."""
    return workspace() / ".published.json"


def published():
    """Return the ports that hold what prod holds; whatever is in doubt is none of them."""
    try:
        return set(json.loads(note().read_text())[place()])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def sql_text(value):
    """Write a value as a SQL string."""
    return exp.Literal.string(str(value)).sql("duckdb")


def sql_name(*parts):
    """Write the name of a table, quoted."""
    return ".".join(exp.to_identifier(part, quoted=True).sql("duckdb") for part in parts)


[% if cookiecutter.engine in ("duckdb", "ducklake") -%]
def open_duckdb(evaluator):
    """Return the DuckDB that reads and writes S3: the warehouse itself."""
    return evaluator.engine_adapter.cursor


[% else -%]
def open_duckdb(evaluator):
    """Return a DuckDB that reads and writes S3, which [[ {"postgres": "PostgreSQL", "spark": "Spark"}[cookiecutter.engine] ]] is not asked to do."""
    get = os.environ.get
    endpoint = get("S3_ENDPOINT", "http://missing-in-dotenv.invalid")
    db = duckdb.connect(
        config={"extension_directory": get("DUCKDB_EXTENSION_DIRECTORY", "/opt/duckdb/extensions")}
    )
    db.execute(
        "CREATE SECRET object_store (TYPE s3, PROVIDER credential_chain, CHAIN 'config', "
        f"PROFILE {sql_text(get('AWS_PROFILE', 'workspace'))}, REFRESH auto, VALIDATION none, "
        f"ENDPOINT {sql_text(endpoint.split('://')[-1].rstrip('/'))}, "
        f"USE_SSL {endpoint.startswith('https://')}, "
        f"REGION {sql_text(get('S3_REGION', 'us-east-1'))}, URL_STYLE path)"
    )
[%- if cookiecutter.engine == "postgres" %]
    db.execute("ATTACH 'dbname=[[ cookiecutter.project_slug ]]' AS warehouse (TYPE postgres)")
[%- endif %]
    return db


[% endif -%]
@macro()
def connect_upstreams(evaluator):
    """Make upstream.<name> for each input, and take away what is no input any more.

    What cannot be read is left out with a message, so that work on other models goes on; this
    stops only what would fail: a plan or a run of prod in which a model reads it, or a plan of
    another environment that has to build such a model.
    """
    if evaluator.runtime_stage == "before_all" and evaluator.this_env == "prod":
        note().unlink(missing_ok=True)  # before prod changes, or a crash would leave it wrong
    inputs = ports("inputs") if evaluator.runtime_stage == "before_all" else None
    if inputs is None:
        return []
    readers = upstream_readers(evaluator)
    db = open_duckdb(evaluator)
    problems = {
        upstream: "this product has no access to it: it was never approved, or was revoked, or has "
        "ended. INPUTS.md says what may be read, and what ended when"
        for upstream in readers.keys() - {source["name"] for source in inputs}
    }
    for old in connected(evaluator, db) - {source["name"] for source in inputs}:
        disconnect(evaluator, db, old)
    for source in inputs:
[%- if cookiecutter.engine in ("postgres", "spark") %]
        if source["name"] not in readers:
            continue  # a copy that nobody reads would cost more than it helps
[%- endif %]
        try:
            connect(evaluator, db, source["name"], source["url"] + "*.parquet")
        except Exception as error:
            # What others publish may say anything; a terminal shows it, and must not obey it.
            reason = "".join(c if c.isprintable() else "?" for c in str(error).split("\n")[0])
            problems[source["name"]] = f"{source['url']} cannot be read: {reason}"
    report(evaluator, readers, problems)
    return DONE


def upstream_readers(evaluator):
    """Return by upstream which models read it, and whether one of them has yet to be built."""
    readers = {}
    for snapshot in evaluator.snapshots.values():
        for table in snapshot.model.depends_on if snapshot.is_model else ():
            table = exp.to_table(table)
            if table.db == "upstream" and snapshot.model.schema_name != "upstream":
                built = bool(snapshot.intervals or snapshot.dev_intervals)
                readers.setdefault(table.name, []).append((snapshot.model.name, built))
    return readers


def report(evaluator, readers, problems):
    """Say which upstreams are missing, and stop where a model cannot do without."""
    stopping = []
    for upstream, problem in sorted(problems.items()):
        models = sorted({model for model, _ in readers.get(upstream, [])})
        who = f"{', '.join(models)} reads upstream.{upstream}" if models else f"upstream.{upstream}"
        unbuilt = any(not built for _, built in readers.get(upstream, []))
        if models and (evaluator.this_env == "prod" or unbuilt):
            stopping.append(f"{who}, but {problem}.")
        else:
            get_console().log_warning(escape(f"{who}: left out, {problem}."))
    if stopping:
        advice = f"Ask for access in the portal, {PORTAL}, or take it out of the model."
        if evaluator.this_env != "prod":
            advice += " To go on with others meanwhile, name them: --select-model gold.example"
        raise PortError("\n".join([*stopping, advice]))


[% if cookiecutter.engine in ("duckdb", "ducklake") -%]
def connected(evaluator, db):
    """Return what the schema upstream holds."""
    db.execute("CREATE SCHEMA IF NOT EXISTS upstream")
    db.execute(
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_schema = 'upstream' AND table_type = 'VIEW' "
        "AND table_catalog = CURRENT_DATABASE()"
    )
    return {row[0] for row in db.fetchall()}


def disconnect(evaluator, db, upstream):
    """Take an upstream away."""
    db.execute(f"DROP VIEW IF EXISTS {sql_name('upstream', upstream)}")


def connect(evaluator, db, upstream, files):
    """Make an upstream: a view on what lies in S3."""
    db.execute(
        f"CREATE OR REPLACE VIEW {sql_name('upstream', upstream)} AS "
        f"SELECT * FROM READ_PARQUET({sql_text(files)}, hive_partitioning = FALSE)"
    )
[%- elif cookiecutter.engine == "postgres" -%]
def connected(evaluator, db):
    """Return what the schema upstream holds."""
    db.execute("CREATE SCHEMA IF NOT EXISTS warehouse.upstream")
    db.execute(
        "SELECT table_name FROM duckdb_tables() "
        "WHERE schema_name = 'upstream' AND database_name = 'warehouse'"
    )
    return {row[0] for row in db.fetchall()}


def disconnect(evaluator, db, upstream):
    """Take an upstream away; empty it where a view depends on it."""
    table = sql_name("warehouse", "upstream", upstream)
    try:
        db.execute(f"DROP TABLE {table}")
    except duckdb.Error:
        db.execute(f"DELETE FROM {table}")


def connect(evaluator, db, upstream, files):
    """Make an upstream: a copy of what lies in S3, filled anew at each plan and run."""
    source = f"SELECT * FROM READ_PARQUET({sql_text(files)}, hive_partitioning = FALSE)"
    table = sql_name("warehouse", "upstream", upstream)
    columns = [column[0] for column in db.execute(f"DESCRIBE {source}").fetchall()]
    db.execute("BEGIN")
    try:
        db.execute(f"CREATE TABLE IF NOT EXISTS {table} AS {source} LIMIT 0")
        if columns != [column[0] for column in db.execute(f"DESCRIBE {table}").fetchall()]:
            db.execute(f"DROP TABLE {table}")
            db.execute(f"CREATE TABLE {table} AS {source} LIMIT 0")
        db.execute(f"DELETE FROM {table}")
        db.execute(f"INSERT INTO {table} {source}")
        db.execute("COMMIT")
    except Exception:
        db.execute("ROLLBACK")
        raise
[%- else -%]
def connected(evaluator, db):
    """Return what the schema upstream holds."""
    spark = evaluator.engine_adapter.spark
    spark.sql("CREATE SCHEMA IF NOT EXISTS upstream")
    return {table.name for table in spark.catalog.listTables("upstream")}


def disconnect(evaluator, db, upstream):
    """Take an upstream away."""
    evaluator.engine_adapter.spark.sql(f"DROP VIEW IF EXISTS upstream.`{upstream}`")
    shutil.rmtree(workspace() / ".spark" / "upstream" / upstream, ignore_errors=True)


def connect(evaluator, db, upstream, files):
    """Make an upstream: a view on a copy of what lies in S3, made anew at each plan and run."""
    folder = workspace().resolve() / ".spark" / "upstream" / upstream
    folder.mkdir(parents=True, exist_ok=True)
    source = f"SELECT * FROM READ_PARQUET({sql_text(files)}, hive_partitioning = FALSE)"
    db.execute(f"COPY ({source}) TO {sql_text(folder / 'data.parquet')} (FORMAT PARQUET)")
    evaluator.engine_adapter.spark.sql(
        f"CREATE OR REPLACE VIEW upstream.`{upstream}` AS SELECT * FROM parquet.`{folder}`"
    )
[%- endif %]


@macro()
def publish_outputs(evaluator):
    """Write each gold model named after an own output port to that port, from prod only.

    Those that have been since prod last changed are left alone: publish.py decides for them.
    """
    if evaluator.runtime_stage != "after_all" or evaluator.this_env != "prod":
        return []
    gold = {
        snapshot.model.view_name: snapshot
        for snapshot in evaluator.snapshots.values()
        if snapshot.is_model and snapshot.model.schema_name == "gold"
    }
    say = get_console().log_status_update
    outputs = ports("outputs")
    if not outputs:
        say("Nothing is published: ports.json names no output port of this product.")
        return DONE
    if not place():
        raise PortError("Nothing is published: S3_BUCKET and S3_PREFIX are missing in .env.")
    done, problems = published(), []
    if done.issuperset(outputs):
        say("Every port holds what prod holds. To publish it all the same: python publish.py")
    for port in outputs:
        if port in done:
            continue
        model = re.sub(r"[^a-z0-9_]", "_", port)
        if model not in gold:
            say(f"Nothing is published to port {port}: there is no model gold.{model}.")
            done.add(port)
            continue
        try:
            problem = publish(evaluator, port, gold[model])
        except Exception as error:
            problem = str(error)
        if problem:
            problems.append(f"Nothing is published to port {port}: {problem}")
        else:
            done.add(port)
    note().write_text(json.dumps({place(): sorted(done)}))
    if problems:
        problems.append("Once that is mended: python publish.py")
        raise PortError("\n".join(problems))
    return DONE


def publish(evaluator, port, snapshot):
    """Write a model's rows, then what is known of them; return what keeps it from that.

    Its audits run once more: `sqlmesh run` publishes even where one of them has just failed.
    """
    audits = SnapshotEvaluator(evaluator.engine_adapter).audit(
        snapshot, snapshots=evaluator.snapshots, start="1970-01-01", end=now()
    )
    audits = [audit for audit in audits if not audit.skipped]
    if any(audit.count and audit.blocking for audit in audits):
        return f"{snapshot.model.name} fails its audits."
    folder = f"{place()}{port}"
    get_console().log_status_update(f"Publishing {snapshot.model.name} to {folder}/data.parquet")
    db = open_duckdb(evaluator)
[%- if cookiecutter.engine in ("duckdb", "ducklake") %]
    query = f"SELECT * FROM {sql_name('gold', snapshot.model.view_name)}"
[%- elif cookiecutter.engine == "postgres" %]
    query = f"SELECT * FROM {sql_name('warehouse', 'gold', snapshot.model.view_name)}"
[%- else %]
    # Spark writes the parts, DuckDB sends them on as one file: neither needs them all in memory.
    parts = workspace().resolve() / ".spark" / "publish" / snapshot.model.view_name
    table = evaluator.engine_adapter.spark.table(f"gold.`{snapshot.model.view_name}`")
    table.write.mode("overwrite").parquet(str(parts))
    query = f"SELECT * FROM READ_PARQUET({sql_text(parts / '*.parquet')})"
[%- endif %]
    columns = [(row[0], row[1]) for row in db.execute(f"DESCRIBE {query}").fetchall()]
    copied = f"COPY ({query}) TO {sql_text(folder + '/data.parquet')} (FORMAT PARQUET)"
    rows = db.execute(copied).fetchone()[0]
[%- if cookiecutter.engine == "spark" %]
    shutil.rmtree(parts)
[%- endif %]
    described = describe(port, snapshot, rows, columns, audits)
    if left_out := len(columns) - len(described["columns"]):
        described["columns_left_out"] = left_out
    if os.environ.get("ACCEPTED_PORT") == port:
        described["rows_accepted"] = True
    contract = ", ".join(
        f"{sql_text(json.dumps(value))}::JSON AS {sql_name(key)}"
        for key, value in described.items()
    )
    db.execute(f"COPY (SELECT {contract}) TO {sql_text(folder + '/_port.json')} (FORMAT JSON)")
    return None


def describe(port, snapshot, rows, columns, audits):
    """Describe what was published, from what stands in the model: this is _port.json."""
    model = snapshot.model
    described = model.column_descriptions
    filled = {
        column.name
        for audit in audits
        if audit.audit.name == "not_null" and not audit.count
        for column in audit.audit_args["columns"].find_all(exp.Column)
    }
    return {
        "version": 1,
        "port": port,
        "model": model.name,
        "description": (model.description or "")[:1000],
        "published_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "rows": rows,
        "snapshot": snapshot.identifier,
        "expected_every_seconds": interval_seconds(model),
        "grain": [column.name for grain in model.grains for column in grain.find_all(exp.Column)],
        "columns": [
            {
                "name": column,
                "type": kind[:200],
                "nullable": column not in filled,
                "description": described.get(column, "")[: 1000 if len(columns) <= 100 else 100],
            }
            for column, kind in columns[:1000]
        ],
        "audits": [{"name": audit.audit.name, "passed": not audit.count} for audit in audits],
    }


def interval_seconds(model):
    """Return the longest pause between two runs that the model's cron leaves."""
    cron = model.croniter(now())
    times = [cron.get_next() for _ in range(32)]
    return int(max(later - earlier for earlier, later in zip(times, times[1:])).total_seconds())
