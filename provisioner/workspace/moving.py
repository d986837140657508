"""Change whose a workspace is, or where it lies, so that a crash anywhere loses neither.

The claim to the new name is written before the rename and holds the folder's identity: until it
is confirmed only that very folder counts as the product's. The old claim goes last.
"""

from __future__ import annotations

from dataclasses import replace

from provisioner import errors
from provisioner.workspace import claims, ground, owned

_ARCHIVE = "archive"


def move(root: ground.Tree, private: ground.Tree, old: str, new: str, product_id: str) -> None:
    """Rename a workspace; `NotOurs` where something has the name, `Conflict` where it is gone."""
    private.lock(wait=True)
    there = claims.owner(root, new)
    if there not in (None, product_id):
        raise claims.not_ours(new)
    if there is None:
        if claims.owner(root, old) != product_id:
            raise errors.Conflict("the workspace is gone", namespace=old)
        _rename(root, private, old, new, product_id)
    claims.confirm(root, new)
    left = claims.read(root, old)
    if left is not None and left.product_id == product_id:
        claims.drop(private, old)


def _rename(root: ground.Tree, private: ground.Tree, old: str, new: str, product_id: str) -> None:
    with root.folder(old) as workspace:
        claim = claims.Claim(product_id=product_id, folder=workspace.identity)
    # From here on the claim to the old name is for this folder alone, too.
    claims.write(private, old, claim)
    claims.write(private, new, claim)
    try:
        root.move(old, root, new)
    except FileExistsError as exc:
        claims.drop(private, new)
        raise claims.not_ours(new) from exc


def adopt(root: ground.Tree, private: ground.Tree, namespace: str, product_id: str) -> None:
    """Claim a folder that is there; a link or a file of that name is nobody's to adopt."""
    private.lock(wait=True)
    try:
        with root.folder(namespace) as workspace:
            claim = claims.Claim(product_id=product_id, folder=workspace.identity)
    except ground.ChangedByUser as exc:
        raise claims.not_ours(namespace) from exc
    claims.write(private, namespace, replace(claim, confirmed=True))


def archive(root: ground.Tree, private: ground.Tree, namespace: str, product_id: str) -> bool:
    """Put a workspace out of reach, without its secrets; False where the folder is not its own."""
    there = claims.owner(root, namespace) == product_id
    if there:
        with root.folder(namespace) as workspace:
            owned.retract(workspace)
        with private.own_folder(_ARCHIVE) as archived:
            root.move(namespace, archived, _free_name(archived, product_id))
    private.remove_all(product_id)
    claims.drop(private, namespace)
    return there


def _free_name(archived: ground.Tree, product_id: str) -> str:
    count, name = 1, product_id
    while archived.holds(name):
        count += 1
        name = f"{product_id}.{count}"
    return name


def purge(private: ground.Tree, product_id: str) -> None:
    """Delete every workspace that was archived for a product."""
    with private.own_folder(_ARCHIVE, make=False) as archived:
        for name in archived.names():
            if name.partition(".")[0] == product_id:
                archived.remove_all(name)
