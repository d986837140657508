"""Do what the commands ask for, on the same parts as the service; `cli` only reads and prints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from provisioner import assembly, errors, model, names, portviews, settings, store, telemetry
from provisioner.domain import odcs
from provisioner.loop import observer, resync, sweep, worker
from provisioner.settings import rules
from provisioner.workspace import render

_log = telemetry.Log(__name__)

Progress = Callable[[Iterable[model.Key], str, int], Iterator[model.Key]]
"""Pass keys through while showing how far it is: (keys, title, how many)."""


@contextlib.contextmanager
def opened(read: settings.Settings, *, read_only: bool = False) -> Iterator[assembly.Parts]:
    """Open the parts for one command; read-only, a store that is not there is not made."""
    with contextlib.ExitStack() as stack:
        kept = None
        if read_only and not store.exists(read.database_url):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="provisioner-"))
            kept = assembly.scratch_store(Path(folder))
        parts = assembly.assemble(read, kept=kept)
        stack.callback(parts.close)
        yield parts


def previews(
    parts: assembly.Parts, name: str | None, progress: Progress
) -> tuple[observer.Preview, ...]:
    """Plan one product, or all that the portal lists, without any effect."""
    keys = _keys(parts, name)
    return tuple(parts.observer.preview(key) for key in progress(keys, "reading", len(keys)))


def records(parts: assembly.Parts, name: str | None) -> tuple[model.Record, ...]:
    """Return what the store knows of one product, or of all."""
    if name is None:
        return parts.store.records.known()
    found = _record(parts, name)
    if found is None:
        raise errors.PermanentError("the store knows no such product", name=ascii(name))
    return (found,)


def ports_of(
    parts: assembly.Parts, found: Sequence[model.Record]
) -> Mapping[model.Key, portviews.PortsOfProduct]:
    """Return what the store knows of the ports of products."""
    return {record.key: parts.views.of(record) for record in found}


def contracts(parts: assembly.Parts, name: str, port: str | None) -> Iterator[str]:
    """Write the data contracts of a product's output ports, or of one, as JSON."""
    (record,) = records(parts, name)
    return map(odcs.text, parts.views.contracts(record, port))


def _record(parts: assembly.Parts, name: str) -> model.Record | None:
    loaded = map(parts.store.records.load, _named_by_id(name))
    found = next((record for record in loaded if record is not None), None)
    return found or parts.store.records.by_namespace(name)


def _named_by_id(name: str) -> tuple[model.Key, ...]:
    """Return the keys that an id may stand for, a product first; none for a namespace."""
    try:
        return tuple(model.Key(kind, name.lower()) for kind in model.Kind)
    except ValueError:
        return ()


def _keys(parts: assembly.Parts, name: str | None) -> tuple[model.Key, ...]:
    """Resolve a namespace or id, by the portal first; all of the portal's where none is named."""
    if name is None:
        return tuple(_listed(parts))
    if ids := _named_by_id(name):
        return (_by_id(parts, ids),)
    for key, product in _listed(parts).items():
        if product.namespace == name:
            return (key,)
    known = parts.store.records.by_namespace(name)
    if known is None:
        raise errors.PermanentError(
            "neither portal nor store know such a product", name=ascii(name)
        )
    return (known.key,)


def _by_id(parts: assembly.Parts, ids: Sequence[model.Key]) -> model.Key:
    """Return what an id names: as the store knows it, as the portal does, else a product."""
    known = (key for key in ids if parts.store.records.load(key) is not None)
    found = next(known, None)
    return found or next((key for key in ids if key in _explorations(parts)), ids[0])


def _listed(parts: assembly.Parts) -> dict[model.Key, model.Product]:
    """List what the portal has, products before explorations: a namespace may be both."""
    products = {model.Key.product(each.id): each for each in parts.portal.products()}
    return {**products, **_explorations(parts)}


def _explorations(parts: assembly.Parts) -> dict[model.Key, model.Product]:
    """List explorations; products do not wait for a portal that refuses to."""
    try:
        found = parts.portal.explorations()
    except errors.PermanentError as error:
        _log.warning("the portal does not list explorations", reason=str(error))
        return {}
    return {model.Key(model.Kind.EXPLORATION, each.id): each for each in found}


def notices(parts: assembly.Parts) -> tuple[str, ...]:
    """Return what a person must know besides the products."""
    held_back = parts.store.flags.get(resync.MASS_DELETION)
    foreign = parts.store.flags.get(sweep.FOREIGN)
    said = []
    if held_back:
        allowed = "allow it by: provisioner resync --confirm-deletions"
        said.append(f"MassDeletion: {held_back}; {allowed}")
    if foreign:
        said.append(
            f"ForeignPrincipals: at the engine with our mark, of no product here: {foreign}"
        )
    return tuple(said)


