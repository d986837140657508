"""Read where git remotes are."""

from __future__ import annotations

import re

from provisioner.settings import types

_REMOTE = re.compile(
    r"(?:(?:https?|ssh)://(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9.-]+(?::[0-9]+)?|file://)"
    r"(?:/[A-Za-z0-9._~+=,@{}-]+)+"
)


def git_remote(value: str) -> str:
    """Return the URL pattern of git remotes; whoever reads `.git/config` sees it."""
    with_user = value.startswith("http") and "@" in value.split("/")[2]
    if (
        not _REMOTE.fullmatch(value)
        or with_user
        or value.count("{namespace}") != 1
        or set("{}") & set(value.replace("{namespace}", ""))
        or "/../" in value
    ):
        raise types.Unfit(
            "an https, http, ssh or file URL with {namespace} in it once, without a password"
        )
    return value
