-- rollups: catalog

-- From here to the end of the script every name of ours is written with its schema, and every other one is PostgreSQL's:
-- an operator or function that somebody has put into the schema of the extension is not found, neither by what runs now
-- nor by the bodies and views that are bound here, whatever types it takes. What is made without a schema fails.
-- The command that runs the script puts the path back. What lies before makes objects in the extension's schema, with
-- names and argument types that are exact, and evaluates nothing that is not qualified.
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE SCHEMA rollup;
COMMENT ON SCHEMA rollup IS 'Exact, continuous rollups: rollup.create defines one, rollup.status shows the status of each';
GRANT USAGE ON SCHEMA rollup TO PUBLIC;

-- What users call is in rollup. What triggers, views and the extension itself call is here, and may change with any release.
-- A role that restores its tables needs their triggers, defaults and views: hence the right to use it.
CREATE SCHEMA rollup_internal;
COMMENT ON SCHEMA rollup_internal IS 'Functions that the extension itself calls. Nothing here is meant to be called by hand';
GRANT USAGE ON SCHEMA rollup_internal TO PUBLIC;

CREATE FUNCTION rollup.stamp() RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_stamp' LANGUAGE c STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.stamp() IS 'Id of the inserting top-level transaction: the default of column rollup_stamp of every rolled-up table. On a Citus cluster, plus the group of the node times 2^48, plus 2^47 where Citus itself opened the connection. Takes no argument, never NULL';

CREATE FUNCTION rollup_internal.flush_log() RETURNS boolean
AS 'MODULE_PATHNAME', 'rollup_flush_log' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION rollup_internal.flush_log() FROM PUBLIC;
COMMENT ON FUNCTION rollup_internal.flush_log() IS 'Makes what this node has logged so far safe against a crash, and returns true: runs on a Citus cluster call it on every node. For superusers';

-- No table that is dumped refers to another by a foreign key: pg_restore -j loads them side by side, in no order. Who
-- removes a rollup removes what is kept of it in each.

CREATE TABLE rollup.source (
  relation    regclass PRIMARY KEY,
  time_column name     NOT NULL,
  stamp_offset bigint  NOT NULL DEFAULT 0,
  called      text[]   NOT NULL DEFAULT '{}'
);
-- Asked with each table that is made.
CREATE INDEX ON rollup.source (relation) WHERE called <> '{}';
COMMENT ON COLUMN rollup.source.called IS 'what it was called before, with its schema: who gives one of these names to another table is told that rollups do not follow it';
COMMENT ON COLUMN rollup.source.stamp_offset IS 'what is added to transaction ids to give stamps: more than any stamp that came with a restored table';
COMMENT ON TABLE rollup.source IS 'Tables that are rolled up. Its row is the lock between expiry (share) and rollup.create (update)';

