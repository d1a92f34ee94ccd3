-- JSONB counters

CREATE FUNCTION jsonb_counter_merge(jsonb, jsonb) RETURNS jsonb
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_merge';
COMMENT ON FUNCTION jsonb_counter_merge(jsonb, jsonb) IS
    'key-wise exact sum of two counters; NULL is the counter of nothing';

CREATE FUNCTION jsonb_counter_agg_trans(internal, text) RETURNS internal
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans';
COMMENT ON FUNCTION jsonb_counter_agg_trans(internal, text) IS 'transition of jsonb_counter_agg(text)';

CREATE FUNCTION jsonb_counter_agg_trans(internal, text, bigint) RETURNS internal
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_agg_trans_n';
COMMENT ON FUNCTION jsonb_counter_agg_trans(internal, text, bigint) IS
    'transition of jsonb_counter_agg(text, bigint)';

CREATE FUNCTION jsonb_counter_merge_agg_trans(internal, jsonb) RETURNS internal
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_merge_agg_trans';
COMMENT ON FUNCTION jsonb_counter_merge_agg_trans(internal, jsonb) IS
    'transition of jsonb_counter_merge_agg(jsonb)';

CREATE FUNCTION jsonb_counter_combine(internal, internal) RETURNS internal
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_combine';
COMMENT ON FUNCTION jsonb_counter_combine(internal, internal) IS 'adds two states of a counter aggregate';

CREATE FUNCTION jsonb_counter_serialize(internal) RETURNS bytea
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_serialize';
COMMENT ON FUNCTION jsonb_counter_serialize(internal) IS 'state of a counter aggregate as bytes';

CREATE FUNCTION jsonb_counter_deserialize(bytea, internal) RETURNS internal
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_deserialize';
COMMENT ON FUNCTION jsonb_counter_deserialize(bytea, internal) IS 'bytes as state of a counter aggregate';

CREATE FUNCTION jsonb_counter_final(internal) RETURNS jsonb
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'jsonb_counter_final';
COMMENT ON FUNCTION jsonb_counter_final(internal) IS 'result of a counter aggregate';

-- SSPACE: a map of a dozen short keys, header and blocks included.
CREATE AGGREGATE jsonb_counter_agg(text) (
    SFUNC = jsonb_counter_agg_trans, STYPE = internal, SSPACE = 1536,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine,
    SERIALFUNC = jsonb_counter_serialize, DESERIALFUNC = jsonb_counter_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text) IS
    'counts rows by key: {"key": rows}; rows whose key is NULL are skipped';

CREATE AGGREGATE jsonb_counter_agg(text, bigint) (
    SFUNC = jsonb_counter_agg_trans, STYPE = internal, SSPACE = 1536,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine,
    SERIALFUNC = jsonb_counter_serialize, DESERIALFUNC = jsonb_counter_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_agg(text, bigint) IS
    'exact sum by key: {"key": sum}; rows whose key or number is NULL are skipped';

CREATE AGGREGATE jsonb_counter_merge_agg(jsonb) (
    SFUNC = jsonb_counter_merge_agg_trans, STYPE = internal, SSPACE = 1536,
    FINALFUNC = jsonb_counter_final, COMBINEFUNC = jsonb_counter_combine,
    SERIALFUNC = jsonb_counter_serialize, DESERIALFUNC = jsonb_counter_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE jsonb_counter_merge_agg(jsonb) IS 'key-wise exact sum of counters; NULL counters are skipped';

