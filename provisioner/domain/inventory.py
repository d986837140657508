"""Write what tells a workspace of its inputs and outputs: `INPUTS.md` and `upstream.yaml`. Pure.

Nothing in them is free text: namespaces, names and types from fixed alphabets, numbers and dates.
YAML is written from these alone, so that no library is needed to quote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from provisioner import model, names
from provisioner.domain import dotenv, portfile

UPSTREAM = "external_models/upstream.yaml"
"""SQLMesh reads every YAML file in that folder besides the user's `external_models.yaml`."""

_PORTAL = re.compile(r"https?://[A-Za-z0-9.:/_-]+")
_WHY = {
    model.EndReason.REVOKED: ("it was revoked", "ask its team, or ask again"),
    model.EndReason.DENIED: ("it was denied", "ask its team, or ask again"),
    model.EndReason.EXPIRED: ("its time was over", "ask again"),
    model.EndReason.WITHDRAWN: ("the request was withdrawn", "ask again"),
    model.EndReason.DELETED: ("the port or its product was deleted", "take another source"),
    model.EndReason.UNKNOWN: ("the portal no longer says so", "look at the request, or ask again"),
}
_STATES = {
    model.PortState.UNKNOWN: "nothing published yet",
    model.PortState.UNPUBLISHED: "nothing published yet",
    model.PortState.FRESH: "fresh",
    model.PortState.STALE: "**stale**: its time for new data is over",
    model.PortState.SHRUNKEN: "**shrunken**: less than half the rows it had before",
    model.PortState.UNREADABLE: "**unreadable**",
}
_HEAD = """\
# Written by the provisioner whenever an input changes; what you write here is lost.
# A name may stand in one file only: where SQLMesh says "Duplicate external model name", remove it
# from your external_models.yaml.
"""
_PARTLY = (
    "Of an input with columns *left out* that file lists none, so that SQLMesh does not take the",
    "rest for all of them: nested types (`STRUCT`, `MAP`, lists of lists), `ENUM`, and names with",
    "other characters than `A-Z a-z 0-9 _` cannot be listed. Models read every column of it all",
    "the same, and `SELECT *` means all; SQLMesh does not check their names and types.",
    "",
)


def upstream_yaml(inputs: Iterable[dotenv.Input], seen: Mapping[str, model.SeenPort]) -> str:
    """Return one external model an input, with its columns if all are known; `seen` by its name.

    SQLMesh takes a list of columns for all of them: it refuses a model that reads another, and
    `SELECT *` means those alone. So where one of them is left out none is listed.
    """
    entries = [_entry(each, seen.get(each.name)) for each in dotenv.ordered(inputs)]
    return _HEAD + ("".join(entries) or "[]\n")


def _entry(item: dotenv.Input, seen: model.SeenPort | None) -> str:
    columns = seen.contract.columns if seen and seen.contract else ()
    lines = [f"- name: upstream.{item.name}\n"]
    if _is_partly_known(seen):
        lines.append("  # no columns: some of them cannot be listed, see INPUTS.md\n")
        columns = ()
    if columns:
        lines.append("  columns:\n")
    for each in columns:
        if not (portfile.is_column_name(each.name) and portfile.is_type(each.type)):
            raise ValueError("a column has a name or type that is none that we pass on")
        lines.append(f'    "{each.name}": "{each.type}"\n')
    return "".join(lines)


