"""Complete and check settings against each other and against the machine.

Runs once every setting has been read by itself. What depends on another setting is filled in
here; what only makes sense together is refused here, one line for each setting.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from provisioner.settings import types
from provisioner.settings.source import Findings, absolute

_SHARED_EXTENSIONS = Path("/opt/duckdb/extensions")
_OAUTH = ("PROV_DPP_CLIENT_ID", "PROV_DPP_CLIENT_SECRET", "PROV_DPP_TOKEN_URL")
_CAP_CHOWN, _CAP_DAC_OVERRIDE = 1 << 0, 1 << 1


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the rules need to know of the process and the machine."""

    uid: int
    groups: frozenset[int]
    gives_files_away: bool
    """Whether the process may change a file's owner to anybody (CAP_CHOWN)."""
    opens_any_folder: bool
    """Whether the process may write where only another owner may (CAP_DAC_OVERRIDE)."""
    shared_extensions: Path = _SHARED_EXTENSIONS
    """Where an image keeps DuckDB's extensions for everybody."""
    git: bool = True
    """Whether there is a git."""


def this_machine() -> Machine:
    """Describe the running process."""
    return Machine(
        uid=os.geteuid(),
        groups=frozenset({os.getegid(), *os.getgroups()}),
        gives_files_away=_has(_CAP_CHOWN),
        opens_any_folder=_has(_CAP_DAC_OVERRIDE),
        git=shutil.which("git") is not None,
    )


def _has(capability: int, status: Path = Path("/proc/self/status")) -> bool:
    """Look among the effective capabilities; without such a file root alone has them."""
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return os.geteuid() == 0
    held = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(held, 16) & capability)


def complete(findings: Findings, *, cwd: Path, machine: Machine, serving: bool) -> None:
    """Fill in what depends on other settings and note what does not fit together."""
    _portal_access(findings)
    if serving:
        _proof(findings)
    _template(findings)
    _folders(findings, machine)
    _owner(findings, machine)
    _remote(findings, machine)
    _engine(findings)
    _roles(findings)
    _locations(findings)
    _store(findings, cwd)


def _portal_access(findings: Findings) -> None:
    """Take an API key or a whole OAuth client, never both or half of one."""
    started = {*_OAUTH, "PROV_DPP_SCOPE"} & findings.given
    if started and "PROV_DPP_API_KEY" in findings.given:
        findings.refuse("PROV_DPP_API_KEY", f"to be set alone, without {sorted(started)[0]}")
    for name in _OAUTH:
        if started and name not in findings.given:
            findings.refuse(name, f"to be set, as {sorted(started)[0]} is")


def _proof(findings: Findings) -> None:
    """Refuse to start where nothing could prove a delivery, unless that is asked for."""
    proofs = {"PROV_WEBHOOK_SECRET", "PROV_WEBHOOK_BASIC_AUTH"}
    if proofs & findings.given or "PROV_ALLOW_UNSIGNED" in findings.problems:
        return
    if not findings.values["allow_unsigned"]:
        findings.refuse(
            "PROV_WEBHOOK_SECRET",
            "a secret, unless PROV_WEBHOOK_BASIC_AUTH is set or PROV_ALLOW_UNSIGNED is true",
        )


def _template(findings: Findings) -> None:
    """Take the shipped template where none is named, and see that it is one."""
    values = findings.values
    values["template_path"] = template = values["template_path"] or shipped_template()
    if not _is_file(template / "cookiecutter.json"):
        findings.refuse("PROV_TEMPLATE_PATH", "a folder that holds cookiecutter.json")


