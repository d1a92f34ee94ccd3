-- What the table of check-old.sql says: bytes and numbers.
SET extra_float_digits = 3;
SELECT day, md5(hll_send(visitors)), hll_cardinality(visitors), hll_type(visitors), md5(hll_send(wide)), hll_log2m(wide) FROM daily ORDER BY day;
SELECT * FROM weekly ORDER BY week;
SELECT day, #(visitors || hll_hash_text('another')) FROM daily ORDER BY day;
