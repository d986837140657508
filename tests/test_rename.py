"""Rename: the workspace moves, the old prefix stays open until its data were moved."""

from __future__ import annotations

import dataclasses
import json

import pytest

from provisioner import errors, model
from tests import builders as b
from tests import memory_world as w
from tests.memory_world import GRACE_SECONDS, MARKETING, SALES, MemoryWorld

DATA = "sales/orders/x"
HEIR = "f1000000-0000-4000-8000-000000000009"


def rename(world: MemoryWorld, namespace: str, key: model.Key = SALES) -> None:
    """Rename in the portal, as its product and as others see it."""
    world.portal.change(key, namespace=namespace)
    renamed = world.portal.views[key].product
    for consumer, view in world.portal.views.items():
        producers = tuple(renamed if each.id == key.id else each for each in view.producers)
        world.portal.views[consumer] = dataclasses.replace(view, producers=producers)


def all_settled(world: MemoryWorld) -> None:
    """Work until the queue is empty."""
    while (lease := world.store.queue.lease("test")) is not None:
        world.store.queue.done(lease, model.Outcome(key=lease.key, status="done"))
        world.settle(lease.key)


@pytest.fixture
def world() -> MemoryWorld:
    world = MemoryWorld(w.a_producer(), b.a_consumer_view(b.a_link()))
    for key in (SALES, MARKETING):
        world.settle(key)
    all_settled(world)
    world.objects.objects[DATA] = b"1"
    world.folders.put("sales", "mine.sql", "select 1")
    return world


def conditions(world: MemoryWorld, key: model.Key = SALES) -> list[str]:
    return [each.type for each in world.record(key).conditions]


def test_the_workspace_moves_with_all_that_is_in_it(world: MemoryWorld) -> None:
    rename(world, "sales-eu")
    assert world.reconcile(SALES).status == "done"
    assert "sales" not in world.folders.folders
    assert world.file("sales-eu", "mine.sql") == "select 1"
    assert "S3_PREFIX=sales-eu/\n" in (world.file("sales-eu", ".env") or "")
    assert "/sales-eu\n" in (world.file("sales-eu", ".env") or "")
    assert conditions(world) == []


def test_one_that_has_no_workspace_yet_is_given_it_under_the_new_name_at_once() -> None:
    world = MemoryWorld(w.a_producer())

    def checkpoint(effect: str) -> None:
        if effect == "create-workspace":
            raise w.Killed

    world.checkpoint = checkpoint
    with pytest.raises(w.Killed):
        world.reconcile(SALES)
    world.restart()
    rename(world, "sales-eu")
    assert world.reconcile(SALES).status == "done"
    assert set(world.folders.folders) == {"sales-eu"}


def test_the_product_reads_and_writes_both_prefixes_with_the_same_principal(
    world: MemoryWorld,
) -> None:
    principal = world.record(SALES).credentials.principal
    rename(world, "sales-eu")
    world.settle(SALES)
    for prefix in ("sales", "sales-eu"):
        for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
            assert world.may("sales-eu", action, f"{prefix}/x")
    assert world.record(SALES).credentials.principal == principal
    assert world.objects.owner("sales-eu") == world.objects.owner("sales") == b.SALES
    assert ".keep" in "".join(key for key in world.objects.objects if key.startswith("sales-eu/"))


def test_consumers_are_queued_and_read_both_places_under_the_same_name(world: MemoryWorld) -> None:
    rename(world, "sales-eu")
    world.settle(SALES)
    all_settled(world)
    for prefix in ("sales", "sales-eu"):
        assert world.may("marketing", "s3:GetObject", f"{prefix}/orders/x")
        assert not world.may("marketing", "s3:GetObject", f"{prefix}/other/x")
        assert not world.may("marketing", "s3:PutObject", f"{prefix}/orders/x")
    (row,) = json.loads(world.file("marketing", "ports.json") or "")["inputs"]
    assert (row["name"], row["url"]) == ("sales__orders", "s3://lake/sales-eu/orders/")


def test_the_asset_in_the_portal_is_registered_for_the_new_prefix(world: MemoryWorld) -> None:
    before = world.record(SALES).writeback.asset_id
    rename(world, "sales-eu")
    world.settle(SALES)
    after = world.record(SALES).writeback.asset_id
    assert after not in ("", before)
    assert "sales-eu" in {each.path for each in world.portal.views[SALES].assets}


def test_the_policy_is_wider_before_env_says_so(world: MemoryWorld) -> None:
    def look(effect: str) -> None:
        for folder in ("sales", "sales-eu"):
            env = world.file(folder, ".env")
            if env is not None:
                prefix = dict(line.split("=", 1) for line in env.splitlines())["S3_PREFIX"]
                assert world.may(folder, "s3:PutObject", f"{prefix}x"), effect

    world.checkpoint = look
    rename(world, "sales-eu")
    world.reconcile(SALES)
    assert world.file("sales-eu", ".env")


