\pset format unaligned
\pset tuples_only
-- what a user sets for the objects of a rollup stays, when its view changes and when it is made anew
CREATE ROLE reader; CREATE ROLE keeper;
CREATE TABLE event (at timestamptz, site int, v int, w int);
SELECT rollup.create('event_h', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, sum(v) AS v, sum(w) AS w FROM event GROUP BY 1, 2', every => NULL, coarser => '{"event_d": "1 day"}') IS NOT NULL;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
ALTER VIEW event_h_live SET (security_invoker = on, security_barrier);
ALTER VIEW event_d_live SET (security_invoker = true);
COMMENT ON VIEW event_h_live IS 'mine''s';
COMMENT ON COLUMN event_h_live.n IS 'how many %s';
COMMENT ON COLUMN event_h.n IS NULL;
COMMENT ON TABLE event_d IS 'days';
GRANT SELECT ON event_h_live TO reader WITH GRANT OPTION;
GRANT SELECT (n, v) ON event_d_live TO reader;
CREATE VIEW shown AS
SELECT c.relname, c.reloptions, obj_description(c.oid, 'pg_class') AS said, (SELECT string_agg(DISTINCT a.grantee::regrole || ' ' || a.privilege_type || CASE WHEN a.is_grantable THEN '*' ELSE '' END, ', ') FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner) AS acl,
  (SELECT string_agg(t.attname || ': ' || coalesce(col_description(c.oid, t.attnum), 'nothing') || coalesce(' ' || regexp_replace(t.attacl::text, '/\w+', ''), ''), ', ' ORDER BY t.attname) FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped) AS columns
  FROM pg_class c WHERE c.relname LIKE 'event\__%' AND c.relkind IN ('r', 'v') AND c.relname !~ 'other' ORDER BY 1;
TABLE shown;
SELECT rollup.add_column('event_h', 'top', 'max(v)');
TABLE shown;
SELECT rollup.drop_column('event_h', 'v');
TABLE shown;
SELECT rollup.replace('event_h', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, min(w) AS w FROM event GROUP BY 1, 2');
TABLE shown;
-- a view that was renamed is the view still; another that has its name by now is somebody's
ALTER VIEW event_h_live RENAME TO event_now;
CREATE VIEW event_h_live AS SELECT 'other' AS whose;
SELECT rollup.add_column('event_h', 'v', 'sum(v)');
SELECT rollup.drop_column('event_h', 'w');
TABLE event_h_live;
INSERT INTO event VALUES ('2026-01-01 10:00+00', 1, 2, 3);
TABLE event_now;
SELECT relname, reloptions, obj_description(oid) FROM pg_class WHERE relname = 'event_now';
-- a view that was dropped is made again, where nobody has the name
ALTER TABLE event DROP COLUMN v;
DROP VIEW event_now, event_d_live;
SELECT rollup.add_column('event_h', 'w', 'sum(w)');
DROP VIEW event_h_live;
SELECT rollup.add_column('event_h', 'w', 'sum(w)');
SELECT n, w FROM event_h_live;
SELECT n, w FROM event_d_live;
-- and where a column of the source went, and took it along
ALTER TABLE event DROP COLUMN w CASCADE;
SELECT to_regclass('event_h_live');
SELECT rollup.run('event');
SELECT rollup.drop_column('event_h', 'w');
SELECT rollup.drop_column('event_h', 'v');
SELECT rollup.run('event');
SELECT at, n FROM event_h_live;
DROP VIEW event_h_live, event_d_live;
SELECT rollup.replace('event_h', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, count(*) + 1 AS m FROM event GROUP BY 1, 2');
SELECT at, n, m FROM event_h_live;
-- what is dropped is what was made
ALTER TABLE event_h RENAME TO kept;
CREATE VIEW kept_live AS SELECT 'other' AS whose;
SELECT rollup.drop('event_h');
SELECT to_regclass('kept'), to_regclass('event_h_live'), to_regclass('event_d'), to_regclass('event_d_live');
TABLE kept_live;
-- comments on a table that becomes a rollup's
CREATE TABLE mine (at timestamptz UNIQUE NULLS NOT DISTINCT, n bigint);
COMMENT ON TABLE mine IS 'filled since 2019';
COMMENT ON COLUMN mine.n IS 'events';
SELECT rollup.create('mine', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => NULL, into_table => 'mine') IS NOT NULL;
SELECT obj_description('mine'::regclass, 'pg_class'), col_description('mine'::regclass, 1), col_description('mine'::regclass, 2), col_description('mine_live'::regclass, 2);
SELECT rollup.drop('mine');
ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC;
DROP OWNED BY reader, keeper;
DROP ROLE reader, keeper;
