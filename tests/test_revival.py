"""What becomes of records out of a backup, case by case; `test_restored_lives` mixes them."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import timedelta

import pytest

from provisioner import errors, model, names
from provisioner.domain import blind, revival
from provisioner.loop import portwatch, worker
from tests import builders as b
from tests import memory_world as w
from tests import published
from tests.memory_world import MARKETING, SALES, MemoryWorld

READ = "s3:GetObject"
HEIR = model.Key.product(str(uuid.UUID(int=1 << 127)))


def a_record(**held: object) -> model.Record:
    return model.Record(
        key=MARKETING,
        namespace="marketing",
        prefix=True,
        credentials=model.Credentials(**held),  # type: ignore[arg-type]
    )


OLD, NEW = model.AccessKey("OLD", "s"), model.AccessKey("NEW", "s")


# the decisions


def test_a_marked_record_counts_for_nothing_but_its_purge() -> None:
    settled = dataclasses.replace(a_record(), settled_digest="x", next_at=b.NOW)
    marked = revival.mark(settled)
    assert (marked.restored, marked.failed, marked.settled_digest) == (True, True, "")
    assert marked.next_at is None
    released = revival.mark(dataclasses.replace(settled, released_at=b.NOW))
    assert released.next_at == b.NOW


@pytest.mark.parametrize(
    ("held", "listed", "retiring", "doubted"),
    [
        ({"current": OLD}, ("OLD",), (), False),
        ({"current": OLD}, ("OLD", "NEW"), ("NEW",), False),
        ({"current": OLD}, ("NEW", "NEWER"), ("NEW", "NEWER"), True),
        ({"current": OLD}, (), (), True),
        ({"current": OLD, "doubted": True}, ("OLD",), (), True),
        ({}, ("NEW",), ("NEW",), False),
        (
            {"pending": model.Pending(intent_at=b.NOW, key=NEW, made=True)},
            ("NEW",),
            ("NEW",),
            False,
        ),
        (
            {"current": NEW, "retiring": (model.Retiring(key_id="OLD", delete_after=b.NOW),)},
            ("OLD", "NEW"),
            ("OLD",),
            False,
        ),
        (
            {"current": NEW, "retiring": (model.Retiring(key_id="OLD", delete_after=b.NOW),)},
            ("NEW",),
            (),
            False,
        ),
    ],
)
def test_keys_are_those_of_the_engine_and_none_has_a_last_day(
    held: dict[str, object], listed: tuple[str, ...], retiring: tuple[str, ...], doubted: bool
) -> None:
    record = a_record(principal="dp", policy_digest="p", **held)
    found = revival.keys(record, principal="dp", listed=listed).credentials
    assert found.retiring == tuple(model.Retiring(key_id=each) for each in retiring)
    assert (found.current, found.pending) == (record.credentials.current, None)
    assert (found.doubted, found.policy_digest) == (doubted, "p")


def test_a_principal_that_has_another_name_has_a_policy_that_we_do_not_know() -> None:
    record = a_record(principal="dp", policy_digest="p")
    found = revival.keys(record, principal="dp-2", listed=("NEW",)).credentials
    assert (found.principal, found.policy_digest) == ("dp-2", "")


US, THEM = b.MARKETING, b.FINANCE


@pytest.mark.parametrize(
    ("wanted", "owners", "expected"),
    [
        # (namespace, prefix, earlier ones)
        ("marketing", {"marketing": US}, ("marketing", True, [])),
        ("marketing", {"marketing": None}, ("marketing", True, [])),
        ("marketing", {"marketing": THEM}, ("marketing", False, [])),
        ("marketing", {"marketing": US, "older": US}, ("marketing", True, ["older"])),
        ("marketing", {"marketing": US, "older": THEM}, ("marketing", True, [])),
        ("new", {"marketing": US, "new": None}, ("marketing", True, [])),
        ("new", {"marketing": US, "new": THEM}, ("marketing", True, [])),
        ("new", {"marketing": None, "new": None}, ("marketing", False, [])),
        ("new", {"marketing": US, "new": US}, ("new", True, ["marketing"])),
        ("new", {"marketing": None, "new": US}, ("new", True, [])),
        ("new", {"marketing": THEM, "new": US, "older": US}, ("new", True, ["older"])),
        ("older", {"marketing": US, "older": US}, ("older", True, ["marketing"])),
    ],
)
def test_prefixes_are_those_whose_marks_name_the_product(
    wanted: str, owners: dict[str, str | None], expected: tuple[str, bool, list[str]]
) -> None:
    record = dataclasses.replace(a_record(), former=(model.Former(namespace="older"),))
    found = revival.prefixes(record, wanted=wanted, owners=owners, kept_until=b.NOW)
    former = [each.namespace for each in found.former]
    assert (found.namespace, found.prefix, former) == expected


def test_an_earlier_prefix_that_was_being_freed_is_freed_all_the_same() -> None:
    closing = model.Former(namespace="older", closed=True)
    record = dataclasses.replace(a_record(), former=(closing,))
    owners = {"marketing": US, "older": None}
    found = revival.prefixes(record, wanted="marketing", owners=owners, kept_until=b.NOW)
    assert found.former == (closing,)


@pytest.mark.parametrize(
    ("lies_at", "rendered", "folder"),
    [("marketing", True, ""), ("older", True, "older"), (None, False, "")],
)
def test_a_folder_is_where_it_lies(lies_at: str | None, rendered: bool, folder: str) -> None:
    state = model.WorkspaceState(rendered=True, published_digest="x", published_key_id="x")
    record = dataclasses.replace(a_record(current=OLD), workspace=state)
    found = revival.folder(record, lies_at=lies_at, names_key="OLD").workspace
    assert (found.rendered, found.folder) == (rendered, folder)
    assert (found.published_digest, found.published_key_id) == ("", "OLD")


def test_a_key_that_env_names_counts_only_if_it_is_the_products() -> None:
    record = a_record(current=OLD, retiring=(model.Retiring(key_id="NEW"),))
    for named, expected in (("NEW", "NEW"), ("OLD", "OLD"), ("<script>", "")):
        found = revival.folder(record, lies_at="marketing", names_key=named)
        assert found.workspace.published_key_id == expected
    nothing = revival.folder(a_record(), lies_at="marketing", names_key="OLD")
    assert nothing.workspace.published_key_id == ""


def test_strangers_may_be_older_than_a_restore_for_a_while() -> None:
    restored_at = b.NOW.isoformat()
    assert revival.may_be_older(restored_at, b.NOW + timedelta(days=6))
    assert not revival.may_be_older(restored_at, b.NOW + timedelta(days=8))
    assert not revival.may_be_older(None, b.NOW)


def test_without_the_portal_a_restored_record_opens_nothing_and_closes_nothing() -> None:
    restored = revival.mark(a_record(principal="dp"))
    for asks, acts in (({}, False), ({model.Ask.COMPROMISED: b.NOW}, True)):
        wanted = blind.wanted(restored, asks, b.NOW)
        assert wanted.grants == ()
        assert blind.must_act(restored, wanted) is acts


# the world


def a_world(**settings: object) -> MemoryWorld:
    """Sales grants marketing its port; both are settled."""
    world = MemoryWorld(w.a_producer(), **settings)  # type: ignore[arg-type]
    world.portal.put(b.a_consumer_view(b.a_link()))
    for key in (SALES, MARKETING):
        world.settle(key)

    def check(effect: str) -> None:
        for name in world.folders.folders:
            key = world.published_key(name)
            assert key is None or world.issuer.knows(key), f"a dead key before {effect}"

    world.checkpoint = check
    return world


def replace_key(world: MemoryWorld) -> None:
    """Replace the key of marketing and let the old one's grace run out."""
    world.clock.advance(60)
    world.store.asks.ask([MARKETING], model.Ask.ROTATE)
    world.settle(MARKETING)
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.settle(MARKETING)


