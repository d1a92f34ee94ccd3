\set VERBOSITY terse
SET client_min_messages = notice;
SET bytea_output = hex;
-- The executor's own road; tests/batch.rs has the other.
SET rollup.batch = off;
-- what is installed
SELECT count(*) FILTER (WHERE p.prokind = 'f') AS functions, count(*) FILTER (WHERE p.prokind = 'a') AS aggregates
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll'
WHERE p.proname ~ '^hll';
SELECT typname, typlen, typbyval, typalign, typstorage, typreceive <> 0 AS receives, typmodin <> 0 AS typmods
FROM pg_type WHERE typname IN ('hll', 'hll_hashval') ORDER BY 1;
-- text form: bytes are kept as written
SELECT hll_empty(), '\x118b7f'::hll, E'\\021\\213\\177'::hll;
SELECT hll_send('\x118b7f'::hll), '\x128b7f00000000000000010000000000000002'::hll;
SELECT hll_empty(11, 5, 256), hll_empty(11, 5, 0, 0), hll_empty(10), hll_empty(12, 6);
SELECT '-1'::hll_hashval, 5::hll_hashval, (-5)::bigint::hll_hashval, hll_hashval(7), hll_hashval_int4(-7);
-- bad bytes
SELECT '\x018b7f'::hll;
SELECT '\x'::hll;
SELECT '\x11'::hll;
SELECT '\x218b7f'::hll;
SELECT '\x158b7f'::hll;
SELECT '\x108b7f00'::hll;
SELECT '\x118b7f00'::hll;
SELECT '\x128b7f00'::hll;
SELECT '\x128b7f00000000000000020000000000000001'::hll;
SELECT '\x128b7f00000000000000010000000000000001'::hll;
SELECT '\x148b7f00'::hll;
SELECT '\x11927f'::hll;
SELECT '\x11eb7f'::hll;
SELECT 'abc'::hll;
SELECT 'x'::hll_hashval;
-- bytes cast without a check are checked where they are used
SELECT hll_cardinality('\x128b7f00'::bytea::hll);
SELECT hll_add('\x119200'::bytea::hll, 1::hll_hashval);
SELECT '\x118b7f'::hll || '\xffff'::bytea::hll;
SELECT hll_type('\xffff'::bytea::hll);
SELECT hll_print(''::bytea::hll);
SELECT ('\xffff'::bytea::hll)::hll(10);
SELECT hll_union_agg(v) FROM (VALUES ('\xffff'::bytea::hll)) t(v);
SELECT '\x118b7f'::hll::bytea;
-- hashes
SELECT hll_hash_boolean(false) AS f, hll_hash_boolean(true) AS t, hll_hash_smallint(0::smallint) AS s;
SELECT hll_hash_integer(0) AS i0, hll_hash_integer(1) AS i1, hll_hash_bigint(0) AS b0;
SELECT hll_hash_text('A') AS a, hll_hash_text('') AS nothing, hll_hash_bytea('\x41') AS bytes;
SELECT hll_hash_bigint(0, -1);
SELECT hll_hash_integer(1, 7) = hll_hash_any(1, 7) AS seeded, hll_hash_text(NULL) IS NULL AS strict;
SELECT hll_hash_any(true) = hll_hash_boolean(true), hll_hash_any(3::smallint) = hll_hash_smallint(3::smallint),
    hll_hash_any(3) = hll_hash_integer(3), hll_hash_any(3::bigint) = hll_hash_bigint(3),
    hll_hash_any('x'::text) = hll_hash_text('x'), hll_hash_any('\x01'::bytea) = hll_hash_bytea('\x01');
SELECT hll_hash_any('x'::name) = hll_hash_text('x') AS name,
    hll_hash_any('01234567-89ab-cdef-0123-456789abcdef'::uuid)
        = hll_hash_bytea(uuid_send('01234567-89ab-cdef-0123-456789abcdef'::uuid)) AS uuid,
    hll_hash_any('1 day'::interval) = hll_hash_bytea(interval_send('1 day'::interval)) AS interval,
    hll_hash_any('08:00:2b:01:02:03:04:05'::macaddr8)
        = hll_hash_bytea(macaddr8_send('08:00:2b:01:02:03:04:05'::macaddr8)) AS macaddr8,
    hll_hash_any(cash_out(1::money)) = hll_hash_text(cash_out(1::money)::text) AS cstring;
SELECT count(DISTINCT hll_hash_any(m)::text) FROM (SELECT '08:00:2b:01:02:03:04:05'::macaddr8 AS m FROM generate_series(1, 5)) t;
-- a register width of 0 has no stored form: it is one bit, and can be read again
SELECT hll_empty(11, 0), hll_regwidth(hll_empty(11, 0) || 1::hll_hashval), # (hll_empty(11, 0, 0) || 2049::hll_hashval || 2050::hll_hashval) > 1.9 AS two;
-- operators
SELECT 1::hll_hashval = 1::hll_hashval AS eq, 1::hll_hashval <> 1::hll_hashval AS ne,
    hll_empty() = hll_empty() AS heq, hll_empty() <> hll_empty(10) AS hne;
