"""How new versions of the template reach products that are there."""

from __future__ import annotations

import pytest

from provisioner import model
from provisioner.domain import plan
from provisioner.steps import template, workspace
from tests import memory_world as w
from tests.memory_world import SALES, MemoryWorld

_Change = model.FileChange


def _world(*, automatically: bool = True) -> MemoryWorld:
    world = MemoryWorld(w.a_producer(), template_updates=automatically)
    world.folders.template = {"README.md": "# {project_name}\n", "a.sql": "old\n"}
    world.settle(SALES)
    return world


def _improve(world: MemoryWorld, text: str = "new\n") -> None:
    world.folders.template = {"README.md": "# {project_name}\n", "a.sql": text}
    world.folders.digest = plan.digest(text)


def _standing(world: MemoryWorld) -> template.Standing:
    return world.template_step.standing(world.record(SALES), world.folders.digest)


def test_a_workspace_follows_its_template_and_says_what_changed() -> None:
    world = _world()
    assert _standing(world) is template.Standing.CURRENT
    _improve(world)
    assert _standing(world) is template.Standing.BEHIND

    outcome = world.reconcile(SALES)

    assert outcome.actions == ("template:upgrade",)
    assert world.file("sales", "a.sql") == "new\n"
    assert _standing(world) is template.Standing.CURRENT
    (upgrade,) = world.record(SALES).workspace.upgrades
    assert upgrade.files == (("a.sql", _Change.UPDATED),)
    assert (upgrade.at, upgrade.changed) == (world.clock(), 1)
    assert upgrade.before == "template-1" != upgrade.after
    world.settle(SALES)


def test_a_changed_template_is_part_of_what_resync_compares() -> None:
    world = _world()
    readings = world.observer._readings
    before = readings.desired(SALES).digest
    assert before == world.record(SALES).settled_digest
    _improve(world)
    assert readings.desired(SALES).digest != before
    by_hand = _world(automatically=False)
    _improve(by_hand)
    assert by_hand.observer._readings.desired(SALES).digest == (
        by_hand.record(SALES).settled_digest
    )


def test_without_automatic_updates_a_person_asks() -> None:
    world = _world(automatically=False)
    _improve(world)
    world.settle(SALES)
    assert world.file("sales", "a.sql") == "old\n"
    assert _standing(world) is template.Standing.BEHIND

    world.clock.advance(1)
    world.store.asks.ask([SALES], model.Ask.UPGRADE)
    world.settle(SALES)

    assert world.file("sales", "a.sql") == "new\n"
    assert world.store.asks.of(SALES) == {}


def test_a_template_that_does_not_render_is_a_condition_and_holds_up_nothing_else() -> None:
    world = _world()
    before = dict(world.folders.folders["sales"].files)
    world.folders.broken = True
    _improve(world)
    world.clock.advance(31 * 86400)

    assert world.reconcile(SALES).status == "done"

    assert [each.type for each in world.record(SALES).conditions] == ["TemplateError"]
    assert world.file("sales", "a.sql") == before["a.sql"]
    assert world.file("sales", ".env") != before[".env"]
    world.folders.broken = False
    _improve(world, "newer\n")
    assert world.observer._readings.desired(SALES).digest != world.record(SALES).settled_digest
    world.settle(SALES)
    assert world.record(SALES).conditions == ()
    assert world.file("sales", "a.sql") == "newer\n"


def test_a_conflict_is_known_until_it_is_dealt_with() -> None:
    world = _world()
    world.folders.put("sales", "a.sql", "mine\n")
    _improve(world)
    world.settle(SALES)
    assert world.record(SALES).workspace.conflicts == ("a.sql",)
    assert _standing(world) is template.Standing.CONFLICTS
    assert world.file("sales", "a.sql") == "mine\n"

    world.folders.put("sales", "a.sql", "new\n")
    world.settle(SALES)

    assert world.record(SALES).workspace.conflicts == ()
    assert world.record(SALES).workspace.resolved == ()
    assert world.file("sales", "a.sql.template-new") is None
    assert _standing(world) is template.Standing.CURRENT


def test_conflicts_that_cannot_be_looked_at_hold_up_nothing() -> None:
    world = _world()
    world.folders.put("sales", "a.sql", "mine\n")
    _improve(world)
    world.settle(SALES)
    record = world.record(SALES)
    del world.folders.folders["sales"]
    assert world.template_step.observe(record, world.observer._readings.desired(SALES)) == record


