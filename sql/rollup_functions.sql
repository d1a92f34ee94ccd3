-- rollups: functions

CREATE FUNCTION rollup.create(name text, query text, every interval DEFAULT '10 seconds', coarser jsonb DEFAULT NULL,
  timezone text DEFAULT 'UTC', joins text DEFAULT NULL, on_change text DEFAULT 'ignore', into_table text DEFAULT NULL, backfill boolean DEFAULT true,
  if_not_exists boolean DEFAULT false, replace boolean DEFAULT false, notify boolean DEFAULT false)
RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_create_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.create(text, text, interval, jsonb, text, text, text, text, boolean, boolean, boolean, boolean) IS
'Defines a rollup: makes table NAME from the SELECT (group keys, mergeable aggregates and expressions over both), view NAME_live, and functions rollup_SOURCE() and expire_SOURCE(); returns its id. The worker runs it EVERY interval (NULL: only when called). COARSER names levels and their widths, as in {"name_1hour": "1 hour"}, or with the keys that a level has, as in {"name_1day_site": {"width": "1 day", "keys": []}}. Buckets are those of TIMEZONE. JOINS ''snapshot'': lookup tables may be joined, each row to what they hold when it is counted; ''follow'': groups to what they hold when the rollup is read, NAME is a view then, over table NAME_keys. ON_CHANGE says what UPDATE, DELETE and TRUNCATE of raw rows do: ''ignore'' nothing, ''error'' fail, ''recompute'' have their buckets computed again by the next run. INTO_TABLE names a table that becomes the rollups, where its columns fit by name and type and it has a unique key on the group keys. BACKFILL false takes the rows that are there as counted, in a table that holds them. IF_NOT_EXISTS: a rollup of that name stays, with a warning of what differs. REPLACE: it becomes what is asked for, in this transaction, and is computed from the raw rows; refused where those do not give all that it has counted. Levels count in both where COARSER is not NULL. NOTIFY: each run that changed something sends a notification with the times of its buckets, on the channel that rollup.status names. Needs ownership of the source. Errors name what cannot be merged and what to write instead';

CREATE FUNCTION rollup_internal.note_change() RETURNS trigger
AS 'MODULE_PATHNAME', 'rollup_note_change' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup_internal.note_change() IS
'Trigger of tables with a rollup that was made with on_change ''error'' or ''recompute'': refuses changes, or notes when the rows are, before and after';

CREATE FUNCTION rollup.own_stamp() RETURNS trigger LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    NEW.rollup_stamp := OLD.rollup_stamp;
  ELSE
    NEW.rollup_stamp := rollup.stamp() + coalesce((
      WITH RECURSIVE up (relation) AS (SELECT TG_RELID UNION SELECT i.inhparent FROM pg_inherits i JOIN up ON i.inhrelid = up.relation)
      SELECT s.stamp_offset FROM rollup.source s JOIN up ON up.relation = s.relation LIMIT 1), 0);
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION rollup.own_stamp() IS
'Trigger of tables with a rollup: an UPDATE leaves rollup_stamp as it was; rows that are inserted, by a subscription or while a dump is loaded into a table that has it as a trigger BEFORE INSERT, get stamps of this server in place of those that come along';

CREATE FUNCTION rollup_internal.watch_command(command pg_ddl_command) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_watch_command' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup_internal.watch_command(pg_ddl_command) IS
'For rollup_internal.watch_children: what is to be done about one command of pg_event_trigger_ddl_commands(), as the current user. NULL does nothing';

-- A function in PL/pgSQL, so that commands go on where the library is missing.
CREATE FUNCTION rollup_internal.watch_children() RETURNS event_trigger LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp AS $$
BEGIN
  PERFORM rollup_internal.watch_command(c.command) FROM pg_event_trigger_ddl_commands() c WHERE c.classid IN ('pg_class'::regclass, 'pg_subscription'::regclass);
EXCEPTION WHEN OTHERS THEN
  -- Citus recreates a table while a run of its rollup is on.
  IF SQLSTATE IN ('40P01', '55P03') THEN
    RAISE;
  END IF;
  RAISE WARNING USING MESSAGE = format('rollups are not told of what %s has made: %s', TG_TAG, SQLERRM),
    HINT = 'Where it put a table below one with a rollup, the next run puts that right; until then rollup.status names it.';
END $$;
REVOKE ALL ON FUNCTION rollup_internal.watch_children() FROM PUBLIC;
COMMENT ON FUNCTION rollup_internal.watch_children() IS
'Event trigger: gives a new partition or child of a table with rollups the triggers that it does not inherit, and tables with a rollup that a subscription fills the trigger rollup.own_stamp(). Fails no command';
CREATE EVENT TRIGGER rollup_watch_children ON ddl_command_end
  WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE SCHEMA', 'CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION')
  EXECUTE FUNCTION rollup_internal.watch_children();
-- Partitions that are made where session_replication_role is replica are watched, too.
ALTER EVENT TRIGGER rollup_watch_children ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER rollup_watch_children IS 'Watches new partitions of tables with rollups, and subscriptions that fill them';

CREATE FUNCTION rollup_internal.forget_dropped() RETURNS event_trigger
AS 'MODULE_PATHNAME', 'rollup_forget_dropped' LANGUAGE c VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION rollup_internal.forget_dropped() FROM PUBLIC;
COMMENT ON FUNCTION rollup_internal.forget_dropped() IS
'Event trigger: what the catalog says of a table goes with it; rollups whose table or source was dropped stay, and do nothing, until rollup.drop. Never fails, waits for nobody';
CREATE EVENT TRIGGER rollup_forget_dropped ON sql_drop EXECUTE FUNCTION rollup_internal.forget_dropped();
ALTER EVENT TRIGGER rollup_forget_dropped ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER rollup_forget_dropped IS 'Forgets the retention, the partitions ahead and the changes of tables that are dropped';

CREATE FUNCTION rollup_internal.leave_tables() RETURNS event_trigger
AS 'MODULE_PATHNAME', 'rollup_leave_tables' LANGUAGE c VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION rollup_internal.leave_tables() FROM PUBLIC;
COMMENT ON FUNCTION rollup_internal.leave_tables() IS
'Event trigger: before the extension goes by CASCADE, lets column rollup_stamp of tables be NULL, so that they take rows without its default';
CREATE EVENT TRIGGER rollup_leave_tables ON ddl_command_start WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED')
  EXECUTE FUNCTION rollup_internal.leave_tables();
ALTER EVENT TRIGGER rollup_leave_tables ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER rollup_leave_tables IS 'Sees that tables take rows when the extension is gone';

