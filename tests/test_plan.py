from __future__ import annotations

import dataclasses

import pytest

from provisioner import errors, model
from provisioner.domain import plan
from tests import builders as b

RULES = plan.Rules(bucket="lake")
KEY = model.Key.product(b.MARKETING)


def desired(view: model.PortalView | None, rules: plan.Rules = RULES) -> model.Desired:
    return plan.desired(KEY, view, rules=rules, namespaces={b.SALES: ("sales",)}, now=b.NOW)


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        (model.ProductStatus.ACTIVE, model.Phase.ACTIVE),
        (model.ProductStatus.PENDING, model.Phase.ACTIVE),
        (model.ProductStatus.ARCHIVED, model.Phase.ARCHIVED),
        (model.ProductStatus.DELETING, model.Phase.GONE),
    ],
)
def test_the_status_decides_the_phase(status: model.ProductStatus, phase: model.Phase) -> None:
    assert desired(model.PortalView(product=b.a_product(status=status))).phase is phase


def test_a_status_that_nobody_knows_makes_and_releases_nothing() -> None:
    with pytest.raises(errors.PortalRejected):
        desired(model.PortalView(product=b.a_product(status=model.ProductStatus.UNKNOWN)))


def test_a_product_the_portal_does_not_know_is_gone() -> None:
    assert desired(None).phase is model.Phase.GONE


def test_what_is_archived_is_granted_nothing() -> None:
    view = b.a_consumer_view(b.a_link())
    archived = dataclasses.replace(view.product, status=model.ProductStatus.ARCHIVED)
    assert desired(dataclasses.replace(view, product=archived)).grants == ()


def test_the_digest_is_the_same_for_the_same_world() -> None:
    assert (
        desired(b.a_consumer_view(b.a_link())).digest
        == desired(b.a_consumer_view(b.a_link())).digest
    )


VIEW = b.a_consumer_view(b.a_link())


@pytest.mark.parametrize(
    "changed",
    [
        b.a_consumer_view(),
        b.a_consumer_view(b.a_link(mode="write")),
        b.a_consumer_view(b.a_link(valid_until=b.TODAY)),
        b.a_consumer_view(b.a_link(), port=b.a_port(namespace="other")),
        b.a_consumer_view(b.a_link(), port=b.a_port(assets=(b.an_asset("sales/x"),))),
        dataclasses.replace(VIEW, ports=(b.a_port(producer=b.MARKETING),)),
        dataclasses.replace(VIEW, assets=(b.an_asset("marketing"),)),
        dataclasses.replace(
            VIEW, product=dataclasses.replace(VIEW.product, finalizers=frozenset({RULES.finalizer}))
        ),
        dataclasses.replace(VIEW, product=dataclasses.replace(VIEW.product, namespace="m2")),
    ],
)
def test_the_digest_changes_with_all_that_steps_act_on(changed: model.PortalView) -> None:
    assert desired(changed).digest != desired(VIEW).digest


def test_a_setting_that_reaches_workspaces_changes_the_digest() -> None:
    other = dataclasses.replace(RULES, fingerprint="elsewhere")
    assert desired(VIEW, other).digest != desired(VIEW).digest


def test_an_own_port_with_a_hostile_name_is_left_out_and_said() -> None:
    view = dataclasses.replace(
        VIEW, ports=(b.a_port(namespace=".."), b.a_port(b.REFUNDS, "refunds"))
    )
    wanted = desired(view)
    assert [port.namespace for port in wanted.ports] == ["refunds"]
    assert [condition.type for condition in wanted.conditions] == ["PortNameRejected"]


def test_access_changes_name_every_place_gained_and_lost() -> None:
    before = desired(b.a_consumer_view(b.a_link())).grants
    after = desired(b.a_consumer_view(b.a_link(mode="write"))).grants
    changes = plan.access_changes(before, after)
    assert [(c.gains, c.access.value, c.location.prefix) for c in changes] == [
        (False, "read", "sales/orders/"),
        (True, "write", "sales/orders/"),
    ]
    assert plan.access_changes(after, after) == ()
