-- Rollups of one name in two schemas: the second is called by its schema, too.
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.event (at timestamptz, x int);
CREATE TABLE b.event (at timestamptz, x int);
SET search_path TO a, public;
SELECT rollup.create('event_1h', 'SELECT date_trunc(''hour'', at) AS at, sum(x) AS total FROM event GROUP BY 1', every => NULL, coarser => '{"event_1d": "1 day"}');
SET search_path TO b, public;
SELECT rollup.create('event_1h', 'SELECT date_trunc(''hour'', at) AS at, sum(x) AS total FROM event GROUP BY 1', every => NULL, coarser => '{"event_1d": "1 day"}');
INSERT INTO a.event VALUES ('2026-01-01 10:00+00', 1);
INSERT INTO b.event VALUES ('2026-01-01 10:00+00', 20), ('2026-01-02 10:00+00', 300);
SELECT a.rollup_event(), b.rollup_event();
SELECT name, source, state FROM rollup.status ORDER BY name;
SELECT d.name AS rollup, l.name, l.relation FROM rollup.level l JOIN rollup.definition d ON d.id = l.definition ORDER BY 1;
SELECT 'a', * FROM a.event_1d UNION ALL SELECT 'b', * FROM b.event_1d ORDER BY 1, 2;
-- Either name will do for the first.
SELECT rollup.pause('a.event_1h');
SELECT name, state FROM rollup.status ORDER BY name;
SELECT rollup.resume('event_1h');
SELECT rollup.drop_level('b.event_1h', 'event_1d');
SELECT count(*) FROM rollup.check('b.event_1h');
SELECT rollup.pause('c.event_1h');
SELECT rollup.drop('b.event_1h');
SELECT rollup.drop('a.event_1h');
SELECT count(*) FROM rollup.level;
