from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import Stubber

from provisioner import errors, model, policy, s3
from provisioner.issuers import iam
from provisioner.s3 import client as s3_client

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

SALES = "6f1e2d3c-0000-4000-8000-000000000001"
SECRET = "s3cr3t/of+the+admin/which+nobody+may+see"
NAME = "dp-sales-6f1e2d3c"
PRINCIPAL = model.Principal(name=NAME, product_id=SALES)
TAGS = [{"Key": "provisioner:product", "Value": SALES}]
MADE_AT = datetime(2026, 1, 2, tzinfo=UTC)
DOCUMENT = policy.document(bucket="lake", own=["sales/"], grants=[])


def stubbed() -> tuple[iam.IamIssuer, Stubber]:
    client = s3_client.new_client(
        "iam",
        endpoint="http://127.0.0.1:9",
        region="us-east-1",
        access_key="AKIAADMIN",
        secret_key=SECRET,
    )
    stubber = Stubber(client)
    stubber.activate()
    return iam.IamIssuer(client), stubber


def client_of(endpoint: str) -> IAMClient:
    return s3.connect(
        endpoint=endpoint,
        region="us-east-1",
        access_key="AKIAADMIN",
        secret_key=SECRET,
        service="iam",
    )


def user(path: str = "/provisioner/", tags: list[dict[str, str]] | None = None) -> dict[str, Any]:
    described = {
        "Path": path,
        "UserName": NAME,
        "UserId": "AIDA0000000000000000",
        "Arn": f"arn:aws:iam::123456789012:user{path}{NAME}",
        "CreateDate": MADE_AT,
    }
    return {"User": {**described, "Tags": tags} if tags else described}


def user_is_there(stubber: Stubber) -> None:
    stubber.add_client_error("create_user", "EntityAlreadyExists", http_status_code=409)