def rest(world: MemoryWorld, *keys: model.Key) -> None:
    """Settle, and let every grace run out."""
    for _ in range(3):
        for key in keys or (SALES, MARKETING):
            world.settle(key)
        world.clock.advance(w.GRACE_SECONDS + 120)


def keys_of(world: MemoryWorld, key: model.Key) -> set[str]:
    held = world.issuer.held.values()
    return {each for principal in held if principal.product_id == key.id for each in principal.keys}


@pytest.mark.parametrize("limit", [2, 4])
def test_a_key_that_is_younger_than_the_backup_lives_until_a_known_one_is_published(
    limit: int,
) -> None:
    world = a_world()
    world.issuer.max_live_keys = limit
    backup = world.store.backup()
    for _ in range(2):
        replace_key(world)
    younger = world.published_key("marketing")
    world.store.restore(backup)
    world.settle(MARKETING)
    published = world.published_key("marketing")
    assert published is not None
    assert published != younger
    assert younger is not None
    assert world.issuer.knows(younger)  # jobs that have it go on until its grace is over
    rest(world)
    assert keys_of(world, MARKETING) == {published.id}


def test_where_the_engine_is_full_the_key_in_env_is_not_the_one_that_goes() -> None:
    for wanted_by_env in (0, 1):
        world = a_world()
        backup = world.store.backup()
        replace_key(world)
        held = world.record(MARKETING).credentials
        principal = model.Principal(name=held.principal, product_id=MARKETING.id)
        second = world.issuer.create_key(principal, None, {})
        both = [world.published_key("marketing"), second]
        in_env = both[wanted_by_env]
        assert in_env is not None
        text = world.folders.folders["marketing"].files[".env"]
        first = both[0]
        assert first is not None
        text = text.replace(first.id, in_env.id).replace(first.secret, in_env.secret)
        world.folders.folders["marketing"].files[".env"] = text
        world.store.restore(backup)
        rest(world)
        assert len(keys_of(world, MARKETING)) == 1


