"""Read ports from R with the template's helper, as RStudio would: base R and the duckdb command."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import duckdb
import pytest

from tests.rendered import BUCKET, Shell, Storage, connect, render, write_key

pytest_plugins = ["tests.workbench"]
pytestmark = pytest.mark.workspace

READ = r"""
source("R/dp.R")
shown <- function(label, value) cat(label, deparse(value, width.cutoff = 500L), "\n")
failed <- function(label, call) cat(label, tryCatch(call, error = conditionMessage), "\n")
shown("inputs", dp_inputs()$name)
shown("port", dp_port("daily-revenue"))
upstream <- dp_upstream("shop__orders")
shown("names", names(upstream))
shown("upstream", upstream[[2]])
shown("query", dp_sql("SELECT 7 AS seven -- a comment"))
shown("country", dp_sql("SELECT UNNEST(['NA', NULL]) AS country")$country)
shown("nothing", nrow(dp_sql("SELECT 1 AS one WHERE false")))
failed("revoked", dp_sql("SELECT * FROM upstream.shop__secret"))
shown("told", names(dp_sql(paste(
  "SELECT 'upstream.x' AS told -- upstream.y",
  "/* upstream.z */ FROM UPSTREAM.shop__orders, \"upstream\".shop__orders AS again", sep = "\n"
))))
shown("text", dp_sql("SELECT 'it''s upstream.x' AS \"--\"")[[1]])
failed("commented", dp_sql("SELECT 1 /* upstream.a */ FROM Upstream.\"shop__secret\""))
failed("empty", dp_port("not-yet"))
failed("injected", dp_upstream("x; SELECT 1"))
failed("mistyped", dp_sql("SELEKT 1"))
cat("waiting\n")
invisible(readLines(file("stdin"), n = 1))
shown("rotated", nrow(dp_port("daily-revenue")))
"""
HOSTILE = "`id`$(id);\"'; .shell id #"


@pytest.fixture
def rscript() -> None:
    """Skip where R is missing, but never in CI."""
    if shutil.which("Rscript") is None:
        reason = "no Rscript: apt-get install r-base-core"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def upload(storage: Storage, key: str, query: str, folder: Path) -> None:
    """Publish the rows of a query."""
    file = folder / "upload.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{file}' (FORMAT PARQUET)")
    storage.s3.upload_file(str(file), BUCKET, key)


@pytest.mark.usefixtures("rscript")
def test_r_reads_ports_and_upstreams_across_a_rotation(
    storage: Storage, extensions: Path, shell: Shell, tmp_path: Path
) -> None:
    workspace = render(tmp_path, "in-r")
    granted = ("shop/orders/",)
    old = storage.key("in-r", granted)
    connect(workspace, storage.endpoint, extensions, old, ("daily-revenue",), granted)
    own = "SELECT DATE '2026-01-05' AS day, 210.40::DECIMAL(18, 2) AS revenue"
    upload(storage, "in-r/daily-revenue/data.parquet", own, tmp_path)
    quoted = HOSTILE.replace('"', '""')
    hostile = f"""SELECT 1 AS n, 'Café, "two"' AS "{quoted}" """
    upload(storage, "shop/orders/data.parquet", hostile, tmp_path)
    # What R sets for its own library would mislead Python; its locale may be anything.
    odd = shell.with_environ(LD_LIBRARY_PATH="/usr/lib/R/lib", LC_ALL="C.UTF-8")

    with odd.start("Rscript", "-e", READ, cwd=workspace) as process:
        assert process.stdout is not None
        lines = list(itertools.takewhile(lambda line: line != "waiting\n", process.stdout))
        write_key(workspace, storage.key("in-r", granted))
        storage.revoke(old)
        rest, _ = process.communicate("go on\n")

    said = dict(line.rstrip().split(" ", 1) for line in [*lines, *rest.splitlines()] if " " in line)
    assert said["inputs"] == '"shop__orders"'
    assert said["port"] == (
        'structure(list(day = "2026-01-05", revenue = 210.4), class = "data.frame",'
        " row.names = c(NA, -1L))"
    )
    assert HOSTILE.replace('"', '\\"') in said["names"]
    assert said["upstream"] == r'"Café, \"two\""'
    assert "seven = 7L" in said["query"]
    assert said["country"] == 'c("NA", NA)'
    assert said["nothing"] == "0L"
    assert said["revoked"].startswith("upstream.shop__secret is no input of this product")
    assert said["told"] == '"told"'
    assert said["text"] == '"it\'s upstream.x"'
    assert said["commented"].startswith("upstream.shop__secret is no input of this product")
    assert said["empty"] == (
        f"there is nothing in s3://{BUCKET}/in-r/not-yet/data.parquet yet. Where not-yet is an"
        " output port of this product, `sqlmesh plan` fills it from the model gold.not_yet."
    )
    assert said["injected"] == "not the name of an input: see INPUTS.md"
    assert said["mistyped"].startswith("Parser Error: ")
    assert "\u2502" not in "".join(lines)
    assert said["rotated"] == "1L"


@pytest.mark.usefixtures("rscript")
def test_the_projects_profile_hides_no_profile_of_the_user(shell: Shell, tmp_path: Path) -> None:
    workspace = render(tmp_path, "in-r")
    (workspace / ".env").write_text("S3_BUCKET=lake\n")
    (tmp_path / ".Rprofile").write_text('mine <- "sourced"\n')
    at_home = shell.with_environ(HOME=str(tmp_path))
    show = 'cat(mine, Sys.getenv("S3_BUCKET"))'
    assert at_home.succeed("Rscript", "-e", show, cwd=workspace) == "sourced lake"
    inside = shell.with_environ(HOME=str(workspace))
    assert inside.succeed("Rscript", "-e", 'cat(Sys.getenv("S3_BUCKET"))', cwd=workspace) == "lake"
