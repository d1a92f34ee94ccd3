-- what a row counts as depends on the row alone: not on the session's settings, nor on the moment
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.differences(name text) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM rollup.check(name)';
-- clock times are those of the rollup, in the live view and in the table, whoever looks
CREATE TABLE clock (at timestamptz, local timestamp, day date, v int);
SELECT rollup.create('clock_1d', $$SELECT date_trunc('day', at) AS at, count(*) AS n,
  count(*) FILTER (WHERE at::time >= '12:00') AS afternoon, jsonb_counter_agg(to_char(at, 'HH24')) AS hours,
  count(*) FILTER (WHERE at >= date '2026-01-01') AS since, count(*) FILTER (WHERE timestamp '2026-01-01 12:00' < at) AS after,
  count(*) FILTER (WHERE at BETWEEN date '2026-01-01' AND timestamp '2026-01-01 23:00') AS between_both,
  count(*) FILTER (WHERE at = local) AS same, count(*) FILTER (WHERE at <> day) AS not_midnight,
  max(at + interval '1 month 2 days 3 hours') AS later, min(at - interval '1 day') AS before, max(interval '90 minutes' + at) AS soon,
  max(local::timestamptz) AS as_zoned, max(day::timestamptz) AS as_day, max(at::timestamp) AS as_local, max(at::date) AS as_date,
  max(extract(hour FROM at)) AS hour, max(extract(epoch FROM at)) AS epoch,
  max(make_timestamptz(2026, 1, extract(day FROM day)::int, 0, 0, 0)) AS made,
  count(*) FILTER (WHERE at >= '2026-01-01 00:00') AS literal
  FROM clock GROUP BY 1$$, every => NULL, timezone => 'Asia/Kolkata') > 0 AS made;
INSERT INTO clock VALUES ('2025-12-31 20:00Z', '2026-01-01 01:30', '2026-01-01', 1), ('2026-01-01 10:00Z', '2026-01-01 10:00', '2026-01-02', 2),
  ('2025-12-31 18:30Z', '2026-01-01', '2026-01-01', 3), ('2025-12-31 18:29Z', '2026-01-01', '2025-12-31', 4);
SET timezone = 'America/New_York'; SET datestyle = 'SQL, DMY';
CREATE TEMP TABLE live_before AS SELECT * FROM clock_1d_live;
SELECT rollup.run('clock') AS rows, pg_temp.differences('clock_1d');
SET timezone = 'Pacific/Auckland'; SET datestyle = 'German'; SET intervalstyle = 'iso_8601';
SELECT count(*) AS differ FROM (SELECT to_jsonb(l) FROM live_before l EXCEPT SELECT to_jsonb(t) FROM clock_1d t) d;
SET timezone = 'Asia/Kolkata'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
\x
SELECT * FROM clock_1d ORDER BY at;
SELECT date_trunc('day', at) AS at, count(*) AS n,
  count(*) FILTER (WHERE at::time >= '12:00') AS afternoon, jsonb_counter_agg(to_char(at, 'HH24')) AS hours,
  count(*) FILTER (WHERE at >= date '2026-01-01') AS since, count(*) FILTER (WHERE timestamp '2026-01-01 12:00' < at) AS after,
  count(*) FILTER (WHERE at BETWEEN date '2026-01-01' AND timestamp '2026-01-01 23:00') AS between_both,
  count(*) FILTER (WHERE at = local) AS same, count(*) FILTER (WHERE at <> day) AS not_midnight,
  max(at + interval '1 month 2 days 3 hours') AS later, min(at - interval '1 day') AS before, max(interval '90 minutes' + at) AS soon,
  max(local::timestamptz) AS as_zoned, max(day::timestamptz) AS as_day, max(at::timestamp) AS as_local, max(at::date) AS as_date,
  max(extract(hour FROM at)) AS hour, max(extract(epoch FROM at)) AS epoch,
  max(make_timestamptz(2026, 1, extract(day FROM day)::int, 0, 0, 0)) AS made,
  count(*) FILTER (WHERE at >= '2026-01-01 00:00') AS literal
  FROM clock GROUP BY 1 ORDER BY 1;
