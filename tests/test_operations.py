"""Commands on their parts, beside a small portal; S3 and IAM are not there and not needed."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from provisioner import app, errors, model, operations, settings
from provisioner.demo import portal as fake_portal
from provisioner.loop import resync, sweep


def straight(keys: Iterable[model.Key], title: str, total: int) -> Iterator[model.Key]:
    yield from keys


@pytest.fixture
def portal() -> Iterator[fake_portal.RunningPortal]:
    with fake_portal.RunningPortal(fake_portal.FakePortal(style="main")) as running:
        yield running


@pytest.fixture
def read(portal: fake_portal.RunningPortal, tmp_path: Path) -> settings.Settings:
    environ = {
        "PROV_DPP_API_URL": portal.url,
        "PROV_ISSUER": "iam",
        "S3_ENDPOINT": "http://127.0.0.1:9",
        "S3_ACCESS_KEY": "nobody",
        "S3_SECRET_KEY": "knows",
        "PROV_DUCKDB_EXTENSION_DIRECTORY": "not-filled",
    }
    return settings.load(environ, cwd=tmp_path, serving=False)


def test_a_plan_finds_a_product_by_namespace_and_by_id(
    portal: fake_portal.RunningPortal, read: settings.Settings
) -> None:
    product = portal.portal.state.create_product("sales", name="Sales")
    portal.portal.state.create_product("hr", name="HR")
    with operations.opened(read, read_only=True) as parts:
        for name in ("sales", product, product.upper()):
            (preview,) = operations.previews(parts, name, straight)
            assert preview.desired.key.id == product
        assert len(operations.previews(parts, None, straight)) == 2


def test_a_plan_finds_an_exploration_by_namespace_and_by_id(
    portal: fake_portal.RunningPortal, read: settings.Settings
) -> None:
    product = portal.portal.state.create_product("sales", name="Sales")
    exploration = portal.portal.state.create_exploration("why")
    wanted = model.Key(model.Kind.EXPLORATION, exploration)
    with operations.opened(read, read_only=True) as parts:
        for name in ("why", exploration, exploration.upper()):
            (preview,) = operations.previews(parts, name, straight)
            assert preview.desired.key == wanted
            assert {action.step for action in preview.actions} == {
                "finalizer",
                "credentials",
                "workspace",
            }
        found = operations.previews(parts, None, straight)
    assert [each.desired.key for each in found] == [model.Key.product(product), wanted]


def test_an_exploration_that_is_gone_is_found_by_what_the_store_knows(
    portal: fake_portal.RunningPortal, read: settings.Settings
) -> None:
    exploration = portal.portal.state.create_exploration("why")
    with operations.opened(read) as parts:
        (outcome,) = operations.reconcile(parts, exploration, straight)
        assert outcome.status == "retry"  # there is no IAM
        for name in ("why", exploration):
            (record,) = operations.records(parts, name)
            assert record.key == model.Key(model.Kind.EXPLORATION, exploration)
    portal.portal.state.delete_exploration(exploration)
    with operations.opened(read) as parts:
        for name in ("why", exploration):
            (preview,) = operations.previews(parts, name, straight)
            assert preview.desired.key == record.key
            assert preview.desired.phase is model.Phase.GONE


def test_an_id_that_nobody_knows_is_a_products(read: settings.Settings) -> None:
    with operations.opened(read, read_only=True) as parts:
        (preview,) = operations.previews(parts, str(uuid.UUID(int=5)), straight)
        assert preview.desired.key.produces
        assert preview.desired.phase is model.Phase.GONE


def test_products_are_planned_although_the_portal_lists_no_explorations(
    portal: fake_portal.RunningPortal, read: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal.portal.state.create_product("sales", name="Sales")
    with operations.opened(read, read_only=True) as parts:

        def refuse() -> tuple[model.Product, ...]:
            raise errors.PortalRejected("the portal refused", status=403)

        monkeypatch.setattr(parts.portal, "explorations", refuse)
        (preview,) = operations.previews(parts, None, straight)
        assert preview.record.namespace == "sales"


def test_a_name_that_nobody_knows_is_said(read: settings.Settings) -> None:
    with operations.opened(read, read_only=True) as parts:
        with pytest.raises(errors.PermanentError, match="neither portal nor store"):
            operations.previews(parts, "nobody", straight)
        with pytest.raises(errors.PermanentError, match="the store knows no such"):
            operations.records(parts, "nobody")


def test_a_product_that_only_the_store_knows_is_found_there(
    portal: fake_portal.RunningPortal, read: settings.Settings
) -> None:
    product = portal.portal.state.create_product("sales", name="Sales")
    with operations.opened(read) as parts:
        (outcome,) = operations.reconcile(parts, "sales", straight)
        assert outcome.status == "retry"  # there is no S3
    portal.portal.state.delete_product(product)
    with operations.opened(read) as parts:
        (outcome,) = operations.reconcile(parts, "sales", straight)
        assert outcome.status == "done"
        (record,) = operations.records(parts, product)
        assert record.released_at is not None


def test_beside_a_service_a_product_is_only_queued(
    portal: fake_portal.RunningPortal, read: settings.Settings
) -> None:
    portal.portal.state.create_product("sales", name="Sales")
    with operations.opened(read) as serving:
        assert serving.store.database.acquire()
        with operations.opened(read) as beside:
            (outcome,) = operations.reconcile(beside, "sales", straight)
            assert outcome.status == "queued"
            assert operations.ask_for_resync(beside, confirm_deletions=True)
        assert serving.queue.depth() == (1, 0)
        assert serving.store.flags.get(resync.CONFIRMED)


def test_a_mass_deletion_that_is_held_back_is_noticed(read: settings.Settings) -> None:
    with operations.opened(read) as parts:
        assert operations.notices(parts) == ()
        parts.store.flags.put(resync.MASS_DELETION, "9 of 9 products would be released")
        (notice,) = operations.notices(parts)
    assert "--confirm-deletions" in notice


def test_principals_that_nobody_here_knows_are_noticed(read: settings.Settings) -> None:
    with operations.opened(read) as parts:
        parts.store.flags.put(sweep.FOREIGN, "1: dp-lost-12345678")
        (notice,) = operations.notices(parts)
        _, facts = app.Service(parts).ready()
    assert notice.startswith("ForeignPrincipals: ")
    assert notice.endswith("1: dp-lost-12345678")
    assert facts["foreign_principals"] == "1: dp-lost-12345678"


def test_beside_a_service_a_deep_look_is_asked_for(
    portal: fake_portal.RunningPortal, read: settings.Settings
) -> None:
    product = portal.portal.state.create_product("sales", name="Sales")
    with operations.opened(read) as serving:
        assert serving.store.database.acquire()
        with operations.opened(read) as beside:
            (outcome,) = operations.reconcile(beside, "sales", straight, verify=True)
        assert outcome.status == "queued"
        assert model.Ask.VERIFY in serving.store.asks.of(model.Key.product(product))


def test_who_only_observes_looks_at_nothing_deep(read: settings.Settings) -> None:
    watching = dataclasses.replace(read, mode=type(read.mode)("observe"))
    with operations.opened(watching) as parts, pytest.raises(errors.Conflict, match="observe"):
        operations.reconcile(parts, None, straight, verify=True)


def test_rendering_over_something_is_refused(tmp_path: Path) -> None:
    template = operations.template_folder({}, tmp_path)
    text = {"name": "Sales", "description": "[[ 7*7 ]]"}
    made = operations.render_into(tmp_path, template=template, namespace="sales", text=text)
    assert "[[ 7*7 ]]" in (made / "README.md").read_text()
    with pytest.raises(errors.NotOurs):
        operations.render_into(tmp_path, template=template, namespace="sales", text=text)
    with pytest.raises(errors.NameRejected):
        operations.render_into(tmp_path, template=template, namespace="..", text=text)


@pytest.mark.parametrize(
    ("issuer", "chooses"), [("iam", False), ("rgw", True), ("rustfs", True), ("minio", True)]
)
def test_the_parts_hold_the_issuer_that_is_named(
    portal: fake_portal.RunningPortal, tmp_path: Path, issuer: str, chooses: bool
) -> None:
    environ = {
        "PROV_DPP_API_URL": portal.url,
        "PROV_ISSUER": issuer,
        "S3_ENDPOINT": "http://127.0.0.1:9",
        "S3_ACCESS_KEY": "nobody",
        "S3_SECRET_KEY": "knows",
    }
    read = settings.load(environ, cwd=tmp_path, serving=False)
    with operations.opened(read, read_only=True) as parts:
        assert (parts.issuer.name, parts.issuer.chooses_key_ids) == (issuer, chooses)


@pytest.mark.parametrize("issuer", ["rgw", "rustfs", "minio"])
def test_an_issuer_of_a_self_hosted_engine_without_its_endpoint_stops_the_start(
    portal: fake_portal.RunningPortal, tmp_path: Path, issuer: str
) -> None:
    environ = {"PROV_DPP_API_URL": portal.url, "PROV_ISSUER": issuer}
    read = settings.load(environ, cwd=tmp_path, serving=False)
    with (
        pytest.raises(errors.ConfigurationError, match=f"{issuer} needs an S3_ENDPOINT"),
        operations.opened(read, read_only=True),
    ):
        pass
