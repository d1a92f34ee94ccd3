//! Operators that somebody has put into the schema of the extension are not found by its script, nor by what it makes.
use hll_lab::Cluster;
use hll_tests::number;

/// Operators of the usual names over every pair of the usual types, owned by mallory: where PostgreSQL has none for the
/// pair, they are the best match. Each notes who calls it.
const HOSTILE: &str = r#"
SET search_path = pg_catalog;
CREATE ROLE mallory;
CREATE TABLE public.called (who text, what text);
GRANT INSERT ON public.called TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SET ROLE mallory;
DO $$
DECLARE
  types regtype[] := ARRAY['bigint','integer','numeric','text','name','oid','regclass','regtype','regoperator','float8','interval','timestamptz','"char"','boolean','smallint'];
  o record; n int := 0;
BEGIN
  FOR o IN SELECT op, l, r FROM unnest(ARRAY['=','<>','<','>','<=','>=','+','-','*','/','||','~~','!~~']) op, unnest(types) l, unnest(types) r LOOP
    n := n + 1;
    EXECUTE format('CREATE FUNCTION public.evil_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO public.called VALUES (current_user, %L); RETURN NULL; END $f$',
      n, o.l, o.r, CASE WHEN o.op IN ('+','-','*','/') THEN 'numeric' WHEN o.op = '||' THEN 'text' ELSE 'boolean' END, concat(o.l, ' ', o.op, ' ', o.r));
    EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.evil_%s)', o.op, o.l, o.r, n);
  END LOOP;
END $$;
RESET ROLE;
RESET search_path"#;

const CALLED: &str = "SELECT pg_catalog.count(*) FROM public.called";

#[test]
fn the_script_finds_no_operator_of_others() {
    let cluster = Cluster::new().unwrap();
    cluster.connect("postgres").unwrap().batch_execute("CREATE DATABASE hostile").unwrap();
    let mut client = cluster.connect("hostile").unwrap();
    client.batch_execute(HOSTILE).unwrap();
    client.batch_execute("SELECT 1::bigint * 1::numeric").unwrap();
    assert_eq!(number(&mut client, CALLED), 1, "they are found where a path is not fixed");
    client.batch_execute("TRUNCATE public.called").unwrap();
    for create in ["CREATE EXTENSION hll", "CREATE EXTENSION hll VERSION '2.10'; ALTER EXTENSION hll UPDATE"]
    {
        client.batch_execute(&format!("DROP EXTENSION IF EXISTS hll; {create}")).unwrap();
        client
            .batch_execute(
                "SET search_path = public, pg_catalog; SELECT rollup_internal.var_samp(3, 6, 14), rollup_internal.stddev_pop(3, 6, 14);
                 TABLE rollup.status; TABLE rollup.history; TABLE rollup.metrics; RESET search_path",
            )
            .unwrap();
        assert_eq!(number(&mut client, CALLED), 0, "{create}");
    }
}

