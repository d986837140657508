"""Decide whether a delivery proves where it comes from.

The portal signs `json.dumps(message)` with Python's defaults and sends other bytes, so a `Sign`
header is checked against the parsed message written out again, never against the body. What
was verified is that object; the receiver goes on with the same one.

Every kind of proof is one checker. A kind that nothing is configured for is ignored; of the
others none may be wrong and at least one must verify.
"""

from __future__ import annotations

import base64
import functools
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from provisioner import errors
from provisioner.domain import standard_webhooks

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True)
class Proofs:
    """Hold what deliveries may prove themselves with; no secret reaches a repr."""

    sign_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Secrets, any may match: plain ones for `Sign`, `whsec_…` for Standard Webhooks."""
    basic_auth: tuple[str, ...] = field(default=(), repr=False)
    """`user:password` pairs."""
    allow_unsigned: bool = False
    """Accept deliveries that carry no proof; a wrong one is still refused."""

    @functools.cached_property
    def plain_secrets(self) -> tuple[str, ...]:
        """Return the secrets that `Sign` is checked with."""
        return tuple(s for s in self.sign_secrets if s and not standard_webhooks.is_secret(s))

    @functools.cached_property
    def standard_secrets(self) -> tuple[str, ...]:
        """Return the secrets that Standard Webhooks are checked with."""
        return tuple(s for s in self.sign_secrets if standard_webhooks.is_secret(s))


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """A delivery as it came: the raw body, what that parses to, the headers, and when."""

    message: object
    headers: Headers
    body: bytes
    at: datetime


def verify(arrived: Arrived, proofs: Proofs) -> None:
    """Return if the delivery is proven; raise `errors.SignatureError` for everything else."""
    try:
        verdicts = [check(arrived, proofs) for check in _CHECKERS]
    except errors.SignatureError:
        raise
    except Exception as exc:
        # json.dumps meets whatever json.loads let through: depth, surrogates, long numbers.
        raise errors.SignatureError("the proof cannot be checked") from exc
    if not (any(verdicts) or proofs.allow_unsigned):
        raise errors.SignatureError("the delivery carries no proof")


def sign(message: object, secret: str) -> str:
    """Return the `Sign` header that the portal would send with a message."""
    return _digest(_signed_form(message), secret).decode()


def is_one_of(given: bytes, expected: Sequence[bytes]) -> bool:
    """Compare with every one: neither a match nor its place shows in the time."""
    matched = False
    for candidate in expected:
        matched |= hmac.compare_digest(candidate, given)
    return matched


def _signed_form(message: object) -> bytes:
    return json.dumps(message).encode()


def _digest(signed_form: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), signed_form, "sha512").hex().encode()


def _check_sign(arrived: Arrived, proofs: Proofs) -> bool:
    """Check `Sign`; False where it is absent or there is no secret for it."""
    secrets = proofs.plain_secrets
    given = _only(arrived.headers, b"sign") if secrets else None
    if given is None:
        return False
    signed_form = _signed_form(arrived.message)
    if not is_one_of(given, [_digest(signed_form, secret) for secret in secrets]):
        raise errors.SignatureError("the signature is wrong")
    return True


def _check_basic(arrived: Arrived, proofs: Proofs) -> bool:
    """Check Basic auth; False where it is absent or there is no pair for it."""
    pairs = [pair for pair in proofs.basic_auth if pair]
    given = _only(arrived.headers, b"authorization") if pairs else None
    if given is None:
        return False
    scheme, _, encoded = given.partition(b" ")
    if scheme.lower() != b"basic":
        return False
    credentials = base64.b64decode(encoded.strip(), validate=True)
    if not is_one_of(credentials, [pair.encode() for pair in pairs]):
        raise errors.SignatureError("the user or password is wrong")
    return True


def _check_standard(arrived: Arrived, proofs: Proofs) -> bool:
    """Check Standard Webhooks; False where no such header is there, or no secret for it."""
    secrets = proofs.standard_secrets
    names = (standard_webhooks.ID, standard_webhooks.TIMESTAMP, standard_webhooks.SIGNATURE)
    given = [_only(arrived.headers, name) for name in names] if secrets else []
    if all(each is None for each in given):
        return False
    identity, timestamp, header = given
    if not (identity and timestamp and header):
        raise errors.SignatureError("a part of the proof is missing")
    if not standard_webhooks.is_recent(timestamp, arrived.at):
        raise errors.SignatureError("the delivery is not from these minutes")
    expected = [
        standard_webhooks.sign(secret, identity, timestamp, arrived.body) for secret in secrets
    ]
    matches = [is_one_of(one, expected) for one in standard_webhooks.signatures(header)]
    if not any(matches):
        raise errors.SignatureError("the signature is wrong")
    return True


def _only(headers: Headers, name: bytes) -> bytes | None:
    """Return a header's value, None where it is absent; given twice it proves nothing."""
    values = [value for key, value in headers if key.lower() == name]
    if len(values) > 1:
        raise errors.SignatureError("a proof is given twice")
    return values[0] if values else None


_Checker = Callable[[Arrived, Proofs], bool]
_CHECKERS: tuple[_Checker, ...] = (_check_sign, _check_basic, _check_standard)
