"""Take policies apart into single allowances, and write those as short as they get. Pure.

An allowance is one action on one resource, a listing's with one pattern that its prefix must
match. What a principal may do is the union of all its policies, so sets of allowances may be
compared, cut and shared out between policies without changing what they mean. Nothing is ever
put together into a wildcard.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provisioner.domain import policy

_MEMBERS = frozenset({"Sid", "Effect", "Action", "Resource", "Condition"})
_LISTING = ("StringLike", "s3:prefix")


@dataclass(frozen=True, order=True, kw_only=True)
class Allowance:
    """The smallest piece of a policy."""

    effect: str = ""
    action: str = ""
    resource: str = ""
    prefix: str = ""
    """What a listing's prefix must match; empty = no condition."""
    foreign: str = ""
    """A whole statement of a form that we never write, as JSON; then all else is empty."""

    @property
    def opens(self) -> str:
        """Name what it opens: a grant's objects and listings have the same name."""
        return f"{self.resource}/{self.prefix}" if self.prefix else self.resource


def read(document: object) -> frozenset[Allowance]:
    """Return the allowances of a policy, whoever wrote it.

    Equal sets mean equal policies; of what we never write only the same words count as equal.
    """
    statements = document.get("Statement", ()) if isinstance(document, Mapping) else [document]
    if not isinstance(statements, list | tuple):
        statements = [statements]
    return frozenset(each for statement in statements for each in _of(statement))


def write(allowances: Collection[Allowance]) -> dict[str, Any]:
    """Return the one policy that says exactly this, in as few characters as we know.

    Without statement ids, single values as strings, and one statement for all resources that the
    same actions are allowed on.
    """
    actions: dict[tuple[str, str, tuple[str, ...]], set[str]] = {}
    for (effect, action, resource), prefixes in _conditions(allowances).items():
        actions.setdefault((effect, resource, prefixes), set()).add(action)
    resources: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (effect, resource, prefixes), names in actions.items():
        resources.setdefault((effect, tuple(sorted(names)), prefixes), []).append(resource)
    ours = [_statement(*key, resources[key]) for key in sorted(resources)]
    foreign = [json.loads(each) for each in sorted(a.foreign for a in allowances if a.foreign)]
    return {"Version": "2012-10-17", "Statement": ours + foreign}


def size(document: Mapping[str, Any]) -> int:
    """Count characters as AWS does: white space is free."""
    return len("".join(policy.text(document).split()))


def compact(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same policy in fewer characters."""
    return write(read(document))


def _of(statement: object) -> Iterator[Allowance]:
    if not isinstance(statement, Mapping) or not _plain(statement):
        plain = statement
        if isinstance(statement, Mapping):
            plain = {name: value for name, value in statement.items() if name != "Sid"}
        yield Allowance(foreign=json.dumps(plain, sort_keys=True))
        return
    prefixes = _listed(statement.get("Condition", {}).get(_LISTING[0], {}).get(_LISTING[1], ""))
    for action in _listed(statement["Action"]):
        for resource in _listed(statement["Resource"]):
            for prefix in prefixes:
                yield Allowance(
                    effect=statement["Effect"], action=action, resource=resource, prefix=prefix
                )


def _plain(statement: Mapping[str, Any]) -> bool:
    """Tell whether a statement has a form that we write."""
    if set(statement) - _MEMBERS or not {"Effect", "Action", "Resource"} <= set(statement):
        return False
    if "Condition" not in statement:
        return True
    condition = statement["Condition"]
    tests = condition.get(_LISTING[0]) if isinstance(condition, Mapping) else None
    if not isinstance(tests, Mapping) or len(condition) != 1 or set(tests) != {_LISTING[1]}:
        return False
    patterns = _listed(tests[_LISTING[1]])
    return bool(patterns) and all(patterns)


def _conditions(
    allowances: Collection[Allowance],
) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Gather the patterns of each listing; () where there is no condition, which then wins."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for each in allowances:
        if not each.foreign:
            found.setdefault((each.effect, each.action, each.resource), set()).add(each.prefix)
    return {key: () if "" in all_ else tuple(sorted(all_)) for key, all_ in found.items()}


def _statement(
    effect: str, actions: Collection[str], prefixes: Collection[str], resources: Collection[str]
) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Effect": effect,
        "Action": _one_or_all(actions),
        "Resource": _one_or_all(sorted(resources)),
    }
    if prefixes:
        statement["Condition"] = {_LISTING[0]: {_LISTING[1]: _one_or_all(prefixes)}}
    return statement


def _listed(value: str | Collection[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _one_or_all(values: Collection[str]) -> str | list[str]:
    found = list(values)
    return found[0] if len(found) == 1 else found
