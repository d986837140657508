"""Hold the issuer for MinIO against a real one: what others changed by hand, and what is theirs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from provisioner import errors, model, names
from provisioner.domain import policy
from provisioner.issuers import madmin
from provisioner.steps import keypair
from tests import canned_server

if TYPE_CHECKING:
    from tests.engines import Minio, Rgw

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine

DOCUMENT = policy.document(bucket="lake", own=["sales/"], grants=[])
MADE_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BY_HAND = json.dumps(policy.document(bucket="lake", own=["hr/"], grants=[])).encode()


def new_principal() -> model.Principal:
    product = str(uuid.uuid4())
    name = names.principal("sales-of-everything-there-is-in-every-country", product)
    return model.Principal(name=name, product_id=product)


@pytest.fixture
def issuer(minio: Minio) -> madmin.MinioIssuer:
    return minio.issuer(clock=lambda: MADE_AT)


@pytest.fixture
def principal(issuer: madmin.MinioIssuer) -> model.Principal:
    made = new_principal()
    issuer.ensure_principal(made)
    issuer.put_policy(made, DOCUMENT)
    return made


@pytest.fixture
def key(issuer: madmin.MinioIssuer, principal: model.Principal) -> model.AccessKey:
    return issuer.create_key(principal, keypair.choose(), DOCUMENT)


def rewrite_the_policy(minio: Minio, name: str, key: str) -> None:
    marked = minio.calls().policy(name)
    marked["Statement"][0]["Resource"] = ["arn:aws:s3:::lake/*"]
    minio.calls().put_policy(name, json.dumps(marked).encode())


def write_a_policy_of_their_own(minio: Minio, name: str, key: str) -> None:
    minio.calls().put_policy(name, BY_HAND)


def attach_another_policy(minio: Minio, name: str, key: str) -> None:
    minio.calls().attach(f"{name},readwrite", name)


def replace_the_policy(minio: Minio, name: str, key: str) -> None:
    minio.calls().attach("readwrite", name)


def detach_the_policy(minio: Minio, name: str, key: str) -> None:
    minio.calls().attach("", name)


def disable_the_user(minio: Minio, name: str, key: str) -> None:
    minio.raw().write("PUT", "set-user-status", {"accessKey": name, "status": "disabled"})


def join_a_group(minio: Minio, name: str, key: str) -> None:
    group = {"group": f"g-{name}", "members": [name], "groupStatus": "enabled", "isRemove": False}
    minio.raw().write("PUT", "update-group-members", {}, json.dumps(group).encode())


def change_the_account(minio: Minio, key: str, **change: object) -> None:
    minio.raw().write(
        "POST",
        "update-service-account",
        {"accessKey": key},
        json.dumps(change).encode(),
        encrypted=True,
    )


def disable_a_key(minio: Minio, name: str, key: str) -> None:
    change_the_account(minio, key, newStatus="off")


def give_a_key_a_policy(minio: Minio, name: str, key: str) -> None:
    change_the_account(minio, key, newPolicy=json.loads(BY_HAND))


def change_all_at_once(minio: Minio, name: str, key: str) -> None:
    for change in (give_a_key_a_policy, join_a_group, replace_the_policy, disable_the_user):
        change(minio, name, key)


@pytest.mark.parametrize(
    "change",
    [
        rewrite_the_policy,
        write_a_policy_of_their_own,
        attach_another_policy,
        replace_the_policy,
        detach_the_policy,
        disable_the_user,
        join_a_group,
        disable_a_key,
        give_a_key_a_policy,
        change_all_at_once,
    ],
    ids=lambda change: change.__name__,
)
def test_what_was_changed_by_hand_is_seen_and_repaired(
    minio: Minio,
    issuer: madmin.MinioIssuer,
    principal: model.Principal,
    key: model.AccessKey,
    change: Callable[[Minio, str, str], None],
) -> None:
    assert issuer.holds(principal, DOCUMENT)
    change(minio, principal.name, key.id)
    assert not issuer.holds(principal, DOCUMENT)
    issuer.put_policy(principal, DOCUMENT)
    assert issuer.holds(principal, DOCUMENT)
    assert [each.active for each in issuer.list_keys(principal)] == [True]


def test_a_user_that_was_deleted_by_hand_is_made_again_with_its_policy(
    minio: Minio, issuer: madmin.MinioIssuer, principal: model.Principal, key: model.AccessKey
) -> None:
    minio.calls().delete_user(principal.name)
    assert not issuer.holds(principal, DOCUMENT)
    with pytest.raises(errors.Conflict):
        issuer.put_policy(principal, DOCUMENT)
    with pytest.raises(errors.Conflict):
        issuer.create_key(principal, keypair.choose(), DOCUMENT)
    issuer.ensure_principal(principal)
    assert issuer.list_keys(principal) == ()
    assert issuer.holds(principal, DOCUMENT)


def test_a_user_that_was_disabled_by_hand_is_enabled_before_a_key_is_made(
    minio: Minio, issuer: madmin.MinioIssuer, principal: model.Principal, key: model.AccessKey
) -> None:
    disable_the_user(minio, principal.name, key.id)
    with pytest.raises(errors.Conflict):
        issuer.create_key(principal, keypair.choose(), DOCUMENT)
    issuer.ensure_principal(principal)
    issuer.create_key(principal, keypair.choose(), DOCUMENT)
    assert len(issuer.list_keys(principal)) == 2


def test_a_policy_that_was_deleted_by_hand_is_made_again_since_keys_tell_whose_user_it_is(
    minio: Minio, issuer: madmin.MinioIssuer, principal: model.Principal, key: model.AccessKey
) -> None:
    detach_the_policy(minio, principal.name, key.id)
    minio.calls().delete_policy(principal.name)
    assert principal not in issuer.principals()
    assert not issuer.holds(principal, DOCUMENT)
    issuer.put_policy(principal, DOCUMENT)
    assert issuer.holds(principal, DOCUMENT)
    assert [each.id for each in issuer.list_keys(principal)] == [key.id]


def test_a_principal_without_its_policy_is_ensured_and_deleted_all_the_same(
    minio: Minio, issuer: madmin.MinioIssuer, principal: model.Principal, key: model.AccessKey
) -> None:
    for act in (issuer.ensure_principal, issuer.delete_principal):
        detach_the_policy(minio, principal.name, key.id)
        minio.calls().delete_policy(principal.name)
        act(principal)
    assert minio.calls().user(principal.name) is None
    assert minio.calls().policy(principal.name) is None


def test_a_policy_of_somebody_elses_with_the_name_stays_untouched(
    minio: Minio, issuer: madmin.MinioIssuer
) -> None:
    principal = new_principal()
    minio.calls().put_policy(principal.name, BY_HAND)
    for call in (
        lambda: issuer.ensure_principal(principal),
        lambda: issuer.put_policy(principal, DOCUMENT),
        lambda: issuer.create_key(principal, keypair.choose(), DOCUMENT),
        lambda: issuer.delete_principal(principal),
    ):
        with pytest.raises(errors.NotOurs):
            call()
    assert not issuer.holds(principal, DOCUMENT)
    assert minio.calls().policy(principal.name)["Statement"][0]["Resource"] == [
        "arn:aws:s3:::lake/hr/*"
    ]
    assert minio.calls().user(principal.name) is None


def test_a_policy_that_somebody_gave_to_another_user_opens_nothing_once_its_product_is_gone(
    minio: Minio, issuer: madmin.MinioIssuer, principal: model.Principal, key: model.AccessKey
) -> None:
    minio.calls().add_user("borrower", "b" * 40)
    minio.calls().attach(principal.name, "borrower")
    with pytest.raises(errors.IssuerRejected):
        issuer.delete_principal(principal)
    left = minio.calls().policy(principal.name)
    assert [each["Effect"] for each in left["Statement"]] == ["Deny"]
    minio.calls().attach("", "borrower")
    issuer.delete_principal(principal)
    assert minio.calls().policy(principal.name) is None


RIGHTS = (
    *("ServerInfo", "CreatePolicy", "GetPolicy", "ListUserPolicies", "DeletePolicy"),
    *("CreateUser", "GetUser", "EnableUser", "DeleteUser", "AttachUserOrGroupPolicy"),
    *("AddUserToGroup", "CreateServiceAccount", "ListServiceAccounts"),
    *("UpdateServiceAccount", "RemoveServiceAccount"),
)


def test_the_rights_that_operations_names_are_enough(minio: Minio) -> None:
    actions = [f"admin:{each}" for each in RIGHTS]
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": ["arn:aws:s3:::*"]}],
    }
    narrow = model.AccessKey("provisioner", "p" * 40)
    minio.calls().put_policy("provisioner", json.dumps(document).encode())
    minio.calls().add_user(narrow.id, narrow.secret)
    minio.calls().attach("provisioner", narrow.id)
    issuer = madmin.MinioIssuer(endpoint=minio.endpoint, region="us-east-1", admin=narrow)
    principal = new_principal()
    issuer.ensure_principal(principal)
    issuer.put_policy(principal, DOCUMENT)
    key = issuer.create_key(principal, keypair.choose(), DOCUMENT)
    change_all_at_once(minio, principal.name, key.id)
    issuer.put_policy(principal, DOCUMENT)
    assert issuer.holds(principal, DOCUMENT)
    assert principal in issuer.principals()
    issuer.delete_key(principal, key.id)
    issuer.delete_principal(principal)
    assert principal not in issuer.principals()


def test_every_right_is_named_in_operations() -> None:
    text = Path(__file__).parents[2].joinpath("docs/operations.md").read_text()
    assert [each for each in RIGHTS if f"`admin:{each}`" not in text] == []


def test_a_key_id_of_another_principal_is_not_taken_over(
    issuer: madmin.MinioIssuer, principal: model.Principal, key: model.AccessKey
) -> None:
    other = new_principal()
    issuer.ensure_principal(other)
    with pytest.raises(errors.NotOurs):
        issuer.create_key(other, key, DOCUMENT)
    issuer.delete_key(other, key.id)
    assert [each.id for each in issuer.list_keys(principal)] == [key.id]


def test_a_key_is_no_child_of_root_and_says_when_it_was_made(
    minio: Minio, issuer: madmin.MinioIssuer, principal: model.Principal, key: model.AccessKey
) -> None:
    assert [(each.id, each.created_at) for each in issuer.list_keys(principal)] == [
        (key.id, MADE_AT)
    ]
    assert key.id not in {each.id for each in minio.calls().accounts(minio.admin.id)}


def test_a_key_that_nobody_of_us_made_is_listed_without_a_time(
    minio: Minio, issuer: madmin.MinioIssuer, principal: model.Principal
) -> None:
    minio.calls().add_account(principal.name, keypair.choose(), "made by hand")
    assert [each.created_at for each in issuer.list_keys(principal)] == [None]


def test_a_build_that_tells_no_release_is_used_with_a_warning(
    minio: Minio, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = minio.issuer()
    for _ in range(2):
        issuer.ask()
    assert [record.message for record in caplog.records] == [
        "this MinIO is not known to have the fix for an advisory"
    ]


def test_a_wrong_secret_is_refused_and_never_shown(minio: Minio) -> None:
    secret = "wrong/secret+which+nobody+may+see+or+say"
    wrong = model.AccessKey(minio.admin.id, secret)
    issuer = madmin.MinioIssuer(endpoint=minio.endpoint, region="us-east-1", admin=wrong)
    with pytest.raises(errors.IssuerRejected) as caught:
        issuer.ask()
    assert caught.value.attributes["code"] == "SignatureDoesNotMatch"
    assert secret not in f"{caught.value} {caught.value.attributes} {issuer!r}"


def test_minio_is_not_taken_for_rustfs(minio: Minio) -> None:
    issuer = madmin.RustfsIssuer(
        endpoint=minio.endpoint, region="us-east-1", admin=minio.admin, versioned=lambda: False
    )
    with pytest.raises(errors.IssuerRejected):
        issuer.ask()


def test_rgw_is_not_taken_for_minio(rgw: Rgw) -> None:
    issuer = madmin.MinioIssuer(endpoint=rgw.endpoint, region="us-east-1", admin=rgw.admin)
    with pytest.raises(errors.IssuerRejected):
        issuer.ask()


def test_an_engine_that_is_down_is_waited_for() -> None:
    with canned_server.canned(503, b"{}", "application/json") as endpoint:
        issuer = madmin.MinioIssuer(
            endpoint=endpoint, region="us-east-1", admin=model.AccessKey("admin", "a" * 40)
        )
        with pytest.raises(errors.IssuerUnavailable):
            issuer.ask()
