"""The scripts that prepare and start the composed demo do what they say; each is really run."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from provisioner.workspace import claims
from tests.dockerfiles import SERVICE_IMAGE
from tests.prepared_demo import DEMO, OWNERS, SERVICES, Prepared, init_environment, prepare

if TYPE_CHECKING:
    from tests.database_server import Server

pytest_plugins = ["tests.database_server"]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepare(tmp_path / "demo")


@pytest.mark.parametrize("name", ["init.sh", "postgresql.sh", "portal.sh"])
def test_scripts_can_be_started(name: str) -> None:
    path = DEMO / name
    (shell,) = re.findall(r"^#!/bin/(\w+)\n", path.read_text(encoding="utf-8"))
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.stat().st_mode & 0o111


def test_secrets_are_there_for_their_reader_alone(prepared: Prepared) -> None:
    for path in prepared.secrets.rglob("*"):
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o755
        else:
            owner = OWNERS[path.parent.name]
            assert stat.S_IMODE(path.stat().st_mode) == 0o400
            assert prepared.owners[str(path)] == f"{owner}:{owner}"
    assert OWNERS["provisioner"] == OWNERS["editors"] == SERVICE_IMAGE.last("USER").split(":")[0]


def test_known_secrets_are_the_known_ones_and_all_others_are_random(prepared: Prepared) -> None:
    texts = prepared.texts
    known = {"minioadmin", "demo-secret-key", "portal:demo-secret-key"}
    random = {name: text for name, text in texts.items() if text not in known}
    assert {name for name in texts if name not in random} == {
        "rustfs/access_key",
        "rustfs/secret_key",
        "provisioner/s3_access_key",
        "provisioner/s3_secret_key",
        "provisioner/webhook_secret",
        "provisioner/webhook_basic_auth",
        "portal/webhook_secret",
    }
    assert all(re.fullmatch("[0-9a-f]{48}", text) for text in random.values())
    assert texts["postgresql/portal_password"] == texts["portal/db_password"]
    assert texts["postgresql/sqlmesh_password"] == texts["editors/pgpassword"]
    assert len(set(random.values())) == len(random) - 2


def test_a_second_start_keeps_every_secret(prepared: Prepared) -> None:
    before, times = prepared.texts, {p: p.stat().st_mtime_ns for p in prepared.secrets.rglob("*")}
    (prepared.products / claims.PRIVATE / "store").write_text("kept", encoding="utf-8")
    prepared.owners.clear()

    assert prepared.run(**init_environment()).returncode == 0

    assert prepared.texts == before
    assert {p: p.stat().st_mtime_ns for p in prepared.secrets.rglob("*")} == times
    assert (prepared.products / claims.PRIVATE / "store").read_text(encoding="utf-8") == "kept"
    # Nothing is given anew but the folder itself.
    assert prepared.owners == {str(prepared.products): "1000:1000"}


def test_a_start_that_was_stopped_half_way_is_completed(prepared: Prepared) -> None:
    before = prepared.texts
    (prepared.secrets / "editors" / "pgpassword").unlink()
    (prepared.secrets / "portal" / "db_password").unlink()
    (prepared.secrets / "portal" / "db_password.new").write_text("half", encoding="utf-8")

    assert prepared.run(**init_environment()).returncode == 0

    assert prepared.texts == before


def test_the_products_folder_and_the_services_own_are_given_to_it(prepared: Prepared) -> None:
    own = prepared.products / claims.PRIVATE
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert prepared.owners[str(own)] == "1000:1000"
    assert prepared.owners[str(prepared.products)] == "1000:1000"


def test_a_link_in_place_of_the_services_own_folder_stops_the_start(prepared: Prepared) -> None:
    own = prepared.products / claims.PRIVATE
    own.rmdir()
    own.symlink_to(prepared.secrets)
    done = prepared.run(**init_environment())
    assert done.returncode == 1
    assert "is a link" in done.stderr


# What an editor's container does with its mounts, and what a user may try in it.
EDITOR = """
set -e
mount --bind "$1" "$3" && mount --bind "$2" "$3/.provisioner"
mount -o remount,bind,ro "$3/.provisioner"
cd "$3"
as() {
  setpriv --reuid 1000 --regid 1000 --clear-groups --no-new-privs --inh-caps=-all "$@" 2>&1 || true
}
for try in "cat .provisioner/store" "mv .provisioner x" "rmdir .provisioner" \
  "touch .provisioner/y" "umount $3/.provisioner"
do
  as $try | sed 's/.*: //'