def shipped_template() -> Path:
    """Return the template inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "templates" / "sqlmesh"
    return installed if installed.is_dir() else package.parent / "templates" / "sqlmesh"


def _folders(findings: Findings, machine: Machine) -> None:
    """Derive the folders that workspaces see from the one that we write."""
    values = findings.values
    output: Path = values["template_output_path"]
    if _exists(output) and not _is_dir(output):
        findings.refuse("PROV_TEMPLATE_OUTPUT_PATH", "a folder, or a path at which to make one")
    values["workspace_root"] = values["workspace_root"] or output
    if values["duckdb_extension_directory"] is None:
        shared = machine.shared_extensions
        own = output / ".provisioner" / "duckdb"
        values["duckdb_extension_directory"] = shared if _holds_extensions(shared) else own
    plain = {
        "PROV_WORKSPACE_ROOT": values["workspace_root"],
        "PROV_LOCAL_ROOT": values["local_root"],
        "PROV_DUCKDB_EXTENSION_DIRECTORY": values["duckdb_extension_directory"],
    }
    for name, path in plain.items():
        # A default, and the folder in front of a relative path, have met no parser yet.
        try:
            types.plain_path(str(path or "/"))
        except types.Unfit as exc:
            findings.refuse(name, str(exc))


def _owner(findings: Findings, machine: Machine) -> None:
    """Refuse an owner to whom this process cannot give files, or whose folders it cannot open."""
    uid, gid = findings.values["workspace_uid"], findings.values["workspace_gid"]
    lacks = [] if machine.gives_files_away else ["CAP_CHOWN"]
    lacks += [] if machine.opens_any_folder else ["CAP_DAC_OVERRIDE"]
    if uid not in {None, machine.uid} and lacks:
        expected = f"the uid of this process, which lacks {' and '.join(lacks)}"
        findings.refuse("PROV_WORKSPACE_UID", expected)
    if gid is not None and gid not in machine.groups and not machine.gives_files_away:
        findings.refuse("PROV_WORKSPACE_GID", "a group of this process, which lacks CAP_CHOWN")


def _remote(findings: Findings, machine: Machine) -> None:
    """Take a git remote only where there is a git to push with."""
    if "PROV_GIT_REMOTE" in findings.given and not machine.git:
        findings.refuse("PROV_GIT_REMOTE", "the program git on this machine")


def _engine(findings: Findings) -> None:
    """Derive endpoints, and take both halves of the admin key or none."""
    values = findings.values
    for name, other in (("S3_ACCESS_KEY", "S3_SECRET_KEY"), ("S3_SECRET_KEY", "S3_ACCESS_KEY")):
        if name not in findings.given and other in findings.given:
            findings.refuse(name, f"to be set, as {other} is")
    endpoint = values["s3_endpoint"]
    if values["s3_public_endpoint"] is None:
        values["s3_public_endpoint"] = endpoint or f"https://s3.{values['s3_region']}.amazonaws.com"
    values["iam_endpoint"] = values["iam_endpoint"] or endpoint
    for name in ("S3_PUBLIC_ENDPOINT", "S3_LOCAL_ENDPOINT"):
        if "[" in (values[name.lower()] or ""):
            findings.refuse(name, "a host name or IPv4 address: it goes into .env")


def _roles(findings: Findings) -> None:
    """Take roles only where somebody may assume them, and IAM may keep them."""
    if "PROV_ROLE_NAME" not in findings.given:
        return
    if "PROV_ROLE_TRUST_POLICY" not in findings.given:
        findings.refuse("PROV_ROLE_TRUST_POLICY", "to be set, as PROV_ROLE_NAME is")
    if findings.values["issuer"] not in {types.Issuer.AUTO, types.Issuer.IAM}:
        findings.refuse("PROV_ROLE_NAME", "PROV_ISSUER to be iam, or auto that finds it")


def _locations(findings: Findings) -> None:
    """Refuse a pattern that could open, in our own bucket, the prefix of a product to come."""
    own = f"{findings.values['s3_bucket']}/"
    ours = [each for each in findings.values["allowed_locations"] if each.startswith(own)]
    if any(set("*?") & set(each.split("/")[1]) for each in ours):
        findings.refuse("PROV_ALLOWED_LOCATIONS", "no wildcard in the first folder of S3_BUCKET")


def _store(findings: Findings, cwd: Path) -> None:
    """Make the file of a SQLite store absolute; name the file of the sealing keys."""
    values = findings.values
    url: str = values["database_url"] or ""
    if url.startswith("sqlite:///"):
        file = absolute(Path(url.removeprefix("sqlite:///")), cwd)
        values["database_url"] = f"sqlite:///{file}"
    file_of_keys = findings.files.get("PROV_SEALING_KEYS", Path("secrets/sealing.key"))
    as_text = values["sealing_keys"] and "PROV_SEALING_KEYS" not in findings.files
    values["sealing_key_file"] = None if as_text else absolute(file_of_keys, cwd)


def _holds_extensions(folder: Path) -> bool:
    """Tell whether DuckDB would find anything there; an empty folder would end every plan."""
    try:
        return any(folder.rglob("*.duckdb_extension"))
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    """Tell whether a file can be seen; what we may not look at, we cannot use."""
    try:
        return path.is_file()
    except OSError:
        return False


def _is_dir(path: Path) -> bool:
    """Tell whether a folder can be seen."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _exists(path: Path) -> bool:
    """Tell whether anything is there; what we may not look at is."""
    try:
        return path.exists()
    except OSError:
        return True
