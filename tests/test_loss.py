"""Lose the sealing key at any instant: the key in `.env` works on until its successor is there."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from provisioner import model
from provisioner.domain import loss
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import MARKETING, SALES, MemoryWorld
from tests.test_crash import (
    Change,
    a_world,
    approve,
    create,
    effects_of,
    grow_old,
    leak,
    outlive_grace,
    revoke,
    rotate,
)

GRACE = timedelta(seconds=w.GRACE_SECONDS)
STORIES: dict[str, tuple[list[Change], Change]] = {
    "create": ([], create),
    "approve": ([create], approve),
    "rotate": ([approve], grow_old),
    "rotate while a key retires": ([create, approve], rotate),
    "end a grace": ([create, approve], outlive_grace),
}
CASES = [
    pytest.param(
        story, we_choose, number, id=f"{story}-{'ours' if we_choose else ''}-{number}-{effect}"
    )
    for story, (before, change) in STORIES.items()
    for we_choose in (False, True)
    for number, effect in enumerate([*effects_of(before, change, we_choose=we_choose), "nothing"])
]


def stopped(before: list[Change], change: Change, fatal: int, *, we_choose: bool) -> MemoryWorld:
    """Return a world in which the process ended before an effect."""
    world = a_world(before, change, we_choose=we_choose)
    passed = 0

    def stop(effect: str) -> None:
        nonlocal passed
        passed += 1
        if passed > fatal:
            raise w.Killed

    world.checkpoint = stop
    try:
        world.reconcile(MARKETING)
    except w.Killed:
        world.restart()
    return world


def lose(world: MemoryWorld) -> None:
    """Do to the record what a start without the sealing key does, where there is a secret."""
    record = world.store.records.load(MARKETING)
    if record is None:
        return
    world.store.queue.touch([MARKETING], model.Priority.EVENT)
    lease = world.store.queue.lease("loss")
    assert lease is not None
    forgotten = loss.without_secrets(record, now=world.clock(), grace=GRACE)
    world.store.records.save(forgotten, lease)
    world.store.queue.done(lease, model.Outcome(key=MARKETING, status="done"))


def settle_watched(world: MemoryWorld) -> list[timedelta]:
    """Reconcile until all is at rest; return when the key in `.env` was found dead, if ever."""
    began, dead = world.clock(), []

    def watch(effect: str) -> None:
        published = world.published_key("marketing")
        if published is not None and not world.issuer.knows(published):
            dead.append(world.clock() - began)

    world.checkpoint = watch
    for _ in range(60):
        outcome = world.reconcile(MARKETING)
        if outcome.status == "done" and not world.record(MARKETING).credentials.retiring:
            return dead
        world.clock.advance(300)
    raise AssertionError("never settled")


def env_is_ahead(world: MemoryWorld) -> bool:
    """Tell whether a crash kept the store from noting which key `.env` got."""
    record = world.store.records.load(MARKETING)
    published = world.published_key("marketing")
    noted = record.workspace.published_key_id if record else ""
    return bool(noted and published and published.id != noted)


@pytest.mark.parametrize("room", [2, 9], ids=["two keys", "many keys"])
@pytest.mark.parametrize(("story", "we_choose", "fatal"), CASES)
def test_a_loss_at_any_instant_ends_with_one_new_key_and_no_dead_moment(
    story: str, we_choose: bool, fatal: int, room: int
) -> None:
    world = stopped(*STORIES[story], fatal, we_choose=we_choose)
    world.issuer.max_live_keys = room
    before = world.published_key("marketing")
    # Two keys, no room for a third, and nobody knows which is in use: one of them must go.
    cornered = room == 2 and env_is_ahead(world)
    lose(world)
    dead = settle_watched(world)
    assert all(after >= timedelta(hours=1) for after in dead) if cornered else dead == []
    published = world.published_key("marketing")
    assert published is not None
    assert published != before
    assert published == world.record(MARKETING).credentials.current
    assert world.may("marketing", "s3:GetObject", "marketing/x")
    principal = world.issuer.held[world.record(MARKETING).credentials.principal]
    assert set(principal.keys) == {published.id}


def a_record(published: str = "K1", **held: object) -> model.Record:
    credentials = model.Credentials(
        principal="dp-sales-1",
        generation=3,
        current=model.AccessKey("K1", "hush"),
        issued_at=b.NOW - timedelta(days=3),
        policy_digest="p",
        grants_digest="g",
    )
    return model.Record(
        key=SALES,
        namespace="sales",
        prefix=True,
        credentials=dataclasses.replace(credentials, **held),  # type: ignore[arg-type]
        workspace=model.WorkspaceState(published_key_id=published, published_digest="d"),
        settled_digest="s",
    )


def lost(record: model.Record) -> model.Record:
    return loss.without_secrets(record, now=b.NOW, grace=GRACE)


def test_all_but_secrets_is_kept() -> None:
    found = lost(a_record())
    assert found == dataclasses.replace(
        a_record(current=None, retiring=(model.Retiring(key_id="K1"),)),
        settled_digest="",
    )


def test_an_intent_stays_so_that_the_key_it_made_is_cleared_away() -> None:
    pending = model.Pending(intent_at=b.NOW, key=model.AccessKey("K2", "hush"), made=True)
    found = lost(a_record(pending=pending)).credentials
    assert found.pending == model.Pending(intent_at=b.NOW)
    assert found.retiring == (model.Retiring(key_id="K1"),)


DATED = b.NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("published", "retiring", "expected"),
    [
        pytest.param("K1", {"K0": DATED}, {"K0": DATED, "K1": None}, id="a date stays"),
        pytest.param("K1", {"K0": None}, {"K0": b.NOW + GRACE, "K1": None}, id="replaced"),
        pytest.param("K0", {"K0": None}, {"K0": None, "K1": b.NOW + GRACE}, id="unpublished"),
        pytest.param("", {}, {"K1": None}, id="first"),
    ],
)
def test_only_the_key_that_env_names_is_left_without_a_last_day(
    published: str, retiring: dict[str, object], expected: dict[str, object]
) -> None:
    keys = tuple(model.Retiring(key_id=k, delete_after=v) for k, v in retiring.items())  # type: ignore[arg-type]
    found = lost(a_record(published, retiring=keys)).credentials.retiring
    assert {key.key_id: key.delete_after for key in found} == expected


def test_a_product_without_keys_has_none_to_lose() -> None:
    found = lost(a_record("", current=None)).credentials
    assert (found.current, found.pending, found.retiring) == (None, None, ())


def test_a_leak_that_was_reported_before_the_key_was_made_does_not_kill_it() -> None:
    effects = effects_of([create], leak, we_choose=False)
    world = stopped([create], leak, len(effects) - 1, we_choose=False)
    assert model.Ask.COMPROMISED in world.store.asks.of(MARKETING)
    lose(world)
    assert settle_watched(world) == []


def test_a_leak_that_is_reported_after_the_loss_kills_what_leaked() -> None:
    world = a_world([create], approve)
    lose(world)
    leaked = world.published_key("marketing")
    assert leaked is not None
    world.clock.advance(1)
    leak(world)
    world.settle(MARKETING)
    assert not world.issuer.knows(leaked)
    assert world.may("marketing", "s3:GetObject", "marketing/x")


def test_after_a_loss_a_revocation_still_waits_for_nothing() -> None:
    world = a_world([approve], revoke)
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")
    lose(world)
    world.folders._claims["marketing"] = b.FINANCE
    world.reconcile(MARKETING)
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")
    assert world.may("marketing", "s3:GetObject", "marketing/x")
