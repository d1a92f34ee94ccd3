-- A table as users of postgresql-hll have it.
CREATE EXTENSION hll;
CREATE TABLE daily (
  day      date PRIMARY KEY,
  visitors hll NOT NULL,
  wide     hll(14, 6, 0, 0)
);
INSERT INTO daily
SELECT date '2026-01-01' + d,
       (SELECT hll_add_agg(hll_hash_text('visitor ' || g)) FROM generate_series(1, (10 ^ (d % 5))::int) g),
       (SELECT hll_add_agg(hll_hash_bigint(g), 14, 6, 0, 0) FROM generate_series(1, d * 10) g)
FROM generate_series(0, 24) d;
INSERT INTO daily VALUES ('2026-03-01', hll_empty(), NULL);
CREATE VIEW weekly AS
SELECT date_trunc('week', day) AS week, #hll_union_agg(visitors) AS visitors FROM daily GROUP BY 1;
