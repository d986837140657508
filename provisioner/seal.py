"""Seal secrets before they are stored, and open them again: the only module with cryptography.

Fernet keys come from `PROV_SEALING_KEYS` or from a file that is made at the first start. The first
key seals, all of them open, so a key is replaced by putting the new one in front.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography import fernet

from provisioner import errors, fernet_keys

_EXPECTS = "Fernet keys, each exactly 44 URL-safe base64 characters"
# Nothing does this by itself: a mount that was forgotten must not cost every product its keys.
_WAY_OUT = (
    "where no copy of it is left, provisioner serve --lost-sealing-key gives every product "
    "a new S3 key"
)
_OTHERS = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


class Seal:
    """Seal text with the first of several keys, open it with any of them.

    Raise ValueError for what is no key: the library itself would take `k1,k2` for k1.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        fernet_keys.check(tuple(keys))
        self._each = [fernet.Fernet(key) for key in keys]

    def seal(self, text: str) -> str:
        """Return a token that only the first key opens."""
        return self._each[0].encrypt(text.encode()).decode("ascii")

    def open(self, token: str) -> str:
        """Return what was sealed; raise `ConfigurationError` where no key opens it."""
        found = self._found(token)
        if found is None:
            raise _problem(f"a key that opens what the store holds; {_WAY_OUT}")
        return found[1]

    def position(self, token: str) -> int | None:
        """Return which key opens a token, 0 for the one that seals; None where none does."""
        found = self._found(token)
        return None if found is None else found[0]

    def _found(self, token: str) -> tuple[int, str] | None:
        """Try one key after the other, each alone."""
        for position, key in enumerate(self._each):
            with contextlib.suppress(fernet.InvalidToken):
                return position, key.decrypt(token.encode()).decode()
        return None


def is_open_to_others(path: Path) -> bool:
    """Tell whether more than its owner may read or write a key file; False where there is none."""
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


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
        raise _problem(f"the key file that sealed what the store holds; it is missing; {_WAY_OUT}")
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
