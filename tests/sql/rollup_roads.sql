\set VERBOSITY terse
-- rows that come by another road than an INSERT that leaves the stamp to its default: counted once, whether or not they were before
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
CREATE TABLE visit (at timestamptz NOT NULL, site int, ms int) PARTITION BY RANGE (at);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE visit_rest PARTITION OF visit DEFAULT;
-- rows from before the rollup
INSERT INTO visit SELECT timestamptz '2026-01-02' + i * interval '3 hours', i % 3, i FROM generate_series(1, 50) i;
INSERT INTO visit SELECT timestamptz '2026-05-02' + i * interval '3 hours', i % 3, i FROM generate_series(1, 50) i;
\set days 'SELECT date_trunc(''day'', at) AS at, site, count(*) AS n, sum(ms) AS ms FROM visit GROUP BY 1, 2'
\set mean 'SELECT date_trunc(''hour'', at) AS at, sum(ms) AS ms, max(ms) AS most FROM visit WHERE site < 2 GROUP BY 1'
SELECT rollup.create('visits', :'days', every => NULL, coarser => '{"visits_month": "1 month"}') IS NOT NULL AS made;
-- a rollup without count(*) keeps one
SELECT rollup.create('sums', :'mean', every => NULL, timezone => 'UTC') IS NOT NULL AS made;
CREATE FUNCTION all_differ(suffix text DEFAULT '') RETURNS bigint LANGUAGE sql AS $$
  SELECT differs('(SELECT at, site, n, ms FROM visits' || suffix || ')', 'SELECT date_trunc(''day'', at) AS at, site, count(*) AS n, sum(ms) AS ms FROM visit GROUP BY 1, 2')
    + differs('(SELECT at, site, n, ms FROM visits_month' || suffix || ')', 'SELECT date_trunc(''month'', at) AS at, site, count(*) AS n, sum(ms) AS ms FROM visit GROUP BY 1, 2')
    + differs('(SELECT at, ms, most FROM sums' || suffix || ')', 'SELECT date_trunc(''hour'', at) AS at, sum(ms) AS ms, max(ms) AS most FROM visit WHERE site < 2 GROUP BY 1');
