/* Gold is what others read. Named like an output port of this product, it is published there. */
MODEL (
  name gold.daily_revenue,
  kind FULL,
  grain day,
  audits (not_null(columns := (day, revenue)), unique_values(columns := day)),
  description 'Revenue a day; cancelled orders do not count.'
);

SELECT
  ordered_on AS day, /* Day of the orders */
  COUNT(*) AS orders, /* Number of orders */
  SUM(amount)::DECIMAL(18, 2) AS revenue /* Revenue in euro, VAT included */
FROM silver.orders
WHERE
  status <> 'cancelled'
GROUP BY
  ordered_on
