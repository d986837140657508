"""Put the parts together: the only place where adapters meet ports.

Nothing is asked of anybody here: portal, S3 and IAM may all be down. What every command shares is
in `Parts`; `app` adds what runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from provisioner import (
    engine,
    errors,
    portal,
    ports,
    portviews,
    reading,
    s3,
    seal,
    sealing,
    store,
    telemetry,
    unwatched,
    workqueue,
    workspace,
)
from provisioner.domain import grants, plan, revival
from provisioner.issuers import choose, roles
from provisioner.loop import ledger, observer, reconciler, resync, reviving, worker
from provisioner.settings import Settings
from provisioner.steps import (
    adopt,
    credentials,
    finalizer,
    prefix,
    protocol,
    purge,
    rename,
    repository,
    retirement,
    role,
    writeback,
)
from provisioner.steps import template as template_step
from provisioner.steps import workspace as workspace_step
from provisioner.workspace import extensions
from provisioner.workspace import pushing as git

FINALIZER = "sqlmesh-provisioner"
_LEASE_SECONDS = 30.0
_log = telemetry.Log(__name__)


def utc_now() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What every command shares."""

    settings: Settings
    clock: ports.Clock
    metrics: telemetry.Metrics
    store: store.Store
    queue: workqueue.SqlWorkqueue
    portal: portal.HttpPortal
    issuer: ports.Issuer
    objects: s3.S3Store
    prober: ports.Prober
    remotes: git.GitRemotes
    reconciler: reconciler.Reconciler
    observer: observer.Observer
    readings: reading.Readings
    resync: resync.Resync
    template: template_step.TemplateStep

    @property
    def observes(self) -> bool:
        """Tell whether nothing may be touched."""
        return self.settings.mode.value == "observe"

    @property
    def works(self) -> worker.Reconciles:
        """Return what reconciles leased keys in this mode."""
        return self.observer if self.observes else self.reconciler

    @property
    def views(self) -> portviews.PortViews:
        """Return what shows output ports, their place as consumers see it."""
        return portviews.PortViews(
            contracts(self.settings, self.store),
            bucket=self.settings.s3_bucket,
            endpoint=self.settings.s3_public_endpoint,
        )

    def close(self) -> None:
        """End pushes that are still under way, and close what holds connections."""
        self.remotes.close()
        self.portal.close()
        self.store.close()


def assemble(
    settings: Settings,
    *,
    clock: ports.Clock = utc_now,
    kept: store.Store | None = None,
    checkpoint: Callable[[str], None] = reconciler.no_checkpoint,
) -> Parts:
    """Build every part, on the store of the settings unless another is given.

    Raise `ConfigurationError` where settings and store do not fit.
    """
    metrics = telemetry.Metrics()
    if kept is None:
        kept = store.open_store(settings.database_url, sealing.source(settings), clock=clock)
    queue = workqueue.SqlWorkqueue(kept.database, clock=clock, lease_seconds=_LEASE_SECONDS)
    reader = portal.HttpPortal(
        base_url=settings.dpp_api_url,
        api_key=settings.dpp_api_key,
        oauth_client=_oauth_client(settings),
    )
    objects = engine.objects(settings)
    issuer = engine.issuer(settings, objects, clock=clock)
    prober = s3.S3Prober(
        endpoint=settings.s3_endpoint, region=settings.s3_region, bucket=settings.s3_bucket
    )
    template = _template_step(settings)
    remotes = git.GitRemotes(output=settings.template_output_path, remote=_remote(settings))
    steps = _steps(
        settings,
        template=template,
        remotes=remotes,
        dpp=reader,
        records=kept.records,
        issuer=issuer,
        objects=objects,
        prober=prober,
    )
    readings = reading.Readings(
        portal=reader,
        records=kept.records,
        asks=kept.asks,
        contracts=contracts(settings, kept),
        rules=_rules(settings),
        clock=clock,
        template=template.follows(
            automatically=settings.template_updates.value == "auto", clock=clock
        ),
        restored_at=lambda: kept.flags.get(revival.RESTORED_AT),
    )
    reconciles = reconciler.Reconciler(
        readings=readings,
        records=kept.records,
        links=kept.links,
        asks=kept.asks,
        flags=kept.flags,
        queue=queue,
        ledger=ledger.Ledger(
            records=kept.records,
            contracts=kept.contracts,
            clock=clock,
            ports_seconds=settings.ports_seconds,
        ),
        steps=steps,
        clock=clock,
        metrics=metrics,
        reviving=reviving.Reviving(
            objects=objects,
            folders=template.workspaces,
            issuer=issuer,
            clock=clock,
            grace_seconds=settings.rotation_grace_seconds,
        ),
        verify_hours=settings.verify_hours,
        checkpoint=checkpoint,
    )
    return Parts(
        settings=settings,
        clock=clock,
        metrics=metrics,
        store=kept,
        queue=queue,
        portal=reader,
        issuer=issuer,
        objects=objects,
        prober=prober,
        remotes=remotes,
        reconciler=reconciles,
        observer=observer.Observer(readings, steps=steps, clock=clock),
        readings=readings,
        resync=resync.Resync(
            portal=reader,
            desires=readings,
            digests=kept.records,
            queue=queue,
            flags=kept.flags,
            metrics=metrics,
            at_once=settings.workers,
        ),
        template=template,
    )


