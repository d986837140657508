"""Hold the short form of a policy, and one cut into parts, against a real engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from provisioner import model
from provisioner.domain import policy
from provisioner.issuers import allowances, arrangement

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests import engines

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine
KEYS = {
    "sales/x": "rw",
    "orders/daily/x": "r",
    "orders/x": "",
    "in/x": "rw",
    "sales-eu/x": "",
    "sales": "",
    ".provisioner/owners/sales.json": "",
}
LISTED = {"sales/": True, "orders/daily/": True, "orders/": False, "": False, "sales": False}


def grants(*more: str) -> list[model.Grant]:
    opened = [("orders/daily/", model.Access.READ), ("in/", model.Access.WRITE)]
    opened += [(each, model.Access.READ) for each in more]
    return [
        model.Grant(
            producer_id="p",
            producer_namespace="p",
            port_id="q",
            port_namespace="q",
            access=access,
            locations=(model.Location(bucket="short-lake", prefix=prefix),),
        )
        for prefix, access in opened
    ]


def short(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [allowances.compact(document)]


def parts(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Cut a document into parts; this engine has no managed policies, so they become inline."""
    moves = arrangement.moves({}, document, inline_limit=0)
    found = [dict(move.document) for move in moves if isinstance(move, arrangement.Write)]
    assert len(found) > 1
    return found


@pytest.fixture(scope="module")
def admin(rgw: engines.Rgw) -> S3Client:
    client = rgw.s3()
    client.create_bucket(Bucket="short-lake")
    for name in KEYS:
        client.put_object(Bucket="short-lake", Key=name, Body=b"everybody's")
    return client


def may(call: Callable[[], object]) -> bool:
    try:
        call()
    except ClientError as exc:
        if exc.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False
    return True


@pytest.mark.parametrize("form", [short, parts])
def test_an_engine_reads_it_as_it_is_meant(
    rgw: engines.Rgw, admin: S3Client, form: Callable[[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    many = [f"producer-{number:03}/port/" for number in range(120)]
    document = policy.document(bucket="short-lake", own=["sales/"], grants=grants(*many))
    user, key = rgw.user(policy.text({"Statement": [], "Version": "2012-10-17"}))
    iam, client = rgw.iam(), rgw.s3(key)
    for number, each in enumerate(form(document)):
        iam.put_user_policy(
            UserName=user,
            PolicyName="dp" if number == 0 else f"dp-{number}",
            PolicyDocument=policy.text(each),
        )
    for name, mode in KEYS.items():
        got = may(lambda name=name: client.get_object(Bucket="short-lake", Key=name))  # type: ignore[misc]
        assert got is ("r" in mode), name
        put = may(lambda name=name: client.put_object(Bucket="short-lake", Key=name, Body=b""))  # type: ignore[misc]
        assert put is ("w" in mode), name
    for prefix, expected in LISTED.items():
        assert (
            may(lambda prefix=prefix: client.list_objects_v2(Bucket="short-lake", Prefix=prefix))  # type: ignore[misc]
            is expected
        ), prefix
    rgw.delete_user(user)