def test_an_earlier_prefix_with_data_is_kept_for_ever(world: MemoryWorld) -> None:
    rename(world, "sales-eu")
    world.settle(SALES)
    world.clock.advance(90 * 86400)
    world.settle(SALES)
    assert world.record(SALES).namespaces == ("sales-eu", "sales")


def test_an_earlier_prefix_is_given_up_once_its_data_were_moved(world: MemoryWorld) -> None:
    rename(world, "sales-eu")
    world.settle(SALES)
    all_settled(world)
    world.objects.objects["sales-eu/orders/x"] = world.objects.objects.pop(DATA)
    world.clock.advance(GRACE_SECONDS)
    assert world.reconcile(SALES).status == "retry"  # the consumer's policy opens it still
    assert not world.may("sales-eu", "s3:GetObject", DATA)
    assert world.objects.owner("sales") == b.SALES
    all_settled(world)
    world.settle(SALES)
    assert not world.may("marketing", "s3:GetObject", DATA)
    assert world.may("marketing", "s3:GetObject", "sales-eu/orders/x")
    assert world.record(SALES).former == ()
    assert [key for key in world.objects.objects if "sales/" in key or "sales.json" in key] == []


def test_an_earlier_prefix_stays_until_the_grace_of_old_keys_is_over(world: MemoryWorld) -> None:
    del world.objects.objects[DATA]
    rename(world, "sales-eu")
    world.settle(SALES)
    world.settle(SALES)
    assert world.may("sales-eu", "s3:PutObject", DATA)
    next_at = world.record(SALES).next_at
    assert next_at is not None
    assert (next_at - world.clock()).total_seconds() <= GRACE_SECONDS


@pytest.mark.parametrize("ending", ["archived", "deleted"])
def test_a_grace_that_ends_while_the_product_rests_queues_it_once(
    world: MemoryWorld, ending: str
) -> None:
    del world.objects.objects[DATA]
    rename(world, "sales-eu")
    world.settle(SALES)
    if ending == "archived":
        world.portal.change(SALES, status=model.ProductStatus.ARCHIVED)
    else:
        world.portal.delete(SALES)
    world.settle(SALES)
    world.clock.advance(GRACE_SECONDS + 1)
    world.settle(SALES)
    assert world.record(SALES).next_at is None


def test_what_is_written_while_a_prefix_is_given_up_opens_it_again(world: MemoryWorld) -> None:
    del world.objects.objects[DATA]
    rename(world, "sales-eu")
    world.settle(SALES)
    all_settled(world)

    def write(effect: str) -> None:
        if effect == "put-policy":
            world.objects.objects[DATA] = b"late"

    world.clock.advance(GRACE_SECONDS)
    world.checkpoint = write
    assert world.reconcile(SALES).status == "retry"
    world.checkpoint = lambda effect: None
    all_settled(world)
    world.settle(SALES)
    assert world.may("sales-eu", "s3:GetObject", DATA)
    assert world.record(SALES).namespaces == ("sales-eu", "sales")


def test_a_prefix_that_cannot_be_looked_at_is_not_given_up(world: MemoryWorld) -> None:
    del world.objects.objects[DATA]
    rename(world, "sales-eu")
    world.settle(SALES)
    world.clock.advance(GRACE_SECONDS)
    world.objects.down = True
    assert world.reconcile(SALES).status == "done"
    assert world.record(SALES).namespaces == ("sales-eu", "sales")


@pytest.mark.parametrize("behind", ["principal", "role"])
def test_a_policy_that_is_not_known_to_be_written_is_waited_for(
    world: MemoryWorld, behind: str
) -> None:
    del world.objects.objects[DATA]
    rename(world, "sales-eu")
    world.settle(SALES)
    world.clock.advance(GRACE_SECONDS)
    known = dataclasses.replace(world.record(MARKETING), grants=())
    if behind == "principal":
        held = dataclasses.replace(known.credentials, policy_digest="")
        unsure = dataclasses.replace(known, credentials=held)
    else:
        unsure = dataclasses.replace(known, role=model.RoleState(name="r", policy_digest="old"))
    world.store.records._state.records[MARKETING] = unsure
    assert world.reconcile(SALES).status == "retry"
    assert world.objects.owner("sales") == b.SALES


