from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from provisioner import errors, s3
from provisioner.s3 import client as s3_client
from tests import canned_server

SALES = "6f1e2d3c-0000-4000-8000-000000000001"
SECRET = "s3cr3t/of+the+admin/which+nobody+may+see"


def stubbed(*, create_bucket: bool = True, region: str = "us-east-1") -> tuple[s3.S3Store, Stubber]:
    client = s3_client.new_client(
        "s3",
        endpoint="http://127.0.0.1:9",
        region=region,
        access_key="AKIAADMIN",
        secret_key=SECRET,
    )
    stubber = Stubber(client)
    stubber.activate()
    return s3.S3Store(client, bucket="lake", region=region, create_bucket=create_bucket), stubber


def closed_endpoint() -> str:
    """Return an address that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_nothing_heavy_is_imported_before_the_first_call() -> None:
    script = (
        "import sys\n"
        "from provisioner import s3\n"
        "from provisioner.issuers import choose\n"
        "given = dict(endpoint=None, region='r', access_key=None, secret_key=None)\n"
        "s3.S3Store(s3.connect(**given), bucket='b', region='r')\n"
        "s3.S3Prober(endpoint=None, region='r', bucket='b')\n"
        "choose.choose('auto', client=s3.connect(service='iam', **given), endpoint='http://x')\n"
        "print(sorted({'boto3', 'botocore'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("answer", "keeps"),
    [({}, False), ({"Status": "Enabled"}, True), ({"Status": "Suspended"}, True)],
)
def test_a_bucket_that_ever_kept_versions_keeps_them(answer: Any, keeps: bool) -> None:
    store, stubber = stubbed()
    stubber.add_response("get_bucket_versioning", answer, {"Bucket": "lake"})
    assert store.keeps_versions() is keeps
    stubber.assert_no_pending_responses()


def test_a_bucket_that_is_missing_keeps_no_versions() -> None:
    store, stubber = stubbed()
    stubber.add_client_error("get_bucket_versioning", "NoSuchBucket", http_status_code=404)
    assert not store.keeps_versions()


def test_a_client_is_made_once_for_all_threads() -> None:
    client: Any = s3.connect(
        endpoint="http://127.0.0.1:9", region="us-east-1", access_key="a", secret_key="b"
    )
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(client.meta)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len({id(each) for each in seen}) == 1


def test_a_client_of_a_self_hosted_engine_uses_path_style_and_plain_checksums() -> None:
    client: Any = s3.connect(
        endpoint="http://127.0.0.1:9", region="eu-west-1", access_key="a", secret_key="b"
    )
    config = client.meta.config
    assert config.s3["addressing_style"] == "path"
    assert config.request_checksum_calculation == "when_required"
    assert (config.connect_timeout, config.read_timeout) == (3, 10)


def test_without_an_endpoint_it_is_aws() -> None:
    client: Any = s3.connect(endpoint=None, region="eu-west-1", access_key="a", secret_key="b")
    assert client.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"


def test_no_secret_is_shown_by_a_client_or_a_prober() -> None:
    client = s3.connect(endpoint="http://x", region="r", access_key="AKIAADMIN", secret_key=SECRET)
    assert SECRET not in repr(client)
    assert SECRET not in repr(vars(client))


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("SlowDown", 503, errors.RateLimited),
        ("TooManyRequests", 429, errors.RateLimited),
        ("InternalError", 500, errors.StorageUnavailable),
        ("ServiceUnavailable", 503, errors.StorageUnavailable),
        ("OperationAborted", 409, errors.Conflict),
        ("NotImplemented", 501, errors.PermanentError),
        ("AccessDenied", 403, errors.PermanentError),
        ("SignatureDoesNotMatch", 403, errors.PermanentError),
        ("InvalidRequest", 400, errors.PermanentError),
    ],
)
def test_an_answer_says_what_to_do(
    code: str, status: int, expected: type[errors.ReconcileError]
) -> None:
    store, stubber = stubbed()
    stubber.add_client_error("get_object", code, f"about {SECRET}", http_status_code=status)
    with pytest.raises(expected) as caught:
        store.owner("sales")
    assert type(caught.value) is expected
    assert caught.value.attributes == {"code": code, "status": status, "call": "GetObject"}
    assert SECRET not in str(caught.value)


def test_an_engine_that_does_not_answer_is_unavailable() -> None:
    client = s3.connect(
        endpoint=closed_endpoint(), region="us-east-1", access_key="a", secret_key=SECRET
    )
    store = s3.S3Store(client, bucket="lake", region="us-east-1")
    with pytest.raises(errors.StorageUnavailable) as caught:
        store.ensure_bucket()
    assert caught.value.attributes == {"reason": "EndpointConnectionError"}


@pytest.mark.parametrize(("status", "said"), [(200, b"<html>"), (502, b"<html>"), (500, b"")])
def test_an_engine_that_talks_nonsense_is_unavailable(status: int, said: bytes) -> None:
    with canned_server.canned(status, said) as endpoint:
        client = s3.connect(
            endpoint=endpoint, region="us-east-1", access_key="a", secret_key=SECRET
        )
        with pytest.raises(errors.StorageUnavailable):
            s3.S3Store(client, bucket="lake", region="us-east-1").is_empty("sales/")


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda store: store.is_empty("sales/"), id="a listing"),
        pytest.param(lambda store: store.owner("sales"), id="an object"),
        pytest.param(lambda store: store.keeps_versions(), id="a setting"),
        pytest.param(lambda store: store.purge("sales/"), id="a deletion"),
    ],
)
def test_an_answer_that_ends_within_its_head_is_not_taken_for_an_empty_one(
    ask: Callable[[s3.S3Store], object],
) -> None:
    with canned_server.canned_raw(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Le") as endpoint:
        client = s3.connect(
            endpoint=endpoint, region="us-east-1", access_key="a", secret_key=SECRET
        )
        with pytest.raises(errors.StorageUnavailable):
            ask(s3.S3Store(client, bucket="lake", region="us-east-1"))


def test_credentials_that_are_nowhere_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    s3_client._session.cache_clear()
    client = s3.connect(
        endpoint=closed_endpoint(), region="us-east-1", access_key=None, secret_key=None
    )
    with pytest.raises(errors.PermanentError, match="no credentials"):
        s3.S3Store(client, bucket="lake", region="us-east-1").owner("sales")
    s3_client._session.cache_clear()


def test_a_bucket_name_that_s3_does_not_know_is_permanent() -> None:
    client = s3.connect(endpoint="http://127.0.0.1:9", region="r", access_key="a", secret_key="b")
    with pytest.raises(errors.PermanentError, match="none that S3 allows"):
        s3.S3Store(client, bucket="not a bucket", region="r").owner("sales")


def test_a_bucket_of_somebody_elses_is_not_ours() -> None:
    store, stubber = stubbed()
    stubber.add_client_error("list_objects_v2", "AccessDenied", http_status_code=403)
    with pytest.raises(errors.NotOurs) as caught:
        store.ensure_bucket()
    assert caught.value.attributes == {"bucket": "lake"}


def test_a_wrong_admin_key_is_not_taken_for_a_foreign_bucket() -> None:
    store, stubber = stubbed()
    stubber.add_client_error("list_objects_v2", "InvalidAccessKeyId", http_status_code=403)
    with pytest.raises(errors.PermanentError) as caught:
        store.ensure_bucket()
    assert caught.value.attributes["code"] == "InvalidAccessKeyId"
    assert not isinstance(caught.value, errors.NotOurs)


def missing_bucket(stubber: Stubber) -> None:
    stubber.add_client_error("list_objects_v2", "NoSuchBucket", http_status_code=404)


def lifecycle_is_set(stubber: Stubber) -> None:
    stubber.add_response("get_bucket_lifecycle_configuration", {"Rules": []})


def test_a_bucket_that_somebody_else_made_meanwhile_is_not_ours() -> None:
    store, stubber = stubbed()
    missing_bucket(stubber)
    stubber.add_client_error("create_bucket", "BucketAlreadyExists", http_status_code=409)
    stubber.add_client_error("list_objects_v2", "AccessDenied", http_status_code=403)
    with pytest.raises(errors.NotOurs):
        store.ensure_bucket()


def test_a_bucket_that_another_replica_made_meanwhile_is_ours() -> None:
    store, stubber = stubbed()
    missing_bucket(stubber)
    stubber.add_client_error("create_bucket", "BucketAlreadyOwnedByYou", http_status_code=409)
    stubber.add_response("list_objects_v2", {})
    lifecycle_is_set(stubber)
    store.ensure_bucket()
    stubber.assert_no_pending_responses()


def test_a_bucket_that_comes_and_goes_is_a_conflict() -> None:
    store, stubber = stubbed()
    missing_bucket(stubber)
    stubber.add_client_error("create_bucket", "BucketAlreadyOwnedByYou", http_status_code=409)
    missing_bucket(stubber)
    with pytest.raises(errors.Conflict):
        store.ensure_bucket()


@pytest.mark.parametrize("code", ["InvalidLocationConstraint", "InvalidRegion"])
def test_a_region_that_the_engine_does_not_know_as_a_place_is_left_out(code: str) -> None:
    store, stubber = stubbed(region="eu-west-1")
    missing_bucket(stubber)
    stubber.add_client_error(
        "create_bucket",
        code,
        http_status_code=400,
        expected_params={
            "Bucket": "lake",
            "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"},
        },
    )
    stubber.add_response("create_bucket", {}, {"Bucket": "lake"})
    lifecycle_is_set(stubber)
    store.ensure_bucket()
    stubber.assert_no_pending_responses()


def test_unfinished_uploads_get_a_lifecycle_once_and_only_where_there_is_none() -> None:
    store, stubber = stubbed()
    stubber.add_response("list_objects_v2", {})
    stubber.add_client_error(
        "get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration", http_status_code=404
    )
    stubber.add_response("put_bucket_lifecycle_configuration", {})
    store.ensure_bucket()
    store.ensure_bucket()
    stubber.assert_no_pending_responses()


def test_a_bucket_that_was_deleted_while_we_run_is_made_again() -> None:
    store, stubber = stubbed()
    stubber.add_response("list_objects_v2", {})
    lifecycle_is_set(stubber)
    store.ensure_bucket()
    stubber.add_client_error("put_object", "NoSuchBucket", http_status_code=404)
    with pytest.raises(errors.Conflict):
        store.keep("sales/")
    missing_bucket(stubber)
    stubber.add_response("create_bucket", {}, {"Bucket": "lake"})
    lifecycle_is_set(stubber)
    store.ensure_bucket()
    stubber.assert_no_pending_responses()


def test_an_engine_that_has_shown_that_it_heeds_conditions_is_asked_once_a_claim() -> None:
    store, stubber = stubbed()
    stubber.add_client_error("get_object", "NoSuchKey", http_status_code=404)
    stubber.add_response("put_object", {})
    stubber.add_client_error("put_object", "PreconditionFailed", http_status_code=412)
    stubber.add_response("get_object", body(f'{{"product_id": "{SALES}"}}'.encode()))
    store.claim("sales", SALES)
    stubber.add_response("put_object", {})
    store.claim("orders", SALES)
    stubber.add_client_error("put_object", "PreconditionFailed", http_status_code=412)
    stubber.add_response("get_object", body(b'{"product_id": "other"}'))
    with pytest.raises(errors.NotOurs):
        store.claim("taken", SALES)
    stubber.assert_no_pending_responses()


def test_an_engine_that_overwrites_what_is_there_is_looked_at_before_every_claim() -> None:
    store, stubber = stubbed()
    for tried in (2, 1):
        stubber.add_client_error("get_object", "NoSuchKey", http_status_code=404)
        for _ in range(tried):
            stubber.add_response("put_object", {})
        stubber.add_response("get_object", body(f'{{"product_id": "{SALES}"}}'.encode()))
        store.claim("sales", SALES)
    stubber.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("code", "status"), [("NotImplemented", 501), ("AccessDenied", 403), ("MalformedXML", 400)]
)
def test_an_engine_without_lifecycles_does_without(code: str, status: int) -> None:
    store, stubber = stubbed()
    stubber.add_response("list_objects_v2", {})
    stubber.add_client_error("get_bucket_lifecycle_configuration", code, http_status_code=status)
    store.ensure_bucket()
    stubber.assert_no_pending_responses()


def body(text: bytes) -> dict[str, Any]:
    return {"Body": StreamingBody(io.BytesIO(text), len(text))}


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{", b'{"product_id": 1}', b"\xff" * 9])
def test_a_mark_that_cannot_be_read_belongs_to_somebody(text: bytes) -> None:
    store, stubber = stubbed()
    stubber.add_response("get_object", body(text))
    assert store.owner("sales") == ""
    stubber.add_response("get_object", body(text))
    with pytest.raises(errors.NotOurs):
        store.claim("sales", SALES)


def test_a_claim_lost_to_another_replica_is_not_ours() -> None:
    store, stubber = stubbed()
    stubber.add_client_error("get_object", "NoSuchKey", http_status_code=404)
    stubber.add_client_error("put_object", "PreconditionFailed", http_status_code=412)
    stubber.add_response("get_object", body(b'{"product_id": "other"}'))
    with pytest.raises(errors.NotOurs) as caught:
        store.claim("sales", SALES)
    assert caught.value.attributes == {"owner": "other"}


def test_an_engine_without_conditions_gets_a_plain_put() -> None:
    store, stubber = stubbed()
    mark = {"Bucket": "lake", "Key": ".provisioner/owners/sales.json"}
    text = b'{"product_id": "' + SALES.encode() + b'"}'
    written = {**mark, "Body": text}
    stubber.add_client_error("get_object", "NoSuchKey", http_status_code=404)
    stubber.add_client_error(
        "put_object",
        "NotImplemented",
        http_status_code=400,
        expected_params={**written, "IfNoneMatch": "*"},
    )
    stubber.add_response("put_object", {}, written)
    stubber.add_response("get_object", body(text), mark)
    store.claim("sales", SALES)
    stubber.assert_no_pending_responses()


def test_a_mark_that_may_not_be_written_is_a_refusal() -> None:
    store, stubber = stubbed()
    stubber.add_client_error("put_object", "AccessDenied", http_status_code=403)
    with pytest.raises(errors.PermanentError) as caught:
        store.keep("sales/")
    assert caught.value.attributes["code"] == "AccessDenied"


def test_a_prefix_is_looked_through_to_its_end() -> None:
    store, stubber = stubbed()
    probes = [{"Key": f"sales/.provisioner-probe-{number}"} for number in range(3)]
    first = {"Contents": probes, "IsTruncated": True, "NextContinuationToken": "more"}
    where = {"Bucket": "lake", "Prefix": "sales/"}
    for last, empty in (({"Key": "sales/x"}, False), ({"Key": "sales/.keep"}, True)):
        stubber.add_response("list_objects_v2", first, where)
        stubber.add_response(
            "list_objects_v2", {"Contents": [last]}, {**where, "ContinuationToken": "more"}
        )
        assert store.is_empty("sales/") is empty
