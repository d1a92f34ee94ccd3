-- JSONB counters: objects whose values are numbers or further counters, such as {"de": 12, "fr": 3}

CREATE FUNCTION jsonb_counter_merge(jsonb, jsonb) RETURNS jsonb
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_merge';
COMMENT ON FUNCTION jsonb_counter_merge(jsonb, jsonb) IS
    'exact sum of two counters key by key, objects inside merged likewise, 32 levels at most; bounded counters, of which one may be of a smaller bound, are cut to that; a NULL argument is the empty counter, two NULLs make NULL; what is not a number or an object is an error, SQLSTATE 22023, that names the key';

-- Not ||, which is jsonb's own and keeps the last number of a key instead of adding.
CREATE OPERATOR + (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = jsonb_counter_merge, COMMUTATOR = +);
COMMENT ON OPERATOR + (jsonb, jsonb) IS 'jsonb_counter_merge: exact sum of two counters; NULL is the empty counter';

CREATE FUNCTION jsonb_counter_total(jsonb) RETURNS numeric
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_total';
COMMENT ON FUNCTION jsonb_counter_total(jsonb) IS
    'exact sum of all numbers in a counter, those of inner objects and of "*" included; 0 for {}, NULL for NULL; what is not a counter is an error, SQLSTATE 22023, that names the key';

CREATE FUNCTION jsonb_counter_limit(jsonb, k integer) RETURNS jsonb
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_limit';
COMMENT ON FUNCTION jsonb_counter_limit(jsonb, integer) IS
    'the k largest keys of a counter, of equals the first in jsonb''s order, and the sum of the rest under "*", which is added to and never among the k; an object counts with its total and joins "*" as an object; a NULL counter gives NULL, a NULL k the counter as it is; k below 0, or a value that is no counter, is an error, SQLSTATE 22023';

CREATE FUNCTION jsonb_counter_top(jsonb, k integer, OUT key text, OUT n numeric, OUT at_most numeric) RETURNS SETOF record
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE ROWS 10
    AS 'MODULE_PATHNAME', 'jsonb_counter_top';
COMMENT ON FUNCTION jsonb_counter_top(jsonb, integer) IS
    'the k largest keys of a counter with their numbers, largest first, equals in jsonb''s order, and what each has at most: of a bounded counter the number and what may have been taken from it, of any other the number and all that is under "*"; an object counts with its total; "*", the rest of a limited counter, is no key and left out; no rows for a NULL counter, all keys for a NULL k; k below 0, or a value that is no counter, is an error, SQLSTATE 22023';

-- The state of the aggregates. A plain type, because Citus splits an aggregate between workers and coordinator only then;
-- in a running aggregate it is an expanded object, so that no row reads or writes the compact form.
CREATE TYPE jsonb_counter_state;

CREATE FUNCTION jsonb_counter_state_in(cstring) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_state_in';
COMMENT ON FUNCTION jsonb_counter_state_in(cstring) IS
    'state of a counter aggregate from its text, bytes as bytea writes them; SQLSTATE 22P03 where they are no such state; NULL gives NULL';

CREATE FUNCTION jsonb_counter_state_out(jsonb_counter_state) RETURNS cstring
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_state_out';
COMMENT ON FUNCTION jsonb_counter_state_out(jsonb_counter_state) IS
    'state of a counter aggregate as text, bytes as bytea writes them; NULL gives NULL';

CREATE FUNCTION jsonb_counter_state_recv(internal) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_state_recv';
COMMENT ON FUNCTION jsonb_counter_state_recv(internal) IS
    'state of a counter aggregate from a binary message; SQLSTATE 22P03 where it is no such state';

CREATE FUNCTION jsonb_counter_state_send(jsonb_counter_state) RETURNS bytea
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_state_send';
COMMENT ON FUNCTION jsonb_counter_state_send(jsonb_counter_state) IS
    'state of a counter aggregate as bytes, the same on every machine; NULL gives NULL';

CREATE TYPE jsonb_counter_state (
    INPUT = jsonb_counter_state_in, OUTPUT = jsonb_counter_state_out,
    RECEIVE = jsonb_counter_state_recv, SEND = jsonb_counter_state_send,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended
);
COMMENT ON TYPE jsonb_counter_state IS
    'state of the counter aggregates, as parallel workers and Citus nodes exchange it; of no other use';

CREATE FUNCTION jsonb_counter_combine(jsonb_counter_state, jsonb_counter_state) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_combine';
COMMENT ON FUNCTION jsonb_counter_combine(jsonb_counter_state, jsonb_counter_state) IS
    'adds the second state of a counter aggregate to the first; NULL is the state of no rows; an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_final(jsonb_counter_state) RETURNS jsonb
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_final';
COMMENT ON FUNCTION jsonb_counter_final(jsonb_counter_state) IS
    'the counter that a state holds, cut to its max_keys; NULL for the state of no rows';

-- integer has its own: PostgreSQL would prefer double precision for it, as it does for smallint, which that holds exactly.

