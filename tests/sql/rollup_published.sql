-- A publication FOR ALL TABLES has the tables of rollups and those of the catalog: every change that the engine makes
-- is accepted there, since each of them has a replica identity.
SET client_min_messages = error;
CREATE PUBLICATION everything FOR ALL TABLES;
RESET client_min_messages;
SELECT c.oid::regclass AS lacks FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'rollup' AND c.relkind = 'r' AND c.relpersistence = 'p' AND c.relreplident <> 'f'
   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary);
CREATE TABLE event (id int PRIMARY KEY, at timestamptz NOT NULL, site int NOT NULL, kind int);
-- Subscribers need the column: the first rollup says so, others need not.
SELECT rollup.create('by_hour', $$SELECT date_trunc('hour', at) AS at, site, count(*) AS n FROM event GROUP BY 1, 2$$,
  every => NULL, coarser => '{"by_day": "1 day"}', on_change => 'recompute');
SELECT rollup.create('by_kind', $$SELECT date_trunc('hour', at) AS at, kind, count(*) AS n FROM event GROUP BY 1, 2$$,
  every => NULL, coarser => '{"by_kind_day": "1 day"}', on_change => 'recompute');
-- Tables that are there, with a key that is not the primary one, with none that is NOT NULL, and in partitions; and one
-- whose owner has made up his mind.
CREATE TABLE taken (at timestamptz NOT NULL, site int NOT NULL, n bigint, UNIQUE (at, site));
CREATE TABLE parts (at timestamptz, kind int, n bigint, UNIQUE NULLS NOT DISTINCT (at, kind)) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
CREATE TABLE chosen (at timestamptz NOT NULL, site int NOT NULL, n bigint, UNIQUE (at, site));
ALTER TABLE chosen REPLICA IDENTITY FULL;
SELECT rollup.create(t, format('SELECT date_trunc(''hour'', at) AS at, %s, count(*) AS n FROM event GROUP BY 1, 2', k), every => NULL, into_table => t)
  FROM (VALUES ('taken', 'site'), ('parts', 'kind'), ('chosen', 'site')) v (t, k);
-- Partitions that come later, by hand and by themselves.
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');
CREATE TABLE parts_3 (LIKE parts);
ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES FROM ('2026-01-03') TO ('2026-01-04');
SELECT c.relname, c.relreplident, (SELECT i.indexrelid::regclass FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisreplident OR i.indisprimary)) AS by
  FROM pg_class c WHERE c.relkind = 'r' AND c.relname ~ '^(by|taken|parts|chosen)' AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname COLLATE "C";
INSERT INTO event SELECT g, timestamptz '2026-01-01+00' + g * interval '17 min', g % 3, nullif(g % 4, 0) FROM generate_series(1, 240) g;
SELECT rollup_event();
-- Buckets that are there change, are computed again, and go.
INSERT INTO event SELECT g, timestamptz '2026-01-01+00' + g % 240 * interval '17 min', g % 3, nullif(g % 4, 0) FROM generate_series(300, 339) g;
UPDATE event SET kind = 1 WHERE id = 4;
DELETE FROM event WHERE id = 5;
SELECT rollup_event();
SELECT rollup.rebuild(name) > 0 AS rebuilt FROM rollup.definition ORDER BY name COLLATE "C";
SELECT d.name, (SELECT count(*) FROM rollup.check(d.name)) AS differences FROM rollup.definition d ORDER BY d.name COLLATE "C";
SELECT rollup.retain(t, '1 day') FROM unnest('{event,by_hour,by_kind_day,taken,parts}'::regclass[]) t;
SELECT rollup.expire(t) > 0 AS expired FROM unnest('{event,by_hour,by_kind_day,taken,parts}'::regclass[]) t;
SELECT rollup.drop(name) FROM rollup.definition ORDER BY name COLLATE "C";
DROP TABLE event, taken, parts, chosen;
-- A list of columns leaves the new one out, and a table that is not published is nobody's matter.
DROP PUBLICATION everything;
CREATE TABLE listed (at timestamptz, v int);
CREATE TABLE alone (at timestamptz, v int);
SET client_min_messages = error;
CREATE PUBLICATION listing FOR TABLE listed (at, v);
RESET client_min_messages;
SELECT rollup.create(t || '_h', format('SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM %s GROUP BY 1', t), every => NULL) FROM unnest('{listed,alone}'::text[]) t;
SELECT rollup.drop('listed_h'), rollup.drop('alone_h');
DROP TABLE listed, alone;
DROP PUBLICATION listing;
