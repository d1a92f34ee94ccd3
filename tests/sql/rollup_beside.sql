\pset format unaligned
\pset tuples_only
-- rollup_<source>() and expire_<source>() are made, called, renamed and dropped, and nobody else's function is taken for one of them
CREATE SCHEMA shop;
CREATE TABLE shop.sale (at timestamptz, v int);
-- what others have called so: with arguments that need not be given, too
CREATE FUNCTION shop.rollup_sale(x int DEFAULT 7) RETURNS int LANGUAGE sql AS 'SELECT x';
CREATE PROCEDURE shop.expire_sale() LANGUAGE sql AS '';
\set query 'SELECT date_trunc(''day'', at) AS day, sum(v) AS v FROM shop.sale GROUP BY 1'
SELECT rollup.create('sale_d', :'query', every => NULL) IS NOT NULL;
SELECT rollup.retain('shop.sale', '30 days');
SELECT shop.rollup_sale();
INSERT INTO shop.sale VALUES (now(), 1);
SELECT rollup.run('shop.sale');
SELECT rollup.drop('sale_d');
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'shop'::regnamespace ORDER BY 1;
DROP FUNCTION shop.rollup_sale;
DROP PROCEDURE shop.expire_sale;
-- one that no call without arguments means stands in nobody's way
CREATE FUNCTION shop.rollup_sale(x int) RETURNS int LANGUAGE sql AS 'SELECT x';
CREATE FUNCTION shop.expire_sale(VARIADIC x int[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT rollup.create('sale_d', :'query', every => NULL) IS NOT NULL;
SELECT shop.rollup_sale();
SELECT rollup.retain('shop.sale', '30 days');
SELECT shop.expire_sale();
-- they follow the table, whatever either is called, and go with its last rollup
ALTER TABLE shop.sale RENAME TO sold;
ALTER SCHEMA shop RENAME TO store;
INSERT INTO store.sold VALUES (now(), 1);
SELECT store.rollup_sale();
ALTER FUNCTION store.rollup_sale() RENAME TO count_them;
CREATE SCHEMA calls;
ALTER FUNCTION store.count_them() SET SCHEMA calls;
INSERT INTO store.sold VALUES (now(), 1);
SELECT calls.count_them();
CREATE FUNCTION store.rollup_sold() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT rollup.create('sold_m', 'SELECT date_trunc(''month'', at) AS month, count(*) AS n FROM store.sold GROUP BY 1', every => NULL) IS NOT NULL;
SELECT oid::regprocedure, pg_get_function_sqlbody(oid) FROM pg_proc WHERE pronamespace IN ('store'::regnamespace, 'calls'::regnamespace) ORDER BY 1;
SELECT rollup.drop('sold_m');
SELECT calls.count_them();
SELECT rollup.drop('sale_d');
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace IN ('store'::regnamespace, 'calls'::regnamespace) ORDER BY 1;
-- one of which somebody has made something else is theirs
SELECT rollup.create('sold_m', 'SELECT date_trunc(''month'', at) AS month, count(*) AS n FROM store.sold GROUP BY 1', every => NULL) IS NOT NULL;
CREATE OR REPLACE FUNCTION store.expire_sold() RETURNS bigint LANGUAGE sql AS 'SELECT 42';
SELECT rollup.create('sold_y', 'SELECT date_trunc(''year'', at) AS year, count(*) AS n FROM store.sold GROUP BY 1', every => NULL) IS NOT NULL;
SELECT rollup.drop('sold_y'), rollup.drop('sold_m'), store.expire_sold();
-- one that says the same, and was not made here
CREATE TABLE store.hit (at timestamptz);
CREATE FUNCTION store.rollup_hit() RETURNS bigint LANGUAGE sql RETURN rollup.run('store.hit'::regclass);
SELECT rollup.create('hit_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM store.hit GROUP BY 1', every => NULL) IS NOT NULL;
SELECT rollup.drop('hit_d');
SELECT oid::regprocedure FROM pg_proc WHERE proname LIKE '%\_hit' ORDER BY 1;
-- the owner of a table who may not create beside it
CREATE ROLE seller;
CREATE SCHEMA stall AUTHORIZATION seller;
GRANT USAGE ON SCHEMA store TO seller;
ALTER TABLE store.hit OWNER TO seller;
SET ROLE seller;
SELECT rollup.create('stall.hit_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM store.hit GROUP BY 1', every => NULL) IS NOT NULL;
SELECT rollup.drop('stall.hit_d');
RESET ROLE;
-- a function that went to somebody else stays, with a word
CREATE TABLE stall.lot (at timestamptz);
ALTER TABLE stall.lot OWNER TO seller;
SET ROLE seller;
SELECT rollup.create('lot_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM stall.lot GROUP BY 1', every => NULL) IS NOT NULL;
RESET ROLE;
CREATE ROLE buyer;
ALTER FUNCTION stall.rollup_lot() OWNER TO buyer;
SELECT rollup.drop('lot_d');
DROP FUNCTION stall.rollup_lot();
SELECT stall.expire_lot();
-- a table goes, and takes its functions along; so does the extension
SELECT rollup.create('lot_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM stall.lot GROUP BY 1', every => NULL) IS NOT NULL;
DROP TABLE stall.lot;
SET client_min_messages = warning;
DROP TABLE stall.lot CASCADE;
SELECT count(*) FROM pg_proc WHERE pronamespace = 'stall'::regnamespace;
SELECT rollup.drop('lot_d');
-- names as long as names can be, and of every kind
CREATE SCHEMA "it's ""%s"" $1 \ é
";
SET search_path = "it's ""%s"" $1 \ é
", public;
SELECT 'q''"%1$s$$\' || E'\n' || repeat('é', 26) AS long \gset
SELECT octet_length(:'long');
CREATE TABLE :"long" (at timestamptz, v int);
SELECT rollup.create('"%s it''s $1 \"', format('SELECT date_trunc(''day'', at) AS "d""a''y %%", sum(v) AS "$1 \" FROM %I GROUP BY 1', :'long'), every => NULL, coarser => '{"\"%s it''s $2 \\\"": "1 month"}') IS NOT NULL;
INSERT INTO :"long" VALUES ('2026-01-01 10:00', 4);
SELECT 'rollup_' || :'long' AS run, 'expire_' || :'long' AS expire \gset
SELECT :"run"();
SELECT rollup.retain(format('%I', :'long')::regclass, '1 day');
SELECT :"expire"();
TABLE "%s it's $1 \";
TABLE "%s it's $2 \_live";
SELECT rollup.add_column('%s it''s $1 \', 'n%"', 'count(*)');
TABLE "%s it's $1 \_live";
SELECT count(*) FROM rollup.check('%s it''s $1 \');
SELECT length(name), state, last_error FROM rollup.status;
-- two that differ where their functions' names have ended
SELECT left(:'long', -1) || 'x' AS other \gset
CREATE TABLE :"other" (at timestamptz);
RESET client_min_messages;
SELECT rollup.create('other_d', format('SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM %I GROUP BY 1', :'other'), every => NULL) IS NOT NULL;
SELECT rollup.drop('other_d');
SELECT :"run"();
SELECT rollup.drop('%s it''s $1 \');
SELECT count(*) FROM pg_proc WHERE pronamespace = (SELECT relnamespace FROM pg_class WHERE relname = :'long');
DROP ROLE buyer;
DROP OWNED BY seller CASCADE;
DROP ROLE seller;
