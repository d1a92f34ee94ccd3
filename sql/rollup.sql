-- rollups: catalog

CREATE SCHEMA rollup;
COMMENT ON SCHEMA rollup IS 'Exact, continuous rollups: rollup.create defines one, rollup.status shows how they fare';
GRANT USAGE ON SCHEMA rollup TO PUBLIC;

CREATE FUNCTION rollup.stamp() RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_stamp' LANGUAGE c STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.stamp() IS 'Id of the inserting top-level transaction (64 bits): the default of column rollup_stamp of every rolled-up table. Takes no argument, never NULL';

CREATE TABLE rollup.source (
  relation    regclass PRIMARY KEY,
  time_column name     NOT NULL,
  owner       name     NOT NULL
);
COMMENT ON TABLE rollup.source IS 'Tables that are rolled up. Its row is the lock between expiry (share) and rollup.create (update)';

CREATE TABLE rollup.definition (
  id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name        text NOT NULL UNIQUE,
  relation    regclass NOT NULL UNIQUE,
  source      regclass NOT NULL REFERENCES rollup.source,
  owner       name NOT NULL,
  query       text NOT NULL,
  plan        jsonb NOT NULL,
  timezone    text NOT NULL,
  every       interval,
  state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused')),
  system_id   bigint NOT NULL,
  seen_xmax   bigint NOT NULL DEFAULT 0,
  seen_xip    bigint[] NOT NULL DEFAULT '{}',
  rows_total  bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE rollup.definition IS 'One row a rollup: its SELECT, the plan made of it, and the snapshot up to which rows are rolled up. The row is locked by a run, and changes in the transaction that merges the rows';
COMMENT ON COLUMN rollup.definition.seen_xmax IS 'transactions at or above had not finished at the last run';
COMMENT ON COLUMN rollup.definition.seen_xip IS 'transactions below seen_xmax that had not finished at the last run';
COMMENT ON COLUMN rollup.definition.system_id IS 'system identifier of the cluster in whose transaction ids seen_xmax counts';

CREATE TABLE rollup.attempt (
  id          bigint PRIMARY KEY REFERENCES rollup.definition ON DELETE CASCADE,
  last_run    timestamptz,
  last_rows   bigint,
  failures    int NOT NULL DEFAULT 0,
  last_error  text
) WITH (fillfactor = 50);
COMMENT ON TABLE rollup.attempt IS 'Last attempt of each rollup by the worker; kept apart so that a failure can be written when the run is rolled back';

CREATE TABLE rollup.run (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  definition  bigint NOT NULL REFERENCES rollup.definition ON DELETE CASCADE,
  started     timestamptz NOT NULL,
  finished    timestamptz NOT NULL,
  rows_in     bigint NOT NULL,
  groups      bigint NOT NULL
);
CREATE INDEX ON rollup.run (definition, id);
COMMENT ON TABLE rollup.run IS 'Runs that merged rows: the newest 1,000 of each rollup; an idle tick leaves no row';

CREATE TABLE rollup.retention (
  relation    regclass PRIMARY KEY,
  time_column name NOT NULL,
  keep        interval NOT NULL CHECK (keep > interval '0'),
  owner       name NOT NULL,
  removed     bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE rollup.retention IS 'Tables whose old rows expire, by rollup.retain';

SELECT pg_catalog.pg_extension_config_dump('rollup.source', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.definition', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.definition_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.attempt', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.retention', '');

-- The catalog is written by the functions alone; a live view reads the snapshot as whoever reads the view,
-- and transaction ids tell nothing. Query texts are shown to the rollup's owner only.
GRANT SELECT (id, name, relation, source, owner, timezone, every, state, system_id, seen_xmax, seen_xip, rows_total)
  ON rollup.definition TO PUBLIC;
GRANT SELECT ON rollup.source, rollup.attempt, rollup.run, rollup.retention TO PUBLIC;

-- rollups: functions

CREATE FUNCTION rollup.create(name text, query text, every interval DEFAULT '10 seconds', timezone text DEFAULT 'UTC')
RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_create_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.create(text, text, interval, text) IS
'Defines a rollup: makes table NAME from the SELECT (group keys and mergeable aggregates of one table), view NAME_live, and functions rollup_SOURCE() and expire_SOURCE(); returns its id. The worker runs it EVERY interval (NULL: only when called). TIMEZONE is set for each run. Needs ownership of the source. Errors name what cannot be merged and what to write instead';

CREATE FUNCTION rollup.run(source regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_run_source_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.run(regclass) IS
'Rolls up what has been committed since the last run, for every active rollup of the table; returns the raw rows merged (of the rollup that merged most). NULL gives NULL';

CREATE FUNCTION rollup.run_due() RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_run_due_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.run_due() IS
'Runs every active rollup of the caller that is due, for any scheduler; returns the raw rows merged';

CREATE FUNCTION rollup.retain(relation regclass, keep interval) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_retain_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.retain(regclass, interval) IS
'Rows of a rolled-up table or of a rollup older than KEEP expire; a raw row never before every rollup of its table has counted it. KEEP NULL: keep everything';

CREATE FUNCTION rollup.expire(relation regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_expire_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.expire(regclass) IS
'Removes now what rollup.retain lets go of; returns the rows removed. NULL gives NULL';

CREATE FUNCTION rollup.pause(name text) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_pause_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.pause(text) IS 'Stops runs of a rollup until rollup.resume; expiry of its source waits. NULL does nothing';

CREATE FUNCTION rollup.resume(name text) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_resume_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.resume(text) IS 'Lets a paused rollup run again, from where it stopped. NULL does nothing';

CREATE FUNCTION rollup.drop(name text, keep_data boolean DEFAULT false) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_drop_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.drop(text, boolean) IS
'Removes a rollup with its view; its table too, unless KEEP_DATA. Column rollup_stamp stays on the source. NULL does nothing';

CREATE FUNCTION rollup.explain(name text) RETURNS text
AS 'MODULE_PATHNAME', 'rollup_explain_wrapper' LANGUAGE c STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.explain(text) IS 'The statement that the next run of a rollup would execute. NULL gives NULL';

CREATE FUNCTION rollup.lag_rows(id bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_lag_rows_wrapper' LANGUAGE c STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.lag_rows(bigint) IS
'Raw rows, as this snapshot sees them, that the rollup with this id has not merged; NULL where the caller may not read the table';

-- rollups: views

CREATE VIEW rollup.status AS
SELECT d.name, d.source, d.owner,
       CASE WHEN a.failures > 0 AND d.state = 'active' THEN 'failing' ELSE d.state END AS state,
       d.every, a.last_run, a.last_run + d.every AS next_run, d.rows_total, a.last_rows,
       rollup.lag_rows(d.id) AS lag_rows, a.failures, a.last_error,
       CASE WHEN t.relation IS NOT NULL THEN
         (SELECT pg_catalog.string_agg(h.name, ', ' ORDER BY h.name)
            FROM rollup.definition h LEFT JOIN rollup.attempt ha ON ha.id OPERATOR(pg_catalog.=) h.id
           WHERE h.source OPERATOR(pg_catalog.=) d.source AND (h.state OPERATOR(pg_catalog.=) 'paused' OR ha.failures OPERATOR(pg_catalog.>) 0))
       END AS expiry_held_by
  FROM rollup.definition d
  LEFT JOIN rollup.attempt a ON a.id OPERATOR(pg_catalog.=) d.id
  LEFT JOIN rollup.retention t ON t.relation OPERATOR(pg_catalog.=) d.source;
COMMENT ON VIEW rollup.status IS 'One row a rollup: is it up to date, what did its last run do, what holds it or the expiry of its source back';
GRANT SELECT ON rollup.status TO PUBLIC;

CREATE VIEW rollup.history AS
SELECT d.name, r.started, r.finished, r.finished - r.started AS duration, r.rows_in, r.groups
  FROM rollup.run r JOIN rollup.definition d ON d.id OPERATOR(pg_catalog.=) r.definition;
COMMENT ON VIEW rollup.history IS 'Runs that merged rows, the newest 1,000 of each rollup';
GRANT SELECT ON rollup.history TO PUBLIC;
