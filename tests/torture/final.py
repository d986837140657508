"""Make peace, and judge: everything acknowledged was done, and nothing is otherwise than it should.

In this order: what is owed is looked at before any resync may have made it up. Then the service
starts once more, people move the data of what was renamed, graces end, and the world is compared
with one that was made from scratch before the same portal.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from provisioner import assembly, model, operations, settings
from tests import census, engines, watching
from tests.acceptance.stand import ADMIN_TOKEN, Stand
from tests.torture import world
from tests.torture.fleet import Member
from tests.torture.load import HINT
from tests.torture.world import Place

if TYPE_CHECKING:
    from tests.torture.ordeal import Ordeal, Result

_PATIENCE_SECONDS = 150.0
_SOON = timedelta(seconds=90)
_NOT_THE_KEY = frozenset({"500", "503", "InternalError", "ServiceUnavailable", "SlowDown"})
"""What an engine answers that is in trouble itself."""


def wait(what: Callable[[], Sequence[str]], seconds: float = _PATIENCE_SECONDS) -> Sequence[str]:
    """Wait until nothing is left; return what is left when patience ends."""
    ends = time.monotonic() + seconds
    while left := what():
        if time.monotonic() > ends:
            return left
        time.sleep(0.2)
    return ()


# --- what is owed -------------------------------------------------------------------------------


def owed(ordeal: Ordeal, result: Result) -> None:
    """See that all that was acknowledged is done, by those that run, without any resync."""
    with ordeal.place() as place:
        left = wait(lambda: _queued(place))
        result.wrong += [f"still queued: {each}" for each in left]
        result.wrong += _unreconciled(ordeal, place)
        result.wrong += _forgotten(ordeal, place)


def _queued(place: Place) -> list[str]:
    waiting, running = place.parts.queue.depth()
    return [f"{waiting} waiting, {running} running"] if waiting or running else []


def _unreconciled(ordeal: Ordeal, place: Place) -> Iterator[str]:
    """Name products whose last reading, or outcome, is older than what was promised."""
    promised = dict(ordeal.acks.last)
    for link, at in ordeal.acks.by_link.items():
        if there := ordeal.state.links.get(link):
            promised[there.consumer_id] = max(at, promised.get(there.consumer_id, at))
    for product, at in promised.items():
        outcomes = place.parts.store.history.outcomes(model.Key.product(product), limit=1)
        if not outcomes or outcomes[0]["at"] < at:
            yield f"{product}: acknowledged {at}, last outcome {outcomes}"
        read_at = ordeal.reads.began.get(product)
        if read_at is None or read_at < at:
            yield f"{product}: acknowledged {at}, last read from the portal {read_at}"


def _forgotten(ordeal: Ordeal, place: Place) -> Iterator[str]:
    """Name products of which fewer deliveries are on disk than were acknowledged."""
    found, before = Counter[str](), None
    while page := place.parts.store.history.deliveries(limit=1000, before=before):
        before = page[-1]["row_id"]
        for each in page:
            if each["subject"] == HINT:
                found.update(each["touched"])
    for product, count in ordeal.acks.hints.items():
        if found[f"product:{product}"] < count:
            yield f"{product}: {count} acknowledged, {found[f'product:{product}']} on disk"


def count(watches: Sequence[watching.Watch], result: Result) -> None:
    """Count what clients saw."""
    for watch in watches:
        result.calls += watch.calls
        result.overtaken += watch.overtaken
        for failure in watch.failures:
            if failure.code not in _NOT_THE_KEY:
                result.dead += 1
                result.wrong.append(f"a dead key was seen: {failure}")


# --- peace --------------------------------------------------------------------------------------


def peace(ordeal: Ordeal, result: Result) -> None:
    """Start once more, in good order; let people tidy up, and all come to rest."""
    for member in ordeal.members:
        if code := member.end():
            result.wrong.append(f"ended by SIGTERM with {code}")
        result.wrong += [
            f"a bug: {e['traceback'][-800:]}" for e in member.said() if "traceback" in e
        ]
    ordeal.people.reactivate()
    compared = [_resyncs(member) for member in ordeal.members]
    for member in ordeal.members:
        member.start()
    for member in ordeal.members:
        member.wait_ready()
    with ordeal.place() as place:
        result.wrong += wait(lambda: _without_resync(ordeal.members, compared))
        result.wrong += [f"not at rest: {each}" for each in wait(lambda: _restless(place))]
        _move_data(ordeal, place)
        for product in ordeal.people.everybody:
            _verify(ordeal.members[0].url, product)
        result.wrong += [
            f"never at rest: {each}" for each in wait(lambda: _restless(place, moved=True))
        ]
    for member in ordeal.members:
        member.end()


def _resyncs(member: Member) -> int:
    return sum(event["event"] == "resync done" for event in member.said())


def _without_resync(members: Sequence[Member], before: list[int]) -> list[str]:
    """Tell whether none has compared the whole portal since all started: one does, for all."""
    if [_resyncs(member) for member in members] != before:
        return []
    return ["no resync since the last start"]


def _verify(url: str, product: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    asked = f"{url}/api/v1/products/{product}/reconcile?verify=true"
    httpx.post(asked, headers=headers, timeout=30).raise_for_status()


def _restless(place: Place, *, moved: bool = False) -> list[str]:
    """Name what is still to be done, now or soon."""
    soon, said = datetime.now(UTC) + _SOON, _queued(place)
    for record in place.records():
        held = record.credentials
        if record.next_at and record.next_at < soon:
            said.append(f"{record.key} looks again at {record.next_at}")
        if record.released_at is None and (held.pending or held.retiring or held.doubted):
            said.append(f"{record.key} changes keys: {held}")
        if record.released_at is None and not record.settled_digest:
            said.append(f"{record.key} is not settled: {record.conditions}")
        if moved and record.released_at is None and record.former:
            said.append(f"{record.key} has earlier prefixes: {record.former}")
    return said


def _move_data(ordeal: Ordeal, place: Place) -> None:
    """Empty the prefixes of earlier names, as teams do that have moved their data."""
    s3 = ordeal.engine.s3()
    for record in place.records():
        for former in record.former:
            prefix = f"{former.namespace}/"
            listed = s3.list_objects_v2(Bucket=place.bucket, Prefix=prefix).get("Contents", [])
            for each in listed:
                if not each["Key"].endswith("/.keep"):
                    s3.delete_object(Bucket=place.bucket, Key=each["Key"])


# --- the comparison -----------------------------------------------------------------------------


def compare(
    ordeal: Ordeal,
    stand: Stand,
    beside: engines.Engine,
    before: census.Census,
    folder: Path,
    result: Result,
) -> None:
    """Compare with a world made from scratch, and look for what nobody knows."""
    renamed = {each for each, names in ordeal.people.names.items() if len(names) > 1}
    with ordeal.place() as place:
        facts = world.describe(place, renamed)
        result.products = sum(record.released_at is None for record in place.records())
        living = [record for record in place.records() if record.released_at is None]
        found = census.take(ordeal.engine).since(before)
        wanted = census.expected(ordeal.engine, living)
        if found != wanted:
            result.wrong.append(f"at the engine: {found}, not {wanted}")
        result.wrong += _leftovers(stand.products, {record.key.id for record in place.records()})
        result.wrong += _unrotated(ordeal, living)
        for record in place.records():
            result.wrong += [f"{record.key}: condition {each}" for each in record.conditions]
            if record.key.id in ordeal.people.deleted and record.released_at is None:
                result.wrong.append(f"{record.key}: deleted, and not released")
    portal = _portal(ordeal)
    with _scratch(ordeal, stand, beside, folder) as scratch:
        result.wrong += world.differences(facts, world.describe(scratch, renamed))
    if (now := _portal(ordeal)) != portal:
        result.wrong.append(f"in the portal: {portal}, not {now}")


def _unrotated(ordeal: Ordeal, living: Sequence[model.Record]) -> Iterator[str]:
    """Name products whose key is older than a wish for a new one that was acknowledged."""
    for record in living:
        asked_at, issued_at = ordeal.acks.rotations.get(record.key.id), record.credentials.issued_at
        if asked_at and (issued_at is None or issued_at < asked_at):
            yield f"{record.key}: a new key was asked for at {asked_at}, issued at {issued_at}"


def _leftovers(products: Path, ids: set[str]) -> list[str]:
    """Name what is in the way of nobody and belongs to nobody."""
    private = products / ".provisioner"
    said = [f"left in staging: {path.name}" for path in private.glob("staging/*")]
    for path in (*private.iterdir(), *private.glob("turns/*"), *private.glob("archive/*")):
        name = path.name.partition(".")[0]
        if name.count("-") == 4 and name not in ids:
            said.append(f"of nobody: {path}")
    return said


def _portal(ordeal: Ordeal) -> dict[str, Any]:
    """Return what the service wrote there."""
    state = ordeal.state
    return {
        product.namespace: (
            product.status,
            product.lifecycle_id,
            tuple(product.finalizers),
            sorted(str(a.configuration) for a in state.assets.values() if a.product_id == id_),
        )
        for id_, product in state.products.items()
    }


@contextlib.contextmanager
def _scratch(ordeal: Ordeal, stand: Stand, beside: engines.Engine, folder: Path) -> Iterator[Place]:
    """Reconcile everything from scratch: new store, new folders, a new engine, the same portal."""
    folder.mkdir()
    environment = ordeal.members[0].environment | {
        "PROV_DPP_API_URL": stand.running.url,
        "PROV_DATABASE_URL": f"sqlite:///{folder}/store.db",
        "PROV_TEMPLATE_OUTPUT_PATH": str(folder / "products"),
        "S3_ENDPOINT": beside.endpoint,
        "S3_ACCESS_KEY": beside.access_key,
        "S3_SECRET_KEY": beside.secret_key,
    }
    parts = assembly.assemble(settings.load(environment, cwd=folder, serving=False))
    try:
        for _ in range(3):  # a grant on what was not there yet is made by the second
            outcomes = operations.reconcile(parts, None, lambda keys, title, total: iter(keys))
        assert all(each.status == "done" for each in outcomes), outcomes
        yield Place(engine=beside, bucket=stand.bucket, products=folder / "products", parts=parts)
    finally:
        parts.close()
