-- series for charts

CREATE FUNCTION rollup.buckets("from" timestamptz, "to" timestamptz, width interval, timezone text DEFAULT pg_catalog.current_setting('TimeZone'))
RETURNS SETOF timestamptz
AS 'MODULE_PATHNAME', 'rollup_buckets_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED ROWS 500;
COMMENT ON FUNCTION rollup.buckets(timestamptz, timestamptz, interval, text) IS
'Beginnings of the buckets of this width that have a part of the time from FROM to before TO, in order: the buckets of a level of the same width in the same time zone, days and hours right where clocks change. No rows where TO is not later than FROM, or an argument is NULL; SQLSTATE 22023 for a width that no level can have, or a moment without end, 54000 for more than 10 million buckets';

CREATE FUNCTION rollup.locf(value anyelement) RETURNS anyelement
AS 'MODULE_PATHNAME', 'rollup_locf' LANGUAGE c IMMUTABLE WINDOW CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup.locf(anyelement) IS
'Window function: the value of this row, or of the last row of the partition before it that has one (last observation carried forward); NULL before the first value';

CREATE FUNCTION rollup.interpolate(value double precision, at timestamptz) RETURNS double precision
AS 'MODULE_PATHNAME', 'rollup_interpolate' LANGUAGE c IMMUTABLE WINDOW CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup.interpolate(double precision, timestamptz) IS
'Window function: the value of this row, or where it is NULL the one at this time on the line between the rows of the partition before and after it that have a value; NULL before the first value, after the last, and where a time is NULL or infinite';
CREATE FUNCTION rollup.interpolate(value double precision, at timestamp) RETURNS double precision
AS 'MODULE_PATHNAME', 'rollup_interpolate' LANGUAGE c IMMUTABLE WINDOW CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup.interpolate(double precision, timestamp) IS
'Window function: the value of this row, or where it is NULL the one at this time on the line between the rows of the partition before and after it that have a value; NULL before the first value, after the last, and where a time is NULL or infinite';

CREATE FUNCTION rollup_internal.interpolate(value double precision, at timestamptz, plain anyelement) RETURNS double precision
AS 'MODULE_PATHNAME', 'rollup_interpolate' LANGUAGE c IMMUTABLE WINDOW CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.interpolate(double precision, timestamptz, anyelement) IS
'For rollup.series: what rollup.interpolate gives where PLAIN, the value as it is stored, is NULL; else any value, since VALUE is not computed then';
CREATE FUNCTION rollup_internal.interpolate(value double precision, at timestamp, plain anyelement) RETURNS double precision
AS 'MODULE_PATHNAME', 'rollup_interpolate' LANGUAGE c IMMUTABLE WINDOW CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.interpolate(double precision, timestamp, anyelement) IS
'The same for times without time zone';

CREATE FUNCTION rollup.series(live anyelement, "from" timestamptz, "to" timestamptz, points int DEFAULT 300, fill text DEFAULT 'null')
RETURNS SETOF anyelement
AS 'MODULE_PATHNAME', 'rollup_series' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION rollup.series(anyelement, timestamptz, timestamptz, int, text) IS
'Rows of a live view of a rollup, for a chart: of the time from FROM to before TO, in buckets of the coarsest level with at least POINTS of them (the rollup''s own where none has so many, a coarser one''s where those have expired), in the order of time. LIVE is NULL of the view''s type, as in NULL::name_live. A bucket at an end has what the rollup''s own buckets that begin in that time have, the one with FROM too; on Citus, and where those have expired, the whole bucket of the level. FILL says what stands in buckets without rows, for each series of other keys that has a row at all: ''null'', ''zero'' in counts and sums and NULL elsewhere, ''last'' for what the bucket before has, ''linear'' for numbers on the line between the buckets before and after, ''none'' for no such buckets. NULL for POINTS or FILL is the default. No rows where TO is not later than FROM or one is NULL. Needs SELECT on the view. SQLSTATE 42809 for another type, 22023 for an unknown FILL, POINTS below 1, a moment without end, or buckets to fill of a function that is not known, 54000 for more than 10 million buckets';
