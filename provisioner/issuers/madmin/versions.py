"""Say which releases of MinIO and rustfs are known to be unsafe, from what they say of themselves.

An engine that does not tell its release, as one that was built from source, is warned about.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

MINIO_SINCE = "RELEASE.2025-10-15"
MINIO_ADVISORY = "CVE-2025-62506"
RUSTFS_SINCE = "1.0.0-beta.12"
_RELEASE = re.compile(r"(?:RELEASE\.)?(\d{4}-\d\d-\d\d)T[\d:-]{8}Z")
_SEMANTIC = re.compile(r"(?:refs/tags/)?v?(\d+)\.(\d+)\.(\d+)(?:-(alpha|beta|rc)\.?(\d+))?")
_STAGES = {"alpha": 0, "beta": 1, "rc": 2, None: 3}


class Verdict(Enum):
    """What is known of a release."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    UNKNOWN = "unknown"


def of_minio(version: str) -> Verdict:
    """Judge a MinIO release by its day."""
    found = _RELEASE.fullmatch(version)
    if not found:
        return Verdict.UNKNOWN
    old = found[1] < MINIO_SINCE.removeprefix("RELEASE.")
    return Verdict.UNSAFE if old else Verdict.SAFE


def of_rustfs(version: str) -> Verdict:
    """Judge a rustfs release by its number."""
    found = _SEMANTIC.fullmatch(version)
    if not found:
        return Verdict.UNKNOWN
    return Verdict.UNSAFE if _order(found) < (1, 0, 0, _STAGES["beta"], 12) else Verdict.SAFE


def _order(found: re.Match[str]) -> tuple[int, ...]:
    major, minor, patch, stage, number = found.groups()
    return int(major), int(minor), int(patch), _STAGES[stage], int(number or 0)


def is_info(info: object) -> bool:
    """Tell whether an answer is what these engines say of themselves."""
    return isinstance(info, dict) and isinstance(info.get("servers"), list)


def is_rustfs(info: Any) -> bool:
    """Tell whether it is rustfs that says so, which answers at MinIO's routes as well."""
    return any("rustfs_env_vars" in server for server in _servers(info))


def named(info: Any) -> tuple[str, ...]:
    """Return what the servers call their releases; nothing where the engine does not tell."""
    told = {str(server.get("version", ""))[:80] for server in _servers(info)}
    return tuple(sorted(told))


def _servers(info: Any) -> list[dict[str, Any]]:
    return [each for each in info["servers"] if isinstance(each, dict)] if info else []
