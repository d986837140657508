from __future__ import annotations

import pytest

from provisioner import errors, model, portviews
from tests import builders as b
from tests import memory_world, published

SALES, MARKETING = memory_world.SALES, memory_world.MARKETING


@pytest.fixture
def world() -> memory_world.MemoryWorld:
    """A producer that has published, and a consumer that may read it."""
    made = memory_world.MemoryWorld(memory_world.a_producer(), b.a_consumer_view(b.a_link()))
    for key in (SALES, MARKETING):
        made.settle(key)
    made.published.put("sales/orders/_port.json", published.a_file())
    made.clock.advance(memory_world.PORTS_SECONDS)
    made.portwatch.tick()
    return made


def views(world: memory_world.MemoryWorld) -> portviews.PortViews:
    return portviews.PortViews(world.store.contracts, bucket="lake", endpoint="http://s3.example")


def test_each_side_is_shown_its_ports(world: memory_world.MemoryWorld) -> None:
    sales, marketing = (views(world).of(world.record(key)) for key in (SALES, MARKETING))
    assert [each.port_namespace for each in sales.outputs] == ["orders"]
    assert sales.inputs == ()
    assert [name for name, _ in marketing.inputs] == ["sales__orders"]
    (read,) = portviews.as_json(marketing)["inputs"]
    assert (read["state"], read["rows"], read["columns"]) == ("fresh", 100, 2)
    assert (read["since"], read["audits_failed"]) == (b.NOW, [])
    assert "Orders a day" not in str(portviews.as_json(marketing))


def test_access_that_ended_is_shown(world: memory_world.MemoryWorld) -> None:
    world.portal.views[MARKETING] = b.a_consumer_view()
    world.settle(MARKETING)
    shown = portviews.as_json(views(world).of(world.record(MARKETING)))
    assert shown["inputs"] == []
    (ended,) = shown["ended"]
    assert (ended["name"], ended["why"]) == ("sales__orders", model.EndReason.UNKNOWN)


@pytest.mark.parametrize("port", [None, "orders", b.ORDERS])
def test_a_contract_is_found_by_name_and_by_id(
    world: memory_world.MemoryWorld, port: str | None
) -> None:
    (document,) = views(world).contracts(world.record(SALES), port)
    assert document["id"] == b.ORDERS


def test_an_id_that_is_also_some_other_ports_name_means_the_id() -> None:
    twin = b.a_port(b.an_id(7), b.ORDERS)
    view = model.PortalView(product=b.a_product(), ports=(b.a_port(), twin))
    world = memory_world.MemoryWorld(view)
    world.settle(SALES)
    for port in ("orders", b.ORDERS):
        world.published.put(f"sales/{port}/_port.json", published.a_file(port=port))
    world.clock.advance(12 * memory_world.PORTS_SECONDS)  # nobody reads them: seldom is enough
    world.portwatch.tick()
    assert len(views(world).contracts(world.record(SALES))) == 2
    (document,) = views(world).contracts(world.record(SALES), b.ORDERS)
    assert document["id"] == b.ORDERS


@pytest.mark.parametrize(
    ("key", "port", "why"),
    [(SALES, "refunds", "no such output port"), (MARKETING, None, "nothing that could be read")],
)
def test_what_has_no_contract_is_said(
    world: memory_world.MemoryWorld, key: model.Key, port: str | None, why: str
) -> None:
    with pytest.raises(errors.PermanentError, match=why):
        views(world).contracts(world.record(key), port)