def test_renaming_back_ends_where_it_began(world: MemoryWorld) -> None:
    rename(world, "sales-eu")
    world.settle(SALES)
    world.objects.objects["sales-eu/orders/y"] = b"2"
    rename(world, "sales")
    world.settle(SALES)
    all_settled(world)
    assert world.record(SALES).namespaces == ("sales", "sales-eu")
    assert world.file("sales", "mine.sql") == "select 1"
    assert "sales-eu" not in world.folders.folders
    assert world.may("marketing", "s3:GetObject", "sales-eu/orders/y")
    assert conditions(world) == []


def test_a_chain_of_renames_keeps_every_place_that_holds_data(world: MemoryWorld) -> None:
    for namespace in ("sales-eu", "sales-us"):
        rename(world, namespace)
        world.settle(SALES)
        world.objects.objects[f"{namespace}/orders/x"] = b"1"
    assert world.record(SALES).namespaces == ("sales-us", "sales", "sales-eu")
    assert list(world.folders.folders) == ["marketing", "sales-us"]


@pytest.mark.parametrize("obstacle", ["mark", "objects", "folder"])
def test_where_the_new_name_is_taken_nothing_changes_and_all_else_goes_on(
    world: MemoryWorld, obstacle: str
) -> None:
    if obstacle == "mark":
        world.objects.claim("sales-eu", b.FINANCE)
    elif obstacle == "objects":
        world.objects.objects["sales-eu/theirs"] = b"1"
    else:
        world.folders.put("sales-eu", "thesis.txt", "mine")
    objects = dict(world.objects.objects)
    rename(world, "sales-eu")
    world.clock.advance(31 * 86400)
    before = world.published_key("sales")
    assert world.reconcile(SALES).status == "done"
    assert conditions(world) == ["NotOurs", "RenamePending"]
    assert world.objects.objects == objects
    assert world.published_key("sales") != before  # a key of its age is replaced all the same
    assert world.may("sales", "s3:PutObject", "sales/x")
    assert not world.may("sales", "s3:GetObject", "sales-eu/theirs")


def test_a_rename_that_waits_is_looked_at_by_every_resync(world: MemoryWorld) -> None:
    world.objects.claim("sales-eu", b.FINANCE)
    rename(world, "sales-eu")
    world.settle(SALES)
    assert world.store.records.digests()[SALES] == ""
    world.objects.disown("sales-eu", b.FINANCE)
    world.settle(SALES)
    assert conditions(world) == []
    assert world.record(SALES).namespace == "sales-eu"
    assert world.store.records.digests()[SALES] != ""


def test_a_name_that_is_not_safe_is_not_taken(world: MemoryWorld) -> None:
    rename(world, "..")
    assert world.reconcile(SALES).status == "done"
    assert conditions(world) == ["NameRejected", "RenamePending"]
    assert world.may("sales", "s3:PutObject", "sales/x")


def test_a_name_is_free_for_another_product_once_it_is_given_up(world: MemoryWorld) -> None:
    rename(world, "sales-eu")
    world.settle(SALES)
    all_settled(world)
    heir = world.portal.put(model.PortalView(product=b.a_product(HEIR, "sales")))
    assert world.reconcile(heir).status == "condition"
    assert conditions(world, heir) == ["NotOurs"]
    del world.objects.objects[DATA]
    world.clock.advance(GRACE_SECONDS)
    for key in (SALES, MARKETING):
        world.reconcile(key)
    world.settle(SALES)
    world.settle(heir)
    assert world.may("sales", "s3:PutObject", DATA)
    assert not world.may("sales-eu", "s3:GetObject", DATA)
    assert not world.may("marketing", "s3:GetObject", DATA)


def test_a_mark_that_nothing_came_of_is_taken_back(world: MemoryWorld) -> None:
    def stop(effect: str) -> None:
        if effect == "keep-new-prefix":
            raise w.Killed

    rename(world, "sales-eu")
    world.checkpoint = stop
    with pytest.raises(w.Killed):
        world.reconcile(SALES)
    world.restart()
    assert world.objects.owner("sales-eu") == b.SALES
    rename(world, "sales-us")
    world.settle(SALES)
    assert world.objects.owner("sales-eu") is None
    assert world.record(SALES).namespaces == ("sales-us", "sales")


def test_a_mark_from_before_the_first_prefix_was_noted_is_taken_back() -> None:
    world = MemoryWorld(w.a_producer())

    def stop(effect: str) -> None:
        if effect == "keep-prefix":
            raise w.Killed

    world.checkpoint = stop
    with pytest.raises(w.Killed):
        world.reconcile(SALES)
    world.restart()
    rename(world, "sales-eu")
    world.settle(SALES)
    assert world.objects.owner("sales") is None
    assert world.record(SALES).namespaces == ("sales-eu",)