CREATE FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans';
COMMENT ON FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text) IS
    'transition of jsonb_counter_agg(text); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, integer) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans_int4';
COMMENT ON FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, integer) IS
    'transition of jsonb_counter_agg(text, integer); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, bigint) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans_int8';
COMMENT ON FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, bigint) IS
    'transition of jsonb_counter_agg(text, bigint); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, numeric) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans_numeric';
COMMENT ON FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, numeric) IS
    'transition of jsonb_counter_agg(text, numeric); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, double precision) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans_float8';
COMMENT ON FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, double precision) IS
    'transition of jsonb_counter_agg(text, double precision); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, integer, integer) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans_int4';
COMMENT ON FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, integer, integer) IS
    'transition of jsonb_counter_agg(text, integer, integer); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, bigint, integer) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans_int8';
COMMENT ON FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, bigint, integer) IS
    'transition of jsonb_counter_agg(text, bigint, integer); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, numeric, integer) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans_numeric';
COMMENT ON FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, numeric, integer) IS
    'transition of jsonb_counter_agg(text, numeric, integer); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, double precision, integer) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans_float8';
COMMENT ON FUNCTION jsonb_counter_agg_trans(jsonb_counter_state, text, double precision, integer) IS
    'transition of jsonb_counter_agg(text, double precision, integer); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_merge_agg_trans(jsonb_counter_state, jsonb) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_merge_agg_trans';
COMMENT ON FUNCTION jsonb_counter_merge_agg_trans(jsonb_counter_state, jsonb) IS
    'transition of jsonb_counter_merge_agg(jsonb); an error outside of an aggregate';

CREATE FUNCTION jsonb_counter_merge_agg_trans(jsonb_counter_state, jsonb, integer) RETURNS jsonb_counter_state
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_merge_agg_trans';
COMMENT ON FUNCTION jsonb_counter_merge_agg_trans(jsonb_counter_state, jsonb, integer) IS
    'transition of jsonb_counter_merge_agg(jsonb, integer); an error outside of an aggregate';

-- SSPACE: a map of a few dozen short keys, header and blocks included.

CREATE AGGREGATE jsonb_counter_agg(text) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text) IS
    'counts rows by key: {"key": rows}; rows whose key is NULL are skipped, as count(key) skips them: write coalesce(key, ''unknown'') to count those too; NULL where no row counts';

CREATE AGGREGATE jsonb_counter_agg(text, integer) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text, integer) IS
    'exact sum by key: {"key": sum}; rows whose key or number is NULL are skipped; NULL where no row counts';

CREATE AGGREGATE jsonb_counter_agg(text, bigint) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text, bigint) IS
    'exact sum by key: {"key": sum}; rows whose key or number is NULL are skipped; NULL where no row counts';

CREATE AGGREGATE jsonb_counter_agg(text, numeric) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text, numeric) IS
    'exact sum by key: {"key": sum}, with as many decimals as numeric shows; rows whose key or number is NULL are skipped; NULL where no row counts; NaN and infinities are an error, SQLSTATE 22023, that names the key';

CREATE AGGREGATE jsonb_counter_agg(text, double precision) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text, double precision) IS
    'exact sum by key: {"key": sum}, whole numbers below 2^63 taken exactly, any other as the shortest decimal that reads back as it (0.1 is 0.1), so that the sum depends on no order; rows whose key or number is NULL are skipped; NULL where no row counts; NaN and infinities are an error, SQLSTATE 22023, that names the key';

CREATE AGGREGATE jsonb_counter_agg(text, integer, max_keys integer) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text, integer, max_keys integer) IS
    'exact sum by key: {"key": sum}; rows whose key or number is NULL are skipped; NULL where no row counts; max_keys bounds the keys while counting and in the result: the largest stay, the rest is added under "*"; exact up to 4 * max_keys + 64 different keys, past that a key is too low by at most the sum of all numbers divided by 2 * max_keys + 33, and the total stays exact; NULL is no bound; numbers below 0, max_keys below 0, or two values in one group, are an error, SQLSTATE 22023';

CREATE AGGREGATE jsonb_counter_agg(text, bigint, max_keys integer) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text, bigint, max_keys integer) IS
    'exact sum by key: {"key": sum}; rows whose key or number is NULL are skipped; NULL where no row counts; max_keys bounds the keys while counting and in the result: the largest stay, the rest is added under "*"; exact up to 4 * max_keys + 64 different keys, past that a key is too low by at most the sum of all numbers divided by 2 * max_keys + 33, and the total stays exact; NULL is no bound; numbers below 0, max_keys below 0, or two values in one group, are an error, SQLSTATE 22023';

CREATE AGGREGATE jsonb_counter_agg(text, numeric, max_keys integer) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text, numeric, max_keys integer) IS
    'exact sum by key: {"key": sum}, with as many decimals as numeric shows; rows whose key or number is NULL are skipped; NULL where no row counts; NaN and infinities are an error, SQLSTATE 22023, that names the key; max_keys bounds the keys while counting and in the result: the largest stay, the rest is added under "*"; exact up to 4 * max_keys + 64 different keys, past that a key is too low by at most the sum of all numbers divided by 2 * max_keys + 33, and the total stays exact; NULL is no bound; numbers below 0, max_keys below 0, or two values in one group, are an error, SQLSTATE 22023';