\x
SELECT rollup.drop('clock_1d');
SET timezone = 'UTC';
-- what depends on the moment, or on who asks, is refused
CREATE FUNCTION refused(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE code text; said text;
BEGIN
  PERFORM rollup.create('refused', format('SELECT date_trunc(''day'', at) AS at, count(*) FILTER (WHERE %s) AS n FROM clock GROUP BY 1', expression), every => NULL);
  PERFORM rollup.drop('refused');
  RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, said = MESSAGE_TEXT;
  RETURN code || ' ' || said;
END $$;
SELECT e AS expression, refused(e) FROM unnest(ARRAY[
  'at > now()', 'at > current_timestamp', 'at::date = current_date', 'local < localtimestamp', 'day = ''today''::text::date', 'at > statement_timestamp()',
  'current_user = ''me''', 'session_user = ''me''', 'current_setting(''a.b'', true) = ''x''', 'pg_backend_pid() = v', 'current_schema() = ''x''', 'current_database() = ''x''',
  'at::text LIKE ''2026%''', 'to_char(at, ''HH24 TZ'') = ''x''', 'extract(timezone FROM at) = 0', 'at::timetz = ''12:00+00''::timetz', 'at + make_interval(days => v) > at', 'at + v * interval ''1 day'' > at', 'at + (at - at) > at',
  'concat(at, v) = ''x''', 'to_jsonb(at) IS NOT NULL', 'jsonb_build_object(''at'', day) IS NOT NULL', 'format(''%s'', local) = ''x''', 'day::text = ''x''', 'ARRAY[at]::text = ''x''',
  '(v::text || ''-01-01'')::date = day', 'at IN (day, local)', 'has_table_privilege(''clock'', ''SELECT'')', 'age(at) > interval ''1 day''', 'to_timestamp(''2026'', ''YYYY'') = at', 'random() > v', 'at IS DISTINCT FROM day']) e;
-- what depends on none is taken
SELECT e AS expression, refused(e) FROM unnest(ARRAY['concat(v, ''x'') = ''1x''', 'to_jsonb(v) = ''1''', 'to_char(v, ''000'') = ''001''', 'to_char(local, ''HH24'') = ''01''', 'format(''%s'', v) = ''1''',
  'at + interval ''90 minutes'' > at', 'at + v * interval ''1 s'' > at', 'at - make_interval(mins => v) > at', 'at + (interval ''1 s'' / v + interval ''1 hour'') > at', 'extract(epoch FROM at) > 0', 'to_date(''2026'', ''YYYY'') = day', 'at > ''2026-01-01''']) e;
-- of functions of the user that are not IMMUTABLE it is said that they may change their mind
CREATE FUNCTION is_big(int) RETURNS bool STABLE LANGUAGE sql AS 'SELECT $1 > 1';
SET client_min_messages = notice;
SELECT rollup.create('big_1d', $$SELECT date_trunc('day', at) AS at, count(*) FILTER (WHERE is_big(v)) AS n FROM clock GROUP BY 1$$, every => NULL) > 0 AS made;
SET client_min_messages = warning;
SELECT rollup.drop('big_1d');
-- literals mean what they meant where they were written
CREATE TABLE path (at timestamptz, path text, v int);
SELECT rollup.create('path_1d', $$SELECT date_trunc('day', at) AS at, count(*) FILTER (WHERE path = 'C:\temp') AS n, count(*) FILTER (WHERE path LIKE 'it''s\\_%') AS more,
  count(*) FILTER (WHERE v = NULL) AS never, max(path || '{NULL}'::text[]::text) AS nulls, min(interval '1 month') AS span FROM path GROUP BY 1$$, every => NULL) > 0 AS made;
INSERT INTO path VALUES ('2026-01-01', 'C:\temp', NULL), ('2026-01-01', 'it''s\_x', 1);
SET standard_conforming_strings = off; SET escape_string_warning = off; SET transform_null_equals = on; SET array_nulls = off; SET quote_all_identifiers = on;
SET backslash_quote = off; SET intervalstyle = 'sql_standard'; SET extra_float_digits = -10;
TABLE path_1d_live;
SELECT rollup.run('path') AS rows;
TABLE path_1d;
SELECT pg_temp.differences('path_1d');
SELECT rollup.drop('path_1d');
-- and a query that is written under other settings is read as its writer reads it
SELECT rollup.create('path_1d', $$SELECT date_trunc('day', at) AS at, count(*) FILTER (WHERE path = 'C:\\temp') AS n FROM path GROUP BY 1$$, every => NULL) > 0 AS made;
RESET ALL;
SET timezone = 'UTC'; SET client_min_messages = warning;
SELECT rollup.run('path') AS rows; SELECT n FROM path_1d;
SELECT rollup.drop('path_1d');
-- operators that a text names by nothing but their construct stay those that were meant
CREATE SCHEMA fold;
CREATE FUNCTION fold.same(text, text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT pg_catalog.lower($1) OPERATOR(pg_catalog.=) pg_catalog.lower($2)';
CREATE OPERATOR fold.= (leftarg = text, rightarg = text, function = fold.same);
SET search_path = fold, pg_catalog, public;
SELECT rollup.create('path_1d', $$SELECT date_trunc('day', at) AS at, count(*) FILTER (WHERE path IS DISTINCT FROM 'c:\TEMP') AS differ, count(*) FILTER (WHERE path IS NOT DISTINCT FROM 'c:\TEMP') AS alike,
  count(nullif(path, 'c:\TEMP')) AS others, count(*) FILTER (WHERE CASE path WHEN 'c:\TEMP' THEN true WHEN 'x' THEN false ELSE NULL END) AS cases, count(*) FILTER (WHERE path = 'c:\TEMP') AS plain,
  count(*) FILTER (WHERE path IN ('c:\TEMP', 'y')) AS listed FROM path GROUP BY 1$$, every => NULL) > 0 AS made;
RESET search_path;
INSERT INTO path VALUES ('2026-01-01', NULL, 2);
TABLE path_1d_live;
SELECT rollup.run('path') AS rows;
TABLE path_1d;
SELECT rollup.drop('path_1d');
-- sketches have the parameters that they had where the query was written
SELECT hll_set_defaults(13, 5, -1, 1);
SELECT rollup.create('path_1d', $$SELECT date_trunc('day', at) AS at, hll_add_agg(hll_hash_text(path)) AS paths FROM path GROUP BY 1$$, every => NULL) > 0 AS made;
SELECT hll_set_defaults(9, 5, -1, 1);
SELECT rollup.run('path') AS rows;
INSERT INTO path VALUES ('2026-01-01', 'new', 2);
SELECT hll_log2m(paths), round(hll_cardinality(paths)) FROM path_1d_live;
SELECT hll_set_defaults(11, 5, -1, 1);
SELECT rollup.drop('path_1d');
-- levels over buckets of another zone than the rollup's
SELECT rollup.create('zone_1d', $$SELECT date_trunc('day', at, 'Europe/Berlin') AS at, count(*) AS n FROM clock GROUP BY 1$$, every => NULL, coarser => '{"zone_1m": "1 month"}');
SELECT rollup.create('zone_1h', $$SELECT date_trunc('hour', at, 'Asia/Kathmandu') AS at, count(*) AS n FROM clock GROUP BY 1$$, every => NULL, coarser => '{"zone_1d": "1 day"}');
SELECT rollup.create('zone_1d', $$SELECT date_trunc('day', at, 'Europe/Berlin') AS at, count(*) AS n FROM clock GROUP BY 1$$, every => NULL, timezone => 'europe/berlin', coarser => '{"zone_1m": "1 month"}') > 0 AS made;
INSERT INTO clock VALUES ('2026-04-01 10:00Z'), ('2026-03-31 22:30Z'), ('2026-03-31 21:30Z');
SELECT rollup.run('clock') > 0 AS ran; SELECT * FROM zone_1m WHERE at > '2026-02-01' ORDER BY at;
SELECT rollup.drop('zone_1d');
-- rows expire by the clock of their rollup, or by the one that is given
CREATE TABLE local (at timestamp, day date);
SELECT rollup.create('local_1h', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM local GROUP BY 1', every => NULL, timezone => 'America/Los_Angeles') > 0 AS made;
SELECT rollup.retain('local', '10 hours'), rollup.retain('local_1h', '20 hours');
SELECT relation, timezone FROM rollup.retention ORDER BY relation::text;
INSERT INTO local SELECT (now() AT TIME ZONE 'America/Los_Angeles') - i * interval '1 hour' - interval '1 minute' FROM generate_series(0, 20) i;
SELECT rollup.run('local') AS rows, rollup.expire('local') AS gone;
SELECT count(*) FROM local;
SELECT rollup.retain('local', '10 hours', timezone => 'UTC'), rollup.expire('local') AS gone;
SELECT rollup.retain('local', '10 hours', timezone => 'No/Where');
SELECT rollup.create('local_1d', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM local GROUP BY 1', every => NULL, timezone => 'UTC') > 0 AS made;
SELECT rollup.retain('local', '10 hours');
CREATE TABLE other (at timestamp);
SET timezone = 'Asia/Tokyo';
SELECT rollup.retain('other', '1 day', 'at');
SELECT timezone FROM rollup.retention WHERE relation = 'other'::regclass;
