\pset format unaligned
\pset tuples_only
-- a group whose key is too long for the index keeps no other from being counted
CREATE TABLE hit (at timestamptz, url text, n numeric);
SELECT rollup.create('hit_h', $$SELECT date_trunc('hour', at) AS at, url, n, count(*) AS hits FROM hit GROUP BY 1, 2, 3$$, every => NULL, on_change => 'recompute', coarser => '{"hit_d": "1 day"}') IS NOT NULL;
CREATE FUNCTION noise(bytes int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT left(string_agg(md5(i::text), ''), bytes) FROM generate_series(0, bytes / 32) i $$;
INSERT INTO hit VALUES ('2026-01-01Z', '/', 1), ('2026-01-01Z', noise(9600), 1), ('2026-01-01Z', noise(2750), 2), ('2026-01-01Z', noise(2750), 2);
SELECT rollup_hit();
SELECT rollup_hit();
SELECT length(url), n, hits FROM hit_h;
SELECT length(url), n, hits FROM hit_d_live;
SELECT long_keys, rows_total, state FROM rollup.status;
-- up to the last byte that fits, and long ones that compress
INSERT INTO hit SELECT '2026-01-01Z', noise(b), 5 FROM generate_series(2660, 2700) b;
INSERT INTO hit VALUES ('2026-01-01Z', repeat('x', 100000), 6), ('2026-01-01Z', NULL, NULL), ('2026-01-01Z', '/', (repeat('9', 20000))::numeric);
SELECT rollup_hit();
SELECT count(*), max(length(url)) FROM hit_h WHERE n = 5;
SELECT length(url), length(n::text), hits FROM hit_h WHERE n IS DISTINCT FROM 5 ORDER BY 1, 2;
-- one byte more is what the index itself refuses
CREATE TABLE copy (LIKE hit_h INCLUDING ALL);
INSERT INTO copy SELECT at, noise(length(url)), n, 1 FROM hit_h WHERE length(url) = 2679;
INSERT INTO copy SELECT at, noise(length(url) + 1), n, 1 FROM hit_h WHERE length(url) = 2679;
SELECT long_keys FROM rollup.status;
-- what is computed again, and filled, leaves them out as well
UPDATE hit SET n = 7 WHERE n = 6;
SELECT rollup_hit();
SELECT rollup.rebuild('hit_h');
SELECT count(*) FROM hit_h;
SELECT rollup.add_column('hit_h', 'most', 'max(length(url))');
SELECT max(most) FROM hit_h;
SELECT count(*) AS missing FROM rollup.check('hit_h') WHERE relation = 'hit_h'::regclass AND column_name = 'hits';
SELECT length(n::text), count(*) FROM hit_h GROUP BY 1 ORDER BY 1;
-- as does a backlog
SET rollup.batch_rows = 100;
INSERT INTO hit SELECT '2026-01-02Z', '/', 1 FROM generate_series(1, 150) i;
SELECT rollup.create('hit_again', $$SELECT date_trunc('hour', at) AS at, url, count(*) AS hits FROM hit GROUP BY 1, 2$$, every => NULL) IS NOT NULL;
INSERT INTO hit VALUES ('2026-01-02Z', '/', 1);
SELECT rollup_hit() > 0;
SELECT rollup_internal.work_off('hit_again');
SELECT count(*), max(at) FROM hit_again;
SELECT name, long_keys FROM rollup.status ORDER BY 1;
-- the way out
SELECT rollup.create('hit_short', $$SELECT date_trunc('hour', at) AS at, left(url, 500) AS url, count(*) AS hits FROM hit GROUP BY 1, 2$$, every => NULL) IS NOT NULL;
SELECT rollup_hit() > 0;
SELECT sum(hits) = (SELECT count(*) FROM hit) FROM hit_short;
-- of a key that is no text, the way out goes by its text
SELECT rollup.drop('hit_h'), rollup.drop('hit_again'), rollup.drop('hit_short');
CREATE TABLE visit (at timestamptz, about jsonb);
SELECT rollup.create('visit_h', $$SELECT date_trunc('hour', at) AS at, about, count(*) AS visits FROM visit GROUP BY 1, 2$$, every => NULL) IS NOT NULL;
INSERT INTO visit VALUES ('2026-01-01Z', to_jsonb(noise(9600))), ('2026-01-01Z', '1');
SELECT rollup_visit();
SELECT rollup.create('visit_short', $$SELECT date_trunc('hour', at) AS at, left("about"::text, 500) AS about, count(*) AS visits FROM visit GROUP BY 1, 2$$, every => NULL) IS NOT NULL;
SELECT rollup.create('visit_hashed', $$SELECT date_trunc('hour', at) AS at, md5("about"::text) AS about, count(*) AS visits FROM visit GROUP BY 1, 2$$, every => NULL) IS NOT NULL;
SELECT rollup_visit();
SELECT (SELECT sum(visits) FROM visit_short), (SELECT sum(visits) FROM visit_hashed);
