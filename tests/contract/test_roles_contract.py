"""One suite for every `ports.Roles`: in memory, and IAM as moto speaks it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from provisioner import errors, model, ports
from provisioner.domain import policy
from provisioner.issuers import roles
from tests import memory_roles

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}],
    }
)
OTHER_TRUST = TRUST.replace("*", "arn:aws:iam::123456789012:root")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Roles, and what their engine lets somebody do who assumed one."""

    roles: ports.Roles
    bucket: str
    name: str
    plant: Callable[[], None]
    """Make a role of somebody else's with the name."""
    there: Callable[[], bool]
    may_put: Callable[[str], bool]

    def own(self, *prefixes: str) -> dict[str, Any]:
        return policy.document(bucket=self.bucket, own=prefixes, grants=[])


def _in_memory() -> Bench:
    held = memory_roles.MemoryRoles(policy_limit=80_000)
    name = "marketing"
    return Bench(
        roles=held,
        bucket="lake",
        name=name,
        plant=lambda: held.plant(name),
        there=lambda: name in held.held,
        may_put=lambda key: held.allowed(name, "s3:PutObject", f"arn:aws:s3:::lake/{key}"),
    )


def _on_moto(engine: engines.Engine) -> Bench:
    plain, bucket, name = engine.iam(), engine.bucket(), engine.name("marketing")

    def plant() -> None:
        plain.create_role(RoleName=name, Path="/people/", AssumeRolePolicyDocument=TRUST)

    def there() -> bool:
        try:
            plain.get_role(RoleName=name)
        except plain.exceptions.NoSuchEntityException:
            return False
        return True

    def may_put(key: str) -> bool:
        try:
            sts = boto3.client(
                "sts",
                endpoint_url=engine.endpoint,
                region_name="us-east-1",
                aws_access_key_id=engine.admin.id,
                aws_secret_access_key=engine.admin.secret,
            )
            arn = plain.get_role(RoleName=name)["Role"]["Arn"]
            got = sts.assume_role(RoleArn=arn, RoleSessionName="somebody")["Credentials"]
            boto3.client(
                "s3",
                endpoint_url=engine.endpoint,
                region_name="us-east-1",
                aws_access_key_id=got["AccessKeyId"],
                aws_secret_access_key=got["SecretAccessKey"],
                aws_session_token=got["SessionToken"],
                config=Config(s3={"addressing_style": "path"}),
            ).put_object(Bucket=bucket, Key=key, Body=b"")
        except ClientError:
            return False
        return True

    return Bench(
        roles=roles.IamRoles(plain),
        bucket=bucket,
        name=name,
        plant=plant,
        there=there,
        may_put=may_put,
    )


@pytest.fixture(params=["memory", "iam"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "memory":
        return _in_memory()
    return _on_moto(request.getfixturevalue("moto"))


@pytest.fixture
def role(bench: Bench) -> model.Principal:
    return model.Principal(name=bench.name, product_id=str(uuid.uuid4()))


def test_whoever_assumes_a_role_may_do_what_its_policy_says(
    bench: Bench, role: model.Principal
) -> None:
    bench.roles.ensure(role, TRUST)
    assert not bench.may_put("sales/x")
    bench.roles.put_policy(role, bench.own("sales/"))
    assert bench.may_put("sales/x")
    assert not bench.may_put("hr/x")
    bench.roles.put_policy(role, bench.own("hr/"))
    assert not bench.may_put("sales/x")


def test_a_role_is_made_once_and_keeps_its_policy(bench: Bench, role: model.Principal) -> None:
    bench.roles.ensure(role, TRUST)
    bench.roles.put_policy(role, bench.own("sales/"))
    bench.roles.ensure(role, TRUST)
    assert bench.may_put("sales/x")


def test_a_role_is_read_back_and_every_difference_is_seen(
    bench: Bench, role: model.Principal
) -> None:
    own = bench.own("sales/")
    assert not bench.roles.holds(role, TRUST, own)
    bench.roles.ensure(role, TRUST)
    bench.roles.put_policy(role, own)
    assert bench.roles.holds(role, TRUST, own)
    assert not bench.roles.holds(role, OTHER_TRUST, own)
    assert not bench.roles.holds(role, TRUST, bench.own("hr/"))
    bench.roles.ensure(role, OTHER_TRUST)
    assert bench.roles.holds(role, OTHER_TRUST, own)


@pytest.mark.parametrize("prefixes", [1, 60, 250])
def test_policies_of_any_size_fit_and_shrink_again(
    bench: Bench, role: model.Principal, prefixes: int
) -> None:
    bench.roles.ensure(role, TRUST)
    for many in (prefixes, 1):
        own = bench.own(*(f"a-product-{number:03}/" for number in range(many)))
        bench.roles.put_policy(role, own)
        assert bench.roles.holds(role, TRUST, own)
        assert bench.may_put(f"a-product-{many - 1:03}/x")
        assert not bench.may_put(f"a-product-{many:03}/x")
    bench.roles.delete(role)


def test_a_policy_that_does_not_fit_changes_nothing(bench: Bench, role: model.Principal) -> None:
    bench.roles.ensure(role, TRUST)
    bench.roles.put_policy(role, bench.own("sales/"))
    with pytest.raises(errors.PolicyTooLarge):
        bench.roles.put_policy(role, bench.own(*(f"a-product-{n:04}/" for n in range(1500))))
    assert bench.may_put("sales/x")


def test_a_deleted_role_is_gone_and_deleting_it_again_is_success(
    bench: Bench, role: model.Principal
) -> None:
    bench.roles.ensure(role, TRUST)
    bench.roles.put_policy(role, bench.own(*(f"a-product-{n:03}/" for n in range(250))))
    for _ in range(2):
        bench.roles.delete(role)
    assert not bench.there()
    with pytest.raises(errors.Conflict):
        bench.roles.put_policy(role, bench.own("sales/"))


def test_somebody_elses_role_of_the_name_stays_untouched(
    bench: Bench, role: model.Principal
) -> None:
    bench.plant()
    with pytest.raises(errors.NotOurs):
        bench.roles.ensure(role, TRUST)
    with pytest.raises(errors.NotOurs):
        bench.roles.delete(role)
    assert bench.there()
    assert not bench.roles.holds(role, TRUST, bench.own())


def test_another_products_role_is_not_ours(bench: Bench, role: model.Principal) -> None:
    bench.roles.ensure(role, TRUST)
    other = model.Principal(name=role.name, product_id=str(uuid.uuid4()))
    with pytest.raises(errors.NotOurs):
        bench.roles.ensure(other, TRUST)
    with pytest.raises(errors.NotOurs):
        bench.roles.delete(other)
    assert bench.there()
