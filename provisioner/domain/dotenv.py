"""Write the texts of the files that are ours in a workspace.

`.env` is read by python-dotenv, by R's readRenviron, by `docker --env-file` and by a shell, and
these agree only on plain `KEY=value` with values from a narrow alphabet. A value outside of it is
refused, never escaped: an escape that one reader understands is text to the next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from provisioner import model, names

PROFILE = "workspace"
"""Name of the profile in `.aws/`."""

_VALUE = re.compile(r"[A-Za-z0-9/+=._:@%,-]*")
_KEY_ID = re.compile(rb"^S3_ACCESS_KEY=([A-Za-z0-9]{1,128})$", re.MULTILINE)
_INPUT_NAME = re.compile(r"[a-z0-9_]+")
_URL = re.compile(r"s3://[A-Za-z0-9.-]+/[A-Za-z0-9/+=,.@_-]+/")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where tools find things: in the containers, or on the host."""

    endpoint: str
    workspace_dir: str
    """This workspace's own folder."""
    extension_directory: str


@dataclass(frozen=True, kw_only=True)
class Input:
    """An output port of somebody else that the workspace may reach; names only, no free text."""

    name: str
    """How SQL sees it: `upstream.<name>`."""
    producer: str
    port: str
    url: str
    mode: model.Access
    valid_until: date | None = None

    def __post_init__(self) -> None:
        """Refuse what could become SQL, Markdown or another path at the consumer's."""
        if not _INPUT_NAME.fullmatch(self.name):
            raise ValueError("an input's name is made of a-z, 0-9 and _")
        if not (names.is_namespace(self.producer) and names.is_namespace(self.port)):
            raise ValueError("an input names its producer and port by namespaces")
        if not _URL.fullmatch(self.url):
            raise ValueError("an input's url is a plain s3:// prefix")


def is_input_name(text: str) -> bool:
    """Tell whether an input may have this name."""
    return _INPUT_NAME.fullmatch(text) is not None


def secret_files(
    *,
    bucket: str,
    prefix: str,
    region: str,
    key: model.AccessKey,
    place: Place,
    local: Place | None = None,
) -> dict[str, str]:
    """Return the secret files by path, in the order in which they are published.

    `prefix` is empty for what has none of its own. `local` asks for `.env.local` too. ValueError
    names the key whose value not every reader would read alike.
    """
    pairs = {
        "aws_access_key_id": key.id,
        "aws_secret_access_key": key.secret,
    }
    settings = {"region": region, "endpoint_url": place.endpoint}
    shared = {
        "S3_BUCKET": bucket,
        "S3_PREFIX": prefix,
        "S3_ACCESS_KEY": key.id,
        "S3_SECRET_KEY": key.secret,
        "S3_REGION": region,
    }
    files = {
        ".aws/config": _profile(f"profile {PROFILE}", settings),
        ".aws/credentials": _profile(PROFILE, pairs),
    }
    if local is not None:
        files[".env.local"] = _lines(_environment(shared, local))
    files[".env"] = _lines(_environment(shared, place))
    return files


def named_key(data: bytes) -> str:
    """Return the key id in an `.env` that anybody may have written; empty where it has none."""
    found = _KEY_ID.search(data)
    return found.group(1).decode("ascii") if found else ""


def ports_json(outputs: Iterable[str], inputs: Iterable[Input]) -> str:
    """Return `ports.json`: the same text for the same ports, in whatever order they come."""
    listed = [
        {
            "name": item.name,
            "producer": item.producer,
            "port": item.port,
            "url": item.url,
            "mode": str(item.mode),
            "valid_until": item.valid_until.isoformat() if item.valid_until else None,
        }
        for item in ordered(inputs)
    ]
    return json.dumps({"outputs": checked(outputs), "inputs": listed}, indent=2) + "\n"


def _environment(shared: Mapping[str, str], place: Place) -> dict[str, str]:
    return {
        "S3_ENDPOINT": place.endpoint,
        **shared,
        "WORKSPACE_DIR": place.workspace_dir,
        "DUCKDB_EXTENSION_DIRECTORY": place.extension_directory,
        "AWS_SHARED_CREDENTIALS_FILE": f"{place.workspace_dir}/.aws/credentials",
        "AWS_CONFIG_FILE": f"{place.workspace_dir}/.aws/config",
        "AWS_PROFILE": PROFILE,
        "AWS_ENDPOINT_URL_S3": place.endpoint,
    }


def _lines(values: Mapping[str, str]) -> str:
    for name, value in values.items():
        _check(name, value, may_be_empty=name == "S3_PREFIX")
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _profile(section: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        _check(name, value, may_be_empty=False)
    return f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())


def _check(name: str, value: str, *, may_be_empty: bool) -> None:
    if not _VALUE.fullmatch(value) or not (value or may_be_empty):
        raise ValueError(f"{name} holds what not every reader of .env reads alike")


def ordered(inputs: Iterable[Input]) -> list[Input]:
    """Return inputs by name; ValueError where two have one."""
    ordered = sorted(inputs, key=lambda item: item.name)
    if len({item.name for item in ordered}) != len(ordered):
        raise ValueError("two inputs have one name")
    return ordered


def checked(outputs: Iterable[str]) -> list[str]:
    """Return the namespaces of ports in order; `NameRejected` for what is none."""
    return sorted({names.check_namespace(namespace) for namespace in outputs})