CREATE FUNCTION rollup.move(name text, relation regclass) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_move_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.move(text, regclass) IS
'Has a rollup count the rows of RELATION, of which its source has become a partition or a child: what was counted stays, rows of the other parts are counted by the next run, and RELATION gets the functions next to it. Any other table takes the place of the source, as a copy that was given its name: the rollup is computed from it in this transaction, except for buckets of which raw rows have gone, and refused where it does not have all other rows that were counted. Needs ownership of both. NULL does nothing';

CREATE FUNCTION rollup.add_level(name text, level text, width interval, if_not_exists boolean DEFAULT false, keys text[] DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_add_level_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.add_level(text, text, interval, boolean, text[]) IS
'Adds a coarser level to a rollup: table LEVEL with the same columns in buckets of WIDTH, filled from the rollup, and view LEVEL_live. Each bucket of the rollup must lie inside one of the level. KEYS are the group keys that it has besides the time, {} for none (NULL: all); with fewer than the rollup''s its buckets may be as long as those. IF_NOT_EXISTS: a level of that name stays, with a warning where its buckets or keys are others. NULL elsewhere does nothing';

CREATE FUNCTION rollup.drop_level(name text, level text, keep_data boolean DEFAULT false, if_exists boolean DEFAULT false) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_drop_level_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.drop_level(text, text, boolean, boolean) IS
'Removes a level of a rollup with its view; its table too, unless KEEP_DATA. IF_EXISTS: no error where it has no such level. NULL does nothing';

CREATE FUNCTION rollup.add_column(name text, column_name text, expression text, backfill boolean DEFAULT true, if_not_exists boolean DEFAULT false) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_add_column_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.add_column(text, text, text, boolean, boolean) IS
'Adds a column to a rollup and its levels: EXPRESSION over aggregates and group keys, as in its query. BACKFILL computes it from the raw rows that are there; rows without hold NULL, as all do without BACKFILL, until rows come for them. IF_NOT_EXISTS: a column of that name stays, with a warning where it is another expression. NULL does nothing';

CREATE FUNCTION rollup.drop_column(name text, column_name text, if_exists boolean DEFAULT false) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_drop_column_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.drop_column(text, text, boolean) IS
'Removes a column from a rollup and its levels; what other columns are made of stays in the table. Group keys stay. IF_EXISTS: no error where it has no such column. NULL does nothing';

CREATE FUNCTION rollup.replace(name text, query text, backfill boolean DEFAULT true) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_replace_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.replace(text, text, boolean) IS
'Makes a rollup that of another query over the same rows with the same group keys: equal columns stay as they are, others go and come, filled as rollup.add_column does. NULL does nothing';

CREATE FUNCTION rollup.add_merge_rule(aggregate regprocedure, combine regprocedure, unite regprocedure) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_add_merge_rule_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.add_merge_rule(regprocedure, regprocedure, regprocedure) IS
'Lets rollups use an aggregate that gives type T: COMBINE(T, T), immutable, makes one value of two, the aggregate UNITE(T) one of many; NULL is nothing to both. Needs ownership of the aggregate. NULL does nothing';

CREATE FUNCTION rollup.add_merge_rule(aggregate regprocedure, parts regprocedure[], result regprocedure) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_add_made_rule_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.add_merge_rule(regprocedure, regprocedure[], regprocedure) IS
'Lets rollups use an aggregate whose value RESULT, an immutable function, makes of PARTS: aggregates over the same arguments that have rules of their own. Needs ownership of the aggregate. NULL does nothing';

CREATE FUNCTION rollup.drop_merge_rule(aggregate regprocedure) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_drop_merge_rule_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.drop_merge_rule(regprocedure) IS
'Removes a rule that was added; rollups made with it go on. Needs ownership of the aggregate. NULL does nothing';

CREATE FUNCTION rollup.run(source regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_run_source_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.run(regclass) IS
'Rolls up what has been committed since the last run, for every active rollup of the table; returns the raw rows merged (of the rollup that merged most). NULL gives NULL';

CREATE FUNCTION rollup_internal.work_off(name text) RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_work_off_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup_internal.work_off(text) IS
'Rolls up what is new and one piece of the backlog; returns the rows of the backlog that are left, 0 when there is none. NULL gives NULL';

-- A procedure that commits cannot have a search_path of its own: every name in it is qualified.
CREATE PROCEDURE rollup.catch_up(name text) LANGUAGE plpgsql AS $$
DECLARE rest pg_catalog.int8 := 1; said pg_catalog.timestamptz := '-infinity';
BEGIN
  WHILE rest OPERATOR(pg_catalog.>) 0 LOOP
    rest := rollup_internal.work_off(name);
    COMMIT;
    IF rest OPERATOR(pg_catalog.>) 0 AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) (said OPERATOR(pg_catalog.+) interval '1 second') THEN
      RAISE NOTICE 'rollup %: % rows left', name, rest;
      said := pg_catalog.clock_timestamp();
    END IF;
  END LOOP;
END $$;
COMMENT ON PROCEDURE rollup.catch_up(text) IS
'Works the backlog of a rollup off, a transaction a piece; stopped at any point, it goes on from there when called again, as the worker does';

CREATE FUNCTION rollup.run_due() RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_run_due_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.run_due() IS
'Makes missing partitions, by rollup.partition, and runs every active rollup of the caller that is due, for any scheduler; returns the raw rows merged';

CREATE FUNCTION rollup.rebase(source regclass) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_rebase_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.rebase(regclass) IS
'Computes the rollups of a table again from the rows that are there, and lifts stamps to come above those that are: what the next run does by itself after a restore into another cluster. Where Citus keeps the table, puts the rollups where its rows lie. Locks the table meanwhile. Buckets of which raw rows have expired stay. NULL does nothing';

CREATE FUNCTION rollup.retain(relation regclass, keep interval, time_column text DEFAULT NULL, timezone text DEFAULT NULL, archive regproc DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_retain_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.retain(regclass, interval, text, text, regproc) IS
'Rows of a table older than KEEP by TIME_COLUMN, a date or time or a domain over one, expire: by default that of its rollup, or the time key of the rollup that it is. Partitions that lie wholly before are dropped. A row never goes before every rollup of its table has counted it. Dates and timestamps without time zone are read in TIMEZONE: by default that of the rollup, or for other tables that of the session. ARCHIVE, a function of one regclass: each partition is detached, given to it, and dropped once it has returned, unless it has moved the table; rows go with their partition alone. KEEP NULL: keep everything. Called again it sets all of this anew. Needs ownership of the table';

CREATE FUNCTION rollup.expire(relation regclass, dry_run boolean DEFAULT false, force boolean DEFAULT false) RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_expire_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.expire(regclass, boolean, boolean) IS
'Removes now what rollup.retain lets go of, in this transaction; returns the rows removed, without those of dropped partitions. DRY_RUN: removes nothing and returns the rows that would go, with a notice for each partition. FORCE: also rows that a rollup does not have. NULL gives NULL';

CREATE FUNCTION rollup.partition(relation regclass, width interval, ahead interval DEFAULT NULL, timezone text DEFAULT 'UTC') RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_partition_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.partition(regclass, interval, interval, text) IS
'Keeps partitions of WIDTH in existence for AHEAD from now (NULL: three widths) for a table partitioned by range of one date or time column, or of a domain over such: makes those that are missing now, and returns how many; the worker and rollup.run_due go on. They continue those that are there; days and longer begin in TIMEZONE. Rows that lie in a default partition move to theirs and are not counted again. WIDTH NULL: makes no more. Needs ownership of the table';

CREATE FUNCTION rollup.pause(name text) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_pause_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.pause(text) IS 'Stops runs of a rollup until rollup.resume; expiry of its source waits. NULL does nothing';

CREATE FUNCTION rollup.resume(name text) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_resume_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.resume(text) IS 'Lets a paused rollup run again, from where it stopped. NULL does nothing';

CREATE FUNCTION rollup.drop(name text, keep_data boolean DEFAULT false, if_exists boolean DEFAULT false) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_drop_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.drop(text, boolean, boolean) IS
'Removes a rollup with its view; its table too, unless KEEP_DATA. Column rollup_stamp stays on the source. IF_EXISTS: no error where there is none. NULL does nothing';

CREATE FUNCTION rollup.explain(name text) RETURNS text
AS 'MODULE_PATHNAME', 'rollup_explain_wrapper' LANGUAGE c STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.explain(text) IS 'The statements that the next run of a rollup would execute: one that reads the new raw rows, one that merges their groups. NULL gives NULL';

CREATE FUNCTION rollup.explain_rewrite(query text) RETURNS TABLE (source regclass, rollup text, level text, reason text)
AS 'MODULE_PATHNAME', 'rollup_explain_rewrite_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 1;
COMMENT ON FUNCTION rollup.explain_rewrite(text) IS
'For each query in QUERY that aggregates a table with rollups: the rollup and the level that it is answered from where rollup.rewrite says so, or the first reason why it is not. QUERY is read, not executed. NULL gives none';

CREATE FUNCTION rollup_internal.in_step_from(step bigint, zone text) RETURNS timestamptz
AS 'MODULE_PATHNAME', 'rollup_in_step_from' LANGUAGE c STABLE PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.in_step_from(bigint, text) IS
'For statements that are answered from rollups: from when on the clock of the session''s time zone is in step with buckets of STEP microseconds of UTC, infinity where it never is. With ZONE: whether that is the session''s, -infinity or infinity';

CREATE FUNCTION rollup_internal.state_of(definition bigint, generation bigint, history boolean, levels oid[], widths bigint[], slacks bigint[],
  OUT good boolean, OUT seen_xmax bigint, OUT first_open bigint, OUT seen_xip bigint[], OUT below timestamptz, OUT raw_below timestamptz, OUT expired timestamptz[],
  OUT changed_0 timestamptz[], OUT changed_1 timestamptz[], OUT changed_2 timestamptz[], OUT changed_3 timestamptz[], OUT changed_4 timestamptz[],
  OUT since_1 timestamptz, OUT until_1 timestamptz, OUT since_2 timestamptz, OUT until_2 timestamptz, OUT since_3 timestamptz, OUT until_3 timestamptz) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'rollup_state_of' LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION rollup_internal.state_of(bigint, bigint, boolean, oid[], bigint[], bigint[]) IS
'For statements that are answered from rollups: how far rows are merged, as the statement sees it. GOOD: the rollup is what it was at GENERATION, and holds every row and change up to there whose times lie at BELOW or later, except for buckets in which changes wait for a run. These lie between the bounds of CHANGED_0, and of CHANGED_1 and so on for levels: buckets are WIDTHS microseconds long at most and begin up to SLACKS after their first row. Their raw rows lie from SINCE_1 to UNTIL_1 and so on. Raw rows have expired up to RAW_BELOW, which is below BELOW but with HISTORY, and tables LEVELS up to EXPIRED';

CREATE FUNCTION rollup_internal.state_column_support(internal) RETURNS internal
AS 'MODULE_PATHNAME', 'rollup_state_column_support' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.state_column_support(internal) IS
'For the planner: the support function of rollup_internal.state_column';

CREATE FUNCTION rollup_internal.state_column(internal) RETURNS internal
AS 'MODULE_PATHNAME', 'rollup_state_column' LANGUAGE c STABLE PARALLEL SAFE SUPPORT rollup_internal.state_column_support;
COMMENT ON FUNCTION rollup_internal.state_column(internal) IS
'For statements that are answered from rollups: a column of rollup_internal.state_of, for which the planner puts a parameter. It is never executed';

CREATE FUNCTION rollup_internal.forget_rewriting(VARIADIC relations regclass[]) RETURNS void
AS 'MODULE_PATHNAME', 'rollup_forget_rewriting' LANGUAGE c VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION rollup_internal.forget_rewriting(regclass[]) FROM PUBLIC;
COMMENT ON FUNCTION rollup_internal.forget_rewriting(regclass[]) IS
'For triggers of the catalog: plans over RELATIONS are recreated at their next use, and sessions look up again what rollups of them offer';

CREATE FUNCTION rollup_internal.whole_buckets(rollup name) RETURNS boolean
AS 'MODULE_PATHNAME', 'rollup_whole_buckets' LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION rollup_internal.whole_buckets(name) IS
'For statements that are answered from rollups, with rollup.rewrite = history: says once a session that the ends of a range are answered in whole buckets, and returns true';

CREATE FUNCTION rollup_internal.rewritten(definition bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_rewritten' LANGUAGE c VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.rewritten(bigint) IS
'How many queries over the raw table were answered from the rollup with this id since the server was started; NULL where the library is not in shared_preload_libraries';

CREATE FUNCTION rollup_internal.definition_changes() RETURNS trigger LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp AS $$
BEGIN
  PERFORM rollup_internal.forget_rewriting(TG_RELID, CASE WHEN TG_OP <> 'INSERT' THEN OLD.source END, CASE WHEN TG_OP <> 'DELETE' THEN NEW.source END);
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  IF TG_OP = 'UPDATE' THEN
    NEW.generation := OLD.generation + 1;
    NEW.whole := NEW.whole AND coalesce(NEW.source = OLD.source, true);
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION rollup_internal.definition_changes() IS 'Trigger of the catalog: counts changes of a rollup, and tells of them who is answered from it';
CREATE TRIGGER definition_changes BEFORE INSERT OR DELETE OR UPDATE OF relation, source, plan, timezone, on_change, adopted, system_id, joined, live, whole, partial ON rollup.definition
  FOR EACH ROW EXECUTE FUNCTION rollup_internal.definition_changes();

CREATE FUNCTION rollup_internal.level_changes() RETURNS trigger LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp AS $$
BEGIN
  -- Of a level whose table was dropped no statement reads: and that waits for no run, which may wait for the table.
  IF TG_OP <> 'DELETE' OR EXISTS (SELECT FROM pg_class WHERE oid = OLD.relation) THEN
    UPDATE rollup.definition SET live = live WHERE id IN (CASE WHEN TG_OP <> 'INSERT' THEN OLD.definition END, CASE WHEN TG_OP <> 'DELETE' THEN NEW.definition END);
  ELSE
    PERFORM rollup_internal.forget_rewriting(source) FROM rollup.definition WHERE id = OLD.definition;
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION rollup_internal.level_changes() IS 'Trigger of the catalog: a change of a level is one of its rollup';
CREATE TRIGGER level_changes AFTER INSERT OR DELETE OR UPDATE ON rollup.level FOR EACH ROW EXECUTE FUNCTION rollup_internal.level_changes();

CREATE FUNCTION rollup.check(name text, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL)
RETURNS TABLE (relation regclass, keys jsonb, column_name text, stored text, recomputed text)
AS 'MODULE_PATHNAME', 'rollup_check_wrapper' LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION rollup.check(text, timestamptz, timestamptz) IS
'Aggregates raw rows again and lists what differs from a rollup and its levels, for buckets from FROM_TIME to before TO_TIME (NULL: without bound): no row where all is well. Rows not yet rolled up do not count, nor buckets of which raw rows have expired, or left with a partition that was dropped or detached. Float sums may differ in their last digits, bounded counters (max_keys) within their error: of these are listed the ones whose totals differ, or whose numbers are further apart. Errors: no such rollup, not its owner';

CREATE FUNCTION rollup.rebuild(name text, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL, force boolean DEFAULT false) RETURNS bigint
AS 'MODULE_PATHNAME', 'rollup_rebuild_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup.rebuild(text, timestamptz, timestamptz, boolean) IS
'Replaces buckets from FROM_TIME to before TO_TIME (NULL: without bound) by what the raw rows merged so far give, after raw rows were changed; levels too. Returns the groups written. Refused where raw rows have expired, or left with a partition that was dropped or detached; FORCE: what left is forgotten, and only what is there counts';

CREATE TYPE rollup_internal.waiting_rows AS (rows bigint, oldest timestamptz, why text);
COMMENT ON TYPE rollup_internal.waiting_rows IS 'Raw rows that wait for a run, the least time of them, and why that cannot be told';

CREATE FUNCTION rollup_internal.waiting(id bigint, source regclass, time_column text, on_nodes boolean, seen_xmax bigint, seen_xip bigint[],
  from_xmax bigint, from_xip bigint[], to_xmax bigint, to_xip bigint[], before timestamptz) RETURNS rollup_internal.waiting_rows
AS 'MODULE_PATHNAME', 'rollup_waiting' LANGUAGE c STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup_internal.waiting(bigint, regclass, text, boolean, bigint, bigint[], bigint, bigint[], bigint, bigint[], timestamptz) IS
'Raw rows, as this snapshot sees them, that a rollup of SOURCE has not merged which has come as far as SEEN, but for a backlog FROM and TO a snapshot and BEFORE a moment; of rows that are written on several nodes, those of the rollup with this id, without their times. NULL where the caller may not read the whole table, the table is locked, or a node of its cluster does not answer. Runs no code of the table''s owner and waits for no lock';

CREATE FUNCTION rollup_internal.is_free(relation regclass) RETURNS boolean
AS 'MODULE_PATHNAME', 'rollup_is_free_wrapper' LANGUAGE c STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup_internal.is_free(regclass) IS
'Whether nobody holds a lock on the table, or a part of it, that its readers would wait for. NULL where there is no such table';

CREATE FUNCTION rollup_internal.key_fits(VARIADIC keys "any") RETURNS boolean
AS 'MODULE_PATHNAME', 'rollup_key_fits' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.key_fits("any") IS
'Whether an index on the group keys of a rollup has room for these values together, long ones compressed: 2704 bytes where pages have 8 kB. NULL takes none';

-- rollups: partitions

CREATE FUNCTION rollup_internal.partition_bounds(relation regclass) RETURNS TABLE (partition regclass, lower timestamptz, upper timestamptz)
LANGUAGE sql STABLE STRICT PARALLEL SAFE ROWS 100
SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET datestyle TO 'ISO, MDY' AS $$
  SELECT oid::regclass, coalesce(bound[1], '-infinity')::timestamptz, coalesce(bound[2], 'infinity')::timestamptz
    FROM (SELECT c.oid, regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \((?:''([^'']*)''|MINVALUE)\) TO \((?:''([^'']*)''|MAXVALUE)\)$') AS bound
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_partitioned_table p ON p.partrelid = i.inhparent
            -- What a domain is of is said by the operator class.
            JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] JOIN pg_opclass o ON o.oid = p.partclass[0]
           WHERE i.inhparent = $1 AND NOT i.inhdetachpending AND p.partstrat = 'r' AND p.partnatts = 1
             AND o.opcintype IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)) b
   WHERE bound IS NOT NULL $$;
COMMENT ON FUNCTION rollup_internal.partition_bounds(regclass) IS
'Partitions of a table that is partitioned by range of one date or time column; a time without zone is read as UTC. NULL gives no row';

CREATE FUNCTION rollup_internal.partition_zones(relation regclass, OUT of_bounds text, OUT of_grid text) LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path TO pg_catalog, pg_temp AS $$
  SELECT CASE WHEN o.opcintype = 'timestamptz'::regtype THEN 'UTC' ELSE s.timezone END,
         -- An hour of the clock may come twice a year, a day does not.
         CASE WHEN o.opcintype = 'timestamptz'::regtype AND (s.width >= interval '1 month' OR extract(epoch FROM s.width) % 86400 = 0) THEN s.timezone ELSE 'UTC' END
    FROM rollup.partitioning s JOIN pg_partitioned_table p ON p.partrelid = s.relation
    JOIN pg_opclass o ON o.oid = p.partclass[0] WHERE s.relation = $1 AND p.partattrs[0] <> 0 $$;
COMMENT ON FUNCTION rollup_internal.partition_zones(regclass) IS
'For a table of rollup.partition, the time zone whose clock its bounds show, where rollup_internal.partition_bounds reads UTC, and the one in whose days its partitions begin. NULL for other tables and for NULL';

CREATE FUNCTION rollup_internal.covered_until(relation regclass, bound timestamptz) RETURNS timestamptz LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path TO pg_catalog, pg_temp AS $$
  WITH b AS MATERIALIZED (SELECT * FROM rollup_internal.partition_bounds($1))
  SELECT min(e.upper) FROM b e WHERE e.upper > $2 AND NOT EXISTS (SELECT FROM b n WHERE n.lower = e.upper AND isfinite(n.lower))
     AND EXISTS (SELECT FROM b h WHERE h.lower <= $2 AND $2 < h.upper) $$;
COMMENT ON FUNCTION rollup_internal.covered_until(regclass, timestamptz) IS
'Up to where partitions lie without a gap from this bound on; NULL where it lies in none. NULL gives NULL';

CREATE FUNCTION rollup_internal.partitions_ahead(relation regclass, zone text, OUT until timestamptz, OUT why text)
AS 'MODULE_PATHNAME', 'rollup_partitions_ahead' LANGUAGE c STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup_internal.partitions_ahead(regclass, text) IS
'Up to when rows from now on find a partition in a table of rollup.partition whose bounds, in a column without time zone, show the clock of ZONE: now where there is none; and why that cannot be told where it ought to be, for views of all rollups, of which none hides the others. NULL where the table is locked, for tables that are partitioned otherwise and for NULL. Waits for no lock';

CREATE FUNCTION rollup_internal.partition_for(relation regclass, bound timestamptz, OUT lower timestamptz, OUT upper timestamptz)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path TO pg_catalog, pg_temp AS $$
DECLARE width interval; zone text; anchor timestamp; here timestamp; months int; n bigint; free_from timestamptz; free_to timestamptz;
BEGIN
  SELECT p.width, z.of_grid INTO width, zone FROM rollup.partitioning p, rollup_internal.partition_zones($1) z WHERE p.relation = $1;
  IF width IS NULL OR rollup_internal.covered_until($1, bound) IS NOT NULL THEN
    RETURN;
  END IF;
  SELECT timezone(zone, max(b.upper) FILTER (WHERE isfinite(b.upper))), max(b.upper) FILTER (WHERE b.upper <= bound), min(b.lower) FILTER (WHERE b.lower > bound)
    INTO anchor, free_from, free_to FROM rollup_internal.partition_bounds($1) b;
  months := extract(year FROM width) * 12 + extract(month FROM width);
  -- A Monday, and the first day of a century.
  anchor := coalesce(anchor, CASE WHEN months > 0 THEN timestamp '2001-01-01' ELSE timestamp '2000-01-03' END);
  here := timezone(zone, bound);
  n := CASE WHEN months > 0
    THEN floor(((extract(year FROM here) - extract(year FROM anchor)) * 12 + extract(month FROM here) - extract(month FROM anchor)) / months)
    ELSE floor(extract(epoch FROM here - anchor) / extract(epoch FROM width)) END;
  SELECT greatest(free_from, e.lower), least(free_to, e.upper) INTO lower, upper
    FROM (SELECT timezone(zone, anchor + k * width) AS lower, timezone(zone, anchor + (k + 1) * width) AS upper FROM generate_series(n - 1, n + 1) k) e
   WHERE e.lower <= bound AND bound < e.upper LIMIT 1;
END $$;
COMMENT ON FUNCTION rollup_internal.partition_for(regclass, timestamptz) IS
'Bounds of the partition that rollup.partition would make for a row at this bound: one of its widths, counted from the newest partition, as far as no other partition lies there. NULL where one has it, and for NULL';

-- rollups: a cluster

CREATE FUNCTION rollup.nodes(name text) RETURNS TABLE (group_id integer, node text, seen_xmax bigint, open integer, waits_for text)
AS 'MODULE_PATHNAME', 'rollup_nodes_wrapper' LANGUAGE c STABLE STRICT PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION rollup.nodes(text) IS
'On a Citus cluster, node by node: the transaction id up to which rows are rolled up, how many transactions below it are open or not known to be over, and what the next run waits for there (NULL: nothing). Asks every node; one that does not answer says so within rollup.node_timeout. For the owner and for who monitors the server. No row for a rollup of a table of this node alone. NULL gives none';

CREATE FUNCTION rollup_internal.rest(id bigint) RETURNS TABLE (first bigint, last bigint, before timestamptz)
AS 'MODULE_PATHNAME', 'rollup_rest_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION rollup_internal.rest(bigint) IS
'On a Citus cluster: the stamps of rows that the rollup with this id has not merged, as ranges, of a backlog those before a moment (NULL: all); no run changes that until the transaction ends. For live views';

-- rollups: views

-- Messages of errors may hold values of rows: they are shown to the owner and to who monitors the server.
CREATE FUNCTION rollup_internal.may_read(owner oid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(pg_catalog.pg_has_role(owner, 'USAGE'), false) OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON FUNCTION rollup_internal.may_read(oid) IS 'Whether the caller may act as this role, or monitors the server: who is shown the errors of its rollups. NULL: an owner that is gone, whose rollups superusers and monitors alone are shown';

CREATE FUNCTION rollup_internal.owner_of(relation regclass, source regclass DEFAULT NULL) RETURNS oid LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce((SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) relation::pg_catalog.oid),
                (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) source::pg_catalog.oid));
