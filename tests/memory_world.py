"""A whole world in memory: portal, engine, folders and store, with the real reconciler in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from provisioner import model, reading, telemetry
from provisioner.domain import grants, plan, revival
from provisioner.loop import ledger, observer, portwatch, reconciler, resync, reviving, worker
from provisioner.steps import (
    adopt,
    credentials,
    finalizer,
    prefix,
    purge,
    rename,
    retirement,
    role,
    template,
    workspace,
    writeback,
)
from tests import builders as b
from tests import (
    memory_contracts,
    memory_portal,
    memory_roles,
    memory_s3,
    memory_store,
    memory_workspaces,
)

BUCKET = "lake"
GRACE_SECONDS = 3600
NEVER = 1_000_000
PORTS_SECONDS = 300


class Killed(BaseException):
    """End the process at this point; nothing in the program catches it."""


class MemoryWorld:
    """Reconcile against doubles; `checkpoint` sees the name of every effect before it happens."""

    def __init__(
        self,
        *views: model.PortalView,
        lifecycle: str = "Ready",
        scope: grants.Scope = grants.Scope.OUTPUT_PORT,
        allowed_locations: tuple[str, ...] = (),
        chooses_key_ids: bool = False,
        role_wanted: role.Wanted | None = None,
        purge_delay_seconds: int | None = None,
        verify_hours: int = NEVER,
        template_updates: bool = True,
    ) -> None:
        self.clock = memory_store.SettableClock(b.NOW)
        self.store = memory_store.MemoryStore(clock=self.clock)
        self.portal = memory_portal.MemoryPortal(*views)
        self.objects = memory_s3.MemoryObjectStore(BUCKET)
        self.issuer = memory_s3.MemoryIssuer(
            clock=self.clock, policy_limit=20_000, chooses_key_ids=chooses_key_ids
        )
        self.roles = memory_roles.MemoryRoles()
        self.prober = memory_s3.MemoryProber(self.issuer, BUCKET)
        self.folders = memory_workspaces.MemoryWorkspaces()
        self.effects: list[str] = []
        self.checkpoint: Callable[[str], None] = lambda effect: None
        self.metrics = telemetry.Metrics()
        self.role_step = role.RoleStep(self.roles, role_wanted, bucket=BUCKET)
        self.template_step = template.TemplateStep(
            self.folders, workspace.WorkspaceStep(self.folders, SURROUNDINGS)
        )
        self.steps = steps = (
            purge.PurgeStep(self.objects, self.folders, delay_seconds=purge_delay_seconds),
            finalizer.FinalizerStep(self.portal, "ours"),
            rename.RenameStep(self.objects, self.folders, grace_seconds=GRACE_SECONDS),
            prefix.PrefixStep(self.objects, BUCKET),
            credentials.CredentialsStep(
                self.issuer, self.prober, bucket=BUCKET, rotation=credentials.Rotation()
            ),
            self.template_step.within,
            self.role_step,
            retirement.RetirementStep(self.issuer, grace_seconds=GRACE_SECONDS),
            writeback.LifecycleStep(self.portal, lifecycle=lifecycle),
            writeback.AssetStep(self.portal, bucket=BUCKET),
            self.template_step,
            adopt.AdoptStep(
                self.objects,
                self.folders,
                self.issuer,
                records=self.store.records,
                portal=self.portal,
            ),
            rename.FormerStep(self.objects, self.store.records, bucket=BUCKET),
        )
        self.readings = readings = reading.Readings(
            portal=self.portal,
            records=self.store.records,
            asks=self.store.asks,
            contracts=self.store.contracts,
            rules=plan.Rules(
                bucket=BUCKET, scope=scope, allowed_locations=allowed_locations, finalizer="ours"
            ),
            clock=self.clock,
            template=self.template_step.follows(
                automatically=template_updates, clock=self.clock, look_every=timedelta(0)
            ),
            restored_at=lambda: self.store.flags.get(revival.RESTORED_AT),
        )
        self.observer = observer.Observer(readings, steps=steps, clock=self.clock)
        self.reconciler = reconciler.Reconciler(
            readings=readings,
            records=self.store.records,
            links=self.store.links,
            asks=self.store.asks,
            flags=self.store.flags,
            queue=self.store.queue,
            ledger=ledger.Ledger(
                records=self.store.records,
                contracts=self.store.contracts,
                clock=self.clock,
                ports_seconds=PORTS_SECONDS,
            ),
            steps=steps,
            clock=self.clock,
            metrics=self.metrics,
            reviving=reviving.Reviving(
                objects=self.objects,
                folders=self.folders,
                issuer=self.issuer,
                clock=self.clock,
                grace_seconds=GRACE_SECONDS,
            ),
            verify_hours=verify_hours,
            checkpoint=self._note,
        )
        self.resync = resync.Resync(
            portal=self.portal,
            desires=readings,
            digests=self.store.records,
            queue=self.store.queue,
            flags=self.store.flags,
            metrics=self.metrics,
        )
        self.published = memory_contracts.MemoryPublishedFiles(self.clock)
        self.portwatch = portwatch.PortWatch(
            self.published,
            seen=self.store.contracts,
            clock=self.clock,
            every_seconds=PORTS_SECONDS,
            metrics=self.metrics,
        )
        self.duty = worker.Duty(
            queue=self.store.queue,
            reconciler=self.reconciler,
            portal=self.portal,
            metrics=self.metrics,
            clock=self.clock,
        )

    def _note(self, effect: str) -> None:
        self.effects.append(effect)
        self.checkpoint(effect)

    def reconcile(self, key: model.Key) -> model.Outcome:
        """Reconcile one key once, as a worker does, after what waits before it."""
        self.store.queue.touch([key], model.Priority.EVENT)
        while True:
            self.effects.clear()
            lease = self.store.queue.lease("test")
            if lease is None:  # it rests, for it was touched while it ran
                self.clock.advance(1)
                continue
            outcome = worker.run_once(self.duty, lease, worker.Guard(lease, self.clock))
            if lease.key == key:
                return outcome

    def settle(self, key: model.Key) -> None:
        """Reconcile until nothing is left to do, waiting where a retry or a date asks for it."""
        for _ in range(20):
            outcome = self.reconcile(key)
            if outcome.status == "done" and not self.effects:
                return
            if outcome.status == "retry":
                self.clock.advance(61)
        raise AssertionError("never settled")

    def restart(self) -> None:
        """Do what a process does at its start: free the leases of the dead one."""
        self.checkpoint = lambda effect: None
        self.store.queue.reap(all_owners=True)

    def record(self, key: model.Key) -> model.Record:
        found = self.store.records.load(key)
        assert found is not None
        return found

    def file(self, namespace: str, path: str) -> str | None:
        folder = self.folders.folders.get(namespace)
        return folder.files.get(path) if folder else None

    def published_key(self, namespace: str) -> model.AccessKey | None:
        """Return the key that `.env` names."""
        text = self.file(namespace, ".env")
        if text is None:
            return None
        env = dict(line.split("=", 1) for line in text.splitlines())
        return model.AccessKey(env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"])

    def may(self, namespace: str, action: str, key: str) -> bool:
        """Tell whether the key in a workspace's `.env` may do something to an object."""
        published = self.published_key(namespace)
        return (
            published is not None
            and self.issuer.knows(published)
            and self.issuer.allowed(published.id, action, f"arn:aws:s3:::{BUCKET}/{key}")
        )

    def live_keys(self) -> set[str]:
        return {key for held in self.issuer.held.values() for key in held.keys}


SURROUNDINGS = workspace.Surroundings(
    endpoint="http://127.0.0.1:9000",
    bucket=BUCKET,
    region="us-east-1",
    root="/workspace/products",
    extension_directory="/opt/duckdb/extensions",
    portal_url="http://127.0.0.1:8080",
)
SALES, MARKETING = model.Key.product(b.SALES), model.Key.product(b.MARKETING)


def a_producer() -> model.PortalView:
    """Describe sales with its port."""
    return model.PortalView(product=b.a_product(), ports=(b.a_port(),))
