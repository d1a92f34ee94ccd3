-- A short story for a database that may have the extension: sketches, counters, a rollup.
CREATE EXTENSION IF NOT EXISTS hll;
CREATE TABLE view (
  at      timestamptz NOT NULL DEFAULT now(),
  country text,
  visitor int
);
SELECT rollup.create('view_hourly', $$
  SELECT date_trunc('hour', at) AS hour,
         count(*) AS views,
         hll_add_agg(hll_hash_integer(visitor)) AS visitors,
         jsonb_counter_agg(country) AS countries
  FROM view
  GROUP BY 1 $$, every => '1 second') \g /dev/null
INSERT INTO view (at, country, visitor)
SELECT timestamptz '2026-01-01 00:00Z' + g * interval '5 seconds', (ARRAY['India', 'Peru', NULL])[1 + g % 3], g % 4000
FROM generate_series(1, 10000) g;
SELECT rollup_view() \g /dev/null
DO $$
DECLARE
  estimate float8;
BEGIN
  ASSERT (SELECT count(*) FROM view_hourly) = 14, 'hours';
  ASSERT NOT EXISTS (
    (SELECT date_trunc('hour', at), count(*), hll_add_agg(hll_hash_integer(visitor)), jsonb_counter_agg(country) FROM view GROUP BY 1
     EXCEPT SELECT hour, views, visitors, countries FROM view_hourly)), 'the rollup differs from the raw rows';
  SELECT hll_cardinality(hll_union_agg(visitors)) INTO estimate FROM view_hourly;
  ASSERT estimate BETWEEN 3600 AND 4400, 'estimate ' || estimate;
  ASSERT (SELECT jsonb_counter_merge_agg(countries) FROM view_hourly) = '{"India": 3333, "Peru": 3334}',
    (SELECT jsonb_counter_merge_agg(countries) FROM view_hourly)::text;
END $$;
INSERT INTO view (country, visitor) VALUES ('Chile', 1);
