\pset format unaligned
\pset tuples_only
-- a table that somebody filled by hand becomes the table of a rollup: as the documentation of Citus has it
CREATE TABLE http_request (site_id INT, ingest_time TIMESTAMPTZ DEFAULT now(), url TEXT, request_country TEXT, ip_address TEXT, status_code INT, response_time_msec INT);
CREATE TABLE http_request_1min (
  site_id INT, ingest_time TIMESTAMPTZ, -- which minute this row represents
  error_count INT, success_count INT, request_count INT, average_response_time_msec INT,
  CHECK (request_count = error_count + success_count), CHECK (ingest_time = date_trunc('minute', ingest_time)));
CREATE INDEX http_request_1min_idx ON http_request_1min (site_id, ingest_time);
INSERT INTO http_request SELECT i % 3, timestamptz '2026-01-01' + i * interval '11 s', 'u', 'USA', '10.0.0.' || i % 50, 200 + 150 * (i % 2), i FROM generate_series(1, 500) i;
INSERT INTO http_request_1min (site_id, ingest_time, request_count, success_count, error_count, average_response_time_msec)
  SELECT site_id, date_trunc('minute', ingest_time), count(1), sum(CASE WHEN status_code BETWEEN 200 AND 299 THEN 1 ELSE 0 END),
         sum(CASE WHEN status_code BETWEEN 200 AND 299 THEN 0 ELSE 1 END), sum(response_time_msec) / count(1) FROM http_request GROUP BY 1, 2;