COMMENT ON FUNCTION rollup_internal.owner_of(regclass, regclass) IS 'Owner of a rollup by its table and its source: that of the table, or of the source once the table was dropped. NULL where both were';

CREATE FUNCTION rollup_internal.verdict(stored bigint, raw bigint, came bigint[], rows bigint[], one bigint) RETURNS integer
AS 'MODULE_PATHNAME', 'rollup_verdict_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.verdict(bigint, bigint, bigint[], bigint[], bigint) IS
'For runs: of a group that has STORED rows in a rollup and RAW rows in its source, among them ROWS that each of CAME brought, whether those of ONE are new (1), were counted (0), or it cannot be told (-1). NULL gives NULL';

CREATE FUNCTION rollup_internal.counters_agree(stored jsonb, fresh jsonb) RETURNS boolean
AS 'MODULE_PATHNAME', 'rollup_counters_agree' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.counters_agree(jsonb, jsonb) IS
'For rollup.check: whether two counters are the same, or bounded ones that may be of the same rows: of one max_keys, with the same total, and no key''s numbers further apart than they may be too low. NULL gives NULL';

CREATE FUNCTION rollup_internal.sees_all(relation regclass, source regclass, joined regclass[] DEFAULT NULL) RETURNS boolean
AS 'MODULE_PATHNAME', 'rollup_sees_all' LANGUAGE c STABLE PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.sees_all(regclass, regclass, regclass[]) IS
'For live views: true if row-level security hides no row of SOURCE, and of JOINED tables, from the owner of RELATION, the table of a rollup; an error where it does, since the view would be without them. NULL is no table';

