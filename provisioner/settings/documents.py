"""Read what a setting holds that has parts: JSON, or pairs."""

from __future__ import annotations

import json
import re
from typing import Any

from provisioner.settings import types

_KEY = re.compile(r"[a-z][a-z0-9_]*")
_VALUE = re.compile(r"[A-Za-z0-9:/._+=@~%?&-]+")
SERVICES_OWN = frozenset(
    {
        "project_name",
        "project_slug",
        "s3_endpoint",
        "s3_bucket",
        "portal_url",
        "product_id",
        "product_kind",
    }
)
"""Keys of a template that the service fills."""


def trust_policy(value: str) -> str:
    """Return a role's trust policy as compact JSON, the same for the same policy."""
    try:
        document: Any = json.loads(value)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not _states(document.get("Statement")):
        raise types.Unfit("a JSON object with a Statement")
    return json.dumps(document, separators=(",", ":"), sort_keys=True)


def _states(statement: object) -> bool:
    """Tell whether there is a statement: an object, or a list of them."""
    found = statement if isinstance(statement, list) else [statement]
    return bool(found) and all(isinstance(each, dict) and each for each in found)


def template_context(value: str) -> tuple[tuple[str, str], ...]:
    """Return `key=value` pairs by key; whether the template has such keys is seen later."""
    pairs = [each.partition("=") for each in types.items(value)]
    keys = {key for key, _, _ in pairs}
    if len(keys) < len(pairs) or not all(map(_is_choice, pairs)):
        raise types.Unfit(
            "key=value pairs, comma-separated, each key once and none that the service fills; "
            "values of letters, digits and : / . _ + = @ ~ % ? & -"
        )
    return tuple(sorted((key, chosen) for key, _, chosen in pairs))


def _is_choice(pair: tuple[str, str, str]) -> bool:
    key, _, chosen = pair
    return bool(_KEY.fullmatch(key) and _VALUE.fullmatch(chosen)) and key not in SERVICES_OWN
