-- Percentiles in rollups: the sketch merges, what is read off it is derived, as averages are.
\set VERBOSITY terse
CREATE TABLE request (at timestamptz NOT NULL, site int, ms double precision, status int, batch ddsketch);
SELECT rollup.create('request_1min', $$
  SELECT site, date_trunc('minute', at) AS at, count(*) AS n,
         ddsketch_agg(ms) AS latency,
         ddsketch_percentile(ddsketch_agg(ms), 0.99) AS p99,
         ddsketch_percentile(ddsketch_agg(ms) FILTER (WHERE status = 200), ARRAY[0.5, 0.9]) AS good,
         ddsketch_rank(ddsketch_agg(ms, status, 7), 100) AS weighted_below_100,
         ddsketch_union_agg(batch) AS batches
  FROM request GROUP BY 1, 2 $$, every => NULL, coarser => '{"request_1hour": "1 hour"}', on_change => 'recompute');
SELECT a.attname, format_type(a.atttypid, NULL), a.attgenerated FROM pg_attribute a WHERE a.attrelid = 'request_1min'::regclass AND a.attnum > 0 ORDER BY a.attnum;
CREATE FUNCTION put(first int, last int) RETURNS void LANGUAGE sql AS $$
  INSERT INTO request SELECT timestamptz '2026-01-01' + i * interval '7 s', i % 2, 1 + i * 7919 % 10007 / 10.0, 200 + i % 3 / 2 * 300, 'scale=6 positive=-1:1' FROM generate_series(first, last) i $$;
-- how many groups differ between a relation and the raw rows, every value by its text
CREATE FUNCTION differ(relation regclass, unit text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH raw AS (SELECT site, date_trunc(%L, at) AS at, count(*) AS n, ddsketch_agg(ms) AS latency, ddsketch_percentile(ddsketch_agg(ms), 0.99) AS p99,
         ddsketch_percentile(ddsketch_agg(ms) FILTER (WHERE status = 200), ARRAY[0.5, 0.9]) AS good, ddsketch_rank(ddsketch_agg(ms, status, 7), 100) AS below, ddsketch_union_agg(batch) AS batches FROM request GROUP BY 1, 2),
       kept AS (SELECT site, at, n, latency, p99, good, weighted_below_100, batches FROM %s)
       SELECT (SELECT count(*) FROM (TABLE raw EXCEPT TABLE kept) a) + (SELECT count(*) FROM (TABLE kept EXCEPT TABLE raw) b)', unit, relation) INTO n;
  RETURN n;
END $$;
SELECT put(1, 2000);
SELECT differ('request_1min_live', 'minute') AS live, differ('request_1hour_live', 'hour') AS live_hour;
SELECT rollup.run('request');
-- late rows, in many runs: the same bytes as of all rows at once
SELECT put(1, 500);
SELECT rollup.run('request');
SELECT put(300, 301), rollup.run('request'), put(2001, 3000);
SELECT differ('request_1min_live', 'minute') AS live, differ('request_1hour_live', 'hour') AS live_hour;
SELECT rollup.run('request');
SELECT differ('request_1min', 'minute') AS kept, differ('request_1hour', 'hour') AS kept_hour;
SELECT count(*) FROM rollup.check('request_1min');
-- changes are computed again
UPDATE request SET ms = ms * 2 WHERE site = 1 AND status = 200;
DELETE FROM request WHERE ms > 1900;
SELECT differ('request_1min_live', 'minute') AS live, differ('request_1hour_live', 'hour') AS live_hour;
SELECT rollup.run('request');
SELECT differ('request_1min', 'minute') AS kept, differ('request_1hour', 'hour') AS kept_hour;
-- what was changed by hand is found, and made anew
UPDATE request_1min SET latency = 'scale=5' WHERE site = 0 AND at = '2026-01-01 00:10:00+00';
SELECT column_name, stored, length(recomputed) > 100 AS recomputed FROM rollup.check('request_1min') WHERE column_name = 'latency';
SELECT rollup.rebuild('request_1min') > 0 AS rebuilt;
SELECT count(*) FROM rollup.check('request_1min');
-- a column more, a level more
SELECT rollup.add_column('request_1min', 'p50', $$ ddsketch_percentile(ddsketch_agg(ms), 0.5) $$);
SELECT rollup.add_level('request_1min', 'request_1day', '1 day');
SELECT site, at, n, round(p99::numeric, 1) AS p99, round(p50::numeric, 1) AS p50 FROM request_1day ORDER BY 1, 2;
SELECT site, round(ddsketch_percentile(ddsketch_union_agg(latency), 0.99)::numeric, 1) AS p99 FROM request_1min GROUP BY 1 ORDER BY 1;
-- other percentiles are refused, with what to write
SELECT rollup.create('bad', $$ SELECT date_trunc('hour', at) AS at, approx_percentile(ms, 0.9) FROM request GROUP BY 1 $$);
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT rollup.create('bad', $$ SELECT date_trunc('hour', at) AS at, percentile_cont(0.9) WITHIN GROUP (ORDER BY ms) FROM request GROUP BY 1 $$);
