\set VERBOSITY terse
\pset format unaligned
\pset tuples_only
-- what cannot be rolled up is refused, each with what to write instead, and nothing is left behind
CREATE TABLE event (site int NOT NULL, at timestamptz NOT NULL, other timestamptz, country text, ms int, ok bool, j json, p point, x xid, day date GENERATED ALWAYS AS ((at AT TIME ZONE 'UTC')::date) STORED);
CREATE TABLE site (id int PRIMARY KEY, name text);
CREATE VIEW seen AS SELECT * FROM event;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM event;
CREATE TEMP TABLE passing (at timestamptz);
CREATE TABLE parted (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE part PARTITION OF parted DEFAULT;
CREATE FUNCTION no(query text, options text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE code text; message text; hint text;
BEGIN
  EXECUTE format('SELECT rollup.create(''bad'', %L%s)', query, options);
  RETURN 'made';
EXCEPTION WHEN others THEN
  GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
  RETURN format('%s %s: %s', code, message, hint);
END $$;
-- the query
SELECT no('DELETE FROM event');
SELECT no('SELECT 1; SELECT 2');
SELECT no('SELEC');
SELECT no('SELECT 1');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1 UNION SELECT now(), 1');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1 EXCEPT SELECT now(), 1');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1 INTERSECT ALL SELECT now(), 1');
SELECT no('WITH w AS (SELECT 1) SELECT at, count(*) FROM event GROUP BY 1');
SELECT no('SELECT at, count(*), row_number() OVER () FROM event GROUP BY 1');
SELECT no('SELECT at, count(*), generate_series(1, 2) FROM event GROUP BY 1');
SELECT no('SELECT at, count(*) FROM event WHERE site IN (SELECT id FROM site) GROUP BY 1');
SELECT no('SELECT at, site, count(*) FROM event GROUP BY GROUPING SETS (1, 2)');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1 HAVING count(*) > 1');
SELECT no('SELECT DISTINCT at, count(*) FROM event GROUP BY 1');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1 ORDER BY 1');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1 LIMIT 1');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1 ORDER BY 2 FETCH FIRST 1 ROW WITH TIES');
SELECT no('SELECT at, sum(count(*)) OVER (PARTITION BY at) AS s FROM event GROUP BY 1');
SELECT no('SELECT at FROM event FOR UPDATE');
SELECT no('SELECT at, count(*) FROM event TABLESAMPLE system (10) GROUP BY 1');
SELECT no('SELECT at, count(*) FROM ONLY event GROUP BY 1');
-- the source
SELECT no('SELECT at, count(*) FROM (SELECT * FROM event) e GROUP BY 1');
SELECT no('SELECT g, count(*) FROM generate_series(now(), now(), interval ''1 s'') g GROUP BY 1');
SELECT no('SELECT at, count(*) FROM seen GROUP BY 1');
SELECT no('SELECT at, count(*) FROM kept GROUP BY 1');
SELECT no('SELECT at, count(*) FROM passing GROUP BY 1');
SELECT no('SELECT at, count(*) FROM part GROUP BY 1');
SELECT no('SELECT at, count(*) FROM no_such_table GROUP BY 1');
SELECT no('SELECT xact_start, count(*) FROM pg_stat_activity GROUP BY 1');
-- joins
SELECT no('SELECT at, name, count(*) FROM event JOIN site ON id = site GROUP BY 1, 2');
SELECT no('SELECT at, name, count(*) FROM event JOIN site ON id = site GROUP BY 1, 2', ', joins => ''other''');
SELECT no('SELECT a.at, count(*) FROM event a JOIN event b USING (site) GROUP BY 1', ', joins => ''snapshot''');
SELECT no('SELECT at, name, count(*) FROM site LEFT JOIN event ON id = site GROUP BY 1, 2', ', joins => ''snapshot''');
SELECT no('SELECT at, name, count(*) FROM event FULL JOIN site ON id = site GROUP BY 1, 2', ', joins => ''snapshot''');
SELECT no('SELECT at, name, count(*) FROM event JOIN seen s USING (at) JOIN site ON id = s.site GROUP BY 1, 2', ', joins => ''snapshot''');
SELECT no('SELECT at, name, count(*) FROM event JOIN site ON id = site AND random() < 0.5 GROUP BY 1, 2', ', joins => ''snapshot''');
-- keys
SELECT no('SELECT site, count(*) FROM event GROUP BY 1');
SELECT no('SELECT at, other, count(*) FROM event GROUP BY 1, 2');
SELECT no('SELECT least(at, other) AS t, count(*) FROM event GROUP BY 1');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1, site');
SELECT no('SELECT at, x, count(*) FROM event GROUP BY 1, 2');
SELECT no('SELECT at, j, count(*) FROM event GROUP BY 1, 2');
SELECT no('SELECT at, p, count(*) FROM event GROUP BY 1, 2');
SELECT no('SELECT at, site AS at, count(*) FROM event GROUP BY 1, 2');
SELECT no('SELECT at, count(*) AS rollup_stamp FROM event GROUP BY 1');
SELECT no('SELECT at, count(*) FROM event WHERE random() < 0.5 GROUP BY 1');
SELECT no('SELECT at + random() * interval ''1 s'' AS t, count(*) FROM event GROUP BY 1');
-- aggregates
SELECT no('SELECT at FROM event GROUP BY 1');
SELECT no('SELECT at, 1 AS one, count(*) FROM event GROUP BY 1');
SELECT no('SELECT date_trunc(''day'', at) AS t, extract(hour FROM date_trunc(''day'', at)) * count(*) AS odd FROM event GROUP BY 1');
SELECT no('SELECT at, sum(ms * random()) FROM event GROUP BY 1');
SELECT no('SELECT at, count(*) FILTER (WHERE random() < 0.5) FROM event GROUP BY 1');
SELECT no('SELECT at, count(DISTINCT ms) FROM event GROUP BY 1');
SELECT no('SELECT at, avg(DISTINCT ms) + 1 AS a FROM event GROUP BY 1');
SELECT no('SELECT at, array_agg(ms) FROM event GROUP BY 1');
SELECT no('SELECT at, string_agg(country, '','') FROM event GROUP BY 1');
SELECT no('SELECT at, string_agg(country, '','' ORDER BY ms) FROM event GROUP BY 1');
SELECT no('SELECT at, jsonb_object_agg(country, ms) FROM event GROUP BY 1');
SELECT no('SELECT at, json_agg(ms) FROM event GROUP BY 1');
SELECT no('SELECT at, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FROM event GROUP BY 1');
SELECT no('SELECT at, mode() WITHIN GROUP (ORDER BY ms) FROM event GROUP BY 1');
SELECT no('SELECT at, rank(1) WITHIN GROUP (ORDER BY ms) FROM event GROUP BY 1');
SELECT no('SELECT at, percentile_disc(0.9) WITHIN GROUP (ORDER BY ms) * 2 AS p FROM event GROUP BY 1');
SELECT no('SELECT at, xmlagg(xmlforest(ms)) AS x FROM event GROUP BY 1');
SELECT no('SELECT at, jsonb_agg(ms) FROM event GROUP BY 1');
CREATE AGGREGATE product(int) (SFUNC = int4mul, STYPE = int, INITCOND = '1');
SELECT no('SELECT at, product(ms) FROM event GROUP BY 1');
-- the options
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', timezone => ''Mars/Olympus''');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', timezone => NULL');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', coarser => ''[1]''');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": 5}''');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "soon"}''');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "-1 hour"}''');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "7 hours"}''');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "5 months"}''');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "1 month 1 day"}''');
SELECT no('SELECT at, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad": "1 hour"}''');
SELECT no('SELECT date_trunc(''hour'', at) AS t, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "30 minutes"}''');
SELECT no('SELECT date_trunc(''hour'', at) AS t, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "1 hour"}''');
SELECT no('SELECT date_trunc(''week'', at) AS t, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "1 month"}''');
SELECT no('SELECT date_bin(''5 minutes'', at, timestamptz ''2000-01-01 00:01Z'') AS t, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "1 hour"}''');
SELECT no('SELECT date_bin(''1 hour'', at, timestamptz ''2000-01-01 00:00Z'') AS t, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "1 day"}'', timezone => ''Asia/Kolkata''');
SELECT no('SELECT at + interval ''1 hour'' AS t, count(*) FROM event GROUP BY 1', ', coarser => ''{"bad_2": "1 day"}''');
SELECT no('SELECT at, jsonb_counter_merge_agg(jsonb_build_object(country, 1), 10) AS c FROM event GROUP BY 1');
SELECT count(*) AS left_behind FROM pg_class WHERE relname LIKE 'bad%';
SELECT count(*) AS left_behind FROM pg_attribute WHERE attname = 'rollup_stamp' AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace);
SELECT count(*) AS left_behind FROM rollup.definition;
