\set VERBOSITY terse
-- lookup tables that are followed: groups are stored by foreign key, and joined when they are read
CREATE TABLE country (id int PRIMARY KEY, name text NOT NULL, continent text);
CREATE TABLE plan (id int PRIMARY KEY, name text);
CREATE TABLE customer (id bigint PRIMARY KEY, plan_id int, email text UNIQUE);
CREATE TABLE sale (at timestamptz NOT NULL, country_id int, customer_id bigint, kind text, amount int);
INSERT INTO country VALUES (1, 'Denmark', 'Europe'), (2, 'Swaziland', 'Africa'), (3, 'Peru', 'America');
INSERT INTO plan VALUES (1, 'free'), (2, 'paid');
INSERT INTO customer SELECT i, 1 + i % 2, 'c' || i FROM generate_series(1, 10) i;
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
CREATE FUNCTION by(unit text) RETURNS text LANGUAGE sql AS $$ SELECT format($q$
  SELECT date_trunc(%L, at, 'UTC') AS at, upper(c.name) AS country, kind, count(*) AS sales, p.name AS plan, avg(amount) AS mean, sum(amount) * 2 AS twice,
    hll_add_agg(hll_hash_bigint(customer_id)) AS customers, rollup.last(amount, at) AS latest
  FROM sale s JOIN country c ON c.id = s.country_id LEFT JOIN customer u ON u.id = customer_id LEFT JOIN plan p ON p.id = u.plan_id
  WHERE amount > 3 GROUP BY 1, 2, 3, 5 $q$, unit) $$;
SELECT rollup.create('sales', by('hour'), every => NULL);
SELECT rollup.create('sales', by('hour'), every => NULL, joins => 'other');
SELECT rollup.create('sales', by('hour'), every => NULL, joins => 'follow', coarser => '{"sales_day": "1 day"}') IS NOT NULL AS made;
SELECT relname, relkind FROM pg_class WHERE relname LIKE 'sales%' AND relkind IN ('r', 'v') ORDER BY relname;
SELECT name, relation, live, shown, joined FROM rollup.definition;
SELECT attname FROM pg_attribute WHERE attrelid = 'sales_keys'::regclass AND attnum > 0 ORDER BY attnum;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'sales_keys'::regclass;
\d sales
-- PostgreSQL names the table of a column where it need not up to 15.
\pset format unaligned
SELECT regexp_replace(pg_get_viewdef('sales', true), '\mu\.', '', 'g') AS query;
\pset format aligned
SELECT obj_description('sales'::regclass), obj_description('sales_live'::regclass), col_description('sales_live'::regclass, 2);
CREATE FUNCTION all_differ(OUT stored bigint, OUT live bigint, OUT day bigint, OUT day_live bigint) LANGUAGE sql AS $$
  SELECT differs('sales', by('hour')), differs('sales_live', by('hour')), differs('sales_day', by('day')), differs('sales_day_live', by('day')) $$;
INSERT INTO sale SELECT timestamptz '2026-03-01 00:00Z' + i * interval '11 minutes', nullif(i % 5, 4), nullif(i % 13, 12), 'k' || i % 2, i % 50 FROM generate_series(1, 900) i;
SELECT live, day_live FROM all_differ();
SELECT rollup_sale();
SELECT * FROM all_differ();
SELECT at::date AS day, country, plan, sum(sales) FROM sales GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT 6;
-- the lookup tables change: nothing is counted again
UPDATE country SET name = 'Eswatini' WHERE id = 2;
SELECT * FROM all_differ();
UPDATE customer SET plan_id = 3 - plan_id WHERE id < 4;
SELECT * FROM all_differ();
-- two of one name are one group
UPDATE country SET name = 'denmark' WHERE id = 3;
SELECT * FROM all_differ(), LATERAL (SELECT count(DISTINCT country) FROM sales) c;
-- partners come and go
INSERT INTO country VALUES (0, 'Nowhere', NULL);
DELETE FROM plan WHERE id = 2;
DELETE FROM country WHERE id = 1;
SELECT * FROM all_differ(), LATERAL (SELECT count(*) FILTER (WHERE plan IS NULL) > 0 AS without FROM sales) c;
SELECT rollup_sale();
SELECT count(*) FROM rollup.check('sales');
INSERT INTO country VALUES (1, 'Denmark', 'Europe');
-- rows that come late
INSERT INTO sale SELECT at - interval '1 minute', country_id, customer_id, kind, amount + 1 FROM sale WHERE amount % 7 = 0;
SELECT live, day_live FROM all_differ();
SELECT rollup_sale();
SELECT * FROM all_differ();
-- other columns of lookup tables may be renamed, and so may the tables; levels come later
ALTER TABLE country RENAME name TO title;
ALTER TABLE country RENAME TO land;
ALTER TABLE customer ALTER plan_id TYPE bigint;
ALTER TABLE sale RENAME country_id TO land_id;
CREATE OR REPLACE FUNCTION by(unit text) RETURNS text LANGUAGE sql AS $$ SELECT format($q$
  SELECT date_trunc(%L, at, 'UTC') AS at, upper(c.title) AS country, kind, count(*) AS sales, p.name AS plan, avg(amount) AS mean, sum(amount) * 2 AS twice,
    hll_add_agg(hll_hash_bigint(customer_id)) AS customers, rollup.last(amount, at) AS latest
  FROM sale s JOIN land c ON c.id = s.land_id LEFT JOIN customer u ON u.id = customer_id LEFT JOIN plan p ON p.id = u.plan_id
  WHERE amount > 3 GROUP BY 1, 2, 3, 5 $q$, unit) $$;