CREATE TABLE rollup.definition (
  id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name        text NOT NULL UNIQUE,
  relation    regclass UNIQUE,
  source      regclass,
  query       text NOT NULL,
  plan        jsonb NOT NULL,
  timezone    text NOT NULL,
  every       interval CHECK (every > interval '0'),
  on_change   text NOT NULL DEFAULT 'ignore' CHECK (on_change IN ('ignore', 'error', 'recompute')),
  state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused')),
  adopted     boolean NOT NULL DEFAULT false,
  system_id   bigint NOT NULL,
  seen_xmax   bigint NOT NULL DEFAULT 0,
  seen_xip    bigint[] NOT NULL DEFAULT '{}',
  rows_total  bigint NOT NULL DEFAULT 0,
  backlog_from_xmax bigint,
  backlog_from_xip  bigint[],
  backlog_to_xmax   bigint,
  backlog_to_xip    bigint[],
  backlog_cursor    timestamptz,
  backlog_cuts      timestamptz[],
  backlog_rows      bigint,
  backlog_done      bigint,
  backlog_started   timestamptz,
  refused_changes   tstzmultirange,
  joined      regclass[],
  live              regclass,
  shape             jsonb,
  long_keys         bigint NOT NULL DEFAULT 0,
  nodes             jsonb,
  left_out    bigint NOT NULL DEFAULT 0,
  last_owner  oid,
  generation  bigint NOT NULL DEFAULT 0,
  whole       boolean NOT NULL DEFAULT false,
  partial     text[] NOT NULL DEFAULT '{}',
  notify      boolean NOT NULL DEFAULT false,
  routines    jsonb,
  own         jsonb,
  shown       regclass
) WITH (fillfactor = 50);
COMMENT ON COLUMN rollup.definition.relation IS 'NULL: it was dropped by hand, as SOURCE may have been; the rollup does nothing until rollup.drop';
COMMENT ON COLUMN rollup.definition.last_owner IS 'who owned its table, or its source, when that was dropped: a role of the cluster of SYSTEM_ID';
CREATE INDEX ON rollup.definition (source);
COMMENT ON COLUMN rollup.definition.on_change IS 'what it does when raw rows change: ignore, error, or recompute their buckets';
COMMENT ON COLUMN rollup.definition.live IS 'its live view, as that of a level is in rollup.level; NULL: none yet';
COMMENT ON COLUMN rollup.definition.shape IS 'what the live view computes, in the names that held when it was made or names were last followed';
COMMENT ON COLUMN rollup.definition.long_keys IS 'raw rows that are left out: a group key of theirs is too long for the index';
COMMENT ON COLUMN rollup.definition.adopted IS 'its table was there before, by rollup.create(into_table), and stays when the rollup is dropped';
COMMENT ON COLUMN rollup.definition.refused_changes IS 'times of rows that changed when their bucket could not be computed again';
COMMENT ON COLUMN rollup.definition.left_out IS 'rows that came in another way, with stamps of rows that are rolled up, of which it cannot be told whether they were counted: they were not counted again';
COMMENT ON COLUMN rollup.definition.generation IS 'counts changes of what it is, by which a statement that is answered from it knows whether it is what it was when the statement was planned';
COMMENT ON COLUMN rollup.definition.whole IS 'every raw row that is there was counted, and every change of one followed, as far as raw rows have not expired';
COMMENT ON COLUMN rollup.definition.routines IS 'functions and types outside pg_catalog that it called when it was made, with their owners: others are called only where a superuser or its owner owns them';
COMMENT ON COLUMN rollup.definition.own IS 'which columns of its table are its own, whatever they are called, as in rollup.level';
COMMENT ON COLUMN rollup.definition.shown IS 'where lookup tables are followed, the view that joins them to its table, as that of a level is in rollup.level; NULL: users read its table';
COMMENT ON COLUMN rollup.definition.partial IS 'columns that were added without backfill';
COMMENT ON COLUMN rollup.definition.notify IS 'it sends a notification when it has changed';
COMMENT ON COLUMN rollup.definition.joined IS 'the tables of its FROM clause, which the plan numbers; NULL: the source alone';
COMMENT ON COLUMN rollup.definition.nodes IS 'on a Citus cluster how far rows are rolled up, by group of nodes, in the place of seen_xmax and seen_xip; NULL: the source is a table of this node alone';
COMMENT ON COLUMN rollup.definition.backlog_to_xmax IS 'with backlog_from_xmax and both xip: rows of transactions between two snapshots, too many for one transaction, that are merged piece by piece, newest first; on a Citus cluster 0, the snapshots are in nodes; NULL: none';
COMMENT ON COLUMN rollup.definition.backlog_cursor IS 'rows of the backlog at this time or later are merged; NULL: none yet';
COMMENT ON COLUMN rollup.definition.backlog_cuts IS 'where the next pieces begin';
COMMENT ON TABLE rollup.definition IS 'One row a rollup: its SELECT, the plan made of it, and the snapshot up to which rows are rolled up. The row is locked by a run, and changes in the transaction that merges the rows';
COMMENT ON COLUMN rollup.definition.seen_xmax IS 'transactions at or above had not finished at the last run';
COMMENT ON COLUMN rollup.definition.seen_xip IS 'transactions below seen_xmax that had not finished at the last run';
COMMENT ON COLUMN rollup.definition.system_id IS 'system identifier of the cluster in whose transaction ids seen_xmax counts';

CREATE TABLE rollup.level (
  definition  bigint NOT NULL,
  name        text NOT NULL,
  relation    regclass NOT NULL UNIQUE,
  width       interval NOT NULL,
  bucket      jsonb NOT NULL,
  expression  text NOT NULL,
  live        regclass,
  keys        text[],
  own         jsonb,
  shown       regclass,
  PRIMARY KEY (definition, name)
);
COMMENT ON TABLE rollup.level IS 'Coarser levels of rollups, by rollup.create(coarser) and rollup.add_level: the same columns in longer buckets, or without some of the keys';
COMMENT ON COLUMN rollup.level.keys IS 'the group keys that the level has besides the time; NULL: all of the rollup''s';
COMMENT ON COLUMN rollup.level.live IS 'the live view of the level';
COMMENT ON COLUMN rollup.level.expression IS 'bucket of a time key, $1, of the rollup';

