\set VERBOSITY terse
\pset format unaligned
\pset tuples_only
-- a table begins again where raw rows, and groups, have expired: rows that nobody has counted are, wherever they lie
CREATE TABLE event (at timestamptz, ms int);
SELECT rollup.create('minutes', 'SELECT date_trunc(''minute'', at) AS at, count(*) AS n, sum(ms) AS total, max(ms) AS most FROM event GROUP BY 1', every => NULL,
  coarser => '{"hours": "1 hour", "weeks": "7 days", "months": "1 month"}') IS NOT NULL AS made;
CREATE VIEW sums AS SELECT (SELECT sum(n) FROM minutes) AS minutes, (SELECT sum(n) FROM hours) AS hours, (SELECT sum(n) FROM weeks) AS weeks, (SELECT sum(n) FROM months) AS months;
INSERT INTO event SELECT now() - i * interval '1 hour', i FROM generate_series(0, 2399) i;
INSERT INTO event VALUES (NULL, 1);
SELECT rollup_event();
SELECT rollup.retain('event', '15 days');
SELECT expire_event() > 2000 AS gone;
TABLE sums;
-- late rows into buckets without raw rows, new rows, rows without a time
INSERT INTO event SELECT now() - i * interval '1 hour', i FROM generate_series(0, 2399, 100) i;
INSERT INTO event VALUES (NULL, 2);
CREATE TABLE wanted AS SELECT sum(n) AS n, sum(total) AS total, max(most) AS most, count(*) AS groups FROM minutes_live;
SET client_min_messages = warning;
SELECT rollup.rebase('event');
TABLE sums;
SELECT count(*) FROM (SELECT sum(n), sum(total), max(most), count(*) FROM minutes EXCEPT TABLE wanted) d;
SELECT rollup_event();
INSERT INTO event VALUES (now() - interval '50 days', 1), (now(), 1);
SELECT rollup_event();
TABLE sums;
SELECT count(*) FROM rollup.check('minutes');
-- groups have expired too: what lies before goes into the levels, where it stays
SELECT rollup.retain('minutes', '20 days');
SELECT rollup.expire('minutes') > 1000 AS gone;
CREATE TABLE before AS TABLE sums;
INSERT INTO event SELECT now() - i * interval '1 hour', i FROM generate_series(0, 2399, 100) i;
SET client_min_messages = warning;
SELECT rollup.rebase('event');
SELECT s.minutes - b.minutes, s.hours - b.hours, s.weeks - b.weeks, s.months - b.months FROM sums s, before b;