SELECT rollup.add_level('sales', 'sales_month', '1 month');
SELECT differs('sales_month', by('month')), differs('sales_month_live', by('month'));
SELECT rollup.add_level('sales', 'sales_week', '7 days', keys => '{country}');
INSERT INTO sale VALUES ('2026-03-02 10:00Z', 1, 2, 'k0', 40), ('2026-04-02 10:00Z', 2, 2, 'k7', 40);
SELECT live, day_live FROM all_differ();
SELECT differs('sales_month_live', by('month')), rollup_sale(), differs('sales_month', by('month'));
SELECT * FROM all_differ();
SELECT rollup.drop_level('sales', 'sales_month');
SELECT to_regclass('sales_month'), to_regclass('sales_month_live'), to_regclass('sales_month_keys');
-- columns come and go; grants and what is set stay
CREATE ROLE follower;
GRANT SELECT ON sales, sales_live TO follower;
ALTER VIEW sales SET (security_barrier = true);
COMMENT ON VIEW sales IS 'mine';
SELECT rollup.add_column('sales', 'most', 'max(amount)');
SELECT max(most) FROM sales;
SELECT rollup.drop_column('sales', 'latest'), rollup.drop_column('sales', 'most');
SELECT rollup.drop_column('sales', 'country');
SELECT rollup.drop_column('sales', 'country_id');
SELECT rollup.add_column('sales', 'country', 'min(amount)');
SELECT rollup.add_column('sales', 'titles', 'max(c.title)');
SELECT has_table_privilege('follower', 'sales', 'SELECT'), has_table_privilege('follower', 'sales_live', 'SELECT'), has_table_privilege('follower', 'sales_keys', 'SELECT'), has_table_privilege('follower', 'land', 'SELECT'),
  reloptions, obj_description(oid) FROM pg_class WHERE oid = 'sales'::regclass;
SET ROLE follower;
SELECT count(*) > 0 AS read FROM sales_live;
SELECT count(*) > 0 AS read FROM sales_keys;
RESET ROLE;
CREATE OR REPLACE FUNCTION by(unit text) RETURNS text LANGUAGE sql AS $$ SELECT format($q$
  SELECT date_trunc(%L, at, 'UTC') AS at, upper(c.title) AS country, kind, count(*) AS sales, p.name AS plan, avg(amount) AS mean, sum(amount) * 2 AS twice,
    hll_add_agg(hll_hash_bigint(customer_id)) AS customers
  FROM sale s JOIN land c ON c.id = s.land_id LEFT JOIN customer u ON u.id = customer_id LEFT JOIN plan p ON p.id = u.plan_id
  WHERE amount > 3 GROUP BY 1, 2, 3, 5 $q$, unit) $$;
