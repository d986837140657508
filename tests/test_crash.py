"""Stop at every single effect, start again, and expect the same world as if nothing had happened.

All the while the key in `.env` of a live product must work: that is looked at before each effect.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest

from provisioner import model
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import MARKETING, SALES, MemoryWorld

Change = Callable[[MemoryWorld], None]


def create(world: MemoryWorld) -> None:
    world.portal.put(b.a_consumer_view())


def approve(world: MemoryWorld) -> None:
    world.portal.put(b.a_consumer_view(b.a_link()))


def revoke(world: MemoryWorld) -> None:
    world.portal.put(b.a_consumer_view(b.a_link(model.LinkStatus.REVOKED)))


def grow_old(world: MemoryWorld) -> None:
    world.clock.advance(31 * 86400)


def archive(world: MemoryWorld) -> None:
    world.portal.change(MARKETING, status=model.ProductStatus.ARCHIVED)


def activate(world: MemoryWorld) -> None:
    world.portal.change(MARKETING, status=model.ProductStatus.ACTIVE)


def delete(world: MemoryWorld) -> None:
    world.portal.delete(MARKETING)


def outlive_grace(world: MemoryWorld) -> None:
    world.clock.advance(w.GRACE_SECONDS + 1)


def rotate(world: MemoryWorld) -> None:
    world.clock.advance(60)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)


def leak(world: MemoryWorld) -> None:
    world.clock.advance(60)
    world.store.asks.ask([MARKETING], model.Ask.COMPROMISED)


def rename(world: MemoryWorld) -> None:
    world.objects.objects["marketing/x"] = b"1"
    world.portal.change(MARKETING, namespace="campaigns")


def rename_back(world: MemoryWorld) -> None:
    world.objects.objects["campaigns/x"] = b"1"
    world.portal.change(MARKETING, namespace="marketing")


def move_data(world: MemoryWorld) -> None:
    world.objects.objects["campaigns/x"] = world.objects.objects.pop("marketing/x")
    outlive_grace(world)


def leave_remains(world: MemoryWorld) -> None:
    world.objects.claim("marketing", b.FINANCE)
    world.objects.objects["marketing/x"] = b"1"
    world.folders.put("marketing", "thesis.txt", "mine")


def adopt(world: MemoryWorld) -> None:
    approve(world)
    world.store.asks.ask([MARKETING], model.Ask.ADOPT)


def improve_template(world: MemoryWorld) -> None:
    world.folders.put("marketing", "b.sql", "mine\n")
    world.folders.template = {"README.md": "# {project_name}, anew\n", "b.sql": "new\n"}
    world.folders.digest = "template-2"


def resolve(world: MemoryWorld) -> None:
    world.folders.put("marketing", "b.sql", "new\n")


def ask_for_upgrade(world: MemoryWorld) -> None:
    world.clock.advance(60)
    world.store.asks.ask([MARKETING], model.Ask.UPGRADE)


def purge(world: MemoryWorld) -> None:
    for number in range(5):
        world.objects.objects[f"marketing/{number}"] = b"1"
    world.store.asks.ask([MARKETING], model.Ask.PURGE)


STORIES: dict[str, tuple[list[Change], Change]] = {
    "create": ([], create),
    "create with a grant": ([], approve),
    "approve": ([create], approve),
    "revoke": ([approve], revoke),
    "rotate": ([approve], grow_old),
    "rotate because somebody asked": ([approve], rotate),
    "rotate while a key retires": ([create, approve], rotate),
    "kill keys that leaked": ([create, approve], leak),
    "end a grace": ([create, approve], outlive_grace),
    "archive": ([approve], archive),
    "activate again": ([approve, archive], activate),
    "delete": ([approve], delete),
    "rename": ([approve], rename),
    "rename back": ([approve, rename], rename_back),
    "give up an earlier prefix": ([approve, rename], move_data),
    "delete what was renamed": ([approve, rename], delete),
    "follow the template": ([create], improve_template),
    "resolve a conflict with it": ([create, improve_template], resolve),
    "upgrade because somebody asked": ([create], ask_for_upgrade),
    "adopt": ([leave_remains], adopt),
    "purge": ([approve, delete], purge),
    "purge what was renamed": ([approve, rename, delete], purge),
}


def a_world(before: list[Change], change: Change, *, we_choose: bool = False) -> MemoryWorld:
    world = MemoryWorld(w.a_producer(), chooses_key_ids=we_choose)
    world.settle(SALES)
    for each in before:
        each(world)
        world.settle(MARKETING)
    change(world)
    return world


def in_env(world: MemoryWorld) -> model.AccessKey | None:
    """Return the key of the workspace, wherever a rename has it."""
    return world.published_key("marketing") or world.published_key("campaigns")


def snapshot(world: MemoryWorld) -> dict[str, Any]:
    """Describe all that lasts, without what is random or dated."""
    record = world.record(MARKETING)
    published = in_env(world)
    return {
        "objects": world.objects.objects,
        "namespaces": record.namespaces,
        "purged": (record.purging, record.purged_at is not None),
        "principals": sorted(world.issuer.held),
        "policies": {n: p.document for n, p in world.issuer.held.items()},
        "keys": {n: len(p.keys) for n, p in world.issuer.held.items()},
        "files": {n: sorted(f.files) for n, f in world.folders.folders.items()},
        "archived": {n: sorted(f.files) for n, f in world.folders.archived.items()},
        "ports": [world.file(each, "ports.json") for each in ("marketing", "campaigns")],
        "published is current": published == record.credentials.current,
        "portal": {str(k): (v.product, v.assets) for k, v in world.portal.views.items()},
        "record": (record.phase, record.prefix, record.conditions, record.grants),
        "workspace": dataclasses.replace(
            record.workspace, published_digest="", published_key_id="", brought_at=None
        ),
        "retiring": len(record.credentials.retiring),
        "released": record.released_at is not None,
    }


def finish(world: MemoryWorld) -> None:
    """Let retries, strays and graces run out, so that the world is at rest."""
    world.settle(MARKETING)
    outlive_grace(world)
    world.settle(MARKETING)


@functools.cache
def undisturbed(story: str, we_choose: bool) -> dict[str, Any]:
    """Describe what lasts where nothing crashes."""
    expected = a_world(*STORIES[story], we_choose=we_choose)
    finish(expected)
    return snapshot(expected)


def effects_of(before: list[Change], change: Change, *, we_choose: bool) -> list[str]:
    world = a_world(before, change, we_choose=we_choose)
    seen: list[str] = []
    world.checkpoint = seen.append
    world.reconcile(MARKETING)
    return seen


CASES = [
    pytest.param(
        story, we_choose, number, id=f"{story}-{'ours' if we_choose else ''}-{number}-{effect}"
    )
    for story, (before, change) in STORIES.items()
    for we_choose in (False, True)
    for number, effect in enumerate(effects_of(before, change, we_choose=we_choose))
]


@pytest.mark.parametrize(("story", "we_choose", "fatal"), CASES)
def test_a_crash_before_any_effect_changes_nothing_in_the_end(
    story: str, we_choose: bool, fatal: int
) -> None:
    world = a_world(*STORIES[story], we_choose=we_choose)
    passed = 0

    def watch(effect: str) -> None:
        nonlocal passed
        published = in_env(world)
        retracting = world.portal.views.get(MARKETING)
        leaked = model.Ask.COMPROMISED in world.store.asks.of(MARKETING)
        alive = (
            not leaked and retracting and retracting.product.status is model.ProductStatus.ACTIVE
        )
        if published is not None and alive:
            assert world.issuer.knows(published), f"the key in .env is dead before {effect}"
        passed += 1
        if passed > fatal:
            raise w.Killed

    world.checkpoint = watch
    with pytest.raises(w.Killed):
        world.reconcile(MARKETING)
    world.restart()
    finish(world)
    assert snapshot(world) == undisturbed(story, we_choose)
    known = world.record(MARKETING).credentials.current
    others = {k for n, p in world.issuer.held.items() if "marketing" in n for k in p.keys}
    assert others == ({known.id} if known else set())


@pytest.mark.parametrize("change", [archive, delete])
@pytest.mark.parametrize("fatal", range(1, len(effects_of([], create, we_choose=False)) + 1))
def test_what_a_crash_left_half_made_is_released_too(fatal: int, change: Change) -> None:
    world = a_world([], create)
    passed = 0

    def watch(effect: str) -> None:
        nonlocal passed
        passed += 1
        if passed == fatal:
            raise w.Killed

    world.checkpoint = watch
    with pytest.raises(w.Killed):
        world.reconcile(MARKETING)
    world.restart()
    change(world)
    world.settle(MARKETING)
    assert world.file("marketing", ".env") is None
    assert [name for name in world.issuer.held if "marketing" in name] == []
    assert "marketing" not in world.folders.folders or change is archive


def test_there_is_a_crash_in_every_story() -> None:
    assert {case.values[0] for case in CASES} == set(STORIES)
    assert len(CASES) > 200