-- Names and not regprocedure: pg_upgrade refuses tables with that type.
CREATE TABLE rollup.merge_rule (
  aggregate   text PRIMARY KEY,
  labels      text[] NOT NULL,
  combine     text,
  unite       text,
  companion   text,
  never_null  boolean NOT NULL DEFAULT false,
  parts       text[],
  result      text,
  added_by    name,
  routines    jsonb,
  CHECK ((parts IS NULL) = (result IS NULL) AND (combine IS NULL) = (unite IS NULL) AND (parts IS NULL) = (combine IS NOT NULL)),
  CHECK (cardinality(labels) = coalesce(cardinality(parts), 1))
);
COMMENT ON TABLE rollup.merge_rule IS 'How values of an aggregate merge: of two, COMBINE($1, $2); of many, UNITE($1). Or of which PARTS, calls over the same arguments, its RESULT is made. rollup.add_merge_rule adds one';
COMMENT ON COLUMN rollup.merge_rule.aggregate IS 'name and argument types, as regprocedure writes them where pg_catalog alone is in search_path';
COMMENT ON COLUMN rollup.merge_rule.labels IS 'what its column, or that of each part, is called behind the name of what it is over';
COMMENT ON COLUMN rollup.merge_rule.companion IS 'a call over the same arguments whose value says which of two values stays: $3 and $4 in COMBINE, $2 in UNITE';
COMMENT ON COLUMN rollup.merge_rule.added_by IS 'NULL: a rule of the extension';
COMMENT ON COLUMN rollup.merge_rule.routines IS 'the functions that an added rule names, with their owners: the rule is not used where others have their names';

