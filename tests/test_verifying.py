"""Change things by hand behind our back: a deep look finds each, says so, and has it repaired."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from provisioner import errors, model, names, telemetry
from provisioner.loop import verifying, worker
from provisioner.steps import protocol, role
from tests import builders as b
from tests import memory_s3
from tests import memory_world as w
from tests.memory_world import MARKETING, SALES, MemoryWorld

PRINCIPAL = names.principal("marketing", b.MARKETING)
EVERYTHING = {"Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}]}
Break = Callable[[MemoryWorld], None]


@pytest.fixture(params=[False, True], ids=["engine-chooses", "we-choose"])
def world(request: pytest.FixtureRequest) -> MemoryWorld:
    return at_rest(we_choose=request.param)


def at_rest(*, we_choose: bool = False) -> MemoryWorld:
    """Make a world in which marketing reads a port of sales, and no key retires."""
    view = b.a_consumer_view(b.a_link())
    world = MemoryWorld(w.a_producer(), view, chooses_key_ids=we_choose, verify_hours=24)
    for key in (SALES, MARKETING):
        world.settle(key)
    world.clock.advance(600)
    return world


def principal(world: MemoryWorld) -> memory_s3._Principal:
    return world.issuer.held[PRINCIPAL]


def published(world: MemoryWorld) -> model.AccessKey:
    found = world.published_key("marketing")
    assert found is not None
    return found


def conditions(world: MemoryWorld) -> dict[str, str]:
    return {each.type: each.message for each in world.record(MARKETING).conditions}


def look_deep(world: MemoryWorld) -> model.Outcome:
    world.store.asks.ask([MARKETING], model.Ask.VERIFY)
    return world.reconcile(MARKETING)


def widen(world: MemoryWorld) -> None:
    principal(world).document = EVERYTHING


def empty(world: MemoryWorld) -> None:
    principal(world).document = {"Statement": []}


def attach(world: MemoryWorld) -> None:
    principal(world).extra.append(EVERYTHING)


def disable(world: MemoryWorld) -> None:
    principal(world).enabled = False


def delete_principal(world: MemoryWorld) -> None:
    del world.issuer.held[PRINCIPAL]


def delete_key(world: MemoryWorld) -> None:
    principal(world).keys.clear()


def disable_key(world: MemoryWorld) -> None:
    principal(world).keys[published(world).id].active = False


def change_secret(world: MemoryWorld) -> None:
    principal(world).keys[published(world).id].secret = "f" * 40


def add_key(world: MemoryWorld) -> None:
    principal(world).keys["AKIASOMEBODYELSES000"] = memory_s3._Key(
        secret="s" * 40, created_at=world.clock() - timedelta(minutes=5)
    )


def delete_mark(world: MemoryWorld) -> None:
    del world.objects.objects[".provisioner/owners/marketing.json"]


def delete_keep(world: MemoryWorld) -> None:
    del world.objects.objects["marketing/.keep"]


def delete_bucket(world: MemoryWorld) -> None:
    world.objects.there = False
    world.objects.objects.clear()


def edit_env(world: MemoryWorld) -> None:
    world.folders.put("marketing", ".aws/credentials", "mine")


def delete_file(world: MemoryWorld) -> None:
    del world.folders.folders["marketing"].files["ports.json"]


def delete_folder(world: MemoryWorld) -> None:
    del world.folders.folders["marketing"]


POLICY = "the policy was changed, or the principal disabled or gone (dp-marketing-00000000)"
GONE, STRAY = "the key in .env was gone", "a key that the store does not know was found"
MARK, KEEP = "the ownership mark of the prefix was gone", "the .keep of the prefix was gone"
FILES = "files of ours in the workspace were changed or gone (marketing)"
DRIFTS: dict[str, tuple[Break, tuple[str, ...]]] = {
    "policy widened": (widen, (POLICY,)),
    "policy emptied": (empty, (POLICY,)),
    "policy attached": (attach, (POLICY,)),
    "principal disabled": (disable, (POLICY,)),
    "principal deleted": (delete_principal, (POLICY, GONE)),
    "key deleted": (delete_key, (GONE,)),
    "key disabled": (disable_key, ("the key in .env was disabled",)),
    "secret changed": (change_secret, ("the key in .env did not work",)),
    "foreign key added": (add_key, (f"{STRAY}; it is let die (AKIASOMEBODYELSES000)",)),
    "mark deleted": (delete_mark, (f"{MARK} (marketing/)",)),
    "keep deleted": (delete_keep, (f"{KEEP} (marketing/)",)),
    "bucket deleted": (delete_bucket, (MARK, KEEP)),
    "secret file edited": (edit_env, (FILES,)),
    "plain file deleted": (delete_file, (FILES,)),
    "folder deleted": (delete_folder, ("the workspace was gone (marketing)",)),
}
KILLS_THE_KEY = ("policy emptied", "principal", "key deleted", "key disabled", "secret changed")


@pytest.mark.parametrize("drift", DRIFTS)
def test_what_somebody_changed_by_hand_is_found_said_and_repaired(
    world: MemoryWorld, drift: str
) -> None:
    before = dict(principal(world).document)
    break_it, sentences = DRIFTS[drift]
    break_it(world)
    assert look_deep(world).status == "done"
    message = conditions(world)["Drifted"]
    assert message.startswith("found and repaired: ")
    assert all(sentence in message for sentence in sentences)
    assert message.count("(") == len(sentences)
    assert principal(world).document == before
    assert (principal(world).extra, principal(world).enabled) == ([], True)
    assert world.issuer.knows(published(world))
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")
    assert world.may("marketing", "s3:PutObject", "marketing/x")
    assert "AKIASOMEBODYELSES000" not in principal(world).keys
    assert world.objects.owner("marketing") == b.MARKETING
    assert world.objects.kept("marketing/")
    assert world.file("marketing", "ports.json")
    assert world.store.asks.of(MARKETING) == {}
    assert world.record(MARKETING).verified_at == world.clock()


@pytest.mark.parametrize("drift", DRIFTS)
def test_what_is_repaired_stays_so(world: MemoryWorld, drift: str) -> None:
    DRIFTS[drift][0](world)
    look_deep(world)
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.settle(MARKETING)
    key = published(world)
    assert look_deep(world).status == "done"
    assert conditions(world) == {}
    assert published(world) == key
    assert len(principal(world).keys) == 1
    assert world.record(MARKETING).credentials.retiring == ()


@pytest.mark.parametrize("drift", [d for d in DRIFTS if not d.startswith(KILLS_THE_KEY)])
def test_the_key_in_env_works_while_other_things_are_repaired(
    world: MemoryWorld, drift: str
) -> None:
    key = published(world)
    DRIFTS[drift][0](world)

    def watch(effect: str) -> None:
        assert world.issuer.knows(key), f"dead before {effect}"

    world.checkpoint = watch
    look_deep(world)
    assert published(world) == key


def repair(drift: str) -> MemoryWorld:
    """Return a world in which something was changed by hand, and looked at."""
    world = at_rest()
    DRIFTS[drift][0](world)
    look_deep(world)
    return world


CRASHES = [
    pytest.param(drift, number, id=f"{drift}-{number}-{effect}")
    for drift in DRIFTS
    for number, effect in enumerate(repair(drift).effects)
]


@pytest.mark.parametrize(("drift", "fatal"), CRASHES)
def test_a_crash_while_repairing_changes_nothing_in_the_end(drift: str, fatal: int) -> None:
    whole, world = repair(drift), at_rest()
    DRIFTS[drift][0](world)
    passed = 0

    def stop(effect: str) -> None:
        nonlocal passed
        passed += 1
        if passed > fatal:
            raise w.Killed

    world.checkpoint = stop
    with pytest.raises(w.Killed):
        look_deep(world)
    world.restart()
    world.settle(MARKETING)
    assert world.record(MARKETING).drift == whole.record(MARKETING).drift
    assert world.issuer.knows(published(world))
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.settle(MARKETING)
    assert len(principal(world).keys) == 1


def test_a_widened_policy_is_narrowed_before_anything_else(world: MemoryWorld) -> None:
    widen(world)
    delete_mark(world)
    world.folders.folders.clear()
    look_deep(world)
    order = [effect for effect in world.effects if effect not in ("save", "verify")]
    assert order[0] == "put-policy"


def test_what_is_disabled_is_enabled_only_with_the_right_policy(world: MemoryWorld) -> None:
    disable(world)
    widen(world)

    def watch(effect: str) -> None:
        if effect == "ensure-principal":
            assert not world.may("marketing", "s3:GetObject", "sales/secret/x")
            assert principal(world).document != EVERYTHING

    world.checkpoint = watch
    look_deep(world)
    assert "ensure-principal" in world.effects
    assert world.may("marketing", "s3:GetObject", "sales/orders/x")


def test_a_widened_policy_is_narrowed_although_nothing_else_can_be_looked_at(
    world: MemoryWorld,
) -> None:
    widen(world)
    world.objects.down = True
    assert look_deep(world).status == "retry"
    assert not world.may("marketing", "s3:GetObject", "sales/secret/x")
    assert set(conditions(world)) == {"Drifted", "StorageUnavailable"}


def test_a_mark_that_names_somebody_else_is_said_and_takes_nothing(world: MemoryWorld) -> None:
    mark = ".provisioner/owners/marketing.json"
    world.objects.objects[mark] = b.FINANCE.encode()
    assert look_deep(world).status == "done"
    named = "found: the ownership mark of the prefix names somebody else (marketing/)"
    assert conditions(world) == {"Drifted": named}
    assert world.objects.objects[mark] == b.FINANCE.encode()
    assert world.record(MARKETING).prefix
    assert world.may("marketing", "s3:PutObject", "marketing/x")
    world.clock.advance(60)
    look_deep(world)
    (drifted,) = world.record(MARKETING).conditions
    assert (drifted.message, drifted.since) == (named, world.clock() - timedelta(seconds=60))
    counted = world.metrics.registry.get_sample_value
    assert counted("provisioner_drift_total", {"step": "prefix"}) == 1
    world.objects.objects[mark] = b.MARKETING.encode()
    look_deep(world)
    assert conditions(world) == {}


def test_a_mark_that_comes_back_in_between_is_left_as_it_is(world: MemoryWorld) -> None:
    mark = ".provisioner/owners/marketing.json"
    del world.objects.objects[mark]

    def claim(effect: str) -> None:
        if effect == "restore-mark":
            world.objects.objects[mark] = b.FINANCE.encode()

    world.checkpoint = claim
    assert look_deep(world).status == "done"
    assert "names somebody else" in conditions(world)["Drifted"]
    assert world.may("marketing", "s3:PutObject", "marketing/x")


def test_a_foreign_key_gets_its_minute(world: MemoryWorld) -> None:
    add_key(world)
    key = principal(world).keys["AKIASOMEBODYELSES000"]
    key.created_at = world.clock() - timedelta(seconds=20)
    look_deep(world)
    assert "AKIASOMEBODYELSES000" in principal(world).keys
    assert world.record(MARKETING).next_at == world.clock() + timedelta(seconds=40)
    world.clock.advance(41)
    world.settle(MARKETING)
    assert "AKIASOMEBODYELSES000" not in principal(world).keys


def test_a_retiring_key_that_is_gone_is_forgotten_without_a_word(world: MemoryWorld) -> None:
    old = published(world)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    del principal(world).keys[old.id]
    assert look_deep(world).status == "done"
    assert world.record(MARKETING).credentials.retiring == ()
    assert conditions(world) == {}


def test_a_key_that_somebody_disabled_is_never_enabled_again(world: MemoryWorld) -> None:
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    world.clock.advance(120)
    for each in principal(world).keys.values():
        each.active = False
    disabled = dict(principal(world).keys)
    widen(world)

    def watch(effect: str) -> None:
        if effect == "put-policy":
            assert not disabled.keys() & principal(world).keys.keys()

    world.checkpoint = watch
    assert look_deep(world).status == "done"
    assert "put-policy" in world.effects
    assert world.issuer.knows(published(world))
    assert disabled.keys().isdisjoint(principal(world).keys)


def test_a_dead_key_does_not_wait_for_one_that_retires(world: MemoryWorld) -> None:
    old = published(world)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    world.clock.advance(120)
    dead = published(world)
    disable_key(world)
    look_deep(world)
    world.settle(MARKETING)
    assert published(world) not in (old, dead)
    assert world.issuer.knows(published(world))
    assert world.issuer.knows(old)
    assert not world.issuer.knows(dead)


def test_the_key_of_a_store_that_was_newer_retires_in_peace(world: MemoryWorld) -> None:
    record = world.record(MARKETING)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.settle(MARKETING)
    in_env = published(world)
    restore(world, record)
    world.checkpoint = lambda effect: _works(world)
    assert look_deep(world).status == "done"
    assert GONE in conditions(world)["Drifted"]
    assert published(world) != in_env
    assert world.issuer.knows(in_env)
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.checkpoint = lambda effect: None
    world.settle(MARKETING)
    assert not world.issuer.knows(in_env)


def restore(world: MemoryWorld, record: model.Record) -> None:
    """Bring an older record back."""
    world.store.queue.touch([record.key], model.Priority.EVENT)
    lease = world.store.queue.lease("test")
    assert lease is not None
    world.store.records.save(record, lease)
    world.store.queue.done(lease, model.Outcome(key=record.key, status="done"))


def _works(world: MemoryWorld) -> None:
    assert world.issuer.knows(published(world))


def test_a_new_key_that_the_engine_does_not_know_everywhere_is_not_doubted() -> None:
    world = at_rest()
    world.issuer.settle_seconds = 3600.0
    principal(world).keys.clear()
    look_deep(world)
    assert conditions(world) == {}
    world.clock.advance(3600)
    look_deep(world)
    assert GONE in conditions(world)["Drifted"]


def test_drift_is_shown_until_a_deep_look_finds_nothing(world: MemoryWorld) -> None:
    widen(world)
    look_deep(world)
    found_at = world.clock()
    world.clock.advance(3600)
    world.settle(MARKETING)
    (drifted,) = world.record(MARKETING).conditions
    assert (drifted.type, drifted.since) == ("Drifted", found_at)
    assert world.observer.preview(MARKETING).conditions == (drifted,)
    look_deep(world)
    assert world.record(MARKETING).conditions == ()
    assert world.observer.preview(MARKETING).conditions == ()


def test_drift_is_counted_by_step_once(world: MemoryWorld) -> None:
    widen(world)
    delete_mark(world)
    for _ in range(3):
        look_deep(world)
    counted = {
        step: world.metrics.registry.get_sample_value("provisioner_drift_total", {"step": step})
        for step in ("credentials", "prefix")
    }
    assert counted == {"credentials": 1, "prefix": 1}


def test_drift_has_no_part_in_what_resync_compares(world: MemoryWorld) -> None:
    settled = world.record(MARKETING).settled_digest
    widen(world)
    look_deep(world)
    assert world.record(MARKETING).settled_digest == settled


def test_a_repair_that_fails_is_said_beside_what_was_found(world: MemoryWorld) -> None:
    delete_keep(world)
    world.objects.foreign = True
    assert look_deep(world).status == "condition"
    said = conditions(world)
    assert said["Drifted"] == f"found: {KEEP} (marketing/)"
    assert said["NotOurs"]
    world.objects.foreign = False
    assert world.reconcile(MARKETING).status == "done"
    assert conditions(world) == {"Drifted": f"found and repaired: {KEEP} (marketing/)"}


def test_a_repair_that_does_not_last_is_never_called_one(world: MemoryWorld) -> None:
    write = world.issuer.put_policy
    widen(world)
    world.issuer.put_policy = lambda principal, document: None  # type: ignore[method-assign]
    assert look_deep(world).status == "retry"
    assert conditions(world)["Drifted"] == f"found: {POLICY}"
    assert "is not as it was left" in conditions(world)["Conflict"]
    world.issuer.put_policy = write  # type: ignore[method-assign]
    world.clock.advance(600)
    assert world.reconcile(MARKETING).status == "done"
    assert conditions(world) == {"Drifted": f"found and repaired: {POLICY}"}


@pytest.mark.parametrize("twin", ["issuer", "objects", "prober"])
def test_a_look_that_cannot_be_finished_is_tried_again(world: MemoryWorld, twin: str) -> None:
    verified_at = world.record(MARKETING).verified_at
    getattr(world, twin).down = True
    assert look_deep(world).status == "retry"
    assert world.record(MARKETING).verified_at == verified_at
    getattr(world, twin).down = False
    world.clock.advance(600)
    assert world.reconcile(MARKETING).status == "done"
    assert world.record(MARKETING).verified_at == world.clock()
    assert conditions(world) == {}


def looks(world: MemoryWorld) -> int:
    """Reconcile, and count how often it looked deep."""
    world.reconcile(MARKETING)
    return world.effects.count("verify")


def test_a_product_just_made_is_verified_without_a_look() -> None:
    world = MemoryWorld(b.a_consumer_view())
    assert looks(world) == 0
    assert world.record(MARKETING).verified_at == world.clock()
    assert looks(world) == 0


def test_a_product_is_looked_at_when_its_turn_comes_and_not_before(world: MemoryWorld) -> None:
    turn = world.record(MARKETING).next_at
    assert turn is not None
    assert world.clock() < turn <= world.clock() + timedelta(hours=24)
    assert looks(world) == 0
    world.clock.advance((turn - world.clock()).total_seconds())
    assert MARKETING in world.store.records.due(world.clock())
    assert looks(world) == 1
    assert world.record(MARKETING).next_at == turn + timedelta(hours=24)
    assert MARKETING not in world.store.records.due(world.clock())


def test_the_run_after_one_that_failed_looks_deep(world: MemoryWorld) -> None:
    world.portal.put(b.a_consumer_view())
    world.issuer.down = True
    assert world.reconcile(MARKETING).status == "retry"
    world.issuer.down = False
    world.clock.advance(600)
    assert looks(world) == 1
    assert looks(world) == 0


def test_a_record_from_before_there_were_looks_gets_its_turn(world: MemoryWorld) -> None:
    old = dataclasses.replace(world.record(MARKETING), verified_at=None, next_at=None)
    restore(world, old)
    assert looks(world) == 0
    turn = world.record(MARKETING).next_at
    assert turn is not None
    world.clock.advance((turn - world.clock()).total_seconds())
    assert looks(world) == 1
    assert world.record(MARKETING).verified_at == world.clock()


def test_what_is_archived_is_not_looked_at(world: MemoryWorld) -> None:
    world.portal.change(MARKETING, status=model.ProductStatus.ARCHIVED)
    world.settle(MARKETING)
    world.store.asks.ask([MARKETING], model.Ask.VERIFY)
    assert looks(world) == 0
    assert world.store.asks.of(MARKETING) == {}
    assert world.record(MARKETING).next_at is None


def test_what_nobody_knows_is_not_looked_at_for_ever() -> None:
    world = MemoryWorld()
    world.store.asks.ask([SALES], model.Ask.VERIFY)
    assert world.reconcile(SALES).status == "done"
    assert world.store.asks.of(SALES) == {}


def test_a_worker_that_lost_its_lease_does_not_look(world: MemoryWorld) -> None:
    widen(world)
    world.store.asks.ask([MARKETING], model.Ask.VERIFY)
    lease = world.store.queue.lease("test")
    assert lease is not None
    guard = worker.Guard(lease, world.clock)
    guard.lose()
    with pytest.raises(errors.LeaseLost):
        worker.run_once(world.duty, lease, guard)
    assert world.record(MARKETING).drift == ()


def test_turns_are_spread_evenly_over_the_hours() -> None:
    schedule = verifying.Verifying(
        hours=24, steps=(), clock=lambda: b.NOW, metrics=telemetry.Metrics()
    )
    keys = [model.Key.product(b.an_id(number)) for number in range(10_000)]
    turns = [schedule.turn(key, b.NOW) - b.NOW for key in keys]
    hours = Counter(int(turn.total_seconds() // 3600) for turn in turns)
    assert set(hours) == set(range(24))
    assert max(hours.values()) < 1.25 * 10_000 / 24
    assert [schedule.turn(key, b.NOW + timedelta(hours=24)) - b.NOW for key in keys] == [
        turn + timedelta(hours=24) for turn in turns
    ]


def test_a_step_that_cannot_look_keeps_no_other_from_it() -> None:
    world = at_rest()
    delete_keep(world)
    world.issuer.down = True
    assert look_deep(world).status == "retry"
    assert world.objects.kept("marketing/")


def test_every_step_can_look(world: MemoryWorld) -> None:
    gone = dataclasses.replace(
        world.observer.preview(MARKETING).desired, phase=model.Phase.ARCHIVED
    )
    record = world.record(MARKETING)
    for step in world.steps:
        look = protocol.Look(step.name, world.clock())
        assert step.verify(record, gone, look) == record
        assert look.found == []


def with_role() -> MemoryWorld:
    """Make a world in which people sign in as marketing by a role."""
    trust = '{"Statement":[{"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"AWS":"*"}}]}'
    wanted = role.Wanted(template="{namespace}", trust=trust)
    world = MemoryWorld(w.a_producer(), b.a_consumer_view(b.a_link()), role_wanted=wanted)
    for key in (SALES, MARKETING):
        world.settle(key)
    return world


def widen_role(world: MemoryWorld) -> None:
    world.roles.held["marketing"].document = EVERYTHING


def trust_anybody(world: MemoryWorld) -> None:
    world.roles.held["marketing"].trust = {}


def delete_role(world: MemoryWorld) -> None:
    del world.roles.held["marketing"]


@pytest.mark.parametrize("break_it", [widen_role, trust_anybody, delete_role])
def test_a_sign_in_role_that_was_changed_is_put_right(break_it: Break) -> None:
    world = with_role()
    before = dataclasses.replace(world.roles.held["marketing"])
    break_it(world)
    if look_deep(world).status == "retry":  # a role that is gone is made by the next run
        world.clock.advance(600)
        world.settle(MARKETING)
    said = "found and repaired: the sign-in role was changed or gone (marketing)"
    assert conditions(world) == {"Drifted": said}
    assert world.roles.held["marketing"] == before
    look_deep(world)
    assert conditions(world) == {}


def test_a_widened_role_is_narrowed_before_anything_else() -> None:
    world = with_role()
    widen_role(world)
    delete_keep(world)
    look_deep(world)
    order = [effect for effect in world.effects if effect not in ("save", "verify")]
    assert order[0] == "put-role-policy"


def test_an_optional_step_that_may_not_look_holds_nothing_up() -> None:
    world = with_role()
    world.roles.refuses = True
    widen(world)
    assert look_deep(world).status == "done"
    assert conditions(world)["Drifted"].startswith("found and repaired: the policy")
