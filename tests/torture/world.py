"""Describe all that a service has made, so that two worlds can be compared.

What may differ is left out, and nothing else:

* an object that a probe of a new key wrote, if a kill came before it was deleted: such a prefix
  still counts as empty, and a proof deletes only those of ten minutes ago;
* key pairs and whatever counts how often they were made; what people wrote into prefixes;
* the addresses of this run, and where its folders lie;
* names that are history: a principal's (after a rename it keeps the first one; its id is compared)
  and an input's (once given it stays, whatever its producer is called now: the port is compared);
* what else is history by nature: since when a port may be read, access that ended, what was last
  seen of a port, and when nobody has looked yet;
* digests, which say that the portal's own address or finalizer is another (the portal's own
  entries are compared beside this), and whether the finalizer is ours: a lost store finds it there;
* what was rendered for a product under an earlier name: it is the users' by then;
* what a deleted product leaves in the archive: its prefix with its mark, and its folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from provisioner import assembly, model
from tests import engines

_ID = re.compile(r"dp-.*-([0-9a-f]{8})(?:\.g\d+)?")
_PLACE = re.compile(r"127\.0\.0\.1:\d+")
_SECRET = re.compile(r"(?m)^(S3_ACCESS_KEY|S3_SECRET_KEY|aws_\w+key\w*)( ?= ?).*$")
_OURS = frozenset(
    {
        ".env",
        ".aws/config",
        ".aws/credentials",
        "ports.json",
        "INPUTS.md",
        "external_models/upstream.yaml",
    }
)
_ENDED = "Access that ended"
_CELLS_OF_AN_INPUT, _SINCE = 9, 5
"""Of a row of `INPUTS.md`, between and beside its bars."""
_PROBE = ".provisioner-probe-"
_NAMED = ".Rproj"
"""A file that is called like the product was when it was rendered."""
DATA = "watched-"
"""How objects begin that a watching client wrote."""

Facts = dict[str, Any]
"""What there is, by a name that says where."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a world is."""

    engine: engines.Engine
    bucket: str
    products: Path
    parts: assembly.Parts

    def records(self) -> list[model.Record]:
        """Return every record, keys and all."""
        known = [record.key for record in self.parts.store.records.known()]
        loaded = (self.parts.store.records.load(key) for key in known)
        return [record for record in loaded if record is not None]


def describe(place: Place, renamed: set[str]) -> Facts:
    """Describe what belongs to the products that live."""
    living = [record for record in place.records() if record.released_at is None]
    facts: Facts = {}
    for record in living:
        facts |= _of_record(record)
        # An exploration, or what was archived before it had anything, has no folder.
        facts |= _of_folder(place, record, was_renamed=record.key.id in renamed)
    ids = {record.key.id.replace("-", "")[:8] for record in living}
    for name, documents in policies(place.engine).items():
        short = _ID.fullmatch(name)
        if short and short[1] in ids:
            facts[f"policy of {short[1]}"] = sorted(map(_plain, documents))
    facts["objects"] = _objects(place, {record.namespace for record in living})
    return facts


def differences(there: Facts, wanted: Facts) -> list[str]:
    """Say what is otherwise than it should be."""
    return [
        f"{name}: {_short(there.get(name))}, not {_short(wanted.get(name))}"
        for name in sorted(there.keys() | wanted.keys())
        if there.get(name) != wanted.get(name)
    ]


def _short(value: object) -> str:
    return str(value)[:600]


def _plain(document: Mapping[str, Any]) -> str:
    return json.dumps(_in_order(document), sort_keys=True)


def _in_order(value: Any) -> Any:
    """Order what a policy lists, which has no order: MinIO tells it in another one each time."""
    if isinstance(value, Mapping):
        return {name: _in_order(each) for name, each in value.items()}
    if isinstance(value, list):
        return sorted(map(_in_order, value), key=str)
    return value


def _of_record(record: model.Record) -> Facts:
    held = record.credentials
    said: Facts = {
        "namespaces": record.namespaces,
        "name": record.name,
        "phase": record.phase,
        "prefix": (record.prefix, record.marked),
        "written back": record.writeback,
        "grants": record.grants,
        "conditions": [(each.type, each.message) for each in record.conditions],
        "drift": [each.what for each in record.drift],
        "settled": bool(record.settled_digest),
        "has a key": held.current is not None,
        "policy": held.policy_digest,
    }
    return {f"{record.key}, {name}": fact for name, fact in said.items()}


