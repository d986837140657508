"""Publish a product's files as a worker of a replica does, and stop like a machine that stalls.

Run as `python -m tests.stalling_writer URL FOLDER MOMENT`: leases the product, stops itself by
SIGSTOP at the moment (`before` it begins to write, or at the `rename` of `.env`), and goes on when
it is continued. Ends with 0 if all was done, with 3 if the lease was lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from provisioner import errors, model, store, workqueue, workspace
from provisioner.seal import Seal
from provisioner.steps import protocol
from provisioner.steps import workspace as workspace_step
from tests import builders as b
from tests import opened_store

KEY = model.Key.product(b.SALES)
LEASE_LOST = 3


class Writer:
    """One replica's worker, as far as it writes workspaces."""

    def __init__(self, held: store.Store, folder: Path) -> None:
        self.store = held
        self.queue = workqueue.SqlWorkqueue(held.database, clock=opened_store.now)
        folders = workspace.CookiecutterWorkspaces(
            output=folder / "products", template=folder / "template"
        )
        around = workspace_step.Surroundings(
            endpoint="http://127.0.0.1:9000",
            bucket="lake",
            region="us-east-1",
            root="/workspace/products",
            extension_directory="/opt/duckdb",
            portal_url="http://127.0.0.1:8080",
        )
        self._step = workspace_step.WorkspaceStep(folders, around)

    def lease(self) -> model.Lease:
        lease = self.queue.lease("w")
        assert lease is not None
        return lease

    def write(self, verb: str, key_id: str, lease: model.Lease) -> None:
        """Write the files that name a key, and note it."""
        found = self.store.records.load(KEY)
        record = found or model.Record(key=KEY, namespace="sales")
        held = model.Credentials(principal="dp", current=model.AccessKey(key_id, "s" * 40))
        run = protocol.Run(
            desired=model.Desired(
                key=KEY, phase=model.Phase.ACTIVE, product=b.a_product(), grants=()
            ),
            record=dataclasses.replace(record, credentials=held),
            lease=lease,
            records=self.store.records,
            clock=opened_store.now,
            checkpoint=lambda _effect: None,  # what a replica knows by itself is not enough
        )
        self._step.apply(model.Action(step="workspace", verb=verb, subject="sales"), run)


@contextlib.contextmanager
def writer(url: str, folder: Path, key: str) -> Iterator[Writer]:
    held = store.open_store(url, Seal([key]), clock=opened_store.now)
    with contextlib.closing(held):
        yield Writer(held, folder)


def _stop_at_the_rename(event: str, arguments: tuple[object, ...]) -> None:
    if event == "os.rename" and arguments[1] == ".env":
        os.kill(os.getpid(), signal.SIGSTOP)


def main() -> None:
    url, folder, moment, key = sys.argv[1:]
    with writer(url, Path(folder), key) as stalling:
        lease = stalling.lease()
        if moment == "before":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            sys.addaudithook(_stop_at_the_rename)
        try:
            stalling.write(workspace_step.PUBLISH, "AKIASTALLED", lease)
        except errors.LeaseLost:
            sys.exit(LEASE_LOST)


if __name__ == "__main__":
    main()
