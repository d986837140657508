"""Read JSON that a setting holds."""

from __future__ import annotations

import json
from typing import Any

from provisioner.settings import types


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
