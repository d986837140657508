from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import errors
from provisioner.domain import signature, standard_webhooks
from tests import recorded

_SECRET = recorded.SECRET
_FIELDS = ("method", "url", "query", "response", "status_code")
_DEMO = signature.Proofs(sign_secrets=(_SECRET,))
_BASIC = signature.Proofs(basic_auth=("portal:p@ss:w", "second:user"))
_MESSAGE = {"method": "PUT", "url": "/é", "query": "", "response": "", "status_code": 200}
_GOOD = signature.sign(_MESSAGE, _SECRET).encode()

_Headers = Sequence[tuple[bytes, bytes]]
_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def recorded_v1() -> list[tuple[dict[str, Any], recorded.Recorded]]:
    return [(one.message, one) for one in recorded.everything() if one.wire == "v1"]


def arrived(
    message: object, headers: _Headers, *, body: bytes = b"", at: datetime = _NOW
) -> signature.Arrived:
    return signature.Arrived(message=message, headers=headers, body=body, at=at)


def is_proven(
    message: object,
    headers: _Headers,
    proofs: signature.Proofs,
    *,
    body: bytes = b"",
    at: datetime = _NOW,
) -> bool:
    try:
        signature.verify(arrived(message, headers, body=body, at=at), proofs)
    except errors.SignatureError:
        return False
    return True


def basic(pair: str) -> bytes:
    return b"Basic " + base64.b64encode(pair.encode())


def test_every_recorded_delivery_of_the_first_wire_verifies() -> None:
    verified = [is_proven(message, one.headers, _DEMO) for message, one in recorded_v1()]

    assert len(verified) == 173
    assert all(verified)


def test_no_recorded_signature_is_one_of_the_raw_body() -> None:
    for _, one in recorded_v1():
        of_the_body = hmac.new(_SECRET.encode(), one.body, hashlib.sha512).hexdigest()

        assert of_the_body.encode() != dict(one.headers)[b"Sign"]


@pytest.mark.parametrize("name", _FIELDS)
def test_a_change_of_any_field_of_a_recorded_delivery_is_refused(name: str) -> None:
    for message, one in recorded_v1():
        changed = message[name] + (1 if name == "status_code" else " ")

        assert not is_proven(message | {name: changed}, one.headers, _DEMO)


@pytest.mark.parametrize("name", _FIELDS)
def test_a_recorded_delivery_with_a_field_left_out_is_refused(name: str) -> None:
    for message, one in recorded_v1():
        rest = {key: value for key, value in message.items() if key != name}

        assert not is_proven(rest, one.headers, _DEMO)


def test_the_order_of_the_fields_is_signed() -> None:
    turned = dict(reversed(_MESSAGE.items()))

    assert not is_proven(turned, [(b"sign", _GOOD)], _DEMO)


@pytest.mark.parametrize("secrets", [(_SECRET, "b", "c"), ("a", _SECRET, "c"), ("a", "b", _SECRET)])
def test_any_of_several_secrets_may_match(secrets: tuple[str, ...]) -> None:
    proofs = signature.Proofs(sign_secrets=secrets)

    assert is_proven(_MESSAGE, [(b"sign", _GOOD)], proofs)


def test_the_name_of_the_header_has_no_case() -> None:
    assert is_proven(_MESSAGE, [(b"Sign", _GOOD)], _DEMO)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"0" * 128,
        _GOOD[:-1],
        _GOOD + b"0",
        _GOOD[:-1] + b"\xff",
        _GOOD.upper(),
        b"sha512=" + _GOOD,
        _GOOD + b"," + _GOOD,
        "é".encode(),
        b"\x00" * 128,
        signature.sign(_MESSAGE, "another").encode(),
        hmac.new(_SECRET.encode(), json.dumps(_MESSAGE).encode(), hashlib.sha256)
        .hexdigest()
        .encode(),
    ],
)
def test_a_malformed_or_wrong_signature_is_refused(value: bytes) -> None:
    assert not is_proven(_MESSAGE, [(b"sign", value)], _DEMO)


