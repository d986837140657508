"""One suite for every `ports.Issuer`: in memory, moto's IAM, MinIO, RGW, and shapes of rustfs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from provisioner import errors, model, names, ports, s3
from provisioner.domain import policy
from provisioner.issuers import choose, madmin
from provisioner.steps import keypair
from tests import memory_s3, rustfs_shapes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests import engines

pytest_plugins = ["tests.engines"]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """An issuer, and what its engine lets keys do."""

    issuer: ports.Issuer
    bucket: str
    plant: Callable[[model.Principal], None]
    """Make a principal of somebody else's, with a key."""
    planted: Callable[[model.Principal], int]
    """Count the keys of somebody else's principal."""
    may_put: Callable[[model.AccessKey, str], bool]
    most_keys: int | None = 2
    """How many keys a principal may have; None = any number."""
    too_many: int = 99
    """How many prefixes do not fit into a policy,"""
    padding: int = 0
    """each so many characters longer."""

    def own(self, *prefixes: str) -> dict[str, Any]:
        """Return the policy of a principal that owns prefixes."""
        return policy.document(bucket=self.bucket, own=prefixes, grants=[])

    def key(
        self, principal: model.Principal, document: dict[str, Any] | None = None
    ) -> model.AccessKey:
        """Make a key, chosen by whoever chooses here."""
        wanted = keypair.choose() if self.issuer.chooses_key_ids else None
        return self.issuer.create_key(principal, wanted, document or self.own())


def _in_memory(*, chooses: bool = False) -> Bench:
    issuer = memory_s3.MemoryIssuer(chooses_key_ids=chooses)

    def plant(principal: model.Principal) -> None:
        issuer.plant(principal.name)
        issuer.create_key(principal, keypair.choose() if chooses else None, {})

    return Bench(
        issuer=issuer,
        bucket="lake",
        plant=plant,
        planted=lambda principal: len(issuer.held[principal.name].keys),
        may_put=lambda key, name: (
            issuer.knows(key)
            and issuer.allowed(key.id, "s3:PutObject", f"arn:aws:s3:::lake/{name}")
        ),
    )


def _on_moto(engine: engines.Engine, *, asking: bool) -> Bench:
    bucket, plain = engine.bucket(), engine.iam()
    client = s3.connect(
        endpoint=engine.endpoint,
        region="us-east-1",
        access_key=engine.admin.id,
        secret_key=engine.admin.secret,
        service="iam",
    )
    name = "auto" if asking else "iam"
    issuer, _ = choose.choose(name, client=client, endpoint=engine.endpoint)

    def plant(principal: model.Principal) -> None:
        plain.create_user(UserName=principal.name, Path="/people/")
        plain.create_access_key(UserName=principal.name)

    return Bench(
        issuer=issuer,
        bucket=bucket,
        plant=plant,
        planted=lambda principal: len(
            plain.list_access_keys(UserName=principal.name)["AccessKeyMetadata"]
        ),
        may_put=lambda key, name: _may_put(engine.s3(key), bucket, name),
        too_many=1500,
    )


def _on_rgw(engine: engines.Rgw, *, asking: bool) -> Bench:
    bucket = engine.bucket()
    name = "auto" if asking else "rgw"
    issuer, _ = choose.choose(
        name, client=engine.iam(), endpoint=engine.endpoint, engine=engine.as_chosen_from()
    )

    return Bench(
        issuer=issuer,
        bucket=bucket,
        plant=lambda principal: engine.plant(principal.name),
        planted=lambda principal: len(engine.keys(principal.name)),
        may_put=lambda key, name: _may_put(engine.s3(key), bucket, name),
        most_keys=4,
        too_many=2000,
    )


def _on_minio(engine: engines.Minio, *, asking: bool) -> Bench:
    bucket, calls = engine.bucket(), engine.calls()
    name = "auto" if asking else "minio"
    issuer, _ = choose.choose(
        name, client=engine.iam(), endpoint=engine.endpoint, engine=engine.as_chosen_from()
    )

    def plant(principal: model.Principal) -> None:
        calls.add_user(principal.name, "somebody-elses")
        calls.add_account(principal.name, keypair.choose(), "somebody else's")

    return Bench(
        issuer=issuer,
        bucket=bucket,
        plant=plant,
        planted=lambda principal: len(calls.accounts(principal.name)),
        may_put=lambda key, name: _may_put(engine.s3(key), bucket, name),
        most_keys=None,
        too_many=500,
    )


