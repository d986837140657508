"""Compare the whole portal with what we know, and queue what differs.

Nothing is retried by the portal, cascades are silent and grants expire without an event: this is
what makes up for all of it. For what is in order it only reads. A listing that fails or comes
back empty releases nothing, and neither does one that would release too much at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from provisioner import errors, model, ports, telemetry

WANTED, CONFIRMED, MASS_DELETION = "resync_wanted", "deletions_confirmed", "mass_deletion"
_TRIES = 5
_LONGEST_WAIT_SECONDS = 60.0
_ALWAYS_ALLOWED = 5
_ALLOWED_SHARE = 0.10
_Listed = Mapping[model.Key, model.ProductStatus]
_log = telemetry.Log(__name__)


class Desires(Protocol):
    """Compute what one product should have now."""

    def desired(
        self, key: model.Key, listed: Mapping[str, model.Product] | None = None
    ) -> model.Desired:
        """Read the portal, but for what was just listed; compute what the product should have."""


class Digests(Protocol):
    """Tell cheaply what was settled."""

    def digests(self) -> Mapping[model.Key, str]:
        """Return the settled digest of every product not yet released; "" where none is."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """How one resync ended."""

    listed: int
    queued: int
    vanished: int
    guarded: bool
    """The mass deletion guard held releases back."""


class Resync:
    """Find what no event told us."""

    def __init__(
        self,
        *,
        portal: ports.PortalReader,
        desires: Desires,
        digests: Digests,
        queue: ports.Workqueue,
        flags: ports.Flags,
        metrics: telemetry.Metrics,
        at_once: int = 1,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._at_once = at_once
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait
        self._portal = portal
        self._desires = desires
        self._digests = digests
        self._queue = queue
        self._flags = flags
        self._metrics = metrics

    def run(self) -> Report:
        """Compare once; raise `PortalUnavailable` where the portal cannot be read.

        Raise `Stopping` where `stop` was called; what was found until then is queued.
        """
        try:
            report = self._compare()
        except errors.Stopping:
            self._metrics.resyncs.labels("stopped").inc()
            _log.info("resync left in the middle: the service ends")
            raise
        except errors.ReconcileError as error:
            self._metrics.resyncs.labels("failed").inc()
            _log.warning("resync failed; nothing was released", reason=str(error))
            raise
        self._metrics.resyncs.labels("guarded" if report.guarded else "done").inc()
        _log.info("resync done", listed=report.listed, queued=report.queued)
        return report

    def stop(self) -> None:
        """Leave a resync that is under way, from any thread, and begin no other."""
        self._stopping.set()

    def _compare(self) -> Report:
        known = self._digests.digests()  # first: what is made meanwhile has not vanished
        pages = {each.id: each for each in self._portal.products()}
        products = {model.Key.product(each.id): each.status for each in pages.values()}
        explorations = self._explorations()
        listed = {**products, **(explorations or {})}
        going = {key for key in known if key.kind is model.Kind.PRODUCT and _leaves(key, products)}
        emptied = bool(going) and not products
        going |= self._leaving_explorations(known, explorations)
        confirmed = self._flags.get(CONFIRMED) is not None
        guarded = not (confirmed or self._is_harmless(len(going), len(known), empty=emptied))
        self._tell(guarded=guarded, going=len(going), known=len(known))
        staying = (key for key in sorted(listed) if key not in going)
        queued = self._queue_others(staying, known, pages)
        leaving = [] if guarded else sorted(going)  # each is confirmed by its own GET
        self._queue.touch(leaving, model.Priority.RESYNC)
        queued += len(leaving)
        if confirmed:
            # Good for one resync that ends well, needed or not: it was not meant for what
            # vanishes next year, and a person is not asked twice because the portal failed.
            self._flags.put(CONFIRMED, None)
        return Report(listed=len(listed), queued=queued, vanished=len(going), guarded=guarded)

    def _queue_others(
        self,
        keys: Iterable[model.Key],
        known: Mapping[model.Key, str],
        pages: Mapping[str, model.Product],
    ) -> int:
        """Queue what differs; also what was found until the portal failed. Return how many.

        Several products are compared side by side: a portal that is far away is waited for by
        all of them together, and one that is near computes while we do.
        """
        found: list[model.Key] = []
        asked: deque[tuple[model.Key, Future[bool]]] = deque()

        def hear() -> None:
            key, answer = asked.popleft()
            if answer.result():
                found.append(key)

        threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="resync")
        try:
            for key in keys:
                asked.append((key, threads.submit(self._patiently, key, known, pages)))
                if len(asked) > self._at_once:
                    hear()
            while asked:
                hear()
        finally:
            threads.shutdown(cancel_futures=True)
            self._queue.touch(found, model.Priority.RESYNC)
        return len(found)

    def _explorations(self) -> _Listed | None:
        """List explorations, None where the portal does not: products must not wait for that."""
        try:
            found = self._portal.explorations()
        except errors.ReconcileError as error:
            _log.warning("explorations not listed; none is released", reason=str(error))
            return None
        return {model.Key(model.Kind.EXPLORATION, each.id): each.status for each in found}

    def _leaving_explorations(
        self, known: Iterable[model.Key], listed: _Listed | None
    ) -> set[model.Key]:
        """Return known explorations that are going.

        A portal that knows no explorations lists none, too: then only those go of which the
        portal itself says that they are gone, and where it cannot say that, none.
        """
        if listed is None:
            return set()
        leaving = {
            key for key in known if key.kind is model.Kind.EXPLORATION and _leaves(key, listed)
        }
        if listed:
            return leaving
        try:
            return {key for key in sorted(leaving) if self._portal.view(key) is None}
        except errors.ReconcileError:
            return set()

    def _patiently(
        self, key: model.Key, known: Mapping[model.Key, str], pages: Mapping[str, model.Product]
    ) -> bool:
        """Compare one product; wait where the portal asks for it, rather than begin anew later.

        A portal that is asked for thousands of products may tell us more than once.
        """
        for _ in range(_TRIES):
            if self._stopping.is_set():
                raise errors.Stopping("the service ends")
            try:
                return self._differs(key, known, pages)
            except errors.RateLimited as limited:
                seconds = limited.delay_seconds or 1.0
                if seconds > _LONGEST_WAIT_SECONDS:
                    raise
                self._sleep(seconds)
        return self._differs(key, known, pages)

    def _differs(
        self, key: model.Key, known: Mapping[model.Key, str], pages: Mapping[str, model.Product]
    ) -> bool:
        """Tell whether the portal now wants something else than was settled.

        By the listed products, which saves a request for most; only where that differs, by their
        own pages: a portal that lists less than a page says must not have us work for nothing.
        """
        settled = known.get(key, "")
        if not settled:
            return True
        try:
            if self._desires.desired(key, pages).digest == settled:
                return False
            return self._desires.desired(key).digest != settled
        except errors.PermanentError:
            return True  # its own reconcile will say why
        except errors.RateLimited:
            raise
        except errors.TemporaryError:
            self._portal.products()  # raises where it is not this product alone that fails
            return True
        except Exception:  # what nobody foresaw of one must not hide what became of the others
            self._metrics.bugs.inc()
            _log.exception("unexpected error while comparing", key=str(key))
            return True

    def _is_harmless(self, going: int, known: int, *, empty: bool) -> bool:
        """Tell whether that many products may go without a person's word."""
        return not (going and (empty or going > max(_ALWAYS_ALLOWED, known * _ALLOWED_SHARE)))

    def _tell(self, *, guarded: bool, going: int, known: int) -> None:
        """Say whether releases are held back, for those who look and for single reconciles."""
        message = f"{going} of {known} products would be released" if guarded else None
        self._set_flag(MASS_DELETION, message)
        if guarded:
            _log.error("mass deletion held back: confirm it with provisioner resync", would=going)

    def _set_flag(self, name: str, value: str | None) -> None:
        if self._flags.get(name) != value:
            self._flags.put(name, value)


def _leaves(key: model.Key, listed: _Listed) -> bool:
    return key not in listed or listed[key] is model.ProductStatus.DELETING


def request(flags: ports.Flags, *, confirm_deletions: bool = False) -> None:
    """Ask whoever serves the store for a resync."""
    if confirm_deletions:  # first: the resync that is asked for next must see it
        flags.put(CONFIRMED, "yes")
    flags.put(WANTED, "yes")


def expand(portal: ports.PortalReader, lease: model.Lease) -> frozenset[model.Key]:
    """Return the consumers that the portal lists for the touched ports of a producer.

    The consumer of an approve call is named nowhere else. A portal that refuses to list them
    leaves the links that are stored and the next resync.
    """
    try:
        return _listed(portal, lease)
    except errors.PermanentError as error:
        _log.warning("the portal does not list consumers", reason=str(error))
        return frozenset()


def _listed(portal: ports.PortalReader, lease: model.Lease) -> frozenset[model.Key]:
    wanted = set(lease.ports)
    if "*" in wanted:
        view = portal.view(lease.key)
        wanted = {port.id for port in view.ports} if view else set()
    return frozenset(
        link.consumer for port in sorted(wanted) for link in portal.consumers(lease.key, port)
    )