CREATE FUNCTION rollup_internal.changes(source regclass, time_column name DEFAULT NULL, OUT rollup_stamp bigint, OUT since timestamptz, OUT until timestamptz, OUT relation regclass, OUT xid xid)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'rollup_changes' LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION rollup_internal.changes(regclass, name) IS
'For runs and live views: the minutes of TIME_COLUMN (NULL: of any) in which rows of SOURCE were changed, from SINCE to UNTIL, with the stamp of the transaction that changed them, until every rollup has computed their buckets again; RELATION and XID are NULL. For who may read that column in all rows, and in a view by the rights of its owner; an error for others. NULL for SOURCE gives no row';

CREATE FUNCTION rollup_internal.arrivals(source regclass, time_column name DEFAULT NULL, OUT rollup_stamp bigint, OUT since timestamptz, OUT until timestamptz, OUT relation regclass, OUT xid xid, OUT command bigint, OUT moved bigint[], OUT file oid)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'rollup_arrivals' LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION rollup_internal.arrivals(regclass, name) IS
'The same of rows that came in another way: RELATION is the table or partition in which they lie, XID the transaction that inserted them, NULL where the whole table came, COMMAND its first command that did; with MOVED, rows that were there and that the transaction moved beside those that it brought, by their place in FILE; empty: any may be one';