def contracts(settings: Settings, kept: store.Store) -> ports.Contracts:
    """Return what is known of output ports; no verdicts where nobody looks at them."""
    if settings.ports_seconds:
        return kept.contracts
    return unwatched.UnwatchedContracts(kept.contracts)


def scratch_store(folder: Path) -> store.Store:
    """Open an empty store for a command that must leave no trace."""
    sealed = seal.load_or_create(folder / "sealing.key", may_create=True)
    return store.open_store(f"sqlite:///{folder}/scratch.db", sealed, clock=utc_now)


def _oauth_client(settings: Settings) -> portal.OAuthClient | None:
    """Return who we are at the token endpoint; the settings come all together or not at all."""
    if not (settings.dpp_client_id and settings.dpp_client_secret and settings.dpp_token_url):
        return None
    return portal.OAuthClient(
        client_id=settings.dpp_client_id,
        client_secret=settings.dpp_client_secret,
        token_url=settings.dpp_token_url,
        scope=settings.dpp_scope,
    )


def _rules(settings: Settings) -> plan.Rules:
    around = _surroundings(settings)
    return plan.Rules(
        bucket=settings.s3_bucket,
        scope=grants.Scope(settings.grant_scope.value),
        allowed_locations=settings.allowed_locations,
        finalizer=FINALIZER,
        ready_lifecycle=settings.ready_lifecycle,
        fingerprint=plan.digest(
            [vars(around), settings.role_name, settings.role_trust_policy, settings.verify_hours]
        ),
    )


def _surroundings(settings: Settings) -> workspace_step.Surroundings:
    return workspace_step.Surroundings(
        endpoint=settings.s3_public_endpoint,
        bucket=settings.s3_bucket,
        region=settings.s3_region,
        root=str(settings.workspace_root),
        extension_directory=str(settings.duckdb_extension_directory),
        portal_url=settings.dpp_api_url,
        local_root=str(settings.local_root) if settings.local_root else None,
        local_endpoint=settings.s3_local_endpoint,
        choices=settings.template_context,
    )


def _role_step(settings: Settings, issuer: ports.Issuer) -> role.RoleStep:
    """Keep roles where they are asked for, and otherwise delete those that we made."""
    wanted = None
    if settings.role_name and settings.role_trust_policy:
        wanted = role.Wanted(template=settings.role_name, trust=settings.role_trust_policy)
    return role.RoleStep(
        roles.IamRoles(engine.iam(settings, settings.iam_endpoint)),
        wanted,
        bucket=settings.s3_bucket,
        engine=lambda: choose.kind(issuer),
    )


def _template_step(settings: Settings) -> template_step.TemplateStep:
    folders = workspace.CookiecutterWorkspaces(
        output=settings.template_output_path,
        template=settings.template_path,
        uid=settings.workspace_uid,
        gid=settings.workspace_gid,
        remote=_remote(settings),
    )
    within = workspace_step.WorkspaceStep(
        folders, _surroundings(settings), pushes=settings.git_remote is not None
    )
    return template_step.TemplateStep(folders, within)


def _steps(
    settings: Settings,
    *,
    template: template_step.TemplateStep,
    remotes: git.GitRemotes,
    dpp: portal.HttpPortal,
    records: ports.Records,
    issuer: ports.Issuer,
    objects: ports.ObjectStore,
    prober: ports.Prober,
) -> tuple[protocol.Step, ...]:
    """List the steps in the order in which they make; they release backwards."""
    bucket = settings.s3_bucket
    folders = template.workspaces
    purges = settings.on_delete.value == "purge"
    return (
        purge.PurgeStep(
            objects,
            folders,
            delay_seconds=settings.purge_delay_seconds if purges else None,
        ),
        finalizer.FinalizerStep(dpp, FINALIZER),
        rename.RenameStep(objects, folders, grace_seconds=settings.rotation_grace_seconds),
        prefix.PrefixStep(objects, bucket),
        credentials.CredentialsStep(
            issuer,
            prober,
            bucket=bucket,
            rotation=credentials.Rotation(
                days=settings.rotation_days, on_grant=settings.rotate_on_grant
            ),
        ),
        template.within,
        _role_step(settings, issuer),
        retirement.RetirementStep(issuer, grace_seconds=settings.rotation_grace_seconds),
        writeback.LifecycleStep(dpp, lifecycle=settings.ready_lifecycle),
        writeback.AssetStep(dpp, bucket=bucket),
        template,
        adopt.AdoptStep(objects, folders, issuer, records=records, portal=dpp),
        rename.FormerStep(objects, records, bucket=bucket),
        repository.RepositoryStep(remotes, jitter=random.random),
    )


def _remote(settings: Settings) -> git.Remote | None:
    """Return where first commits go, if they go anywhere."""
    if settings.git_remote is None:
        return None
    return git.Remote(pattern=settings.git_remote, basic_auth=settings.git_basic_auth)


def prepare(parts: Parts) -> None:
    """Do what serving needs once: become the one that serves, fill DuckDB's extensions, warn."""
    settings = parts.settings
    if not parts.store.database.acquire():
        raise errors.ConfigurationError(
            ("PROV_DATABASE_URL: a service or a command works on this SQLite database",)
        )
    for name in settings.unknown:
        _log.warning("unknown setting ignored", setting=name)
    sealing.warn(settings)
    if settings.extensions_are_ours and not parts.observes:
        extensions.fill(settings.duckdb_extension_directory, extensions.installed())
