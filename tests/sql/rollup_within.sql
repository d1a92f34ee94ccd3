\set VERBOSITY terse
-- what computes a rollup, called by what the rollup itself runs: rows would be merged twice, and neither would know of the other
SET timezone = 'UTC';
CREATE TABLE event (at timestamptz NOT NULL, v int);
CREATE TABLE call (sql text);
CREATE FUNCTION calls() RETURNS bool LANGUAGE plpgsql AS $$ DECLARE c text; BEGIN
  FOR c IN SELECT sql FROM public.call LOOP
    BEGIN EXECUTE c; EXCEPTION WHEN object_in_use THEN RAISE NOTICE '%: %', c, sqlerrm; DELETE FROM public.call; END;
  END LOOP; RETURN true; END $$;
CREATE FUNCTION of_row(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.calls(); END $$;
CREATE FUNCTION of_group() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.calls(); RETURN NEW; END $$;
SELECT rollup.create('hours', $$SELECT date_trunc('hour', at) AS at, count(*) AS n, sum(v) AS v FROM event WHERE of_row(v) GROUP BY 1$$, every => NULL, on_change => 'recompute', coarser => '{"days": "1 day"}') IS NOT NULL AS made;
CREATE PROCEDURE tries(sql text) LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO call VALUES (sql);
  INSERT INTO event VALUES ('2026-01-01 05:00', 1), ('2026-01-02 06:00', 1);
  COMMIT;
  PERFORM rollup.run('public.event');
  DELETE FROM call;
  COMMIT;
  PERFORM rollup.run('public.event');
  RAISE NOTICE '% rows, % counted, % by day, % differences', (SELECT count(*) FROM event), (SELECT sum(n) FROM hours), (SELECT sum(n) FROM days), (SELECT count(*) FROM rollup.check('hours'));
END $$;
CALL tries('SELECT rollup.run(''public.event'')');
CALL tries('SELECT public.rollup_event()');
CALL tries('SELECT rollup.rebuild(''hours'')');
CALL tries('SELECT rollup.add_column(''hours'', ''most'', ''max(v)'')');
-- by a trigger, and while groups are computed again
CREATE TRIGGER groups BEFORE INSERT OR UPDATE ON hours FOR EACH ROW EXECUTE FUNCTION of_group();
CALL tries('SELECT rollup.run(''public.event'')');
INSERT INTO call VALUES ('SELECT rollup.run(''public.event'')');
SELECT rollup.rebuild('hours') AS groups;
SELECT count(*) AS differences FROM rollup.check('hours');
-- of another rollup it is nobody's business
DROP TRIGGER groups ON hours;
CREATE TABLE other (at timestamptz NOT NULL);
SELECT rollup.create('others', $$SELECT date_trunc('hour', at) AS at, count(*) AS n FROM other GROUP BY 1$$, every => NULL) IS NOT NULL AS made;
INSERT INTO other VALUES ('2026-01-01');
CALL tries('SELECT rollup.run(''public.other'')');
SELECT n FROM others;
DELETE FROM call;
SELECT rollup.drop('hours'), rollup.drop('others');
DROP TABLE event, other, call;
DROP PROCEDURE tries;
DROP FUNCTION of_row, of_group, calls;
