"""Turn the portal's names into names that are safe where they are used.

The portal allows `^[a-z0-9+=,.@_-]{1,64}$` for namespaces, so `..` and `.env` are legal there.
A namespace enters folders, prefixes and policies only after `check_namespace`; narrower
alphabets get a slug and a piece of the id, so that two products never share a name.
"""

from __future__ import annotations

import re

from provisioner import errors

_NAMESPACE = re.compile(r"[a-z0-9_][a-z0-9+=,.@_-]{0,63}")
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]*")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_ROLE = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_SLUG_LENGTH = 40


def is_namespace(text: str) -> bool:
    """Tell whether a namespace may name a folder, a prefix and a policy resource."""
    return _NAMESPACE.fullmatch(text) is not None


def check_namespace(text: str) -> str:
    """Return the namespace, or raise `errors.NameRejected`."""
    if not is_namespace(text):
        raise errors.NameRejected(
            "the namespace must match ^[a-z0-9_][a-z0-9+=,.@_-]{0,63}$", namespace=ascii(text)[:80]
        )
    return text


def prefix(namespace: str) -> str:
    """Return the key prefix of a namespace: it always ends in `/`."""
    return f"{check_namespace(namespace)}/"


def port_prefix(producer: str, port: str) -> str:
    """Return the key prefix of an output port, below its producer's."""
    return f"{check_namespace(producer)}/{check_namespace(port)}/"


def is_asset_path(path: str) -> bool:
    """Tell whether every segment of a technical asset's path is plain.

    Empty segments, dots alone, wildcards and variables are live in policies and paths.
    """
    segments = path.split("/")
    return all(_SEGMENT.fullmatch(segment) for segment in segments)


def is_bucket(text: str) -> bool:
    """Tell whether nothing in a bucket's name is live in a policy."""
    return _BUCKET.fullmatch(text) is not None


def slug(text: str) -> str:
    """Reduce a name to `[a-z0-9-]`, at most 40 characters, never empty."""
    reduced = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    return reduced or "x"


def identifier(text: str) -> str:
    """Reduce a name to a SQL and Python identifier, `[a-z_][a-z0-9_]*`."""
    reduced = re.sub(r"[^a-z0-9_]", "_", text.lower())
    return reduced if re.match(r"[a-z_]", reduced) else f"_{reduced}"


def principal(namespace: str, product_id: str) -> str:
    """Name a product's principal at the engine; it keeps that name through a rename."""
    return f"dp-{slug(namespace)}-{product_id.replace('-', '')[:8]}"


def role(template: str, namespace: str) -> str:
    """Name a product's role after its namespace, whole; `NameRejected` where IAM has no such name.

    The portal fills the namespace into a name of its own, so a shorter one would not be found.
    """
    name = template.replace("{namespace}", check_namespace(namespace))
    if not _ROLE.fullmatch(name):
        raise errors.NameRejected(
            "the role's name is none that IAM has: at most 64 characters", role=name
        )
    return name


def input_name(producer: str, port: str) -> str:
    """Name an input as its consumer's SQL sees it: `<producer>__<port>`."""
    return re.sub(r"[^a-z0-9_]", "_", f"{producer}__{port}".lower())
