"""Connect this product to others: read the inputs it was granted, publish its output ports.

Both come from ports.json, which is rewritten when ports or grants change.
config.yaml runs these macros before and after each plan and each run.
"""

[% if cookiecutter.engine == "postgres" -%]
import hashlib
[% endif -%]
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
PORT_BYTES = 250_000  # the service reads no _port.json above 256 KiB


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
    db.execute("ATTACH 'dbname=[[ "dp_" ~ cookiecutter.product_id.replace("-", "") ]]' AS warehouse (TYPE postgres)")
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
[%- if cookiecutter.engine == "postgres" %]
    inputs = [{**source, "name": short(source["name"])} for source in inputs]
[%- endif %]
    readers = upstream_readers(evaluator)
    db = open_duckdb(evaluator)
    problems = {
        upstream: "this product has no access to it: it was never approved, or was revoked, or has "
        "ended. INPUTS.md says what may be read, and what ended when"
        for upstream in readers.keys() - {source["name"] for source in inputs}
    }
[%- if cookiecutter.engine == "postgres" %]
    problems.update(
        (name, f"PostgreSQL keeps 63 characters of a name: read it as upstream.{short(name)}")
        for name in readers
        if len(name) > 63
    )
[%- endif %]
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
[%- if cookiecutter.engine == "postgres" %]
    for upstream, views in outdated(evaluator, db).items():
        if upstream not in problems:
            readers[upstream] = views
            problems[upstream] = OUTDATED
[%- endif %]
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
OUTDATED = (
    "is a view of the columns that it had until they were changed, and shows the rows of then. "
    "`sqlmesh plan` makes it anew where it finds that change; where it finds none, change the model"
)
# Copies lie in the schema upstream. One whose columns were changed while views depend on it goes to
# upstream_before, until nothing depends on it: PostgreSQL would drop the views with it. A comment
# says what columns a copy was made for, as PostgreSQL has not all of Parquet's types.
COPIES = """
SELECT copy.oid::bigint, place.nspname, copy.relname, obj_description(copy.oid, 'pg_class'),
    ARRAY(
        SELECT DISTINCT quote_ident(schema.nspname) || '.' || quote_ident(dependent.relname)
        FROM pg_depend AS link
        JOIN pg_rewrite AS rule ON link.classid = 'pg_rewrite'::regclass AND rule.oid = link.objid
        JOIN pg_class AS dependent ON dependent.oid = rule.ev_class
        JOIN pg_namespace AS schema ON schema.oid = dependent.relnamespace
        WHERE link.refclassid = 'pg_class'::regclass AND link.refobjid = copy.oid
    )::text[]
FROM pg_class AS copy
JOIN pg_namespace AS place ON place.oid = copy.relnamespace
WHERE place.nspname IN ('upstream', 'upstream_before') AND copy.relkind = 'r'
"""


def cut(name):
    """Return what PostgreSQL keeps of a column's name."""
    return name.encode()[:63].decode(errors="ignore")


def short(name):
    """Return the name of an input's copy: a long one is cut, and told apart from its like."""
    if len(name) <= 63:
        return name
    return f"{name[:54]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def postgres(db, statement):
    """Have PostgreSQL run a statement as it stands, within DuckDB's transaction."""
    db.execute(f"CALL postgres_execute('warehouse', {sql_text(statement)})")
    db.execute("FROM pg_clear_cache()")


def copies(db):
    """Return what is copied here: place, table, upstream, columns as they came, views on it."""
    found = []
    query = f"FROM postgres_query('warehouse', {sql_text(COPIES)})"
    for oid, place, table, comment, views in db.execute(query).fetchall():
        try:
            about = json.loads(comment or "{}")
            upstream, columns = about["upstream"], about["columns"]
        except (ValueError, TypeError, KeyError):
            upstream, columns = table, {}
        found.append((oid, place, table, upstream, columns, views))
    return found


def connected(evaluator, db):
    """Return what the schema upstream holds."""
    db.execute("CREATE SCHEMA IF NOT EXISTS warehouse.upstream")
    return {upstream for _, _, _, upstream, _, _ in copies(db)}


def disconnect(evaluator, db, upstream):
    """Take an upstream away; empty it where a view depends on it."""
    for _, place, table, name, _, _ in copies(db):
        if name == upstream:
            try:
                postgres(db, f"DROP TABLE {sql_name(place, table)}")
            except duckdb.Error:
                postgres(db, f"DELETE FROM {sql_name(place, table)}")


