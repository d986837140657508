AUDIT (
  name amount_not_negative
);

/* An audit is a query for rows that should not exist. */
SELECT
  *
FROM @this_model
WHERE
  amount < 0
