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
                "SET search_path = public, pg_catalog; SELECT rollup.var_samp(3, 6, 14), rollup.stddev_pop(3, 6, 14);
                 TABLE rollup.status; TABLE rollup.history; TABLE rollup.metrics; RESET search_path",
            )
            .unwrap();
        assert_eq!(number(&mut client, CALLED), 0, "{create}");
    }
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
    let error = client.batch_execute("CREATE SCHEMA rollup; CREATE EXTENSION hll").unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "42P06");
}