def _on_rustfs(engine: rustfs_shapes.Rustfs) -> Bench:
    def plant(principal: model.Principal) -> None:
        engine.users[principal.name] = {"status": "enabled", "policyName": "", "memberOf": []}
        key = keypair.choose()
        engine.accounts[key.id] = {
            "parent": principal.name,
            "secretKey": key.secret,
            "status": "on",
            "policy": None,
            "name": "theirs",
            "description": "somebody else's",
        }

    def planted(principal: model.Principal) -> int:
        return sum(each["parent"] == principal.name for each in engine.accounts.values())

    return Bench(
        issuer=madmin.RustfsIssuer(
            endpoint=engine.endpoint,
            region="us-east-1",
            admin=engine.admin,
            versioned=lambda: False,
        ),
        bucket="lake",
        plant=plant,
        planted=planted,
        may_put=lambda key, name: engine.allowed(key, "s3:PutObject", f"arn:aws:s3:::lake/{name}"),
        most_keys=None,
        too_many=500,
        padding=1200,
    )


def _may_put(client: S3Client, bucket: str, name: str) -> bool:
    try:
        client.put_object(Bucket=bucket, Key=name, Body=b"")
    except ClientError:
        return False
    return True


ENGINES = [
    *("memory", "memory-chosen", "iam", "auto", "rustfs-shapes"),
    *(
        pytest.param(name, marks=pytest.mark.engine)
        for name in ("minio", "auto-minio", "rgw", "auto-rgw")
    ),
]


@pytest.fixture
def rustfs() -> Iterator[rustfs_shapes.Rustfs]:
    with rustfs_shapes.serve(rustfs_shapes.Rustfs()) as engine:
        yield engine


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "rustfs-shapes":
        return _on_rustfs(request.getfixturevalue("rustfs"))
    asking = request.param.startswith("auto")
    if request.param.endswith("minio"):
        return _on_minio(request.getfixturevalue("minio"), asking=asking)
    if request.param.endswith("rgw"):
        return _on_rgw(request.getfixturevalue("rgw"), asking=asking)
    if request.param.startswith("memory"):
        return _in_memory(chooses=request.param == "memory-chosen")
    return _on_moto(request.getfixturevalue("moto"), asking=request.param == "auto")


@pytest.fixture
def product() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def principal(product: str) -> model.Principal:
    return model.Principal(name=names.principal("sales", product), product_id=product)


def test_a_key_may_do_what_the_policy_says_and_follows_it_when_it_changes(
    bench: Bench, principal: model.Principal
) -> None:
    bench.issuer.ensure_principal(principal)
    key = bench.key(principal)
    assert not bench.may_put(key, "sales/x")
    own = bench.own("sales/")
    bench.issuer.put_policy(principal, own)
    assert bench.may_put(key, "sales/x")
    assert not bench.may_put(key, "hr/x")
    bench.issuer.put_policy(principal, bench.own())
    assert not bench.may_put(key, "sales/x")


def test_a_principal_is_made_once_and_keeps_its_keys(
    bench: Bench, principal: model.Principal
) -> None:
    bench.issuer.ensure_principal(principal)
    key = bench.key(principal)
    bench.issuer.ensure_principal(principal)
    assert [each.id for each in bench.issuer.list_keys(principal)] == [key.id]


def test_keys_are_listed_with_the_time_they_were_made(
    bench: Bench, principal: model.Principal
) -> None:
    started = datetime.now(UTC) - timedelta(seconds=1)
    bench.issuer.ensure_principal(principal)
    made = {bench.key(principal).id for _ in range(2)}
    listed = bench.issuer.list_keys(principal)
    assert {each.id for each in listed} == made
    assert all(each.active for each in listed)
    assert all(each.created_at and started <= each.created_at for each in listed)


def test_one_key_too_many_is_a_conflict_that_asks_to_come_back_in_seconds(
    bench: Bench, principal: model.Principal
) -> None:
    bench.issuer.ensure_principal(principal)
    if bench.most_keys is None:
        pytest.skip("this engine has no limit")
    for _ in range(bench.most_keys):
        bench.key(principal)
    with pytest.raises(errors.Conflict) as caught:
        bench.key(principal)
    assert caught.value.delay_seconds is not None
    assert caught.value.delay_seconds < 10


def test_a_deleted_key_is_refused_and_deleting_it_again_is_success(
    bench: Bench, principal: model.Principal
) -> None:
    bench.issuer.ensure_principal(principal)
    own = bench.own("sales/")
    bench.issuer.put_policy(principal, own)
    old, new = (bench.key(principal, own) for _ in range(2))
    for _ in range(2):
        bench.issuer.delete_key(principal, old.id)
    assert not bench.may_put(old, "sales/x")
    assert bench.may_put(new, "sales/x")


def test_a_deleted_principal_is_gone_with_its_keys_and_deleting_it_again_is_success(
    bench: Bench, principal: model.Principal
) -> None:
    bench.issuer.ensure_principal(principal)
    bench.issuer.put_policy(principal, bench.own("sales/"))
    key = bench.key(principal)
    for _ in range(2):
        bench.issuer.delete_principal(principal)
    assert bench.issuer.list_keys(principal) == ()
    assert not bench.may_put(key, "sales/x")


