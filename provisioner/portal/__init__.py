"""Read the portal's truth and write back to it, whatever its version.

Two APIs are spoken, `modern` (`/api/v2`) and `legacy` (release 0.4.2); `dialects` finds out which
one a portal has. `client` makes the calls, with a key or with a token from `oauth`; `wire` and
`assets` turn JSON into the model.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

import httpx

from provisioner import errors, model
from provisioner.portal import client, dialects, legacy, modern, oauth

_FINALIZER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

OAuthClient = oauth.OAuthClient


class HttpPortal:
    """Speak to one portal; implements `ports.PortalReader` and `ports.PortalWriter`.

    Without key and OAuth client nothing proves who calls; with both the key does. `transport`
    stands in for the network, of the token endpoint too; `clock` counts seconds.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None = None,
        oauth_client: oauth.OAuthClient | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_seconds: float = 10,
        attempts: int = 3,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        access = client.Access()
        if api_key is not None:
            access = client.ApiKey(api_key)
        elif oauth_client is not None:
            access = oauth.ClientCredentials(
                oauth_client, transport=transport, timeout_seconds=timeout_seconds, clock=clock
            )
        self._client = client.PortalClient(
            base_url=base_url,
            access=access,
            transport=transport,
            timeout_seconds=timeout_seconds,
            attempts=attempts,
            sleep=sleep,
            clock=clock,
        )
        self._modern = modern.ModernApi(self._client)
        self._dialects = dialects.Dialects(
            modern=self._modern, legacy=legacy.LegacyApi(self._client), clock=clock
        )

    def close(self) -> None:
        """Close every connection."""
        self._modern.close()
        self._client.close()

    def products(self) -> tuple[model.Product, ...]:
        """List every data product, by namespace."""
        return self._dialects.ask(lambda api: api.products())

    def explorations(self) -> tuple[model.Product, ...]:
        """List every exploration, by namespace; empty where this portal knows none."""
        return self._modern.explorations()

    def view(
        self, key: model.Key, *, listed: Mapping[str, model.Product] | None = None
    ) -> model.PortalView | None:
        """Read all about one product; None where the portal is sure that it does not exist.

        What was just `listed`, by id, is not asked for again where that saves a request.
        """
        if key.kind is model.Kind.EXPLORATION:
            return self._modern.view(key, listed or {})
        return self._dialects.ask(lambda api: api.view(key, listed or {}))

    def consumers(self, producer: model.Key, port_id: str) -> tuple[model.Link, ...]:
        """List the links of every status on one output port; empty where the port is gone."""
        return self._dialects.ask(lambda api: api.consumers(producer, port_id))

    def add_finalizer(self, key: model.Key, name: str) -> None:
        """Ask the portal to wait for us before it deletes the product."""
        self._modern.add_finalizer(key, _checked(name))

    def remove_finalizer(self, key: model.Key, name: str) -> None:
        """Let the portal go on; a product or finalizer that is gone is success."""
        self._modern.remove_finalizer(key, _checked(name))

    def set_lifecycle(self, key: model.Key, name: str) -> bool:
        """Set the lifecycle by name, leaving all else; False where the portal has no such name."""
        return self._dialects.ask(lambda api: api.set_lifecycle(key, name))

    def register_asset(self, key: model.Key, location: model.Location) -> str | None:
        """Return the id of the S3 technical asset for a prefix, made if it is not there."""
        return self._dialects.ask(lambda api: api.register_asset(key, location))


def _checked(name: str) -> str:
    """Refuse a name that the portal would take and never find again for its removal."""
    if not _FINALIZER.fullmatch(name):
        raise errors.NameRejected("a finalizer is named with letters, digits and ._- only")
    return name
