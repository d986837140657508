"""Be the people who work in the portal, and the portal that tells of it, once and never again.

Every change goes to the small portal's state first, then a delivery of it to whoever serves. The
sender remembers what was acknowledged: the service owes that, whatever dies. What was not
acknowledged nobody sends again.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from provisioner.demo.portal.entities import Refused
from provisioner.demo.portal.state import PortalState
from tests.acceptance.stand import ADMIN_TOKEN, SECRET
from tests.torture.fleet import Member

HINT = "PUT /api/v2/data_products/{id}/about"
_API = "/api/v2/data_products"
_TIMEOUT_SECONDS = 15.0
_PENDING_DELETIONS = 3
"""More at once would be held back by the guard against mass deletion, as they should."""


class Acknowledged:
    """What the service has promised."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.last: dict[str, datetime] = {}
        """When the last acknowledged delivery about each product was sent."""
        self.by_link: dict[str, datetime] = {}
        """The same of a consumer that only its link tells: owed as long as there is the link."""
        self.hints: Counter[str] = Counter()
        self.rotations: dict[str, datetime] = {}
        self.deliveries = 0
        self.lost = 0
        """Deliveries without acknowledgement: the service was away."""

    def note(self, sent_at: datetime, about: str, link: str, *, hint: bool) -> None:
        """Remember an acknowledgement."""
        with self._lock:
            self.deliveries += 1
            self.last[about] = max(sent_at, self.last.get(about, sent_at))
            self.hints[about] += hint
            if link:
                self.by_link[link] = max(sent_at, self.by_link.get(link, sent_at))

    def miss(self) -> None:
        """Remember that none came."""
        with self._lock:
            self.lost += 1


class Sender:
    """Send from one thread, over kept connections, to whoever of the members is there."""

    def __init__(self, members: list[Member], acks: Acknowledged, seed: int) -> None:
        self._members = members
        self._acks = acks
        self._draw = random.Random(seed)
        self._kept: dict[int, http.client.HTTPConnection] = {}

    def deliver(
        self,
        method: str,
        url: str,
        about: str,
        *,
        said: Any = None,
        link: str = "",
        hint: bool = False,
    ) -> bool:
        """Tell of a call, as wire v1 does; tell whether it was acknowledged.

        `link` is one whose consumer is not named in the call.
        """
        response = json.dumps(said) if method == "POST" else ""
        message = {"method": method, "url": url, "query": "", "response": response}
        message |= {"status_code": 200}  # type: ignore[dict-item]
        text = json.dumps(message)
        sign = hmac.new(SECRET.encode(), text.encode(), hashlib.sha512).hexdigest()
        sent_at = datetime.now(UTC)
        if self._post("/", text.encode(), {"Sign": sign}) == 200:
            self._acks.note(sent_at, about, link, hint=hint)
            return True
        self._acks.miss()
        return False

    def hint(self, product: str) -> bool:
        """Tell of a change that changes nothing for us."""
        return self.deliver("PUT", f"{_API}/{product}/about", product, hint=True)

    def rotate(self, product: str, *, compromised: bool = False) -> None:
        """Ask for a new key, as an operator does."""
        sent_at = datetime.now(UTC)
        path = f"/api/v1/products/{product}/rotate?compromised={str(compromised).lower()}"
        if self._post(path, b"", {"Authorization": f"Bearer {ADMIN_TOKEN}"}) == 202:
            self._acks.rotations[product] = sent_at

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> int | None:
        """Return the status of the answer, None where there was none."""
        there = [each for each in self._members if each.ready]
        if not there:
            return None
        member = self._draw.choice(there)
        kept = self._kept.get(member.port)
        if kept is None:
            kept = http.client.HTTPConnection("127.0.0.1", member.port, timeout=_TIMEOUT_SECONDS)
            self._kept[member.port] = kept
        try:
            kept.request("POST", path, body, {"Content-Type": "application/json", **headers})
            answer = kept.getresponse()
        except (OSError, http.client.HTTPException):
            kept.close()
            return None
        if answer.status == 200:
            member.acknowledges()  # before another byte is read: nothing may be left to do
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer.read()
        return answer.status

    def close(self) -> None:
        """Close what is kept."""
        for each in self._kept.values():
            each.close()