def test_a_principal_made_again_inherits_no_policy(
    bench: Bench, principal: model.Principal
) -> None:
    bench.issuer.ensure_principal(principal)
    bench.issuer.put_policy(principal, bench.own("sales/"))
    bench.issuer.delete_principal(principal)
    bench.issuer.ensure_principal(principal)
    assert not bench.may_put(bench.key(principal), "sales/x")


def test_what_was_never_made_has_no_keys_and_is_deleted_already(
    bench: Bench, principal: model.Principal
) -> None:
    assert bench.issuer.list_keys(principal) == ()
    bench.issuer.delete_key(principal, "AKIANEVERMADE0000000")
    bench.issuer.delete_principal(principal)
    assert bench.issuer.list_keys(principal) == ()


def test_a_principal_that_is_gone_is_a_conflict_for_policy_and_key(
    bench: Bench, principal: model.Principal
) -> None:
    with pytest.raises(errors.Conflict):
        bench.key(principal)
    with pytest.raises(errors.Conflict):
        bench.issuer.put_policy(principal, bench.own("sales/"))


def test_somebody_elses_principal_of_the_name_stays_untouched(
    bench: Bench, principal: model.Principal
) -> None:
    bench.plant(principal)
    with pytest.raises(errors.NotOurs):
        bench.issuer.ensure_principal(principal)
    with pytest.raises(errors.NotOurs):
        bench.issuer.delete_principal(principal)
    (key,) = bench.issuer.list_keys(principal)
    with pytest.raises(errors.NotOurs):
        bench.issuer.delete_key(principal, key.id)
    assert bench.planted(principal) == 1


def test_another_products_principal_is_not_ours(bench: Bench, principal: model.Principal) -> None:
    bench.issuer.ensure_principal(principal)
    other = model.Principal(name=principal.name, product_id=str(uuid.uuid4()))
    with pytest.raises(errors.NotOurs):
        bench.issuer.ensure_principal(other)


def test_a_policy_that_does_not_fit_is_refused_and_the_old_one_stays(
    bench: Bench, principal: model.Principal
) -> None:
    bench.issuer.ensure_principal(principal)
    key = bench.key(principal)
    bench.issuer.put_policy(principal, bench.own("sales/"))
    many = [f"sales-{number:04}{'x' * bench.padding}/" for number in range(bench.too_many)]
    with pytest.raises(errors.PolicyTooLarge):
        bench.issuer.put_policy(principal, bench.own(*many))
    assert bench.may_put(key, "sales/x")


def test_no_issuer_shows_a_secret(bench: Bench, principal: model.Principal) -> None:
    bench.issuer.ensure_principal(principal)
    key = bench.key(principal)
    shown = f"{bench.issuer!r} {bench.issuer.list_keys(principal)!r} {key!r}"
    assert key.secret not in shown


def test_a_policy_is_read_back_and_every_difference_is_seen(
    bench: Bench, principal: model.Principal
) -> None:
    assert not bench.issuer.holds(principal, bench.own("sales/"))
    bench.issuer.ensure_principal(principal)
    bench.issuer.put_policy(principal, bench.own("sales/"))
    bench.key(principal, bench.own("sales/"))
    assert bench.issuer.holds(principal, bench.own("sales/"))
    assert not bench.issuer.holds(principal, bench.own("sales/", "hr/"))
    bench.issuer.put_policy(principal, bench.own("sales/", "hr/"))
    assert bench.issuer.holds(principal, bench.own("sales/", "hr/"))


def test_the_same_chosen_key_again_is_success(bench: Bench, principal: model.Principal) -> None:
    if not bench.issuer.chooses_key_ids:
        pytest.skip("this engine chooses")
    document, wanted = bench.own("sales/"), keypair.choose()
    bench.issuer.ensure_principal(principal)
    bench.issuer.put_policy(principal, document)
    for _ in range(2):
        assert bench.issuer.create_key(principal, wanted, document) == wanted
    assert [each.id for each in bench.issuer.list_keys(principal)] == [wanted.id]
    assert bench.may_put(wanted, "sales/x")


def test_principals_that_bear_our_mark_are_listed_and_nobody_elses(
    bench: Bench, principal: model.Principal
) -> None:
    foreign = model.Principal(
        name=names.principal("hr", str(uuid.uuid4())), product_id=str(uuid.uuid4())
    )
    bench.plant(foreign)
    bench.issuer.ensure_principal(principal)
    listed = bench.issuer.principals()
    assert principal in listed
    assert foreign.name not in {each.name for each in listed}
