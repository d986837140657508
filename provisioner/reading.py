"""Read what is wanted of one product, and what is known of it: each run begins here.

The reconciler acts on it, the observer shows it, and resync compares its digest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime

from provisioner import model, names, ports
from provisioner.domain import grants, plan, revival


class Readings:
    """Turn the portal's words and the store's into a desired state and a record."""

    def __init__(
        self,
        *,
        portal: ports.PortalReader,
        records: ports.Records,
        asks: ports.Asks,
        contracts: ports.Contracts,
        rules: plan.Rules,
        clock: ports.Clock,
        template: Callable[[], str] = lambda: "",
        restored_at: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._restored_at = restored_at
        self._portal = portal
        self._records = records
        self._asks = asks
        self._contracts = contracts
        self._rules = rules
        self._clock = clock
        self._template = template

    def view(
        self, key: model.Key, listed: Mapping[str, model.Product] | None = None
    ) -> model.PortalView | None:
        """Read the portal."""
        return self._portal.view(key, listed=listed)

    def asked(self, key: model.Key) -> Mapping[model.Ask, datetime]:
        """Read what a person asked for."""
        return self._asks.of(key)

    def desired(
        self, key: model.Key, listed: Mapping[str, model.Product] | None = None
    ) -> model.Desired:
        """Read the portal, but for what was just listed; compute what the product should have."""
        return self.judged(key, self.view(key, listed))

    def judged(
        self, key: model.Key, view: model.PortalView | None, *, foreseeing: bool = False
    ) -> model.Desired:
        """Compute what follows from a reading of the portal.

        A link opens nothing until its producer has a prefix of its own. Foreseeing, producers
        that the store does not know yet count as provisioned.
        """
        namespaces: dict[str, tuple[str, ...]] = {}
        for producer in view.producers if view else ():
            known = self._records.load(model.Key.product(producer.id))
            if known is not None and known.prefix:
                namespaces[producer.id] = _open_to_consumers(known, producer)
            elif known is None and foreseeing:
                namespaces[producer.id] = (producer.namespace,)
        wanted = plan.desired(
            key,
            view,
            rules=self._rules,
            namespaces=namespaces,
            taken=self._taken(view, namespaces) if view else (),
            template=self._template(),
            seen=self._seen(view) if view else {},
            now=self._clock(),
        )
        return dataclasses.replace(wanted, asks=self.asked(key))

    def _seen(self, view: model.PortalView) -> Mapping[str, model.SeenPort]:
        """Read what was last seen of its own ports and of those that it asked for."""
        approved = (each for each in view.links if each.status is model.LinkStatus.APPROVED)
        own = (port.id for port in view.ports)
        return self._contracts.of({*own, *(link.port_id for link in approved)})

    def _taken(
        self, view: model.PortalView, namespaces: Mapping[str, tuple[str, ...]]
    ) -> frozenset[str]:
        """Return the folders of our bucket that assets name and that are some product's prefix.

        The dead count too: their data and their mark are still there. So do earlier names of the
        view's own producers, whose `namespaces` these are.
        """
        taken = {product.namespace for product in view.producers}
        taken |= {each for held in namespaces.values() for each in held}
        for folder in grants.first_folders(view, self._rules.bucket) - taken:
            known = self._records.by_namespace(folder)
            if known is not None and known.key.produces:
                taken.add(folder)
        return frozenset(taken)

    def record(self, wanted: model.Desired) -> model.Record | None:
        """Load the record, or begin one for a product seen for the first time.

        As long as nothing bears its name, the record follows the portal's. None for what is
        going without ever having been ours.
        """
        product, known = wanted.product, self._records.load(wanted.key)
        if product is None:
            return known
        if known is None:
            first = model.Record(key=wanted.key, namespace=product.namespace, name=product.name)
            if wanted.phase is not model.Phase.GONE:
                older = revival.may_be_older(self._restored_at(), self._clock())
                return dataclasses.replace(first, restored=older)
            ours = self._rules.finalizer in (product.finalizers or ())
            return _as_if_provisioned(first) if ours else None
        bears = known.prefix or known.workspace.rendered or known.credentials.principal
        if bears or known.released_at or known.namespace == product.namespace:
            return known
        # A run that stopped may have marked the prefix of the old name.
        left = model.Former(namespace=known.namespace, closed=True)
        former = (*known.former, left) if names.is_namespace(known.namespace) else known.former
        return dataclasses.replace(known, namespace=product.namespace, former=former)


def _open_to_consumers(known: model.Record, producer: model.Product) -> tuple[str, ...]:
    """Return the namespaces of a producer in which its consumers may be granted something.

    Of a record that came out of a backup only the name that the portal gives the producer: other
    prefixes may have become somebody else's since.
    """
    if not known.restored:
        return known.namespaces
    return tuple(each for each in known.namespaces if each == producer.namespace)


def _as_if_provisioned(record: model.Record) -> model.Record:
    """Assume all that can be found by its name: a store was lost, but our finalizer is there.

    Releasing what is not there is success; without this the portal would wait for us for ever.
    """
    if not names.is_namespace(record.namespace):
        return record
    principal = names.principal(record.namespace, record.key.id)
    return dataclasses.replace(
        record,
        credentials=model.Credentials(principal=principal),
        workspace=model.WorkspaceState(rendered=True),
    )