def test_what_was_revoked_since_stays_revoked_although_the_portal_is_away() -> None:
    world = a_world()
    backup = world.store.backup()
    world.portal.put(b.a_consumer_view(b.a_link(model.LinkStatus.REVOKED)))
    world.settle(MARKETING)

    def check(effect: str) -> None:
        assert not world.may("marketing", READ, "sales/orders/x"), f"open before {effect}"

    world.checkpoint = check
    world.store.restore(backup)
    world.portal.failure = errors.PortalUnavailable("no answer")
    assert world.reconcile(MARKETING).status == "retry"
    world.portal.failure = errors.PortalRejected("no")
    assert world.reconcile(MARKETING).status == "condition"
    world.portal.failure = None
    world.settle(MARKETING)
    assert world.record(MARKETING).grants == ()


def test_what_was_granted_since_stays_granted() -> None:
    world = MemoryWorld(w.a_producer(), b.a_consumer_view())
    for key in (SALES, MARKETING):
        world.settle(key)
    backup = world.store.backup()
    world.portal.put(b.a_consumer_view(b.a_link()))
    world.settle(MARKETING)
    world.checkpoint = lambda effect: _assert_open(world, effect)
    world.store.restore(backup)
    for key in (MARKETING, SALES):
        world.settle(key)


def _assert_open(world: MemoryWorld, effect: str) -> None:
    assert world.may("marketing", READ, "sales/orders/x"), f"closed before {effect}"


def test_a_product_that_was_made_and_renamed_since_keeps_its_key_and_its_folder() -> None:
    world = MemoryWorld(w.a_producer())
    world.settle(SALES)
    backup = world.store.backup()
    world.portal.put(b.a_consumer_view(b.a_link()))
    world.settle(MARKETING)
    world.folders.put("marketing", "thesis.txt", "mine")
    world.portal.change(MARKETING, namespace="campaigns")
    world.settle(MARKETING)
    world.store.restore(backup)

    def check(effect: str) -> None:
        key = world.published_key("campaigns")
        assert key is not None
        assert world.issuer.knows(key), f"a dead key before {effect}"

    world.checkpoint = check
    rest(world)
    assert world.file("campaigns", "thesis.txt") == "mine"
    assert len(keys_of(world, MARKETING)) == 1


