"""Follow a grant through its life on a real engine: which calls are allowed at each stage.

`sales` owns the port `orders`, `marketing` asks for it, `finance` has nothing to do with either.
What narrows does so on every key that still lives: calls are made with each key that was ever in
`.env`, whether its grace goes on or is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from provisioner import model
from tests import real_world

if TYPE_CHECKING:
    from tests.engines import Engine

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine

REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}
PORT, ASIDE, SIBLING = "sales/orders/", "sales/internal/", "sales/orders-old/"
PRODUCT = ("sales/", PORT, ASIDE, SIBLING)
OTHERS = ("", "sales-eu/", "SALES/", "sale/", ".provisioner/owners/")
READS, WRITES = ("get", "list", "copy"), ("put", "delete")


class Opens(Enum):
    """What the consumer's keys open at a stage."""

    NOTHING = "no key lives"
    OWN = "its own prefix"
    GRANTED = "what was granted as well"


class People:
    """What happens in the portal, one stage after the other."""

    def __init__(self, world: real_world.RealWorld) -> None:
        self.world = world
        self.state = world.state
        names = ("sales", "marketing", "finance")
        self.keys = {each: model.Key.product(self.state.create_product(each)) for each in names}
        self.sales, self.marketing, _ = (key.id for key in self.keys.values())
        self.port = ""

    def open_port(self) -> None:
        self.port = self.state.create_port(self.sales, "orders")

    def request(self) -> None:
        self.state.request_access(self.marketing, self.port)

    def deny(self) -> None:
        self.state.deny(self.port, self.marketing)

    def request_again(self) -> None:
        self.state.remove(self.port, self.marketing)
        self.request()

    def approve(self) -> None:
        self.state.approve(self.port, self.marketing)

    def revoke(self) -> None:
        self.state.revoke(self.port, self.marketing)

    def approve_for_a_day(self) -> None:
        self.state.approve(self.port, self.marketing, days=1)

    def wait_two_days(self) -> None:
        """The portal goes on saying `approved`."""
        self.world.clock.advance(2 * 86400)

    def archive_producer(self) -> None:
        self.state.set_status(self.sales, "archived")

    def archive_consumer(self) -> None:
        self.state.set_status(self.marketing, "archived")

    def activate_consumer(self) -> None:
        self.state.set_status(self.marketing, "active")

    def delete_port(self) -> None:
        self.state.delete_port(self.port)

    def delete_producer(self) -> None:
        self.state.delete_product(self.sales)

    def delete_consumer(self) -> None:
        self.state.delete_product(self.marketing)


