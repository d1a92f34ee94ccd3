//! A database as users of postgresql-hll have it: their objects, what these answer, and the extension's own.
use postgres::Client;

/// All that the extension owns, one line an object, no oids.
pub const CATALOG: &str = "
  WITH member AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
     WHERE e.extname = 'hll' AND d.deptype = 'e')
  SELECT pg_describe_object(m.classid, m.objid, 0) || ' ' || coalesce(obj_description(m.objid, m.classid::regclass::name), '-') || ' ' || coalesce(
    (SELECT concat_ws(' ', pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), p.prokind, p.prosrc, p.probin, p.provolatile, p.proisstrict, p.proparallel, p.procost, p.prosecdef, p.proacl, p.proconfig)
        || coalesce((SELECT concat_ws(' ', '', a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggtranstype::regtype, a.aggtransspace, a.aggfinalmodify, a.aggfinalextra, a.agginitval, a.aggmtransfn) FROM pg_aggregate a WHERE a.aggfnoid = p.oid), '')
       FROM pg_proc p WHERE m.classid = 'pg_proc'::regclass AND p.oid = m.objid),
    (SELECT concat_ws(' ', o.oprcode, o.oprrest, o.oprjoin, o.oprcanmerge, o.oprcanhash, o.oprcom::regoperator, o.oprnegate::regoperator)
       FROM pg_operator o WHERE m.classid = 'pg_operator'::regclass AND o.oid = m.objid),
    (SELECT concat_ws(' ', c.castfunc::regprocedure, c.castcontext, c.castmethod) FROM pg_cast c WHERE m.classid = 'pg_cast'::regclass AND c.oid = m.objid),
    (SELECT concat_ws(' ', t.typlen, t.typbyval, t.typcategory, t.typispreferred, t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typalign, t.typstorage)
       FROM pg_type t WHERE m.classid = 'pg_type'::regclass AND t.oid = m.objid),
    (SELECT concat_ws(' ', c.relkind, c.relacl, c.reloptions, (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attacl), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0))
       FROM pg_class c WHERE m.classid = 'pg_class'::regclass AND c.oid = m.objid), '')
    FROM member m ORDER BY 1";

/// Objects and data of a user, as postgresql-hll's documentation teaches them.
pub const OBJECTS: &str = "
  CREATE TABLE visit (day date, visitor int, place text);
  INSERT INTO visit SELECT date '2026-01-01' + i % 5, i % 700, 'place ' || i % 90 FROM generate_series(1, 4000) i;
  CREATE TABLE daily AS SELECT day, hll_add_agg(hll_hash_integer(visitor)) AS visitors, hll_add_agg(hll_hash_text(place), 12, 5, 0, 0) AS places FROM visit GROUP BY day;
  ALTER TABLE daily ALTER visitors TYPE hll(11, 5, -1, 1);
  CREATE INDEX by_count ON daily ((hll_cardinality(visitors)));
  CREATE VIEW total AS SELECT hll_union_agg(visitors) AS visitors, #hll_union_agg(places) AS places FROM daily;
  CREATE VIEW direct AS SELECT hll_add_agg(hll_hash_bigint(visitor)) AS visitors FROM visit;
  CREATE AGGREGATE sum(hll) (SFUNC = hll_union_trans, STYPE = internal, FINALFUNC = hll_pack);
  CREATE AGGREGATE estimate(hll) (SFUNC = hll_union_trans, STYPE = internal, FINALFUNC = hll_card_unpacked);";

/// What those objects answer.
pub const ANSWERS: &str = "
  SELECT concat_ws('|', (SELECT md5(string_agg(d::text, ',' ORDER BY day)) FROM daily d), (SELECT t::text FROM total t),
    (SELECT visitors::text FROM direct), (SELECT sum(visitors)::text FROM daily), (SELECT estimate(places) FROM daily),
    (SELECT count(*) FROM daily WHERE hll_cardinality(visitors) > 600), (SELECT bool_and(visitors || visitors = visitors) FROM daily))";

/// The first column of a query's rows.
pub fn lines(client: &mut Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}")).iter().map(|row| row.get(0)).collect()
}
