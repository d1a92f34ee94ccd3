\set VERBOSITY terse
-- a rollup changes: the tutorial's own steps, columns that come and go, another query
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
CREATE TABLE http_request (site_id int, ingest_time timestamptz NOT NULL, url text, request_country text, ip_address text, status_code int, response_time_msec int);
CREATE FUNCTION load(n int) RETURNS void LANGUAGE sql AS $$
  INSERT INTO http_request SELECT nullif(i % 4, 3), date_trunc('day', now()) - interval '3 days' + i * n * interval '3 minutes', '/' || i % 7, (ARRAY['USA', 'India', NULL])[1 + i % 3], '10.0.0.' || i % 50, 200 + i % 2 * 300, i % 900
  FROM generate_series(1, 500) i $$;
SELECT rollup.create('http_request_1min', $$
  SELECT site_id, date_trunc('minute', ingest_time) AS ingest_time, count(*) AS request_count,
         count(*) FILTER (WHERE status_code BETWEEN 200 AND 299) AS success_count, count(*) FILTER (WHERE status_code NOT BETWEEN 200 AND 299) AS error_count,
         sum(response_time_msec) / count(*) AS average_response_time_msec
    FROM http_request GROUP BY 1, 2 $$, every => NULL, coarser => '{"http_request_1hour": "1 hour"}') IS NOT NULL AS made;
CREATE VIEW dashboard AS SELECT site_id, sum(request_count) AS n FROM http_request_1min_live GROUP BY 1;
SELECT load(1);
SELECT rollup_http_request();
SELECT load(2);
-- the tutorial: distinct visitors, then countries
SELECT rollup.add_column('http_request_1min', 'distinct_ip_addresses', 'hll_add_agg(hll_hash_text(ip_address))');
SELECT load(3);
SELECT rollup.add_column('http_request_1min', 'country_counters', 'jsonb_counter_agg(request_country)', backfill => true);
\set query 'SELECT site_id, date_trunc(''minute'', ingest_time) AS ingest_time, count(*) AS request_count, count(*) FILTER (WHERE status_code BETWEEN 200 AND 299) AS success_count, count(*) FILTER (WHERE status_code NOT BETWEEN 200 AND 299) AS error_count, sum(response_time_msec) / count(*) AS average_response_time_msec, hll_add_agg(hll_hash_text(ip_address)) AS distinct_ip_addresses, jsonb_counter_agg(request_country) AS country_counters FROM http_request GROUP BY 1, 2'
SELECT differs('http_request_1min_live', :'query'), differs('http_request_1hour_live', replace(:'query', 'minute', 'hour')), rollup_http_request();
SELECT differs('http_request_1min_live', :'query'), differs('http_request_1hour_live', replace(:'query', 'minute', 'hour'));
SELECT * FROM rollup.check('http_request_1min');
SELECT average_response_time_msec, #distinct_ip_addresses > 0 AS visitors, country_counters IS NOT NULL AS countries FROM http_request_1min ORDER BY ingest_time, site_id LIMIT 1;
-- parts that are there are used, others come and go with what needs them
SELECT rollup.add_column('http_request_1min', 'mean', 'avg(response_time_msec)');
SELECT rollup.add_column('http_request_1min', 'latest', 'rollup.last(url, ingest_time)');
SELECT rollup.add_column('http_request_1min', 'total', 'sum(response_time_msec)');
SELECT rollup.add_column('http_request_1min', 'slow_share', 'round(100.0 * count(*) FILTER (WHERE response_time_msec > 500) / count(*), 1)');
SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'http_request_1hour'::regclass AND attnum > 0 AND NOT attisdropped;
SELECT load(1);
SELECT rollup_http_request();
SELECT * FROM rollup.check('http_request_1min');
SELECT differs('(SELECT ingest_time, site_id, mean, latest, total, slow_share, average_response_time_msec FROM http_request_1hour)', $$ SELECT date_trunc('hour', ingest_time) AS ingest_time, site_id, avg(response_time_msec) AS mean, rollup.last(url, ingest_time) AS latest, sum(response_time_msec) AS total, round(100.0 * count(*) FILTER (WHERE response_time_msec > 500) / count(*), 1) AS slow_share, sum(response_time_msec) / count(*) FROM http_request GROUP BY 1, 2 $$);
SELECT rollup.drop_column('http_request_1min', 'request_count');
DROP VIEW dashboard;
SELECT rollup.drop_column('http_request_1min', 'request_count');
SELECT rollup.drop_column('http_request_1min', 'mean');
SELECT rollup.drop_column('http_request_1min', 'latest');
SELECT rollup.drop_column('http_request_1min', 'success_count');
SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'http_request_1min'::regclass AND attnum > 0 AND NOT attisdropped;
SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'http_request_1min_live'::regclass AND attnum > 0 AND NOT attisdropped;
SELECT query FROM rollup.definition;
SELECT load(5);
SELECT rollup_http_request();
SELECT * FROM rollup.check('http_request_1min');
-- another query
SELECT rollup.replace('http_request_1min', $$ SELECT site_id, date_trunc('minute', ingest_time) AS ingest_time, count(*) AS request_count, max(response_time_msec) AS slowest, jsonb_counter_agg(request_country) AS country_counters,
  sum(response_time_msec) AS total FROM http_request r GROUP BY 1, 2 $$);
