"""Look for secrets where none may be: in files, in what was logged, and in what a test printed.

Every key pair that a test run makes is remembered where it is made (`remember_keys`), and those
that other processes made are read from the files whose affair they are. After the last test all
that tests left behind is searched, once: tokens as long as a secret are cut out and looked up, so
that it takes no longer with ten thousand secrets than with ten.
"""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from provisioner import model

MARKED = (b"an-admin-token-for-tests", b"v2-password")
"""Secrets that tests choose, and that no test may find anywhere."""
_HOLDS_KEYS = re.compile(rb"(?:S3_SECRET_KEY|aws_secret_access_key) ?= ?([^\s]{40})")
_TOKEN = re.compile(rb"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_OURS = (".env", ".env.local", "credentials")
_GIVEN = ("PROV_", "S3_")
"""How a file is named whose affair a given secret is: the setting's `…_FILE`."""
_ENGINES = ("ceph", "minio")
_LARGEST = 16 * 1024 * 1024


def remember_keys(secrets: set[bytes]) -> Callable[[], None]:
    """Note the secret of every key pair made from now on; return what ends it."""
    plain: Any = model.AccessKey.__init__

    def noting(self: model.AccessKey, id: str, secret: str) -> None:  # noqa: A002
        plain(self, id, secret)
        if _is_random(secret):
            secrets.add(secret.encode())

    def forget() -> None:
        model.AccessKey.__init__ = plain  # type: ignore[method-assign]

    model.AccessKey.__init__ = noting  # type: ignore[method-assign]
    return forget


def _is_random(secret: str) -> bool:
    """Tell a secret that was drawn from one that a test wrote down."""
    return len(secret) == 40 and len(set(secret)) > 12 and secret.isascii()


def files(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Read what lies below a folder; an engine's own storage is left out."""
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts
        if any(part.startswith(_ENGINES) for part in inside[:1]) or path.is_symlink():
            continue
        try:
            if path.is_file() and path.stat().st_size <= _LARGEST:
                yield path, path.read_bytes()
        except OSError:  # a test took its own rights away
            continue


def held(path: Path, body: bytes) -> set[bytes]:
    """Return the secrets in a file whose affair they are: `.env`, `.aws/credentials`."""
    if path.name not in _OURS:
        return set()
    return {each for each in _HOLDS_KEYS.findall(body) if _is_random(each.decode("latin-1"))}


def tokens(body: bytes, secrets: set[bytes]) -> set[bytes]:
    """Return the secrets that stand in a text, in plain."""
    found = {each for each in MARKED if each in body}
    return found | (set(_TOKEN.findall(body)) & secrets)


def search(root: Path, texts: Iterable[tuple[str, bytes]], secrets: set[bytes]) -> list[str]:
    """Return where a secret stands that should not; never the secret."""
    left = list(files(root))
    known = secrets.union(*(held(path, body) for path, body in left))
    found = [
        str(path)
        for path, body in left
        if path.name not in _OURS and not path.name.startswith(_GIVEN) and tokens(body, known)
    ]
    return found + [where for where, text in texts if tokens(text, known)]


def spellings(secret: str) -> set[bytes]:
    """Return how a secret looks in the encodings that texts are passed on in."""
    raw = secret.encode()
    basic = (base64.b64encode(b"%s%s" % (pad, raw))[4:-4] for pad in (b"", b"x", b"xx"))
    return {raw, urllib.parse.quote(secret, safe="").encode(), raw.hex().encode(), *basic}
