from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import Stubber

from provisioner import errors, model, s3
from provisioner.domain import policy
from provisioner.issuers import allowances, iam, iam_api
from provisioner.s3 import client as s3_client
from tests import canned_server

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


def short(document: dict[str, Any]) -> str:
    return policy.text(allowances.compact(document))


def nothing_else_is_there(stubber: Stubber, *inline: str) -> None:
    """Answer that the user has no policies but these inline ones, and no groups."""
    stubber.add_response("list_user_policies", {"PolicyNames": list(inline)}, {"UserName": NAME})
    stubber.add_response("list_attached_user_policies", {"AttachedPolicies": []})
    stubber.add_response("list_groups_for_user", {"Groups": []})


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
        {"UserName": NAME, "PolicyName": "dp", "PolicyDocument": short(DOCUMENT)},
    )
    nothing_else_is_there(stubber)
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
    ours = f"arn:aws:iam::123456789012:policy/provisioner/{NAME}/{NAME}"
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
    attached = [{"PolicyName": "x", "PolicyArn": each} for each in (arn, ours)]
    stubber.add_response("list_attached_user_policies", {"AttachedPolicies": attached}, mine)
    stubber.add_response("detach_user_policy", {}, {**mine, "PolicyArn": arn})
    stubber.add_response("detach_user_policy", {}, {**mine, "PolicyArn": ours})
    versions = [
        {"VersionId": each, "IsDefaultVersion": each == "v9", "CreateDate": MADE_AT}
        for each in ("v10", "v9", "v2")
    ]
    stubber.add_response("list_policy_versions", {"Versions": versions}, {"PolicyArn": ours})
    for old in ("v2", "v10"):
        stubber.add_response("delete_policy_version", {}, {"PolicyArn": ours, "VersionId": old})
    stubber.add_response("delete_policy", {}, {"PolicyArn": ours})
    group = {
        "GroupName": "people",
        "Path": "/",
        "GroupId": "AGPA0000000000000000",
        "Arn": "arn:aws:iam::123456789012:group/people",
        "CreateDate": MADE_AT,
    }
    stubber.add_response("list_groups_for_user", {"Groups": [group]}, mine)
    stubber.add_response("remove_user_from_group", {}, {**mine, "GroupName": "people"})
    below = {"Scope": "Local", "PathPrefix": f"/provisioner/{NAME}/"}
    stubber.add_response("list_policies", {"Policies": []}, below)
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
    """Build a policy that takes exactly that many characters when it is written."""

    def built(length: int) -> dict[str, Any]:
        resource = f"arn:aws:s3:::lake/{'x' * length}/*"
        return {"Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": resource}]}

    return built(characters - len(short(built(0))))


def test_a_policy_of_exactly_the_limit_is_written_inline() -> None:
    issuer, stubber = stubbed()
    stubber.add_response("put_user_policy", {})
    nothing_else_is_there(stubber)
    issuer.put_policy(PRINCIPAL, sized(2048))
    stubber.assert_no_pending_responses()


def part(number: int = 1, version: str = "v1") -> dict[str, Any]:
    """Describe a managed policy of ours."""
    name = NAME if number == 1 else f"{NAME}-{number}"
    return {
        "PolicyName": name,
        "Arn": f"arn:aws:iam::123456789012:policy/provisioner/{NAME}/{name}",
        "DefaultVersionId": version,
    }


def test_a_policy_of_one_character_more_becomes_a_managed_one() -> None:
    issuer, stubber = stubbed()
    mine = {"UserName": NAME}
    document = sized(2049)
    stubber.add_response("list_user_policies", {"PolicyNames": ["dp"]}, mine)
    stubber.add_response("list_attached_user_policies", {"AttachedPolicies": []}, mine)
    stubber.add_response("list_policies", {"Policies": []})
    held = {"UserName": NAME, "PolicyName": "dp", "PolicyDocument": short(DOCUMENT)}
    stubber.add_response("get_user_policy", held, {**mine, "PolicyName": "dp"})
    stubber.add_response(
        "create_policy",
        {"Policy": part()},
        {
            "PolicyName": NAME,
            "Path": f"/provisioner/{NAME}/",
            "PolicyDocument": short(document),
            "Tags": TAGS,
        },
    )
    # Nothing of the inline policy is wanted any more: it goes before anything is attached.
    stubber.add_response("delete_user_policy", {}, {**mine, "PolicyName": "dp"})
    stubber.add_response("attach_user_policy", {}, {**mine, "PolicyArn": part()["Arn"]})
    stubber.add_response("list_groups_for_user", {"Groups": []}, mine)
    issuer.put_policy(PRINCIPAL, document)
    stubber.assert_no_pending_responses()


