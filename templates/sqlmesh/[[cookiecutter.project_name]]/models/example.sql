/* Yours to change: edit the query, then run `sqlmesh plan dev` and look at gold__dev.example. */
MODEL (
  name gold.example,
  kind FULL,
  grain customer,
  description 'Customers and how often they ordered.'
);

SELECT
  customer, /* Name of the customer */
  COUNT(*) AS orders /* Number of orders, cancelled ones too */
FROM silver.orders
GROUP BY
  customer
