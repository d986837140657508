"""Keep account of which product a folder in the output folder belongs to.

Nothing in a workspace is trusted as state, so the account lies beside them, one small file for
each namespace in `.provisioner/names/`. A claim is written before a new workspace is swapped in,
with the identity (device and inode) of the staged folder, and confirmed after: until then only
that very folder counts as the product's, so that somebody else's folder that appears in between
is never taken for ours, and a crash in between loses nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from provisioner import errors, names
from provisioner.workspace import ground

PRIVATE = ".provisioner"
"""The provisioner's own folder; no namespace starts with a dot."""

_NAMES = "names"
_MODE = 0o600


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Whose folder a name is."""

    product_id: str
    folder: str
    """Identity of the folder that was staged for it."""
    confirmed: bool = False
    """The swap is known to have happened: whatever has the name now is the product's."""


def owner(root: ground.Tree, namespace: str) -> str | None:
    """Return whose a folder is: "" for a foreign one, None for none or an empty one."""
    try:
        with _opened(root, namespace) as workspace:
            if workspace.is_empty():
                return None
            identity = workspace.identity
    except FileNotFoundError:
        return None
    except ground.ChangedByUser:
        return ""
    claim = read(root, namespace)
    if claim is None or not (claim.confirmed or claim.folder == identity):
        return ""
    return claim.product_id


def _opened(root: ground.Tree, namespace: str) -> ground.Tree:
    """Open a folder; one that is closed is opened up only where we know whose it is."""
    try:
        return root.folder(namespace, mends=False)
    except PermissionError as exc:  # pragma: no cover - root never meets this
        if read(root, namespace) is None:
            raise ground.ChangedByUser(namespace) from exc
        return root.folder(namespace)


def read(root: ground.Tree, namespace: str) -> Claim | None:
    """Return the claim to a name, if there is one."""
    try:
        with root.own_folder(PRIVATE, make=False) as private:
            file = private.read(f"{_NAMES}/{namespace}")
    except FileNotFoundError:
        return None
    return None if file is None else Claim(**json.loads(file.data))


def lying(root: ground.Tree, product_id: str) -> tuple[str, ...]:
    """Return the names under which folders of a product lie."""
    try:
        with (
            root.own_folder(PRIVATE, make=False) as private,
            private.own_folder(_NAMES, make=False) as claims,
        ):
            claimed = [name for name in claims.names() if names.is_namespace(name)]
    except FileNotFoundError:
        return ()
    return tuple(name for name in claimed if owner(root, name) == product_id)


def write(private: ground.Tree, namespace: str, claim: Claim) -> None:
    """Replace the claim to a name, durable."""
    with private.own_folder(_NAMES) as claims:
        claims.lock(wait=True)  # nobody sweeps what is being written
        claims.write(namespace, json.dumps(asdict(claim)).encode(), _MODE)


def confirm(root: ground.Tree, namespace: str) -> None:
    """Settle a claim whose maker died between the swap and its confirmation."""
    claim = read(root, namespace)
    if claim and not claim.confirmed:
        with root.own_folder(PRIVATE) as private:
            write(private, namespace, replace(claim, confirmed=True))


def not_ours(namespace: str) -> errors.NotOurs:
    """Say that a folder is somebody else's."""
    return errors.NotOurs("the folder is not this product's", namespace=namespace)


def drop(private: ground.Tree, namespace: str) -> None:
    """Forget the claim to a name."""
    private.remove(f"{_NAMES}/{namespace}")


def sweep(private: ground.Tree) -> None:
    """Remove what writers that died left half-written."""
    with private.own_folder(_NAMES) as claims:
        claims.lock(wait=True)
        for name in claims.unfinished():
            claims.remove(name)