CREATE FUNCTION rollup_internal.place(tid) RETURNS bigint AS 'MODULE_PATHNAME', 'rollup_place' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.place(tid) IS 'For runs: the number of a place in a table, 65536 times that of its page and its own; NULL gives NULL';

CREATE FUNCTION rollup_internal.is_version(relation oid, place tid) RETURNS boolean
AS 'MODULE_PATHNAME', 'rollup_is_version' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.is_version(oid, tid) IS
'For runs: true if the row at PLACE of RELATION, a heap, is a new version of one that was there, which an UPDATE has made; false where it was inserted, or no row is there. NULL gives NULL';

CREATE FUNCTION rollup_internal.lost_rows(id bigint, OUT since timestamptz, OUT until timestamptz) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'rollup_lost_rows' LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION rollup_internal.lost_rows(bigint) IS
'The same of raw rows that left with a partition or child which was dropped or detached: of the rollup with this id, from SINCE to UNTIL, both NULL for rows without time. NULL gives no row';

CREATE FUNCTION rollup_internal.unwatched(id bigint, source regclass, minds boolean, holds boolean, subscribed boolean) RETURNS text
AS 'MODULE_PATHNAME', 'rollup_unwatched_wrapper' LANGUAGE c STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rollup_internal.unwatched(bigint, regclass, boolean, boolean, boolean) IS
'What the rollup with this id needs to be told of changes and of rows that come in another way, and is missing or switched off on its source, a partition or a child: triggers, and the index; also that the source has become a partition. A rollup of SOURCE MINDS changes, one HOLDS rows of this server, and the database is SUBSCRIBED to tables: where all that these need is seen to be there, it is looked at no further. NULL where nothing is missing, and for NULL';

