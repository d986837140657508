"""SQLMesh itself reads the external models that are written for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner import model
from provisioner.domain import dotenv, inventory, portfile
from tests import published

pytestmark = pytest.mark.workspace

_CONFIG = """
gateways:
  duckdb:
    connection: { type: duckdb }
default_gateway: duckdb
model_defaults: { dialect: duckdb, start: 2026-01-01 }
disable_anonymized_analytics: true
linter: { enabled: true, rules: [ambiguousorinvalidcolumn, noambiguousprojections] }
"""
_LOOK = """
import json
from pathlib import Path
from sqlmesh import Context
from sqlmesh.core.lineage import lineage
from sqlmesh.utils.errors import ConfigError

context = Context(paths=".")
context.lint_models()
columns = context.get_model("gold.all_of_it").columns_to_types
found = {
    "columns": len(columns),
    "unknown": [name for name, kind in columns.items() if str(kind) == "UNKNOWN"],
    "lineage": lineage("c0", context.get_model("gold.all_of_it")).downstream[0].name,
    "without columns": str(context.get_model("gold.unknown").columns_to_types["x"]),
    "a column left out": context.get_model("gold.partly").render_query().sql(),
    "all of them": context.get_model("gold.partly_all").render_query().sql(),
    "tests": [context.test().testsRun, context.test().wasSuccessful()],
}
context.create_external_models()
found["theirs"] = Path("external_models.yaml").read_text()
Path("external_models.yaml").write_text("[{name: upstream.sales__orders, columns: {c0: INT}}]")
try:
    Context(paths=".")
except ConfigError as error:
    found["two of one name"] = str(error)
Path("external_models.yaml").write_text("[]")
Path("external_models/upstream.yaml").write_text(Path("empty.yaml").read_text())
found["models without any input"] = sorted(each.name for each in Context(paths=".").models.values())
print(json.dumps(found))
"""
PARTLY = (
    'SELECT "id" AS "id", "address" AS "address", "umsatz €" AS "umsatz €"'
    ' FROM "memory"."upstream"."sales__partly" AS "sales__partly"'
)
KINDS = [*sorted(portfile.TYPES), "DECIMAL(18,3)"]
KINDS += [f"{kind}[]" for kind in KINDS]
_JSON = ", ".join(f'c{n}: "[]"' for n, kind in enumerate(KINDS) if kind.startswith("JSON"))
# SQLMesh fills the columns that a test leaves out with what is no JSON: those must be given.
_TEST = f"""
test_all_of_it:
  model: gold.tested
  inputs:
    upstream.sales__orders:
      rows: [{{c0: true, {_JSON}}}, {{c0: false, {_JSON}}}]
  outputs:
    query:
      rows: [{{n: 2}}]
"""


def an_input(name: str) -> dotenv.Input:
    return dotenv.Input(
        name=name,
        producer="sales",
        port="orders",
        url="s3://lake/sales/orders/",
        mode=model.Access.READ,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Lay out a project with inputs whose columns are all known, none, and known in part."""
    columns = tuple(model.Column(name=f"c{n}", type=kind) for n, kind in enumerate(KINDS))
    seen = published.a_port(contract=published.a_contract(columns=columns), version="1.0")
    known = (model.Column(name="id", type="BIGINT"),)
    partly = published.a_port(contract=published.a_contract(columns=known, dropped=1))
    files = {
        "config.yaml": _CONFIG,
        "external_models.yaml": "[]\n",
        inventory.UPSTREAM: inventory.upstream_yaml(
            [an_input("sales__orders"), an_input("sales__new"), an_input("sales__partly")],
            {"sales__orders": seen, "sales__partly": partly},
        ),
        "models/all.sql": "MODEL (name gold.all_of_it, kind FULL);\n"
        "SELECT * FROM upstream.sales__orders",
        "models/unknown.sql": "MODEL (name gold.unknown, kind FULL);\n"
        "SELECT x FROM upstream.sales__new",
        "models/partly.sql": "MODEL (name gold.partly, kind FULL);\n"
        'SELECT id, address, "Umsatz €" FROM upstream.sales__partly',
        "models/partly_all.sql": "MODEL (name gold.partly_all, kind FULL);\n"
        "SELECT * FROM upstream.sales__partly",
        "models/tested.sql": "MODEL (name gold.tested, kind FULL);\n"
        "SELECT COUNT(*) AS n FROM upstream.sales__orders",
        "tests/test_all.yaml": _TEST,
        "empty.yaml": inventory.upstream_yaml([], {}),
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_sqlmesh_reads_what_is_written_for_it(project: Path) -> None:
    environ = {"HOME": str(project), "PATH": "/usr/bin:/bin", "NO_COLOR": "1", "COLUMNS": "200"}
    looked = subprocess.run(
        [sys.executable, "-c", _LOOK],
        cwd=project,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert looked.returncode == 0, looked.stdout
    found = json.loads(looked.stdout.splitlines()[-1])
    refusal = found.pop("two of one name")
    assert "Duplicate external model name: 'upstream.sales__orders'" in refusal
    assert found == {
        "columns": len(KINDS),
        "unknown": [],
        "lineage": '"sales__orders"."c0"',
        "without columns": "UNKNOWN",
        "a column left out": PARTLY,
        "all of them": 'SELECT * FROM "memory"."upstream"."sales__partly" AS "sales__partly"',
        "tests": [1, True],
        "theirs": "[]\n",
        "models without any input": [
            "gold.all_of_it",
            "gold.partly",
            "gold.partly_all",
            "gold.tested",
            "gold.unknown",
        ],
    }
