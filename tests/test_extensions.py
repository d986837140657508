from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner import errors
from provisioner.workspace import extensions


def _binary(
    folder: Path, name: str, *, version: str = "v1.5.5", platform: str = "linux_amd64"
) -> Path:
    """Write what has an extension's footer: eight fields, the last first, and a signature."""
    fields = ["", "", "", "CPP", "827222f", version, platform, "4"]
    footer = b"".join(field.encode().ljust(32, b"\0") for field in fields)
    path = folder / f"{name}.duckdb_extension"
    path.write_bytes(b"\x7fELF" + os.urandom(1000) + footer + os.urandom(256))
    return path


def test_binaries_go_where_duckdb_looks(tmp_path: Path) -> None:
    binaries = [_binary(tmp_path, "httpfs"), _binary(tmp_path, "aws", platform="osx_arm64")]
    target = tmp_path / "a/b"
    before = os.umask(0o077)
    try:
        placed = extensions.fill(target, binaries)
    finally:
        os.umask(before)

    assert placed == (
        "v1.5.5/linux_amd64/httpfs.duckdb_extension",
        "v1.5.5/osx_arm64/aws.duckdb_extension",
    )
    assert [(target / rel).read_bytes() for rel in placed] == [b.read_bytes() for b in binaries]
    assert {
        stat.S_IMODE(path.stat().st_mode) for path in [target, *target.rglob("*")] if path.is_dir()
    } == {0o755}
    assert stat.S_IMODE((target / placed[0]).stat().st_mode) == 0o644


def test_what_is_there_already_is_left(tmp_path: Path) -> None:
    binary = _binary(tmp_path, "httpfs")
    [rel] = extensions.fill(tmp_path / "x", [binary])
    before = (tmp_path / "x" / rel).stat()

    assert extensions.fill(tmp_path / "x", [binary]) == (rel,)

    assert (tmp_path / "x" / rel).stat().st_ino == before.st_ino


def test_another_build_of_the_same_size_replaces_it(tmp_path: Path) -> None:
    [rel] = extensions.fill(tmp_path / "x", [_binary(tmp_path, "httpfs")])
    newer = _binary(tmp_path, "httpfs")

    extensions.fill(tmp_path / "x", [newer])

    assert (tmp_path / "x" / rel).read_bytes() == newer.read_bytes()
    assert len([path for path in (tmp_path / "x").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    ("version", "platform"),
    [("../v1", "linux_amd64"), ("v1.5.5", "../.."), ("", ""), ("v1.5.5", "x")],
)
def test_what_is_no_extension_is_skipped(version: str, platform: str, tmp_path: Path) -> None:
    strange = _binary(tmp_path, "strange", version=version, platform=platform)
    short = tmp_path / "short.duckdb_extension"
    short.write_bytes(b"")

    assert extensions.fill(tmp_path / "x", [strange, short]) == ()
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(errors.DiskUnavailable):
        extensions.fill(tmp_path / "file", [_binary(tmp_path, "httpfs")])
    with pytest.raises(errors.DiskUnavailable):
        extensions.fill(tmp_path / "x", [tmp_path / "gone.duckdb_extension"])


@pytest.mark.workspace
def test_duckdb_loads_what_was_copied_from_the_wheels_offline(tmp_path: Path) -> None:
    pytest.importorskip("duckdb_extension_httpfs")
    target = tmp_path / "extensions"
    placed = extensions.fill(target, extensions.installed())
    script = f"""
import duckdb
c = duckdb.connect(config={{"extension_directory": {str(target)!r}}})
c.execute("SET autoinstall_known_extensions = false")
c.execute("LOAD httpfs")
c.execute("LOAD aws")
print(sorted(r[0] for r in c.execute(
    "SELECT extension_name FROM duckdb_extensions() WHERE loaded AND install_path LIKE ?",
    [{str(target)!r} + '%'],
).fetchall()))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert {Path(rel).name for rel in placed} >= {
        "aws.duckdb_extension",
        "httpfs.duckdb_extension",
    }
    assert ran.stdout == "['aws', 'httpfs']\n"


def test_looking_for_wheels_does_not_import_duckdb() -> None:
    script = (
        "import sys; from provisioner.workspace import extensions; extensions.installed();"
        "print('duckdb' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout == "False\n"
