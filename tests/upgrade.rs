//! Databases that began with an older version: their objects and data answer before and after the update, and
//! what they end with is what a fresh database has.
use hll_lab::Cluster;
use postgres::Client;

/// Every version there has been, in order.
const VERSIONS: [&str; 12] =
    ["2.10", "2.11", "2.12", "2.13", "2.14", "2.15", "2.16", "2.17", "2.18", "2.19", "2.20", "2.21"];

/// All that the extension owns, one line an object, no oids.
const CATALOG: &str = "
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
const OBJECTS: &str = "
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
const ANSWERS: &str = "
  SELECT concat_ws('|', (SELECT md5(string_agg(d::text, ',' ORDER BY day)) FROM daily d), (SELECT t::text FROM total t),
    (SELECT visitors::text FROM direct), (SELECT sum(visitors)::text FROM daily), (SELECT estimate(places) FROM daily),
    (SELECT count(*) FROM daily WHERE hll_cardinality(visitors) > 600), (SELECT bool_and(visitors || visitors = visitors) FROM daily))";

fn lines(client: &mut Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}")).iter().map(|row| row.get(0)).collect()
}

fn fresh(cluster: &Cluster, name: &str) -> Client {
    cluster.connect("postgres").unwrap().batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
    cluster.connect(name).unwrap()
}

#[test]
fn every_version_ends_as_a_fresh_one() {
    let cluster = Cluster::new().unwrap();
    let mut new = fresh(&cluster, "new");
    new.batch_execute("CREATE EXTENSION hll").unwrap();
    let expected = lines(&mut new, CATALOG);
    assert!(expected.len() > 100, "{} objects", expected.len());
    for version in VERSIONS {
        let mut old = fresh(&cluster, &format!("v{}", version.replace('.', "_")));
        old.batch_execute(&format!("CREATE EXTENSION hll VERSION '{version}'; {OBJECTS}")).unwrap();
        let before = lines(&mut old, ANSWERS);
        old.batch_execute("ALTER EXTENSION hll UPDATE").unwrap();
        assert_eq!(lines(&mut old, ANSWERS), before, "answers after the update from {version}");
        let got = lines(&mut old, CATALOG);
        let differ: Vec<_> = got
            .iter()
            .filter(|l| !expected.contains(l))
            .chain(expected.iter().filter(|l| !got.contains(l)))
            .collect();
        assert!(differ.is_empty(), "from {version}: {differ:#?}");
    }
}

#[test]
fn every_step_goes_alone_and_keeps_the_answers() {
    let cluster = Cluster::new().unwrap();
    let mut client = fresh(&cluster, "steps");
    client.batch_execute(&format!("CREATE EXTENSION hll VERSION '2.10'; {OBJECTS}")).unwrap();
    let before = lines(&mut client, ANSWERS);
    for version in VERSIONS[1..].iter().chain(&["3.0.0"]) {
        client.batch_execute(&format!("ALTER EXTENSION hll UPDATE TO '{version}'")).unwrap();
        let now = lines(&mut client, "SELECT extversion FROM pg_extension WHERE extname = 'hll'");
        assert_eq!(now, [version.to_string()]);
        assert_eq!(lines(&mut client, ANSWERS), before, "at {version}");
    }
}
