"""Hold the issuer for Ceph before 19 against a real RGW, and what people do there by hand."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from provisioner import errors, model, names
from provisioner.domain import policy
from provisioner.issuers import adminops, choose, rgw, signed
from provisioner.steps import keypair

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine


@dataclass(frozen=True, kw_only=True)
class Sales:
    """A principal with two keys, which own `sales/` of a bucket."""

    engine: engines.Rgw
    issuer: rgw.RgwIssuer
    principal: model.Principal
    bucket: str
    document: dict[str, Any]
    old: model.AccessKey
    new: model.AccessKey

    @property
    def first(self) -> str:
        """Name the user of the old key."""
        return f"{self.principal.name}.g1"

    @property
    def second(self) -> str:
        """Name the user of the new key."""
        return f"{self.principal.name}.g2"

    def may_put(self, key: model.AccessKey, name: str = "sales/x") -> bool:
        try:
            self.engine.s3(key).put_object(Bucket=self.bucket, Key=name, Body=b"")
        except ClientError:
            return False
        return True

    def holds(self) -> bool:
        return self.issuer.holds(self.principal, self.document)

    def listed(self) -> set[str]:
        return {each.id for each in self.issuer.list_keys(self.principal)}


def ops_of(engine: engines.Rgw) -> adminops.AdminOps:
    return adminops.AdminOps(signed.Caller(engine.as_chosen_from().account))


@pytest.fixture
def sales(rgw: engines.Rgw) -> Sales:
    issuer: Any = choose.choose(
        "rgw", client=rgw.iam(), endpoint=rgw.endpoint, engine=rgw.as_chosen_from()
    )[0]
    product = str(uuid.uuid4())
    principal = model.Principal(name=names.principal("sales", product), product_id=product)
    bucket = rgw.bucket()
    document = policy.document(bucket=bucket, own=["sales/"], grants=[])
    issuer.ensure_principal(principal)
    old, new = (issuer.create_key(principal, keypair.choose(), document) for _ in range(2))
    return Sales(
        engine=rgw,
        issuer=issuer,
        principal=principal,
        bucket=bucket,
        document=document,
        old=old,
        new=new,
    )


def test_a_principal_has_no_key_and_each_key_a_user_of_its_own(sales: Sales) -> None:
    assert sales.engine.keys(sales.principal.name) == []
    assert sales.engine.keys(sales.first) == [sales.old.id]
    assert sales.engine.keys(sales.second) == [sales.new.id]
    assert sales.holds()


def test_no_key_makes_a_bucket_or_shows_one(sales: Sales) -> None:
    for key in (sales.old, sales.new):
        client = sales.engine.s3(key)
        with pytest.raises(ClientError, match="AccessDenied"):
            client.create_bucket(Bucket=sales.engine.name("of-sales"))
        assert client.list_buckets()["Buckets"] == []


def test_a_rotation_and_a_grant_leave_the_current_key_its_policy(sales: Sales) -> None:
    key = sales.new
    wider = policy.document(bucket=sales.bucket, own=["sales/", "hr/"], grants=[])
    for turn in range(6):  # past the last number, and round again
        sales.issuer.delete_key(sales.principal, (sales.old if not turn else key).id)
        key = keypair.choose() if turn else key
        document = wider if turn % 2 else sales.document
        if turn:
            sales.issuer.create_key(sales.principal, key, sales.document)
        sales.issuer.put_policy(sales.principal, document)
        assert sales.may_put(key)
        assert sales.may_put(key, "hr/x") is bool(turn % 2)
        assert sales.issuer.holds(sales.principal, document)
    assert sales.listed() == {key.id}


def test_deleting_a_key_leaves_the_other_ones_record_as_it_was(sales: Sales) -> None:
    before = sales.engine.record(sales.second)
    sales.issuer.delete_key(sales.principal, sales.old.id)
    assert sales.engine.record(sales.second) == before
    assert not sales.may_put(sales.old)
    assert sales.may_put(sales.new)
    assert sales.holds()


def test_a_crash_between_key_and_policy_leaves_a_key_that_may_nothing(sales: Sales) -> None:
    wanted = keypair.choose()
    parent = ops_of(sales.engine).user(sales.principal.name)
    assert parent is not None
    mark = adminops.mark(sales.principal.product_id)
    ops_of(sales.engine).write(parent.sibling(f"{sales.principal.name}.g3", mark, wanted))
    assert not sales.may_put(wanted)
    assert not sales.holds()
    assert wanted.id in sales.listed()
    sales.issuer.create_key(sales.principal, wanted, sales.document)
    assert sales.may_put(wanted)
    assert sales.holds()
    assert f"{sales.principal.name}.g4" not in sales.engine.uids()


def modified(sales: Sales) -> None:
    sales.engine.modify(
        sales.second, **{"display-name": f"provisioner {sales.principal.product_id}"}
    )


def suspended(sales: Sales) -> None:
    ops = ops_of(sales.engine)
    user = ops.user(sales.second)
    assert user is not None
    user.record["data"]["suspended"] = 1
    ops.write(user)


def second_policy(sales: Sales) -> None:
    sales.engine.iam().put_user_policy(
        UserName=sales.second,
        PolicyName="more",
        PolicyDocument=policy.text(policy.document(bucket=sales.bucket, own=["hr/"], grants=[])),
    )


def changed_policy(sales: Sales) -> None:
    wider = policy.document(bucket=sales.bucket, own=["sales/", "hr/"], grants=[])
    sales.engine.put_policy(sales.second, policy.text(wider))


def deleted_policy(sales: Sales) -> None:
    sales.engine.iam().delete_user_policy(UserName=sales.second, PolicyName="dp")


def caps(sales: Sales) -> None:
    sales.engine.modify(sales.second, "caps", **{"user-caps": "users=read"})


def bucket_maker(sales: Sales) -> None:
    mark = f"provisioner {sales.principal.product_id}"
    sales.engine.modify(sales.second, **{"max-buckets": "1000", "display-name": mark})


def subuser(sales: Sales) -> None:
    named = {"subuser": f"{sales.second}:s", "access": "full"}
    sales.engine.modify(sales.second, "subuser", **named)


def parent_that_may_make_buckets(sales: Sales) -> None:
    mark = f"provisioner {sales.principal.product_id}"
    name = sales.principal.name
    sales.engine.modify(name, **{"max-buckets": "1000", "display-name": mark})


@pytest.mark.parametrize(
    "change",
    [
        *(modified, suspended, second_policy, changed_policy, deleted_policy),
        *(caps, bucket_maker, subuser, parent_that_may_make_buckets),
    ],
)
def test_what_was_changed_by_hand_is_seen_and_put_right(
    sales: Sales, change: Callable[[Sales], None]
) -> None:
    change(sales)
    assert not sales.holds()
    sales.issuer.put_policy(sales.principal, sales.document)
    assert sales.holds()
    assert sales.may_put(sales.old)
    assert sales.may_put(sales.new)
    assert not sales.may_put(sales.new, "hr/x")


def test_a_suspended_key_is_listed_as_inactive(sales: Sales) -> None:
    suspended(sales)
    listed = {each.id: each.active for each in sales.issuer.list_keys(sales.principal)}
    assert listed == {sales.old.id: True, sales.new.id: False}


def by_hand(sales: Sales, uid: str) -> model.AccessKey:
    """Add a key as people do; where the policy is lost by it, it is put back."""
    key = keypair.choose()
    sales.engine.modify(uid, "key", **{"access-key": key.id, "secret-key": key.secret})
    if uid != sales.principal.name:
        sales.issuer.put_policy(sales.principal, sales.document)
    return key


def test_a_second_key_of_a_users_is_seen_and_taken_without_touching_the_first(
    sales: Sales,
) -> None:
    stray = by_hand(sales, sales.second)
    assert sales.may_put(stray)
    assert not sales.holds()
    assert sales.listed() == {sales.old.id, sales.new.id, stray.id}
    sales.issuer.delete_key(sales.principal, stray.id)
    assert not sales.may_put(stray)
    assert sales.may_put(sales.new)
    assert sales.holds()


def test_a_key_of_the_principal_itself_is_seen_and_taken(sales: Sales) -> None:
    stray = by_hand(sales, sales.principal.name)
    assert not sales.holds()
    assert stray.id in sales.listed()
    sales.issuer.delete_key(sales.principal, stray.id)
    assert sales.holds()
    assert sales.engine.keys(sales.principal.name) == []


def test_keys_outlive_a_principal_that_was_deleted_by_hand_and_are_found(sales: Sales) -> None:
    sales.engine.delete_user(sales.principal.name)
    assert not sales.holds()
    assert sales.listed() == {sales.old.id, sales.new.id}
    assert sales.principal in sales.issuer.principals()
    with pytest.raises(errors.Conflict):
        sales.issuer.put_policy(sales.principal, sales.document)
    sales.issuer.ensure_principal(sales.principal)
    assert sales.holds()
    sales.engine.delete_user(sales.principal.name)
    sales.issuer.delete_principal(sales.principal)
    assert sales.listed() == set()
    assert not sales.may_put(sales.new)


def test_a_user_of_somebody_elses_with_the_name_of_a_keys_is_left_alone(sales: Sales) -> None:
    foreign = f"{sales.principal.name}.g3"
    sales.engine.plant(foreign)
    with pytest.raises(errors.NotOurs):
        sales.issuer.create_key(sales.principal, keypair.choose(), sales.document)
    sales.issuer.put_policy(sales.principal, sales.document)
    (theirs,) = sales.engine.keys(foreign)
    assert theirs not in sales.listed()
    sales.issuer.delete_key(sales.principal, theirs)
    sales.issuer.delete_principal(sales.principal)
    assert sales.engine.keys(foreign) == [theirs]


def test_a_key_that_another_user_has_already_is_a_conflict(sales: Sales) -> None:
    product = str(uuid.uuid4())
    other = model.Principal(name=names.principal("hr", product), product_id=product)
    sales.issuer.ensure_principal(other)
    with pytest.raises(errors.Conflict):
        sales.issuer.create_key(other, sales.new, sales.document)
    assert sales.may_put(sales.new)
    assert sales.issuer.list_keys(other) == ()


def test_principals_are_listed_over_pages(sales: Sales, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adminops, "_PAGE", "1")
    listed = sales.issuer.principals()
    assert listed.count(sales.principal) == 1
    assert set(map(str, ops_of(sales.engine).uids())) == sales.engine.uids()


def test_an_admin_without_the_rights_is_told_which_it_needs(sales: Sales) -> None:
    weak = signed.Account(
        endpoint=sales.engine.endpoint,
        region="us-east-1",
        access_key=sales.new.id,
        secret_key=sales.new.secret,
    )
    ops = adminops.AdminOps(signed.Caller(weak))
    issuer = rgw.RgwIssuer(ops, sales.engine.iam(), clock=sales.issuer._clock)
    with pytest.raises(errors.IssuerRejected, match="caps users, metadata and user-policy"):
        issuer.list_keys(sales.principal)


def test_the_caps_that_are_documented_are_enough(sales: Sales) -> None:
    admin = keypair.choose()
    given = {"access-key": admin.id, "secret-key": admin.secret}
    caps = {"user-caps": "users=*;metadata=*;user-policy=*"}
    sales.engine.admin_call("PUT", sales.engine.name("provisioner"), {**given, **caps})
    engine = dataclasses.replace(sales.engine, admin=admin)
    issuer, _ = choose.choose(
        "auto", client=engine.iam(), endpoint=engine.endpoint, engine=engine.as_chosen_from()
    )
    holder = engine.holder(sales.document)
    assert sales.may_put(holder.key)
    assert issuer.holds(sales.principal, sales.document)
    assert sales.principal in issuer.principals()
    issuer.delete_key(sales.principal, sales.old.id)
    issuer.delete_principal(sales.principal)
    holder.delete()
    assert not sales.may_put(holder.key)
    assert sales.listed() == set()


def test_a_policy_as_long_as_they_may_be_is_taken_by_the_engine(sales: Sales) -> None:
    own = [f"sales-{number:04}/" for number in range(1150)]
    document = policy.document(bucket=sales.bucket, own=["sales/", *own], grants=[])
    assert rgw.POLICY_LIMIT * 0.8 < len(policy.text(document)) < rgw.POLICY_LIMIT
    sales.issuer.put_policy(sales.principal, document)
    assert sales.issuer.holds(sales.principal, document)
    assert sales.may_put(sales.new, "sales-1149/x")


def test_names_with_signs_are_read_back_as_they_were_written(sales: Sales) -> None:
    document = policy.document(bucket=sales.bucket, own=["a+b=c,d@e.f/"], grants=[])
    sales.issuer.put_policy(sales.principal, document)
    assert sales.issuer.holds(sales.principal, document)
    assert sales.may_put(sales.new, "a+b=c,d@e.f/x")


def test_auto_takes_ceph_for_rgw_and_not_with_a_wrong_secret(rgw: engines.Rgw) -> None:
    nobody = model.Principal(name="dp-nobody-00000000", product_id=str(uuid.uuid4()))
    engine = rgw.as_chosen_from()
    issuer, _ = choose.choose("auto", client=rgw.iam(), endpoint=rgw.endpoint, engine=engine)
    assert issuer.list_keys(nobody) == ()
    assert issuer.name == "rgw"
    wrong = signed.Account(
        endpoint=rgw.endpoint,
        region="us-east-1",
        access_key=rgw.admin.id,
        secret_key="x" * 40,
    )
    refused, _ = choose.choose(
        "auto",
        client=rgw.iam(),
        endpoint=rgw.endpoint,
        engine=dataclasses.replace(engine, account=wrong),
    )
    with pytest.raises(errors.IssuerRejected) as caught:
        refused.list_keys(nobody)
    assert caught.value.attributes["rgw"] == "403 SignatureDoesNotMatch"
