-- the index of rolled-up tables

CREATE FUNCTION rollup_internal.zonemap_handler(internal) RETURNS index_am_handler
AS 'MODULE_PATHNAME', 'rollup_zonemap_handler' LANGUAGE c VOLATILE STRICT;
COMMENT ON FUNCTION rollup_internal.zonemap_handler(internal) IS 'Access method rollup_zonemap, as PostgreSQL asks for it; not to be called';

CREATE ACCESS METHOD rollup_zonemap TYPE INDEX HANDLER rollup_internal.zonemap_handler;
COMMENT ON ACCESS METHOD rollup_zonemap IS 'For each 32 pages of a table the least and the greatest value of columns of types bigint, timestamptz, timestamp and date. rollup.create makes such an index; VACUUM and runs of rollups keep it short';

CREATE OPERATOR FAMILY rollup.integer_zone_ops USING rollup_zonemap;
CREATE OPERATOR CLASS rollup.int8_zone_ops DEFAULT FOR TYPE bigint USING rollup_zonemap FAMILY rollup.integer_zone_ops AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >;
ALTER OPERATOR FAMILY rollup.integer_zone_ops USING rollup_zonemap ADD
  OPERATOR 1 <  (bigint, integer), OPERATOR 2 <= (bigint, integer), OPERATOR 3 = (bigint, integer),
  OPERATOR 4 >= (bigint, integer), OPERATOR 5 >  (bigint, integer);

CREATE OPERATOR FAMILY rollup.time_zone_ops USING rollup_zonemap;
CREATE OPERATOR CLASS rollup.timestamptz_zone_ops DEFAULT FOR TYPE timestamptz USING rollup_zonemap FAMILY rollup.time_zone_ops AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >;
CREATE OPERATOR CLASS rollup.timestamp_zone_ops DEFAULT FOR TYPE timestamp USING rollup_zonemap FAMILY rollup.time_zone_ops AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >;
CREATE OPERATOR CLASS rollup.date_zone_ops DEFAULT FOR TYPE date USING rollup_zonemap FAMILY rollup.time_zone_ops AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >;
ALTER OPERATOR FAMILY rollup.time_zone_ops USING rollup_zonemap ADD
  OPERATOR 1 <  (timestamptz, timestamp), OPERATOR 2 <= (timestamptz, timestamp), OPERATOR 3 = (timestamptz, timestamp),
  OPERATOR 4 >= (timestamptz, timestamp), OPERATOR 5 >  (timestamptz, timestamp),
  OPERATOR 1 <  (timestamptz, date), OPERATOR 2 <= (timestamptz, date), OPERATOR 3 = (timestamptz, date),
  OPERATOR 4 >= (timestamptz, date), OPERATOR 5 >  (timestamptz, date),
  OPERATOR 1 <  (timestamp, timestamptz), OPERATOR 2 <= (timestamp, timestamptz), OPERATOR 3 = (timestamp, timestamptz),
  OPERATOR 4 >= (timestamp, timestamptz), OPERATOR 5 >  (timestamp, timestamptz),
  OPERATOR 1 <  (timestamp, date), OPERATOR 2 <= (timestamp, date), OPERATOR 3 = (timestamp, date),
  OPERATOR 4 >= (timestamp, date), OPERATOR 5 >  (timestamp, date),
  OPERATOR 1 <  (date, timestamptz), OPERATOR 2 <= (date, timestamptz), OPERATOR 3 = (date, timestamptz),
  OPERATOR 4 >= (date, timestamptz), OPERATOR 5 >  (date, timestamptz),
  OPERATOR 1 <  (date, timestamp), OPERATOR 2 <= (date, timestamp), OPERATOR 3 = (date, timestamp),
  OPERATOR 4 >= (date, timestamp), OPERATOR 5 >  (date, timestamp);
COMMENT ON OPERATOR CLASS rollup.int8_zone_ops USING rollup_zonemap IS 'Zones of bigint: the least and the greatest; comparisons are found, NULL is not';
COMMENT ON OPERATOR CLASS rollup.timestamptz_zone_ops USING rollup_zonemap IS 'Zones of timestamptz: the least and the greatest; comparisons are found, NULL is not';
COMMENT ON OPERATOR CLASS rollup.timestamp_zone_ops USING rollup_zonemap IS 'Zones of timestamp: the least and the greatest; comparisons are found, NULL is not';
COMMENT ON OPERATOR CLASS rollup.date_zone_ops USING rollup_zonemap IS 'Zones of date: the least and the greatest; comparisons are found, NULL is not';
COMMENT ON OPERATOR FAMILY rollup.integer_zone_ops USING rollup_zonemap IS 'Comparisons of bigint that an index of access method rollup_zonemap serves';
COMMENT ON OPERATOR FAMILY rollup.time_zone_ops USING rollup_zonemap IS 'Comparisons of instants and dates that an index of access method rollup_zonemap serves';

CREATE FUNCTION rollup.zones(index regclass, OUT first_page bigint, OUT "column" name, OUT closed boolean, OUT "least" text, OUT "greatest" text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'rollup_zones' LANGUAGE c VOLATILE STRICT;
REVOKE ALL ON FUNCTION rollup.zones(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rollup.zones(regclass) TO pg_monitor;
COMMENT ON FUNCTION rollup.zones(regclass) IS 'What an index of access method rollup_zonemap says: for each zone of 32 pages of its table, from page first_page on, and each column whether the entry is closed, and then the least and the greatest value of the rows, NULL where there is none and for who may not read all rows of the table. Zones that are not closed are read, whatever is asked for. Argument: the index. Error for another kind of index. For superusers and pg_monitor';
