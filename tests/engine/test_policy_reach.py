"""Hold issued keys against real engines: signed URLs, odd paths, and calls on their own account."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from provisioner import errors, model
from provisioner.steps import keypair
from tests.lake import FOREIGN, Lake, allowed

if TYPE_CHECKING:
    from tests.engines import Minio, Rgw

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("operation", "key", "status"),
    [
        ("get_object", "sales/x", 200),
        ("get_object", "orders/daily/x", 200),
        ("put_object", "sales/signed", 200),
        ("put_object", "shared/in/signed", 200),
        ("get_object", "hr/x", 403),
        ("get_object", "sales-eu/x", 403),
        ("get_object", ".provisioner/owners/sales.json", 403),
        ("put_object", "hr/signed", 403),
        ("put_object", "orders/daily/signed", 403),
        ("delete_object", "hr/x", 403),
        ("delete_object", "orders/daily/x", 403),
        ("upload_part", "hr/upload", 403),
    ],
)
def test_a_signed_url_is_worth_what_its_key_is(
    lake: Lake, operation: str, key: str, status: int
) -> None:
    parameters: dict[str, Any] = {"Bucket": "lake", "Key": key}
    if operation == "upload_part":
        parameters |= {"UploadId": lake.upload, "PartNumber": 1}
    url = lake.sales.generate_presigned_url(operation, Params=parameters)
    method = {"get": "GET", "put": "PUT", "del": "DELETE", "upl": "PUT"}[operation[:3]]
    content = b"" if method == "PUT" else None
    assert httpx.request(method, url, content=content).status_code == status


@pytest.mark.parametrize("prefix", ["", "hr/", "sales"])
def test_a_signed_url_lists_nothing_of_others(lake: Lake, prefix: str) -> None:
    url = lake.sales.generate_presigned_url(
        "list_objects_v2", Params={"Bucket": "lake", "Prefix": prefix}
    )
    assert httpx.get(url).status_code == 403


def test_a_signed_url_is_good_for_its_own_path_alone(lake: Lake) -> None:
    url = lake.sales.generate_presigned_url(
        "get_object", Params={"Bucket": "lake", "Key": "sales/x"}
    )
    assert httpx.get(url).status_code == 200
    assert httpx.get(url.replace("/sales/x", "/hr/x")).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/lake/sales/../hr/x",
        "/lake/sales/%2E%2E/hr/x",
        "/lake/sales%2F..%2Fhr%2Fx",
        "/lake/sales/./../hr/x",
        "/lake/sales//../hr/x",
        "/lake/sales/..%2Fhr/x",
        "/lake/sales/%252E%252E/hr/x",
        "/lake//hr/x",
        "/lake/./hr/x",
        "//lake/hr/x",
        "/lake/sales/../../vault/hr/x",
        "/lake/sales/..;/hr/x",
        "/lake/hr/x%00sales/",
        "/lake/hr%5Cx",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_odd_path_reaches_what_is_somebody_elses(lake: Lake, method: str, path: str) -> None:
    content = b"ours" if method == "PUT" else b""
    status, body = signed(lake, method, path, content)
    assert status < 500 or status == 501
    assert FOREIGN not in body
    assert lake.body("hr/x") == FOREIGN
    assert lake.body("hr/x", bucket="vault") == FOREIGN


def signed(lake: Lake, method: str, path: str, content: bytes) -> tuple[int, bytes]:
    """Send a path exactly as it is written."""
    request = AWSRequest(method=method, url=f"{lake.engine.endpoint}{path}", data=content)
    key = lake.holder.key
    S3SigV4Auth(Credentials(key.id, key.secret), "s3", "us-east-1").add_auth(request)
    answer = URLLib3Session().send(request.prepare())
    return answer.status_code, answer.content


def test_parts_are_copied_from_own_objects(lake: Lake) -> None:
    lake.sales.put_object(Bucket="lake", Key="sales/source", Body=b"ours")
    assert allowed(lambda: copy_part(lake, "lake", "sales/source"))


@pytest.mark.parametrize("source", ["sales/x", "orders/daily/x"])
def test_parts_are_copied_from_what_others_wrote_where_the_policy_is_asked(
    lake: Lake, source: str
) -> None:
    # RGW before 19 asks for this one call who owns the source, and not the caller's policy.
    assert allowed(lambda: copy_part(lake, "lake", source)) == (lake.name != "rgw")


@pytest.mark.parametrize("source", ["hr/x", "sales-eu/x", ".provisioner/owners/hr.json"])
@pytest.mark.parametrize("bucket", ["lake", "vault"])
def test_no_part_is_copied_from_others(lake: Lake, bucket: str, source: str) -> None:
    assert not allowed(lambda: copy_part(lake, bucket, source))


def copy_part(lake: Lake, bucket: str, source: str) -> None:
    begun = lake.sales.create_multipart_upload(Bucket="lake", Key="sales/parts")["UploadId"]
    name: Any = {"Bucket": "lake", "Key": "sales/parts", "UploadId": begun}
    copy: Any = {"Bucket": bucket, "Key": source}
    try:
        lake.sales.upload_part_copy(**name, PartNumber=1, CopySource=copy)
    finally:
        lake.sales.abort_multipart_upload(**name)


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("sts", "assume_role", {"RoleArn": "arn:aws:iam:::role/x", "RoleSessionName": "mine"}),
        ("iam", "list_users", {}),
        ("iam", "create_user", {"UserName": "mine"}),
        ("iam", "create_access_key", {}),
        ("iam", "put_user_policy", {"UserName": "u", "PolicyName": "p", "PolicyDocument": "{}"}),
        ("iam", "list_user_policies", {"UserName": "u"}),
    ],
)
def test_no_iam_call_is_for_an_issued_key(
    lake: Lake, service: str, operation: str, parameters: dict[str, str]
) -> None:
    if operation == "put_user_policy":
        everything = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}
        document = {"Version": "2012-10-17", "Statement": [everything]}
        parameters = {**parameters, "PolicyDocument": json.dumps(document)}
    call = getattr(lake.engine.client(service, lake.holder.key), operation)
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    # What an engine does not know (a call, a role) it says before it looks at who asks.
    status = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert status in (400, 403, 404, 405, 501)


ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}],
}


def minio_calls(minio: Minio, key: model.AccessKey, parent: str) -> dict[str, Callable[[], object]]:
    calls = minio.calls(key)
    other = keypair.choose()
    reset = {"newSecretKey": "c" * 40}
    return {
        "reset the secret of its parent": lambda: calls.add_user(parent, "b" * 40),
        "make a user": lambda: calls.add_user("mine", "b" * 40),
        "mint a key for itself": lambda: calls.add_account(parent, other, "mine"),
        "mint a key for root": lambda: calls.add_account(minio.admin.id, other, "mine"),
        "change its own key": lambda: calls.reset_account(key.id),
        "give its parent a policy": lambda: calls.attach("consoleAdmin", parent),
        "rewrite its own policy": lambda: calls.put_policy(parent, json.dumps(ALL).encode()),
        "delete its own policy": lambda: calls.delete_policy(parent),
        "delete its parent": lambda: calls.delete_user(parent),
        "enable a user": lambda: calls.enable_user(parent),
        "read its own policy": lambda: calls.policy(parent),
        "read its parent": lambda: calls.user(parent),
        "list policies": calls.marked,
        "list the keys of root": lambda: calls.accounts(minio.admin.id),
        "change its secret": lambda: minio.raw(key).write(
            "POST",
            "update-service-account",
            {"accessKey": key.id},
            json.dumps(reset).encode(),
            encrypted=True,
        ),
        "list users": lambda: minio.raw(key).read("list-users", encrypted=True),
        "ask for the server's state": lambda: minio.raw(key).read("info"),
        "export everybody's keys": lambda: minio.raw(key).read("export-iam"),
        "read the configuration": lambda: minio.raw(key).read("config", encrypted=True),
        "list groups": lambda: minio.raw(key).read("groups"),
        "stop the server": lambda: minio.raw(key).write("POST", "service", {"action": "stop"}),
        "set a quota": lambda: minio.raw(key).write(
            "PUT", "set-bucket-quota", {"bucket": "lake"}, b"{}"
        ),
    }


def test_no_call_of_the_admin_api_is_for_an_issued_key(minio: Minio, lake: Lake) -> None:
    holder = minio.holder({"Version": "2012-10-17", "Statement": ALL["Statement"]})
    for name, call in minio_calls(minio, holder.key, holder.name).items():
        with pytest.raises(errors.IssuerRejected) as caught:
            call()
        assert caught.value.attributes["status"] == 403, name


def test_a_key_sees_and_ends_the_other_keys_of_its_product_and_no_others(minio: Minio) -> None:
    """MinIO lets accounts of one user do that, whatever the policy says."""
    mine, other = minio.holder(ALL), minio.holder(ALL)
    calls = minio.calls(mine.key)
    assert [each.id for each in calls.accounts("")] == [mine.key.id]
    calls.delete_account(mine.name, other.key.id)
    assert [each.id for each in minio.calls().accounts(other.name)] == [other.key.id]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_no_admin_operation_of_rgw_is_for_an_issued_key(rgw: Rgw, method: str) -> None:
    uid, key = rgw.user(json.dumps(ALL))
    with pytest.raises(httpx.HTTPStatusError) as caught:
        rgw.admin_call(method, uid, {"max-buckets": "9"}, key=key)
    assert caught.value.response.status_code == 403
