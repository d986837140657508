"""Policies of every size, and what somebody else gave a principal besides, over IAM as moto has it.

Moto knows the limit of five versions, and neither that of an inline policy nor that of ten
attached ones; those the tests look at themselves.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from provisioner import errors, model, names
from provisioner.domain import policy
from provisioner.issuers import allowances, iam

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

    from tests import engines

pytest_plugins = ["tests.engines"]
ANYTHING = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)


class Stopped(BaseException):
    """End the process before this call."""


@dataclass(kw_only=True)
class Bench:
    """An issuer whose calls are counted, and a principal of it with a key."""

    engine: engines.Engine
    plain: IAMClient
    issuer: iam.IamIssuer
    bucket: str
    calls: list[str] = field(default_factory=list)
    stop_before: int | None = None

    def __post_init__(self) -> None:
        product = str(uuid.uuid4())
        self.principal = model.Principal(
            name=names.principal(self.engine.name("p"), product), product_id=product
        )
        client = self.engine.iam()
        client.meta.events.register("before-call.iam", self._note)
        self.issuer = iam.IamIssuer(client)
        self.issuer.ensure_principal(self.principal)
        self.key = self.issuer.create_key(self.principal, None, {})
        self.calls.clear()

    def _note(self, model: Any, **_: Any) -> None:
        if self.stop_before is not None and len(self.calls) >= self.stop_before:
            raise Stopped
        self.calls.append(model.name)

    def document(self, grants: int, *, own: str = "sales/") -> dict[str, Any]:
        return policy.document(
            bucket=self.bucket,
            own=[own],
            grants=[
                model.Grant(
                    producer_id="p",
                    producer_namespace="p",
                    port_id="q",
                    port_namespace="q",
                    access=model.Access.READ,
                    locations=(
                        model.Location(bucket=self.bucket, prefix=f"producer-{number:03}/port/"),
                    ),
                )
                for number in range(grants)
            ],
        )

    def put(self, document: dict[str, Any]) -> Counter[str]:
        """Put a policy, hold what is there to its limits, and return what was called."""
        self.calls.clear()
        self.issuer.put_policy(self.principal, document)
        called = Counter(self.calls)
        self.check_limits()
        assert self.issuer.holds(self.principal, document)
        return called

    def inline(self) -> dict[str, Any]:
        held = self.plain.list_user_policies(UserName=self.principal.name)["PolicyNames"]
        return {
            each: self.plain.get_user_policy(UserName=self.principal.name, PolicyName=each)[
                "PolicyDocument"
            ]
            for each in held
        }

    def attached(self) -> list[str]:
        listed = self.plain.list_attached_user_policies(UserName=self.principal.name)
        return sorted(each["PolicyArn"] for each in listed["AttachedPolicies"])

    def made(self) -> list[str]:
        """List the managed policies that were ever made for the principal and are still there."""
        below = f"/provisioner/{self.principal.name}/"
        listed = self.plain.list_policies(Scope="Local", PathPrefix=below)["Policies"]
        return sorted(each["Arn"] for each in listed)

    def check_limits(self) -> None:
        assert sum(allowances.size(each) for each in self.inline().values()) <= 2048
        assert len(self.attached()) <= 10
        for arn in self.made():
            for version in self.plain.list_policy_versions(PolicyArn=arn)["Versions"]:
                read = self.plain.get_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
                assert allowances.size(read["PolicyVersion"]["Document"]) <= 6144  # type: ignore[arg-type]

    def may(self, operation: str, name: str) -> bool:
        client = self.engine.s3(self.key)
        try:
            if operation == "put":
                client.put_object(Bucket=self.bucket, Key=name, Body=b"")
            else:
                client.get_object(Bucket=self.bucket, Key=name)
        except client.exceptions.NoSuchKey:
            return True
        except ClientError:
            return False
        return True


@pytest.fixture
def bench(moto: engines.Engine) -> Iterator[Bench]:
    plain = moto.iam()
    made = Bench(engine=moto, plain=plain, issuer=iam.IamIssuer(plain), bucket=moto.bucket())
    yield made
    made.stop_before = None
    made.issuer.delete_principal(made.principal)
    assert made.made() == []


@pytest.mark.parametrize(
    ("grants", "inline", "parts"), [(0, 1, 0), (20, 1, 0), (30, 0, 1), (99, 0, 2), (300, 0, 4)]
)
def test_a_policy_of_any_size_is_what_a_key_may_do(
    bench: Bench, grants: int, inline: int, parts: int
) -> None:
    bench.put(bench.document(grants))
    assert (len(bench.inline()), len(bench.attached())) == (inline, parts)
    assert bench.may("put", "sales/x")
    assert not bench.may("put", "producer-000/port/x")
    assert bench.may("get", f"producer-{max(grants - 1, 0):03}/port/x") is (grants > 0)
    assert not bench.may("get", f"producer-{grants:03}/port/x")


def test_a_policy_grows_and_shrinks_again_and_leaves_nothing_behind(bench: Bench) -> None:
    for grants in (0, 40, 99, 250, 98, 41, 0):
        bench.put(bench.document(grants))
        assert bench.may("get", "producer-039/port/x") is (grants >= 40)
        assert bench.may("get", "producer-090/port/x") is (grants >= 91)
        assert bench.made() == bench.attached()
    assert set(bench.inline()) == {"dp"}
    assert bench.made() == []


def test_a_managed_policy_of_ours_is_named_and_tagged_after_its_owner(bench: Bench) -> None:
    bench.put(bench.document(99))
    name = bench.principal.name
    assert [arn.partition(":policy")[2] for arn in bench.attached()] == [
        f"/provisioner/{name}/{name}",
        f"/provisioner/{name}/{name}-2",
    ]
    tags = bench.plain.list_policy_tags(PolicyArn=bench.attached()[0])["Tags"]
    assert tags == [{"Key": "provisioner:product", "Value": bench.principal.product_id}]


def test_a_managed_policy_is_rewritten_again_and_again(bench: Bench) -> None:
    for grants in range(60, 69):
        bench.put(bench.document(grants))
    (arn,) = bench.attached()
    assert len(bench.plain.list_policy_versions(PolicyArn=arn)["Versions"]) == 5


def test_what_somebody_gave_a_principal_besides_is_seen_and_taken(bench: Bench) -> None:
    plain, name = bench.plain, bench.principal.name
    group, theirs = bench.engine.name("group"), bench.engine.name("theirs")
    arn = plain.create_policy(PolicyName=theirs, PolicyDocument=ANYTHING)["Policy"]["Arn"]
    plain.create_group(GroupName=group)
    plain.put_group_policy(GroupName=group, PolicyName="all", PolicyDocument=ANYTHING)
    for grants in (0, 99):
        document = bench.document(grants)
        bench.put(document)
        ways: list[Callable[[], object]] = [
            lambda: plain.put_user_policy(
                UserName=name, PolicyName="more", PolicyDocument=ANYTHING
            ),
            lambda: plain.attach_user_policy(UserName=name, PolicyArn=arn),
            lambda: plain.add_user_to_group(GroupName=group, UserName=name),
        ]
        for give in ways:
            give()
            assert bench.may("put", "hr/x")
            assert not bench.issuer.holds(bench.principal, document)
            bench.put(document)
            assert not bench.may("put", "hr/x")
            assert bench.may("put", "sales/x")
    assert plain.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 0
    assert plain.get_group(GroupName=group)["Users"] == []


def test_every_change_by_hand_of_ours_is_seen_and_mended(bench: Bench) -> None:
    plain, name = bench.plain, bench.principal.name
    for grants in (0, 99):
        document = bench.document(grants)
        bench.put(document)
        if grants:
            arn = bench.attached()[0]
            plain.create_policy_version(PolicyArn=arn, PolicyDocument=ANYTHING, SetAsDefault=True)
            assert not bench.issuer.holds(bench.principal, document)
            bench.put(document)
            plain.detach_user_policy(UserName=name, PolicyArn=bench.attached()[0])
        else:
            plain.put_user_policy(UserName=name, PolicyName="dp", PolicyDocument=ANYTHING)
            assert not bench.issuer.holds(bench.principal, document)
            bench.put(document)
            plain.delete_user_policy(UserName=name, PolicyName="dp")
        assert not bench.issuer.holds(bench.principal, document)
        bench.put(document)
        assert not bench.may("put", "hr/x")


def test_foreign_policies_make_room_where_all_ten_are_needed(bench: Bench) -> None:
    plain = bench.plain
    for _ in range(8):
        made = plain.create_policy(PolicyName=bench.engine.name("theirs"), PolicyDocument=ANYTHING)
        plain.attach_user_policy(UserName=bench.principal.name, PolicyArn=made["Policy"]["Arn"])
    bench.put(bench.document(250))
    assert bench.attached() == bench.made()


def test_a_principal_takes_its_managed_policies_along_and_leaves_foreign_ones(
    bench: Bench,
) -> None:
    bench.put(bench.document(99))
    theirs = bench.plain.create_policy(
        PolicyName=bench.engine.name("theirs"), PolicyDocument=ANYTHING
    )["Policy"]["Arn"]
    bench.plain.attach_user_policy(UserName=bench.principal.name, PolicyArn=theirs)
    bench.issuer.delete_principal(bench.principal)
    assert bench.made() == []
    assert bench.plain.get_policy(PolicyArn=theirs)["Policy"]["AttachmentCount"] == 0


def test_a_user_deleted_by_hand_leaves_no_policy_of_ours(bench: Bench) -> None:
    plain, name = bench.plain, bench.principal.name
    bench.put(bench.document(40))
    plain.detach_user_policy(UserName=name, PolicyArn=bench.attached()[0])
    plain.delete_access_key(UserName=name, AccessKeyId=bench.key.id)
    plain.delete_user(UserName=name)
    with pytest.raises(errors.Conflict):
        bench.issuer.put_policy(bench.principal, bench.document(40))
    bench.issuer.delete_principal(bench.principal)
    assert bench.made() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (5, 40),
        *(pytest.param(*each, marks=pytest.mark.engine) for each in ((40, 5), (110, 60))),
    ],
    ids=str,
)
def test_a_change_stopped_before_any_call_is_finished_by_the_next_one(
    bench: Bench, before: int, after: int
) -> None:
    old, new = bench.document(before), bench.document(after, own="hr/")
    both = f"producer-{min(before, after) - 1:03}/port/x"
    for number in range(40):
        bench.put(old)
        bench.calls.clear()
        bench.stop_before = number
        with contextlib.suppress(Stopped):
            bench.issuer.put_policy(bench.principal, new)
        finished = len(bench.calls) < number
        bench.stop_before = None
        assert bench.may("get", both)
        bench.check_limits()
        bench.put(new)
        assert set(bench.made()) >= set(bench.attached())
        assert not bench.may("put", "sales/x")
        if finished:
            return
    raise AssertionError("a change of a policy takes more calls than anybody can wait for")


def test_a_change_costs_few_calls(bench: Bench) -> None:
    def counted(grants: int) -> tuple[int, int]:
        called = bench.put(bench.document(grants))
        reads = sum(n for name, n in called.items() if name.startswith(("List", "Get")))
        return reads, called.total() - reads

    assert counted(3) == (0, 1)  # made a moment ago
    assert counted(2) == (3, 1)
    assert counted(40) == (5, 3)  # inline to a part: make, attach, drop the inline policy
    assert counted(41) == (6, 1)
    assert counted(99) == (6, 3)
    assert counted(98) == (7, 1)
    assert counted(2) == (5, 8)  # two parts, one with an old version, to inline
