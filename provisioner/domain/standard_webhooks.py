"""Check deliveries that are signed as Standard Webhooks: HMAC-SHA256 over id, time and raw body.

Unlike the portal's own `Sign` it carries a time, so that a delivery taken from the wire is of no
use after five minutes. Symmetric signatures (`v1`) only; others in the header are passed over.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
ID, TIMESTAMP, SIGNATURE = b"webhook-id", b"webhook-timestamp", b"webhook-signature"
TOLERANCE_SECONDS = 300
_SECONDS = re.compile(rb"[0-9]{1,12}")
_VERSION = b"v1,"
_MOST_SIGNATURES = 32


def is_secret(text: str) -> bool:
    """Tell whether a secret is one of Standard Webhooks."""
    return text.startswith(PREFIX)


def is_recent(timestamp: bytes, now: datetime) -> bool:
    """Tell whether a time is within five minutes of ours, either way."""
    if not _SECONDS.fullmatch(timestamp):
        return False
    return abs(now.timestamp() - int(timestamp)) <= TOLERANCE_SECONDS


def sign(secret: str, identity: bytes, timestamp: bytes, body: bytes) -> bytes:
    """Return the signature of a delivery as its header holds it; ValueError for an odd secret."""
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    content = b".".join((identity, timestamp, body))
    return _VERSION + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest())


def signatures(header: bytes) -> Sequence[bytes]:
    """Return the symmetric signatures of a header, of which there may be several."""
    given = [part for part in header.split(b" ") if part.startswith(_VERSION)]
    return given[:_MOST_SIGNATURES]