def test_a_renamed_product_is_rendered_anew() -> None:
    world = _world()
    world.portal.change(SALES, namespace="sales-eu")
    world.settle(SALES)
    assert world.file("sales-eu", "README.md") == "# sales-eu\n"


def test_a_folder_that_was_adopted_gets_no_template_by_itself() -> None:
    world = _world()
    record = world.record(SALES)
    bare = model.Record(
        key=SALES,
        namespace="sales",
        credentials=record.credentials,
        workspace=model.WorkspaceState(rendered=True),
    )
    wanted = world.observer._readings.desired(SALES)
    assert wanted.template
    assert world.template_step.standing(bare, wanted.template) is template.Standing.NONE
    assert world.template_step.plan(wanted, bare, world.clock()) == ()


def test_a_store_that_forgot_a_workspace_learns_its_version_from_the_folder() -> None:
    world = _world()
    world.store.records._state.records.clear()
    _improve(world)
    world.settle(SALES)
    assert world.file("sales", "a.sql") == "new\n"
    (upgrade,) = world.record(SALES).workspace.upgrades
    assert upgrade.before == "template-1"


def test_a_store_that_forgot_a_workspace_learns_its_conflicts_from_the_folder() -> None:
    world = _world()
    world.folders.put("sales", "a.sql", "mine\n")
    _improve(world)
    world.settle(SALES)
    world.store.records._state.records.clear()
    world.settle(SALES)
    assert world.record(SALES).workspace.conflicts == ("a.sql",)
    assert _standing(world) is template.Standing.CONFLICTS


def test_a_store_that_was_brought_back_learns_what_the_folder_became_since() -> None:
    world = _world()
    backup = world.store.backup()
    _improve(world)
    world.settle(SALES)
    assert world.file("sales", "a.sql") == "new\n"
    world.folders.put("sales", "a.sql", "mine\n")
    _improve(world, "newer\n")
    world.settle(SALES)
    world.store.restore(backup)
    world.folders.digest = "template-1"
    world.folders.template["a.sql"] = "old\n"  # the template was brought back as well
    world.reconcile(SALES)
    world.settle(SALES)
    (upgrade,) = world.record(SALES).workspace.upgrades
    assert (upgrade.before, upgrade.after) == (plan.digest("newer\n")[:12], "template-1")
    assert world.file("sales", "a.sql.template-new") == "old\n"
    assert world.record(SALES).workspace.conflicts == ("a.sql",)


def test_only_so_much_history_is_kept() -> None:
    world = _world()
    for number in range(13):
        _improve(world, f"{number}\n")
        world.settle(SALES)
    upgrades = world.record(SALES).workspace.upgrades
    assert len(upgrades) == 10
    assert upgrades[0].after == world.folders.digest[:12]


def test_choices_of_the_platform_are_rendered_and_bring_a_new_version() -> None:
    chosen = {"engine": "ducklake"}
    around = type(w.SURROUNDINGS)(**{**vars(w.SURROUNDINGS), "choices": tuple(chosen.items())})
    spec = workspace.spec(SALES, "sales", None, around)
    assert spec.choices == chosen
    plain = workspace.spec(SALES, "sales", None, w.SURROUNDINGS)
    assert workspace.rendered_digest("x", spec.rendered) != workspace.rendered_digest(
        "x", plain.rendered
    )


def test_the_service_fills_what_settings_keep_from_being_chosen() -> None:
    from provisioner.settings import documents

    assert workspace.spec(SALES, "sales", None, w.SURROUNDINGS).context.keys() == (
        documents.SERVICES_OWN
    )


@pytest.mark.parametrize("phase", [model.Phase.ARCHIVED, model.Phase.GONE])
def test_what_does_not_live_is_left_alone(phase: model.Phase) -> None:
    world = _world()
    wanted = model.Desired(key=SALES, phase=phase, product=None, template="other")
    assert world.template_step.plan(wanted, world.record(SALES), world.clock()) == ()


def test_the_template_is_not_looked_at_for_each_of_many_products() -> None:
    world = _world()
    follow = world.template_step.follows(automatically=True, clock=world.clock)
    first = follow()
    _improve(world)
    assert follow() == first
    world.clock.advance(1)
    assert follow() == world.folders.digest
