"""Read one setting's text: every parser returns a value or says what it expects.

A parser raises `Unfit` with an expectation, never with the text: a line on stderr ends up in
logs, and people paste secrets into the wrong variable. What goes into a workspace's `.env` is
held to the alphabet that every reader of such a file agrees on, here, at the start, and not at
the first product.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from provisioner import fernet_keys

_E = TypeVar("_E", bound=StrEnum)

_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]{2,45}\]")
_BARE_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?|[0-9A-Fa-f:.]{2,45}")
_URL_PATH = re.compile(r"(/[A-Za-z0-9_.~%@:+,=-]*)*")
_URL_QUERY = re.compile(r"[A-Za-z0-9_.~%@:+,=&/?-]*")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")
_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_PATTERN = re.compile(_BUCKET + r"/([A-Za-z0-9*?][A-Za-z0-9_.=*?-]*/)+")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_ROLE = re.compile(r"[A-Za-z0-9+=,.@_-]*\{namespace\}[A-Za-z0-9+=,.@_-]*")
_WHSEC = "whsec_"


class TemplateUpdates(StrEnum):
    """How a changed template reaches workspaces that exist."""

    AUTO = "auto"
    MANUAL = "manual"


class Issuer(StrEnum):
    """Which kind of engine makes the keys."""

    AUTO = "auto"
    IAM = "iam"
    RUSTFS = "rustfs"
    MINIO = "minio"
    RGW = "rgw"


class GrantScope(StrEnum):
    """What an approved link opens."""

    OUTPUT_PORT = "output_port"
    PRODUCT = "product"


class OnDelete(StrEnum):
    """What becomes of a deleted product's data and workspace."""

    ARCHIVE = "archive"
    PURGE = "purge"


class Mode(StrEnum):
    """Whether the service acts, or only says what it would do."""

    APPLY = "apply"
    OBSERVE = "observe"


class LogLevel(StrEnum):
    """From which weight on something is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How the log is written."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class Unfit(Exception):
    """Say what a setting expects; the message completes "NAME expects …"."""


def text(value: str) -> str:
    """Return one line of text, possibly empty."""
    if not value.isprintable():
        raise Unfit("one line of text")
    return value


def key(value: str) -> str:
    """Return an access key, secret or scope: printable ASCII without line breaks."""
    if not re.fullmatch(r"[\x20-\x7e]+", value):
        raise Unfit("one line of printable ASCII")
    return value


def boolean(value: str) -> bool:
    """Return what a word for yes or no says."""
    word = _WORDS.get(value.strip().lower())
    if word is None:
        raise Unfit("true or false")
    return word


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within both bounds."""

    def parse(value: str) -> int:
        digits = value.strip()
        # Ten digits hold every bound; int() itself refuses very long numbers with another error.
        if not re.fullmatch(r"[0-9]{1,10}", digits) or not low <= int(digits) <= high:
            raise Unfit(f"a whole number from {low} to {high}")
        return int(digits)

    return parse


def one_of(choices: type[_E]) -> Callable[[str], _E]:
    """Return a parser of one of an enum's words, in any case."""

    def parse(value: str) -> _E:
        try:
            return choices(value.strip().lower())
        except ValueError:
            raise Unfit(f"one of {', '.join(choices)}") from None

    return parse


def _url(value: str, *, with_path: bool, with_query: bool) -> str:
    """Return a URL in parts that hold nothing surprising, or raise ValueError."""
    stripped = value.strip()
    parts = urlsplit(stripped)
    host, colon, port = parts.netloc.rpartition(":")
    if not colon or parts.netloc.endswith("]"):
        host, port = parts.netloc, "80"
    fits = (
        parts.scheme in {"http", "https"}
        and _HOST.fullmatch(host)
        and re.fullmatch(r"[0-9]{1,5}", port)
        and 0 < int(port) < 65536
        and (_URL_PATH.fullmatch(parts.path) if with_path else parts.path in {"", "/"})
        and (_URL_QUERY.fullmatch(parts.query) if with_query else "?" not in stripped)
        and "#" not in stripped
        # urlsplit silently drops tabs and line breaks
        and stripped.isascii()
        and stripped.isprintable()
    )
    if not fits:
        raise ValueError
    return f"{parts.scheme}{stripped[len(parts.scheme) :]}".rstrip("/")