def reconcile(
    parts: assembly.Parts, name: str | None, progress: Progress, *, verify: bool = False
) -> tuple[model.Outcome, ...]:
    """Queue products where a service is running; otherwise do the work here.

    `verify` has them looked at deep; raise `Conflict` for that in observe mode.
    """
    if verify and parts.observes:
        raise errors.Conflict("PROV_MODE=observe touches nothing")
    keys = _keys(parts, name)
    if verify:
        parts.store.asks.ask(keys, model.Ask.VERIFY)
    else:
        parts.queue.touch(keys, model.Priority.EVENT)
    if not serves(parts):
        return tuple(model.Outcome(key=key, status="queued") for key in keys)
    return tuple(work(parts, keys, progress, title="reconciling"))


def serves(parts: assembly.Parts) -> bool:
    """Become the one that works on this store; False where a service is."""
    if not parts.store.database.acquire():
        return False
    assembly.prepare(parts)
    if parts.store.database.single_process:
        parts.queue.reap(all_owners=True)
    return True


def namespaces(parts: assembly.Parts, outcomes: Iterable[model.Outcome]) -> Mapping[model.Key, str]:
    """Return the namespaces of what was reconciled, as far as the store knows them."""
    found = (parts.store.records.load(outcome.key) for outcome in outcomes)
    return {record.key: record.namespace for record in found if record is not None}


def ask_for_resync(parts: assembly.Parts, *, confirm_deletions: bool) -> bool:
    """Leave word for the service; leave none, and return False, where no service is."""
    database = parts.store.database
    if database.single_process and database.acquire():
        return False
    resync.request(parts.store.flags, confirm_deletions=confirm_deletions)
    return True


def work(
    parts: assembly.Parts, keys: tuple[model.Key, ...], progress: Progress, *, title: str
) -> Iterator[model.Outcome]:
    """Work off what is queued until every key had its turn; what is left waits for the service."""
    duty = worker.Duty(
        queue=parts.queue,
        reconciler=parts.works,
        portal=parts.portal,
        metrics=parts.metrics,
        clock=parts.clock,
    )
    waiting = set(keys)
    for key in progress(keys, title, len(keys)):
        while key in waiting:
            lease = parts.queue.lease(f"cli-{uuid.uuid4().hex[:8]}")
            if lease is None:  # another replica has it
                waiting.discard(key)
                yield model.Outcome(key=key, status="queued")
                break
            outcome = asyncio.run(worker.run(duty, lease))
            if lease.key in waiting:
                waiting.discard(lease.key)
                lost = model.Outcome(key=lease.key, status="retry", message="the lease was lost")
                yield outcome or lost


def as_json(
    found: Sequence[model.Record],
    seen: Mapping[model.Key, portviews.PortsOfProduct] | None = None,
) -> Iterator[str]:
    """Write records as JSON lines, with their ports where those are given, but no secret."""
    for record in found:
        held = record.credentials
        yield json.dumps(
            {
                "id": record.key.id,
                "kind": record.key.kind,
                "namespace": record.namespace,
                "phase": record.phase,
                "former": [each.namespace for each in record.former],
                "released": record.released_at is not None,
                "purged": record.purged_at is not None,
                "principal": held.principal,
                "key_id": held.current.id if held.current else None,
                "issued_at": held.issued_at and held.issued_at.isoformat(),
                "grants": [
                    {"access": grant.access, "location": f"s3://{place.bucket}/{place.prefix}"}
                    for grant in record.grants
                    for place in grant.locations
                ],
                "template": {
                    "digest": record.workspace.template_digest,
                    "name": record.workspace.template_name,
                    "conflicts": record.workspace.conflicts,
                },
                "conditions": {each.type: each.message for each in record.conditions},
                **({"ports": portviews.as_json(seen[record.key])} if seen else {}),
            },
            default=str,
        )


def template_folder(environ: Mapping[str, str], cwd: Path) -> Path:
    """Return the template that the settings name, or the shipped one."""
    return cwd / environ.get("PROV_TEMPLATE_PATH", str(rules.shipped_template()))


def render_into(
    folder: Path,
    *,
    template: Path,
    namespace: str,
    text: Mapping[str, str],
    choices: Mapping[str, str] | None = None,
) -> Path:
    """Render a template into `folder/<namespace>`, which must not be there yet."""
    names.check_namespace(namespace)
    target = folder / namespace
    if target.exists():
        raise errors.NotOurs("there is something in the way", path=target)
    context = {
        "project_name": namespace,
        "project_slug": names.identifier(namespace),
        "s3_endpoint": "http://127.0.0.1:9000",
        "s3_bucket": "data-products",
        "portal_url": "http://127.0.0.1:8080",
        "product_id": str(uuid.UUID(int=0)),
        "product_kind": model.Kind.PRODUCT.value,
    }
    made = render.Template(template).render(
        context, {"domain": "", "owners": "", **text}, choices or {}
    )
    target.mkdir(parents=True)
    for path in made.folders:
        (target / path).mkdir(exist_ok=True)
    for file in made.files:
        (target / file.path).write_bytes(file.data)
        if file.executable:
            (target / file.path).chmod(0o755)
    return target
