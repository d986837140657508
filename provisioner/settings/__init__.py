"""Hold what is set, read from the environment once, at the start.

Nothing else in the program looks at the environment. The rows, their defaults and texts are in
`table`; how text is found is in `source`, what it may be in `types`, what
depends on what in `rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provisioner import errors
from provisioner.settings import rules, source, table, types

SETTINGS = table.SETTINGS
_SECRETS = frozenset(each.attribute for each in SETTINGS if each.secret)


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """Hold every setting by its lower-case name without `PROV_`; secrets stay out of its repr."""

    dpp_api_url: str
    dpp_api_key: str | None
    dpp_client_id: str | None
    dpp_client_secret: str | None
    dpp_token_url: str | None
    dpp_scope: str | None
    webhook_secret: tuple[str, ...]
    webhook_basic_auth: str | None
    allow_unsigned: bool
    template_path: Path
    template_output_path: Path
    template_updates: types.TemplateUpdates
    template_context: tuple[tuple[str, str], ...]
    workspace_root: Path
    local_root: Path | None
    s3_local_endpoint: str | None
    workspace_uid: int | None
    workspace_gid: int | None
    git_remote: str | None
    git_basic_auth: str | None
    duckdb_extension_directory: Path
    s3_endpoint: str | None
    s3_access_key: str | None
    s3_secret_key: str | None
    s3_public_endpoint: str
    iam_endpoint: str | None
    s3_bucket: str
    s3_region: str
    s3_create_bucket: bool
    issuer: types.Issuer
    grant_scope: types.GrantScope
    allowed_locations: tuple[str, ...]
    role_name: str | None
    role_trust_policy: str | None
    rotation_days: int
    rotation_grace_seconds: int
    rotate_on_grant: bool
    ready_lifecycle: str
    on_delete: types.OnDelete
    purge_delay_seconds: int
    database_url: str
    sealing_keys: tuple[str, ...]
    workers: int
    resync_seconds: int
    verify_hours: int
    ports_seconds: int
    history_days: int
    mode: types.Mode
    shutdown_seconds: int
    admin_token: tuple[str, ...]
    admin_read_token: tuple[str, ...]
    log_level: types.LogLevel
    log_format: types.LogFormat
    host: str
    port: int

    sealing_key_file: Path | None
    """Where the sealing keys lie, or one is made; None where they are set as text."""
    unknown: tuple[str, ...] = ()
    """`PROV_` names in the environment that are no settings: typing errors, to be warned of."""

    def __repr__(self) -> str:
        """Show all but secrets."""
        shown = (f"{k}={v!r}" for k, v in vars(self).items() if k not in _SECRETS)
        return f"Settings({', '.join(shown)})"

    @property
    def extensions_are_ours(self) -> bool:
        """Tell whether the folder of DuckDB's extensions is the one that we fill at start."""
        ours = self.template_output_path / ".provisioner"
        return self.duckdb_extension_directory.is_relative_to(ours)


def load(
    environ: Mapping[str, str],
    *,
    cwd: Path,
    serving: bool = True,
    machine: rules.Machine | None = None,
) -> Settings:
    """Read every setting, or raise `errors.ConfigurationError` with a line for each wrong one.

    Relative paths are taken from `cwd`. A command that receives no deliveries is not `serving`
    and needs no proof for them.
    """
    findings = source.read(SETTINGS, environ, cwd)
    unknown = source.unknown(SETTINGS, environ)
    rules.complete(findings, cwd=cwd, machine=machine or rules.this_machine(), serving=serving)
    if findings.problems:
        lines = (findings.problems.get(each.name) for each in SETTINGS)
        # What is missing may well be there under a name with a typing error.
        slips = (f"{name}: nothing reads a setting of this name" for name in unknown)
        raise errors.ConfigurationError((*(line for line in lines if line), *slips))
    return Settings(**findings.values, unknown=unknown)
