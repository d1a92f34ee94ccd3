\set VERBOSITY terse
\pset format unaligned
\pset tuples_only
-- times at the ends of their types, which whoever may insert can write, stop nothing: each is in its bucket where the query itself has one,
-- else in that of the infinity next to it
SET client_min_messages = warning;
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN EXECUTE statement INTO result; RETURN result; EXCEPTION WHEN OTHERS THEN RETURN SQLERRM; END $$;
CREATE TABLE problem (at_type text, zone text, bucket text, level text, on_change text, time text, what text, got text);
CREATE TABLE tried (what text);
CREATE PROCEDURE extremes(at_type text, zone text, bucket text, width text, unit text, on_change text) LANGUAGE plpgsql AS $$
DECLARE query text; coarse text; moment text; seen text; wanted text; infinite text; level text;
BEGIN
  EXECUTE format('CREATE TABLE x (at %s, v int)', at_type);
  query := format('SELECT %s AS at, count(*) AS n FROM x GROUP BY 1', bucket);
  PERFORM rollup.create('x_r', query, every => NULL, timezone => zone, on_change => on_change, coarser => jsonb_build_object('x_l', width));
  coarse := format('SELECT %s AS at, count(*) AS n FROM x GROUP BY 1', CASE at_type WHEN 'timestamptz' THEN format('date_trunc(%L, at, %L)', unit, zone)
    WHEN 'date' THEN format('date_trunc(%L, at::timestamp)::date', unit) ELSE format('date_trunc(%L, at)', unit) END);
  INSERT INTO x VALUES ('2026-01-01', 1);
  COMMIT;
  PERFORM rollup.run('x');
  FOREACH moment IN ARRAY ARRAY['infinity', '-infinity', '294276-12-31 23:59:59.999999', '294276-12-31 18:29', '294276-12-31', '292278-06-07 08:09',
    '292271-01-01', '4714-11-24 00:00:00 BC', '4714-11-24 12:00:00 BC', '4714-12-31 BC', '4713-01-01 BC', '0001-01-01 00:00:00', NULL, '5874897-12-31', '2000000-01-01', '294277-01-01'] LOOP
    -- those that the type itself refuses, in this zone
    CONTINUE WHEN moment IS NOT NULL AND try(format('SELECT %L::%s', moment, at_type)) ~ 'out of range';
    EXECUTE format('INSERT INTO x VALUES (%L, 2)', moment);
    COMMIT;
    INSERT INTO tried VALUES (moment);
    infinite := CASE WHEN moment LIKE '%BC' THEN '-infinity' ELSE 'infinity' END;
    FOR i IN 1..4 LOOP
      -- before the run, after it; before and after the run that follows an update
      FOR level, wanted IN VALUES ('x_r', query), ('x_l', coarse) LOOP
        seen := try(format('SELECT string_agg(n || '' '' || coalesce(at::text, ''-''), '', '' ORDER BY at) FROM %s%s', level, CASE WHEN i IN (1, 3) THEN '_live' END));
        wanted := try(format('SELECT string_agg(n || '' '' || coalesce(at::text, ''-''), '', '' ORDER BY at) FROM (%s) q', wanted));
        IF wanted ~ 'out of range' THEN
          wanted := (SELECT CASE infinite WHEN 'infinity' THEN other || ', 1 infinity' ELSE '1 -infinity, ' || other END
            FROM try(format('SELECT string_agg(n || '' '' || at, '''') FROM %s WHERE at BETWEEN ''2025-01-01'' AND ''2027-01-01''', level)) other);
        END IF;
        IF seen IS DISTINCT FROM wanted THEN
          INSERT INTO problem VALUES (at_type, zone, bucket, width, on_change, moment, level || ' ' || i, seen || ' is not ' || wanted);
        END IF;
      END LOOP;
      IF i IN (1, 3) THEN
        seen := try('SELECT rollup.run(''x'')');
        IF seen NOT IN ('0', '1') THEN INSERT INTO problem VALUES (at_type, zone, bucket, width, on_change, moment, 'run ' || i, seen); END IF;
      ELSIF i = 2 THEN
        seen := try('SELECT count(*) FROM rollup.check(''x_r'')') || try('SELECT count(*) FROM (SELECT lag_rows, oldest_row FROM rollup.status) s');
        IF seen <> '01' THEN INSERT INTO problem VALUES (at_type, zone, bucket, width, on_change, moment, 'check, status', seen); END IF;
        UPDATE x SET v = 3 WHERE v = 2;
        COMMIT;
      END IF;
    END LOOP;
    seen := try('SELECT rollup.rebuild(''x_r'')');
    IF seen <> '2' THEN INSERT INTO problem VALUES (at_type, zone, bucket, width, on_change, moment, 'rebuild', seen); END IF;
    DELETE FROM x WHERE v > 1;
    COMMIT;
    seen := try('SELECT rollup.run(''x'')') || try('SELECT rollup.rebuild(''x_r'')');
    IF seen <> '01' THEN INSERT INTO problem VALUES (at_type, zone, bucket, width, on_change, moment, 'after', seen); END IF;
  END LOOP;
  PERFORM rollup.drop('x_r');
  DROP TABLE x;
END $$;
DO $$
DECLARE kind text; zone text; bucket text; level text[]; on_change text;
BEGIN
  FOREACH kind IN ARRAY ARRAY['timestamptz', 'timestamp', 'date'] LOOP
    FOREACH zone IN ARRAY ARRAY['UTC', 'Asia/Kolkata', 'America/New_York'] LOOP
      FOREACH on_change IN ARRAY ARRAY['ignore', 'recompute'] LOOP
        FOREACH level SLICE 1 IN ARRAY ARRAY[['1 day', 'day'], ['7 days', 'week'], ['3 months', 'quarter']] LOOP
          CONTINUE WHEN kind = 'date' AND level[2] = 'day' OR on_change = 'ignore' AND level[2] = 'quarter';
          bucket := CASE kind WHEN 'date' THEN 'at' ELSE 'date_trunc(''hour'', at)' END;
          EXECUTE format('SET timezone = %L', zone);
          CALL extremes(kind, zone, bucket, level[1], level[2], on_change);
        END LOOP;
      END LOOP;
    END LOOP;
  END LOOP;
END $$;
RESET timezone;
SELECT count(*) > 400 AS all_tried FROM tried;
SELECT * FROM problem;
-- stamps that no transaction gave
CREATE TABLE y (at timestamptz, v int);
SELECT rollup.create('y_r', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM y GROUP BY 1', every => NULL) IS NOT NULL AS made;
INSERT INTO y VALUES ('2026-01-01', 1);
SELECT rollup_y();
DROP INDEX y_at_rollup_stamp_idx;
INSERT INTO y (at, v, rollup_stamp) VALUES ('2026-01-01', 1, 9223372036854775807), ('2026-01-01', 1, -5), ('2026-01-01', 1, 0), ('2026-01-01', 1, 3000000000000000000);
SELECT rollup_y();
SELECT rollup.rebase('y');
SELECT stamp_offset > 0 AND stamp_offset < 1::int8 << 60 AS there_is_room FROM rollup.source WHERE relation = 'y'::regclass;
INSERT INTO y VALUES ('2026-01-01', 1);
SELECT rollup_y();
SELECT rollup.rebase('y');
INSERT INTO y VALUES ('2026-01-01', 1);
SELECT rollup_y();
SELECT n FROM y_r;
SELECT lag_rows FROM rollup.status;