SELECT * FROM all_differ();
-- series
SELECT at, country, sum(sales) FROM rollup.series(NULL::sales_live, '2026-03-01 05:00Z', '2026-03-04 07:00Z', points => 3) GROUP BY 1, 2
EXCEPT SELECT date_trunc('day', at, 'UTC'), upper(title), sum(sales) FROM (SELECT at, land_id, count(*) AS sales FROM sale WHERE amount > 3 AND at >= '2026-03-01 05:00Z' AND at < '2026-03-04 07:00Z' GROUP BY 1, 2) s JOIN land ON id = land_id GROUP BY 1, 2;
SELECT count(*), sum(sales) FROM rollup.series(NULL::sales_live, '2026-03-01 05:00Z', '2026-03-04 07:00Z', points => 3, fill => 'none');
SELECT count(*) FROM sale JOIN land ON id = land_id WHERE amount > 3 AND at >= '2026-03-01 05:00Z' AND at < '2026-03-04 07:00Z';
-- what is unique stays so
ALTER TABLE land DROP CONSTRAINT country_pkey;
CREATE TABLE sale_copy (LIKE sale);
SELECT rollup.move('sales', 'sale_copy');
DROP TABLE sale_copy;
-- CASCADE takes the views along; a change of columns makes them again, and they are what the query is, with several partners too
ALTER TABLE land DROP CONSTRAINT country_pkey CASCADE;
SELECT name, shown, live FROM rollup.definition;
INSERT INTO land VALUES (2, 'Swaziland', NULL);
SELECT rollup.add_column('sales', 'least', 'min(amount)'), rollup.drop_column('sales', 'least');
SELECT * FROM all_differ(), LATERAL (SELECT string_agg(DISTINCT country, ',' ORDER BY country) FROM sales) c;
DELETE FROM land WHERE title = 'Swaziland';
ALTER TABLE land ADD CONSTRAINT country_pkey PRIMARY KEY (id);
-- what has expired stays joined to the lookup tables as they are
\set VERBOSITY default
SELECT rollup.retain('sales', '10 years');
\set VERBOSITY terse
SELECT rollup.retain('sale', '1 day'), rollup.retain('sales_keys', '10 years');
CREATE TABLE before AS SELECT country, sum(sales) AS sales FROM sales GROUP BY 1;
SELECT rollup.expire('sale') > 0 AS gone, (SELECT count(*) FROM sale) AS raw;
UPDATE land SET title = 'Peru' WHERE id = 3;
SELECT country, n.sales, b.sales AS before FROM (SELECT country, sum(sales) AS sales FROM sales_live GROUP BY 1) n FULL JOIN before b USING (country) ORDER BY 1;
SELECT count(*) FROM rollup.check('sales');
-- once more
SELECT rollup.create('sales', by('hour'), every => NULL, joins => 'follow', if_not_exists => true) IS NOT NULL AS kept;
SELECT rollup.create('sales', replace(by('hour'), 'upper(c.title)', 'c.title'), every => NULL, joins => 'follow', if_not_exists => true) IS NOT NULL AS kept;
SELECT rollup.create('sales', replace(by('hour'), 'upper(c.title)', 'c.title'), every => NULL, joins => 'follow', replace => true) IS NOT NULL AS kept;
SELECT name, source FROM rollup.definition;
SELECT rollup.drop('sales', keep_data => true);
SELECT relname, relkind FROM pg_class WHERE relname LIKE 'sales%' AND relkind IN ('r', 'v') ORDER BY relname;
SELECT count(*) > 0 AS read FROM sales;
DROP TABLE sales_keys, sales_day_keys CASCADE;
-- refused
CREATE FUNCTION no(query text, also text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE message text; hint text; code text;
BEGIN
  EXECUTE format('SELECT rollup.create(''n'', %L, every => NULL, joins => ''follow''%s)', query, also);
  RETURN 'made';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT, code = RETURNED_SQLSTATE;
  RETURN format(E'%s: %s\n  %s', code, message, hint);
END $$;
SELECT no('SELECT at, title, count(*) FROM sale JOIN land ON id = land_id WHERE continent = ''Europe'' GROUP BY 1, 2');
SELECT no('SELECT at, title, count(*) FROM sale, land WHERE id = land_id GROUP BY 1, 2');
SELECT no('SELECT at, title, sum(length(continent)) AS letters FROM sale JOIN land ON id = land_id GROUP BY 1, 2');
SELECT no('SELECT at, title, count(*) FILTER (WHERE continent = ''Europe'') AS european FROM sale JOIN land ON id = land_id GROUP BY 1, 2');
SELECT no('SELECT at, title || kind AS both, count(*) FROM sale JOIN land ON id = land_id GROUP BY 1, 2');
SELECT no('SELECT at, title, title || count(*) AS both FROM sale JOIN land ON id = land_id GROUP BY 1, 2');
SELECT no('SELECT at, title, count(*) FROM sale JOIN land ON id = land_id GROUP BY 1, 2 HAVING title > ''A''');
SELECT no('SELECT at, title, count(*) FROM sale JOIN land ON id = land_id AND continent = ''Europe'' GROUP BY 1, 2');
SELECT no('SELECT at, title, count(*) FROM sale JOIN land ON id = land_id + 1 GROUP BY 1, 2');
SELECT no('SELECT at, title, count(*) FROM sale CROSS JOIN land GROUP BY 1, 2');
SELECT no('SELECT at, title, count(*) FROM sale JOIN land ON id < land_id GROUP BY 1, 2');
SELECT no('SELECT at, c.name, count(*) FROM sale s JOIN plan c ON c.name = s.kind GROUP BY 1, 2');
SELECT no('SELECT at, l.title, count(*) FROM sale JOIN ONLY land l ON id = land_id GROUP BY 1, 2');
SELECT no('SELECT at, l, count(*) FROM sale JOIN land l ON l.id = land_id GROUP BY 1, 2');
SELECT no('SELECT at, title, sum(amount) AS land_id FROM sale JOIN land ON id = land_id GROUP BY 1, 2');
SELECT no('SELECT at, title, count(*) FROM land LEFT JOIN sale ON id = land_id GROUP BY 1, 2');
SELECT no('SELECT at, title, count(*) FROM sale JOIN land ON id = land_id GROUP BY 1, 2', ', into_table => ''before''');
SELECT no('SELECT at, count(*) FROM sale JOIN land ON id = land_id GROUP BY 1, land.title');
CREATE COLLATION lax (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE word (text text COLLATE lax UNIQUE, meaning text);
ALTER TABLE sale ADD word text COLLATE lax;
SELECT no('SELECT at, meaning, count(*) FROM sale s JOIN word w ON w.text COLLATE "C" = s.word GROUP BY 1, 2');
CREATE FUNCTION same(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 2 = $2 % 2';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same);
SELECT no('SELECT at, title, count(*) FROM sale JOIN land ON id === land_id GROUP BY 1, 2');
CREATE ROLE seller;
ALTER TABLE sale OWNER TO seller;
GRANT CREATE ON SCHEMA public TO seller;
SELECT no('SELECT at, title, count(*) FROM sale JOIN land ON id = land_id GROUP BY 1, 2');
GRANT SELECT (id, title) ON land TO seller;
SELECT no('SELECT at, title, count(*) FROM sale JOIN land ON id = land_id GROUP BY 1, 2');
SELECT count(*) FROM n;
SELECT rollup.drop('n');
-- nondeterministic collations, names that are taken, one lookup table twice, USING, aliases, NULL, a natural key
INSERT INTO word VALUES ('Yes', 'is'), ('no', 'is not');
INSERT INTO sale (at, word, land_id, amount) SELECT timestamptz '2036-05-01 00:00Z' + i * interval '1 hour', (ARRAY['YES', 'yes', 'No', NULL])[1 + i % 4], 1 + i % 4, i % 3 FROM generate_series(1, 60) i;
GRANT SELECT ON word, land TO seller;
ALTER TABLE sale RENAME land_id TO id;
CREATE TABLE pair (id int PRIMARY KEY, "A B" text, at int);
GRANT SELECT ON pair TO seller;
INSERT INTO pair VALUES (1, 'a', 7), (2, 'a', 8), (3, NULL, 7);
\set using 'SELECT date_trunc(''day'', "the sale".at, ''UTC'') AS day, w.meaning AS "word", p."A B", q.at AS "$1", "the sale".id AS key, sum(amount) AS id2, count(*) AS n FROM sale "the sale" LEFT JOIN word w ON w.text = "the sale".word JOIN pair p USING (id) LEFT JOIN pair q ON q.id = amount GROUP BY 1, 2, 3, 4, 5'
SELECT rollup.create('pairs', :'using', every => NULL, joins => 'follow', on_change => 'recompute', coarser => '{"pairs_month": "1 month"}') > 0 AS made;
SELECT differs('pairs_live', :'using'), rollup_sale() IS NOT NULL AS ran, differs('pairs', :'using');
UPDATE sale SET amount = amount + 1, word = 'NO' WHERE id = 2;
DELETE FROM pair WHERE id = 3;
SELECT differs('pairs_live', :'using'), rollup_sale() IS NOT NULL AS ran, differs('pairs', :'using'), differs('pairs_month', replace(:'using', 'day''', 'month''')), differs('pairs_month_live', replace(:'using', 'day''', 'month'''));
TABLE pairs_month ORDER BY 2, 3, 4, 5;
-- raw queries know of keys alone
SET rollup.rewrite = exact;
SELECT source, rollup, level, reason FROM rollup.explain_rewrite('SELECT id, count(*) FROM sale GROUP BY 1');
SELECT source, rollup, level, reason FROM rollup.explain_rewrite('SELECT "A B", sum(n) FROM (SELECT id, count(*) AS n FROM sale GROUP BY 1) s JOIN pair USING (id) GROUP BY 1');
SELECT source, rollup, level, reason FROM rollup.explain_rewrite('SELECT "A B", count(*) FROM sale JOIN pair USING (id) GROUP BY 1');
RESET rollup.rewrite;
-- the view goes with the lookup table, what is stored stays
DROP TABLE word CASCADE;
SELECT rollup_sale() IS NOT NULL AS ran, count(*) > 0 AS stored FROM pairs_keys;
SELECT shown, live FROM rollup.definition;
SELECT rollup.drop('pairs');
SELECT relname FROM pg_class WHERE relname LIKE 'pairs%';
SELECT * FROM rollup.level;