class People:
    """Change the portal, one thing after another; `steady` products are never taken away."""

    def __init__(self, state: PortalState, sender: Sender, seed: int) -> None:
        self.state = state
        self._send = sender
        self._draw = random.Random(seed)
        self._numbers = itertools.count(1)
        self.steady: list[str] = []
        self.mayflies: list[str] = []
        self.deleted: set[str] = set()
        self.names: dict[str, list[str]] = {}
        """Every namespace that a product had, the oldest first."""
        self.ports: list[tuple[str, str]] = []
        self.changes: Counter[str] = Counter()

    def settle(self, count: int) -> None:
        """Found the products that stay, with a port each, before anybody serves."""
        for number in range(count):
            product = self._found(f"steady-{number}")
            self.steady.append(product)
            self.ports.append((product, self.state.create_port(product, f"out-{number}")))

    def _found(self, namespace: str) -> str:
        product = self.state.create_product(namespace, name=namespace.title())
        self.names[product] = [namespace]
        return product

    def step(self) -> None:
        """Let one thing happen."""
        happens: dict[Callable[[], None], int] = {
            self.grant: 6,
            self.withdraw: 4,
            self.expire: 1,
            self.rename: 2,
            self.create: 3,
            self.delete: 2,
            self.archive: 1,
            self.rotate: 2,
            self.leak: 1,
            self.port: 1,
        }
        (chosen,) = self._draw.choices(list(happens), list(happens.values()))
        with contextlib.suppress(Refused, KeyError):  # what the portal forbids does not happen
            chosen()
            self.changes[chosen.__name__] += 1

    @property
    def everybody(self) -> list[str]:
        """Return the products there are."""
        return [*self.steady, *self.mayflies]

    # --- what happens ---------------------------------------------------------------------------

    def grant(self) -> None:
        """Ask for a port, and have it approved."""
        producer, port = self._draw.choice(self.ports)
        consumer = self._draw.choice([each for each in self.everybody if each != producer])
        if not self.state.links_of(consumer, port):
            link = self.state.request_access(consumer, port)
            said = {"input_port_links": [link]}
            self._send.deliver("POST", f"{_API}/{consumer}/input_ports", consumer, said=said)
        self.state.approve(port, consumer)
        self._decided(producer, port, self.state.first_link(port, consumer).id, "approve")

    def withdraw(self) -> None:
        """Revoke an access, or take the link away altogether."""
        approved = [each for each in self.state.links.values() if each.status == "approved"]
        if not approved:
            return
        link = self._draw.choice(approved)
        producer = self.state.port(link.port_id).product_id
        if self._draw.random() < 0.5:
            self.state.revoke(link.port_id, link.consumer_id)
            self._decided(producer, link.port_id, link.id, "revoke")
            return
        self.state.remove(link.port_id, link.consumer_id)
        url = f"{_API}/{link.consumer_id}/input_ports/{link.port_id}"
        self._send.deliver("DELETE", url, link.consumer_id)

    def expire(self) -> None:
        """Let an access end by its last day, of which no event tells."""
        approved = [each for each in self.state.links.values() if each.status == "approved"]
        if approved:
            yesterday = self.state.clock().date() - timedelta(days=1)
            link = self._draw.choice(approved)
            self.state.set_validity(link.id, valid_until=yesterday)
            self._send.hint(link.consumer_id)

    def rename(self) -> None:
        """Give a product a name that nobody had."""
        product = self._draw.choice(self.everybody)
        namespace = f"renamed-{next(self._numbers)}"
        self.names[product].append(namespace)  # first: a watching client looks there, too
        self.state.rename(product, namespace)
        self._send.deliver("PUT", f"{_API}/{product}", product)

    def create(self) -> None:
        """Create a product that will not stay."""
        if len(self.mayflies) < 4:
            product = self._found(f"mayfly-{next(self._numbers)}")
            self.mayflies.append(product)
            self._send.deliver("POST", _API, product, said={"id": product})

    def delete(self) -> None:
        """Delete a product."""
        going = sum(each in self.state.products for each in self.deleted)
        if self.mayflies and going < _PENDING_DELETIONS:
            product = self.mayflies.pop(self._draw.randrange(len(self.mayflies)))
            self.deleted.add(product)
            self.state.delete_product(product)
            self._send.deliver("DELETE", f"{_API}/{product}", product)

    def archive(self) -> None:
        """Archive a product, or make it active again."""
        product = self._draw.choice(self.mayflies or [""])
        now = self.state.product(product).status
        self.state.set_status(product, "archived" if now == "active" else "active")
        self._send.deliver("PUT", f"{_API}/{product}/status", product)

    def reactivate(self) -> None:
        """Make everything active again that is archived; the next start finds it by itself."""
        for product in self.mayflies:
            self.state.set_status(product, "active")

    def rotate(self) -> None:
        """Ask for a new key."""
        self._send.rotate(self._draw.choice(self.everybody))

    def leak(self) -> None:
        """Report that a key leaked."""
        if self.mayflies:
            self._send.rotate(self._draw.choice(self.mayflies), compromised=True)

    def port(self) -> None:
        """Add a port, or delete one that was added."""
        added = [each for each in self.ports if self.state.port(each[1]).namespace.startswith("p-")]
        if len(added) > 2:
            producer, port = self._draw.choice(added)
            self.ports.remove((producer, port))
            self.state.delete_port(port)
            url = f"{_API}/{producer}/output_ports/{port}"
            self._send.deliver("DELETE", url, producer)
        else:
            producer = self._draw.choice(self.steady)
            port = self.state.create_port(producer, f"p-{next(self._numbers)}")
            self.ports.append((producer, port))
            self._send.deliver(
                "POST", f"{_API}/{producer}/output_ports", producer, said={"id": port}
            )

    def _decided(self, producer: str, port: str, link: str, what: str) -> None:
        """Tell of a decision, which names the consumer nowhere."""
        url = f"{_API}/{producer}/output_ports/{port}/input_ports/{what}"
        self._send.deliver("POST", url, producer, link=link)
