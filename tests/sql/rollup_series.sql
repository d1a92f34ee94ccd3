-- rollup.series: a chart of a rollup in buckets of the level that has enough of them, cut at both ends, gaps filled.
SET timezone = 'UTC';
CREATE TABLE reading (at timestamptz NOT NULL, sensor text, degrees double precision, n int);
INSERT INTO reading SELECT timestamptz '2026-03-01' + i * interval '7 minutes', CASE i % 3 WHEN 0 THEN 'roof' WHEN 1 THEN 'cellar' END, i % 40, i
  FROM generate_series(0, 3000) i WHERE i % 500 < 400;
SELECT rollup.create('reading_5min', $$
  SELECT sensor, date_bin('5 minutes', at, '2000-01-03') AS at, count(*) AS rows, avg(degrees) AS degrees, sum(n) AS n, max(n) AS high, hll_add_agg(hll_hash_integer(n)) AS ns
  FROM reading GROUP BY 1, 2 $$, every => NULL, coarser => '{"reading_hour": "1 hour", "reading_day": "1 day"}');
SELECT rollup.run('reading');
-- Rows that are not merged belong to it.
INSERT INTO reading SELECT timestamptz '2026-03-10 12:01' + i * interval '11 minutes', 'roof', i, 1 FROM generate_series(0, 200) i;

-- The level follows the number of points.
SELECT points, count(DISTINCT at), min(at), min(lead) FROM (VALUES (1), (10), (13), (14), (100), (330), (3700), (100000)) p (points),
  LATERAL (SELECT at, lead(at) OVER (ORDER BY at) - at AS lead FROM (SELECT DISTINCT at FROM rollup.series(NULL::reading_5min_live, '2026-03-01', '2026-03-14', points)) s) s
  GROUP BY 1 ORDER BY 1;

-- Every row between the ends is in one bucket, and no other: whatever the ends, and the level.
CREATE FUNCTION compared(f timestamptz, t timestamptz, points int) RETURNS bigint LANGUAGE sql AS $$
  WITH s AS (SELECT sensor, sum(rows) AS rows, sum(n) AS n, max(high) AS high, hll_cardinality(hll_union_agg(ns)) AS ns
      FROM rollup.series(NULL::reading_5min_live, f, t, points) GROUP BY 1),
    r AS (SELECT sensor, count(*) AS rows, sum(n) AS n, max(n) AS high, hll_cardinality(hll_add_agg(hll_hash_integer(n))) AS ns
      FROM reading WHERE date_bin('5 minutes', at, '2000-01-03') >= date_bin('5 minutes', f, '2000-01-03') AND date_bin('5 minutes', at, '2000-01-03') < t GROUP BY 1)
  SELECT count(*) FROM (SELECT * FROM s EXCEPT SELECT * FROM r UNION ALL (SELECT * FROM r EXCEPT SELECT * FROM s)) d $$;
SELECT count(*), sum(compared(f, t, points)) FROM (VALUES
  ('2026-03-01'::timestamptz, '2026-03-14'::timestamptz), ('2026-03-01 10:17:31', '2026-03-09 13:44:59.5'), ('2026-03-02 23:59', '2026-03-03 00:01'),
  ('2026-03-05', '2026-03-06'), ('2026-03-05 00:00:01', '2026-03-06'), ('2026-03-05', '2026-03-06 00:00:01'), ('2026-03-05 01:02', '2026-03-05 01:03'),
  ('2026-03-10 11:59', '2026-03-11 17:00'), ('2026-03-05 12:10', '2026-03-05 12:20'), ('2020-01-01', '2030-01-01')) e (f, t), (VALUES (1), (2), (24), (100)) p (points);
-- An average is of all rows of its bucket.
SELECT sensor, at, rows, degrees, n FROM rollup.series(NULL::reading_5min_live, '2026-03-03 09:41:30', '2026-03-03 11:07', 1, 'none') WHERE sensor = 'roof';
SELECT date_trunc('hour', at) AS at, count(*), avg(degrees), sum(n) FROM reading WHERE sensor = 'roof' AND at >= '2026-03-03 09:40' AND at < '2026-03-03 11:10' GROUP BY 1 ORDER BY 1;

-- Gaps, for each series that has a row; a sensor that is NULL is a series too.
SELECT fill, at, sensor, rows, round(degrees::numeric, 2) AS degrees, n, high, hll_cardinality(ns) AS ns
  FROM (VALUES ('none'), ('null'), ('zero'), ('last'), ('linear')) f (fill), LATERAL rollup.series(NULL::reading_5min_live, '2026-03-02 22:00', '2026-03-03 10:30', 10, fill)
  WHERE sensor = 'roof' AND (at < '2026-03-03 00:30' OR at > '2026-03-03 08:30') ORDER BY fill, at;