done
echo ready
read -r _
as ls -A . .provisioner
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder whose path anybody may walk, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="prov-demo-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.engine
def test_an_empty_volume_hides_the_services_own_folder_and_hinders_no_rename(
    open_folder: Path,
) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        reason = "mounts cannot be tried here: it takes root and CAP_SYS_ADMIN"
        (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)(reason)
    products, empty, seen = (open_folder / name for name in ("products", "empty", "seen"))
    staged = products / claims.PRIVATE / "staging" / "sales"
    for folder in (staged, empty, seen):
        folder.mkdir(parents=True)
    (products / claims.PRIVATE / "store").write_text("hidden", encoding="utf-8")
    for path in (products, *products.rglob("*")):
        os.chown(path, 1000, 1000)
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", EDITOR, "sh"]
        + [str(path) for path in (products, empty, seen)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as editor:
        assert editor.stdin is not None
        assert editor.stdout is not None
        tried = list(iter(editor.stdout.readline, "ready\n"))
        staged.rename(products / "sales")
        seen_then, _ = editor.communicate("\n", timeout=10)
    assert [line.strip() for line in tried] == [
        "No such file or directory",
        "Device or resource busy",
        "Device or resource busy",
        "Read-only file system",
        "must be superuser to unmount.",
    ]
    assert seen_then.split() == [".:", ".provisioner", "sales", ".provisioner:"]


class Portal:
    """Start the portal's script with programs that write down how they were called."""

    def __init__(self, prepared: Prepared, folder: Path) -> None:
        self._said = folder / "said"
        self._environment = {
            "PATH": f"{folder}:/usr/bin:/bin",
            "SECRETS": str(prepared.secrets / "portal"),
            "STATE": str(folder),
        }
        for name in ("python", "uvicorn"):
            program = folder / name
            program.write_text(
                f'#!/bin/sh\necho "{name} $* $POSTGRES_PASSWORD $WEBHOOK_SECRET" >> {self._said}\n'
                'case "$*" in *"$FAILING"*) exit 1;; esac\n',
                encoding="utf-8",
            )
            program.chmod(0o755)

    def start(self, *, failing: str = "nothing") -> list[str]:
        """Return what was called."""
        self._said.write_text("", encoding="utf-8")
        subprocess.run(
            [*SERVICES["portal"]["command"][:1], DEMO / "portal.sh"],
            env=self._environment | {"FAILING": failing},
            capture_output=True,
            check=False,
        )
        return self._said.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def portal(prepared: Prepared, tmp_path: Path) -> Portal:
    folder = tmp_path / "portal"
    folder.mkdir()
    return Portal(prepared, folder)


def test_the_portal_is_filled_once(portal: Portal, prepared: Prepared) -> None:
    secrets = f"{prepared.texts['portal/db_password']} demo-secret-key"
    migrate = f"python -m app.db_tool migrate {secrets}"
    fill = f"python -m app.db_tool seed sample_data.sql {secrets}"
    serve = f"uvicorn app.main:app --host 0.0.0.0 --port 5050 {secrets}"
    assert portal.start(failing="seed") == [migrate, fill]
    assert portal.start() == [migrate, fill, serve]
    assert portal.start() == [migrate, serve]
    assert portal.start(failing="migrate") == [migrate]


@pytest.mark.engine
def test_postgresql_gets_a_database_for_each_that_the_other_cannot_enter(
    postgresql: Server, prepared: Prepared
) -> None:
    with postgresql.connect() as connection:
        host = connection.info.host

    def run(secrets: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DEMO / "postgresql.sh"],
            env={
                "PATH": os.environ["PATH"],
                "SECRETS": str(secrets),
                "PGHOST": host,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    refused = run(prepared.secrets / "rustfs")
    assert (refused.returncode, "is missing" in refused.stderr) == (1, True)
    done = run(prepared.secrets / "postgresql")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    try:
        client = SERVICES["coder"]["environment"]
        assert (client["PGUSER"], client["PGDATABASE"]) == ("sqlmesh", "sqlmesh")
        own = SERVICES["portal"]["environment"]
        assert (own["POSTGRES_USER"], own["POSTGRES_DB"]) == ("portal", "portal")
        for name in ("sqlmesh", "portal"):
            with psycopg.connect(host=host, user=name, dbname=name) as connection:
                connection.execute("CREATE SCHEMA a")
                connection.execute("CREATE TABLE b (c int)")
        for user, database in (
            ("sqlmesh", "portal"),
            ("portal", "sqlmesh"),
            ("portal", "postgres"),
        ):
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                psycopg.connect(host=host, user=user, dbname=database)
        with postgresql.connect() as connection:
            stored = connection.execute(
                "SELECT count(*) FROM pg_authid"
                " WHERE rolname IN ('sqlmesh', 'portal') AND rolpassword LIKE 'SCRAM-%'"
                " AND NOT rolsuper AND NOT rolcreaterole AND NOT rolcreatedb"
            ).fetchone()
        assert stored == (2,)
    finally:
        for name in ("sqlmesh", "portal"):
            postgresql.drop(name)
            with postgresql.connect() as connection:
                connection.execute(f"DROP ROLE {name}")
