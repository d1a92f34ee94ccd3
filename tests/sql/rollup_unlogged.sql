\set VERBOSITY default
-- tables that a crash empties
CREATE UNLOGGED TABLE note (at timestamptz NOT NULL, n int);
SELECT rollup.create('notes', 'SELECT date_trunc(''day'', at) AS at, count(*) FROM note GROUP BY 1', every => NULL, on_change => 'recompute');
SELECT rollup.create('notes', 'SELECT date_trunc(''day'', at) AS at, count(*) FROM note GROUP BY 1', every => NULL, on_change => 'error');
-- what was counted stays, where changes are not followed
SELECT rollup.create('notes', 'SELECT date_trunc(''day'', at) AS at, count(*) FROM note GROUP BY 1', every => NULL) IS NOT NULL AS made;
INSERT INTO note VALUES ('2026-01-01', 1);
SELECT rollup.run('note');
SELECT unwatched FROM rollup.status WHERE name = 'notes';
-- one that comes later
CREATE TABLE memo (at timestamptz NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE memo_1 PARTITION OF memo FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
SELECT rollup.create('memos', 'SELECT date_trunc(''day'', at) AS at, count(*) FROM memo GROUP BY 1', every => NULL, on_change => 'recompute', coarser => '{"memos_month": "1 month"}') IS NOT NULL AS made;
SELECT whole FROM rollup.definition WHERE name = 'memos';
CREATE UNLOGGED TABLE memo_2 PARTITION OF memo FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT unwatched FROM rollup.status WHERE name = 'memos';
SELECT whole FROM rollup.definition WHERE name = 'memos';
ALTER TABLE memo_2 SET LOGGED;
SELECT rollup.rebuild('memos');
SELECT whole FROM rollup.definition WHERE name = 'memos';
ALTER TABLE memo_1 SET UNLOGGED;
SELECT unwatched FROM rollup.status WHERE name = 'memos';
SELECT whole FROM rollup.definition WHERE name = 'memos';
ALTER TABLE memo_1 SET LOGGED;
SELECT unwatched FROM rollup.status WHERE name = 'memos';
-- a rollup's own
INSERT INTO memo VALUES ('2026-01-05', 1);
ALTER TABLE memos_month SET UNLOGGED;
SELECT rollup.run('memo');
ALTER TABLE memos_month SET LOGGED;
SELECT rollup.run('memo');
SELECT rollup.drop('memos'), rollup.drop('notes');
DROP TABLE memo, note;