SELECT hll_empty() || 1::hll_hashval, 1::hll_hashval || hll_empty() || 2::hll_hashval;
SELECT # (hll_empty() || 1::hll_hashval || 1::hll_hashval || 2::hll_hashval) AS two, # hll_empty() AS none, # '\x108b7f'::hll AS undefined;
SELECT (hll_empty() || 1::hll_hashval) || (hll_empty() || 2::hll_hashval) AS united;
SELECT hll_empty(11) || hll_empty(10);
SELECT hll_union(hll_empty(11, 5), hll_empty(11, 4));
SELECT '\x108b7f'::hll || 1::hll_hashval AS undefined;
-- what a value tells about itself
SELECT hll_schema_version(v), hll_type(v), hll_log2m(v), hll_regwidth(v), hll_sparseon(v), hll_expthresh(v)
FROM (VALUES (hll_empty()), ('\x108b7f'), (hll_empty(10, 4, 64, 0) || 1::hll_hashval), (hll_empty(11, 5, 0) || 1::hll_hashval),
    (hll_empty(11, 5, 0, 0) || 1::hll_hashval)) t(v);
SELECT hll_print(hll_empty()), hll_print('\x108b7f');
SELECT hll_print(hll_empty(11, 5, 256) || (-3)::hll_hashval || 7::hll_hashval);
SELECT hll_print(hll_empty(5, 5, 0) || 64::hll_hashval);
-- type modifiers
CREATE TEMP TABLE shaped (a hll, b hll(10), c hll(10, 4, 64, 0), d hll(11, 5, -1, 1));
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'shaped'::regclass AND attnum > 0 ORDER BY attnum;
INSERT INTO shaped (a, d) VALUES (hll_empty(), hll_empty());
INSERT INTO shaped (b) VALUES (hll_empty());
INSERT INTO shaped (c) VALUES (hll_empty(10, 5, 64, 0));
INSERT INTO shaped (c) VALUES (hll_empty(10, 4, -1, 0));
INSERT INTO shaped (c) VALUES (hll_empty(10, 4, 64, 1));
INSERT INTO shaped (c) VALUES (hll_empty(10, 4, 64, 0));
COPY shaped (b) FROM stdin;
\\x118b7f
\.
SELECT count(*) FROM shaped;
SELECT NULL::hll(18);
SELECT NULL::hll(-1);
SELECT NULL::hll(10, 8);
SELECT NULL::hll(10, 4, -2);
SELECT NULL::hll(10, 4, 16384);
SELECT NULL::hll(10, 4, 63);
SELECT NULL::hll(10, 4, 64, 2);
SELECT NULL::hll(10, 4, 64, 1, 1);
SELECT NULL::hll(x);
SELECT hll_empty(18);
SELECT hll_empty(10, 5, 100000);
SELECT hll_empty()::hll(10);
-- aggregates
SELECT hll_add_agg(h) IS NULL AS no_rows FROM (SELECT 1::hll_hashval AS h WHERE false) t;
SELECT hll_add_agg(NULL::hll_hashval) AS all_null, hll_add_agg(NULL::hll_hashval, 10) AS shaped;
SELECT hll_union_agg(NULL::hll) IS NULL AS all_null;
SELECT hll_add_agg(h) FROM (VALUES (1::hll_hashval), (NULL), (2::hll_hashval), (1::hll_hashval)) t(h);
SELECT hll_union_agg(v) FROM (VALUES (hll_empty() || 1::hll_hashval), (NULL), (hll_empty() || 2::hll_hashval)) t(v);
SELECT hll_union_agg(v) FROM (VALUES (hll_empty() || 1::hll_hashval), ('\x108b7f')) t(v);
SELECT hll_union_agg(v) FROM (VALUES (hll_empty()), (hll_empty(10))) t(v);
SELECT hll_add_agg(1::hll_hashval, 12), hll_add_agg(1::hll_hashval, 12, 4), hll_add_agg(1::hll_hashval, 12, 4, 64),
    hll_add_agg(1::hll_hashval, 12, 4, 64, 0);
