\pset format unaligned
\pset tuples_only
-- intervals that lead nowhere, and what goes with the session, are refused: with what is wrong, and what to write
CREATE TABLE event (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
CREATE TABLE event_rest PARTITION OF event DEFAULT;
CREATE FUNCTION try(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE code text; message text; hint text;
BEGIN
  EXECUTE call;
  RETURN 'done';
EXCEPTION WHEN others THEN
  GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
  RETURN regexp_replace(format('%s %s: %s', code, message, hint), 'pg_temp_\d+', 'pg_temp_N');
END $$;
CREATE FUNCTION every(i text) RETURNS text LANGUAGE sql AS
$$ SELECT try(format('SELECT rollup.create(''%s'', ''SELECT date_trunc(''''day'''', at) AS day, count(*) AS n FROM event GROUP BY 1'', every => %L)', 'e' || md5(i), i)) $$;
SELECT every('0'), every('-1 day'), every('-1 microsecond');
SELECT every('178000000 years'), every('100000 years'), every('1 month -31 days');
SELECT every('1 day -23 hours -1 second');
SELECT every('1 microsecond'), every('1 month'), every('1000 years');
-- the worker is not stopped by what is taken
SELECT count(*) FROM rollup.status WHERE next_run IS NULL;
INSERT INTO event VALUES ('2026-01-01', 1);
SELECT rollup.run_due() > 0;
SELECT rollup.run_due();
SELECT try('UPDATE rollup.definition SET every = ''-1 second''');
SELECT try(format('SELECT rollup.retain(''event'', %L)', i)) FROM unnest('{0,-1 day,1 month -30 days,178000000 years,7000 years}'::text[]) i;
SELECT try(format('SELECT rollup.retain(''event'', %L)', i)) FROM unnest('{1 microsecond,6000 years}'::text[]) i;
SELECT count(*) FROM event;
SELECT try(format('SELECT rollup.partition(''event'', %L, %L)', w, a)) FROM (VALUES ('0', NULL), ('-1 day', NULL), ('178000000 years', NULL), ('30000 years', NULL), ('1 day', '178000000 years'),
  ('1 day', '-1 day'), ('1 day', '0'), ('1 day', '1 day')) v (w, a);
-- tables, and what a query uses, that go with the session
CREATE TEMP TABLE passing (at timestamptz);
CREATE TEMP TABLE place (id int PRIMARY KEY);
CREATE FUNCTION pg_temp.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
CREATE TYPE pg_temp.mood AS ENUM ('fine');
CREATE FUNCTION made(name text, query text, more text DEFAULT '') RETURNS text LANGUAGE sql AS
$$ SELECT try(format('SELECT rollup.create(%L, %L, every => NULL%s)', name, query, more)) $$;
SELECT made('pg_temp.t', 'SELECT at, count(*) FROM event GROUP BY 1');
SELECT made(pg_my_temp_schema()::regnamespace || '.t', 'SELECT at, count(*) FROM event GROUP BY 1');
SELECT made('t', 'SELECT at, count(*) FROM passing GROUP BY 1');
SELECT made('t', 'SELECT at, count(*) FROM event GROUP BY 1', ', into_table => ''passing''');
SELECT made('t', 'SELECT at, count(*) FROM event GROUP BY 1', ', into_table => ''pg_temp.passing''');
SELECT made('t', 'SELECT date_trunc(''day'', at) AS day, count(*) FROM event GROUP BY 1', ', coarser => ''{"pg_temp.m": "1 month"}''');
SELECT made('t', 'SELECT at, count(*) FROM event JOIN place ON id = v GROUP BY 1', ', joins => ''snapshot''');
SELECT made('t', 'SELECT at, sum(pg_temp.twice(v)) AS s FROM event GROUP BY 1');
SELECT made('t', 'SELECT at, pg_temp.twice(sum(v)::int) AS s FROM event GROUP BY 1');
SELECT made('t', 'SELECT at, v::text::pg_temp.mood AS m, count(*) FROM event GROUP BY 1, 2');
SELECT made('t', 'SELECT date_trunc(''day'', at) AS day, count(*) FROM event GROUP BY 1');
SELECT try($$SELECT rollup.add_level('t', 'pg_temp.m', '1 month')$$);
SELECT try($$SELECT rollup.add_column('t', 's', 'sum(pg_temp.twice(v))')$$);
SELECT try($$SELECT rollup.replace('t', 'SELECT date_trunc(''day'', at) AS day, count(*), sum(pg_temp.twice(v)) AS s FROM event GROUP BY 1')$$);
SELECT try($$SELECT rollup.retain('passing', '1 day', 'at')$$);
CREATE TEMP TABLE parted (at timestamptz) PARTITION BY RANGE (at);
SELECT try($$SELECT rollup.partition('parted', '1 day')$$);
SELECT column_name FROM information_schema.columns WHERE table_name = 't' ORDER BY 1;
