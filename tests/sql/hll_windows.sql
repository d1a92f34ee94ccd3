-- The union of sketches in a window frame that moves is what the frame's rows give by themselves, whatever comes and goes.
CREATE TABLE daily (site int, day date, visitors hll);
INSERT INTO daily SELECT s, date '2026-01-01' + d, CASE WHEN (d + s) % 11 = 0 THEN NULL WHEN (d * s) % 13 = 5 THEN hll_empty() ELSE
    (SELECT hll_add_agg(hll_hash_integer(d * 30 * s + v)) FROM generate_series(1, CASE d % 4 WHEN 0 THEN 5 WHEN 1 THEN 100 WHEN 2 THEN 400 ELSE 3000 END) v) END
  FROM generate_series(1, 3) s, generate_series(0, 59) d WHERE (d * 7 + s) % 9 <> 0;
CREATE FUNCTION differ(frame text) RETURNS TABLE (rows bigint, "differ" bigint, empty bigint) LANGUAGE plpgsql AS $$
BEGIN
  -- With EXCLUDE each frame is aggregated by itself; a day has one row, so that TIES are none.
  RETURN QUERY EXECUTE format('SELECT count(*), count(*) FILTER (WHERE a IS DISTINCT FROM b), count(*) FILTER (WHERE a IS NULL) FROM
    (SELECT hll_union_agg(visitors) OVER (PARTITION BY site ORDER BY day %1$s)::text AS a, hll_union_agg(visitors) OVER (PARTITION BY site ORDER BY day %1$s EXCLUDE TIES)::text AS b FROM daily) d', frame);
END $$;
SELECT f AS frame, d.* FROM unnest(ARRAY['ROWS BETWEEN 6 PRECEDING AND CURRENT ROW', 'RANGE BETWEEN ''29 days'' PRECEDING AND CURRENT ROW', 'ROWS BETWEEN 3 PRECEDING AND 2 PRECEDING',
  'ROWS BETWEEN 2 FOLLOWING AND 5 FOLLOWING', 'RANGE BETWEEN ''3 days'' PRECEDING AND ''3 days'' FOLLOWING', 'GROUPS BETWEEN 4 PRECEDING AND 1 FOLLOWING', 'ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING',
  'ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING', 'RANGE BETWEEN ''2 days'' PRECEDING AND ''1 day'' PRECEDING']) f, differ(f) d;
-- Several rows a day, of which some are left out.
SELECT count(*) AS rows, count(*) FILTER (WHERE a IS DISTINCT FROM b) AS differ FROM (SELECT hll_union_agg(visitors) FILTER (WHERE site <> 2) OVER w::text AS a,
  (SELECT hll_union_agg(o.visitors) FROM daily o WHERE o.site <> 2 AND o.day BETWEEN d.day - 6 AND d.day)::text AS b FROM daily d WINDOW w AS (ORDER BY day RANGE BETWEEN '6 days' PRECEDING AND CURRENT ROW)) r;
-- An undefined sketch makes the union so while it is in the frame, and no longer.
SELECT string_agg(CASE WHEN #u IS NULL THEN 'u' ELSE round(#u)::text END, ' ' ORDER BY n) FROM
  (SELECT n, hll_union_agg(CASE WHEN n = 4 THEN '\x108b7f'::hll ELSE hll_add(hll_empty(), hll_hash_integer(n)) END) OVER (ORDER BY n ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS u FROM generate_series(1, 9) n) r;
-- Sketches of other parameters do not meet, in the frame; one behind the other they may.
SELECT hll_union_agg(hll_empty(CASE WHEN n < 4 THEN 10 ELSE 11 END)) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM generate_series(1, 6) n;
SELECT log2m, count(*) FROM (SELECT hll_log2m(hll_union_agg(hll_empty(CASE WHEN n < 4 THEN 10 ELSE 11 END)) OVER (ORDER BY n ROWS BETWEEN CURRENT ROW AND CURRENT ROW)) AS log2m FROM generate_series(1, 6) n) r GROUP BY 1 ORDER BY 1;
-- Not as anything else.
SELECT hll_moving_add(NULL, hll_empty());
SELECT hll_moving_remove(NULL, NULL);
SELECT hll_moving_union(NULL);
DROP FUNCTION differ(text);

-- What one set has and the other lacks.
CREATE TABLE pair AS SELECT n, (SELECT hll_add_agg(hll_hash_integer(v)) FROM generate_series(1, n) v) AS a, (SELECT hll_add_agg(hll_hash_integer(v)) FROM generate_series(n / 2 + 1, n * 2) v) AS b FROM unnest('{10,100,1000,100000}'::int[]) n;
SELECT n, n / 2 AS truth, hll_difference_cardinality(a, b) BETWEEN n / 2 * 0.85 AND n / 2 * 1.15 AS near, hll_difference_cardinality(a, b) = n / 2 AS exact, hll_difference_cardinality(a, a) < n * 0.01 AS none_of_itself,
  hll_difference_cardinality(a, hll_empty()) = #a AS all_of_nothing, hll_difference_cardinality(hll_empty(), a) AS nothing FROM pair ORDER BY n;
SELECT n, abs(hll_difference_cardinality(a, b) + hll_intersection_cardinality(a, b) + hll_difference_cardinality(b, a) - hll_union_cardinality(a, b)) < 1e-6 AS parts_make_the_whole FROM pair ORDER BY n;
SELECT hll_difference_cardinality('\x108b7f', hll_empty()) AS undefined, hll_difference_cardinality(NULL, hll_empty()) AS "null";
SELECT hll_difference_cardinality(hll_empty(10), hll_empty(11));
DROP TABLE pair, daily;
