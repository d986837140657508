"""Seal secrets before they are stored, and open them again: the only module with cryptography.

Fernet keys come from `PROV_SEALING_KEYS` or from a file that is made at the first start. The first
key seals, all of them open, so a key is replaced by putting the new one in front.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography import fernet

from provisioner import errors, fernet_keys

_EXPECTS = "Fernet keys, each exactly 44 URL-safe base64 characters"


class Seal:
    """Seal text with the first of several keys, open it with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = fernet.MultiFernet([fernet.Fernet(key) for key in keys])

    def seal(self, text: str) -> str:
        """Return a token that only our keys open."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def open(self, token: str) -> str:
        """Return what was sealed; raise `ConfigurationError` where no key opens it."""
        try:
            return self._fernet.decrypt(token.encode()).decode()
        except fernet.InvalidToken as exc:
            raise _problem("a key that opens what the store holds") from exc


def load_or_create(path: Path, *, may_create: bool) -> Seal:
    """Read the key file, or make it (mode 0600) where it is missing and `may_create`.

    Raise `ConfigurationError` where it may not be made, or holds something else than keys: with
    secrets already sealed, a new key would only hide that the old one is lost.
    """
    try:
        text = _read(path)
        if text is None and may_create:
            _create(path)
            text = _read(path)
    except (OSError, UnicodeDecodeError) as exc:
        raise _problem("a key file that can be read, or made where there is none") from exc
    if text is None:
        raise _problem("the key file that sealed what the store holds; it is missing")
    try:
        return Seal(fernet_keys.parse(text))
    except ValueError:
        # The cause is not chained: nothing that was read from this file may reach a traceback.
        raise _problem(f"{_EXPECTS}; the key file holds something else") from None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        return None


def _create(path: Path) -> None:
    """Make the file in whole or not at all; where somebody else was faster, theirs stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(fernet.Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _problem(expectation: str) -> errors.ConfigurationError:
    return errors.ConfigurationError((f"PROV_SEALING_KEYS: expects {expectation}",))
