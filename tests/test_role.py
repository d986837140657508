"""A role follows its product: name, policy, phase and setting; and survives a crash anywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from provisioner import errors, model
from provisioner.steps import role
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import MARKETING, SALES, MemoryWorld

TRUST = '{"Statement":[{"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"AWS":"*"}}]}'
WANTED = role.Wanted(template="{namespace}", trust=TRUST)
Change = Callable[[MemoryWorld], None]


def a_world(*changes: Change, wanted: role.Wanted | None = WANTED) -> MemoryWorld:
    world = MemoryWorld(w.a_producer(), role_wanted=wanted)
    world.settle(SALES)
    for change in changes:
        change(world)
        world.settle(MARKETING)
    return world


def create(world: MemoryWorld) -> None:
    world.portal.put(b.a_consumer_view())


def approve(world: MemoryWorld) -> None:
    world.portal.put(b.a_consumer_view(b.a_link()))


def revoke(world: MemoryWorld) -> None:
    world.portal.put(b.a_consumer_view(b.a_link(model.LinkStatus.REVOKED)))


def rename(world: MemoryWorld) -> None:
    world.portal.change(MARKETING, namespace="markets")


def archive(world: MemoryWorld) -> None:
    world.portal.change(MARKETING, status=model.ProductStatus.ARCHIVED)


def activate(world: MemoryWorld) -> None:
    world.portal.change(MARKETING, status=model.ProductStatus.ACTIVE)


def delete(world: MemoryWorld) -> None:
    world.portal.delete(MARKETING)


def switch_off(world: MemoryWorld) -> None:
    world.role_step._wanted = None


def trust_others(world: MemoryWorld) -> None:
    world.role_step._wanted = role.Wanted(template="{namespace}", trust=TRUST.replace("*", "x"))


def may(world: MemoryWorld, action: str, key: str, name: str = "marketing") -> bool:
    return world.roles.allowed(name, action, f"arn:aws:s3:::{w.BUCKET}/{key}")


def policy_of_the_principal(world: MemoryWorld) -> object:
    return world.issuer.held[world.record(MARKETING).credentials.principal].document


def test_a_product_gets_a_role_with_the_policy_of_its_principal() -> None:
    world = a_world(approve)
    held = world.roles.held["marketing"]
    assert held.product_id == MARKETING.id
    assert held.document == policy_of_the_principal(world)
    assert held.trust == {
        "Statement": [{"Action": "sts:AssumeRole", "Effect": "Allow", "Principal": {"AWS": "*"}}]
    }
    assert set(world.roles.held) == {"sales", "marketing"}


def test_without_the_setting_there_is_no_role() -> None:
    world = a_world(create, wanted=None)
    assert world.roles.held == {}
    assert world.record(MARKETING).role == model.RoleState()


def test_an_exploration_has_no_role() -> None:
    world = a_world(create)
    key = model.Key(model.Kind.EXPLORATION, MARKETING.id)
    record = model.Record(key=key, namespace="marketing")
    product = world.portal.views[MARKETING].product
    wanted = model.Desired(key=key, phase=model.Phase.ACTIVE, product=product)
    assert world.role_step.plan(wanted, record, b.NOW) == ()


def test_a_role_follows_the_grants_in_the_run_that_changes_them() -> None:
    world = a_world(create)
    assert not may(world, "s3:GetObject", "sales/orders/x")
    approve(world)
    assert world.reconcile(MARKETING).status == "done"
    assert may(world, "s3:GetObject", "sales/orders/x")
    revoke(world)
    assert world.reconcile(MARKETING).status == "done"
    assert not may(world, "s3:GetObject", "sales/orders/x")
    assert may(world, "s3:PutObject", "marketing/x")


def test_a_revocation_reaches_the_role_before_anything_that_can_fail() -> None:
    world = a_world(approve)
    revoke(world)
    world.prober.down = True  # so no new key is proven, and nothing after it is done
    assert world.reconcile(MARKETING).status == "retry"
    assert not may(world, "s3:GetObject", "sales/orders/x")


def test_a_revocation_reaches_the_role_although_the_issuer_is_away() -> None:
    world = a_world(approve)
    revoke(world)
    world.issuer.down = True
    assert world.reconcile(MARKETING).status == "retry"
    assert not may(world, "s3:GetObject", "sales/orders/x")


def test_a_revocation_reaches_the_principal_although_the_role_is_away() -> None:
    world = a_world(approve)
    revoke(world)
    world.roles.down = True
    assert world.reconcile(MARKETING).status == "retry"
    assert not world.may("marketing", "s3:GetObject", "sales/orders/x")
    world.roles.down = False
    world.settle(MARKETING)
    assert not may(world, "s3:GetObject", "sales/orders/x")


def test_what_does_not_fit_the_principal_does_not_reach_the_role() -> None:
    world = a_world(create)
    world.issuer._limit = 100
    approve(world)
    outcome = world.reconcile(MARKETING)
    assert outcome.status == "condition"
    assert not may(world, "s3:GetObject", "sales/orders/x")


def test_a_renamed_product_has_a_role_of_the_new_name_alone() -> None:
    world = a_world(approve, rename)
    assert set(world.roles.held) == {"sales", "markets"}
    assert may(world, "s3:GetObject", "sales/orders/x", "markets")


@pytest.mark.parametrize("change", [archive, delete, switch_off])
def test_a_role_goes_with_its_product_and_its_setting(change: Change) -> None:
    world = a_world(approve, change)
    assert "marketing" not in world.roles.held
    assert world.record(MARKETING).role == model.RoleState()


def test_a_product_that_is_active_again_has_its_role_again() -> None:
    world = a_world(approve, archive, activate)
    assert may(world, "s3:GetObject", "sales/orders/x")


def test_a_changed_trust_policy_is_written_to_the_same_role() -> None:
    world = a_world(create, trust_others)
    assert world.roles.held["marketing"].trust["Statement"][0]["Principal"] == {"AWS": "x"}
    assert may(world, "s3:PutObject", "marketing/x")


def conditions(world: MemoryWorld) -> dict[str, str]:
    return {each.type: each.message for each in world.record(MARKETING).conditions}


def test_a_role_of_somebody_elses_is_a_condition_and_stays() -> None:
    world = MemoryWorld(w.a_producer(), role_wanted=WANTED)
    world.roles.plant("marketing")
    create(world)
    assert world.reconcile(MARKETING).status == "done"
    assert "NotOurs" in conditions(world)
    assert world.published_key("marketing") is not None
    delete(world)
    world.settle(MARKETING)
    assert world.record(MARKETING).released_at is not None
    assert not world.roles.held["marketing"].ours


def test_a_name_that_iam_does_not_have_is_a_condition_and_never_cut() -> None:
    long = role.Wanted(template="a-prefix-{namespace}", trust=TRUST)
    world = MemoryWorld(w.a_producer(), role_wanted=long)
    view = b.a_consumer_view()
    world.portal.put(view)
    world.portal.change(MARKETING, namespace="m" * 60)
    assert world.reconcile(MARKETING).status == "done"
    assert "NameRejected" in conditions(world)
    assert world.roles.held == {}


def test_an_engine_without_iam_is_a_condition() -> None:
    world = MemoryWorld(w.a_producer(), role_wanted=WANTED)
    world.role_step._engine = lambda: "minio"
    create(world)
    assert world.reconcile(MARKETING).status == "done"
    assert "PROV_ROLE_NAME" in conditions(world)["IssuerRejected"]
    assert world.roles.held == {}


def test_a_refused_policy_of_a_role_holds_up_no_rotation() -> None:
    world = a_world(approve)
    before = world.published_key("marketing")
    revoke(world)
    world.roles.refuses = True
    assert world.reconcile(MARKETING).status == "done"
    assert "IssuerRejected" in conditions(world)
    assert world.published_key("marketing") != before


def test_a_product_is_not_let_go_while_its_role_cannot_be_deleted() -> None:
    world = a_world(approve)
    delete(world)
    world.roles.refuses = True
    assert world.reconcile(MARKETING).status == "retry"
    assert world.record(MARKETING).released_at is None
    assert (
        world.issuer.list_keys(model.Principal(name="dp-marketing-00000000", product_id="")) == ()
    )
    world.roles.refuses = False
    world.settle(MARKETING)
    assert world.record(MARKETING).released_at is not None


def test_a_live_product_goes_on_where_its_old_role_cannot_be_deleted() -> None:
    world = a_world(approve)
    rename(world)
    world.roles.refuses = True
    assert world.reconcile(MARKETING).status == "done"
    assert "IssuerRejected" in conditions(world)


def test_a_role_deleted_by_hand_is_made_again_by_the_run_that_misses_it() -> None:
    world = a_world(create)
    del world.roles.held["marketing"]
    approve(world)
    world.settle(MARKETING)
    assert may(world, "s3:GetObject", "sales/orders/x")


def test_a_grant_that_ends_while_the_portal_is_away_leaves_the_role_too() -> None:
    world = MemoryWorld(w.a_producer(), role_wanted=WANTED)
    world.settle(SALES)
    world.portal.put(b.a_consumer_view(b.a_link(valid_until=b.TODAY)))
    world.settle(MARKETING)
    assert may(world, "s3:GetObject", "sales/orders/x")
    world.clock.advance(86400)
    world.portal.failure = errors.PortalUnavailable("no answer")
    assert world.reconcile(MARKETING).status == "retry"
    assert not may(world, "s3:GetObject", "sales/orders/x")


def test_a_plan_shows_what_becomes_of_the_role() -> None:
    world = a_world(create)
    rename(world)
    actions = [each for each in world.observer.preview(MARKETING).actions if each.step == "role"]
    assert [(each.verb, each.subject) for each in actions] == [
        ("delete-role", "marketing"),
        ("name-role", "markets"),
        ("ensure-role", "markets"),
        ("put-role-policy", "markets"),
    ]


STORIES: dict[str, tuple[list[Change], Change]] = {
    "create": ([], approve),
    "approve": ([create], approve),
    "revoke": ([approve], revoke),
    "rename": ([approve], rename),
    "archive": ([approve], archive),
    "activate again": ([approve, archive], activate),
    "delete": ([approve], delete),
    "switch off": ([approve], switch_off),
    "trust others": ([approve], trust_others),
}


def begun(story: str) -> MemoryWorld:
    before, change = STORIES[story]
    world = a_world(*before)
    change(world)
    return world


def effects_of(story: str) -> list[str]:
    world = begun(story)
    seen: list[str] = []
    world.checkpoint = seen.append
    world.reconcile(MARKETING)
    return seen


CASES = [
    pytest.param(story, number, id=f"{story}-before-{number}-{effect}")
    for story in STORIES
    for number, effect in enumerate(effects_of(story))
]


@pytest.mark.parametrize(("story", "fatal"), CASES)
def test_a_crash_before_any_effect_leaves_no_role_behind(story: str, fatal: int) -> None:
    expected = begun(story)
    expected.settle(MARKETING)
    world = begun(story)
    passed = 0

    def watch(effect: str) -> None:
        nonlocal passed
        passed += 1
        if passed > fatal:
            raise w.Killed

    world.checkpoint = watch
    with pytest.raises(w.Killed):
        world.reconcile(MARKETING)
    world.restart()
    world.settle(MARKETING)
    assert world.roles.held == expected.roles.held
    assert world.record(MARKETING).role == expected.record(MARKETING).role


def test_there_is_a_crash_in_every_story_at_every_effect_of_a_role() -> None:
    reached = {str(case.id).partition("-before-")[2].partition("-")[2] for case in CASES}
    assert {"ensure-role", "put-role-policy", "delete-role"} <= reached
    assert {case.values[0] for case in CASES} == set(STORIES)