$$;
SELECT column_name FROM information_schema.columns WHERE table_name = 'sums' ORDER BY ordinal_position;
SELECT rollup_visit(), all_differ();
-- loaded first, attached later, after a run
CREATE TABLE visit_2 (LIKE visit INCLUDING ALL);
INSERT INTO visit_2 (at, site, ms) SELECT timestamptz '2026-02-02' + i * interval '1 hour', i % 3, i FROM generate_series(1, 100) i;
INSERT INTO visit VALUES ('2026-01-05', 1, 5);
SELECT rollup_visit();
ALTER TABLE visit ATTACH PARTITION visit_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT relation, xid, time_column, since, until FROM rollup.arrival;
SELECT rollup_visit(), all_differ(), all_differ('_live'), (SELECT count(*) FROM rollup.arrival) AS noted;
-- detached, and attached again: counted
ALTER TABLE visit DETACH PARTITION visit_2;
SELECT rollup_visit();
ALTER TABLE visit ATTACH PARTITION visit_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT rollup_visit(), all_differ();
-- exchanged for a copy
CREATE TABLE visit_2b (LIKE visit INCLUDING ALL);
INSERT INTO visit_2b SELECT * FROM visit_2;
BEGIN;
ALTER TABLE visit DETACH PARTITION visit_2;
ALTER TABLE visit ATTACH PARTITION visit_2b FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
COMMIT;
SELECT rollup_visit(), all_differ();
-- moved out of the default partition, as partition managers do, rows from before the rollup among them
CREATE TABLE visit_5 (LIKE visit INCLUDING ALL);
WITH gone AS (DELETE FROM visit_rest WHERE at >= '2026-05-01' AND at < '2026-06-01' RETURNING *) INSERT INTO visit_5 SELECT * FROM gone;
ALTER TABLE visit ATTACH PARTITION visit_5 FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
SELECT rollup_visit(), all_differ();
-- moved within the table, with other rows that are new
BEGIN;
WITH gone AS (DELETE FROM visit_1 WHERE ms < 20 RETURNING *) INSERT INTO visit SELECT * FROM gone;
INSERT INTO visit VALUES ('2026-01-02 10:00', 1, 3);
COMMIT;
SELECT count(*) > 0 AS noted FROM rollup.arrival;
SELECT rollup_visit(), all_differ();
-- staging tables that have the column, by SELECT * and by COPY
CREATE TABLE staging (LIKE visit INCLUDING DEFAULTS);
INSERT INTO staging (at, site, ms) SELECT timestamptz '2026-01-02' + i * interval '1 hour', i % 3, i FROM generate_series(1, 100) i;
INSERT INTO visit VALUES ('2026-01-06', 1, 5);
SELECT rollup_visit();
INSERT INTO visit SELECT * FROM staging;
SELECT rollup_visit(), all_differ(), all_differ('_live');
COPY visit FROM stdin;
2026-01-02 05:00	1	3	7
2026-01-02 06:00	1	4	7
2026-01-09 06:00	1	4	1
\.
SELECT rollup_visit(), all_differ();
-- a part of a transaction that is rolled back brought nothing
BEGIN;
INSERT INTO visit SELECT * FROM staging WHERE ms < 5;
SAVEPOINT a;
INSERT INTO visit SELECT * FROM staging WHERE ms < 50;
ROLLBACK TO a;
INSERT INTO visit SELECT * FROM staging WHERE ms < 10;
COMMIT;
SELECT rollup_visit(), all_differ();
-- prepared, run past, committed
BEGIN;
INSERT INTO visit SELECT * FROM staging WHERE ms < 7;
PREPARE TRANSACTION 'roads';
INSERT INTO visit VALUES ('2026-01-06', 2, 5);
SELECT rollup_visit();
COMMIT PREPARED 'roads';
SELECT rollup_visit(), all_differ();
-- a run in the transaction that brings rows leaves them to the next
BEGIN;
INSERT INTO visit SELECT * FROM staging WHERE ms < 7;
SELECT rollup_visit();
INSERT INTO visit SELECT * FROM staging WHERE ms < 7;
COMMIT;
SELECT rollup_visit(), all_differ();
-- two that came between two runs: one was counted, one is new
WITH gone AS (DELETE FROM visit_1 WHERE ms < 7 RETURNING *) INSERT INTO visit SELECT * FROM gone;
INSERT INTO visit SELECT s.* FROM staging s, generate_series(1, 3) WHERE ms % 10 = 7;
SELECT rollup_visit(), all_differ();
-- a list of values that fills the stamp by mistake, after a column was added
ALTER TABLE visit ADD COLUMN bytes bigint;
INSERT INTO visit VALUES ('2026-01-07', 1, 5, 7);
SELECT rollup_visit(), all_differ();
-- stamps that no transaction has
INSERT INTO visit VALUES ('2026-01-07', 1, 5, 0);
INSERT INTO visit VALUES ('2026-01-07', 1, 5, -7);
INSERT INTO visit_1 VALUES ('2026-01-07', 1, 5, 1000000000);
\set VERBOSITY default
INSERT INTO visit VALUES ('2026-01-07', 1, 5, 1::bigint << 62);
\set VERBOSITY terse
-- how a dump with such stamps is loaded
CREATE TRIGGER load BEFORE INSERT ON visit FOR EACH ROW EXECUTE FUNCTION rollup.own_stamp();
INSERT INTO visit VALUES ('2026-01-07', 1, 5, 1::bigint << 62);
DROP TRIGGER load ON visit;
SELECT rollup_visit(), all_differ();
-- a stamp that is rewritten stays
UPDATE visit SET rollup_stamp = DEFAULT, ms = ms WHERE ms < 9;
INSERT INTO visit (at, site, ms) VALUES ('2026-01-08', 1, 1000);
SELECT rollup_visit();
CREATE UNIQUE INDEX ON visit_1 (site, at, ms) WHERE ms = 1000;
INSERT INTO visit_1 (at, site, ms, rollup_stamp) VALUES ('2026-01-08', 1, 1000, 7) ON CONFLICT (site, at, ms) WHERE ms = 1000 DO UPDATE SET rollup_stamp = excluded.rollup_stamp, bytes = 1;
MERGE INTO visit v USING (SELECT 1) x ON ms = 12 WHEN MATCHED THEN UPDATE SET rollup_stamp = 1;
SELECT rollup_visit(), all_differ();
-- rewritten tables
VACUUM FULL visit_1;
CREATE INDEX visit_2b_ms ON visit_2b (ms);
CLUSTER visit_2b USING visit_2b_ms;
REINDEX TABLE CONCURRENTLY visit_1;
CREATE INDEX CONCURRENTLY visit_1_map ON visit_1 USING rollup_zonemap (rollup_stamp);
ALTER TABLE visit ALTER COLUMN bytes TYPE numeric;
SELECT (SELECT count(*) FROM rollup.arrival) AS noted, rollup_visit();
-- rows whose groups have changed otherwise: left out, once with a word
INSERT INTO staging (at, site, ms) VALUES ('2026-02-02 12:00', 0, 1);
INSERT INTO visit (at, site, ms) VALUES ('2026-01-07', 1, 5);
SELECT rollup_visit();
DELETE FROM visit WHERE at >= '2026-02-02' AND at < '2026-02-03' AND site = 0;
INSERT INTO visit SELECT *, NULL FROM staging WHERE at = '2026-02-02 12:00';
-- the warning names the transaction, whose number is another each time
SET client_min_messages = error;
SELECT rollup_visit();
SELECT name, left_out, unwatched FROM rollup.status ORDER BY name;
SELECT rollup.rebuild('visits', '2026-02-01', '2026-03-01') > 0 AS visits, rollup.rebuild('sums', '2026-02-01', '2026-03-01') > 0 AS sums, all_differ();
SELECT count(*) AS noted FROM rollup.arrival;
-- rows do not expire before they are judged
INSERT INTO visit SELECT *, NULL FROM staging WHERE ms = 1;
SELECT rollup.retain('visit', '1 day');
SELECT rollup.expire('visit', true) AS held, rollup_visit(), all_differ();
SELECT rollup.expire('visit', true) > 0 AS would_go;
SELECT rollup.retain('visit', NULL);
RESET client_min_messages;
-- UPDATE and MERGE that move rows between partitions are no arrivals; what MERGE inserts beside is
CREATE TABLE lot (at timestamptz, bay int, id int, v int) PARTITION BY LIST (bay);
CREATE TABLE lot_1 PARTITION OF lot FOR VALUES IN (1);
CREATE TABLE lot_2 PARTITION OF lot FOR VALUES IN (2) PARTITION BY RANGE (at);
CREATE TABLE lot_2a PARTITION OF lot_2 FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
CREATE TABLE lot_2b PARTITION OF lot_2 DEFAULT;
SELECT rollup.create('lots', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(v) AS v FROM lot GROUP BY 1', every => NULL) IS NOT NULL AS made;
INSERT INTO lot SELECT timestamptz '2026-01-01' + i * interval '1 hour', 1, i, i FROM generate_series(0, 47) i;
SELECT rollup_lot();
UPDATE lot SET bay = 2 WHERE id % 3 = 0;
SELECT count(*) AS noted, rollup_lot() FROM rollup.arrival;
SELECT differs('lots', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(v) AS v FROM lot GROUP BY 1');
-- another time: counted where it was inserted
UPDATE lot SET at = at + interval '2 days' WHERE id = 3;
SELECT count(*) AS noted, rollup_lot() FROM rollup.arrival;
SELECT at, n FROM lots ORDER BY at;
UPDATE lot SET at = at - interval '2 days' WHERE id = 3;
CREATE TABLE parked (LIKE lot INCLUDING DEFAULTS);
INSERT INTO parked (at, bay, id, v) SELECT timestamptz '2026-01-03' + i * interval '1 hour', 1 + i % 2, i, i FROM generate_series(40, 59) i;
INSERT INTO lot VALUES ('2026-01-05', 1, 100, 1);
SELECT rollup_lot();
MERGE INTO lot l USING parked p ON l.id = p.id WHEN MATCHED THEN UPDATE SET bay = 3 - l.bay WHEN NOT MATCHED THEN INSERT (at, bay, id, v, rollup_stamp) VALUES (p.at, p.bay, p.id, p.v, p.rollup_stamp);
SELECT xid IS NOT NULL AS rows, count(*) > 0 AS noted FROM rollup.arrival GROUP BY 1;
SELECT rollup_lot() AS want_12, differs('lots', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(v) AS v FROM lot GROUP BY 1');
-- deleted here, inserted there: a deletion, and an arrival
WITH gone AS (DELETE FROM lot WHERE id = 100 RETURNING at + interval '5 days' AS at, bay, id, v, rollup_stamp) INSERT INTO lot SELECT * FROM gone;
SELECT rollup_lot() AS want_1;
SELECT at, n FROM lots WHERE at >= '2026-01-05' ORDER BY at;
-- an UPDATE beside an INSERT in one statement
WITH u AS (UPDATE lot SET bay = 3 - bay WHERE id < 10 RETURNING 1) INSERT INTO lot SELECT * FROM parked WHERE id = 41;
SELECT rollup_lot() AS want_1;
WITH i AS (INSERT INTO lot SELECT * FROM parked WHERE id = 42 RETURNING 1) UPDATE lot SET bay = 3 - bay WHERE id < 10;
SELECT rollup_lot() AS want_1;
-- rows that an UPDATE moves in the transaction that brings others, also in buckets beside theirs
BEGIN;
UPDATE lot SET bay = 3 - bay;
INSERT INTO lot SELECT at - interval '1 day', bay, id, v, rollup_stamp FROM parked WHERE id IN (43, 44);
COMMIT;
SELECT rollup_lot() AS want_2;
SELECT at, n FROM lots ORDER BY at;
SELECT rollup.drop('lots');
-- children by INHERITS
CREATE TABLE base (at timestamp, v int);
CREATE TABLE child_1 () INHERITS (base);
SELECT rollup.create('bases', 'SELECT date_trunc(''day'', at) AS at, sum(v) AS v FROM base GROUP BY 1', every => NULL) IS NOT NULL AS made;
SELECT count(*) AS maps FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'rollup_zonemap' AND i.indrelid::regclass::text ~ '^(base|child)';
CREATE TABLE child_2 (LIKE base INCLUDING DEFAULTS);
INSERT INTO child_2 (at, v) SELECT '2026-01-01', i FROM generate_series(1, 10) i;
INSERT INTO child_2 (at, v) VALUES (NULL, 5), ('infinity', 6);
INSERT INTO child_1 (at, v) VALUES ('2026-01-01', 7);
SELECT rollup_base();
ALTER TABLE child_2 INHERIT base;
SELECT rollup_base() AS want_12;
SELECT * FROM bases ORDER BY at;
CREATE TABLE child_3 () INHERITS (base);
INSERT INTO child_3 SELECT * FROM child_2;
SELECT rollup_base() AS want_12, (SELECT unwatched FROM rollup.status WHERE name = 'bases');
DROP INDEX child_3_at_rollup_stamp_idx;
SELECT unwatched FROM rollup.status WHERE name = 'bases';
SELECT rollup.drop('bases');
DROP TABLE base, child_1, child_2, child_3;
-- a rolled-up table that becomes a partition
CREATE TABLE big (at timestamptz NOT NULL, v int);
SELECT rollup.create('bigs', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM big GROUP BY 1', every => NULL, coarser => '{"bigs_month": "1 month"}') IS NOT NULL AS made;
INSERT INTO big VALUES ('2026-01-05', 1);
SELECT rollup_big();
BEGIN;
ALTER TABLE big RENAME TO big_old;
CREATE TABLE big (LIKE big_old INCLUDING DEFAULTS) PARTITION BY RANGE (at);
ALTER TABLE big ATTACH PARTITION big_old FOR VALUES FROM ('2000-01-01') TO ('2026-02-01');
CREATE TABLE big_feb PARTITION OF big FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
COMMIT;
INSERT INTO big (at, v) VALUES ('2026-02-05', 1), ('2026-01-05', 1);
SELECT unwatched FROM rollup.status WHERE name = 'bigs';
SELECT rollup.move('bigs', 'big');
SELECT rollup_big() AS want_2, (SELECT sum(n) FROM bigs_live) AS want_3, (SELECT sum(n) FROM bigs_month) AS want_3;
INSERT INTO big (at, v) VALUES ('2026-02-06', 1);
SELECT (SELECT sum(n) FROM bigs_month_live) AS want_4, rollup_big() AS want_1, (SELECT unwatched FROM rollup.status WHERE name = 'bigs');
SELECT rollup.move('bigs', 'big');
SELECT rollup.drop('bigs');
-- the same of a rollup that joins a lookup table: the whole is joined, too
CREATE TABLE kind (id int, name text);
INSERT INTO kind VALUES (1, 'one');
CREATE TABLE part (at timestamptz NOT NULL, kind int);
SELECT rollup.create('parts', 'SELECT date_trunc(''day'', p.at) AS at, k.name, count(*) AS n FROM part p JOIN kind k ON k.id = p.kind GROUP BY 1, 2', every => NULL, joins => 'snapshot') IS NOT NULL AS made;
INSERT INTO part VALUES ('2026-01-05', 1);
SELECT rollup_part();
CREATE TABLE every_part (LIKE part INCLUDING DEFAULTS) PARTITION BY RANGE (at);
ALTER TABLE every_part ATTACH PARTITION part FOR VALUES FROM ('2000-01-01') TO ('2026-02-01');
CREATE TABLE part_feb PARTITION OF every_part FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO every_part (at, kind) VALUES ('2026-02-05', 1), ('2026-01-05', 1);
SELECT rollup.move('parts', 'every_part');
SELECT (SELECT sum(n) FROM parts_live) AS want_3, rollup_every_part() AS want_2;
SELECT sum(n) AS want_3 FROM parts;
INSERT INTO every_part (at, kind) VALUES ('2026-02-06', 1);
SELECT (SELECT sum(n) FROM parts_live) AS want_4, rollup_every_part() AS want_1;
SELECT sum(n) AS want_4 FROM parts;
SELECT joined, query FROM rollup.definition WHERE name = 'parts';
SELECT count(*) AS differences FROM rollup.check('parts');
SELECT rollup.drop('parts');
DROP TABLE every_part, kind;
-- a rollup that follows changes computes again what cannot be told
SELECT rollup.drop('visits'), rollup.drop('sums');
SELECT rollup.create('follows', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(ms) AS ms FROM visit GROUP BY 1', every => NULL, on_change => 'recompute') IS NOT NULL AS made;
SELECT rollup_visit() > 0 AS merged;
DELETE FROM visit WHERE ms = 30;
INSERT INTO visit SELECT *, NULL FROM staging WHERE ms BETWEEN 20 AND 40;
UPDATE visit SET at = at + interval '1 month' WHERE ms = 31;
ALTER TABLE visit DETACH PARTITION visit_5;
UPDATE visit_5 SET ms = ms + 1;
INSERT INTO visit_5 (at, site, ms) VALUES ('2026-05-03', 1, 1);
SELECT rollup_visit() IS NOT NULL AS run;
ALTER TABLE visit ATTACH PARTITION visit_5 FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
SELECT rollup_visit() IS NOT NULL AS run, (SELECT left_out FROM rollup.status);
SELECT differs('(SELECT at, n FROM follows)', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM visit GROUP BY 1');
-- TRUNCATE of a partition is a change of its times: others, which are detached, stay
ALTER TABLE visit DETACH PARTITION visit_2b;
TRUNCATE visit_1;
SELECT since, until FROM rollup.change;
SELECT rollup_visit();
SELECT date_trunc('month', at) AS month, sum(n) FROM follows GROUP BY 1 ORDER BY 1;
-- a rollup over a rollup
SELECT rollup.create('again', 'SELECT at, sum(n) AS n FROM follows GROUP BY 1', every => NULL);
SELECT rollup.create('again', 'SELECT at, sum(n) AS n FROM follows GROUP BY 1', every => NULL, on_change => 'recompute') IS NOT NULL AS made;
SELECT rollup_follows() > 0 AS merged;
INSERT INTO visit (at, site, ms) SELECT '2026-01-05', 1, 1 FROM generate_series(1, 3);
SELECT rollup_visit(), rollup_follows() >= 0 AS run, (SELECT sum(n) FROM again) = (SELECT sum(n) FROM follows) AS equal;
-- row security that would hide rows from the owner
CREATE ROLE roads_owner;
GRANT CREATE, USAGE ON SCHEMA public TO roads_owner;
SET ROLE roads_owner;
CREATE TABLE secret (at timestamptz, tenant text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY see ON secret USING (tenant = 'a');
CREATE POLICY put ON secret FOR INSERT WITH CHECK (true);
SELECT rollup.create('secrets', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM secret GROUP BY 1', every => NULL) IS NOT NULL AS made;
INSERT INTO secret VALUES ('2026-01-01', 'a'), ('2026-01-01', 'b');
SELECT sum(n) FROM secrets_live;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
SELECT rollup_secret();
SELECT sum(n) FROM secrets_live;
SELECT * FROM rollup.check('secrets');
SELECT rollup.retain('secret', '1 day');
SELECT expire_secret();
ALTER TABLE secret NO FORCE ROW LEVEL SECURITY;
SELECT rollup_secret(), (SELECT sum(n) FROM secrets_live);
RESET ROLE;
SELECT rollup.drop('secrets');
DROP TABLE secret;
DROP OWNED BY roads_owner;
DROP ROLE roads_owner;
