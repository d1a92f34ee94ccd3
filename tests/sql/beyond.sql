\set VERBOSITY terse
-- What postgresql-hll does not have.
CREATE TABLE sketch AS
SELECT n, hll_add_agg(hll_hash_integer(i)) AS v FROM (VALUES (0), (5), (100), (400), (5000), (100000)) t(n), generate_series(1, n) i GROUP BY n;
INSERT INTO sketch VALUES (0, hll_empty());
-- two sketches as sets: exact while both are explicit
SELECT hll_union_cardinality(a, b) AS u, hll_intersection_cardinality(a, b) AS i, hll_jaccard(a, b) AS j
FROM (SELECT hll_add_agg(hll_hash_integer(i)) FILTER (WHERE i <= 60), hll_add_agg(hll_hash_integer(i)) FILTER (WHERE i > 40) FROM generate_series(1, 100) i) t(a, b);
SELECT a.n, b.n, round(hll_union_cardinality(a.v, b.v)::numeric / greatest(a.n, b.n, 1), 2) AS u,
    round(hll_intersection_cardinality(a.v, b.v)::numeric / greatest(least(a.n, b.n), 1), 2) AS i, round(hll_jaccard(a.v, b.v)::numeric, 3) AS j
FROM sketch a, sketch b WHERE a.n <= b.n ORDER BY 1, 2;
SELECT round(hll_jaccard(a, b)::numeric, 2) AS tenth, round(hll_intersection_cardinality(a, b)::numeric, -3) AS ten_thousand
FROM (SELECT hll_add_agg(hll_hash_integer(i), 14) FILTER (WHERE i <= 55000), hll_add_agg(hll_hash_integer(i), 14) FILTER (WHERE i > 45000) FROM generate_series(1, 100000) i) t(a, b);
SELECT hll_union_cardinality('\x108b7f', v), hll_jaccard(v, '\x108b7f'), hll_intersection_cardinality(NULL, v) FROM sketch WHERE n = 5;
SELECT hll_union_cardinality(hll_empty(11), hll_empty(12));
SELECT hll_jaccard(hll_empty(), '\x138b7f0001ff'::bytea::hll);
-- folding: as if it had been built with fewer registers
SELECT n, hll_fold(w, 11) = v AS same FROM (SELECT n, hll_add_agg(hll_hash_integer(i), 14, 5, 0) AS w, hll_add_agg(hll_hash_integer(i), 11, 5, 0) AS v
    FROM (VALUES (5), (400), (100000)) t(n), generate_series(1, n) i GROUP BY n) s ORDER BY n;
SELECT n, # (hll_fold(v, 8) || hll_fold(hll_empty(17), 8)) = # hll_fold(v, 8) AS united, hll_log2m(hll_fold(v, 8)) FROM sketch ORDER BY n;
SELECT hll_fold(hll_empty(11), 12);
SELECT hll_fold(hll_empty(11), -1);
SELECT hll_fold('\x108b7f', 5);
-- many elements at once
SELECT hll_add_array(hll_empty(), ARRAY[1, 2, NULL, 3, 2]::hll_hashval[]) = hll_empty() || 1::hll_hashval || 2::hll_hashval || 3::hll_hashval AS same;
SELECT hll_add_array(hll_empty(), '{}'), hll_add_array(hll_empty(), '{NULL}'), hll_add_array(hll_empty(), '{{5},{6}}') = hll_add_array(hll_empty(), '{6,5}') AS nested;
SELECT hll_add_array(hll_empty(), array_agg(hll_hash_integer(i))) = hll_add_agg(hll_hash_integer(i)) AS same FROM generate_series(1, 100000) i;
SELECT hll_add_array('\x118b61', '{1}'), hll_add_array(hll_empty(), NULL) IS NULL AS strict;
-- what a sketch is
SELECT n, i.type, i.log2m, i.regwidth, i.filled, i.bytes, round(i.estimate::numeric, 1) AS estimate, round(i.standard_error::numeric, 4) AS error
FROM sketch, hll_info(v) i ORDER BY n;
SELECT (hll_info('\x108b7f')).*;
SELECT hll_info('\x128b7f00');
-- to bytes and back
SELECT v::bytea = hll_send(v) AS bytes, v::bytea::hll = v AS back FROM sketch WHERE n = 400;
-- GROUP BY, DISTINCT, ORDER BY, joins, unique
SELECT count(*), count(DISTINCT v) FROM (SELECT v FROM sketch UNION ALL SELECT v FROM sketch) t;
SELECT count(*) FROM (SELECT v FROM sketch UNION SELECT v FROM sketch) t;
SELECT n FROM sketch ORDER BY v, n;
SELECT n FROM sketch WHERE v < hll_empty() OR v >= (SELECT v FROM sketch WHERE n = 100000) ORDER BY n;
CREATE UNIQUE INDEX sketch_v ON sketch (v);
INSERT INTO sketch SELECT 7, v FROM sketch WHERE n = 5;
CREATE INDEX sketch_hash ON sketch USING hash (v);
ANALYZE sketch;
SET enable_seqscan = off;
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT n FROM sketch WHERE v = hll_empty();
SELECT n FROM sketch WHERE v = hll_empty();
RESET enable_seqscan;
SET enable_nestloop = off;
SET enable_mergejoin = off;
CREATE TABLE copy AS TABLE sketch;
EXPLAIN (COSTS OFF) SELECT count(*) FROM sketch a JOIN copy b USING (v);
SELECT count(*) FROM sketch a JOIN copy b USING (v);
RESET enable_nestloop;
RESET enable_mergejoin;
RESET enable_sort;
SET enable_hashjoin = off;
SET enable_nestloop = off;
SELECT count(*) FROM sketch a JOIN copy b USING (v);
RESET enable_hashjoin;
RESET enable_nestloop;
CREATE TABLE part (h hll_hashval, v hll) PARTITION BY HASH (h);
CREATE TABLE part0 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE part1 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO part SELECT hll_hash_integer(i), hll_empty() || hll_hash_integer(i) FROM generate_series(1, 1000) i;
SELECT count(*) BETWEEN 400 AND 600 AS even FROM part0;
SELECT count(*) FROM part WHERE h = hll_hash_integer(500);
SELECT min(h::text) FROM (SELECT h FROM part ORDER BY h LIMIT 1) t WHERE h < 0::hll_hashval AND h <= 0::hll_hashval AND NOT h > 0::hll_hashval AND NOT h >= 0::hll_hashval;
-- a hash over the wire
CREATE TABLE wired (h hll_hashval, v hll);
COPY (SELECT h, v FROM part ORDER BY h) TO '/dev/null' (FORMAT binary);
SELECT hll_hashval_send((-2)::hll_hashval), hll_hash_uuid('01234567-89ab-cdef-0123-456789abcdef') = hll_hash_any('01234567-89ab-cdef-0123-456789abcdef'::uuid) AS uuid,
    hll_hash_uuid('01234567-89ab-cdef-0123-456789abcdef', 5) = hll_hash_any('01234567-89ab-cdef-0123-456789abcdef'::uuid, 5) AS seeded;
