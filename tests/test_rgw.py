"""What Ceph's RGW answers, and what is made of it; the real one is asked in `tests/engine`."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from provisioner import errors, model, s3
from provisioner.domain import policy
from provisioner.issuers import adminops, rgw, signed
from tests import canned_server

SALES = "6f1e2d3c-0000-4000-8000-000000000001"
SECRET = "s3cr3t/of+the+admin/which+nobody+may+see"
PRINCIPAL = model.Principal(name="dp-sales-6f1e2d3c", product_id=SALES)
DOCUMENT = policy.document(bucket="lake", own=["sales/"], grants=[])
WANTED = model.AccessKey("AKIA0000000000000001", "k3y/of+sales")


def caller(endpoint: str) -> signed.Caller:
    account = signed.Account(
        endpoint=endpoint, region="us-east-1", access_key="AKIAADMIN", secret_key=SECRET
    )
    return signed.Caller(account)


def issuer_at(endpoint: str) -> rgw.RgwIssuer:
    client = s3.connect(
        endpoint=endpoint,
        region="us-east-1",
        access_key="AKIAADMIN",
        secret_key=SECRET,
        service="iam",
    )
    ops = adminops.AdminOps(caller(endpoint))
    return rgw.RgwIssuer(ops, client, clock=lambda: datetime(2026, 1, 2, tzinfo=UTC))


def user(**data: Any) -> adminops.User:
    full = {
        "user_id": "u",
        "display_name": adminops.mark(SALES, "2026-01-02T00:00:00+00:00"),
        "suspended": 0,
        "max_buckets": -1,
        "op_mask": "read, write, delete",
        "caps": [],
        "subusers": [],
        "swift_keys": [],
        "keys": [],
        "attrs": [{"key": "policy"}],
    }
    return adminops.User(uid="u", record={"key": "user:u", "data": {**full, **data}})


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", errors.IssuerRejected),
        (403, "SignatureDoesNotMatch", errors.IssuerRejected),
        (404, "NoSuchBucket", errors.IssuerRejected),
        (405, "MethodNotAllowed", errors.IssuerRejected),
        (501, "NotImplemented", errors.IssuerRejected),
        (301, "", errors.IssuerRejected),
        (409, "ConcurrentModification", errors.Conflict),
        (429, "", errors.RateLimited),
        (503, "SlowDown", errors.RateLimited),
        (500, "InternalError", errors.IssuerUnavailable),
        (503, "ServiceUnavailable", errors.IssuerUnavailable),
    ],
)
def test_an_answer_says_what_to_do(
    status: int, code: str, expected: type[errors.ReconcileError]
) -> None:
    body = json.dumps({"Code": code, "Message": SECRET}).encode()
    with canned_server.canned(status, body) as endpoint, pytest.raises(expected) as caught:
        issuer_at(endpoint).list_keys(PRINCIPAL)
    assert type(caught.value) is expected
    said = {"code": code, "status": status, "call": "GET /admin/metadata/user"}
    assert caught.value.attributes == said
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("said", [b"<html>", b"[]", b"7", b'{"data": []}', b"{}", b'"x"'])
def test_what_is_no_user_is_asked_for_again(said: bytes) -> None:
    with canned_server.canned(200, said) as endpoint, pytest.raises(errors.IssuerGarbled):
        issuer_at(endpoint).list_keys(PRINCIPAL)


@pytest.mark.parametrize("said", [b"<html>", b"[]", b"{}", b'{"keys": 7}'])
def test_what_is_no_list_of_users_is_asked_for_again(said: bytes) -> None:
    with canned_server.canned(200, said) as endpoint, pytest.raises(errors.IssuerGarbled):
        issuer_at(endpoint).principals()


def test_an_answer_without_end_is_refused() -> None:
    endless = b" " * (8 * 1024 * 1024 + 1)
    with canned_server.canned(200, endless) as endpoint, pytest.raises(errors.IssuerRejected):
        issuer_at(endpoint).principals()


def test_an_engine_that_does_not_answer_is_unavailable() -> None:
    with canned_server.canned(200, b"") as endpoint:
        pass
    with pytest.raises(errors.IssuerUnavailable) as caught:
        issuer_at(endpoint).list_keys(PRINCIPAL)
    assert caught.value.attributes == {"reason": "EndpointConnectionError"}


def test_credentials_that_are_nowhere_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    account = signed.Account(
        endpoint="http://127.0.0.1:9", region="us-east-1", access_key=None, secret_key=None
    )
    with pytest.raises(errors.IssuerRejected, match="no credentials"):
        signed.Caller(account).send("GET", "/admin/user", {})


def test_credentials_of_the_machine_sign_where_none_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMACHINE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with canned_server.canned(200, b"{}") as endpoint:
        account = signed.Account(
            endpoint=endpoint, region="us-east-1", access_key=None, secret_key=None
        )
        sender = signed.Caller(account)
        assert sender.send("GET", "/admin/user", {}).status == 200
    assert sender.access_key == "AKIAMACHINE"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (403, b"<Error><Code>AccessDenied</Code></Error>", errors.IssuerRejected),
        (405, b"<Error><Code>MethodNotAllowed</Code></Error>", errors.IssuerRejected),
        (404, b"<Error><Code>NoSuchEntity</Code></Error>", errors.Conflict),
        (409, b"<Error><Code>ConcurrentModification</Code></Error>", errors.Conflict),
        (503, b"<Error><Code>SlowDown</Code></Error>", errors.RateLimited),
        (500, b"<Error><Code>InternalError</Code></Error>", errors.IssuerUnavailable),
        (400, b"<a><Error>", errors.IssuerGarbled),
    ],
)
def test_what_iam_answers_to_a_policy_says_what_to_do(
    status: int, body: bytes, expected: type[errors.ReconcileError]
) -> None:
    with canned_server.canned(status, body) as endpoint:
        issuer = issuer_at(endpoint)
        with pytest.raises(expected) as caught:
            issuer._allow("dp-sales-6f1e2d3c.g1", policy.text(DOCUMENT))
    assert type(caught.value) is expected


def test_a_policy_of_exactly_the_limit_is_taken_and_one_more_is_refused() -> None:
    empty = {"Version": "2012-10-17", "Statement": [], "Id": ""}
    room = rgw.POLICY_LIMIT - len(policy.text(empty))
    assert len(rgw._text({**empty, "Id": "x" * room})) == rgw.POLICY_LIMIT
    with pytest.raises(errors.PolicyTooLarge) as caught:
        rgw._text({**empty, "Id": "x" * (room + 1)})
    assert caught.value.attributes == {"size": rgw.POLICY_LIMIT + 1, "limit": rgw.POLICY_LIMIT}


def test_a_key_that_the_engine_shall_choose_is_refused() -> None:
    with pytest.raises(errors.IssuerRejected):
        issuer_at("http://127.0.0.1:9").create_key(PRINCIPAL, None, DOCUMENT)


GIVEN: list[dict[str, Any]] = [
    {"suspended": 1},
    {"max_buckets": 0, "suspended": 0},
    {"max_buckets": 1000},
    {"caps": [{"type": "users", "perm": "*"}]},
    {"subusers": [{"id": "u:s", "permissions": "full-control"}]},
    {"swift_keys": [{"user": "u:s", "secret_key": "s"}]},
    {"op_mask": "read"},
    {"system": True},
    {"admin": "true"},
]


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: "-".join(given))
def test_whatever_a_user_was_given_is_seen_and_taken_away(given: dict[str, Any]) -> None:
    changed = user(**given)
    assert not changed.plain
    mended = changed.mended()
    assert mended.plain
    assert mended.record["data"]["attrs"] == [{"key": "policy"}]


@pytest.mark.parametrize("given", [{}, {"system": "false"}, {"admin": False}, {"system": None}])
def test_a_user_that_was_given_nothing_is_left_alone(given: dict[str, Any]) -> None:
    assert user(**given).plain


@pytest.mark.parametrize(
    ("display_name", "product_id", "made_at"),
    [
        (f"provisioner {SALES}", SALES, ""),
        (f"provisioner {SALES} 2026-01-02T00:00:00Z", SALES, "2026-01-02T00:00:00Z"),
        ("provisioner", None, ""),
        ("Provisioner x", None, ""),
        (f"provisioner {SALES} then more", None, ""),
        (f"not provisioner {SALES}", None, ""),
        ("sales", None, ""),
    ],
)
def test_the_mark_is_read_and_nothing_else_is_taken_for_it(
    display_name: str, product_id: str | None, made_at: str
) -> None:
    marked = user(display_name=display_name)
    assert (marked.product_id, marked.made_at) == (product_id, made_at)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T00:00:00+00:00", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02T02:00:00+02:00", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02T00:00:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_time_is_read_only_where_it_is_sure(text: str, expected: datetime | None) -> None:
    assert rgw._time(text) == expected


@pytest.mark.parametrize(
    ("taken", "free"),
    [("", 1), ("1", 2), ("2", 3), ("12", 3), ("4", 1), ("14", 2), ("34", 1), ("234", 1)],
)
def test_the_next_free_user_is_taken_and_numbers_go_round(taken: str, free: int) -> None:
    users = {f"u.g{n}": str(n) if str(n) in taken else None for n in range(1, 5)}
    assert rgw._free(PRINCIPAL, users) == f"u.g{free}"


def test_no_secret_is_in_an_address_a_log_or_a_repr(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        canned_server.canned(204, b"") as endpoint,
    ):
        ops = adminops.AdminOps(caller(endpoint))
        ops.write(user().sibling("u.g1", "x", WANTED))
        sent = caller(endpoint)._signed("PUT", "/admin/metadata/user", {"key": "u"}, b"{}")
    shown = f"{caplog.text} {sent.url} {user().sibling('u.g1', 'x', WANTED)!r} {ops!r}"
    shown += f" {caller(endpoint)._account!r} {signed.Answer(status=200, body=b'k3y')!r}"
    assert WANTED.secret not in shown
    assert "k3y" not in shown
    assert SECRET not in shown