CREATE AGGREGATE jsonb_counter_agg(text, double precision, max_keys integer) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text, double precision, max_keys integer) IS
    'exact sum by key: {"key": sum}, whole numbers below 2^63 taken exactly, any other as the shortest decimal that reads back as it (0.1 is 0.1), so that the sum depends on no order; rows whose key or number is NULL are skipped; NULL where no row counts; NaN and infinities are an error, SQLSTATE 22023, that names the key; max_keys bounds the keys while counting and in the result: the largest stay, the rest is added under "*"; exact up to 4 * max_keys + 64 different keys, past that a key is too low by at most the sum of all numbers divided by 2 * max_keys + 33, and the total stays exact; NULL is no bound; numbers below 0, max_keys below 0, or two values in one group, are an error, SQLSTATE 22023';

CREATE AGGREGATE jsonb_counter_merge_agg(jsonb) (
    SFUNC = jsonb_counter_merge_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_merge_agg(jsonb) IS
    'exact sum of counters key by key, objects inside merged likewise, 32 levels at most; bounded counters give one of the smallest of their bounds; NULL counters are skipped, NULL where there is no other; what is not a number or an object is an error, SQLSTATE 22023, that names the key';

CREATE AGGREGATE jsonb_counter_merge_agg(jsonb, max_keys integer) (
    SFUNC = jsonb_counter_merge_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_merge_agg(jsonb, max_keys integer) IS
    'exact sum of counters of numbers key by key; NULL counters are skipped, NULL where there is no other; what is not a number is an error, SQLSTATE 22023, that names the key; what the counters hold under "*" stays there; max_keys bounds the keys while counting and in the result: the largest stay, the rest is added under "*"; exact up to 4 * max_keys + 64 different keys, past that a key is too low by at most the sum of all numbers divided by 2 * max_keys + 33, and the total stays exact; NULL is no bound; numbers below 0, max_keys below 0, or two values in one group, are an error, SQLSTATE 22023';

-- Bounded where they are stored: what a rollup keeps of jsonb_counter_agg(key, n, max_keys).

CREATE FUNCTION jsonb_counter_bounded_final(jsonb_counter_state) RETURNS jsonb
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_bounded_final';
COMMENT ON FUNCTION jsonb_counter_bounded_final(jsonb_counter_state) IS
    'the bounded counter that a state holds; NULL for the state of no rows';

CREATE AGGREGATE jsonb_counter_bounded_agg(text, integer, max_keys integer) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_bounded_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_bounded_agg(text, integer, max_keys integer) IS
    'sum by key, of the max_keys largest: what a rollup keeps of jsonb_counter_agg(key, n, max_keys); such counters merge with each other, in any order, into one of max_keys keys; under "*" they have [taken, max_keys]: no key is too low by more than taken divided by max_keys + 1, and the total is exact; NULL is no bound; numbers below 0, max_keys below 0, or two values in one group, are an error, SQLSTATE 22023';

CREATE AGGREGATE jsonb_counter_bounded_agg(text, bigint, max_keys integer) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_bounded_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_bounded_agg(text, bigint, max_keys integer) IS
    'sum by key, of the max_keys largest: what a rollup keeps of jsonb_counter_agg(key, n, max_keys); such counters merge with each other, in any order, into one of max_keys keys; under "*" they have [taken, max_keys]: no key is too low by more than taken divided by max_keys + 1, and the total is exact; NULL is no bound; numbers below 0, max_keys below 0, or two values in one group, are an error, SQLSTATE 22023';

CREATE AGGREGATE jsonb_counter_bounded_agg(text, numeric, max_keys integer) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_bounded_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_bounded_agg(text, numeric, max_keys integer) IS
    'sum by key, of the max_keys largest: what a rollup keeps of jsonb_counter_agg(key, n, max_keys); such counters merge with each other, in any order, into one of max_keys keys; under "*" they have [taken, max_keys]: no key is too low by more than taken divided by max_keys + 1, and the total is exact; NULL is no bound; numbers below 0, max_keys below 0, or two values in one group, are an error, SQLSTATE 22023';

CREATE AGGREGATE jsonb_counter_bounded_agg(text, double precision, max_keys integer) (
    SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state, SSPACE = 3072,
    FINALFUNC = jsonb_counter_bounded_final, COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_bounded_agg(text, double precision, max_keys integer) IS
    'sum by key, of the max_keys largest: what a rollup keeps of jsonb_counter_agg(key, n, max_keys); such counters merge with each other, in any order, into one of max_keys keys; under "*" they have [taken, max_keys]: no key is too low by more than taken divided by max_keys + 1, and the total is exact; NULL is no bound; numbers below 0, max_keys below 0, or two values in one group, are an error, SQLSTATE 22023';