def test_a_sixth_version_is_made_once_the_oldest_is_gone() -> None:
    issuer, stubber = stubbed()
    arn = {"PolicyArn": part()["Arn"]}
    attached = [{"PolicyName": NAME, "PolicyArn": part()["Arn"]}]
    versions = [
        {"VersionId": f"v{number}", "IsDefaultVersion": number == 12, "CreateDate": MADE_AT}
        for number in (12, 11, 10, 9, 8)
    ]
    nothing = {"VersionId": "v12", "Document": short(DOCUMENT)}
    stubber.add_response("list_user_policies", {"PolicyNames": []})
    stubber.add_response("list_attached_user_policies", {"AttachedPolicies": attached})
    stubber.add_response("list_policies", {"Policies": [part(version="v12")]})
    stubber.add_response(
        "get_policy_version", {"PolicyVersion": nothing}, {**arn, "VersionId": "v12"}
    )
    stubber.add_response("list_policy_versions", {"Versions": versions}, arn)
    stubber.add_response("delete_policy_version", {}, {**arn, "VersionId": "v8"})
    rewritten = {**arn, "PolicyDocument": short(sized(2049)), "SetAsDefault": True}
    stubber.add_response("create_policy_version", {}, rewritten)
    stubber.add_response("list_groups_for_user", {"Groups": []})
    issuer.put_policy(PRINCIPAL, sized(2049))
    stubber.assert_no_pending_responses()


@pytest.mark.parametrize("foreign", [False, True])
def test_an_engine_with_less_room_refuses_a_policy_as_too_large(foreign: bool) -> None:
    issuer, stubber = stubbed()
    stubber.add_client_error("put_user_policy", "LimitExceeded", http_status_code=409)
    stubber.add_response("list_user_policies", {"PolicyNames": ["dp", *["theirs"] * foreign]})
    if foreign:
        stubber.add_response("delete_user_policy", {}, {"UserName": NAME, "PolicyName": "theirs"})
        stubber.add_client_error("put_user_policy", "LimitExceeded", http_status_code=409)
    with pytest.raises(errors.PolicyTooLarge):
        issuer.put_policy(PRINCIPAL, DOCUMENT)
    stubber.assert_no_pending_responses()


def test_a_foreign_inline_policy_makes_room_for_ours() -> None:
    issuer, stubber = stubbed()
    stubber.add_client_error("put_user_policy", "LimitExceeded", http_status_code=409)
    stubber.add_response("list_user_policies", {"PolicyNames": ["theirs"]})
    stubber.add_response("delete_user_policy", {}, {"UserName": NAME, "PolicyName": "theirs"})
    stubber.add_response("put_user_policy", {})
    nothing_else_is_there(stubber, "dp")
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    stubber.assert_no_pending_responses()


def test_an_account_without_room_for_policies_is_left_as_it_was() -> None:
    issuer, stubber = stubbed()
    stubber.add_response("list_user_policies", {"PolicyNames": []})
    stubber.add_response("list_attached_user_policies", {"AttachedPolicies": []})
    stubber.add_response("list_policies", {"Policies": []})
    stubber.add_response("create_policy", {"Policy": part()})
    stubber.add_client_error("create_policy", "LimitExceeded", http_status_code=409)
    version = {"VersionId": "v1", "IsDefaultVersion": True, "CreateDate": MADE_AT}
    stubber.add_response("list_policy_versions", {"Versions": [version]})
    stubber.add_response("delete_policy", {}, {"PolicyArn": part()["Arn"]})
    with pytest.raises(errors.PolicyTooLarge):
        issuer.put_policy(PRINCIPAL, large(199))
    stubber.assert_no_pending_responses()


def large(prefixes: int) -> dict[str, Any]:
    own = [f"a-product-{number:03}/" for number in range(prefixes)]
    return policy.document(bucket="lake", own=own, grants=[])


def test_an_engine_without_managed_policies_takes_a_large_one_inline() -> None:
    issuer, stubber = stubbed()
    stubber.add_response("list_user_policies", {"PolicyNames": []})
    stubber.add_client_error("list_attached_user_policies", "MethodNotAllowed", "", 405)
    stubber.add_client_error("list_policies", "MethodNotAllowed", "", 405)
    expected = {"UserName": NAME, "PolicyName": "dp", "PolicyDocument": short(large(99))}
    stubber.add_response("put_user_policy", {}, expected)
    stubber.add_response("list_user_policies", {"PolicyNames": ["dp"]})
    stubber.add_client_error("list_attached_user_policies", "MethodNotAllowed", "", 405)
    stubber.add_client_error("list_groups_for_user", "NotImplemented", "", 501)
    issuer.put_policy(PRINCIPAL, large(99))
    stubber.assert_no_pending_responses()