def connect(evaluator, db, upstream, files):
    """Make an upstream: a copy of what lies in S3, filled anew at each plan and run."""
    source = f"READ_PARQUET({sql_text(files)}, hive_partitioning = FALSE)"
    rows = db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    columns = {cut(row[0]): row[1] for row in rows}
    if len(columns) < len(rows):
        raise PortError("PostgreSQL keeps 63 characters of a name, and two columns share these")
    query = ", ".join(f"{sql_name(row[0])} AS {sql_name(cut(row[0]))}" for row in rows)
    query = f"SELECT {query} FROM {source}"
    table = sql_name("warehouse", "upstream", upstream)
    db.execute("BEGIN")
    try:
        shape(db, upstream, columns, query)
        db.execute(f"DELETE FROM {table}")
        db.execute(f"INSERT INTO {table} ({', '.join(map(sql_name, columns))}) {query}")
        db.execute("COMMIT")
    except Exception:
        db.execute("ROLLBACK")
        db.execute("FROM pg_clear_cache()")
        raise


def shape(db, upstream, columns, query):
    """Give an upstream's table its columns: the same, more of them, or a table made anew."""
    table = sql_name("warehouse", "upstream", upstream)
    here = [copy for copy in copies(db) if copy[1:3] == ("upstream", upstream)]
    known = here[0][4] if here else {}
    if known == columns:
        return
    if known and known.items() <= columns.items():
        for column, kind in columns.items():
            if column not in known:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {sql_name(column)} {kind}")
    else:
        for oid, place, name, *_ in here:
            put_aside(db, oid, name)
        db.execute(f"CREATE TABLE {table} AS {query} LIMIT 0")
    about = sql_text(json.dumps({"upstream": upstream, "columns": columns}))
    postgres(db, f"COMMENT ON TABLE {sql_name('upstream', upstream)} IS {about}")


def put_aside(db, oid, table):
    """Drop a table, or keep it out of the way where views depend on it."""
    aside = f"{table[:40]}_{oid}"  # two may have been put aside of one name
    postgres(
        db,
        "CREATE SCHEMA IF NOT EXISTS upstream_before; "
        f"DO $do$ BEGIN DROP TABLE {sql_name('upstream', table)}; "
        "EXCEPTION WHEN dependent_objects_still_exist THEN "
        f"ALTER TABLE {sql_name('upstream', table)} SET SCHEMA upstream_before; "
        f"ALTER TABLE {sql_name('upstream_before', table)} RENAME TO {sql_name(aside)}; END $do$",
    )


def outdated(evaluator, db):
    """Return by upstream which models are views of columns it has no more; drop what none needs."""
    tables = {}
    for snapshot in evaluator.snapshots.values():
        if snapshot.is_model and snapshot.version and not snapshot.is_external:
            for deployable in (True, False):
                table = exp.to_table(snapshot.table_name(deployable))
                tables[f"{table.db}.{table.name}"] = snapshot.model.name
    found = {}
    for _, place, table, upstream, _, views in copies(db):
        if place == "upstream":
            continue
        if not views:
            disconnect_aside(db, table)
        # The views in SQLMesh's own schemas that no model needs any more go when it tidies up.
        own = [view for view in views if not view.startswith("sqlmesh__")]
        if own:
            get_console().log_warning(
                escape(
                    f"The columns of upstream.{upstream} have changed, and {', '.join(own)} still "
                    "shows the rows of before: make it anew."
                )
            )
        for model in {tables[view] for view in views if view in tables}:
            found.setdefault(upstream, []).append((model, True))
    return found


def disconnect_aside(db, table):
    """Drop a copy that was put aside, unless something depends on it after all."""
    try:
        postgres(db, f"DROP TABLE {sql_name('upstream_before', table)}")
    except duckdb.Error as error:
        get_console().log_warning(escape(f"upstream_before.{table} stays: {error}"))
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
    about = {
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
                "description": described.get(column, ""),
            }
            for column, kind in columns[:1000]
        ],
        "audits": [{"name": audit.audit.name, "passed": not audit.count} for audit in audits],
    }
    for size in (6000, 1000, 100, 0):
        for column in about["columns"]:
            column["description"] = shortened(column["description"][:1000], size)
        if len(json.dumps(about)) <= PORT_BYTES:
            break
    while about["columns"] and len(json.dumps(about)) > PORT_BYTES:
        about["columns"] = about["columns"][: len(about["columns"]) // 2]
    return about


def shortened(text, size):
    """Cut a text so that JSON needs no more bytes for it: up to twelve a character."""
    while len(json.dumps(text)) > size + 2:
        text = text[: len(text) * 9 // 10]
    return text


def interval_seconds(model):
    """Return the longest pause between two runs that the model's cron leaves."""
    cron = model.croniter(now())
    times = [cron.get_next() for _ in range(32)]
    return int(max(later - earlier for earlier, later in zip(times, times[1:])).total_seconds())