SELECT load(7);
SELECT rollup_http_request();
SELECT * FROM rollup.check('http_request_1min');
SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'http_request_1min'::regclass AND attnum > 0 AND NOT attisdropped;
SELECT differs('http_request_1hour_live', $$ SELECT site_id, date_trunc('hour', ingest_time) AS ingest_time, count(*) AS request_count, max(response_time_msec) AS slowest, jsonb_counter_agg(request_country) AS country_counters, sum(response_time_msec) AS total FROM http_request GROUP BY 1, 2 $$);
-- without backfill: from now on
SELECT rollup.add_column('http_request_1min', 'fastest', 'min(response_time_msec)', backfill => false);
SELECT count(*) FROM http_request_1min WHERE fastest IS NOT NULL;
SELECT load(1);
SELECT rollup_http_request();
SELECT count(*) > 0 AS filled FROM http_request_1min WHERE fastest IS NOT NULL;
SELECT column_name, count(*) > 0 AS differ FROM rollup.check('http_request_1min') GROUP BY 1;
-- rebuilt
SELECT rollup.rebuild('http_request_1min') = (SELECT count(*) FROM http_request_1min) AS all_of_it;
SELECT * FROM rollup.check('http_request_1min');
-- raw rows that were changed: check tells, rebuild repairs, the level too
UPDATE http_request SET response_time_msec = 1000 WHERE ingest_time < date_trunc('day', now()) - interval '3 days' + interval '20 minutes' AND site_id = 1;
DELETE FROM http_request WHERE ingest_time = date_trunc('day', now()) - interval '3 days' + interval '6 minutes';
SELECT relation, column_name, count(*) FROM rollup.check('http_request_1min') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FROM rollup.check('http_request_1min', date_trunc('day', now()) - interval '2 days');
SELECT rollup.rebuild('http_request_1min', date_trunc('day', now()) - interval '3 days' + interval '1 minute', date_trunc('day', now()) - interval '3 days' + interval '30 minutes') > 0 AS written;
SELECT * FROM rollup.check('http_request_1min');
-- a transaction that is not merged yet does not count; a wrong value is found
BEGIN; INSERT INTO http_request (site_id, ingest_time) VALUES (1, now()); SELECT count(*) FROM rollup.check('http_request_1min'); ROLLBACK;
INSERT INTO http_request (site_id, ingest_time, url) VALUES (1, now(), '/x');
UPDATE http_request_1hour SET total = total + 1, country_counters = NULL WHERE (ingest_time, site_id) = (SELECT ingest_time, site_id FROM http_request_1hour ORDER BY 1, 2 LIMIT 1);
DELETE FROM http_request_1min WHERE (ingest_time, site_id) = (SELECT ingest_time, site_id FROM http_request_1min ORDER BY 1, 2 LIMIT 1);
SELECT relation, column_name, stored IS NULL AS missing FROM rollup.check('http_request_1min') ORDER BY 1, 2;
SELECT rollup.rebuild('http_request_1min') > 0 AS written;
SELECT * FROM rollup.check('http_request_1min');
-- raw rows that have expired cannot be computed again
SELECT rollup.retain('http_request', '50 hours');
SELECT rollup_http_request(), expire_http_request() > 0 AS expired;
SELECT * FROM rollup.check('http_request_1min');
CREATE FUNCTION rollup_message(query text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE query; RETURN 'done'; EXCEPTION WHEN others THEN RETURN SQLERRM; END $$;
SELECT regexp_replace(message, '\d{4}-\S+ \S+', 'a moment') FROM (SELECT rollup_message($$ SELECT rollup.rebuild('http_request_1min') $$) AS message) m;
SELECT rollup.rebuild('http_request_1min', now() - interval '1 day') > 0 AS written;
SET client_min_messages = warning;
SELECT rollup.add_column('http_request_1min', 'longest', 'max(length(url))');
RESET client_min_messages;
SELECT count(*) > 0 AS unknown, bool_and(ingest_time < now() - interval '49 hours') AS old FROM http_request_1min WHERE longest IS NULL;
SELECT * FROM rollup.check('http_request_1min');
-- refused
SELECT rollup.add_column('http_request_1min', 'total', 'count(*)');
SELECT rollup.add_column('http_request_1min', 'bad', 'array_agg(url)');
SELECT rollup.add_column('http_request_1min', 'bad', 'url');
SELECT rollup.add_column('http_request_1min', 'bad', 'count(*)) AS a, (count(*)');
SELECT rollup.add_column('http_request_1min', 'bad', 'random() * count(*)');
SELECT rollup.add_column('no_such', 'bad', 'count(*)');
SELECT rollup.drop_column('http_request_1min', 'site_id');
SELECT rollup.drop_column('http_request_1min', 'no_such');
SELECT rollup.replace('http_request_1min', 'SELECT site_id, date_trunc(''hour'', ingest_time) AS ingest_time, count(*) AS n FROM http_request GROUP BY 1, 2');
SELECT rollup.replace('http_request_1min', 'SELECT site_id, date_trunc(''minute'', ingest_time) AS ingest_time, count(*) AS n FROM http_request WHERE site_id = 1 GROUP BY 1, 2');
SELECT rollup.check('no_such');
SELECT rollup.rebuild(NULL);
CREATE ROLE regress_evolve_guest;
SET ROLE regress_evolve_guest;
SELECT rollup.add_column('http_request_1min', 'bad', 'count(*)');
SELECT rollup.drop_column('http_request_1min', 'total');
SELECT rollup.replace('http_request_1min', 'SELECT 1');
SELECT * FROM rollup.check('http_request_1min');
SELECT rollup.rebuild('http_request_1min');
SELECT rollup.add_level('http_request_1min', 'bad', '1 day');
SELECT rollup.drop_level('http_request_1min', 'http_request_1hour');
SELECT rollup.explain('http_request_1min');
RESET ROLE;
DROP ROLE regress_evolve_guest;
SELECT rollup.drop('http_request_1min');
-- without a live view a column of the raw table can be given another type: nothing is rounded to what the rollup has
CREATE TABLE fare (at timestamptz, price int, zone int DEFAULT 1);
SELECT rollup.create('fares', $$SELECT date_trunc('day', at) AS at, zone, count(*) AS n, sum(price) AS price FROM fare GROUP BY 1, 2$$, every => NULL) IS NOT NULL AS made;
INSERT INTO fare VALUES ('2026-01-05', 1), ('2026-01-05', 2);
SELECT rollup_fare();
DROP VIEW fares_live;
ALTER TABLE fare ALTER COLUMN price TYPE numeric(10, 1);
INSERT INTO fare VALUES ('2026-01-05', 0.4), ('2026-01-06', 0.4);
SELECT rollup_fare();
SELECT rollup.replace('fares', 'SELECT date_trunc(''day''::text, at) AS "at", zone AS "zone", count(*) AS "n", sum(price) AS "price" FROM public.fare AS "fare" GROUP BY 1, 2');
SELECT rollup_fare();
SELECT n, price FROM fares ORDER BY at;
SELECT n, price FROM fares_live ORDER BY at;
DROP VIEW fares_live;
ALTER TABLE fare ALTER COLUMN zone TYPE numeric(3, 1);
INSERT INTO fare VALUES ('2026-01-06', 1, 1.5);
SELECT rollup_fare();
SELECT rollup.drop('fares');
DROP TABLE fare;