-- No part of the view: where that is read beside a distributed table, Citus takes no query that is recursive.
CREATE FUNCTION rollup_internal.writers() RETURNS TABLE (relation oid, who text) LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 100
SET search_path TO pg_catalog, pg_temp AS $$
  WITH RECURSIVE w (relation, who) AS (
    SELECT k.relation, coalesce('process ' || k.pid, 'a prepared transaction') FROM pg_locks k
     WHERE k.locktype = 'relation' AND k.mode = 'RowExclusiveLock' AND k.granted AND k.database = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())
    UNION SELECT i.inhparent, w.who FROM pg_inherits i JOIN w ON i.inhrelid = w.relation)
  SELECT w.relation, w.who FROM w $$;
COMMENT ON FUNCTION rollup_internal.writers() IS 'Tables that are open for writing, and those of which they are parts, with whose transactions have them open';

CREATE FUNCTION rollup_internal.channel(name text) RETURNS text
AS 'MODULE_PATHNAME', 'rollup_channel' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.channel(text) IS
'The channel on which the rollup of this name sends notifications: rollup_NAME, as far as that fits, else its beginning with a hash behind. NULL gives NULL';

CREATE VIEW rollup.status AS
SELECT d.name, d.source, (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) o.owner) AS owner,
       CASE WHEN d.relation IS NULL OR d.source IS NULL THEN 'gone' WHEN a.failures > 0 AND d.state = 'active' THEN 'failing' ELSE d.state END AS state,
       CASE WHEN rollup_internal.may_read(o.owner) THEN a.paused_for END AS paused_for,
       d.every, a.last_run, coalesce(a.hold_until, a.last_run + d.every) AS next_run, a.started AS running_since,
       d.rows_total, a.last_rows, speed.rows_per_second, (l.waiting).rows AS lag_rows,
       CASE WHEN (l.waiting).rows = 0 THEN 0 ELSE extract(epoch FROM pg_catalog.clock_timestamp() - a.last_run) END::float8 AS lag_seconds,
       (l.waiting).oldest AS oldest_row, busy.writers AS open_writers,
       CASE WHEN NOT rollup_internal.is_free(d.source) THEN 'a lock on ' || d.source
            WHEN d.nodes IS NOT NULL AND (l.waiting).why IS NULL AND rollup_internal.may_read(o.owner) THEN
         (SELECT pg_catalog.string_agg(pg_catalog.concat('node ', w.node || ' ', '(group ', w.group_id, '): ', w.waits_for), '; ' ORDER BY w.group_id)
            FROM rollup.nodes(d.name) w WHERE w.waits_for IS NOT NULL)
       END AS held_back_by,
       -- OFFSET has the index asked for each: a table of all such columns is made by reading all columns there are.
       a.runs, a.failures, a.failed, CASE WHEN rollup_internal.may_read(o.owner) THEN coalesce(a.last_error,
         CASE WHEN d.source IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute g WHERE g.attrelid = d.source AND g.attname = 'rollup_stamp' AND g.atttypid = 'int8'::regtype AND NOT g.attisdropped OFFSET 0)
              THEN 'column rollup_stamp of ' || d.source || ' is gone' END, (l.waiting).why) END AS last_error,
       d.backlog_rows, d.backlog_done, (d.backlog_done / NULLIF(extract(epoch FROM a.last_run - d.backlog_started), 0))::bigint AS backlog_rows_per_second,
       CASE WHEN d.backlog_done > 0 THEN a.last_run + (a.last_run - d.backlog_started) * ((d.backlog_rows - d.backlog_done)::float8 / d.backlog_done) END AS backlog_end,
       CASE WHEN t.relation IS NOT NULL THEN NULLIF(pg_catalog.concat_ws('; ',
         needs.held_by, CASE WHEN rollup_internal.may_read(rollup_internal.owner_of(d.source)) THEN t.last_error END), '')
       END AS expiry_held_by,
       coalesce(expiry.late_ignored, 0) AS late_ignored,
       d.long_keys, rollup_internal.rewritten(d.id) AS rewritten,
       d.on_change, CASE WHEN pg_catalog.has_table_privilege(d.source, 'SELECT') AND NOT pg_catalog.row_security_active(d.source) THEN d.refused_changes END AS refused_changes, d.left_out,
       CASE WHEN pg_catalog.has_table_privilege(d.source, 'SELECT') AND NOT pg_catalog.row_security_active(d.source) THEN
         (SELECT pg_catalog.range_agg(pg_catalog.tstzrange(b.since, b.until, '[]')) FROM rollup.lost b WHERE b.definition = d.id AND b.since IS NOT NULL) END AS missing_rows,
       rollup_internal.unwatched(d.id, d.source, needs.minds, needs.holds, (SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription_rel))) AS unwatched,
       p.partitions_until, p.partitions_error,
       expiry.error AS expiry_error,
       CASE WHEN (SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity y WHERE y.state = 'active' AND y.datname = pg_catalog.current_database() AND pg_catalog.starts_with(y.query, 'rollup.'))) THEN
         (SELECT pg_catalog.string_agg(y.query, '; ' ORDER BY y.query) FROM pg_catalog.pg_stat_activity y,
             (SELECT pg_catalog.concat('rollup.', v, ' of ', d.name) AS call FROM pg_catalog.unnest(ARRAY['run', 'rebuild', 'rebase']) v UNION ALL
              SELECT pg_catalog.format('rollup.expire of %I.%I', n.nspname, c.relname)
                FROM (VALUES (d.source::oid), (d.relation::oid) UNION ALL SELECT v.relation FROM rollup.level v WHERE v.definition = d.id) x (relation)
                JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) x.relation JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace) w
           WHERE y.state = 'active' AND y.datname = pg_catalog.current_database() AND (y.query = w.call OR pg_catalog.starts_with(y.query, w.call || ': '))) END AS progress,
       greatest(a.updated_at, expiry.last_removed) AS updated_at,
       CASE WHEN d.notify THEN rollup_internal.channel(d.name) END AS channel
  FROM rollup.definition d
  CROSS JOIN LATERAL (SELECT coalesce(rollup_internal.owner_of(d.relation, d.source), (SELECT r.oid FROM pg_catalog.pg_roles r, pg_catalog.pg_control_system() k
    WHERE r.oid OPERATOR(pg_catalog.=) d.last_owner AND k.system_identifier OPERATOR(pg_catalog.=) d.system_id)) AS owner OFFSET 0) o
  LEFT JOIN rollup.attempt a ON a.id OPERATOR(pg_catalog.=) d.id
  LEFT JOIN rollup.retention t ON t.relation OPERATOR(pg_catalog.=) d.source
  CROSS JOIN LATERAL (SELECT rollup_internal.waiting(d.id, d.source, d.plan ->> 'time_column', d.nodes IS NOT NULL, d.seen_xmax, d.seen_xip,
      d.backlog_from_xmax, d.backlog_from_xip, d.backlog_to_xmax, d.backlog_to_xip, d.backlog_cursor) AS waiting OFFSET 0) l
  LEFT JOIN (SELECT e.source, bool_or(e.on_change <> 'ignore') AS minds, bool_or(e.nodes IS NULL) AS holds,
      pg_catalog.string_agg(e.name, ', ' ORDER BY e.name) FILTER (WHERE e.state = 'paused' OR ea.failures > 0 OR e.backlog_to_xmax IS NOT NULL) AS held_by
    FROM rollup.definition e LEFT JOIN rollup.attempt ea ON ea.id OPERATOR(pg_catalog.=) e.id GROUP BY e.source) needs ON needs.source OPERATOR(pg_catalog.=) d.source
  LEFT JOIN (SELECT u.id, max(x.late_ignored) FILTER (WHERE u.own) AS late_ignored, max(x.last_removed) FILTER (WHERE u.own) AS last_removed,
      pg_catalog.string_agg(CASE WHEN x.last_error IS NOT NULL AND rollup_internal.may_read(rollup_internal.owner_of(x.relation)) THEN x.last_error END, '; ') AS error
    FROM rollup.retention x
    JOIN (SELECT f.id, f.source, false FROM rollup.definition f UNION ALL SELECT f.id, f.relation, true FROM rollup.definition f UNION ALL SELECT v.definition, v.relation, true FROM rollup.level v) u (id, relation, own)
      ON u.relation OPERATOR(pg_catalog.=) x.relation GROUP BY u.id) expiry ON expiry.id OPERATOR(pg_catalog.=) d.id
  LEFT JOIN (SELECT w.relation, pg_catalog.string_agg(DISTINCT w.who, ', ') AS writers FROM rollup_internal.writers() w GROUP BY w.relation) busy
    ON busy.relation OPERATOR(pg_catalog.=) d.source
  LEFT JOIN LATERAL (SELECT (sum(r.rows_in) / NULLIF(extract(epoch FROM sum(r.finished - r.started)), 0))::float8 AS rows_per_second
    FROM (SELECT * FROM rollup.run x WHERE x.definition = d.id AND x.error IS NULL ORDER BY x.id DESC LIMIT 10) r) speed ON true
  LEFT JOIN LATERAL (SELECT min(u.until) AS partitions_until,
      pg_catalog.string_agg(CASE WHEN (k.last_error IS NOT NULL OR u.why IS NOT NULL) AND rollup_internal.may_read(rollup_internal.owner_of(k.relation)) THEN pg_catalog.concat_ws('; ', k.last_error, u.why) END, '; ') AS partitions_error
    FROM (VALUES (d.source::oid), (d.relation::oid) UNION ALL SELECT v.relation FROM rollup.level v WHERE v.definition OPERATOR(pg_catalog.=) d.id) x (relation)
    JOIN rollup.partitioning k ON k.relation OPERATOR(pg_catalog.=) x.relation CROSS JOIN LATERAL rollup_internal.partitions_ahead(k.relation, k.timezone) u) p ON true;