\set query 'SELECT site_id, date_trunc(''minute'', ingest_time) AS ingest_time, count(1) AS request_count, sum(CASE WHEN status_code BETWEEN 200 AND 299 THEN 1 ELSE 0 END) AS success_count, sum(CASE WHEN status_code BETWEEN 200 AND 299 THEN 0 ELSE 1 END) AS error_count, sum(response_time_msec) / count(1) AS average_response_time_msec FROM http_request GROUP BY 1, 2'
SELECT rollup.create('http_request_1min', :'query', every => NULL, into_table => 'http_request_1min');
-- the hint is the statement that makes it fit
ALTER TABLE http_request_1min ADD COLUMN response_time_msec_sum bigint;
UPDATE http_request_1min SET response_time_msec_sum = average_response_time_msec * request_count;
ALTER TABLE "public"."http_request_1min" ALTER COLUMN "request_count" TYPE bigint, ALTER COLUMN "success_count" TYPE bigint, ALTER COLUMN "error_count" TYPE bigint, DROP COLUMN "average_response_time_msec", ADD UNIQUE NULLS NOT DISTINCT ("site_id", "ingest_time");
SELECT rollup.create('http_request_1min', :'query', every => NULL, into_table => 'http_request_1min');
SELECT rollup.create('http_request_1min', :'query', every => NULL, into_table => 'http_request_1min', backfill => false, coarser => '{"http_request_1hour": "1 hour"}') IS NOT NULL AS made;
SELECT rollup_http_request();
SELECT sum(request_count), sum(success_count), sum(error_count), count(average_response_time_msec) FROM http_request_1min;
SELECT sum(request_count), count(average_response_time_msec) FROM http_request_1hour_live;
-- rows that come are counted, also into minutes that are there
INSERT INTO http_request SELECT i % 3, timestamptz '2026-01-01' + i * interval '13 s', 'u', 'USA', '10.0.0.' || i % 50, 200 + 150 * (i % 2), i FROM generate_series(1, 600) i;
SELECT sum(request_count) FROM http_request_1min_live;
SELECT rollup_http_request();
SELECT sum(request_count), sum(success_count) FROM http_request_1min;
-- what raw rows are there for is put right, averages too
SELECT rollup.rebuild('http_request_1min', '2026-01-01 00:10') > 0 AS rebuilt;
\set differ 'SELECT count(*) FROM ((' :query ' EXCEPT ALL SELECT site_id, ingest_time, request_count, success_count, error_count, average_response_time_msec FROM http_request_1min) UNION ALL (SELECT site_id, ingest_time, request_count, success_count, error_count, average_response_time_msec FROM http_request_1min EXCEPT ALL ' :query ')) d'
SELECT count(*) > 0 AS without_average, bool_and(ingest_time < '2026-01-01 00:10') AS before FROM http_request_1min WHERE average_response_time_msec IS NULL;
SELECT rollup.rebuild('http_request_1min') > 0 AS rebuilt;
:differ;
SELECT count(*) FROM rollup.check('http_request_1min');
-- dropped, the table stays; and can be adopted again, empty, with its backfill
SELECT rollup.drop('http_request_1min');
SELECT count(*) > 0 AS kept, to_regclass('http_request_1min_live'), to_regclass('http_request_1hour') FROM http_request_1min;
TRUNCATE http_request_1min;
SELECT rollup.create('again', :'query', every => NULL, into_table => 'http_request_1min') IS NOT NULL AS made;
SELECT rollup_http_request();
:differ;
SELECT name, relation, adopted FROM rollup.definition;
SELECT rollup.create('twice', :'query', into_table => 'http_request_1min');
SELECT rollup.drop('again');
-- what else may not fit
CREATE TABLE odd (site_id text, ingest_time timestamptz(0) NOT NULL, request_count bigint GENERATED ALWAYS AS (1) STORED, names text COLLATE "C", total numeric(6, 2), extra int NOT NULL, fine int NOT NULL DEFAULT 1, UNIQUE (site_id, ingest_time, extra));
CREATE UNIQUE INDEX ON odd (ingest_time, site_id) WHERE extra > 0;
\set other 'SELECT site_id, date_trunc(''minute'', ingest_time) AS ingest_time, count(*) AS request_count, max(url) AS names, sum(response_time_msec::numeric) AS total, max(status_code) AS worst, variance(status_code) AS spread FROM http_request GROUP BY 1, 2'
SELECT rollup.create('odd', :'other', into_table => 'odd');
CREATE VIEW seen AS SELECT 1 AS one;
SELECT rollup.create('odd', :'other', into_table => 'seen');
SELECT rollup.create('odd', :'other', into_table => 'http_request');
SELECT rollup.create('odd', :'other', into_table => 'no_such');
SELECT rollup.create('odd', :'other', backfill => NULL);
CREATE ROLE regress_adopt_owner;
ALTER TABLE http_request OWNER TO regress_adopt_owner;
GRANT CREATE ON SCHEMA public TO regress_adopt_owner;
SET ROLE regress_adopt_owner;
SELECT rollup.create('stolen', :'query', into_table => 'http_request_1min');
RESET ROLE;
ALTER TABLE http_request OWNER TO postgres;
REVOKE CREATE ON SCHEMA public FROM regress_adopt_owner;
DROP ROLE regress_adopt_owner;
-- nothing is left behind
SELECT count(*) FROM rollup.definition;
SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'odd'::regclass AND attnum > 0;
-- without adopting, too: rows that are there are not counted, those of a transaction that is open are
SELECT rollup.create('fresh', 'SELECT date_trunc(''hour'', ingest_time) AS at, count(*) AS n FROM http_request GROUP BY 1', every => NULL, backfill => false) IS NOT NULL AS made;
INSERT INTO http_request VALUES (1, '2026-05-05');
SELECT rollup_http_request(), (SELECT array_agg(n) FROM fresh_live);
SELECT rollup.rebuild('fresh') > 1 AS rebuilt;
SELECT sum(n) = (SELECT count(*) FROM http_request) AS whole FROM fresh;
SELECT rollup.drop('fresh');
-- whatever keeps its key columns from being NULL, the hint is what makes the table fit
CREATE TABLE raw (at timestamptz, site int, v int);
CREATE FUNCTION hinted(target text, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE said text; wrong text;
BEGIN
  BEGIN
    PERFORM rollup.create(target, query, every => NULL, into_table => target);
    RETURN 'fits';
  EXCEPTION WHEN invalid_table_definition THEN
    GET STACKED DIAGNOSTICS wrong = MESSAGE_TEXT, said = PG_EXCEPTION_HINT;
  END;
  EXECUTE said;
  PERFORM rollup.create(target, query, every => NULL, into_table => target);
  RETURN wrong || E'\n' || said;
END $$;
\set by_site 'SELECT site, date_trunc(''hour'', at) AS at, count(*) AS hits FROM raw GROUP BY 1, 2'
CREATE TABLE keyed (site int, at timestamptz, hits bigint, PRIMARY KEY (site, at));
SELECT hinted('keyed', :'by_site');
CREATE TABLE "named ""so""" (site int, at timestamptz, hits bigint, CONSTRAINT "the %key" PRIMARY KEY (at, site), UNIQUE (site, at));
SELECT hinted('"named ""so"""', :'by_site');
CREATE TABLE wide (site int, at timestamptz, hits bigint, id int, PRIMARY KEY (id, site), UNIQUE (at, site));
SELECT hinted('wide', :'by_site');
CREATE TABLE referred (site int, at timestamptz, hits bigint, PRIMARY KEY (site, at));
CREATE TABLE refers (s int, t timestamptz, CONSTRAINT to_it FOREIGN KEY (s, t) REFERENCES referred);
SELECT hinted('referred', :'by_site');
CREATE TABLE counted (site int GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, hits bigint);
CREATE UNIQUE INDEX counted_key ON counted (site, at);
ALTER TABLE counted REPLICA IDENTITY USING INDEX counted_key;
SELECT hinted('counted', :'by_site');
-- a second primary key there cannot be
ALTER TABLE raw ALTER site SET NOT NULL, ALTER at SET NOT NULL;
CREATE TABLE other (site int, at timestamptz, hits bigint, id int DEFAULT 1 PRIMARY KEY);
SELECT hinted('other', :'by_site');
INSERT INTO raw VALUES ('2026-01-01Z', 1, 1), ('2026-01-01Z', 1, 2);
SELECT rollup.run('raw');
SELECT site, hits FROM keyed UNION ALL SELECT site, hits FROM wide UNION ALL SELECT site, hits FROM counted;
-- a rollup that was dropped takes the table that it left back: what is computed in it is what its query says
\set whole 'SELECT site_id, date_trunc(''hour'', ingest_time) AS at, count(*) AS n, avg(response_time_msec) AS mean, count(*) FILTER (WHERE status_code > 299) / count(*)::float8 AS failed FROM http_request GROUP BY 1, 2'
SELECT rollup.create('whole', :'whole', every => NULL, coarser => '{"whole_day": "1 day"}') IS NOT NULL AS made;
SELECT rollup_http_request() > 0 AS merged;
SELECT rollup.drop('whole', keep_data => true);
DROP TABLE whole_day;
SELECT array_agg(attname ORDER BY attnum) AS generated FROM pg_attribute WHERE attrelid = 'whole'::regclass AND attgenerated <> '';
SELECT rollup.create('whole', :'whole', every => NULL, into_table => 'whole', backfill => false, coarser => '{"whole_day": "1 day"}') IS NOT NULL AS taken_back;
INSERT INTO http_request SELECT i % 3, timestamptz '2026-01-01' + i * interval '13 s', 'u', 'USA', '10.0.0.' || i % 50, 200 + 150 * (i % 2), i FROM generate_series(1, 300) i;
SELECT rollup_http_request();
SELECT count(*) FROM rollup.check('whole');
SELECT bool_and(w.n = d.n AND abs(w.failed - d.failed) < 1e-9) AS same FROM (SELECT site_id, sum(n) AS n, sum(failed * n) / sum(n) AS failed FROM whole GROUP BY 1) w
  JOIN (SELECT site_id, sum(n) AS n, sum(failed * n) / sum(n) AS failed FROM whole_day GROUP BY 1) d USING (site_id);
SELECT rollup.drop('whole', keep_data => true);
-- computed otherwise, it is another table
ALTER TABLE whole RENAME COLUMN failed TO other;
ALTER TABLE whole ADD COLUMN failed float8 GENERATED ALWAYS AS (n) STORED;
SELECT rollup.create('whole', :'whole', every => NULL, into_table => 'whole', backfill => false);