/// In `evil`: the same operators over more types, and a function of the name and arguments of each of PostgreSQL's, which
/// a caller's path finds first. Each counts its calls, and says in the log which it was.
const EVIL: &str = r#"
CREATE ROLE mallory;
CREATE SCHEMA evil AUTHORIZATION mallory;
CREATE SEQUENCE public.calls;
GRANT ALL ON SEQUENCE public.calls TO PUBLIC;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
SET ROLE mallory;
CREATE FUNCTION evil.note(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN PERFORM nextval('public.calls'); RAISE LOG 'evil: %', what; END $$;
DO $$
DECLARE
  types regtype[] := ARRAY['bigint','integer','numeric','text','name','oid','regclass','regtype','regproc','float8','interval','timestamptz','timestamp','date','"char"','boolean','smallint','jsonb','text[]','oid[]','bigint[]'];
  o record; n int := 0;
BEGIN
  FOR o IN SELECT op, l, r FROM unnest(ARRAY['=','<>','<','>','<=','>=','+','-','*','/','||','~~','!~~','~','->>']) op, unnest(types) l, unnest(types) r LOOP
    n := n + 1;
    EXECUTE format('CREATE FUNCTION evil.op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.note(%L); RETURN NULL; END $f$',
      n, o.l, o.r, CASE WHEN o.op IN ('+','-','*','/') THEN 'numeric' WHEN o.op IN ('||', '->>') THEN 'text' ELSE 'boolean' END, concat(o.l, ' ', o.op, ' ', o.r));
    EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.op_%s)', o.op, o.l, o.r, n);
  END LOOP;
  FOR o IN SELECT p.oid, p.proname, p.proargtypes, p.proretset, p.prorettype::regtype AS result FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
            WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND t.typtype <> 'p' AND p.proname NOT LIKE 'pg\_stat%' AND p.provariadic = 0
              AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) a JOIN pg_type k ON k.oid = a WHERE k.typtype = 'p') LOOP
    EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.note(%L); RETURN%s; END $f$', o.proname, oidvectortypes(o.proargtypes),
      CASE WHEN o.proretset THEN 'SETOF' ELSE '' END, o.result, o.oid::regprocedure, CASE WHEN o.proretset THEN '' ELSE ' NULL' END);
  END LOOP;
  CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.note('format'); RETURN NULL; END $f$;
  CREATE FUNCTION evil.concat(VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.note('concat'); RETURN NULL; END $f$;
END $$;
RESET ROLE"#;

/// Calls of everything in schema rollup, as a superuser writes them in whose path `evil` comes first: what she writes
/// herself is qualified.
const CALLS: &str = r#"
CREATE TABLE public.event (at timestamptz NOT NULL DEFAULT pg_catalog.now(), k text, v integer) PARTITION BY RANGE (at);
CREATE TABLE public.event_rest PARTITION OF public.event DEFAULT;
CREATE TABLE public.place (id integer PRIMARY KEY, label text);
CREATE TABLE public.plain (at timestamptz, v integer);
CREATE TABLE public.taken (at timestamptz, n bigint, PRIMARY KEY (at));
INSERT INTO public.event VALUES ('2026-01-01Z', 'a', 1), ('2026-01-02Z', 'b', 2); INSERT INTO public.plain VALUES ('2026-01-01Z', 1);
SELECT rollup.create('public.event_h', 'SELECT pg_catalog.date_trunc(''hour'', at) AS at, k, pg_catalog.count(*) AS n, pg_catalog.avg(v) AS a, public.hll_add_agg(public.hll_hash_integer(v)) AS h FROM public.event GROUP BY 1, 2',
  every => '1 microsecond', coarser => '{"event_d": "1 day"}', on_change => 'recompute', notify => true);
SELECT rollup.create('public.plain_d', 'SELECT pg_catalog.date_bin(''1 day'', p.at, ''2000-01-01Z'') AS at, s.label, pg_catalog.sum(p.v) AS v FROM public.plain p LEFT JOIN public.place s ON s.id OPERATOR(pg_catalog.=) p.v GROUP BY 1, 2',
  every => NULL, joins => 'snapshot', timezone => 'Europe/Berlin');
SELECT rollup.create('public.taken', 'SELECT pg_catalog.date_trunc(''hour'', at) AS at, pg_catalog.count(*) AS n FROM public.event GROUP BY 1', every => NULL, into_table => 'public.taken', backfill => false);
SELECT rollup.create('public.plain_e', 'SELECT pg_catalog.date_trunc(''hour'', at) AS at, pg_catalog.count(*) AS n FROM public.plain GROUP BY 1', every => NULL, on_change => 'error');
SELECT rollup.create('public.plain_e', 'SELECT pg_catalog.date_trunc(''hour'', at) AS at, pg_catalog.count(*) AS n FROM public.plain GROUP BY 1', every => '1 hour', on_change => 'error', if_not_exists => true);
SELECT rollup.create('public.plain_e', 'SELECT pg_catalog.date_trunc(''day'', at) AS at, pg_catalog.count(*) AS n, pg_catalog.sum(v) AS v FROM public.plain GROUP BY 1', every => NULL, coarser => '{"plain_m": "1 month"}', on_change => 'error', replace => true);
SELECT rollup.create('public.plain_e', 'SELECT pg_catalog.date_trunc(''day'', at) AS at, pg_catalog.count(*) AS n FROM public.plain GROUP BY 1', every => '1 hour', coarser => '{}', on_change => 'error', replace => true), rollup.add_column('plain_e', 'n', 'pg_catalog.count(*)', if_not_exists => true), rollup.drop('none', if_exists => true);
SELECT rollup.run('public.event'), rollup.run('public.plain'); SELECT rollup.retain('public.plain', '3000 days'), public.rollup_event(), public.expire_plain();
SELECT rollup_internal.work_off('plain_d');
CALL rollup.catch_up('plain_d');
INSERT INTO public.event VALUES ('2026-01-01Z', 'c', 3), ('2026-01-03Z', 'c', 3);
SELECT rollup.run_due();
UPDATE public.event SET v = 7; DELETE FROM public.event WHERE k IS NULL;
TABLE public.event_h_live; TABLE public.event_d_live; TABLE public.plain_d_live;
SELECT rollup.run('public.event');
SELECT rollup.add_level('event_h', 'public.event_m', '1 month'), rollup.add_column('event_h', 'most', 'pg_catalog.max(v)'), rollup.add_column('plain_d', 'most', 'pg_catalog.max(p.v)');
SELECT rollup.drop_column('event_h', 'a'), rollup.drop_level('event_h', 'event_m');
SELECT rollup.replace('event_h', 'SELECT pg_catalog.date_trunc(''hour'', at) AS at, k, pg_catalog.count(*) AS n, pg_catalog.min(v) AS least FROM public.event GROUP BY 1, 2');
SELECT rollup.explain('event_h'), rollup.explain('plain_d');
SELECT rollup.locf(1) OVER (), rollup.interpolate(1, b) OVER (), rollup.interpolate(1, b::timestamp) OVER (), rollup_internal.interpolate(1, b, 1) OVER (), rollup_internal.interpolate(1, b::timestamp, 1) OVER () FROM rollup.buckets('2026-01-01Z', '2026-01-04Z', '1 day', 'Europe/Berlin') b; SELECT * FROM rollup.series(NULL::public.event_h_live, '2026-01-01 10:11Z', '2026-01-04Z', 2, 'linear'); SELECT * FROM rollup.series(NULL::public.plain_d_live, '2026-01-01 10:11Z', '2026-01-04Z', 2, 'none'); SELECT * FROM rollup.explain_rewrite('SELECT pg_catalog.count(*) FROM public.event'); SELECT rollup_internal.in_step_from(60000000, NULL), rollup_internal.forget_rewriting('public.event'); SELECT * FROM rollup_internal.state_of(1, 0, false, '{}', '{60000000}', '{0}'); SELECT rollup_internal.rewritten(1), rollup_internal.whole_buckets('event_h');
SET rollup.rewrite = exact; SELECT k, pg_catalog.date_trunc('day', at), pg_catalog.avg(v) FROM public.event WHERE at OPERATOR(pg_catalog.<) '2026-01-02 10:11:12Z' GROUP BY 1, 2; SET rollup.rewrite = off;
SELECT * FROM rollup.check('event_h'); SELECT * FROM rollup.check('plain_d', '2020-01-01', '2030-01-01');
SELECT rollup.rebuild('event_h'), rollup.rebuild('plain_d', '2025-12-01', '2026-02-01');
SELECT rollup.rebase('public.event');
SELECT rollup.partition('public.event', '1 day', '2 days');
SELECT rollup.retain('public.event', '30 days'), rollup.retain('public.event_h', '300 days');
SELECT rollup.expire('public.event', dry_run => true); SELECT rollup.expire('public.event'); SELECT rollup.expire('public.event_h', force => true);
SELECT rollup.pause('event_h'), rollup.resume('event_h');
TABLE rollup.status; TABLE rollup.history; TABLE rollup.metrics;
SELECT rollup_internal.waiting(1, 'public.event', 'at', false, 3, '{}', 0, '{}', 2, '{}', NULL), rollup_internal.unwatched(1, 'public.event', true, true, false), rollup_internal.is_free('public.event'), rollup_internal.key_fits(1, 'x'::text), rollup_internal.owner_of('public.event_h'), rollup_internal.may_read(10), rollup.stamp(), rollup_internal.flush_log(), rollup_internal.writers(), rollup_internal.channel('event_h'), rollup_internal.sees_all('public.event_h', 'public.event'), rollup_internal.verdict(1, 2, '{1}', '{1}', 1), rollup_internal.is_version('public.event'::regclass, '(0,1)'), rollup_internal.place('(0,1)'), rollup_internal.counters_agree('{"a": 1}', '{"a": 1}'); SELECT count(*) FROM rollup_internal.changes('public.event'), rollup_internal.arrivals('public.event'), rollup_internal.lost_rows(1);
SELECT * FROM rollup_internal.partition_bounds('public.event'); SELECT rollup_internal.partition_zones('public.event'), rollup_internal.covered_until('public.event', pg_catalog.now()), rollup_internal.partitions_ahead('public.event', 'UTC'), rollup_internal.partition_for('public.event', '2030-01-01');
SELECT * FROM rollup.nodes('event_h'); SELECT * FROM rollup.zones('public.plain_at_rollup_stamp_idx');
SELECT * FROM rollup_internal.rest(1);
SELECT rollup_internal.var_pop(3, 6, 14), rollup_internal.var_samp(3, 6, 14), rollup_internal.stddev_pop(3, 6, 14), rollup_internal.stddev_samp(3, 6, 14), rollup_internal.root(9);
CREATE FUNCTION public.longer(text, text) RETURNS text LANGUAGE sql IMMUTABLE RETURN CASE WHEN $1 OPERATOR(pg_catalog.>) $2 THEN $1 ELSE $2 END;
CREATE AGGREGATE public.longest(text) (SFUNC = public.longer, STYPE = text);
SELECT rollup.add_merge_rule('public.longest(text)', 'public.longer(text,text)', 'public.longest(text)'::regprocedure);
SELECT rollup.add_column('event_h', 'long', 'public.longest(k)');
SELECT rollup.drop_merge_rule('public.longest(text)');
CREATE TABLE public.part (at timestamptz NOT NULL, v integer);
SELECT rollup.create('public.part_h', 'SELECT pg_catalog.date_trunc(''hour'', at) AS at, pg_catalog.count(*) AS n FROM public.part GROUP BY 1', every => NULL);
CREATE TABLE public.whole (LIKE public.part INCLUDING DEFAULTS) PARTITION BY RANGE (at); ALTER TABLE public.whole ATTACH PARTITION public.part FOR VALUES FROM ('2026-01-01Z') TO ('2027-01-01Z');
SELECT rollup.move('part_h', 'public.whole'); INSERT INTO public.whole VALUES ('2026-01-01Z', 1);
SELECT rollup.run('public.whole'); SELECT rollup.drop('part_h');
ALTER TABLE public.event DETACH PARTITION public.event_rest; TABLE public.event_h_live; ALTER TABLE public.event ATTACH PARTITION public.event_rest DEFAULT; TRUNCATE public.event; CREATE TABLE public.event_old PARTITION OF public.event FOR VALUES FROM ('2001-01-01') TO ('2002-01-01'); CREATE TABLE public.below () INHERITS (public.plain);
SELECT rollup.partition('public.event', NULL), rollup.retain('public.event', NULL);
SELECT rollup.drop('event_h'), rollup.drop('taken', keep_data => true), rollup.drop('plain_d'), rollup.drop('plain_e')"#;

#[test]
fn callers_find_no_operator_nor_function_of_others() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("callers").unwrap();
    client.batch_execute(EVIL).unwrap();
    client.batch_execute("SET search_path = evil, pg_catalog; SELECT 1::bigint * 1::bigint, now()").unwrap();
    let called = "SELECT pg_catalog.pg_sequence_last_value('public.calls')";
    assert_eq!(number(&mut client, called), 2, "they are found where a path is not fixed");
    for call in CALLS.split(";\n") {
        match client.batch_execute(call) {
            Ok(()) => {}
            // Of a rollup on one node there is nothing to say.
            Err(e) => assert!(call.contains("rollup_internal.rest("), "{call}: {e:?}"),
        }
        let log = cluster.log();
        let evil: Vec<&str> = log.lines().filter(|line| line.contains("evil: ")).skip(2).collect();
        assert_eq!(number(&mut client, called), 2, "{call}: {evil:?}");
    }
    // What is there is called.
    client.batch_execute("RESET search_path").unwrap();
    let functions = "SELECT DISTINCT p.pronamespace::regnamespace || '.' || p.proname FROM pg_proc p WHERE p.pronamespace IN ('rollup'::regnamespace, 'rollup_internal'::regnamespace) AND p.prokind IN ('f', 'p')
        AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND NOT ARRAY['internal'::regtype, 'pg_ddl_command'::regtype]::oid[] && p.proargtypes::oid[]
        AND NOT EXISTS (SELECT FROM pg_aggregate a WHERE p.oid IN (a.aggtransfn, a.aggcombinefn, a.aggfinalfn)) ORDER BY 1";
    let uncalled: Vec<String> = client
        .query(functions, &[])
        .unwrap()
        .iter()
        .map(|row| row.get::<_, String>(0))
        .filter(|name| !CALLS.contains(&format!("{name}(")))
        .collect();
    assert!(uncalled.is_empty(), "{uncalled:?} are not called");
}

#[test]
fn bodies_are_bound_or_have_a_path() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("bodies").unwrap();
    // A procedure that commits can have no settings of its own.
    let open = "SELECT count(*) FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
          JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll' JOIN pg_language l ON l.oid = p.prolang
        WHERE l.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL AND p.oid <> 'rollup.catch_up(text)'::regprocedure
          AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)";
    assert_eq!(number(&mut client, open), 0);
}

#[test]
fn a_schema_of_the_name_is_not_taken_over() {
    let cluster = Cluster::new().unwrap();
    cluster.connect("postgres").unwrap().batch_execute("CREATE DATABASE taken").unwrap();
    let mut client = cluster.connect("taken").unwrap();
    for schema in ["rollup", "rollup_internal"] {
        let error =
            client.batch_execute(&format!("CREATE SCHEMA {schema}; CREATE EXTENSION hll")).unwrap_err();
        assert_eq!(error.as_db_error().unwrap().code().code(), "42P06", "{schema}");
    }
}
