from __future__ import annotations

from provisioner import model, names
from provisioner.domain import inputs
from tests import builders as b


def a_grant(port_id: str, producer: str, port: str) -> model.Grant:
    return model.Grant(
        producer_id=b.SALES,
        producer_namespace=producer,
        port_id=port_id,
        port_namespace=port,
        access=model.Access.READ,
        locations=(model.Location(bucket="lake", prefix=names.port_prefix(producer, port)),),
    )


def test_an_input_is_named_after_producer_and_port() -> None:
    assert inputs.assign([a_grant(b.ORDERS, "sales-eu", "orders.v2")], ()) == (
        (b.ORDERS, "sales_eu__orders_v2"),
    )


def test_of_two_equal_names_the_later_by_port_id_gets_a_number() -> None:
    grants = [a_grant(b.REFUNDS, "sales", "a.b"), a_grant(b.ORDERS, "sales", "a_b")]
    assert dict(inputs.assign(grants, ())) == {b.ORDERS: "sales__a_b", b.REFUNDS: "sales__a_b_2"}


def test_a_name_once_given_is_kept_and_never_given_to_another_port() -> None:
    first = inputs.assign([a_grant(b.REFUNDS, "sales", "a.b")], ())
    later = inputs.assign([a_grant(b.ORDERS, "sales", "a_b")], first)
    assert dict(later) == {b.REFUNDS: "sales__a_b", b.ORDERS: "sales__a_b_2"}


def test_a_row_says_where_the_port_lies() -> None:
    grants = [a_grant(b.ORDERS, "sales", "orders")]
    (row,) = inputs.rows(grants, inputs.assign(grants, ()))
    assert (row.name, row.url, row.mode) == ("sales__orders", "s3://lake/sales/orders/", "read")
