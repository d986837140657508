"""Look at everything a service needs; nothing that lasts is made but the bucket."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner import errors, operations
from provisioner.domain.findings import Finding, Verdict

if TYPE_CHECKING:
    from provisioner import assembly

_SKEW = timedelta(seconds=60)
"""Engines refuse signatures 15 minutes off; grants begin and end at midnight by our clock."""
_Told = tuple[Verdict, str]


def run(parts: assembly.Parts) -> Iterator[Finding]:
    """Yield a finding for everything but the engine's promises, which `scoping` tries."""
    for about, check in _CHECKS.items():
        yield _finding(about, lambda check=check: check(parts))  # type: ignore[misc]


def _finding(about: str, check: Callable[[], _Told]) -> Finding:
    try:
        verdict, told = check()
    except (errors.ProvisionerError, OSError) as error:
        verdict, told = Verdict.BAD, str(error) or type(error).__name__
    return Finding(about=about, verdict=verdict, told=told)


def _settings(parts: assembly.Parts) -> _Told:
    unknown = ", ".join(parts.settings.unknown)
    if unknown:
        return Verdict.DOUBTFUL, f"nothing reads {unknown}: a slip of the pen?"
    return Verdict.GOOD, "complete and consistent"


def _proofs(parts: assembly.Parts) -> _Told:
    read = parts.settings
    if read.allow_unsigned:
        return Verdict.DOUBTFUL, "PROV_ALLOW_UNSIGNED: anybody who reaches the port is believed"
    kinds = [
        kind
        for kind, given in (("Sign", read.webhook_secret), ("Basic", read.webhook_basic_auth))
        if given
    ]
    return Verdict.GOOD, f"deliveries prove themselves by {' or '.join(kinds)}"


def _store(parts: assembly.Parts) -> _Told:
    if not parts.store.database.healthy():
        return Verdict.BAD, "the database does not answer, or its tables are not ours"
    known = len(parts.store.records.digests())
    alone = parts.store.database.single_process
    return Verdict.GOOD, f"{'SQLite' if alone else 'PostgreSQL'}, migrated; {known} products known"


def _sealing(parts: assembly.Parts) -> _Told:
    seals = parts.store.seals()
    if seals.unopened:
        return Verdict.BAD, f"no key opens {seals.unopened} rows: see PROV_SEALING_KEYS"
    if seals.older:
        return (
            Verdict.DOUBTFUL,
            f"{seals.older} rows are sealed by an older key: provisioner reseal",
        )
    return Verdict.GOOD, f"the first key opens all {seals.first} sealed rows"


def _portal(parts: assembly.Parts) -> _Told:
    return Verdict.GOOD, f"answers, and lists {len(parts.portal.products())} products"


def _template(parts: assembly.Parts) -> _Told:
    with tempfile.TemporaryDirectory(prefix="provisioner-doctor-") as folder:
        made = operations.render_into(
            Path(folder),
            template=parts.settings.template_path,
            namespace="sales",
            text={"name": "Sales", "description": "{{ 7*7 }} [[ 7*7 ]]"},
            choices=dict(parts.settings.template_context),
        )
        files = sum(1 for path in made.rglob("*") if path.is_file())
    return Verdict.GOOD, f"renders {files} files"


def _output(parts: assembly.Parts) -> _Told:
    """Make a file as a workspace's are made: given away, synced, renamed within the file system."""
    read = parts.settings
    ours = read.template_output_path / ".provisioner"
    ours.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = ours / f"doctor-{uuid.uuid4().hex[:8]}"
    renamed = read.template_output_path / f".{draft.name}"
    try:
        with draft.open("xb") as file:
            file.write(b"provisioner")
            os.fchown(file.fileno(), _id(read.workspace_uid), _id(read.workspace_gid))
            os.fsync(file.fileno())
        draft.rename(renamed)
    finally:
        draft.unlink(missing_ok=True)
        renamed.unlink(missing_ok=True)
    return Verdict.GOOD, f"{read.template_output_path} can be written and renamed in"


def _id(given: int | None) -> int:
    return -1 if given is None else given


def _extensions(parts: assembly.Parts) -> _Told:
    folder = parts.settings.duckdb_extension_directory
    if parts.settings.extensions_are_ours:
        return Verdict.GOOD, "copied from installed wheels when the service starts"
    if not any(folder.rglob("*.duckdb_extension")):
        return Verdict.DOUBTFUL, f"{folder} holds none: workspaces need the internet to read S3"
    return Verdict.GOOD, f"found in {folder}"


def _engine(parts: assembly.Parts) -> _Told:
    parts.objects.ensure_bucket()
    return Verdict.GOOD, f"answers, and the bucket {parts.settings.s3_bucket} is ours"


def _clock(parts: assembly.Parts) -> _Told:
    theirs = parts.objects.time()
    if theirs is None:
        return Verdict.SKIPPED, "the engine does not tell its time"
    skew = abs(parts.clock() - theirs)
    told = f"{skew.total_seconds():.0f} s from the engine's"
    return (Verdict.GOOD if skew <= _SKEW else Verdict.BAD), told


def _issuer(parts: assembly.Parts) -> _Told:
    ours = len(parts.issuer.principals())
    return Verdict.GOOD, f"{parts.issuer.name}; {ours} principals bear our mark"


_CHECKS: dict[str, Callable[[assembly.Parts], _Told]] = {
    "settings": _settings,
    "webhook proofs": _proofs,
    "store": _store,
    "sealing keys": _sealing,
    "template": _template,
    "output folder": _output,
    "DuckDB extensions": _extensions,
    "portal": _portal,
    "S3 engine": _engine,
    "clock": _clock,
    "issuer": _issuer,
}