def inputs_md(
    outputs: Iterable[str],
    inputs: Iterable[dotenv.Input],
    *,
    published: Sequence[model.SeenPort] = (),
    seen: Mapping[str, model.SeenPort] | None = None,
    since: Mapping[str, datetime | None] | None = None,
    ended: Sequence[model.EndedAccess] = (),
    portal_url: str = "",
) -> str:
    """Return `INPUTS.md`: what the workspace may read, could read, and publishes, for people.

    `published` are its own ports as last seen; `seen` and `since` go by the names of inputs.
    """
    seen, since = seen or {}, since or {}
    rows = dotenv.ordered(inputs)
    where = f"in the portal, <{portal_url}>" if _PORTAL.fullmatch(portal_url) else "in the portal"
    table = [
        "| read it as | data product | output port | access | since | last day (UTC) "
        "| where it lies |",
        "|---|---|---|---|---|---|---|",
        *(_input_row(each, since.get(each.name)) for each in rows),
        "",
        f"Their columns, as published, stand in `{UPSTREAM}` for SQLMesh. A name that stands in",
        "your `external_models.yaml`, too, is an error there (Duplicate external model name):",
        "remove it from yours.",
        "",
        *(_PARTLY if any(_is_partly_known(seen.get(each.name)) for each in rows) else ()),
        "What was last seen of them, when this file was written:",
        "",
        "| input | state | rows | published | columns |",
        "|---|---|---|---|---|",
        *(_seen_row(f"upstream.{each.name}", seen.get(each.name)) for each in rows),
    ]
    lines = [
        "# Inputs and outputs",
        "",
        "Written by the provisioner whenever access changes; what you write here is lost.",
        "",
        "## Inputs",
        "",
        *(table if rows else [f"None yet: ask for access to an output port {where}."]),
        "",
        *(_ended(ended, where) if ended else ()),
        "## Outputs",
        "",
        *_outputs(outputs, {each.port_namespace: each for each in published}),
        "",
    ]
    return "\n".join(lines)


def _input_row(item: dotenv.Input, since: datetime | None) -> str:
    last = item.valid_until.isoformat() if item.valid_until else "no end"
    return (
        f"| `upstream.{item.name}` | `{item.producer}` | `{item.port}` | {item.mode} "
        f"| {_day(since)} | {last} | `{item.url}` |"
    )


def _seen_row(name: str, seen: model.SeenPort | None) -> str:
    state = seen.state if seen else model.PortState.UNKNOWN
    said = f"{_STATES[state]}: {seen.why}" if seen and seen.why else _STATES[state]
    contract = seen.contract if seen else None
    if contract is not None and state is model.PortState.UNKNOWN:
        said = "not looked at any more"
    if contract is None:
        return f"| `{name}` | {said} | - | - | - |"
    left_out = f", {contract.dropped} left out" if contract.dropped else ""
    return (
        f"| `{name}` | {said} | {contract.rows} | {_day(contract.published_at)} "
        f"| {len(contract.columns)}{left_out} |"
    )


def _is_partly_known(seen: model.SeenPort | None) -> bool:
    return bool(seen and seen.contract and seen.contract.dropped)


def _ended(ended: Sequence[model.EndedAccess], where: str) -> list[str]:
    """Say what may no longer be read, so that a model that fails is understood."""
    rows = []
    for each in ended:
        producer, port = map(names.check_namespace, (each.producer_namespace, each.port_namespace))
        why, then = _WHY[each.why]
        name = f"`upstream.{each.name}`" if dotenv.is_input_name(each.name) else "-"
        rows.append(
            f"| {name} | `{producer}` | `{port}` | {_day(each.since)} | {_day(each.ended_at)} "
            f"| {why} | {then} |"
        )
    return [
        "## Access that ended",
        "",
        f"A model that still reads one of these fails. Ask for access {where}.",
        "",
        "| it was read as | data product | output port | since | ended (UTC) | why | what to do |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _outputs(outputs: Iterable[str], published: Mapping[str, model.SeenPort]) -> list[str]:
    listed = dotenv.checked(outputs)
    if not listed:
        return ["None yet: add an output port to the data product in the portal."]
    return [
        "| output port | state | rows | published | columns |",
        "|---|---|---|---|---|",
        *(_seen_row(namespace, published.get(namespace)) for namespace in listed),
    ]


def _day(moment: datetime | None) -> str:
    return moment.astimezone(UTC).date().isoformat() if moment else "-"