CREATE TABLE rollup.attempt (
  id          bigint PRIMARY KEY,
  last_run    timestamptz,
  last_rows   bigint,
  failures    int NOT NULL DEFAULT 0,
  last_error  text,
  started     timestamptz,
  hold_until  timestamptz,
  paused_for  text,
  runs        bigint NOT NULL DEFAULT 0,
  failed      bigint NOT NULL DEFAULT 0,
  updated_at  timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE rollup.attempt IS 'Last attempt of each rollup by the worker; kept apart so that a failure can be written when the run is rolled back';
COMMENT ON COLUMN rollup.attempt.updated_at IS 'when a run, or rollup.rebuild, last changed its rows';
COMMENT ON COLUMN rollup.attempt.failures IS 'in a row; FAILED counts all';
COMMENT ON COLUMN rollup.attempt.started IS 'a run of the worker is on, or was cut off';
COMMENT ON COLUMN rollup.attempt.hold_until IS 'a rollup that failed rests until then';
COMMENT ON COLUMN rollup.attempt.paused_for IS 'why the worker paused it; NULL: by rollup.pause';

CREATE UNLOGGED TABLE rollup.uptime (since timestamptz NOT NULL);
COMMENT ON TABLE rollup.uptime IS 'One row, that a crash of the server removes: so the worker knows which runs were cut off by one';

CREATE TABLE rollup.run (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  definition  bigint NOT NULL REFERENCES rollup.definition ON DELETE CASCADE,
  started     timestamptz NOT NULL,
  finished    timestamptz NOT NULL,
  rows_in     bigint NOT NULL,
  groups      bigint NOT NULL,
  error       text
);
CREATE INDEX ON rollup.run (definition, id);
COMMENT ON TABLE rollup.run IS 'Runs that merged rows or failed: the newest rollup.history_keep of each rollup; an idle tick leaves no row';

CREATE TABLE rollup.retention (
  relation    regclass PRIMARY KEY,
  time_column name NOT NULL,
  keep        interval NOT NULL CHECK (keep > interval '0'),
  removed     bigint NOT NULL DEFAULT 0,
  dropped     bigint NOT NULL DEFAULT 0,
  late_ignored bigint NOT NULL DEFAULT 0,
  timezone    text NOT NULL DEFAULT 'UTC',
  failures    int NOT NULL DEFAULT 0,
  last_error  text,
  hold_until  timestamptz,
  last_removed timestamptz,
  archive     text
);
COMMENT ON COLUMN rollup.retention.last_removed IS 'when rows last expired';
COMMENT ON COLUMN rollup.retention.last_error IS 'why rows could not expire, FAILURES times in a row; the worker lets the table rest until HOLD_UNTIL';
COMMENT ON COLUMN rollup.retention.timezone IS 'in which times of a date or timestamp without time zone are read';
COMMENT ON COLUMN rollup.retention.removed IS 'rows that were removed one by one; DROPPED counts partitions';
COMMENT ON COLUMN rollup.retention.late_ignored IS 'raw rows that came after their bucket had expired; what they make expires in turn';
COMMENT ON COLUMN rollup.retention.archive IS 'signature of the function that is given each partition before it goes; NULL: none';
COMMENT ON TABLE rollup.retention IS 'Tables whose old rows expire, by rollup.retain';

CREATE TABLE rollup.archiving (
  partition   regclass PRIMARY KEY,
  relation    regclass NOT NULL,
  name        text NOT NULL,
  until       timestamptz NOT NULL,
  detached    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE rollup.archiving IS 'Partitions that were detached from RELATION to be archived: until the function of rollup.retain has returned';
COMMENT ON COLUMN rollup.archiving.name IS 'what it was called; its rows lie before UNTIL';

CREATE TABLE rollup.change (
  source       regclass NOT NULL,
  time_column  name NOT NULL,
  rollup_stamp bigint NOT NULL,
  since        timestamptz,
  until        timestamptz
);
CREATE INDEX ON rollup.change (source, rollup_stamp);
-- A publication FOR ALL TABLES has the tables of the catalog, too: each has a primary key, except for this one.
ALTER TABLE rollup.change REPLICA IDENTITY FULL;
COMMENT ON TABLE rollup.change IS 'Minutes in which rows of a source lay, or have come to lie, that were changed: until every rollup made with on_change ''recompute'' has computed their buckets again';
COMMENT ON COLUMN rollup.change.rollup_stamp IS 'the stamp of the transaction that changed them';
COMMENT ON COLUMN rollup.change.since IS 'first moment, of a column without time zone as if that were UTC; NULL: rows without a time';
COMMENT ON COLUMN rollup.change.until IS 'last moment';

CREATE TABLE rollup.arrival (
  source       regclass NOT NULL,
  relation     regclass NOT NULL,
  rollup_stamp bigint NOT NULL,
  xid          xid,
  time_column  name NOT NULL,
  since        timestamptz,
  until        timestamptz,
  command      bigint,
  moved        bigint[],
  file         oid,
  told         boolean NOT NULL DEFAULT false,
  home         oid NOT NULL DEFAULT 'rollup.arrival'::regclass
);
ALTER TABLE rollup.arrival REPLICA IDENTITY FULL;
CREATE INDEX ON rollup.arrival (source, rollup_stamp);
COMMENT ON TABLE rollup.arrival IS 'Where rows of a source lie that came in another way than an INSERT or COPY which leaves rollup_stamp to its default: until every rollup of the source has judged whether it has counted them';
COMMENT ON COLUMN rollup.arrival.relation IS 'the table, or the partition, that they lie in';
COMMENT ON COLUMN rollup.arrival.rollup_stamp IS 'the stamp of the transaction that brought them; their own are those of others';
COMMENT ON COLUMN rollup.arrival.xid IS 'the (sub)transaction that inserted them; NULL: the whole table came, by ATTACH PARTITION or INHERIT';
COMMENT ON COLUMN rollup.arrival.since IS 'first moment, of a column without time zone as if that were UTC; NULL: rows without a time';
COMMENT ON COLUMN rollup.arrival.until IS 'last moment';
COMMENT ON COLUMN rollup.arrival.command IS 'the first command of that transaction which did; what earlier ones wrote was there before';
COMMENT ON COLUMN rollup.arrival.moved IS 'rows that were there, which the same transaction moved to where others of it came, by their place, rollup_internal.place(ctid); empty: more than are listed, any may be one. NULL: rows that came';
COMMENT ON COLUMN rollup.arrival.file IS 'the file of RELATION in which they have these places';
COMMENT ON COLUMN rollup.arrival.home IS 'this table, where the row was written: in a dump that is restored it is another, whose rows have other inserters';
COMMENT ON COLUMN rollup.arrival.told IS 'a warning said that rows were left out';

CREATE TABLE rollup.lost (
  definition  bigint NOT NULL,
  relation    regclass,
  xid         bigint NOT NULL,
  place       text NOT NULL,
  since       timestamptz,
  until       timestamptz
);
ALTER TABLE rollup.lost REPLICA IDENTITY FULL;
COMMENT ON TABLE rollup.lost IS 'Raw rows that left with a partition or child which was dropped or detached, by rollup: their buckets are not computed again';
COMMENT ON COLUMN rollup.lost.relation IS 'the table in which they are, until it is dropped; where it comes back the row goes';
COMMENT ON COLUMN rollup.lost.xid IS 'the transaction in which it left PLACE, the table above by id and its bounds: what takes that place in the same transaction makes the row go';
COMMENT ON COLUMN rollup.lost.since IS 'first moment of the rows, of a time column without zone as if in UTC; NULL: rows without time';
COMMENT ON COLUMN rollup.lost.until IS 'last moment';
CREATE TABLE rollup.departure (
  id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  source      regclass NOT NULL,
  until       timestamptz NOT NULL
);
CREATE INDEX ON rollup.departure (source, until);
COMMENT ON TABLE rollup.departure IS 'Parts of sources that left them, by DETACH, NO INHERIT or DROP: what was counted of their rows stays in the rollups';
COMMENT ON COLUMN rollup.departure.until IS 'rows of the part lay before';

CREATE TABLE rollup.expired (
  relation    regclass PRIMARY KEY,
  below       timestamptz NOT NULL,
  swept       timestamptz
);
COMMENT ON TABLE rollup.expired IS 'Up to when rows of a table have expired: buckets before cannot be computed again';

CREATE TABLE rollup.partitioning (
  relation    regclass PRIMARY KEY,
  width       interval NOT NULL CHECK (width > interval '0'),
  ahead       interval NOT NULL CHECK (ahead >= interval '0'),
  timezone    text NOT NULL,
  made        bigint NOT NULL DEFAULT 0,
  moved       bigint NOT NULL DEFAULT 0,
  last_error  text
);
COMMENT ON COLUMN rollup.partitioning.moved IS 'rows that were moved out of the default partition; MADE counts partitions';
COMMENT ON TABLE rollup.partitioning IS 'Tables whose partitions are made before rows need them, by rollup.partition';

SELECT pg_catalog.pg_extension_config_dump('rollup.source', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.definition', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.definition_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.level', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.merge_rule', 'WHERE added_by IS NOT NULL');
SELECT pg_catalog.pg_extension_config_dump('rollup.attempt', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.retention', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.archiving', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.expired', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.change', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.arrival', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.lost', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.departure', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.departure_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('rollup.partitioning', '');

-- The catalog is written by the functions alone; a live view reads the snapshot as whoever reads the view,
-- and transaction ids tell nothing. Query texts are shown to the rollup's owner only.
GRANT SELECT (id, name, relation, source, timezone, every, on_change, adopted, state, system_id, seen_xmax, seen_xip, rows_total,
  backlog_from_xmax, backlog_from_xip, backlog_to_xmax, backlog_to_xip, backlog_cursor, backlog_cuts, backlog_rows, backlog_done, backlog_started, live, long_keys, nodes, left_out, joined, last_owner, notify, shown)
  ON rollup.definition TO PUBLIC;
GRANT SELECT (id, last_run, last_rows, failures, started, hold_until, runs, failed, updated_at) ON rollup.attempt TO PUBLIC;
GRANT SELECT (id, definition, started, finished, rows_in, groups) ON rollup.run TO PUBLIC;
GRANT SELECT (relation, width, ahead, timezone, made, moved) ON rollup.partitioning TO PUBLIC;
GRANT SELECT (relation, time_column, keep, removed, dropped, late_ignored, timezone, failures, hold_until, last_removed, archive) ON rollup.retention TO PUBLIC;
GRANT SELECT ON rollup.source, rollup.level, rollup.merge_rule, rollup.expired, rollup.archiving TO PUBLIC;
-- Which minutes changed is told by functions, which ask who may know; a run asks first whether there is anything.
GRANT SELECT (source) ON rollup.change, rollup.arrival TO PUBLIC;
-- pg_dump reads whole tables. The owner of a database may dump it: so it reads all that is dumped, query texts too.
GRANT SELECT ON rollup.definition, rollup.attempt, rollup.partitioning, rollup.retention, rollup.change, rollup.arrival, rollup.lost, rollup.departure TO pg_database_owner;
GRANT SELECT ON SEQUENCE rollup.definition_id_seq, rollup.departure_id_seq TO pg_database_owner;

