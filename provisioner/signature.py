"""Decide whether a delivery proves where it comes from.

The portal signs `json.dumps(message)` with Python's defaults and sends other bytes, so a `Sign`
header is checked against the parsed message written out again, never against the body. What
was verified is that object; the receiver goes on with the same one.

Every kind of proof is one checker. A kind that nothing is configured for is ignored; of the
others none may be wrong and at least one must verify.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from provisioner import errors

Headers = Sequence[tuple[bytes, bytes]]
_STANDARD_WEBHOOKS = "whsec_"


@dataclass(frozen=True, kw_only=True)
class Proofs:
    """Hold what deliveries may prove themselves with; no secret reaches a repr."""

    sign_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Secrets for `Sign`, any may match; `whsec_…` ones are of another kind and not used for it."""
    basic_auth: tuple[str, ...] = field(default=(), repr=False)
    """`user:password` pairs."""
    allow_unsigned: bool = False
    """Accept deliveries that carry no proof; a wrong one is still refused."""

    @property
    def plain_secrets(self) -> tuple[str, ...]:
        """Return the secrets that `Sign` is checked with."""
        return tuple(s for s in self.sign_secrets if s and not s.startswith(_STANDARD_WEBHOOKS))

    @property
    def any_checked(self) -> bool:
        """Tell whether there is anything that a delivery could prove itself with."""
        return bool(self.plain_secrets or self.basic_auth)


def verify(message: object, headers: Headers, proofs: Proofs) -> None:
    """Return if the delivery is proven; raise `errors.SignatureError` for everything else."""
    try:
        verdicts = [check(message, headers, proofs) for check in _CHECKERS]
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
    return hmac.new(secret.encode(), signed_form, hashlib.sha512).hexdigest().encode()


def _check_sign(message: object, headers: Headers, proofs: Proofs) -> bool:
    """Check `Sign`; False where it is absent or there is no secret for it."""
    secrets = proofs.plain_secrets
    given = _only(headers, b"sign") if secrets else None
    if given is None:
        return False
    signed_form = _signed_form(message)
    if not is_one_of(given, [_digest(signed_form, secret) for secret in secrets]):
        raise errors.SignatureError("the signature is wrong")
    return True


def _check_basic(_message: object, headers: Headers, proofs: Proofs) -> bool:
    """Check Basic auth; False where it is absent or there is no pair for it."""
    pairs = [pair for pair in proofs.basic_auth if pair]
    given = _only(headers, b"authorization") if pairs else None
    if given is None:
        return False
    scheme, _, encoded = given.partition(b" ")
    if scheme.lower() != b"basic":
        return False
    credentials = base64.b64decode(encoded.strip(), validate=True)
    if not is_one_of(credentials, [pair.encode() for pair in pairs]):
        raise errors.SignatureError("the user or password is wrong")
    return True


def _only(headers: Headers, name: bytes) -> bytes | None:
    """Return a header's value, None where it is absent; given twice it proves nothing."""
    values = [value for key, value in headers if key.lower() == name]
    if len(values) > 1:
        raise errors.SignatureError("a proof is given twice")
    return values[0] if values else None


_Checker = Callable[[object, Headers, Proofs], bool]
_CHECKERS: tuple[_Checker, ...] = (_check_sign, _check_basic)