def test_an_archived_product_is_renamed_when_it_lives_again(world: MemoryWorld) -> None:
    world.portal.change(SALES, status=model.ProductStatus.ARCHIVED)
    world.settle(SALES)
    rename(world, "sales-eu")
    world.settle(SALES)
    assert conditions(world) == ["RenamePending"]
    assert world.record(SALES).settled_digest
    world.portal.change(SALES, status=model.ProductStatus.ACTIVE)
    world.settle(SALES)
    assert conditions(world) == []
    assert world.may("sales-eu", "s3:PutObject", DATA)
    assert world.file("sales-eu", "mine.sql") == "select 1"


def test_a_workspace_that_somebody_deleted_meanwhile_is_made_under_the_new_name(
    world: MemoryWorld,
) -> None:
    del world.folders.folders["sales"]
    rename(world, "sales-eu")
    world.settle(SALES)
    assert world.file("sales-eu", "README.md")
    assert world.record(SALES).workspace.folder == ""


def test_a_folder_that_appears_between_the_look_and_the_move_is_not_touched(
    world: MemoryWorld,
) -> None:
    def appear(effect: str) -> None:
        if effect == "move-workspace":
            world.folders.put("sales-eu", "thesis.txt", "mine")

    rename(world, "sales-eu")
    world.checkpoint = appear
    assert world.reconcile(SALES).status == "condition"
    world.checkpoint = lambda effect: None
    assert conditions(world) == ["NotOurs"]
    assert world.may("sales", "s3:PutObject", "sales/x")
    assert world.reconcile(SALES).status == "condition"
    del world.folders.folders["sales-eu"]
    world.settle(SALES)
    assert world.file("sales-eu", "mine.sql") == "select 1"


def test_a_deletion_in_the_middle_of_a_rename_leaves_no_secret_behind(world: MemoryWorld) -> None:
    def stop(effect: str) -> None:
        if effect == "move-workspace":
            raise w.Killed

    rename(world, "sales-eu")
    world.checkpoint = stop
    with pytest.raises(w.Killed):
        world.reconcile(SALES)
    world.restart()
    world.portal.delete(SALES)
    world.settle(SALES)
    assert "sales" not in world.folders.folders
    assert set(world.folders.archived) == {b.SALES}
    assert ".env" not in world.folders.archived[b.SALES].files


def test_who_has_a_name_that_is_wanted_must_give_it_up_first() -> None:
    """Two that swap names wait for each other: one of them takes a third name first."""
    finance = model.PortalView(product=b.a_product(b.FINANCE, "finance"))
    world = MemoryWorld(w.a_producer(), finance)
    other = model.Key.product(b.FINANCE)
    for key in (SALES, other):
        world.settle(key)
    rename(world, "finance")
    rename(world, "sales", other)
    for key in (SALES, other):
        world.settle(key)
        assert conditions(world, key) == ["NotOurs", "RenamePending"]
    message = world.record(SALES).conditions[0].message
    assert "move" in message
    rename(world, "finance-2", other)
    world.settle(other)
    world.clock.advance(GRACE_SECONDS)
    for key in (other, SALES):
        world.settle(key)
    assert (world.record(SALES).namespace, conditions(world)) == ("finance", [])


def test_an_engine_that_is_away_holds_a_rename_up_and_changes_no_name(world: MemoryWorld) -> None:
    rename(world, "sales-eu")
    world.objects.down = True
    assert world.reconcile(SALES).status == "retry"
    assert world.record(SALES).namespace == "sales"
    world.objects.down = False
    world.clock.advance(61)
    world.settle(SALES)
    assert world.record(SALES).namespace == "sales-eu"


def test_a_move_without_a_workspace_is_a_conflict(world: MemoryWorld) -> None:
    with pytest.raises(errors.Conflict):
        world.folders.move("nothing", "elsewhere", b.SALES)


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("again", ["sales-world", "sales"])
def test_a_rename_while_a_move_was_stopped_takes_the_users_files_along(
    world: MemoryWorld, carried_out: bool, again: str
) -> None:
    seen: list[str] = []

    def stop(effect: str) -> None:
        moving = "move-workspace" in seen
        seen.append(effect)
        if moving or (effect == "move-workspace" and not carried_out):
            raise w.Killed

    rename(world, "sales-eu")
    world.checkpoint = stop
    with pytest.raises(w.Killed):
        world.reconcile(SALES)
    assert ("sales-eu" in world.folders.folders) is carried_out
    world.restart()
    rename(world, again)
    world.settle(SALES)
    assert world.file(again, "mine.sql") == "select 1"
    assert [name for name in world.folders.folders if name.startswith("sales")] == [again]
    published = world.published_key(again)
    assert published is not None
    assert world.issuer.knows(published)
