"""What an engine may answer when a published file is read."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from provisioner import errors, ports, s3
from tests import canned_server

_GIBIBYTE = 1024**3


def files(endpoint: str) -> s3.S3PublishedFiles:
    client = s3.connect(
        endpoint=endpoint, region="us-east-1", access_key="AKIAADMIN", secret_key="secret"
    )
    return s3.S3PublishedFiles(client, bucket="lake")


def refusal(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (403, "InvalidObjectState"), (400, "InvalidRequest")],
)
def test_what_the_engine_refuses_is_one_ports_affair(status: int, code: str) -> None:
    with canned_server.canned(status, refusal(code), "application/xml") as endpoint:
        assert files(endpoint).read("sales/x", limit=9).found is ports.Found.REFUSED


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_key_of_ours_that_is_wrong_says_nothing_of_the_port(code: str) -> None:
    with (
        canned_server.canned(403, refusal(code), "application/xml") as endpoint,
        pytest.raises(errors.PermanentError),
    ):
        files(endpoint).read("sales/x", limit=9)


def test_an_engine_that_fails_is_asked_again_later() -> None:
    with (
        canned_server.canned(500, refusal("InternalError"), "application/xml") as endpoint,
        pytest.raises(errors.StorageUnavailable),
    ):
        files(endpoint).read("sales/x", limit=9)


@contextlib.contextmanager
def an_endless_object() -> Iterator[tuple[str, list[int]]]:
    """Serve an object of 1 GiB, and count the bytes that somebody lets us send."""
    sent: list[int] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            head = f'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: {_GIBIBYTE}\r\n\r\n'
            connection.sendall(head.encode())
            while sum(sent) < _GIBIBYTE:
                sent.append(connection.send(bytes(65536)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", sent
        thread.join()


@contextlib.contextmanager
def an_object_in_chunks(body: bytes) -> Iterator[str]:
    """Serve an object without saying how long it is, as a gateway does that passes it on."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            head = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n'
            connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("limit", "found", "body"),
    [(9, ports.Found.READ, b"123456789"), (8, ports.Found.TOO_LARGE, b"")],
)
def test_an_object_whose_length_nobody_says_is_read_up_to_the_limit(
    limit: int, found: ports.Found, body: bytes
) -> None:
    with an_object_in_chunks(b"123456789") as endpoint:
        read = files(endpoint).read("sales/x", limit=limit)
    assert (read.found, read.body) == (found, body)


def test_of_an_object_of_a_gibibyte_only_the_head_is_taken_in() -> None:
    with an_endless_object() as (endpoint, sent):
        found = files(endpoint).read("sales/x", limit=256 * 1024)
    assert found.found is ports.Found.TOO_LARGE
    assert sum(sent) < _GIBIBYTE // 32  # what lay in the buffers of the connection
