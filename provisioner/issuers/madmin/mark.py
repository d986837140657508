"""Mark what is ours at an engine without tags, and compare policies that it rewrites.

A principal has one canned policy, and a statement of it carries the mark: it denies `admin:*`, so
that a key can neither mint others nor change its own account, and names the product in its Sid.
Service accounts say in their description for whom and when they were made.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from provisioner import errors

ACCOUNT = "provisioner"
"""The name of every service account of ours; letters, for rustfs takes nothing else first."""
_SCALARS = frozenset({"Sid", "Effect", "Version", "ID"})
_SID = re.compile(r"DataProduct([0-9a-f]{32})")
_MADE = re.compile(r"product=([0-9a-f-]{36}) made=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")


def marked(document: Mapping[str, Any], product_id: str) -> dict[str, Any]:
    """Return the document with the statement that marks it and denies all administration."""
    return {**document, "Statement": [*document["Statement"], _statement(product_id)]}


def nothing(product_id: str) -> dict[str, Any]:
    """Return a document that allows nothing and bears the mark."""
    return {"Version": "2012-10-17", "Statement": [_statement(product_id)]}


def _statement(product_id: str) -> dict[str, Any]:
    return {
        "Sid": f"DataProduct{_hex(product_id)}",
        "Effect": "Deny",
        "Action": ["admin:*"],
        # Without a resource rustfs refuses it; no engine looks at the resource of such actions.
        "Resource": ["arn:aws:s3:::*"],
    }


def _hex(product_id: str) -> str:
    try:
        parsed = uuid.UUID(product_id)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != product_id:
        raise errors.NameRejected("the product's id is not a UUID", product=ascii(product_id)[:80])
    return parsed.hex


def product_of(document: object) -> str | None:
    """Return the product in a policy's mark; None where it bears none."""
    statements = document.get("Statement") if isinstance(document, dict) else None
    for statement in statements if isinstance(statements, list) else ():
        product = sid_product(statement.get("Sid")) if isinstance(statement, dict) else None
        if product:
            return product
    return None


def sid_product(sid: object) -> str | None:
    """Return the product that a statement's Sid names, if any."""
    found = _SID.fullmatch(sid) if isinstance(sid, str) else None
    return str(uuid.UUID(found[1])) if found else None


def same(one: object, other: object) -> bool:
    """Tell whether two policies say the same; engines sort lists and fill in what is empty."""
    return _canonical(one) == _canonical(other)


def _canonical(value: object) -> object:
    if isinstance(value, dict):
        lists = {
            key: [each] if isinstance(each, str) and key not in _SCALARS else each
            for key, each in value.items()
        }
        filled = {key: _canonical(each) for key, each in lists.items()}
        return {key: each for key, each in filled.items() if each not in ("", [], {}, None)}
    if isinstance(value, list):
        return sorted((_canonical(each) for each in value), key=_text)
    return value


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def description(product_id: str, now: datetime) -> str:
    """Describe a service account: for whom and when it was made."""
    return f"product={product_id} made={now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def described_product(text: object) -> str | None:
    """Return the product in the description of a service account of ours."""
    found = _MADE.fullmatch(text) if isinstance(text, str) else None
    return found[1] if found else None


def made_at(text: object) -> datetime | None:
    """Return when a service account of ours was made; None where that is not said."""
    found = _MADE.fullmatch(text) if isinstance(text, str) else None
    if not found:
        return None
    try:
        return datetime.strptime(found[2], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
