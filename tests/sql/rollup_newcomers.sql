\set VERBOSITY terse
-- rows that bring stamps, and what else happens before the run that judges them
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
-- a MERGE that moves a row and inserts others of the same stamp, each of another hour
CREATE TABLE lot (at timestamptz, bay int, id int) PARTITION BY LIST (bay);
CREATE TABLE lot_1 PARTITION OF lot FOR VALUES IN (1);
CREATE TABLE lot_2 PARTITION OF lot FOR VALUES IN (2);
SELECT rollup.create('lots', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(id) AS ids FROM lot GROUP BY 1', every => NULL) IS NOT NULL AS made;
CREATE TABLE parked (LIKE lot INCLUDING DEFAULTS);
INSERT INTO parked (at, bay, id) SELECT timestamptz '2026-01-01' + i * interval '1 hour', 1, i FROM generate_series(1, 40) i;
INSERT INTO lot VALUES ('2026-01-09', 1, 0);
SELECT rollup_lot();
INSERT INTO lot SELECT * FROM parked WHERE id IN (1, 20);
SELECT rollup_lot() AS want_2;
MERGE INTO lot l USING parked p ON l.id = p.id WHEN MATCHED THEN UPDATE SET bay = 2 WHEN NOT MATCHED THEN INSERT (at, bay, id, rollup_stamp) VALUES (p.at, p.bay, p.id, p.rollup_stamp);
SELECT rollup_lot() AS want_38, differs('lots', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(id) AS ids FROM lot GROUP BY 1') AS want_0;
-- and one in a trigger of a table whose UPDATE moves rows
CREATE TABLE other (id int, part int) PARTITION BY LIST (part);
CREATE TABLE other_1 PARTITION OF other FOR VALUES IN (1);
CREATE TABLE other_2 PARTITION OF other FOR VALUES IN (2);
INSERT INTO other SELECT i, 1 FROM generate_series(1, 5) i;
CREATE FUNCTION bring() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO lot SELECT * FROM parked WHERE id = NEW.id; RETURN NEW; END';
CREATE TRIGGER bring AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION bring();
UPDATE other SET part = 2;
SELECT rollup_lot() AS want_5, differs('lots', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(id) AS ids FROM lot GROUP BY 1') AS want_0;
-- changed before the run: they are left out with a word, those beside them are counted; what was deleted is not there
CREATE TABLE visit (at timestamptz NOT NULL, site int, ms int);
\set days 'SELECT date_trunc(''day'', at) AS at, site, count(*) AS n, sum(ms) AS ms FROM visit GROUP BY 1, 2'
SELECT rollup.create('visits', :'days', every => NULL) IS NOT NULL AS made;
SELECT rollup.create('follows', :'days', every => NULL, on_change => 'recompute') IS NOT NULL AS made;
CREATE TABLE staging (LIKE visit INCLUDING DEFAULTS);
INSERT INTO staging (at, site, ms) SELECT timestamptz '2026-01-01' + i * interval '1 hour', i % 4, i FROM generate_series(1, 47) i;
INSERT INTO visit VALUES ('2026-01-01', 1, 1), ('2026-01-01', 2, 1);
SELECT rollup_visit();
INSERT INTO visit SELECT * FROM staging;
UPDATE visit SET ms = ms + 1 WHERE site = 2;
DELETE FROM visit WHERE site = 3;
SELECT rollup_visit() AS want_23;
SELECT name, left_out FROM rollup.status WHERE source = 'visit'::regclass ORDER BY name;
SELECT differs('(SELECT * FROM visits WHERE site <> 2)', 'SELECT * FROM (' || :'days' || ') d WHERE site <> 2') AS want_0, differs('follows', :'days') AS want_0;
SELECT rollup.rebuild('visits') > 0 AS rebuilt, differs('visits', :'days') AS want_0, rollup_visit() AS want_0;
-- rows that were counted and are changed beside newcomers are no reason for a word
INSERT INTO visit SELECT * FROM staging WHERE site = 1;
UPDATE visit SET ms = ms + 1 WHERE site = 0;
SELECT rollup_visit() AS want_12, differs('(SELECT at, site, n FROM visits)', 'SELECT at, site, n FROM (' || :'days' || ') d') AS want_0, differs('follows', :'days') AS want_0;
-- a table that is rewritten before the run
SET client_min_messages = error;
SELECT rollup.rebuild('visits') > 0 AS rebuilt;
INSERT INTO visit SELECT * FROM staging WHERE site = 1;
ALTER TABLE visit ADD COLUMN noise float DEFAULT random();
SELECT rollup_visit() AS run, differs('follows', :'days') AS want_0;
RESET client_min_messages;
SELECT name, left_out FROM rollup.status WHERE source = 'visit'::regclass ORDER BY name;
ALTER TABLE visit DROP COLUMN noise;
SELECT rollup.rebuild('visits') > 0 AS rebuilt, differs('visits', :'days') AS want_0;
-- moved by an UPDATE before the run, to where no rows came
INSERT INTO lot SELECT * FROM parked WHERE id BETWEEN 6 AND 10;
UPDATE lot SET bay = 2 WHERE bay = 1;
SELECT rollup_lot() AS want_0;
SELECT left_out FROM rollup.status WHERE name = 'lots';
-- one transaction moves as many as another brings: nobody can tell, but for who computes the bucket again
CREATE TABLE tie (at timestamptz, part int, v int) PARTITION BY LIST (part);
CREATE TABLE tie_1 PARTITION OF tie FOR VALUES IN (1);
CREATE TABLE tie_2 PARTITION OF tie FOR VALUES IN (2);
\set ties 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(v) AS v FROM tie GROUP BY 1'
SELECT rollup.create('ties', :'ties', every => NULL) IS NOT NULL AS made;
SELECT rollup.create('ties_again', :'ties', every => NULL, on_change => 'recompute') IS NOT NULL AS made;
CREATE TABLE apart (LIKE tie INCLUDING DEFAULTS);
INSERT INTO apart (at, part, v) SELECT '2026-01-01', 1, i FROM generate_series(1, 5) i;
INSERT INTO tie SELECT '2026-01-01', 1, i FROM generate_series(1, 5) i;
SELECT rollup_tie();
WITH gone AS (DELETE FROM tie RETURNING *) INSERT INTO tie SELECT at, 2, v, rollup_stamp FROM gone;
INSERT INTO tie SELECT * FROM apart;
-- the warnings name the transactions, whose numbers are others each time
SET client_min_messages = error;
SELECT rollup_tie(), (SELECT n FROM ties) AS stays, differs('ties_again', :'ties') AS want_0;
RESET client_min_messages;
SELECT name, left_out FROM rollup.status WHERE source = 'tie'::regclass ORDER BY name;
SELECT rollup.rebuild('ties'), rollup_tie(), differs('ties', :'ties') AS want_0;
-- beside a backlog: newcomers of times that are merged are judged, those of others come with their piece, once
CREATE TABLE log (at timestamptz NOT NULL, k int, v int);
INSERT INTO log SELECT timestamptz '2026-01-01' + i * interval '10 minutes', i % 3, i FROM generate_series(1, 3000) i;
\set logs 'SELECT date_trunc(''day'', at) AS at, k, count(*) AS n, sum(v) AS v FROM log GROUP BY 1, 2'
SELECT rollup.create('logs', :'logs', every => NULL) IS NOT NULL AS made;
CREATE TABLE copied (LIKE log INCLUDING DEFAULTS);
INSERT INTO copied (at, k, v) SELECT timestamptz '2026-01-01' + i * interval '10 minutes', i % 3, i FROM generate_series(1, 3000, 7) i;
SET rollup.batch_rows = 1000;
SELECT rollup_internal.work_off('logs') AS left;
INSERT INTO log SELECT * FROM copied WHERE k <> 2;
WITH gone AS (DELETE FROM log WHERE k = 2 AND v % 5 = 1 RETURNING *) INSERT INTO log SELECT * FROM gone;
SELECT rollup_internal.work_off('logs') AS left, differs('logs_live', :'logs') AS want_0;
INSERT INTO log SELECT * FROM copied WHERE k = 1;
SELECT rollup_internal.work_off('logs') AS left, differs('logs_live', :'logs') AS want_0;
SELECT rollup_log() AS run, differs('logs', :'logs') AS want_0, (SELECT left_out FROM rollup.status WHERE name = 'logs');
RESET rollup.batch_rows;
-- a column that is filled while newcomers wait has each of them once
INSERT INTO log SELECT * FROM copied WHERE k = 2;
SELECT rollup.add_column('logs', 'squares', 'sum(v * v)');
SELECT rollup_log() AS want_0, differs('(SELECT at, k, n, v, squares FROM logs)', 'SELECT date_trunc(''day'', at) AS at, k, count(*) AS n, sum(v) AS v, sum(v * v) AS squares FROM log GROUP BY 1, 2') AS want_0;
INSERT INTO log SELECT * FROM copied WHERE k = 2;
SELECT rollup.pause('logs');
SELECT rollup.add_column('logs', 'cubes', 'sum(v::bigint * v * v)');
SELECT rollup.add_column('logs', 'cubes', 'sum(v::bigint * v * v)', backfill => false);
SELECT rollup.resume('logs');
SELECT rollup_log() > 0 AS merged, differs('(SELECT at, k, n, squares FROM logs)', 'SELECT date_trunc(''day'', at) AS at, k, count(*) AS n, sum(v * v) AS squares FROM log GROUP BY 1, 2') AS want_0;
-- a table of another kind tells of nothing that comes to it
CREATE EXTENSION postgres_fdw;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
CREATE TABLE far (at timestamptz, v int) PARTITION BY LIST (v);
SELECT rollup.create('fars', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM far GROUP BY 1', every => NULL) IS NOT NULL AS made;
CREATE FOREIGN TABLE far_1 PARTITION OF far FOR VALUES IN (1) SERVER elsewhere;
SELECT unwatched FROM rollup.status WHERE name = 'fars';
-- a statement brings rows and changes others that were counted, of the same partition, minute and group: each is counted once, or
-- it cannot be told and is said
CREATE TABLE mixed (id int, at timestamptz NOT NULL, part int, site int, v int) PARTITION BY LIST (part);
CREATE TABLE mixed_1 PARTITION OF mixed FOR VALUES IN (1);
CREATE TABLE mixed_2 PARTITION OF mixed FOR VALUES IN (2);
\set mixes 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, sum(v) AS v FROM mixed GROUP BY 1, 2'
SELECT rollup.create('mixes', :'mixes', every => NULL) IS NOT NULL AS made;
SELECT rollup.create('mixes_again', :'mixes', every => NULL, on_change => 'recompute') IS NOT NULL AS made;
CREATE TABLE brought (LIKE mixed INCLUDING DEFAULTS);
CREATE PROCEDURE mix(first int, to_part int, to_site int) LANGUAGE plpgsql AS $$
BEGIN
  MERGE INTO mixed m USING (SELECT * FROM brought WHERE id = first + 1 UNION ALL SELECT first, now(), 1, 1, 1, 1) s ON m.id = s.id
    WHEN MATCHED THEN UPDATE SET part = to_part, site = to_site
    WHEN NOT MATCHED THEN INSERT (id, at, part, site, v, rollup_stamp) VALUES (s.id, s.at, to_part, to_site, s.v, s.rollup_stamp);
END $$;
INSERT INTO brought (id, at, part, site, v) SELECT i, '2026-01-01 10:00', 1, 1, i FROM generate_series(1, 99) i;
INSERT INTO mixed SELECT i, '2026-01-01 10:00', 1, i, 1000 FROM generate_series(1, 9, 2) i;
SELECT rollup_mixed() AS want_5;
CALL mix(1, 1, 1);
SELECT rollup_mixed() AS want_1, differs('mixes', :'mixes') AS want_0, differs('mixes_again', :'mixes') AS want_0;
CALL mix(7, 2, 7);
SELECT rollup_mixed() AS want_1, differs('mixes', :'mixes') AS want_0, differs('mixes_again', :'mixes') AS want_0;
MERGE INTO mixed m USING (SELECT * FROM brought WHERE id BETWEEN 60 AND 62 UNION ALL SELECT 9, now(), 1, 1, 1, 1) s ON m.id = s.id
  WHEN MATCHED THEN UPDATE SET part = 2
  WHEN NOT MATCHED THEN INSERT (id, at, part, site, v, rollup_stamp) VALUES (s.id, s.at, 2, s.id, s.v, s.rollup_stamp);
SELECT rollup_mixed() AS want_3, differs('mixes', :'mixes') AS want_0, differs('mixes_again', :'mixes') AS want_0;
SET client_min_messages = error;
CALL mix(3, 1, 30);
SELECT rollup_mixed();
CALL mix(5, 2, 50);
SELECT rollup_mixed();
RESET client_min_messages;
SELECT * FROM mixes ORDER BY site;
SELECT name, left_out FROM rollup.status WHERE source = 'mixed'::regclass ORDER BY name;
SELECT differs('mixes_again', :'mixes') AS want_0, rollup.rebuild('mixes') > 0 AS rebuilt, differs('mixes', :'mixes') AS want_0;
-- rows that were there are changed by an earlier command of the same transaction, or by a later one
INSERT INTO mixed SELECT i, '2026-01-01 10:00', 1, i, 1000 FROM generate_series(11, 13, 2) i;
SELECT rollup_mixed() AS want_2;
SET client_min_messages = error;
BEGIN;
UPDATE mixed SET part = 2, site = 110 WHERE id = 11;
INSERT INTO mixed (id, at, part, site, v, rollup_stamp) SELECT id, at, 2, 110, v, rollup_stamp FROM brought WHERE id = 12;
COMMIT;
SELECT rollup_mixed();
BEGIN;
INSERT INTO mixed (id, at, part, site, v, rollup_stamp) SELECT id, at, 2, 130, v, rollup_stamp FROM brought WHERE id = 14;
UPDATE mixed SET part = 2, site = 130 WHERE id = 13;
COMMIT;
SELECT rollup_mixed();
RESET client_min_messages;
SELECT * FROM mixes WHERE site > 10 ORDER BY site;
SELECT name, left_out FROM rollup.status WHERE source = 'mixed'::regclass ORDER BY name;
SELECT differs('mixes_again', :'mixes') AS want_0, rollup.rebuild('mixes') > 0 AS rebuilt;
-- what a transaction has brought it may put right, and move
BEGIN;
INSERT INTO mixed (id, at, part, site, v, rollup_stamp) SELECT id, at, 1, 200, v, rollup_stamp FROM brought WHERE id BETWEEN 21 AND 30;
UPDATE mixed SET v = v + 1 WHERE id = 22;
UPDATE mixed SET part = 2 WHERE id = 23;
COMMIT;
SELECT rollup_mixed() AS want_10, differs('mixes', :'mixes') AS want_0, differs('mixes_again', :'mixes') AS want_0;
-- an INSERT that changes what it finds
CREATE UNIQUE INDEX ON mixed_1 (id);
INSERT INTO mixed_1 (id, at, part, site, v, rollup_stamp) SELECT id, at, 1, 1, v, rollup_stamp FROM brought WHERE id IN (1, 2, 40, 41)
  ON CONFLICT (id) DO UPDATE SET v = mixed_1.v + 0;
SELECT rollup_mixed() AS want_2, differs('mixes', :'mixes') AS want_0, differs('mixes_again', :'mixes') AS want_0;
