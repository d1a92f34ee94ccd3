\set VERBOSITY terse
-- old rows that may go and stay all the same: whoever waits for them finds the reason
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
-- a partition that is a foreign table, old as a whole: what is beside it goes
CREATE TABLE event (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
CREATE TABLE event_2035 PARTITION OF event FOR VALUES FROM ('2035-01-01') TO ('2036-01-01');
CREATE TABLE event_2025 PARTITION OF event FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
SELECT rollup.create('events', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => NULL) IS NOT NULL AS made;
CREATE FOREIGN TABLE event_far PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') SERVER files OPTIONS (program 'echo 2024-05-01,1,3', format 'csv');
INSERT INTO event VALUES ('2025-01-03', 1);
SELECT rollup_event() AS want_2;
SELECT rollup.retain('event', '100 days');
SELECT rollup.expire('event') AS want_0;
SELECT count(*) AS want_1 FROM event;
SELECT expiry_held_by FROM rollup.status WHERE name = 'events';
ALTER TABLE event DETACH PARTITION event_far;
SELECT rollup.expire('event') AS want_0;
SELECT expiry_held_by IS NULL AS want_t FROM rollup.status WHERE name = 'events';
-- one beside others by a list
CREATE TABLE part (at timestamptz NOT NULL, v int) PARTITION BY LIST (v);
SELECT rollup.create('parts', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM part GROUP BY 1', every => NULL) IS NOT NULL AS made;
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
CREATE FOREIGN TABLE part_far PARTITION OF part FOR VALUES IN (2) SERVER files OPTIONS (program 'echo 2024-05-01,2,3', format 'csv');
INSERT INTO part VALUES ('2025-01-03', 1);
SELECT rollup_part() AS want_2;
SELECT rollup.retain('part', '100 days');
SELECT rollup.expire('part') AS want_1, rollup.expire('part') AS want_0;
SELECT expiry_held_by FROM rollup.status WHERE name = 'parts';
-- a trigger that keeps some
CREATE TABLE guarded (at timestamptz NOT NULL, v int);
SELECT rollup.create('guards', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM guarded GROUP BY 1', every => NULL) IS NOT NULL AS made;
INSERT INTO guarded SELECT '2025-01-03', i FROM generate_series(1, 10) i;
SELECT rollup_guarded() AS want_10;
CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN CASE WHEN OLD.v < 4 THEN OLD END; END';
CREATE TRIGGER keeps BEFORE DELETE ON guarded FOR EACH ROW EXECUTE FUNCTION keeps();
SELECT rollup.retain('guarded', '100 days');
SELECT rollup.expire('guarded') AS want_3, rollup.expire('guarded') AS want_0;
SELECT expiry_held_by FROM rollup.status WHERE name = 'guards';
DROP TRIGGER keeps ON guarded;
SELECT rollup.expire('guarded') AS want_7;
SELECT expiry_held_by IS NULL AS want_t FROM rollup.status WHERE name = 'guards';
-- one that only watches keeps nothing, and says nothing
CREATE FUNCTION watches() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE TRIGGER watches BEFORE DELETE ON guarded FOR EACH ROW EXECUTE FUNCTION watches();
INSERT INTO guarded SELECT '2025-01-04', i FROM generate_series(1, 10) i;
SELECT rollup_guarded() AS want_10;
SELECT rollup.expire('guarded') AS want_10;
SELECT expiry_held_by IS NULL AS want_t FROM rollup.status WHERE name = 'guards';
