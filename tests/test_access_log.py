from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from provisioner import model, names
from provisioner.domain import access_log
from tests import builders as b

LATER = b.NOW + timedelta(days=3)


def a_grant(port_id: str = b.ORDERS, port: str = "orders") -> model.Grant:
    return model.Grant(
        producer_id=b.SALES,
        producer_namespace="sales",
        port_id=port_id,
        port_namespace=port,
        access=model.Access.READ,
        locations=(model.Location(bucket="lake", prefix=names.port_prefix("sales", port)),),
    )


def followed(
    log: model.AccessLog,
    before: tuple[model.Grant, ...],
    after: tuple[model.Grant, ...],
    why: model.EndReason | None = None,
    now: datetime = b.NOW,
) -> model.AccessLog:
    return access_log.followed(
        log,
        before=before,
        after=after,
        why={b.ORDERS: why} if why else {},
        names={b.ORDERS: "sales__orders"},
        now=now,
    )


GRANTED = followed(model.AccessLog(), (), (a_grant(),))


def test_access_is_remembered_from_its_first_day_on() -> None:
    assert GRANTED.held == (model.HeldAccess(port_id=b.ORDERS, since=b.NOW),)
    assert followed(GRANTED, (a_grant(),), (a_grant(),), now=LATER) == GRANTED


def test_access_that_is_older_than_the_log_has_no_first_day() -> None:
    (held,) = followed(model.AccessLog(), (a_grant(),), (a_grant(),)).held
    assert held.since is None


def test_an_end_is_remembered_with_its_reason() -> None:
    ended = followed(GRANTED, (a_grant(),), (), model.EndReason.REVOKED, LATER)
    assert ended == model.AccessLog(
        ended=(
            model.EndedAccess(
                port_id=b.ORDERS,
                name="sales__orders",
                producer_namespace="sales",
                port_namespace="orders",
                since=b.NOW,
                ended_at=LATER,
                why=model.EndReason.REVOKED,
            ),
        )
    )
    # A run that stopped afterwards still has the old grants in the record.
    assert followed(ended, (a_grant(),), (), now=LATER + timedelta(days=1)) == ended


def test_an_end_that_nobody_explains_is_unknown() -> None:
    (end,) = followed(GRANTED, (a_grant(),), ()).ended
    assert end.why is model.EndReason.UNKNOWN


def test_access_that_came_back_has_not_ended() -> None:
    ended = followed(GRANTED, (a_grant(),), (), model.EndReason.EXPIRED)
    again = followed(ended, (), (a_grant(),), now=LATER)
    assert again == model.AccessLog(held=(model.HeldAccess(port_id=b.ORDERS, since=LATER),))


def test_only_so_many_ends_are_remembered_the_newest_first() -> None:
    log = model.AccessLog()
    for number in range(60):
        grant = a_grant(b.an_id(1000 + number), f"p{number}")
        log = followed(followed(log, (), (grant,)), (grant,), ())
    assert [each.port_namespace for each in log.ended] == [f"p{n}" for n in range(59, 9, -1)]


_EXPIRED = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("link", "why"),
    [
        (b.a_link(model.LinkStatus.REVOKED), model.EndReason.REVOKED),
        (b.a_link(model.LinkStatus.DENIED), model.EndReason.DENIED),
        (b.a_link(model.LinkStatus.EXPIRED), model.EndReason.EXPIRED),
        (b.a_link(model.LinkStatus.CANCELLED), model.EndReason.WITHDRAWN),
        (b.a_link(model.LinkStatus.PENDING), model.EndReason.WITHDRAWN),
        (b.a_link(valid_until=_EXPIRED), model.EndReason.EXPIRED),
        (b.a_link(port=b.REFUNDS), model.EndReason.DELETED),
        (b.a_link(producer=b.FINANCE), model.EndReason.DELETED),
        (b.a_link(valid_from=date(2026, 12, 1)), model.EndReason.UNKNOWN),
    ],
)
def test_the_portal_says_why(link: model.Link, why: model.EndReason) -> None:
    found = access_log.refusals(b.a_consumer_view(link), b.NOW)
    assert found == {link.port_id: why}


def test_a_producer_that_is_being_deleted_counts_as_deleted() -> None:
    view = model.PortalView(
        product=b.a_product(b.MARKETING, "marketing"),
        links=(b.a_link(),),
        producers=(b.a_product(status=model.ProductStatus.DELETING),),
        granted_ports=(b.a_port(),),
    )
    assert access_log.refusals(view, b.NOW) == {b.ORDERS: model.EndReason.DELETED}


def test_every_status_that_opens_nothing_has_a_reason() -> None:
    closed = set(model.LinkStatus) - {model.LinkStatus.APPROVED}
    for status in closed:
        (why,) = access_log.refusals(b.a_consumer_view(b.a_link(status)), b.NOW).values()
        assert why is not model.EndReason.UNKNOWN
