\pset format unaligned
\pset tuples_only
-- a value that cannot be computed stops the rollup, and it is told whose it is; nothing is lost
CREATE TABLE event (site int, at timestamptz NOT NULL, ms int);
SELECT rollup.create('hours', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, ln(sum(ms)) AS magnitude, sum(ms)::int AS small FROM event GROUP BY 1, 2',
  every => '1 microsecond', coarser => '{"days": "1 day"}') IS NOT NULL AS made;
INSERT INTO event SELECT i % 4, timestamptz '2026-01-01' + i * interval '10 minutes', 1 + i FROM generate_series(1, 100) i;
SELECT rollup.run_due();
INSERT INTO event VALUES (1, '2026-01-01 05:10', 5), (7, '2026-01-01 06:10', 0), (8, '2026-01-01 06:10', 1);
SELECT rollup.run_due();
SELECT state, failures, last_error FROM rollup.status;
SELECT sum(n) FROM hours;
-- by hand the error is PostgreSQL's, with the name of the rollup
SELECT rollup_event();
-- put right: the row may go, or the column
DELETE FROM event WHERE ms = 0;
SELECT rollup.resume('hours');
SELECT rollup.run_due();
SELECT sum(n) FROM hours;
-- in a level alone
INSERT INTO event VALUES (2, '2026-01-02 05:10', 2000000000), (2, '2026-01-02 06:10', 2000000000);
SELECT rollup.run_due();
SELECT rollup.drop_column('hours', 'small');
SELECT rollup.resume('hours');
SELECT rollup.run_due();
SELECT sum(n) FROM days;
