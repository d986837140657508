from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import Stubber

from provisioner import errors, model
from provisioner.domain import policy
from provisioner.issuers import allowances, iam_api, roles
from provisioner.s3 import client as s3_client

SALES = "6f1e2d3c-0000-4000-8000-000000000001"
ROLE = model.Principal(name="sales", product_id=SALES)
TAGS = [{"Key": "provisioner:product", "Value": SALES}]
DOCUMENT = policy.document(bucket="lake", own=["sales/"], grants=[])


def trust(principal: Any) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


TRUST = trust({"AWS": "123456789012"})


def stubbed() -> tuple[roles.IamRoles, Stubber]:
    client = s3_client.new_client(
        "iam",
        endpoint="http://127.0.0.1:9",
        region="us-east-1",
        access_key="AKIAADMIN",
        secret_key="secret-of-the-admin",
    )
    stubber = Stubber(client)
    stubber.activate()
    return roles.IamRoles(client), stubber


def described(trusted: str = TRUST, path: str = "/provisioner/") -> dict[str, Any]:
    return {
        "Role": {
            "Path": path,
            "RoleName": "sales",
            "RoleId": "AROA0000000000000000",
            "Arn": f"arn:aws:iam::123456789012:role{path}sales",
            "CreateDate": datetime(2026, 1, 2, tzinfo=UTC),
            "AssumeRolePolicyDocument": trusted,
            "Tags": TAGS,
        }
    }


def test_a_role_is_made_below_our_path_with_our_tag() -> None:
    held, stubber = stubbed()
    expected = {
        "RoleName": "sales",
        "Path": "/provisioner/",
        "AssumeRolePolicyDocument": TRUST,
        "Tags": TAGS,
    }
    stubber.add_response("create_role", described(), expected)
    held.ensure(ROLE, TRUST)
    stubber.assert_no_pending_responses()


SAME = [
    TRUST,
    trust({"AWS": "arn:aws:iam::123456789012:root"}),
    trust({"AWS": ["arn:aws:iam::123456789012:root"]}),
]


@pytest.mark.parametrize("trusted", SAME, ids=["as given", "as an arn", "as a list"])
def test_a_trust_policy_that_means_the_same_is_not_written_again(trusted: str) -> None:
    held, stubber = stubbed()
    stubber.add_client_error("create_role", "EntityAlreadyExists", http_status_code=409)
    stubber.add_response("get_role", described(trusted))
    held.ensure(ROLE, TRUST)
    stubber.assert_no_pending_responses()


@pytest.mark.parametrize(
    "trusted",
    [
        trust({"AWS": "arn:aws:iam::123456789012:user/root"}),
        trust({"AWS": "210987654321"}),
        trust({"AWS": ["123456789012", "210987654321"]}),
        trust("*"),
    ],
    ids=range(4),
)
def test_another_trust_policy_is_replaced(trusted: str) -> None:
    held, stubber = stubbed()
    stubber.add_client_error("create_role", "EntityAlreadyExists", http_status_code=409)
    stubber.add_response("get_role", described(trusted))
    expected = {"RoleName": "sales", "PolicyDocument": TRUST}
    stubber.add_response("update_assume_role_policy", {}, expected)
    held.ensure(ROLE, TRUST)
    stubber.assert_no_pending_responses()


def test_a_role_that_is_there_and_not_found_is_asked_for_again_soon() -> None:
    held, stubber = stubbed()
    stubber.add_client_error("create_role", "EntityAlreadyExists", http_status_code=409)
    stubber.add_client_error("get_role", "NoSuchEntity", http_status_code=404)
    with pytest.raises(errors.Conflict) as caught:
        held.ensure(ROLE, TRUST)
    assert caught.value.delay_seconds == iam_api.SOON_SECONDS


def test_a_policy_of_ten_thousand_characters_is_inline_still() -> None:
    held, stubber = stubbed()
    own = [f"a-product-{number:03}/" for number in range(150)]
    document = policy.document(bucket="lake", own=own, grants=[])
    short = allowances.compact(document)
    assert 7_000 < allowances.size(short) < 10_240
    expected = {"RoleName": "sales", "PolicyName": "dp", "PolicyDocument": policy.text(short)}
    stubber.add_response("put_role_policy", {}, expected)
    stubber.add_response("list_role_policies", {"PolicyNames": ["dp"]})
    stubber.add_response("list_attached_role_policies", {"AttachedPolicies": []})
    held.put_policy(ROLE, document)
    stubber.assert_no_pending_responses()


def test_a_role_that_is_used_by_a_machine_is_a_conflict() -> None:
    held, stubber = stubbed()
    stubber.add_response("get_role", described())
    stubber.add_response("list_role_policies", {"PolicyNames": []})
    stubber.add_response("list_attached_role_policies", {"AttachedPolicies": []})
    stubber.add_response("list_policies", {"Policies": []})
    stubber.add_client_error("delete_role", "DeleteConflict", http_status_code=409)
    with pytest.raises(errors.Conflict):
        held.delete(ROLE)


def test_a_name_that_no_role_may_have_is_refused() -> None:
    held, stubber = stubbed()
    stubber.add_client_error("create_role", "ValidationError", http_status_code=400)
    with pytest.raises(errors.IssuerRejected):
        held.ensure(model.Principal(name="r" * 65, product_id=SALES), TRUST)
