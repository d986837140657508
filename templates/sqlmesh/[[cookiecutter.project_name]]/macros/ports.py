"""Connect this product to others: read the inputs it was granted, publish its output ports.

Both come from ports.json, which is rewritten when ports or grants change.
config.yaml runs these macros before and after each plan and each run.
"""

import json
import os
import re
from pathlib import Path

from sqlglot import exp
from sqlmesh import macro
from sqlmesh.core.console import get_console
from sqlmesh.core.snapshot import SnapshotEvaluator
from sqlmesh.utils.date import now


def ports(direction):
    """Return the product's own ports ("outputs") or the granted ones ("inputs")."""
    path = Path(os.environ.get("WORKSPACE_DIR", ".")) / "ports.json"
    return json.loads(path.read_text()).get(direction, []) if path.is_file() else []


def quoted(text):
    """Write text as a SQL string."""
    return exp.Literal.string(text).sql("duckdb")


@macro()
def connect_upstreams(evaluator):
    """Make a view upstream.<name> for each input.

    An input that cannot be read is left out with a message, so that work goes on without it;
    only where a model in prod reads it does this stop the run.
    """
    if evaluator.runtime_stage != "before_all":
        return []
    inputs = ports("inputs")
    if not inputs:
        return []
    models = [s.model for s in evaluator.snapshots.values() if s.is_model]
    needed = {exp.to_table(name).name for model in models for name in model.depends_on}
    execute = evaluator.engine_adapter.execute
    execute("CREATE SCHEMA IF NOT EXISTS upstream")
    failing = []
    for source in inputs:
        name, url = source["name"], source["url"]
        view = (
            f'CREATE OR REPLACE VIEW upstream."{name}" AS SELECT * '
            f"FROM READ_PARQUET({quoted(url + '*.parquet')}, hive_partitioning = FALSE)"
        )
        try:
            execute(view)
        except Exception as error:
            if evaluator.this_env == "prod" and name in needed:
                failing.append(view)  # SQLMesh tries it once more, and stops with its message
            else:
                reason = str(error).splitlines()[0]
                say = get_console().log_warning
                say(f"upstream.{name} is left out: {url} cannot be read. {reason}")
    return failing


@macro()
def publish_outputs(evaluator):
    """Write each gold model named after an own output port to that port, from prod only."""
    if evaluator.runtime_stage != "after_all" or evaluator.this_env != "prod":
        return []
    say = get_console().log_status_update
    gold = {
        s.model.view_name: s
        for s in evaluator.snapshots.values()
        if s.is_model and s.model.schema_name == "gold"
    }
    outputs = ports("outputs")
    if not outputs:
        say("Nothing is published: ports.json names no output port of this product.")
    copies, refusals = [], []
    for port in outputs:
        name = re.sub(r"[^a-z0-9_]", "_", port)
        if name not in gold:
            say(f"Nothing is published to port {port}: there is no model gold.{name}.")
            continue
        problem = reason_not_to_publish(evaluator, gold[name])
        if problem:
            refusal = quoted(f"Nothing is published to port {port}: {problem}")
            refusals.append(f"SELECT ERROR({refusal})")
            continue
        url = f"s3://{os.environ['S3_BUCKET']}/{os.environ['S3_PREFIX']}{port}/data.parquet"
        say(f"Publishing gold.{name} to {url}")
        copies.append(f'COPY (SELECT * FROM gold."{name}") TO {quoted(url)} (FORMAT PARQUET)')
    return copies + refusals


def reason_not_to_publish(evaluator, snapshot):
    """Say what keeps a gold model from being published, or nothing.

    Its audits run once more: `sqlmesh run` publishes even where one of them has just failed.
    """
    if not os.environ.get("S3_BUCKET") or not os.environ.get("S3_PREFIX"):
        return "S3_BUCKET and S3_PREFIX are missing in .env."
    results = SnapshotEvaluator(evaluator.engine_adapter).audit(
        snapshot, snapshots=evaluator.snapshots, start="1970-01-01", end=now()
    )
    if any(result.count and result.blocking for result in results):
        return f"{snapshot.model.name} fails its audits."
    return None
