"""Publish the output ports again, from what prod holds now.

    python publish.py                   all of them
    python publish.py --missing         those that have not been since prod last changed
    python publish.py --accept PORT     all, and say of one that it is meant to have fewer rows

A plan or a run publishes by itself; this is for when that failed (S3 was away, a key had
expired): SQLMesh counts the run as done and would not try again.
"""

import argparse
import os
import sys
from pathlib import Path

from sqlmesh import Context
from sqlmesh.core.console import configure_console
from sqlmesh.core.environment import execute_environment_statements
from sqlmesh.core.macros import RuntimeStage
from sqlmesh.utils.errors import SQLMeshError


def main(words=()):
    """Run the statements that follow a plan of prod."""
    asked = argparse.ArgumentParser(description="Publish the output ports from prod.")
    asked.add_argument("--missing", action="store_true", help="only what prod holds anew")
    asked.add_argument("--accept", metavar="PORT", help="it is meant to have fewer rows")
    asked = asked.parse_args(words)
    configure_console()
    context = Context(paths=[str(Path(__file__).resolve().parent)])
    environment = context.state_reader.get_environment("prod")
    if environment is None:
        sys.exit("There is nothing in prod yet: run `sqlmesh plan` first.")
    if not asked.missing:
        note = Path(os.environ.get("WORKSPACE_DIR", ".")) / ".published.json"  # of macros/ports.py
        note.unlink(missing_ok=True)
    if asked.accept:
        os.environ["ACCEPTED_PORT"] = asked.accept
    execute_environment_statements(
        adapter=context.engine_adapter,
        environment_statements=context.state_reader.get_environment_statements("prod"),
        runtime_stage=RuntimeStage.AFTER_ALL,
        environment_naming_info=environment.naming_info,
        default_catalog=context.default_catalog,
        snapshots=context.scheduler(environment="prod").snapshots_by_name,
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SQLMeshError as error:
        sys.exit(f"Error: {error}")