COMMENT ON VIEW rollup.status IS 'One row a rollup: is it up to date, what did its last runs do, what holds it or the expiry of its source back';
COMMENT ON COLUMN rollup.status.expiry_held_by IS 'what keeps rows of the source from expiring: rollups that are paused, fail or have a backlog, and why a partition stays';
COMMENT ON COLUMN rollup.status.state IS 'active, paused, failing: its last runs failed, or gone: its table or its source was dropped, SELECT rollup.drop(name)';
COMMENT ON COLUMN rollup.status.last_error IS 'why the last run failed, or why it cannot be told how many rows wait. NULL for roles that are neither the owner nor monitor the server';
COMMENT ON COLUMN rollup.status.expiry_error IS 'why rows of the source, the rollup or a level could not expire at the last attempt; rollup.retention has the next one';
COMMENT ON COLUMN rollup.status.rows_per_second IS 'of the last ten runs together';
COMMENT ON COLUMN rollup.status.lag_seconds IS 'longest that any committed row can have been waiting: since the last run, where rows wait';
COMMENT ON COLUMN rollup.status.oldest_row IS 'least time of the rows that wait';
COMMENT ON COLUMN rollup.status.open_writers IS 'whose transactions have the source open for writing: their rows come when they end, and hold no others back';
COMMENT ON COLUMN rollup.status.held_back_by IS 'what the next run waits for: a lock on the source or a part of it; on a Citus cluster, node by node, as rollup.nodes says. NULL: nothing';
COMMENT ON COLUMN rollup.status.refused_changes IS 'times of rows that changed when their bucket could not be computed again, since raw rows of it had expired: it stays as it was. NULL for roles that may not read all rows of the source';
COMMENT ON COLUMN rollup.status.missing_rows IS 'times of raw rows that left with a partition or child which was dropped or detached: their buckets are not computed again, nor compared. NULL for roles that may not read all rows of the source';
COMMENT ON COLUMN rollup.status.left_out IS 'rows that came in another way with stamps of rows that are rolled up, of which it could not be told whether they were counted: they were not counted again; rollup.rebuild takes them in';
COMMENT ON COLUMN rollup.status.unwatched IS 'triggers that are missing or switched off, without which changes of raw rows are not seen; the next run puts them right, and takes in what was changed where the rollup follows changes. Also tables without the index that tells of rows that come in another way, and that the source has become a partition';
COMMENT ON COLUMN rollup.status.progress IS 'what is under way, run, rebuild or expiry, and how far, as far as pg_stat_activity tells the caller';
COMMENT ON COLUMN rollup.status.updated_at IS 'when rows of the rollup or a level last changed: by a run, rollup.rebuild or expiry. It grows with every such transaction that commits';
COMMENT ON COLUMN rollup.status.channel IS 'where it sends a notification when it has changed: LISTEN to it, in double quotes. NULL: made without notify';
COMMENT ON COLUMN rollup.status.partitions_error IS 'why a partition could not be made, or why it cannot be told up to when there are some';
COMMENT ON COLUMN rollup.status.partitions_until IS 'up to when rows find a partition in the source and the tables of the rollup, of those that rollup.partition keeps ahead';
COMMENT ON COLUMN rollup.status.long_keys IS 'raw rows that are left out: a group key of theirs is too long for the index';
COMMENT ON COLUMN rollup.status.rewritten IS 'queries over the source that were answered from the rollup, by rollup.rewrite, since the server was started; NULL where the library is not in shared_preload_libraries';
COMMENT ON COLUMN rollup.status.late_ignored IS 'raw rows that came after their bucket, in the rollup or a level, had expired; what they make expires in turn';
GRANT SELECT ON rollup.status TO PUBLIC;

