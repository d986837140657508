from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest

from provisioner import errors, model
from provisioner.issuers import madmin
from provisioner.issuers.madmin import admin, client, codec
from tests import canned_server

ADMIN = model.AccessKey("AKIAADMIN", "s3cr3t/of+the+admin/which+nobody+may+see")
KEY = model.AccessKey("AKIAOFSALES", "s3cr3t/of+sales/which+nobody+may+see+too")


def calls(endpoint: str, cipher: client.Cipher | None = None) -> client.AdminClient:
    return client.AdminClient(
        endpoint=endpoint,
        region="us-east-1",
        admin=ADMIN,
        prefix="/minio/admin/v3",
        cipher=cipher or codec.Plain(),
    )


def refusal(code: str) -> bytes:
    return json.dumps({"Code": code, "Message": f"{ADMIN.secret} is wrong"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (403, refusal("AccessDenied"), errors.IssuerRejected),
        (403, refusal("SignatureDoesNotMatch"), errors.IssuerRejected),
        (404, refusal("XMinioAdminNoSuchUser"), errors.Conflict),
        (404, b"<Error><Code>NoSuchResource</Code></Error>", errors.Conflict),
        (409, refusal("Other"), errors.Conflict),
        (429, b"", errors.RateLimited),
        (503, refusal("SlowDown"), errors.RateLimited),
        (503, refusal("XMinioServerNotInitialized"), errors.IssuerUnavailable),
        (500, b"<html>", errors.IssuerUnavailable),
        (501, refusal("NotImplemented"), errors.IssuerRejected),
        (404, b"<html>not found</html>", errors.IssuerRejected),
        (301, b"", errors.IssuerRejected),
        (200, b"<html>hello</html>", errors.IssuerGarbled),
        (200, b"", errors.IssuerGarbled),
        (200, b"[" * 100_000, errors.IssuerGarbled),
        (400, b'{"Code": 7}', errors.IssuerRejected),
        (400, b"[]", errors.IssuerRejected),
        (400, b"[" * 100_000, errors.IssuerRejected),
    ],
)
def test_every_answer_means_something_and_shows_no_secret(
    status: int, body: bytes, expected: type[errors.ReconcileError]
) -> None:
    with (
        canned_server.canned(status, body, "application/json") as endpoint,
        pytest.raises(expected) as caught,
    ):
        calls(endpoint).read("info")
    assert ADMIN.secret not in f"{caught.value} {caught.value.attributes}"


@pytest.mark.parametrize("tolerated", [True, False])
def test_a_code_that_is_tolerated_is_an_answer(tolerated: bool) -> None:
    codes = {"XMinioAdminNoSuchUser"} if tolerated else {"Other"}
    with canned_server.canned(404, refusal("XMinioAdminNoSuchUser")) as endpoint:
        if tolerated:
            assert calls(endpoint).read("user-info", tolerate=codes) is None
            assert not calls(endpoint).write("PUT", "x", {}, tolerate=codes)
        else:
            with pytest.raises(errors.Conflict):
                calls(endpoint).read("user-info", tolerate=codes)


def test_an_engine_that_is_not_there_is_waited_for() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(errors.IssuerUnavailable, match="did not answer"):
        calls(endpoint).read("info")


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
    with pytest.raises(errors.IssuerUnavailable):
        said(head + b'{"servers": []}')


def test_what_is_not_http_is_no_answer() -> None:
    with pytest.raises(errors.IssuerUnavailable):
        said(b"SSH-2.0-OpenSSH\r\n")


def said(answer: bytes) -> Any:
    """Return what the client makes of bytes on the wire."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return calls(f"http://127.0.0.1:{server.getsockname()[1]}").read("info")
        finally:
            thread.join()


def test_an_answer_without_end_is_refused() -> None:
    with (
        canned_server.canned(200, b" " * 300_000) as endpoint,
        pytest.raises(errors.IssuerRejected, match="more than it ever should"),
    ):
        calls(endpoint).read("info", limit=200_000)


def test_an_answer_under_another_secret_is_refused() -> None:
    body = codec.Codec("another").encrypt(b"{}")
    with (
        canned_server.canned(200, body) as endpoint,
        pytest.raises(errors.IssuerGarbled, match="does not speak"),
    ):
        calls(endpoint, codec.Codec(ADMIN.secret)).read("list", encrypted=True)


def test_a_long_listing_is_reduced_while_it_is_read() -> None:
    body = b'{"a": {"x": 1}, "b": {"x": 2}}'
    with canned_server.canned(200, body) as endpoint:
        read = calls(endpoint).read("list", reduce=lambda each: each.get("x", each))
    assert read == {"a": 1, "b": 2}


def minio(endpoint: str) -> admin.Admin:
    return admin.Admin(admin.MINIO, endpoint=endpoint, region="us-east-1", admin=ADMIN)


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"null", b"7"])
def test_shapes_of_its_own_are_refused(body: bytes) -> None:
    with canned_server.canned(200, body) as endpoint:
        with pytest.raises(errors.IssuerRejected):
            minio(endpoint).marked()
        if body != b"null":
            with pytest.raises(errors.IssuerRejected):
                minio(endpoint).user("alice")


def test_policies_named_like_their_own_members_hide_no_mark() -> None:
    sid = "DataProduct6f1e2d3c000040008000000000000001"
    marked = {"Version": "2012-10-17", "Statement": {"Sid": sid, "Effect": "Deny", "Action": []}}
    body = json.dumps({"Statement": {"Version": "", "Statement": []}, "Effect": {}, "dp": marked})
    with canned_server.canned(200, body.encode()) as endpoint:
        assert minio(endpoint).marked() == {"dp": "6f1e2d3c-0000-4000-8000-000000000001"}


def test_no_secret_is_in_what_a_refused_key_says() -> None:
    with (
        canned_server.canned(403, refusal("AccessDenied"), "application/json") as endpoint,
        pytest.raises(errors.IssuerRejected) as caught,
    ):
        minio(endpoint).add_account("alice", KEY, "")
    assert KEY.secret not in f"{caught.value} {caught.value.attributes}"


def asked(info: object) -> None:
    with canned_server.canned(200, json.dumps(info).encode()) as endpoint:
        madmin.MinioIssuer(endpoint=endpoint, region="us-east-1", admin=ADMIN).ask()


@pytest.mark.parametrize(
    ("releases", "warned"),
    [
        (["2025-10-15T17:29:55Z"], False),
        (["2025-10-15T17:29:55Z", "2026-01-01T00:00:00Z"], False),
        (["2025-10-15T17:29:55Z", "2025-09-07T16:13:09Z"], True),
        (["DEVELOPMENT.GOGET"], True),
        ([], True),
    ],
)
def test_every_server_of_a_minio_has_to_be_a_fixed_release(
    releases: list[str], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    asked({"servers": [{"version": each} for each in releases]})
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned


@pytest.mark.parametrize("info", [{}, [], {"servers": None}, "MinIO"])
def test_what_tells_of_no_servers_is_not_minio(info: object) -> None:
    with pytest.raises(errors.IssuerRejected, match="not MinIO"):
        asked(info)
