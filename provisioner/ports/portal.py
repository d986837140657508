"""Read the portal, and write back to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from provisioner import model


class PortalReader(Protocol):
    """Read the portal's truth."""

    def products(self) -> tuple[model.Product, ...]:
        """List every data product; raise `PortalUnavailable` unless the list is whole."""

    def explorations(self) -> tuple[model.Product, ...]:
        """List every exploration; empty where this portal knows none.

        Raise `PortalUnavailable` unless the list is whole.
        """

    def view(
        self, key: model.Key, *, listed: Mapping[str, model.Product] | None = None
    ) -> model.PortalView | None:
        """Read all about one product or exploration; None where the portal is sure that it is gone.

        What was just `listed`, by id, need not be asked for again: good enough to compare with.
        Only a 404, or portal < 0.7's 500 confirmed by a 404 of its `/output_ports`, is sure.
        401, 403 and every other failure raise.
        """

    def consumers(self, producer: model.Key, port_id: str) -> tuple[model.Link, ...]:
        """List the links of every status on one output port; empty where the port is gone."""


class PortalWriter(Protocol):
    """Write back to the portal; each call is idempotent."""

    def add_finalizer(self, key: model.Key, name: str) -> None:
        """Ask the portal to wait for us before it deletes the product."""

    def remove_finalizer(self, key: model.Key, name: str) -> None:
        """Let the portal go on; a product or finalizer that is gone is success."""

    def set_lifecycle(self, key: model.Key, name: str) -> bool:
        """Set the lifecycle by name, leaving all else; False where the portal has no such name."""

    def register_asset(self, key: model.Key, location: model.Location) -> str | None:
        """Return the id of the S3 technical asset for a prefix, made if it is not there.

        None where this portal has no S3 service configured.
        """