CREATE VIEW rollup.history AS
SELECT d.name, r.started, r.finished, r.finished - r.started AS duration, r.rows_in, r.groups,
       CASE WHEN rollup_internal.may_read(rollup_internal.owner_of(d.relation, d.source)) THEN r.error END AS error
  FROM rollup.run r JOIN rollup.definition d ON d.id OPERATOR(pg_catalog.=) r.definition;
COMMENT ON VIEW rollup.history IS 'Runs that merged rows or failed, the newest rollup.history_keep of each rollup';
GRANT SELECT ON rollup.history TO PUBLIC;

CREATE VIEW rollup.metrics AS
SELECT m.name, pg_catalog.jsonb_build_object('rollup', s.name, 'source', s.source::text) AS labels, m.value
  FROM rollup.status s CROSS JOIN LATERAL (VALUES
    ('rollup_rows_total', s.rows_total::float8), ('rollup_runs_total', s.runs::float8), ('rollup_failures_total', s.failed::float8),
    ('rollup_lag_rows', s.lag_rows::float8), ('rollup_lag_seconds', s.lag_seconds), ('rollup_rows_per_second', s.rows_per_second),
    ('rollup_backlog_rows', coalesce(s.backlog_rows - s.backlog_done, 0)::float8),
    ('rollup_paused', (s.state = 'paused')::int::float8), ('rollup_failing', (s.state = 'failing')::int::float8),
    ('rollup_late_ignored_total', s.late_ignored::float8), ('rollup_rewritten_queries_total', s.rewritten::float8)) m(name, value)
 WHERE m.value IS NOT NULL
UNION ALL
SELECT m.name, pg_catalog.jsonb_build_object('relation', t.relation::text), m.value
  FROM rollup.retention t CROSS JOIN LATERAL (VALUES
    ('rollup_expired_rows_total', t.removed::float8), ('rollup_dropped_partitions_total', t.dropped::float8)) m(name, value)
UNION ALL
SELECT m.name, pg_catalog.jsonb_build_object('relation', k.relation::text), m.value
  FROM rollup.partitioning k JOIN pg_catalog.pg_class c ON c.oid = k.relation CROSS JOIN LATERAL (VALUES
    -- Without an upper bound, for ever.
    ('rollup_partitions_ahead_seconds', (SELECT CASE WHEN pg_catalog.isfinite(u.until) THEN extract(epoch FROM u.until - pg_catalog.now())::float8
      WHEN u.until IS NOT NULL THEN 'Infinity'::float8 END FROM rollup_internal.partitions_ahead(k.relation, k.timezone) u)),
    ('rollup_moved_rows_total', k.moved::float8)) m(name, value)
 WHERE m.value IS NOT NULL;
COMMENT ON VIEW rollup.metrics IS 'Counters and gauges for a scraper: a name, labels, and a value';
GRANT SELECT ON rollup.metrics TO PUBLIC;
