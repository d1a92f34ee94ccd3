\set VERBOSITY terse
-- constraints that are deferred, on a rollup, on a level, and on tables that refer to the source: each statement of a run or of expiry
-- meets them
SET timezone = 'UTC';
CREATE TABLE city (id int PRIMARY KEY, name text);
INSERT INTO city SELECT i, 'c' || i FROM generate_series(0, 9) i;
CREATE TABLE sale (id bigint PRIMARY KEY, at timestamptz NOT NULL, city int NOT NULL, price int);
CREATE TABLE refund (sale bigint REFERENCES sale ON DELETE NO ACTION DEFERRABLE INITIALLY DEFERRED);
SELECT rollup.create('sales', $$SELECT date_trunc('day', at) AS at, city, count(*) AS n, sum(price) AS price FROM sale GROUP BY 1, 2$$, every => NULL, on_change => 'recompute', coarser => '{"sales_month": "1 month"}') IS NOT NULL AS made;
ALTER TABLE sales ADD FOREIGN KEY (city) REFERENCES city DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE sales_month ADD FOREIGN KEY (city) REFERENCES city DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE seen (n bigint);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.seen VALUES (NEW.n); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER looks AFTER INSERT OR UPDATE ON sales DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look();
INSERT INTO sale SELECT i, now() - interval '40 days' + i * interval '1 hour', i % 5, i FROM generate_series(0, 899) i;
SELECT rollup_sale();
SELECT sum(n) FROM sales;
SELECT sum(n) FROM sales_month;
SELECT count(*) > 0 AS looked FROM seen;
UPDATE sale SET price = price + 1 WHERE id < 50;
SELECT rollup.run('sale');
SELECT sum(price) = (SELECT sum(price) FROM sale) AS same FROM sales;
SELECT rollup.rebuild('sales') > 0 AS rebuilt;
-- everything else that writes to the tables, and what waits of the source in the same transaction
SET client_min_messages = warning;
SELECT rollup.rebase('sale');
BEGIN;
INSERT INTO refund VALUES (5);
DELETE FROM refund;
INSERT INTO sale VALUES (5000, now(), 1, 1);
SELECT rollup.rebase('sale');
COMMIT;
RESET client_min_messages;
DELETE FROM sale WHERE id = 5000;
SELECT rollup.run('sale');
SELECT rollup.create('sales', $$SELECT date_trunc('day', at) AS at, city, count(*) AS n, sum(price) AS price, max(price) AS most FROM sale GROUP BY 1, 2$$, every => NULL, on_change => 'recompute', replace => true) IS NOT NULL AS replaced;
SELECT rollup.drop_column('sales', 'most');
SELECT rollup.replace('sales', $$SELECT date_trunc('day', at) AS at, city, count(*) AS n, sum(price) AS price, min(price) AS least FROM sale GROUP BY 1, 2$$);
SELECT rollup.drop_column('sales', 'least');
SELECT sum(n) FROM sales;
-- a row that breaks one is an error, and nothing of it stays
INSERT INTO sale VALUES (1000, now(), 77, 1);
SELECT rollup.run('sale');
SELECT sum(n) FROM sales;
DELETE FROM sale WHERE id = 1000;
SELECT rollup.run('sale');
SELECT sum(n) FROM sales;
-- what waits in the caller's transaction is checked as the caller, before
INSERT INTO sale VALUES (1001, now(), 1, 1);
BEGIN;
INSERT INTO refund VALUES (12345);
SELECT rollup.run('sale');
ROLLBACK;
-- rows to which others refer keep old rows from going, with the name of the key
INSERT INTO refund VALUES (3);
SELECT rollup.retain('sale', '30 days');
SELECT rollup.expire('sale');
DELETE FROM refund;
SELECT rollup.expire('sale') > 200 AS expired;
SELECT min(at) > now() - interval '31 days' AS gone FROM sale;
-- partitions that are made ahead
CREATE TABLE parcel (at timestamptz NOT NULL, city int REFERENCES city DEFERRABLE INITIALLY DEFERRED) PARTITION BY RANGE (at);
CREATE TABLE parcel_rest PARTITION OF parcel DEFAULT;
INSERT INTO parcel SELECT now(), i FROM generate_series(0, 9) i;
SELECT rollup.partition('parcel', '1 day', '1 day') > 0 AS made;
SELECT count(*) FROM parcel_rest;
SELECT count(*) FROM parcel;
SELECT rollup.drop('sales');
DROP TABLE refund, sale, parcel, seen, city CASCADE;
DROP FUNCTION look();