@pytest.mark.parametrize("headers", [[], [(b"x-sign", _GOOD)], [(b"signature", _GOOD)]])
def test_a_delivery_without_a_proof_is_refused(headers: _Headers) -> None:
    assert not is_proven(_MESSAGE, headers, _DEMO)


@pytest.mark.parametrize("second", [_GOOD, b"wrong"])
def test_a_signature_given_twice_is_refused(second: bytes) -> None:
    assert not is_proven(_MESSAGE, [(b"sign", _GOOD), (b"Sign", second)], _DEMO)


@pytest.mark.parametrize("pair", ["portal:p@ss:w", "second:user"])
def test_basic_auth_proves_a_delivery(pair: str) -> None:
    assert is_proven(_MESSAGE, [(b"authorization", basic(pair))], _BASIC)


def test_the_header_that_the_portal_makes_of_its_userinfo_is_accepted() -> None:
    headers = [(b"authorization", b"Basic dXNlcjpwQHNzOnc=")]

    assert is_proven(_MESSAGE, headers, signature.Proofs(basic_auth=("user:p@ss:w",)))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Basic =",
        b"Basic \xff\xfe",
        b"Basic !!!!",
        b"Basic cG9ydGFs",
        b"Bearer cG9ydGFsOnBAc3M6dw==",
        basic("portal:p@ss"),
        basic("portal:p@ss:w "),
        basic("portal:"),
        basic(":"),
        basic("portal:second"),
        b"Digest username=portal",
    ],
)
def test_a_malformed_or_wrong_basic_auth_is_refused(value: bytes) -> None:
    assert not is_proven(_MESSAGE, [(b"authorization", value)], _BASIC)


def test_basic_auth_given_twice_is_refused() -> None:
    headers = [(b"authorization", basic("portal:p@ss:w"))] * 2

    assert not is_proven(_MESSAGE, headers, _BASIC)


@pytest.mark.parametrize(
    ("sign", "pair", "proven"),
    [
        (_GOOD, "portal:p@ss:w", True),
        (_GOOD, None, True),
        (None, "portal:p@ss:w", True),
        (None, None, False),
        (_GOOD, "portal:wrong", False),
        (b"wrong", "portal:p@ss:w", False),
    ],
)
def test_of_two_configured_proofs_one_must_verify_and_none_be_wrong(
    sign: bytes | None, pair: str | None, proven: bool
) -> None:
    proofs = signature.Proofs(sign_secrets=(_SECRET,), basic_auth=("portal:p@ss:w",))
    headers = [(b"sign", sign)] if sign else []
    headers.extend([(b"authorization", basic(pair))] if pair else [])

    assert is_proven(_MESSAGE, headers, proofs) is proven


def test_a_proof_that_nothing_is_configured_for_is_ignored() -> None:
    odd = [(b"authorization", b"\xff"), (b"authorization", b"twice"), (b"sign", _GOOD)]

    assert is_proven(_MESSAGE, odd, _DEMO)
    assert not is_proven(_MESSAGE, [(b"sign", _GOOD)], _BASIC)


def test_a_secret_of_standard_webhooks_signs_nothing_here() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = [(b"sign", signature.sign(_MESSAGE, secret).encode())]

    assert not is_proven(_MESSAGE, headers, signature.Proofs(sign_secrets=(secret,)))


def test_an_empty_secret_signs_nothing() -> None:
    headers = [(b"sign", signature.sign(_MESSAGE, "").encode()), (b"authorization", basic(""))]
    proofs = signature.Proofs(sign_secrets=("",), basic_auth=("",))

    assert not is_proven(_MESSAGE, headers, proofs)


