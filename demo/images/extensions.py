"""Bake DuckDB's extensions into an image: copy them out of installed wheels, then load each.

Runs once, while an image is built, with the Python of its environment:

    /opt/venv/bin/python extensions.py /opt/duckdb/extensions

DuckDB finds an extension only below a folder of its own version, and needs no network then.
"""

import sys
import sysconfig
from pathlib import Path

import duckdb


def bake(target: Path) -> list[str]:
    """Install every extension that a wheel holds into `target`; return their names."""
    site = Path(sysconfig.get_path("purelib"))
    binaries = sorted(site.glob("duckdb_extension_*/extensions/*/*.duckdb_extension"))
    with duckdb.connect(config={"extension_directory": str(target)}) as connection:
        for binary in binaries:
            connection.execute(f"INSTALL '{binary}'")
    return [binary.name.removesuffix(".duckdb_extension") for binary in binaries]


def load(target: Path, names: list[str]) -> None:
    """Load each by its name alone, as a workspace without a network does."""
    for name in names:
        with duckdb.connect(
            config={"extension_directory": str(target), "autoinstall_known_extensions": "false"}
        ) as connection:
            connection.execute(f"LOAD {name}")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    baked = bake(folder)
    if "httpfs" not in baked:
        raise SystemExit("no wheel holds httpfs, without which nothing reaches S3")
    load(folder, baked)
    print("baked:", *baked)  # noqa: T201 - what the build shows
