\set VERBOSITY terse
-- keys that are equal and not the same, by a collation
SET timezone = 'UTC';
CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE event (at timestamptz NOT NULL, who text COLLATE folded, tag text, v int);
SELECT rollup.create('days', $$SELECT date_trunc('day', at) AS day, who, tag COLLATE folded AS tag, count(*) AS n, sum(v) AS v FROM event GROUP BY 1, 2, 3$$, every => NULL, on_change => 'recompute', coarser => '{"months": "1 month", "whos": {"width": "1 day", "keys": ["who"]}}') IS NOT NULL AS made;
INSERT INTO event VALUES ('2026-01-01', 'Ann', 'X', 1), ('2026-01-01', 'bob', 'x', 1);
SELECT rollup_event();
INSERT INTO event VALUES ('2026-01-01', 'ANN', 'x', 1), ('2026-01-01', 'BOB', 'X', 1), ('2026-01-02', 'ann', 'y', 3);
SELECT count(*) AS groups, sum(n) AS n FROM days_live;
SELECT rollup_event();
SELECT day, lower(who) AS who, lower(tag) AS tag, n FROM days ORDER BY 1, 2, 3;
SELECT day, lower(who) AS who, n FROM whos ORDER BY 1, 2;
UPDATE event SET v = 10 WHERE who = 'ann';
DELETE FROM event WHERE who = 'BOB';
SELECT rollup_event();
SELECT count(*) AS differences FROM rollup.check('days');
-- what tells keys apart is what the rollup's table tells apart
SELECT rollup.drop('days');
CREATE TABLE visit (at timestamptz NOT NULL, who text);
SELECT rollup.create('visits', $$SELECT date_trunc('day', at) AS day, who, count(*) AS n FROM visit GROUP BY 1, 2$$, every => NULL) IS NOT NULL AS made;
INSERT INTO visit VALUES ('2026-01-01', 'a');
SELECT rollup_visit();
ALTER TABLE visit ALTER who TYPE text COLLATE folded;
DROP VIEW visits_live;
ALTER TABLE visit ALTER who TYPE text COLLATE folded;
INSERT INTO visit VALUES ('2026-01-01', 'A');
\set VERBOSITY default
SELECT rollup_visit();
ALTER TABLE visit ALTER who TYPE text COLLATE "default";
SELECT rollup_visit();
ALTER TABLE visits ALTER who TYPE text COLLATE "C";
INSERT INTO visit VALUES ('2026-01-01', 'A');
SELECT rollup_visit();
ALTER TABLE visits ALTER who TYPE text COLLATE "default";
SELECT rollup_visit();
SELECT who, n FROM visits ORDER BY who COLLATE "C";
SELECT rollup.drop('visits');
DROP TABLE event, visit;
DROP COLLATION folded;
