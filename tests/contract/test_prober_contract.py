"""One suite for every `ports.Prober`: in memory, and on moto."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from provisioner import errors, model, names, ports, s3
from provisioner.domain import policy
from provisioner.issuers import iam
from tests import memory_s3

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A prober, a key that owns `sales/` and reads `orders/`, and how it was made."""

    prober: ports.Prober
    issuer: ports.Issuer
    principal: model.Principal
    key: model.AccessKey
    pauses: list[float]
    bucket: str


def _bench(prober: ports.Prober, issuer: ports.Issuer, bucket: str, pauses: list[float]) -> Bench:
    product = str(uuid.uuid4())
    principal = model.Principal(name=names.principal("sales", product), product_id=product)
    granted = model.Grant(
        producer_id=product,
        producer_namespace="orders",
        port_id=product,
        port_namespace="daily",
        access=model.Access.READ,
        locations=(model.Location(bucket=bucket, prefix="orders/"),),
    )
    issuer.ensure_principal(principal)
    issuer.put_policy(principal, policy.document(bucket=bucket, own=["sales/"], grants=[granted]))
    key = issuer.create_key(principal, None, {})
    return Bench(
        prober=prober, issuer=issuer, principal=principal, key=key, pauses=pauses, bucket=bucket
    )


def _in_memory() -> Bench:
    issuer = memory_s3.MemoryIssuer()
    prober = memory_s3.MemoryProber(issuer)
    return _bench(prober, issuer, "lake", prober.pauses)


def _on_moto(engine: engines.Engine) -> Bench:
    bucket, pauses = engine.bucket(), list[float]()
    prober = s3.S3Prober(
        endpoint=engine.endpoint, region="us-east-1", bucket=bucket, sleep=pauses.append
    )
    return _bench(prober, iam.IamIssuer(engine.iam()), bucket, pauses)


@pytest.fixture(params=["memory", "moto"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "memory":
        return _in_memory()
    return _on_moto(request.getfixturevalue("moto"))


@pytest.mark.parametrize(("rounds", "pauses"), [(1, []), (3, [2.5, 2.5])])
def test_a_working_key_is_proven_with_a_pause_between_rounds(
    bench: Bench, rounds: int, pauses: list[float]
) -> None:
    assert bench.prober.prove(bench.key, "sales/", rounds=rounds, pause_seconds=2.5)
    assert bench.pauses == pauses


def test_no_round_proves_nothing(bench: Bench) -> None:
    assert not bench.prober.prove(bench.key, "sales/", rounds=0, pause_seconds=0)


@pytest.mark.parametrize("prefix", ["hr/", "sales-eu/", "orders/"])
def test_a_key_is_not_proven_where_it_may_not_write(bench: Bench, prefix: str) -> None:
    assert not bench.prober.prove(bench.key, prefix, rounds=1, pause_seconds=0)


def test_a_wrong_secret_is_not_proven(bench: Bench) -> None:
    wrong = model.AccessKey(bench.key.id, "x" * 40)
    assert not bench.prober.prove(wrong, "sales/", rounds=1, pause_seconds=0)


def test_a_deleted_key_is_not_proven(bench: Bench) -> None:
    bench.issuer.delete_key(bench.principal, bench.key.id)
    assert not bench.prober.prove(bench.key, "sales/", rounds=1, pause_seconds=0)


@pytest.mark.parametrize("prefix", ["", "sales", "*/", "../"])
def test_an_unsafe_prefix_is_never_probed(bench: Bench, prefix: str) -> None:
    with pytest.raises(errors.NameRejected):
        bench.prober.prove(bench.key, prefix, rounds=1, pause_seconds=0)


def at(bench: Bench, *prefixes: str) -> list[model.Location]:
    return [model.Location(bucket=bench.bucket, prefix=prefix) for prefix in prefixes]


def test_without_a_prefix_what_may_be_read_proves_a_key(bench: Bench) -> None:
    places = at(bench, "orders/", "sales/")
    assert bench.prober.prove(bench.key, None, rounds=2, pause_seconds=1, readable=places)
    assert bench.pauses == [1]


def test_without_a_prefix_a_place_that_may_not_be_read_proves_nothing(bench: Bench) -> None:
    bench.issuer.put_policy(bench.principal, policy.document(bucket="lake", own=[], grants=[]))
    places = at(bench, "orders/")
    assert not bench.prober.prove(bench.key, None, rounds=1, pause_seconds=0, readable=places)


@pytest.mark.parametrize("readable", [(), (model.Location(bucket="elsewhere", prefix="x/"),)])
def test_with_nothing_to_read_here_a_key_is_proven_by_being_known(
    bench: Bench, readable: tuple[model.Location, ...]
) -> None:
    bench.issuer.put_policy(bench.principal, policy.document(bucket="lake", own=[], grants=[]))
    prove = bench.prober.prove
    assert prove(bench.key, None, rounds=2, pause_seconds=0, readable=readable)
    wrong = model.AccessKey(bench.key.id, "x" * 40)
    assert not prove(wrong, None, rounds=1, pause_seconds=0, readable=readable)
    bench.issuer.delete_key(bench.principal, bench.key.id)
    assert not prove(bench.key, None, rounds=1, pause_seconds=0, readable=readable)


def test_without_a_prefix_and_a_round_nothing_is_proven(bench: Bench) -> None:
    assert not bench.prober.prove(bench.key, None, rounds=0, pause_seconds=0)


def test_an_unsafe_place_is_never_listed(bench: Bench) -> None:
    with pytest.raises(errors.NameRejected):
        bench.prober.prove(bench.key, None, rounds=1, pause_seconds=0, readable=at(bench, "*/"))