@pytest.mark.parametrize("secrets", [(), (_SECRET,)])
def test_unsigned_deliveries_are_accepted_where_that_is_allowed(secrets: tuple[str, ...]) -> None:
    proofs = signature.Proofs(sign_secrets=secrets, allow_unsigned=True)

    assert is_proven(_MESSAGE, [], proofs)


def test_a_wrong_proof_is_refused_even_where_none_is_needed() -> None:
    proofs = signature.Proofs(sign_secrets=(_SECRET,), allow_unsigned=True)

    assert not is_proven(_MESSAGE, [(b"sign", b"wrong")], proofs)


def _deep() -> object:
    nested: object = []
    for _ in range(100_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    "message", [_deep(), 10**5000, object(), {"a": {1, 2}}], ids=["deep", "long", "object", "set"]
)
def test_what_cannot_be_written_as_json_is_refused(message: object) -> None:
    assert not is_proven(message, [(b"sign", _GOOD)], _DEMO)


def test_a_lone_surrogate_is_signed_like_any_character() -> None:
    message = json.loads('{"url": "\\ud800"}')

    assert is_proven(message, [(b"sign", signature.sign(message, _SECRET).encode())], _DEMO)
    assert not is_proven(message, [(b"sign", _GOOD)], _DEMO)


def test_a_secret_that_is_no_text_refuses_instead_of_failing() -> None:
    assert not is_proven(_MESSAGE, [(b"sign", _GOOD)], signature.Proofs(sign_secrets=("\ud800",)))


def test_no_secret_reaches_a_repr() -> None:
    proofs = signature.Proofs(sign_secrets=("sign-secret",), basic_auth=("user:basic-secret",))

    assert "secret" not in repr(proofs).replace("sign_secrets", "")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_json, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]))
def test_every_spelling_of_a_message_verifies_with_its_signature(
    message: object, ascii_only: bool, separators: tuple[str, str]
) -> None:
    text = json.dumps(message, ensure_ascii=ascii_only, separators=separators)
    headers = [(b"sign", signature.sign(message, _SECRET).encode())]

    assert is_proven(json.loads(text), headers, _DEMO)


@given(_json, _json)
def test_a_signature_is_good_for_one_message(message: object, another: object) -> None:
    headers = [(b"sign", signature.sign(message, _SECRET).encode())]

    assert is_proven(another, headers, _DEMO) is (json.dumps(message) == json.dumps(another))


@given(st.lists(st.tuples(st.sampled_from([b"sign", b"authorization"]), st.binary()), max_size=3))
def test_arbitrary_headers_are_refused_and_nothing_else(headers: _Headers) -> None:
    both = signature.Proofs(sign_secrets=(_SECRET,), basic_auth=("portal:p@ss:w",))

    assert not is_proven(_MESSAGE, headers, both)


_WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_STANDARD = signature.Proofs(sign_secrets=(_SECRET, _WHSEC))
_BODY = b'{"test": 2432232314}'
_SENT_AT = datetime.fromtimestamp(1614265330, UTC)
_STANDARD_HEADERS: dict[bytes, bytes] = {
    b"webhook-id": b"msg_p5jXN8AQM9LWM0D4loKWxJek",
    b"webhook-timestamp": b"1614265330",
    b"webhook-signature": b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def standard(changes: dict[bytes, bytes | None] | None = None) -> _Headers:
    """Return the headers of the standard's own example, changed; None leaves one out."""
    changed = {**_STANDARD_HEADERS, **(changes or {})}
    return [(name, value) for name, value in changed.items() if value is not None]


def is_standard(headers: _Headers, *, body: bytes = _BODY, at: datetime = _SENT_AT) -> bool:
    return is_proven({"test": 2432232314}, headers, _STANDARD, body=body, at=at)


def test_the_standards_own_example_verifies() -> None:
    assert is_standard(standard())


@pytest.mark.parametrize("seconds", [-300, -1, 1, 300])
def test_a_standard_delivery_is_good_for_five_minutes(seconds: int) -> None:
    assert is_standard(standard(), at=_SENT_AT + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [-301, 301, 86400, -86400])
def test_a_standard_delivery_from_another_time_is_refused(seconds: int) -> None:
    assert not is_standard(standard(), at=_SENT_AT + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "changes",
    [
        {b"webhook-id": b"msg_another"},
        {b"webhook-id": b""},
        {b"webhook-id": None},
        {b"webhook-timestamp": b"1614265331"},
        {b"webhook-timestamp": None},
        {b"webhook-timestamp": b""},
        {b"webhook-timestamp": b" 1614265330"},
        {b"webhook-timestamp": b"+1614265330"},
        {b"webhook-timestamp": b"1614265330.0"},
        {b"webhook-timestamp": b"1_614_265_330"},
        {b"webhook-timestamp": "١٦١٤٢٦٥٣٣٠".encode()},
        {b"webhook-timestamp": b"9" * 5000},
        {b"webhook-signature": None},
        {b"webhook-signature": b""},
        {b"webhook-signature": b"v1"},
        {b"webhook-signature": b"v1,"},
        {b"webhook-signature": b"g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {b"webhook-signature": b"v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {b"webhook-signature": b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF="},
        {b"webhook-signature": b"v1,\xff\xfe"},
        {b"webhook-signature": b",".join([b"v1"] * 100_000)},
    ],
)
def test_a_standard_proof_that_is_off_in_any_way_is_refused(
    changes: dict[bytes, bytes | None],
) -> None:
    assert not is_standard(standard(changes))


def test_a_change_of_the_raw_body_is_refused_although_it_parses_alike() -> None:
    assert not is_standard(standard(), body=b'{"test":2432232314}')


@pytest.mark.parametrize("name", sorted(_STANDARD_HEADERS))
def test_a_standard_header_given_twice_is_refused(name: bytes) -> None:
    assert not is_standard([*standard(), (name, _STANDARD_HEADERS[name])])


def test_one_of_several_standard_signatures_suffices() -> None:
    good = _STANDARD_HEADERS[b"webhook-signature"]
    assert is_standard(standard({b"webhook-signature": b"v1,d3Jvbmc= v1a,x " + good}))


def test_one_of_several_standard_secrets_suffices() -> None:
    other = "whsec_" + base64.b64encode(b"another secret").decode()
    proofs = signature.Proofs(sign_secrets=(other, _WHSEC))
    assert is_proven(None, standard(), proofs, body=_BODY, at=_SENT_AT)


def test_a_wrong_standard_proof_beside_a_right_one_is_refused() -> None:
    right = (b"sign", _GOOD)
    wrong = standard({b"webhook-id": b"msg_another"})
    assert is_proven(_MESSAGE, [right], _STANDARD, body=_BODY, at=_SENT_AT)
    assert not is_proven(_MESSAGE, [right, *wrong], _STANDARD, body=_BODY, at=_SENT_AT)


def test_standard_headers_are_ignored_where_no_secret_checks_them() -> None:
    headers = [(b"sign", _GOOD), *standard({b"webhook-id": b"msg_another"})]
    assert is_proven(_MESSAGE, headers, _DEMO)


@given(st.binary(), st.binary(), st.binary(), st.binary())
def test_no_header_of_standard_webhooks_raises_anything_else(
    identity: bytes, timestamp: bytes, header: bytes, body: bytes
) -> None:
    headers = [
        (b"webhook-id", identity),
        (b"webhook-timestamp", timestamp),
        (b"webhook-signature", header),
    ]
    assert not is_standard(headers, body=body)


def test_what_we_sign_verifies() -> None:
    at = str(int(_NOW.timestamp())).encode()
    signed = standard_webhooks.sign(_WHSEC, b"msg_1", at, b"{}")
    headers = [
        (b"webhook-id", b"msg_1"),
        (b"webhook-timestamp", at),
        (b"webhook-signature", signed),
    ]
    assert is_proven({}, headers, _STANDARD, body=b"{}")