def _of_folder(place: Place, record: model.Record, *, was_renamed: bool) -> Facts:
    """Read a workspace: whole names, and the contents that must be equal."""
    folder = place.products / record.namespace
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    # Repositories hold ids and dates, packed; what they were made from is compared.
    found = {path for path in found if ".git" not in path.split("/")}
    whole = sorted(each for each in found if not each.endswith(_NAMED))
    facts: Facts = {f"files of {record.key}": (whole, len(found))}
    inputs = _inputs(folder / "ports.json") if found else {}
    for name in sorted(found):
        path = folder / name
        if path.is_file() and (name in _OURS or not was_renamed):
            facts[f"{record.key} {name}"] = _text(path, place, inputs)
    return facts


def _inputs(listing: Path) -> dict[str, str]:
    """Return what each input's name stands for."""
    rows = json.loads(listing.read_text())["inputs"]
    found = {f"upstream.{row['name']}": f"{row['producer']}/{row['port']}" for row in rows}
    assert len(found) == len(rows), rows
    return found


def _text(path: Path, place: Place, inputs: Mapping[str, str]) -> Any:
    text = path.read_text().replace(str(place.products), "PRODUCTS")
    text = _SECRET.sub(r"\1\2", _PLACE.sub("HERE", text))
    if path.name == "ports.json":
        listed = json.loads(text)
        rows = [{**row, "name": ""} for row in listed["inputs"]]
        return {**listed, "inputs": sorted(map(_plain, rows))}
    if path.name == "upstream.yaml":
        models = yaml.safe_load(text) or []
        return sorted(_plain({**each, "name": inputs[each["name"]]}) for each in models)
    if path.name == "INPUTS.md":
        return sorted(_without_history(text, inputs))
    return text


def _without_history(text: str, inputs: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of an `INPUTS.md`, each input's by what its name stands for."""
    for section in text.split("\n## "):
        if section.startswith(_ENDED):
            continue
        for line in section.splitlines():
            cells = [inputs.get(each.strip(" `"), each.strip()) for each in line.split("|")]
            if len(cells) == _CELLS_OF_AN_INPUT:
                yield " ".join(cells[:_SINCE] + cells[_SINCE + 1 :])
            else:
                yield cells[1] if len(cells) > 1 else line


def _objects(place: Place, namespaces: set[str]) -> dict[str, str]:
    """List what lies in the bucket of products that live, marks with what they say."""
    s3, found = place.engine.s3(), {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket):
        for each in page.get("Contents", []):
            key = each["Key"]
            owner = key.removeprefix(".provisioner/owners/").removesuffix(".json").split("/")[0]
            if owner in namespaces and not key.rpartition("/")[2].startswith((DATA, _PROBE)):
                body = s3.get_object(Bucket=place.bucket, Key=key)["Body"].read()
                found[key] = body.decode()
    return found


def policies(engine: engines.Engine) -> dict[str, list[Mapping[str, Any]]]:
    """Read every policy of every user, by the engine's own calls."""
    if engine.issuer_name == "minio":
        return _of_minio(cast("engines.Minio", engine))
    iam, found = engine.iam(), {}
    uids = cast("engines.Rgw", engine).uids() if engine.issuer_name == "rgw" else _users(iam)
    for user in uids:
        if _ID.fullmatch(user):
            names = _policy_names(iam, user)
            found[user] = [
                cast(
                    "Mapping[str, Any]",
                    iam.get_user_policy(UserName=user, PolicyName=name)["PolicyDocument"],
                )
                for name in names
            ]
    return found


def _policy_names(iam: Any, user: str) -> list[str]:
    """List the inline policies of a user; Ceph's 404 is that of one who has none."""
    try:
        return list(iam.list_user_policies(UserName=user)["PolicyNames"])
    except iam.exceptions.ClientError as refused:
        if refused.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return []
        raise


def _users(iam: Any) -> set[str]:
    pages = iam.get_paginator("list_users").paginate()
    return {user["UserName"] for page in pages for user in page["Users"]}


def _of_minio(engine: engines.Minio) -> dict[str, list[Mapping[str, Any]]]:
    listed = engine.raw().read("list-canned-policies")
    return {name: [document] for name, document in listed.items() if _ID.fullmatch(name)}
