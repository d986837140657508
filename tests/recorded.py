"""Read the recorded webhooks: what real portals of five revisions sent, byte for byte."""

from __future__ import annotations

import base64
import functools
import json
import pathlib
from dataclasses import dataclass
from typing import Any

_DIRECTORY = pathlib.Path(__file__).parent / "recordings" / "webhooks"
SECRET = "demo-secret-key"
VERSIONS = ("demo-0.4.2", "tag-0.4.2", "tag-0.5.1", "tag-0.7.0", "main-2026-08")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    version: str
    scenario: str
    wire: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        message = json.loads(self.body)
        assert isinstance(message, dict)
        return message


@functools.cache
def webhooks(version: str) -> tuple[Recorded, ...]:
    lines = (_DIRECTORY / f"{version}.jsonl").read_text().splitlines()
    return tuple(_read(version, json.loads(line)) for line in lines)


def everything() -> tuple[Recorded, ...]:
    return tuple(one for version in VERSIONS for one in webhooks(version))


def _read(version: str, row: dict[str, Any]) -> Recorded:
    return Recorded(
        version=version,
        scenario=row["scenario"],
        wire=row["wire"],
        headers=tuple((name.encode(), value.encode()) for name, value in row["headers"]),
        body=base64.b64decode(row["body_b64"]),
    )