STAGES: Sequence[tuple[Callable[[People], None], Opens]] = (
    (People.open_port, Opens.OWN),
    (People.request, Opens.OWN),
    (People.deny, Opens.OWN),
    (People.request_again, Opens.OWN),
    (People.approve, Opens.GRANTED),
    (People.revoke, Opens.OWN),
    (People.request_again, Opens.OWN),
    (People.approve_for_a_day, Opens.GRANTED),
    (People.wait_two_days, Opens.OWN),
    (People.request_again, Opens.OWN),
    (People.approve, Opens.GRANTED),
    (People.archive_consumer, Opens.NOTHING),
    (People.activate_consumer, Opens.GRANTED),
    (People.archive_producer, Opens.GRANTED),
    (People.delete_port, Opens.OWN),
    (People.open_port, Opens.OWN),
    (People.request, Opens.OWN),
    (People.approve, Opens.GRANTED),
    (People.delete_producer, Opens.OWN),
    (People.delete_consumer, Opens.NOTHING),
)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket with an object `x` below every prefix, and calls on it."""

    name: str
    engine: Engine

    def fill(self) -> None:
        with contextlib.closing(self.engine.s3()) as admin:
            for prefix in (*PRODUCT, *OTHERS, "marketing/", "finance/"):
                admin.put_object(Bucket=self.name, Key=f"{prefix}x", Body=b"")

    def allowed(self, key: model.AccessKey, home: str, tried: set[str]) -> set[str]:
        """Return those of the calls that a key may make; it copies to its home."""
        with contextlib.closing(self.engine.s3(key)) as client:
            return {call for call in sorted(tried) if self._allows(client, call, home)}

    def _allows(self, client: Any, call: str, home: str) -> bool:
        verb, prefix = call.split(" ", 1)
        source = {"Bucket": self.name, "Key": f"{prefix}x"}
        calls: dict[str, Callable[[], Any]] = {
            "get": lambda: client.get_object(**source),
            "list": lambda: client.list_objects_v2(Bucket=self.name, Prefix=prefix),
            "copy": lambda: client.copy_object(
                Bucket=self.name, Key=f"{home}copied", CopySource=source
            ),
            "put": lambda: client.put_object(Bucket=self.name, Key=f"{prefix}written", Body=b""),
            "delete": lambda: client.delete_object(Bucket=self.name, Key=f"{prefix}written"),
        }
        try:
            calls[verb]()
        except ClientError as error:
            if error.response["Error"]["Code"] not in REFUSED:
                raise
            return False
        return True


def calls(verbs: Sequence[str], *prefixes: str) -> set[str]:
    return {f"{verb} {prefix}" for verb in verbs for prefix in prefixes}


EVERY = calls((*READS, *WRITES), *PRODUCT, *OTHERS, "marketing/", "finance/")
GRANTED = {"output_port": calls(READS, PORT), "product": calls(READS, *PRODUCT)}
OWN = {name: calls((*READS, *WRITES), f"{name}/") for name in ("marketing", "finance")}


class Keys:
    """Remember every key that was ever in a product's `.env`."""

    def __init__(self, people: People, namespace: str) -> None:
        self._people = people
        self._namespace = namespace
        self._seen: dict[str, model.AccessKey] = {}

    def look(self) -> Iterator[tuple[model.AccessKey, bool]]:
        """Return every key, and whether it should be alive."""
        world = self._people.world
        now = world.published_key(self._namespace)
        if now is not None:
            self._seen[now.id] = now
        held = world.record(self._people.keys[self._namespace]).credentials
        alive = {each.key_id for each in held.retiring}
        alive |= {held.current.id} if held.current else set()
        yield from ((key, key.id in alive) for key in self._seen.values())

    def __len__(self) -> int:
        return len(self._seen)


@pytest.mark.parametrize("scope", GRANTED)
def test_every_stage_of_a_grant_opens_what_it_should_and_nothing_else(
    scope: str, engine: Engine, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with real_world.world(tmp_path, engine, PROV_GRANT_SCOPE=scope) as world:
        people = People(world)
        for key in people.keys.values():
            world.rest(key)
        bucket = Bucket(name=world.bucket, engine=engine)
        bucket.fill()
        teams = {name: Keys(people, name) for name in OWN}
        made = several_alive = 0
        for happen, opens in STAGES:
            happen(people)
            for key in (people.keys["sales"], people.keys["marketing"]):
                world.settle(key)
            granted = GRANTED[scope] if opens is Opens.GRANTED else set()
            alive_now = 0
            for name, keys in teams.items():
                for access_key, alive in keys.look():
                    may = OWN[name] | (granted if name == "marketing" else set())
                    tried = EVERY if alive else OWN[name] | GRANTED[scope]
                    made += len(tried)
                    found = bucket.allowed(access_key, f"{name}/", tried)
                    assert found == (may if alive else set()), (happen.__name__, name)
                    alive_now += alive and name == "marketing"
            assert bool(alive_now) is (opens is not Opens.NOTHING), happen.__name__
            several_alive += alive_now > 1
        assert several_alive > 3
        assert len(teams["marketing"]) >= 5
        world.rest(people.keys["marketing"])
        assert world.found() == world.expected()
    record_property(
        "measured", f"{engine.issuer_name}, scope {scope}: {made} calls, all as they should be"
    )
