"""Serve the parts: the receiver, the status routes, and the crew of workers, as one application."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from provisioner import assembly, engine, model, ports, telemetry
from provisioner.domain import signature
from provisioner.edge import admin, receiver, status
from provisioner.loop import clockwork, fleet, portwatch, resync, sweep, worker
from provisioner.settings import Settings

if TYPE_CHECKING:
    from starlette import routing, types
    from starlette.applications import Starlette

_LAST_COMMIT_SECONDS = 6.0
"""What the last deliveries get to be stored: a little more than SQLite waits for its lock."""
_log = telemetry.Log(__name__)


def _proofs(settings: Settings) -> signature.Proofs:
    """Return what deliveries are checked against."""
    basic = (settings.webhook_basic_auth,) if settings.webhook_basic_auth else ()
    return signature.Proofs(
        sign_secrets=settings.webhook_secret,
        basic_auth=basic,
        allow_unsigned=settings.allow_unsigned,
    )


class Service:
    """Hold what runs: the receiver's batch and the crew; tell whether they are well."""

    def __init__(self, parts: assembly.Parts) -> None:
        self.parts = parts
        settings = parts.settings
        alone = parts.store.database.single_process
        self._turns: ports.Turns = clockwork.Alone() if alone else parts.store.turns
        self._resync_timer = clockwork.ResyncTimer(
            parts.resync.run,
            flags=parts.store.flags,
            clock=parts.clock,
            every_seconds=settings.resync_seconds,
            turns=self._turns,
        )
        self._sweep = sweep.Sweep(
            parts.issuer,
            records=parts.store.records,
            flags=parts.store.flags,
            clock=parts.clock,
            hours=settings.verify_hours,
            metrics=parts.metrics,
            turns=self._turns,
        )
        self._fleet = fleet.Fleet(
            parts.store.records,
            template=parts.template,
            clock=parts.clock,
            every_seconds=settings.resync_seconds,
            metrics=parts.metrics,
        )
        self._portwatch = portwatch.PortWatch(
            engine.published(settings),
            seen=parts.store.contracts,
            clock=parts.clock,
            every_seconds=settings.ports_seconds,
            metrics=parts.metrics,
        )
        timers = clockwork.Timers(
            queue=parts.queue,
            records=parts.store.records,
            history=parts.store.history,
            clock=parts.clock,
            history_days=settings.history_days,
            metrics=parts.metrics,
            queues_due=not parts.observes,
        )
        self._crew = worker.Crew(
            worker.Duty(
                queue=parts.queue,
                reconciler=parts.works,
                portal=parts.portal,
                metrics=parts.metrics,
                clock=parts.clock,
                wake=lambda: self._crew.wake(),
                on_lost=self._look_closely,
            ),
            workers=settings.workers,
            clockwork=self._clockwork(timers),
            shutdown_seconds=settings.shutdown_seconds,
            hears=lambda: self._wake_ups.hears,
        )
        self._wake_ups = parts.store.database.wake_ups
        parts.metrics.hearing.set_function(lambda: self._wake_ups.hears)
        self.receiver = receiver.Receiver(
            parts.store.inbox,
            _proofs(settings),
            clock=parts.clock,
            new_id=lambda: str(uuid.uuid4()),
            metrics=parts.metrics,
            on_changed=self._crew.wake,
        )

    def _clockwork(self, timers: clockwork.Timers) -> dict[str, Callable[[], object]]:
        """Return what is done every second; what only observes asks no engine."""
        ticks: dict[str, Callable[[], object]] = {
            "timers": timers.tick,
            "resync": self._resync_timer.tick,
            "fleet": self._fleet.tick,
            "turns": self._turns.keep,
        }
        if self.parts.observes:
            return ticks
        ticks["sweep"] = self._sweep.tick
        if self.parts.settings.ports_seconds:
            ticks["ports"] = self._portwatch.tick
        return ticks

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything until the block ends, then drain."""
        loop = asyncio.get_running_loop()
        threads = self.parts.settings.workers * 2 + 8
        executor = ThreadPoolExecutor(threads, thread_name_prefix="provisioner")
        loop.set_default_executor(executor)
        if self.parts.store.database.single_process:
            self.parts.queue.reap(all_owners=True)
        taking_in = asyncio.create_task(self.receiver.run(), name="receiver")
        self._crew.start()
        self._wake_ups.start(self._crew.wake)
        try:
            yield
        finally:
            self.parts.resync.stop()  # of thousands of products, it would take the whole grace
            await asyncio.gather(self._crew.stop(), asyncio.to_thread(self._wake_ups.close))
            taking_in.cancel()
            await asyncio.wait([taking_in], timeout=_LAST_COMMIT_SECONDS)
            # The loop waits for its executor when it closes, and a call may not end for minutes.
            executor.shutdown(wait=False, cancel_futures=True)
            loop.set_default_executor(ThreadPoolExecutor(1))

    def wake(self) -> None:
        """Tell the workers that something was queued."""
        self._crew.wake()

    def _look_closely(self, key: model.Key) -> None:
        """Have a product read back whose worker may have gone on for one call too many."""
        if not self.parts.observes:
            self.parts.store.asks.ask([key], model.Ask.VERIFY)

    def health(self) -> tuple[bool, Mapping[str, object]]:
        """Tell whether every task is alive."""
        alive = {
            **self._crew.alive(),
            "receiver": self.receiver.running,
            "wake-ups": self._wake_ups.alive,
        }
        return bool(alive) and all(alive.values()), {"tasks": alive}

    def ready(self) -> tuple[bool, Mapping[str, object]]:
        """Tell whether the store answers, the tasks run and the first resync was begun."""
        flags = self.parts.store.flags
        store_well = self.parts.store.database.healthy()
        facts: dict[str, object] = {
            "store": store_well,
            "workers": self.health()[0],
            "resync": self._resync_timer.begun,
        }
        well = all(facts.values())
        facts["issuer"] = self.parts.issuer.name
        notices = (resync.MASS_DELETION, sweep.FOREIGN) if store_well else ()
        said = {name: flags.get(name) for name in notices}
        return well, {**facts, **{name: text for name, text in said.items() if text}}


def create_app(parts: assembly.Parts) -> types.ASGIApp:
    """Build the ASGI application; it closes the parts when it ends."""
    from starlette.applications import Starlette

    service = Service(parts)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            async with service.running():
                yield
        finally:
            parts.close()

    application = Starlette(routes=routes(service), lifespan=lifespan)
    return service.receiver.before(application)


def routes(service: Service) -> list[routing.Route]:
    """Return every route that the service answers on."""
    parts = service.parts
    return [
        *service.receiver.routes(),
        *status.routes(health=service.health, ready=service.ready, metrics=parts.metrics),
        *admin.routes(
            records=parts.store.records,
            history=parts.store.history,
            queue=parts.queue,
            asks=parts.store.asks,
            flags=parts.store.flags,
            views=parts.views,
            clock=parts.clock,
            admin_tokens=parts.settings.admin_token,
            read_tokens=parts.settings.admin_read_token,
            wake=service.wake,
            observes=parts.observes,
        ),
    ]
