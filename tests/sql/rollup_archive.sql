-- Archive before drop: partitions are detached, handed to a function, and dropped once that has returned.
CREATE TABLE event (at timestamptz NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01+00') TO ('2026-01-02+00');
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2026-01-02+00') TO ('2026-01-03+00');
CREATE TABLE event_3 PARTITION OF event FOR VALUES FROM ('2026-01-03+00') TO ('2026-01-04+00');
CREATE TABLE event_new PARTITION OF event FOR VALUES FROM ('2026-01-04+00') TO ('9999-01-01+00');
CREATE TABLE event_rest PARTITION OF event DEFAULT;
INSERT INTO event SELECT timestamptz '2026-01-01+00' + g * interval '1 hour', g FROM generate_series(0, 79) g;
INSERT INTO event VALUES ('2020-01-01+00', 1000);
SELECT rollup.create('by_day', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => NULL) > 0 AS made;
CREATE SCHEMA archive;
-- By copies.
CREATE FUNCTION archive.copied(partition regclass) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('CREATE TABLE archive.%I AS TABLE %s', (SELECT relname FROM pg_class WHERE oid = partition), partition);
END $$;
SELECT rollup.retain('event', '30 days', archive => 'archive.copied');
SELECT relation, keep, archive FROM rollup.retention;
-- What is not counted stays.
SELECT rollup.expire('event');
SELECT rollup_event();
SELECT rollup.expire('event', dry_run => true);
SELECT rollup.expire('event');
SELECT relname, (SELECT count(*) FROM archive.event_1) AS rows, (SELECT max(n) FROM archive.event_3) AS last FROM pg_class WHERE relnamespace = 'archive'::regnamespace ORDER BY 1;
SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'event'::regclass ORDER BY 1;
-- Rows of a partition that stays, and of the default one, go with it alone.
SELECT count(*), min(n), max(n) FROM event;
SELECT removed, dropped FROM rollup.retention;
SELECT (SELECT sum(n) FROM by_day) AS stored, (SELECT sum(n) FROM by_day_live) AS live;
SELECT count(*) AS differences FROM rollup.check('by_day');
SELECT count(*) AS lost FROM rollup.lost;
TABLE rollup.archiving;
SELECT missing_rows, expiry_error FROM rollup.status;
-- By moving the table: it stays where it was put.
CREATE FUNCTION archive.moved(partition regclass) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('ALTER TABLE %s SET SCHEMA archive', partition);
  RETURN 'moved';
END $$;
CREATE TABLE event_0 PARTITION OF event FOR VALUES FROM ('2025-12-31+00') TO ('2026-01-01+00');
INSERT INTO event VALUES ('2025-12-31 12:00+00', -1);
SELECT rollup_event();
SELECT rollup.retain('event', '30 days', archive => 'archive.moved');
SELECT rollup.expire('event');
SELECT count(*) FROM archive.event_0;
-- A failure holds expiry: no other partition is detached, and it goes on from there.
CREATE TABLE event_m1 PARTITION OF event FOR VALUES FROM ('2025-12-29+00') TO ('2025-12-30+00');
CREATE TABLE event_m0 PARTITION OF event FOR VALUES FROM ('2025-12-30+00') TO ('2025-12-31+00');
INSERT INTO event VALUES ('2025-12-29 12:00+00', -3), ('2025-12-30 12:00+00', -2);
SELECT rollup_event();
CREATE FUNCTION archive.fails(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$;
SELECT rollup.retain('event', '30 days', archive => 'archive.fails');
SELECT rollup.expire('event');
SELECT count(*) FROM event WHERE n < 0;
CREATE FUNCTION archive.attaches(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE format('ALTER TABLE public.event ATTACH PARTITION %s FOR VALUES FROM (''2025-12-29+00'') TO (''2025-12-30+00'')', partition); END $$;
SELECT rollup.retain('event', '30 days', archive => 'archive.attaches');
SELECT rollup.expire('event');
CREATE FUNCTION archive.calls(partition regclass) RETURNS bigint LANGUAGE sql AS $$ SELECT rollup.expire('public.event') $$;
SELECT rollup.retain('event', '30 days', archive => 'archive.calls');
SELECT rollup.expire('event');
-- One that drops the table itself; and one that nobody names any more.
CREATE FUNCTION archive.drops(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('DROP TABLE %s', partition); END $$;
SELECT rollup.retain('event', '30 days', archive => 'archive.drops');
DROP FUNCTION archive.drops(regclass);
SELECT rollup.expire('event');
CREATE FUNCTION archive.drops(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('DROP TABLE %s', partition); END $$;
SELECT rollup.expire('event');
SELECT count(*) AS negative FROM event WHERE n < 0;
SELECT sum(n) AS stored FROM by_day;
-- It runs restricted, as the owner of the table, who may be another than the caller.
CREATE ROLE keeper_of_archive;
CREATE ROLE other_of_archive;
GRANT CREATE, USAGE ON SCHEMA public, archive TO keeper_of_archive, other_of_archive;
ALTER TABLE event OWNER TO keeper_of_archive; ALTER TABLE event_new OWNER TO keeper_of_archive; ALTER TABLE event_rest OWNER TO keeper_of_archive; ALTER TABLE by_day OWNER TO keeper_of_archive;
CREATE TABLE archive.who (who name, path text); GRANT INSERT ON archive.who TO PUBLIC;
SET ROLE keeper_of_archive;
CREATE FUNCTION archive.noted(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO archive.who VALUES (current_user, current_setting('search_path')); END $$;
CREATE FUNCTION archive.temporary(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE t (); END $$;
CREATE TABLE event_m2 PARTITION OF event FOR VALUES FROM ('2025-12-28+00') TO ('2025-12-29+00');
INSERT INTO event VALUES ('2025-12-28 12:00+00', -4);
RESET ROLE;
SELECT rollup.run('event');
SELECT rollup.retain('event', '30 days', archive => 'archive.temporary');
SELECT rollup.expire('event');
SELECT rollup.retain('event', '30 days', archive => 'archive.noted');
SELECT rollup.expire('event');
TABLE archive.who;
-- Functions of others are not called, nor what is none.
SET ROLE other_of_archive;
CREATE FUNCTION archive.evil(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT rollup.retain('event', '30 days', archive => 'archive.evil');
RESET ROLE;
SELECT rollup.retain('event', '30 days', archive => 'archive.evil');
REVOKE EXECUTE ON FUNCTION archive.moved(regclass) FROM PUBLIC;
SELECT rollup.retain('event', '30 days', archive => 'archive.moved');
SELECT rollup.retain('event', '30 days', archive => 'now');
SELECT rollup.retain('event', '30 days', archive => 0);
SELECT rollup.retain('event', '30 days', archive => 'no such');
SELECT rollup.retain('by_day', '30 days', archive => 'archive.noted');
-- The one that was named belongs to somebody else by now.
ALTER FUNCTION archive.noted(regclass) OWNER TO other_of_archive;
SET ROLE keeper_of_archive; CREATE TABLE event_m3 PARTITION OF event FOR VALUES FROM ('2025-12-27+00') TO ('2025-12-28+00'); RESET ROLE;
SELECT rollup.expire('event');
-- Without one partitions are dropped as ever.
SELECT rollup.retain('event', '30 days');
SELECT rollup.expire('event') >= 0 AS expired;
SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'event'::regclass ORDER BY 1;
SET client_min_messages = error;
SELECT rollup.drop('by_day');
DROP TABLE event CASCADE;
SELECT count(*) AS retentions FROM rollup.retention;
DROP SCHEMA archive CASCADE;
DROP OWNED BY keeper_of_archive, other_of_archive;
DROP ROLE keeper_of_archive, other_of_archive;
