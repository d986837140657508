"""Let one process at a time write for a product, however many replicas share the output folder.

A lease alone cannot: a process that is stopped between its last look at the lease and a rename
would, once it goes on, put an old `.env` over a newer one. So whoever writes holds a lock of the
product's, and looks at its lease with the lock in hand. The kernel frees it if we die. The output
folder must be on a file system whose `flock` holds between all replicas.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from provisioner import errors
from provisioner.workspace import claims, ground

_FOLDER = "turns"
_TRIES = 10
_RETRY_SECONDS = 2.0


@contextlib.contextmanager
def take(root: ground.Tree, product_id: str) -> Iterator[None]:
    """Hold a product's lock; raise `Conflict` where another process or thread does."""
    with (
        root.own_folder(claims.PRIVATE) as private,
        private.own_folder(_FOLDER) as folder,
        _locked(folder, product_id),
    ):
        try:
            yield
        finally:
            folder.remove_all(product_id)  # what is locked later is another folder


def _locked(folder: ground.Tree, product_id: str) -> ground.Tree:
    """Lock the folder that has the name now: who held it last has removed it before letting go."""
    for _ in range(_TRIES):
        with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):
            turn = stack.enter_context(folder.own_folder(product_id))
            if not turn.lock(wait=False):
                break
            with folder.own_folder(product_id, make=False) as named:
                if named.identity == turn.identity:
                    stack.pop_all()
                    return turn
    raise errors.Conflict(
        "another process is writing this workspace",
        delay_seconds=_RETRY_SECONDS,
        product_id=product_id,
    )
