-- Series for charts: beginnings of buckets, and what stands in those without rows.
SET timezone = 'UTC';
SELECT * FROM rollup.buckets('2026-01-01 00:07', '2026-01-01 01:00', '15 minutes');
-- A bucket that begins at the end has no part of the time.
SELECT count(*), min(b), max(b) FROM rollup.buckets('2026-01-01', '2026-01-08', '1 day') b;
SELECT count(*) FROM rollup.buckets('2026-01-02', '2026-01-01', '1 day') b;
SELECT count(*) FROM rollup.buckets('2026-01-01', NULL, '1 day') b;
-- Days of 23 and 25 hours, hours that the clock shows twice and not at all, a day that an island left out.
SELECT b, lead(b) OVER (ORDER BY b) - b AS long FROM rollup.buckets('2026-03-28 12:00+01', '2026-03-31 00:00+02', '1 day', 'Europe/Berlin') b;
SELECT count(*) FROM rollup.buckets('2026-03-29 00:00+01', '2026-03-30 00:00+02', '1 hour', 'Europe/Berlin') b;
SELECT count(*) FROM rollup.buckets('2026-10-25 00:00+02', '2026-10-26 00:00+01', '1 hour', 'Europe/Berlin') b;
SELECT b AT TIME ZONE 'Pacific/Apia' AS day FROM rollup.buckets('2011-12-29 12:00-10', '2012-01-01 00:00+14', '1 day', 'Pacific/Apia') b;
SELECT b AT TIME ZONE 'America/Sao_Paulo' AS day FROM rollup.buckets('2018-11-03 12:00-03', '2018-11-05 12:00-02', '1 day', 'America/Sao_Paulo') b;
SELECT b AT TIME ZONE 'Europe/Berlin' AS quarter FROM rollup.buckets('2026-02-01', '2026-08-01', '3 months', 'Europe/Berlin') b;
SELECT b FROM rollup.buckets('2026-02-04', '2026-02-16', '1 week') b;
-- The buckets of levels: another road to the same, for widths and zones, minute by minute.
CREATE FUNCTION same(width interval, bucket text, zone text, since timestamptz, until timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE differ bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM (SELECT DISTINCT %s AS b FROM generate_series($1, $2 - interval ''1 minute'', ''1 minute'') t) one FULL JOIN rollup.buckets($1, $2, $3, $4) b USING (b) WHERE one.b IS NULL OR b.b IS NULL', bucket)
  INTO differ USING since, until, width, zone;
  RETURN format('%s %s: %s differ', width, zone, differ);
END $$;
SELECT same(width::interval, format('date_trunc(%L, t, %L)', unit, zone), zone, '2026-03-20', '2026-04-10') FROM (VALUES ('1 minute', 'minute'), ('1 hour', 'hour'), ('1 day', 'day'), ('7 days', 'week'), ('1 month', 'month'), ('1 year', 'year')) w(width, unit),
  unnest(ARRAY['UTC', 'Europe/Berlin', 'Australia/Lord_Howe', 'Asia/Kathmandu']) zone;
SELECT same(width::interval, format('date_bin(%L, t AT TIME ZONE %2$L, ''0001-01-01'') AT TIME ZONE %2$L', width, zone), zone, since::timestamptz, since::timestamptz + interval '9 days')
FROM unnest(ARRAY['30 minutes', '2 hours', '6 hours', '12 hours', '3 days']) width, unnest(ARRAY['Europe/Berlin', 'America/St_Johns']) zone, unnest(ARRAY['2026-03-05', '2026-03-25', '2026-10-21', '2026-10-30']) since
WHERE same(width::interval, format('date_bin(%L, t AT TIME ZONE %2$L, ''0001-01-01'') AT TIME ZONE %2$L', width, zone), zone, since::timestamptz, since::timestamptz + interval '9 days') NOT LIKE '%: 0 differ';
-- Refused.
SELECT count(*) FROM rollup.buckets('2026-01-01', '2026-01-02', '7 hours') b;
SELECT count(*) FROM rollup.buckets('2026-01-01', '2026-01-02', '0') b;
SELECT count(*) FROM rollup.buckets('2026-01-01', '2026-01-02', '1 day -1 hour') b;
SELECT count(*) FROM rollup.buckets('-infinity', '2026-01-02', '1 day') b;
SELECT count(*) FROM rollup.buckets('2026-01-01', 'infinity', '1 day') b;
SELECT count(*) FROM rollup.buckets('2026-01-01', '2027-01-01', '1 second') b;
SELECT count(*) FROM rollup.buckets('4714-11-24 12:00 BC', '2027-01-01 BC', '1 week') b;
SELECT count(*) FROM rollup.buckets('2026-01-01', '2026-01-02', '1 day', 'Mars/Olympus') b;
SELECT rollup.locf(1);
SELECT rollup.interpolate(1, now());
-- What stands in buckets without rows.
CREATE TABLE measured (at timestamptz, sensor text, v float8, note text);
INSERT INTO measured VALUES ('2026-01-01 00:01', 'a', 1, 'x'), ('2026-01-01 00:04', 'a', 4, NULL), ('2026-01-01 00:05', 'a', NULL, repeat('y', 5)), ('2026-01-01 00:02', 'b', 8, 'z');
SELECT s.sensor, b AS at, m.v, coalesce(m.v, 0) AS zero, rollup.locf(m.v) OVER w AS last, rollup.interpolate(m.v, b) OVER w AS line, rollup.locf(m.note) OVER w AS note
FROM (SELECT DISTINCT sensor FROM measured) s CROSS JOIN rollup.buckets('2026-01-01 00:00', '2026-01-01 00:07', '1 minute') b
LEFT JOIN measured m ON m.sensor = s.sensor AND m.at = b
WINDOW w AS (PARTITION BY s.sensor ORDER BY b) ORDER BY 1, 2;
-- Without an order of time, at one time, at no time.
SELECT n, rollup.interpolate(v, at) OVER (ORDER BY n) FROM (VALUES (1, 1.0::float8, timestamp '2026-01-01'), (2, NULL, '2026-01-01'), (3, 5, '2026-01-01'), (4, NULL, NULL), (5, NULL, 'infinity'), (6, NULL, '2026-01-02'), (7, 7, '2026-01-03'), (8, NULL, '2026-01-04')) t(n, v, at);
SELECT n, rollup.interpolate(v, at) OVER (ORDER BY n) FROM (VALUES (1, 'NaN'::float8, timestamptz '2026-01-01'), (2, NULL, '2026-01-02'), (3, 5, '2026-01-03'), (4, NULL, '2026-01-04'), (5, 'Infinity', '2026-01-05')) t(n, v, at);
-- Long stretches without a value, in frames of any kind and more than work_mem holds.
SET work_mem = '64kB';
SELECT count(*), sum(last), sum(line), count(*) FILTER (WHERE abs(line - n) > 1e-6) AS off FROM (
  SELECT n, rollup.locf(CASE WHEN n % 10000 = 0 THEN n END) OVER w AS last, rollup.interpolate(CASE WHEN n % 10000 = 0 THEN n END, timestamptz '2026-01-01' + n * interval '1 s') OVER w AS line
  FROM generate_series(0, 100000) n WINDOW w AS (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)) s;
SELECT length(last), count(*) FROM (SELECT rollup.locf(CASE WHEN n % 100 = 0 THEN repeat('x', 3000 + n) END) OVER (ORDER BY n) AS last FROM generate_series(1, 499) n) s GROUP BY 1 ORDER BY 1;
RESET work_mem;
DROP TABLE measured; DROP FUNCTION same;