-- distinct values in one step: what count(DISTINCT) counts, exactly while few
SELECT approx_count_distinct(i), approx_count_distinct(i % 7), approx_count_distinct(NULL::int) FROM generate_series(1, 190) i;
SELECT approx_count_distinct(i) FROM generate_series(1, 0) i;
SELECT approx_count_distinct(v) AS equal_numerics FROM (VALUES (1.0), (1.00), (1), (2)) t(v);
SELECT approx_count_distinct(v) AS zeros FROM (VALUES ('0'::float8), ('-0'), ('NaN'), ('NaN')) t(v);
SELECT approx_count_distinct(v) AS intervals FROM (VALUES (interval '1 day'), ('24 hours'), ('25 hours')) t(v);
SELECT approx_count_distinct(v) AS arrays FROM (VALUES (ARRAY[1.0]), (ARRAY[1.00]), (ARRAY[2])) t(v);
SELECT approx_count_distinct(v) AS padded FROM (VALUES ('a'::char(3)), ('a '::char(5)), ('b')) t(v);
SELECT approx_count_distinct(v) AS documents FROM (VALUES ('{"a": 1}'::jsonb), ('{"a": 1.0}'), ('{"b": 1}')) t(v);
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT approx_count_distinct(v COLLATE any_case) AS any_case, approx_count_distinct(v) AS by_case FROM (VALUES ('a'), ('A'), ('b')) t(v);
SELECT approx_count_distinct(v) AS names, approx_count_distinct(v::uuid) FROM (VALUES ('01234567-89ab-cdef-0123-456789abcdef'::name), ('01234567-89AB-cdef-0123-456789abcdef')) t(v);
SELECT approx_count_distinct(v) AS rows FROM (VALUES (ROW(1, 'a'::text)), (ROW(1, 'a'::text)), (ROW(2, 'a'::text))) t(v);
SELECT approx_count_distinct(b) AS booleans, approx_count_distinct(r) AS ranges, approx_count_distinct(s) AS sketches
FROM (VALUES (true, '[1,3)'::int4range, hll_empty()), (false, '[1,2]', hll_empty()), (true, 'empty', hll_empty(10))) t(b, r, s);
SELECT approx_count_distinct('{}'::json);
SELECT approx_count_distinct(i, 18) FROM generate_series(1, 2) i;
SELECT approx_count_distinct(i, NULL) FROM generate_series(1, 2) i;
SELECT abs(approx_count_distinct(i) / 1e5 - 1) < 0.06 AS near, abs(approx_count_distinct(i, 16) / 1e5 - 1) < 0.01 AS nearer,
    abs(approx_count_distinct(i::text, 16) / 1e5 - 1) < 0.01 AS as_text FROM generate_series(1, 100000) i;
-- parallel, by groups, in windows
CREATE TABLE hits AS SELECT i, i % 100 AS g FROM generate_series(1, 50000) i;
ALTER TABLE hits SET (parallel_workers = 2);
ANALYZE hits;
SELECT approx_count_distinct(i, 12) AS serial FROM hits \gset
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
EXPLAIN (COSTS OFF) SELECT approx_count_distinct(i, 12) FROM hits;
SELECT approx_count_distinct(i, 12) = :serial AS same FROM hits;
EXPLAIN (COSTS OFF) SELECT g, approx_count_distinct(i) FROM hits GROUP BY g;
SELECT min(c) > 450, max(c) < 550 FROM (SELECT approx_count_distinct(i) AS c FROM hits GROUP BY g) t;
SELECT i, approx_count_distinct(g) OVER (ORDER BY i) FROM hits ORDER BY i LIMIT 3;
-- its states and those of sketches never meet
CREATE AGGREGATE pg_temp.stolen (anyelement) (SFUNC = approx_count_distinct_trans, STYPE = internal, FINALFUNC = hll_pack);
SELECT pg_temp.stolen(i) FROM hits;
