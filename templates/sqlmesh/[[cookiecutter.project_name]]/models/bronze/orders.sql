/* Bronze holds data as it came; silver gives it types and rules. */
MODEL (
  name bronze.orders,
  kind SEED (
    path '$root/seeds/orders.csv'
  ),
  columns (
    order_id INT,
    customer TEXT,
    status TEXT,
    amount DOUBLE,
    ordered_at TEXT
  ),
  description 'Orders of a web shop, as they were exported.'
)
