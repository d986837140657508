/* Silver is clean: typed, audited, built day by day. */
MODEL (
  name silver.orders,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column ordered_on
  ),
  grain order_id,
  audits (
    not_null(columns := (order_id, customer, amount)),
    unique_values(columns := order_id),
    accepted_values("column" := status, is_in := ('paid', 'shipped', 'cancelled')),
    amount_not_negative
  ),
  description 'Orders with types, one row an order.'
);

SELECT
  order_id::INT AS order_id, /* Number of the order */
  customer::TEXT AS customer, /* Name of the customer */
  status::TEXT AS status, /* paid, shipped or cancelled */
  amount::DECIMAL(18, 2) AS amount, /* Total in euro, VAT included */
  ordered_at::DATE AS ordered_on /* Day of the order */
FROM bronze.orders
WHERE
  ordered_at::DATE BETWEEN @start_date AND @end_date
