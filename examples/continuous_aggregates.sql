-- Writes the rollup.create calls for the continuous aggregates of this database, and rollup.retain for their policies: what
-- is printed runs in a database that has extension hll and the tables. docs/migrating-from-continuous-aggregates.md explains.
--   psql -X -q -At -d DATABASE -f continuous_aggregates.sql > rollups.sql
-- It reads timescaledb_information alone, and changes nothing: its functions are temporary. What has no counterpart is printed as a
-- comment that says why.
\set ON_ERROR_STOP on
SET search_path = pg_catalog, pg_temp;
SET IntervalStyle = postgres;
SET DateStyle = 'ISO, MDY';
SET TimeZone = 'UTC';

-- The arguments of a call whose parenthesis opens at AT, and where the call ends.
CREATE FUNCTION pg_temp.arguments(query text, at int, OUT args text[], OUT ends int) LANGUAGE plpgsql AS $$
DECLARE depth int := 0; quoted text; here text; part text := '';
BEGIN
  args := '{}';
  FOR i IN at..length(query) LOOP
    here := substr(query, i, 1);
    IF quoted IS NOT NULL THEN
      part := part || here;
      IF here = quoted THEN quoted := NULL; END IF;
    ELSIF here IN ('''', '"') THEN
      quoted := here; part := part || here;
    ELSIF here IN ('(', '[') THEN
      depth := depth + 1;
      IF depth > 1 THEN part := part || here; END IF;
    ELSIF here IN (')', ']') THEN
      depth := depth - 1;
      IF depth = 0 THEN
        args := args || btrim(part); ends := i;
        RETURN;
      END IF;
      part := part || here;
    ELSIF here = ',' AND depth = 1 THEN
      args := args || btrim(part); part := '';
    ELSE
      part := part || here;
    END IF;
  END LOOP;
  RAISE EXCEPTION 'a call does not end: %', substr(query, at);
END $$;

-- The value of a literal with its type, as deparsed queries have them.
CREATE FUNCTION pg_temp.literal(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE value text;
BEGIN
  IF expression !~ '^''([^'']|'''')*''(::[a-z ]+(\(\d\))?)?$' THEN
    RAISE EXCEPTION '% is no constant', expression;
  END IF;
  EXECUTE 'SELECT (' || expression || ')::text' INTO value;
  RETURN value;
END $$;

-- What stands for a call of time_bucket over a column of type KIND, and the time zone of its buckets.
CREATE FUNCTION pg_temp.bucket(args text[], kind text, OUT expression text, OUT zone text) LANGUAGE plpgsql AS $$
DECLARE width interval; at text := args[2]; origin text; shift text; unit text; named text[]; value text;
BEGIN
  IF args[1] !~ '::interval$' THEN
    RAISE EXCEPTION 'buckets of % are no time: a rollup needs a date or a time', args[1];
  END IF;
  width := pg_temp.literal(args[1]);
  FOREACH value IN ARRAY args[3:] LOOP
    named := regexp_match(value, '^"?(timezone|origin|offset)"? (?:=>|:=) (.*)$');
    value := coalesce(named[2], value);
    CONTINUE WHEN value ~ '^NULL';
    IF named[1] = 'timezone' OR named IS NULL AND value ~ '::text$' THEN
      zone := pg_temp.literal(value);
    ELSIF named[1] = 'offset' OR named IS NULL AND value ~ '::interval$' THEN
      shift := pg_temp.literal(value);
    ELSE
      origin := pg_temp.literal(value);
    END IF;
  END LOOP;
  unit := CASE width WHEN '1 second' THEN 'second' WHEN '1 minute' THEN 'minute' WHEN '1 hour' THEN 'hour' WHEN '1 day' THEN 'day'
    WHEN '7 days' THEN 'week' WHEN '1 month' THEN 'month' WHEN '3 months' THEN 'quarter' WHEN '1 year' THEN 'year' END;
  -- '30 days' equals '1 month' where intervals are compared.
  IF unit IN ('month', 'quarter', 'year') AND extract(year FROM width) * 12 + extract(month FROM width) = 0 THEN
    unit := NULL;
  END IF;
  IF kind = 'date' THEN
    at := at || '::timestamp without time zone';
    kind := 'timestamp without time zone';
  END IF;
  IF unit IS NOT NULL AND origin IS NULL AND shift IS NULL THEN
    -- Those of TimescaleDB begin at midnight of a Monday, or of a first of January.
    expression := format('date_trunc(%L, %s)', unit, at);
    RETURN;
  END IF;
  IF extract(year FROM width) * 12 + extract(month FROM width) > 0 THEN
    RAISE EXCEPTION 'buckets of % with an origin, or of other months than 1, 3 or 12, cannot be told', width;
  END IF;
  IF zone IS NOT NULL AND upper(zone) <> 'UTC' THEN
    RAISE EXCEPTION 'buckets of % by the clock of % are no multiple of a fixed time', width, zone;
  END IF;
  EXECUTE format('SELECT (%L::%s + %L::interval)::text', coalesce(origin, '2000-01-03 00:00:00+00'), kind, coalesce(shift, '0')) INTO origin;
  expression := format('date_bin(%L, %s, %L::%s)', width, at, origin, kind);
END $$;

-- The query with the calls exchanged, and the time zone.
CREATE FUNCTION pg_temp.translated(definition text, kind text, OUT query text, OUT zone text) LANGUAGE plpgsql AS $$
DECLARE found text[]; at int; call record; b record; head text;
BEGIN
  query := '';
  definition := rtrim(btrim(definition), ';');
  zone := 'UTC';
  LOOP
    found := regexp_match(definition, '^(.*?)(?:\m\w+\.)?\mtime_bucket\(', 's');
    EXIT WHEN found IS NULL;
    at := length((regexp_match(definition, '^(.*?(?:\m\w+\.)?\mtime_bucket)\(', 's'))[1]) + 1;
    call := pg_temp.arguments(definition, at);
    b := pg_temp.bucket(call.args, kind);
    zone := coalesce(b.zone, zone);
    query := query || found[1] || b.expression;
    definition := substr(definition, call.ends + 1);
  END LOOP;
  query := query || definition;
  -- Aggregates of TimescaleDB that rollups have under another name.
  query := regexp_replace(query, '(?:\m\w+\.)?\m(first|last)\(', 'rollup.\1(', 'g');
  IF query ~ '\mtime_bucket' THEN
    RAISE EXCEPTION 'time_bucket_gapfill and time_bucket_ng have no counterpart in a rollup: fill gaps where it is read';
  END IF;
END $$;

CREATE FUNCTION pg_temp.call(a record) RETURNS text LANGUAGE plpgsql AS $$
DECLARE t record; kind text; every text; above text;
BEGIN
  SELECT format('%I.%I', v.view_schema, v.view_name) INTO above FROM timescaledb_information.continuous_aggregates v
   WHERE (v.materialization_hypertable_schema, v.materialization_hypertable_name) = (a.hypertable_schema, a.hypertable_name)
      OR (v.view_schema, v.view_name) = (a.hypertable_schema, a.hypertable_name) LIMIT 1;
  IF above IS NOT NULL THEN
    RETURN format(E'-- %I.%I is over %s, which is a level of it where their groups are the same otherwise:\n-- SELECT rollup.add_level(%L, %L, ''its width'', if_not_exists => true);',
      a.view_schema, a.view_name, above, above, format('%I.%I', a.view_schema, a.view_name));
  END IF;
  SELECT d.column_type::text INTO kind FROM timescaledb_information.dimensions d
   WHERE (d.hypertable_schema, d.hypertable_name) = (a.hypertable_schema, a.hypertable_name) AND d.dimension_number = 1;
  SELECT j.schedule_interval::text INTO every FROM timescaledb_information.jobs j
   WHERE j.proc_name = 'policy_refresh_continuous_aggregate' AND (j.hypertable_schema, j.hypertable_name) IN ((a.materialization_hypertable_schema, a.materialization_hypertable_name), (a.view_schema, a.view_name)) LIMIT 1;
  t := pg_temp.translated(a.view_definition, coalesce(kind, 'timestamp with time zone'));
  RETURN format(E'SELECT rollup.create(%L, %L,\n  every => %L, timezone => %L, if_not_exists => true);', format('%I.%I', a.view_schema, a.view_name), t.query, coalesce(every, '10 seconds'), t.zone);
EXCEPTION WHEN raise_exception OR data_exception OR syntax_error_or_access_rule_violation THEN
  RETURN format('-- %I.%I is left out: %s', a.view_schema, a.view_name, replace(SQLERRM, E'\n', ' '));
END $$;

SELECT pg_temp.call(a) FROM timescaledb_information.continuous_aggregates a ORDER BY a.view_schema, a.view_name;

SELECT format('SELECT rollup.retain(%L, %L);', format('%I.%I', coalesce(v.view_schema, j.hypertable_schema), coalesce(v.view_name, j.hypertable_name)), j.config ->> 'drop_after')
  FROM timescaledb_information.jobs j
  LEFT JOIN timescaledb_information.continuous_aggregates v ON (v.materialization_hypertable_schema, v.materialization_hypertable_name) = (j.hypertable_schema, j.hypertable_name)
 WHERE j.proc_name = 'policy_retention' AND (v.view_name IS NOT NULL OR EXISTS (
   SELECT FROM timescaledb_information.continuous_aggregates o WHERE (o.hypertable_schema, o.hypertable_name) = (j.hypertable_schema, j.hypertable_name)))
 ORDER BY 1;