def test_a_policy_name_that_is_taken_is_a_conflict_that_backs_off() -> None:
    issuer, stubber = stubbed()
    stubber.add_response("list_user_policies", {"PolicyNames": []})
    stubber.add_response("list_attached_user_policies", {"AttachedPolicies": []})
    stubber.add_response("list_policies", {"Policies": []})
    stubber.add_client_error("create_policy", "EntityAlreadyExists", http_status_code=409)
    with pytest.raises(errors.Conflict) as caught:
        issuer.put_policy(PRINCIPAL, sized(2049))
    assert caught.value.delay_seconds is None


def test_a_part_that_somebody_attached_elsewhere_is_left(caplog: pytest.LogCaptureFixture) -> None:
    issuer, stubber = stubbed()
    arn = part()["Arn"]
    stubber.add_response("put_user_policy", {})
    stubber.add_response("list_user_policies", {"PolicyNames": ["dp"]})
    attached = [{"PolicyName": NAME, "PolicyArn": arn}]
    stubber.add_response("list_attached_user_policies", {"AttachedPolicies": attached})
    stubber.add_response("detach_user_policy", {})
    stubber.add_response("list_policy_versions", {"Versions": []})
    stubber.add_client_error("delete_policy", "DeleteConflict", http_status_code=409)
    stubber.add_response("list_groups_for_user", {"Groups": []})
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    assert "a policy of ours is attached to somebody else" in caplog.text
    stubber.assert_no_pending_responses()


def test_a_part_that_changes_meanwhile_is_a_conflict() -> None:
    issuer, stubber = stubbed()
    attached = [{"PolicyName": NAME, "PolicyArn": part()["Arn"]}]
    stubber.add_response("put_user_policy", {})
    stubber.add_response("list_user_policies", {"PolicyNames": ["dp"]})
    stubber.add_response("list_attached_user_policies", {"AttachedPolicies": attached})
    stubber.add_response("detach_user_policy", {})
    stubber.add_response("list_policy_versions", {"Versions": []})
    stubber.add_client_error("delete_policy", "ConcurrentModification", http_status_code=409)
    with pytest.raises(errors.Conflict) as caught:
        issuer.put_policy(PRINCIPAL, DOCUMENT)
    assert caught.value.delay_seconds == iam_api.SOON_SECONDS


def test_what_was_just_made_and_is_not_found_is_asked_for_again_soon() -> None:
    issuer, stubber = stubbed()
    stubber.add_client_error("create_access_key", "NoSuchEntity", http_status_code=404)
    with pytest.raises(errors.Conflict) as caught:
        issuer.create_key(PRINCIPAL, None, DOCUMENT)
    assert caught.value.delay_seconds == iam_api.SOON_SECONDS


def test_a_user_made_a_moment_ago_takes_one_call_for_its_policy_once() -> None:
    issuer, stubber = stubbed()
    stubber.add_response("create_user", user())
    stubber.add_response("put_user_policy", {})
    issuer.ensure_principal(PRINCIPAL)
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    stubber.assert_no_pending_responses()
    stubber.add_response("put_user_policy", {})
    nothing_else_is_there(stubber, "dp")
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    stubber.assert_no_pending_responses()


def test_a_user_made_longer_ago_is_looked_at() -> None:
    issuer, stubber = stubbed()
    times = iter([0.0, 11.0])
    issuer._monotonic = lambda: next(times)
    stubber.add_response("create_user", user())
    stubber.add_response("put_user_policy", {})
    nothing_else_is_there(stubber, "dp")
    issuer.ensure_principal(PRINCIPAL)
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    stubber.assert_no_pending_responses()


@pytest.mark.parametrize(
    "described",
    [user("/people/", TAGS), user(tags=[{"Key": "provisioner:product", "Value": "another"}])],
)
def test_a_user_that_is_not_ours_holds_nothing_of_ours(described: dict[str, Any]) -> None:
    issuer, stubber = stubbed()
    stubber.add_response("get_user", described)
    assert not issuer.holds(PRINCIPAL, DOCUMENT)
    stubber.assert_no_pending_responses()


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
    if isinstance(caught.value, errors.Conflict):
        assert caught.value.delay_seconds == iam_api.SOON_SECONDS
    assert SECRET not in str(caught.value)


def test_an_engine_that_does_not_answer_is_unavailable() -> None:
    issuer = iam.IamIssuer(client_of(closed_endpoint()))
    with pytest.raises(errors.IssuerUnavailable) as caught:
        issuer.list_keys(PRINCIPAL)
    assert caught.value.attributes == {"reason": "EndpointConnectionError"}


@pytest.mark.parametrize("said", [b"", b"<html>sorry</html>", b"<ListAccessKeysResponse><Li"])
def test_what_only_a_gateway_or_half_an_engine_says_is_asked_again(said: bytes) -> None:
    with canned_server.canned(200, said, "text/xml") as endpoint:
        issuer = iam.IamIssuer(client_of(endpoint))
        with pytest.raises(errors.IssuerGarbled) as caught:
            issuer.list_keys(PRINCIPAL)
    assert isinstance(caught.value, errors.TemporaryError)


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