def closed_endpoint() -> str:
    """Return an address that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_principal_is_a_tagged_user_below_our_path() -> None:
    issuer, stubber = stubbed()
    stubber.add_response(
        "create_user", user(), {"UserName": NAME, "Path": "/provisioner/", "Tags": TAGS}
    )
    issuer.ensure_principal(PRINCIPAL)
    stubber.assert_no_pending_responses()


def test_the_policy_is_compact_and_has_one_name() -> None:
    issuer, stubber = stubbed()
    stubber.add_response(
        "put_user_policy",
        {},
        {"UserName": NAME, "PolicyName": "dp", "PolicyDocument": policy.text(DOCUMENT)},
    )
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    stubber.assert_no_pending_responses()


def test_an_engine_that_refuses_tags_gets_a_user_without() -> None:
    issuer, stubber = stubbed()
    stubber.add_client_error("create_user", "NotImplemented", http_status_code=501)
    stubber.add_response("create_user", user(), {"UserName": NAME, "Path": "/provisioner/"})
    issuer.ensure_principal(PRINCIPAL)
    stubber.assert_no_pending_responses()


def test_a_user_on_an_engine_without_tags_is_known_by_its_path() -> None:
    issuer, stubber = stubbed()
    user_is_there(stubber)
    stubber.add_response("get_user", user())
    stubber.add_client_error("list_user_tags", "MethodNotAllowed", http_status_code=405)
    issuer.ensure_principal(PRINCIPAL)
    stubber.assert_no_pending_responses()


@pytest.mark.parametrize("listed_apart", [False, True])
def test_another_products_tag_is_respected_wherever_the_engine_shows_it(listed_apart: bool) -> None:
    issuer, stubber = stubbed()
    theirs = [{"Key": "provisioner:product", "Value": "another"}]
    user_is_there(stubber)
    stubber.add_response("get_user", user(tags=None if listed_apart else theirs))
    if listed_apart:
        stubber.add_response("list_user_tags", {"Tags": theirs})
    with pytest.raises(errors.NotOurs) as caught:
        issuer.ensure_principal(PRINCIPAL)
    assert caught.value.attributes == {"principal": NAME}


@pytest.mark.parametrize("path", ["/", "/people/", "/provisioner/of-another/", "/Provisioner/"])
def test_a_user_outside_our_path_is_left_alone(path: str) -> None:
    issuer, stubber = stubbed()
    user_is_there(stubber)
    stubber.add_response("get_user", user(path, TAGS))
    with pytest.raises(errors.NotOurs):
        issuer.ensure_principal(PRINCIPAL)
    stubber.add_response("get_user", user(path, TAGS))
    with pytest.raises(errors.NotOurs):
        issuer.delete_principal(PRINCIPAL)
    stubber.add_response("get_user", user(path, TAGS))
    with pytest.raises(errors.NotOurs):
        issuer.delete_key(PRINCIPAL, "AKIA0000000000000001")
    stubber.assert_no_pending_responses()


def test_a_user_deleted_between_two_looks_is_a_conflict() -> None:
    issuer, stubber = stubbed()
    user_is_there(stubber)
    stubber.add_client_error("get_user", "NoSuchEntity", http_status_code=404)
    with pytest.raises(errors.Conflict):
        issuer.ensure_principal(PRINCIPAL)


def test_a_key_is_deactivated_before_it_is_deleted() -> None:
    issuer, stubber = stubbed()
    named = {"UserName": NAME, "AccessKeyId": "AKIA0000000000000001"}
    stubber.add_response("get_user", user(), {"UserName": NAME})
    stubber.add_response("update_access_key", {}, {**named, "Status": "Inactive"})
    stubber.add_response("delete_access_key", {}, named)
    issuer.delete_key(PRINCIPAL, "AKIA0000000000000001")
    stubber.assert_no_pending_responses()


def keys(*ids: str, marker: str | None = None) -> dict[str, Any]:
    page: dict[str, Any] = {
        "AccessKeyMetadata": [
            {"AccessKeyId": each, "UserName": NAME, "Status": "Active", "CreateDate": MADE_AT}
            for each in ids
        ]
    }
    return {**page, "IsTruncated": True, "Marker": marker} if marker else page


def test_a_principal_is_taken_apart_in_the_order_that_aws_asks_for() -> None:
    issuer, stubber = stubbed()
    mine = {"UserName": NAME}
    arn = "arn:aws:iam::123456789012:policy/by-hand"
    first, second = "AKIA0000000000000001", "AKIA0000000000000002"
    stubber.add_response("get_user", user(), mine)
    stubber.add_response("list_access_keys", keys(first, marker="more"), mine)
    stubber.add_response("list_access_keys", keys(second), {**mine, "Marker": "more"})
    for key in (first, second):
        named = {**mine, "AccessKeyId": key}
        stubber.add_response("update_access_key", {}, {**named, "Status": "Inactive"})
        stubber.add_response("delete_access_key", {}, named)
    stubber.add_response("list_user_policies", {"PolicyNames": ["dp", "by-hand"]}, mine)
    for name in ("dp", "by-hand"):
        stubber.add_response("delete_user_policy", {}, {**mine, "PolicyName": name})
    attached = {"AttachedPolicies": [{"PolicyName": "by-hand", "PolicyArn": arn}]}
    stubber.add_response("list_attached_user_policies", attached, mine)
    stubber.add_response("detach_user_policy", {}, {**mine, "PolicyArn": arn})
    stubber.add_response("delete_user", {}, mine)
    issuer.delete_principal(PRINCIPAL)
    stubber.assert_no_pending_responses()


def test_an_inactive_key_is_listed_as_such() -> None:
    issuer, stubber = stubbed()
    page = keys("AKIA0000000000000001")
    page["AccessKeyMetadata"][0]["Status"] = "Inactive"
    stubber.add_response("list_access_keys", page)
    (listed,) = issuer.list_keys(PRINCIPAL)
    assert (listed.active, listed.created_at) == (False, MADE_AT)


def sized(characters: int) -> dict[str, Any]:
    """Build a document of exactly that many characters."""
    empty = {"Version": "2012-10-17", "Statement": [], "Id": ""}
    return {**empty, "Id": "x" * (characters - len(policy.text(empty)))}


def test_a_policy_of_exactly_the_limit_is_written() -> None:
    issuer, stubber = stubbed()
    stubber.add_response("put_user_policy", {})
    issuer.put_policy(PRINCIPAL, sized(2048))
    stubber.assert_no_pending_responses()


def test_a_policy_of_one_character_more_is_refused_before_the_engine_is_asked() -> None:
    issuer, _ = stubbed()
    with pytest.raises(errors.PolicyTooLarge) as caught:
        issuer.put_policy(PRINCIPAL, sized(2049))
    assert caught.value.attributes == {"size": 2049, "limit": 2048}


def test_an_engine_with_less_room_refuses_a_policy_as_too_large() -> None:
    issuer, stubber = stubbed()
    stubber.add_client_error("put_user_policy", "LimitExceeded", http_status_code=409)
    with pytest.raises(errors.PolicyTooLarge):
        issuer.put_policy(PRINCIPAL, DOCUMENT)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("Throttling", 400, errors.RateLimited),
        ("RequestLimitExceeded", 503, errors.RateLimited),
        ("Other", 429, errors.RateLimited),
        ("ServiceFailure", 500, errors.IssuerUnavailable),
        ("ServiceUnavailable", 503, errors.IssuerUnavailable),
        ("ConcurrentModification", 409, errors.Conflict),
        ("DeleteConflict", 409, errors.Conflict),
        ("EntityTemporarilyUnmodifiable", 409, errors.Conflict),
        ("NoSuchEntity", 404, errors.Conflict),
        ("AccessDenied", 403, errors.IssuerRejected),
        ("InvalidClientTokenId", 403, errors.IssuerRejected),
        ("MalformedPolicyDocument", 400, errors.IssuerRejected),
        ("MethodNotAllowed", 405, errors.IssuerRejected),
        ("NotImplemented", 501, errors.IssuerRejected),
    ],
)
def test_an_answer_says_what_to_do(
    code: str, status: int, expected: type[errors.ReconcileError]
) -> None:
    issuer, stubber = stubbed()
    stubber.add_client_error("put_user_policy", code, f"{SECRET}", http_status_code=status)
    with pytest.raises(errors.ReconcileError) as caught:
        issuer.put_policy(PRINCIPAL, DOCUMENT)
    assert type(caught.value) is expected
    assert caught.value.attributes == {"code": code, "status": status, "call": "PutUserPolicy"}
    assert SECRET not in str(caught.value)


def test_an_engine_that_does_not_answer_is_unavailable() -> None:
    issuer = iam.IamIssuer(client_of(closed_endpoint()))
    with pytest.raises(errors.IssuerUnavailable) as caught:
        issuer.list_keys(PRINCIPAL)
    assert caught.value.attributes == {"reason": "EndpointConnectionError"}


def test_credentials_that_are_nowhere_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    s3_client._session.cache_clear()
    client = s3.connect(
        endpoint=closed_endpoint(),
        region="us-east-1",
        access_key=None,
        secret_key=None,
        service="iam",
    )
    with pytest.raises(errors.IssuerRejected, match="no credentials"):
        iam.IamIssuer(client).list_keys(PRINCIPAL)
    s3_client._session.cache_clear()


def test_a_user_that_may_not_be_made_is_refused_without_a_second_try() -> None:
    issuer, stubber = stubbed()
    stubber.add_client_error("create_user", "AccessDenied", http_status_code=403)
    with pytest.raises(errors.IssuerRejected):
        issuer.ensure_principal(PRINCIPAL)