def test_a_product_that_was_deleted_since_is_let_go() -> None:
    world = a_world()
    world.checkpoint = lambda effect: None
    backup = world.store.backup()
    world.portal.delete(MARKETING)
    world.settle(MARKETING)
    world.store.restore(backup)
    world.resync.run()
    world.settle(MARKETING)
    assert world.record(MARKETING).released_at is not None
    assert keys_of(world, MARKETING) == set()


def test_a_product_that_was_deleted_unseen_is_let_go_although_the_bucket_is_away() -> None:
    world = a_world()
    backup = world.store.backup()
    world.checkpoint = lambda effect: None
    world.portal.change(MARKETING, namespace="campaigns")
    world.settle(MARKETING)
    world.store.restore(backup)
    world.portal.delete(MARKETING)
    world.resync.run()
    world.objects.down = True
    world.settle(MARKETING)
    assert keys_of(world, MARKETING) == set()
    assert world.file("campaigns", ".env") is None


def test_a_prefix_that_is_somebody_elses_by_now_is_never_opened() -> None:
    world = a_world()
    backup = world.store.backup()
    world.portal.change(MARKETING, namespace="campaigns")
    world.settle(MARKETING)
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.settle(MARKETING)  # the earlier prefix is empty: it is free
    heir = model.PortalView(product=b.a_product(HEIR.id, "marketing"))
    world.portal.put(heir)
    world.settle(HEIR)

    def check(effect: str) -> None:
        for key_id in keys_of(world, MARKETING):
            theirs = f"arn:aws:s3:::{w.BUCKET}/marketing/x"
            assert not world.issuer.allowed(key_id, READ, theirs), f"open before {effect}"

    world.checkpoint = check
    world.store.restore(backup)
    rest(world, SALES, MARKETING, HEIR)
    assert world.may("campaigns", READ, "campaigns/x")
    assert world.may("marketing", READ, "marketing/x")


def test_consumers_are_not_granted_what_became_somebody_elses() -> None:
    world = a_world()
    backup = world.store.backup()
    world.portal.change(SALES, namespace="vertrieb")
    view = world.portal.views[MARKETING]
    renamed = dataclasses.replace(view.producers[0], namespace="vertrieb")
    world.portal.put(dataclasses.replace(view, producers=(renamed,)))
    for key in (SALES, MARKETING):
        world.settle(key)
    world.store.restore(backup)
    world.reconcile(MARKETING)
    assert not world.may("marketing", READ, "sales/orders/x")
    rest(world)
    assert world.may("marketing", READ, "vertrieb/orders/x")


def test_an_earlier_prefix_is_not_freed_while_a_restored_record_may_open_it() -> None:
    world = a_world()
    backup = world.store.backup()
    world.store.restore(backup)
    world.portal.change(SALES, namespace="vertrieb")
    world.clock.advance(w.GRACE_SECONDS + 1)
    world.reconcile(SALES)
    world.clock.advance(w.GRACE_SECONDS + 1)
    assert world.reconcile(SALES).status == "retry"
    assert world.objects.owner("sales") == b.SALES


def test_a_wish_to_kill_leaked_keys_is_heard_again_although_the_portal_is_away() -> None:
    world = a_world()
    world.checkpoint = lambda effect: None
    world.clock.advance(60)
    world.store.asks.ask([MARKETING], model.Ask.COMPROMISED)
    leaked = keys_of(world, MARKETING)
    world.store.restore(world.store.backup())
    world.portal.failure = errors.PortalUnavailable("no answer")
    since = world.record(MARKETING).access
    world.reconcile(MARKETING)
    assert keys_of(world, MARKETING) & leaked == set()
    assert world.record(MARKETING).access == since != model.AccessLog()
    world.portal.failure = None
    world.settle(MARKETING)
    assert world.record(MARKETING).access == since
    published = world.published_key("marketing")
    assert published is not None
    assert world.issuer.knows(published)