def url(value: str) -> str:
    """Return a base URL, with or without a path, without its trailing slash."""
    try:
        return _url(value, with_path=True, with_query=False)
    except ValueError:
        raise Unfit("an http or https URL without user, query or fragment") from None


def token_url(value: str) -> str:
    """Return the URL of a token endpoint; some carry a query."""
    try:
        return _url(value, with_path=True, with_query=True)
    except ValueError:
        raise Unfit("an http or https URL without user or fragment") from None


def endpoint(value: str) -> str:
    """Return an endpoint as S3 clients take it: scheme, host and port alone."""
    try:
        return _url(value, with_path=False, with_query=False)
    except ValueError:
        raise Unfit("an http or https URL of a host and port, without user or path") from None


def host(value: str) -> str:
    """Return an address or name to listen on."""
    if not _BARE_HOST.fullmatch(value.strip()):
        raise Unfit("an IP address or host name")
    return value.strip()


def path(value: str) -> Path:
    """Return a path."""
    if not value.strip() or not value.isprintable():
        raise Unfit("a path")
    return Path(value)


def plain_path(value: str) -> Path:
    """Return a path that may stand in `.env`."""
    if not _PLAIN_PATH.fullmatch(value):
        raise Unfit("a path of letters, digits and _ . / : @ % + = , - alone: it goes into .env")
    return Path(value)


def bucket(value: str) -> str:
    """Return a bucket's name."""
    if not re.fullmatch(_BUCKET, value) or ".." in value:
        raise Unfit("a bucket name: 3 to 63 of a-z 0-9 . -")
    return value


def region(value: str) -> str:
    """Return a region's name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise Unfit("a region name of letters, digits, _ and -")
    return value


def items(value: str) -> tuple[str, ...]:
    """Split at commas and line breaks; what is blank is dropped."""
    return tuple(item.strip() for item in re.split(r"[,\r\n]", value) if item.strip())


def webhook_secrets(value: str) -> tuple[str, ...]:
    """Return HMAC secrets; those that start with `whsec_` must hold base64."""
    secrets = items(value)
    if not secrets or not all(each.isprintable() and _whsec_fits(each) for each in secrets):
        raise Unfit("secrets, comma- or newline-separated; after whsec_ only base64")
    return secrets


def _whsec_fits(secret: str) -> bool:
    """Tell whether a secret is plain, or a Standard Webhooks one that can be decoded."""
    if not secret.startswith(_WHSEC):
        return True
    try:
        return bool(base64.b64decode(secret.removeprefix(_WHSEC), validate=True))
    except (binascii.Error, ValueError):
        return False


def basic_auth(value: str) -> str:
    """Return `user:password`."""
    user, _, password = value.partition(":")
    if not (user and password and value.isprintable()):
        raise Unfit("user:password")
    return value


def tokens(value: str) -> tuple[str, ...]:
    """Return bearer tokens."""
    found = items(value)
    if not found or not all(_TOKEN.fullmatch(each) for each in found):
        raise Unfit("tokens of printable ASCII without spaces, comma- or newline-separated")
    return found


def sealing_keys(value: str) -> tuple[str, ...]:
    """Return Fernet keys; blank lines and those that start with `#` are ignored."""
    try:
        return fernet_keys.parse(value)
    except ValueError as exc:
        raise Unfit(
            "Fernet keys of exactly 44 URL-safe characters, comma- or newline-separated"
        ) from exc


def locations(value: str) -> tuple[str, ...]:
    """Return `bucket/prefix/` patterns, in which `*` and `?` match."""
    patterns = items(value)
    if not all(_PATTERN.fullmatch(each) for each in patterns):
        raise Unfit("bucket/prefix/ patterns that end in /, comma- or newline-separated")
    return patterns


def role_name(value: str) -> str:
    """Return a template of role names."""
    if not _ROLE.fullmatch(value):
        raise Unfit("a role name with {namespace} in it once, else letters, digits and +=,.@_-")
    return value


def database_url(value: str) -> str:
    """Return the URL of the store: a SQLite file, or PostgreSQL."""
    stripped = value.strip()
    file = stripped.removeprefix("sqlite:///")
    is_file = file not in {stripped, "", "/"} and not set("?#:") & set(file)
    server = re.fullmatch(r"postgresql\+psycopg://[^\s/#]*(/[^\s#]*)?", stripped)
    if not stripped.isprintable() or not (is_file or server):
        raise Unfit("sqlite:///path/of/a/file or postgresql+psycopg://user:password@host/name")
    return stripped