SELECT hll_add_agg(1::hll_hashval, 18);
-- aggregates of one's own over the support functions
CREATE AGGREGATE pg_temp.counted (hll_hashval) (SFUNC = hll_add_trans0, STYPE = internal, FINALFUNC = hll_ceil_card_unpacked);
CREATE AGGREGATE pg_temp.counted (hll) (SFUNC = hll_union_trans, STYPE = internal, FINALFUNC = hll_card_unpacked);
CREATE AGGREGATE pg_temp.mixed (numeric) (SFUNC = numeric_avg_accum, STYPE = internal, FINALFUNC = hll_pack);
SELECT pg_temp.counted(hll_hash_integer(i)) AS of_hashes, pg_temp.counted(hll_empty() || hll_hash_integer(i)) AS of_sketches FROM generate_series(1, 100) i;
SELECT pg_temp.mixed(1);
-- registers of 6 and 7 bits, and a sparse value whose padding is as long as a chunk
SELECT w, round((# hll_add_agg(hll_hash_integer(i), 11, w))::numeric, 3) AS estimate FROM generate_series(1, 20000) i, generate_series(4, 7) w GROUP BY w ORDER BY w;
SELECT v, # v > 2.9 AS all_three FROM (SELECT hll_empty(4, 2, 0, 1) || 16::hll_hashval || 17::hll_hashval || 18::hll_hashval) t(v);
-- one sketch, by rows and by aggregate, to the byte
SELECT n, (SELECT hll_add_agg(hll_hash_bigint(i)) FROM generate_series(1, n) i)
    = (SELECT hll_union_agg(v) FROM (SELECT hll_add_agg(hll_hash_bigint(i)) AS v FROM generate_series(1, n) i GROUP BY i % 7) t) AS same,
    (SELECT hll_type(hll_add_agg(hll_hash_bigint(i))) FROM generate_series(1, n) i) AS kind,
    (SELECT round((# hll_add_agg(hll_hash_bigint(i)))::numeric, 6) FROM generate_series(1, n) i) AS improved
FROM (VALUES (160), (161), (600), (2000), (5000), (100000)) t(n);
SET hll.estimator = classic;
SELECT n, (SELECT round((# hll_add_agg(hll_hash_bigint(i)))::numeric, 6) FROM generate_series(1, n) i) AS classic
FROM (VALUES (160), (161), (600), (2000), (5000), (100000)) t(n);
SET hll.estimator = fancy;
RESET hll.estimator;
-- windows: the final function leaves the state as it was
SELECT i, round((# hll_add_agg(hll_hash_integer(i)) OVER (ORDER BY i))::numeric, 3) AS running FROM generate_series(1, 4) i;
-- session defaults outlive a rollback
BEGIN;
SELECT hll_set_defaults(12, 4, 64, 0);
SELECT hll_set_max_sparse(100), hll_set_output_version(1);
ROLLBACK;
SELECT hll_empty(), hll_set_max_sparse(-1);
SELECT hll_set_output_version(2);
SELECT hll_set_max_sparse(-2);
SELECT hll_set_defaults(18, 5, -1, 1);
SET hll.session_defaults = 5;
-- parallel: the workers take part and see the session's defaults
CREATE TABLE hll_numbers AS SELECT i FROM generate_series(1, 20000) i;
ALTER TABLE hll_numbers SET (parallel_workers = 2);
ANALYZE hll_numbers;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
EXPLAIN (COSTS OFF) SELECT hll_add_agg(hll_hash_integer(i)) FROM hll_numbers;
SELECT hll_log2m(s), hll_regwidth(s), round((# s)::numeric, 3) FROM (SELECT hll_add_agg(hll_hash_integer(i)) FROM hll_numbers) t(s);
SELECT hll_set_defaults(11, 5, -1, 1);
SELECT hll_add_agg(hll_hash_integer(i)) AS parallel FROM hll_numbers \gset
SELECT hll_union_agg(v) AS parallel_union FROM (SELECT hll_empty() || hll_hash_integer(i) AS v FROM hll_numbers) t \gset
SET max_parallel_workers_per_gather = 0;
SELECT hll_add_agg(hll_hash_integer(i)) = :'parallel'::hll AS add_same,
    hll_union_agg(hll_empty() || hll_hash_integer(i)) = :'parallel_union'::hll AS union_same FROM hll_numbers;
-- hashed groups
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT i % 10000, hll_add_agg(hll_hash_integer(i)) FROM hll_numbers GROUP BY 1;
SELECT count(*), sum(# s) FROM (SELECT hll_add_agg(hll_hash_integer(i)) AS s FROM hll_numbers GROUP BY i % 10000) t;
SET hll.force_groupagg = on;
RESET enable_sort;
EXPLAIN (COSTS OFF) SELECT i % 10000, hll_add_agg(hll_hash_integer(i)) FROM hll_numbers GROUP BY 1;
EXPLAIN (COSTS OFF) SELECT i % 10000, count(*) FROM hll_numbers GROUP BY 1;
DROP TABLE hll_numbers;
-- made anew in the same session, the aggregates are known again
DROP EXTENSION hll CASCADE;
CREATE EXTENSION hll;
EXPLAIN (COSTS OFF) SELECT i % 10000, hll_add_agg(hll_hash_integer(i)) FROM generate_series(1, 100) i GROUP BY 1;
RESET hll.force_groupagg;
EXPLAIN (COSTS OFF) SELECT i % 10000, hll_add_agg(hll_hash_integer(i)) FROM generate_series(1, 100) i GROUP BY 1;
