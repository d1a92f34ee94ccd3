\set VERBOSITY terse
-- rows that were there before the rollup, in pieces, newest first, exact at every step
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
CREATE TABLE event (at timestamptz, site int, who text);
INSERT INTO event SELECT timestamptz '2026-01-01' + i * interval '3 minutes', i % 3, 'p' || i % 31 FROM generate_series(1, 2000) i;
INSERT INTO event SELECT NULL, 1, 'nobody' FROM generate_series(1, 5);
INSERT INTO event VALUES ('infinity', 1, 'late'), ('-infinity', 1, 'early'), ('1900-01-01', 1, 'old');
\set query 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, sum(hashtext(who)) AS hash, jsonb_counter_agg(who) AS people FROM event GROUP BY 1, 2'
\set day 'SELECT date_trunc(''day'', at, ''UTC'') AS at, site, count(*) AS n, sum(hashtext(who)) AS hash, jsonb_counter_agg(who) AS people FROM event GROUP BY 1, 2'
SELECT rollup.create('event_1h', :'query', every => NULL, coarser => '{"event_1d": "1 day"}') IS NOT NULL AS made;
SET rollup.batch_rows = 300;
SELECT differs('event_1h_live', :'query');
SELECT rollup_internal.work_off('event_1h') AS left_over;
SELECT min(at) FILTER (WHERE isfinite(at)) > '2026-01-01 12:00' AS newest_first, sum(n) < 2008 AS a_piece FROM event_1h;
SELECT differs('event_1h_live', :'query'), differs('event_1d_live', :'day'), (SELECT count(*) FROM rollup.check('event_1h'));
SELECT backlog_rows, backlog_done, lag_rows, backlog_end IS NOT NULL AS ends FROM rollup.status;
-- new and late rows come at once
INSERT INTO event SELECT timestamptz '2026-01-01' + i * interval '100 minutes', 7, 'new' FROM generate_series(1, 60) i;
BEGIN; INSERT INTO event VALUES ('2026-01-01 01:00', 7, 'aborted'); SELECT rollup_internal.work_off('event_1h') AS left_over; ROLLBACK;
SELECT rollup_internal.work_off('event_1h') AS left_over;
SELECT sum(n) FROM event_1h WHERE site = 7;
SELECT differs('event_1h_live', :'query'), differs('event_1d_live', :'day'), (SELECT count(*) FROM rollup.check('event_1h'));
-- what expires has been merged
SELECT rollup.retain('event', '1 day');
SELECT expire_event() > 0 AS gone;
SELECT count(*) > 0 AS waiting, min(at) FILTER (WHERE isfinite(at)) FROM event;
SELECT sum(n) FROM event_1h_live;
-- a level and a column in the middle
SELECT rollup.add_level('event_1h', 'event_1m', '1 month');
SELECT sum(n) FROM event_1m_live;
SELECT rollup.retain('event', NULL);
SET client_min_messages = warning;
CALL rollup.catch_up('event_1h');
RESET client_min_messages;
SELECT rollup_internal.work_off('event_1h') AS left_over;
SELECT (SELECT sum(n) FROM event_1h), (SELECT sum(n) FROM event_1d), (SELECT sum(n) FROM event_1m), (SELECT sum(n) FROM event_1m_live);
SELECT backlog_rows, backlog_done, lag_rows, backlog_end FROM rollup.status;
-- by hand: all of it
CREATE TABLE tick (at date, v int);
INSERT INTO tick SELECT date '2026-01-01' + i % 40, i FROM generate_series(1, 1000) i;
SELECT rollup.create('tick_month', 'SELECT date_trunc(''month'', at) AS at, count(*) AS n, sum(v) AS v FROM tick GROUP BY 1', every => NULL) IS NOT NULL AS made;
SELECT rollup_tick();
SELECT differs('tick_month_live', 'SELECT date_trunc(''month'', at, ''UTC'') AS at, count(*) AS n, sum(v) AS v FROM tick GROUP BY 1'), differs('tick_month', 'SELECT date_trunc(''month'', at, ''UTC'') AS at, count(*) AS n, sum(v) AS v FROM tick GROUP BY 1');
SELECT rollup.drop('tick_month');
-- one time for all rows: one piece
CREATE TABLE same (at timestamp, v int);
INSERT INTO same SELECT '2026-01-01', i FROM generate_series(1, 1000) i;
SELECT rollup.create('same_month', 'SELECT date_trunc(''month'', at) AS at, count(*) AS n, sum(v) AS v FROM same GROUP BY 1', every => NULL) IS NOT NULL AS made;
SELECT rollup_internal.work_off('same_month') AS left_over;
SELECT rollup_internal.work_off('same_month') AS left_over;
SELECT * FROM same_month;
-- reading the live view finds new rows through the index, with partitions too
CREATE TABLE big (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
CREATE TABLE big_1 PARTITION OF big FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE big_2 PARTITION OF big FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT rollup.create('big_1d', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(v) AS v FROM big GROUP BY 1', every => NULL, coarser => '{"big_1mon": "1 month"}') IS NOT NULL AS made;
INSERT INTO big SELECT timestamptz '2026-01-01' + i * interval '25 seconds', i FROM generate_series(1, 200000) i;
ANALYZE big;
-- How far it is is told once a second.
SET client_min_messages = warning;
SELECT rollup_big();
RESET client_min_messages;
INSERT INTO big VALUES ('2026-01-05', 1);
CREATE FUNCTION plan_of(query text) RETURNS TABLE (scans text, n bigint) LANGUAGE plpgsql AS $$
DECLARE line text; plan text := '';
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP plan := plan || line || E'\n'; END LOOP;
  RETURN QUERY SELECT m[1], count(*) FROM regexp_matches(plan, '(Seq Scan on big_[12]\M|Bitmap Index Scan on big_[12])', 'g') m GROUP BY 1 ORDER BY 1;
END $$;
SELECT * FROM plan_of('SELECT * FROM big_1d_live');
SELECT * FROM plan_of('SELECT * FROM big_1mon_live');
SELECT differs('big_1d_live', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(v) AS v FROM big GROUP BY 1');
-- expiry takes what a piece has merged and nothing of what waits in the backlog
CREATE TABLE visit (at timestamptz NOT NULL, n int);
INSERT INTO visit SELECT timestamptz '2026-01-01 00:00:00+00' + i * interval '1 minute', i FROM generate_series(1, 3000) i;
SET rollup.batch_rows = 500;
SELECT rollup.create('visit_1h', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS c, sum(n) AS s, sum(hashint4(n)) AS h FROM visit GROUP BY 1', every => NULL) IS NOT NULL AS created;
SELECT rollup.retain('visit', '1 day');
SELECT rollup.expire('visit') AS before_any_piece;
SELECT rollup_internal.work_off('visit_1h') > 0 AS more;
SELECT rollup.expire('visit') BETWEEN 1 AND 2999 AS some_went;
SELECT (SELECT sum(c) FROM visit_1h) + (SELECT count(*) FROM visit) AS merged_and_left;
SELECT rollup_visit() > 0 AS rest;
SELECT rollup.expire('visit') > 0 AS rest_went;
SELECT sum(c) AS c, sum(s) = 3000 * 3001 / 2 AS s, sum(h) = (SELECT sum(hashint4(i)) FROM generate_series(1, 3000) i) AS h, (SELECT count(*) FROM visit) AS raw FROM visit_1h;
RESET rollup.batch_rows;