def test_an_archived_product_that_was_made_active_since_keeps_its_key() -> None:
    world = a_world()
    world.checkpoint = lambda effect: None
    world.portal.change(MARKETING, status=model.ProductStatus.ARCHIVED)
    world.settle(MARKETING)
    backup = world.store.backup()
    world.portal.change(MARKETING, status=model.ProductStatus.ACTIVE, namespace="campaigns")
    world.settle(MARKETING)
    assert world.record(MARKETING).credentials.principal != names.principal(
        "marketing", MARKETING.id
    )
    world.store.restore(backup)

    def check(effect: str) -> None:
        key = world.published_key("campaigns")
        assert key is None or world.issuer.knows(key), f"a dead key before {effect}"

    world.checkpoint = check
    rest(world)
    assert len(keys_of(world, MARKETING)) == 1


def test_nothing_is_touched_until_the_world_could_be_read() -> None:
    world = a_world()
    backup = world.store.backup()
    replace_key(world)
    world.store.restore(backup)
    for part in (world.objects, world.issuer):
        part.down = True
        assert world.reconcile(MARKETING).status == "retry"
        assert world.record(MARKETING).restored
        part.down = False
    assert "delete-key" not in world.effects
    world.settle(MARKETING)
    assert not world.record(MARKETING).restored


def test_nothing_is_released_one_by_one_before_a_resync_has_seen_the_portal() -> None:
    """What ports publish, and a producer that was compared, queue consumers too."""
    world = a_world()
    world.checkpoint = lambda effect: None
    many = [model.Key.product(b.an_id(number)) for number in range(100, 110)]
    for number, key in enumerate(many, 200):
        view = b.a_consumer_view(b.a_link(consumer=key.id, number=number))
        product = b.a_product(key.id, f"p{number}")
        world.portal.put(dataclasses.replace(view, product=product))
        world.settle(key)
    world.store.restore(world.store.backup())
    for key in many:
        del world.portal.views[key]

    world.published.put(f"sales/orders/{portwatch.NAME}", published.a_file())
    world.clock.advance(w.PORTS_SECONDS)
    assert world.portwatch.tick()
    world.settle(SALES)
    while lease := world.store.queue.lease("test"):
        worker.run_once(world.duty, lease, lambda: None)
    assert {world.record(key).released_at for key in many} == {None}
    assert all(keys_of(world, key) for key in many)
    assert world.resync.run().guarded
    assert all(keys_of(world, key) for key in many)


def test_a_resync_that_fails_leaves_the_guard_of_a_restore_in_place() -> None:
    world = a_world()
    world.checkpoint = lambda effect: None
    world.store.restore(world.store.backup())
    del world.portal.views[MARKETING]
    world.portal.failure = errors.PortalUnavailable("away")
    with pytest.raises(errors.PortalUnavailable):
        world.resync.run()
    world.portal.failure = None
    assert world.reconcile(MARKETING).status == "condition"
    assert keys_of(world, MARKETING)
    assert not world.resync.run().guarded
    world.settle(MARKETING)
    assert keys_of(world, MARKETING) == set()


def test_many_products_that_vanished_since_wait_for_a_person() -> None:
    world = a_world()
    numbers = range(100, 110)
    many = [model.Key.product(b.an_id(number)) for number in numbers]
    for key in many:
        world.portal.put(model.PortalView(product=b.a_product(key.id, f"p{key.id[-3:]}")))
        world.settle(key)
    world.store.restore(world.store.backup())
    for key in many:
        world.portal.delete(key)
    assert [key for key in world.store.records.due(world.clock()) if key in many] == []
    report = world.resync.run()
    assert report.guarded
    assert report.queued == 2
    assert all(keys_of(world, key) for key in many)
