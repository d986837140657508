"""Read Fernet keys from text: from a setting and from the key file alike."""

from __future__ import annotations

import re

# 43 characters and one `=` are 32 bytes, whatever the characters: there is no other check to make.
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


def parse(text: str) -> tuple[str, ...]:
    """Read keys separated by commas or newlines; blank lines and those with `#` are ignored.

    Raise ValueError, which never holds a key, for anything else. Each is looked at by itself:
    the library takes `k1,k2` for k1 alone.
    """
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    keys = tuple(piece.strip() for line in lines for piece in line.split(",") if piece.strip())
    check(keys)
    return keys


def check(keys: tuple[str, ...]) -> None:
    """Raise ValueError, which never holds a key, unless there are keys and each is one alone."""
    if not keys:
        raise ValueError("there is no key")
    for position, key in enumerate(keys, start=1):
        if not _KEY.fullmatch(key):
            raise ValueError(f"key {position} is not 44 URL-safe base64 characters")