SELECT sensor, count(*), count(rows) FROM rollup.series(NULL::reading_5min_live, '2026-03-02 22:00', '2026-03-03 10:30') GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM rollup.series(NULL::reading_5min_live, '2027-01-01', '2027-01-02');
-- The view of a level serves as well.
SELECT count(*) FROM rollup.series(NULL::reading_day_live, '2026-03-01', '2026-03-03', 100) WHERE sensor = 'roof';

-- Without other keys the gaps are there without any row. Days of a zone are those of its clock.
CREATE TABLE visit (at timestamptz NOT NULL);
INSERT INTO visit VALUES ('2026-03-28 23:30+00'), ('2026-03-29 21:30+00'), ('2026-03-30 22:00+00');
SELECT rollup.create('visit_hour', $$ SELECT date_trunc('hour', at) AS at, count(*) AS n FROM visit GROUP BY 1 $$, every => NULL, timezone => 'Europe/Berlin', coarser => '{"visit_day": "1 day"}');
SELECT rollup.run('visit');
SELECT at, at AT TIME ZONE 'Europe/Berlin' AS berlin, n FROM rollup.series(NULL::visit_hour_live, '2026-03-27 23:00+00', '2026-03-31 22:00+00', 3, 'zero');
SELECT count(*), sum(n) FROM rollup.series(NULL::visit_hour_live, '2026-03-28 23:00+00', '2026-03-29 22:00+00', 20);
SELECT count(*), sum(n), min(at) FROM rollup.series(NULL::visit_hour_live, '2030-01-01', '2030-01-02', 20, 'zero');
-- Times without zone are those that the rollup's clock shows.
CREATE TABLE local (day date NOT NULL, v int);
INSERT INTO local SELECT date '2026-03-25' + i, i FROM generate_series(0, 9, 3) i;
SELECT rollup.create('local_day', $$ SELECT day, sum(v) AS v FROM local GROUP BY 1 $$, every => NULL, timezone => 'Europe/Berlin', coarser => '{"local_week": "7 days"}');
SELECT rollup.run('local');
SELECT * FROM rollup.series(NULL::local_day_live, '2026-03-24 23:00+00', '2026-04-02 22:00+00', 5, 'linear');
SELECT * FROM rollup.series(NULL::local_day_live, '2026-03-26 23:00+00', '2026-04-02 22:00+00', 1);

-- What has expired from the rollup's own table is read from a coarser one; at an end in whole buckets.
SELECT rollup.retain('reading_5min', interval '1 second');
SELECT rollup.expire('reading_5min') > 0;
SELECT count(DISTINCT at), sum(rows) FROM rollup.series(NULL::reading_5min_live, '2026-03-05 12:10', '2026-03-06 12:10', 200, 'none');
SELECT count(*) FROM reading WHERE at >= '2026-03-05 12:00' AND at < '2026-03-06 13:00';

-- Rights are those on the view.
CREATE ROLE chart_reader; CREATE ROLE chart_other;
GRANT SELECT ON visit_hour_live TO chart_reader;
SET ROLE chart_reader;
SELECT sum(n) FROM rollup.series(NULL::visit_hour_live, '2026-03-27 22:00+00', '2026-03-31 22:00+00', 3);
SET ROLE chart_other;
SELECT sum(n) FROM rollup.series(NULL::visit_hour_live, '2026-03-27 22:00+00', '2026-03-31 22:00+00', 3);
RESET ROLE;
-- A view that reads as its reader is read so.
ALTER VIEW visit_hour_live SET (security_invoker = true);
SET ROLE chart_reader;
SELECT sum(n) FROM rollup.series(NULL::visit_hour_live, '2026-03-27 22:00+00', '2026-03-31 22:00+00', 300);
RESET ROLE;
ALTER VIEW visit_hour_live RESET (security_invoker);

-- What is wrong is said.
SELECT rollup.series(NULL::reading, '2026-03-01', '2026-03-02');
SELECT rollup.series(NULL::int, '2026-03-01', '2026-03-02');
SELECT rollup.series(NULL::reading_5min, '2026-03-01', '2026-03-02');
SELECT rollup.series(NULL::visit_hour_live, '2026-03-01', '2026-03-02', 0);
SELECT rollup.series(NULL::visit_hour_live, '2026-03-01', '2026-03-02', 10, 'nearest');
SELECT rollup.series(NULL::visit_hour_live, '-infinity', '2026-03-02');
SELECT rollup.series(NULL::visit_hour_live, '2026-03-01', 'infinity');
SELECT count(*) FROM rollup.series(NULL::visit_hour_live, NULL, '2026-03-02');
SELECT count(*) FROM rollup.series(NULL::visit_hour_live, '2026-03-02', '2026-03-01');
SELECT count(*) FROM rollup.series(NULL::visit_hour_live, '2026-03-01', '2026-03-02', NULL, NULL);
DROP TABLE reading, visit, local CASCADE;
DROP ROLE chart_reader, chart_other;
