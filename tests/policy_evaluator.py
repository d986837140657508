"""Judge requests by a policy document the way S3 engines do, written apart from `policy`.

Wildcards are `*` and `?` over the whole string, also across `/`; a condition whose key the request
does not carry does not hold; an explicit Deny wins. What it does not know, it refuses to judge.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any


def allowed(
    document: Mapping[str, Any], action: str, resource: str, *, prefix: str | None = None
) -> bool:
    """Tell whether a document allows an action; `prefix` is a listing's, None where not given."""
    verdicts = {
        statement["Effect"]
        for statement in document["Statement"]
        if _applies(statement, action, resource, prefix)
    }
    if verdicts - {"Allow", "Deny"}:
        raise NotImplementedError("an effect this evaluator does not know")
    return verdicts == {"Allow"}


def _applies(statement: Mapping[str, Any], action: str, resource: str, prefix: str | None) -> bool:
    unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
    if unknown:
        raise NotImplementedError(f"statement members this evaluator does not know: {unknown}")
    return (
        any(matches(each.lower(), action.lower()) for each in _listed(statement["Action"]))
        and any(matches(each, resource) for each in _listed(statement["Resource"]))
        and _holds(statement.get("Condition", {}), prefix)
    )


def _holds(condition: Mapping[str, Any], prefix: str | None) -> bool:
    for operator, tests in condition.items():
        if operator != "StringLike" or set(tests) != {"s3:prefix"}:
            raise NotImplementedError(f"a condition this evaluator does not know: {operator}")
        if prefix is None:
            return False
        if not any(matches(each, prefix) for each in _listed(tests["s3:prefix"])):
            return False
    return True


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@functools.lru_cache(maxsize=100_000)  # tests ask the same again for every action and form
def matches(pattern: str, text: str) -> bool:
    """Tell whether a pattern with `*` and `?` matches a whole text, by backtracking to a star."""
    if "${" in pattern:
        raise NotImplementedError("policy variables are not judged")
    at, in_text, star, retry = 0, 0, -1, 0
    while in_text < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, retry = at, in_text
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[in_text]):
            at, in_text = at + 1, in_text + 1
        elif star >= 0:
            retry += 1
            at, in_text = star + 1, retry
        else:
            return False
    return all(rest == "*" for rest in pattern[at:])
