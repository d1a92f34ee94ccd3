//! Names of functions that become free, and that another role takes: nothing of that role's runs as somebody else.
use hll_lab::Cluster;
use hll_tests::{number, text};
use postgres::Client;

/// A database with a rollup of the superuser's whose counters, sketches and own merges are those of schema `ext`, and role
/// evil, who may make schemas.
fn prepared(database: &str) -> (Cluster, Client) {
    let cluster = Cluster::new().unwrap();
    let mut admin = cluster.connect("postgres").unwrap();
    admin.batch_execute(&format!("CREATE DATABASE {database}")).unwrap();
    admin.batch_execute("CREATE ROLE evil").unwrap();
    let mut client = cluster.connect(database).unwrap();
    client
        .batch_execute(&format!(
            "GRANT CREATE ON DATABASE {database} TO evil; CREATE SCHEMA ext; CREATE EXTENSION hll SCHEMA ext; CREATE SCHEMA tools;
             CREATE FUNCTION tools.larger(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT greatest($1, $2)';
             CREATE AGGREGATE tools.largest(int) (SFUNC = tools.larger, STYPE = int);
             CREATE FUNCTION tools.low(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 < 5';
             SELECT rollup.add_merge_rule('tools.largest(int)'::regprocedure, 'tools.larger(int, int)'::regprocedure, 'tools.largest(int)'::regprocedure);
             CREATE TABLE e (at timestamptz, s text, v int); INSERT INTO e VALUES ('2026-01-01Z', 'a', 1), ('2026-01-01Z', 'b', 7)"
        ))
        .unwrap();
    (cluster, client)
}

const CREATE: &str = "SELECT rollup.create('e_d', $$ SELECT date_trunc('day', at) AS day, count(*) AS n, ext.jsonb_counter_agg(s) AS c, ext.hll_cardinality(ext.hll_add_agg(ext.hll_hash_text(s))) AS h,
   tools.largest(v) AS largest, count(*) FILTER (WHERE tools.low(v)) AS low FROM e GROUP BY 1 $$, every => NULL); SELECT rollup.run('e')";

/// Role evil makes schemas `ext` and `tools`, with functions of every name that the rollup knows, which make evil a superuser.
const TAKE: &str = r#"
SET SESSION AUTHORIZATION evil;
CREATE SCHEMA IF NOT EXISTS ext; CREATE SCHEMA IF NOT EXISTS tools;
DO $do$
DECLARE f record;
BEGIN
  FOR f IN SELECT * FROM (VALUES ('jsonb_counter_merge(jsonb, jsonb)', 'jsonb'), ('larger(int, int)', 'int'), ('low(int)', 'bool'), ('hll_union(text, text)', 'text')) f (signature, result),
      unnest(ARRAY['ext', 'tools']) s (schema) WHERE has_schema_privilege(s.schema, 'CREATE') LOOP
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO PUBLIC', f.schema);
    EXECUTE format('CREATE FUNCTION %s.%s RETURNS %s IMMUTABLE LANGUAGE plpgsql AS $f$ BEGIN EXECUTE ''ALTER ROLE evil SUPERUSER''; RETURN NULL; END $f$', f.schema, f.signature, f.result);
  END LOOP;
  IF has_schema_privilege('tools', 'CREATE') THEN
    CREATE AGGREGATE tools.largest(int) (SFUNC = tools.larger, STYPE = int);
  END IF;
END $do$;
RESET SESSION AUTHORIZATION;
INSERT INTO e VALUES ('2026-01-01Z', 'c', 9), ('2026-01-02Z', 'a', 2)"#;

fn is_safe(client: &mut Client) {
    assert_eq!(
        number(client, "SELECT count(*) FROM pg_roles WHERE rolname = 'evil' AND rolsuper"),
        0,
        "evil runs as somebody else"
    );
}

const RAW: &str = "SELECT concat(count(*), ' ', count(DISTINCT s), ' ', max(v), ' ', count(*) FILTER (WHERE v < 5)) FROM e WHERE at < '2026-01-02Z'";
const ROLLED_UP: &str = "SELECT concat(n, ' ', (SELECT count(*) FROM jsonb_object_keys(c)), ' ', largest, ' ', low) FROM e_d WHERE day < '2026-01-02Z'";

/// What a run says; empty where it went through.
fn run(client: &mut Client) -> String {
    match client.batch_execute("SELECT rollup.run('e')") {
        Ok(()) => String::new(),
        Err(e) => e.as_db_error().map(|e| format!("{} {}", e.code().code(), e.message())).unwrap_or_default(),
    }
}

#[test]
fn the_extensions_schema_is_followed() {
    let (_cluster, mut client) = prepared("followed");
    client.batch_execute(CREATE).unwrap();
    client.batch_execute("ALTER SCHEMA ext RENAME TO extensions").unwrap();
    client.batch_execute(TAKE).unwrap();
    assert_eq!(run(&mut client), "");
    is_safe(&mut client);
    assert_eq!(text(&mut client, ROLLED_UP), text(&mut client, RAW));
    for sql in [
        "SELECT count(*) FROM rollup.check('e_d')",
        "SELECT rollup.rebuild('e_d')",
        "SELECT rollup.add_level('e_d', 'e_m', '1 month')",
        "SELECT count(*) FROM rollup.series(NULL::e_d_live, '2026-01-01Z', '2026-03-01Z', 1)",
        "SELECT rollup.add_column('e_d', 'c2', 'extensions.jsonb_counter_agg(s)')",
        "SELECT rollup.create('e_h', 'SELECT date_trunc(''hour'', at) AS at, extensions.hll_add_agg(extensions.hll_hash_text(s)) AS h FROM e GROUP BY 1', every => NULL)",
        "INSERT INTO e VALUES ('2026-01-01Z', 'd', 3)",
        "SELECT rollup.run('e')",
    ] {
        client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        is_safe(&mut client);
    }
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('e_d')"), 0);
    assert_eq!(text(&mut client, ROLLED_UP), text(&mut client, RAW));
}

#[test]
fn a_merge_whose_name_was_taken_is_not_run() {
    let (_cluster, mut client) = prepared("taken");
    client.batch_execute(CREATE).unwrap();
    client.batch_execute("ALTER SCHEMA tools RENAME TO utensils").unwrap();
    client.batch_execute(TAKE).unwrap();
    let said = run(&mut client);
    assert!(
        said.starts_with(
            "42501 rollup e_d would call tools.larger(integer,integer), which belongs to role evil"
        ),
        "{said}"
    );
    is_safe(&mut client);
    client.batch_execute("SET SESSION AUTHORIZATION evil; DROP SCHEMA tools CASCADE; RESET SESSION AUTHORIZATION; ALTER SCHEMA utensils RENAME TO tools").unwrap();
    assert_eq!(run(&mut client), "");
    assert_eq!(text(&mut client, ROLLED_UP), text(&mut client, RAW));
}

#[test]
fn nor_is_a_query_whose_live_view_was_dropped() {
    let (_cluster, mut client) = prepared("dropped");
    client.batch_execute(&CREATE.replace("tools.largest(v)", "max(v)")).unwrap();
    client.batch_execute("DROP VIEW e_d_live; ALTER SCHEMA tools RENAME TO utensils").unwrap();
    client.batch_execute(TAKE).unwrap();
    let said = run(&mut client);
    assert!(
        said.starts_with("42501 rollup e_d would call tools.low(integer), which belongs to role evil"),
        "{said}"
    );
    is_safe(&mut client);
}

/// What another role owned when the rollup was made is called as before.
#[test]
fn functions_of_others_stay_what_they_were() {
    let (_cluster, mut client) = with_functions_of_another("others");
    client.batch_execute("DROP VIEW e_d_live").unwrap();
    assert_eq!(run(&mut client), "");
    assert_eq!(text(&mut client, ROLLED_UP), text(&mut client, RAW));
}

/// The rollup with functions of role analyst's, merged once, with a row that waits.
fn with_functions_of_another(database: &str) -> (Cluster, Client) {
    let (cluster, mut client) = prepared(database);
    client
        .batch_execute(
            "CREATE ROLE analyst; GRANT USAGE, CREATE ON SCHEMA tools TO analyst; ALTER FUNCTION tools.larger(int, int) OWNER TO analyst;
             ALTER FUNCTION tools.low(int) OWNER TO analyst",
        )
        .unwrap();
    client.batch_execute(CREATE).unwrap();
    client.batch_execute("INSERT INTO e VALUES ('2026-01-01Z', 'c', 9)").unwrap();
    (cluster, client)
}

/// What another role owned when the rollup was made is known again after a restore, where every oid is another.
#[test]
fn functions_of_others_stay_what_they_were_in_a_dump() {
    let (cluster, _client) = with_functions_of_another("dumped");
    let dump = cluster.socket().join("others.dump");
    let said = cluster.command("pg_dump").args(["-Fc", "-d", "dumped", "-f"]).arg(&dump).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let elsewhere = Cluster::new().unwrap();
    elsewhere.connect("postgres").unwrap().batch_execute("CREATE ROLE evil; CREATE ROLE analyst").unwrap();
    for (cluster, database) in [(&cluster, "restored"), (&elsewhere, "dumped")] {
        let mut admin = cluster.connect("postgres").unwrap();
        admin.batch_execute(&format!("CREATE DATABASE {database}")).unwrap();
        admin.batch_execute(&format!("GRANT CREATE ON DATABASE {database} TO evil")).unwrap();
        let said = cluster.command("pg_restore").args(["-j4", "-d", database]).arg(&dump).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let mut client = cluster.connect(database).unwrap();
        client.batch_execute("DROP VIEW e_d_live").unwrap();
        assert_eq!(run(&mut client), "", "{database}");
        assert_eq!(text(&mut client, ROLLED_UP), text(&mut client, RAW));
        // From now on by oids, of roles too: that of an old name is another.
        client.batch_execute("ALTER ROLE analyst RENAME TO analyst_of_before; INSERT INTO e VALUES ('2026-01-01Z', 'd', 3)").unwrap();
        assert_eq!(run(&mut client), "", "{database}");
        client.batch_execute("ALTER SCHEMA tools RENAME TO utensils; CREATE ROLE analyst").unwrap();
        client.batch_execute(TAKE).unwrap();
        client.batch_execute("ALTER FUNCTION tools.larger(int, int) OWNER TO analyst").unwrap();
        assert!(run(&mut client).starts_with("42501 rollup e_d would call tools.lar"), "{database}");
        is_safe(&mut client);
        client.batch_execute("DROP SCHEMA tools CASCADE; ALTER ROLE analyst RENAME TO other").unwrap();
        client.batch_execute("ALTER ROLE analyst_of_before RENAME TO analyst").unwrap();
    }
}

/// A name that changes hands before the first run after a restore: the owner's name tells.
#[test]
fn a_name_that_was_taken_is_not_run_after_a_restore() {
    let (cluster, _client) = with_functions_of_another("before");
    let dump = cluster.dump("before").unwrap();
    let mut client = cluster.restore("after", &dump).unwrap();
    client
        .batch_execute("GRANT CREATE ON DATABASE after TO evil; ALTER SCHEMA tools RENAME TO utensils")
        .unwrap();
    client.batch_execute(TAKE).unwrap();
    let said = run(&mut client);
    assert!(said.starts_with("42501 rollup e_d would call tools.lar"), "{said}");
    is_safe(&mut client);
}

/// The rollup's own statement waits in a function of its owner's while a name of a later one changes hands.
#[test]
fn a_name_that_changes_hands_during_a_run() {
    let (cluster, mut client) = prepared("meanwhile");
    client
        .batch_execute(
            "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN $1; END $$",
        )
        .unwrap();
    client.batch_execute(&CREATE.replace("count(*) AS n", "count(*) AS n, sum(slow(v)) AS slow")).unwrap();
    client.batch_execute("INSERT INTO e VALUES ('2026-01-01Z', 'c', 9)").unwrap();
    client.batch_execute("SELECT pg_advisory_lock(7)").unwrap();
    let said = std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&mut cluster.connect("meanwhile").unwrap()));
        hll_lab::wait_for("the run waits", 30, || {
            number(&mut client, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                == 1
        });
        client.batch_execute("ALTER SCHEMA tools RENAME TO utensils").unwrap();
        client
            .batch_execute(
                &TAKE.replace("INSERT INTO e VALUES ('2026-01-01Z', 'c', 9), ('2026-01-02Z', 'a', 2)", ""),
            )
            .unwrap();
        client.batch_execute("SELECT pg_advisory_unlock(7)").unwrap();
        running.join().unwrap()
    });
    is_safe(&mut client);
    assert!(said.starts_with("42501 rollup e_d would call tools.lar"), "{said}");
    client.batch_execute("DROP SCHEMA tools CASCADE; ALTER SCHEMA utensils RENAME TO tools").unwrap();
    assert_eq!(run(&mut client), "");
    assert_eq!(text(&mut client, ROLLED_UP), text(&mut client, RAW));
}

/// A type runs code, too: a domain that has taken the name of another.
#[test]
fn nor_is_a_domain_that_has_taken_a_name() {
    let (_cluster, mut client) = prepared("domains");
    client
        .batch_execute(
            "CREATE DOMAIN tools.small AS int; SELECT rollup.create('e_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n, sum(v::tools.small) AS s FROM e GROUP BY 1', every => NULL);
             SELECT rollup.run('e'); DROP VIEW e_d_live; ALTER SCHEMA tools RENAME TO utensils",
        )
        .unwrap();
    client.batch_execute(TAKE).unwrap();
    client
        .batch_execute(
            "SET SESSION AUTHORIZATION evil; CREATE DOMAIN tools.small AS int CHECK (coalesce(tools.low(value), true)); RESET SESSION AUTHORIZATION",
        )
        .unwrap();
    let said = run(&mut client);
    is_safe(&mut client);
    assert!(said.starts_with("42501 rollup e_d would call tools."), "{said}");
}

/// A live view that belongs to somebody else is not where a rollup's query is read from: it may say anything.
#[test]
fn a_live_view_of_another_role_is_not_followed() {
    let (_cluster, mut client) = prepared("views");
    client
        .batch_execute(
            "SELECT rollup.create('e_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n, sum(v) AS s FROM e GROUP BY 1', every => NULL);
             SELECT rollup.run('e'); GRANT ALL ON e, e_d TO evil; GRANT CREATE ON SCHEMA public TO evil; ALTER VIEW e_d_live OWNER TO evil",
        )
        .unwrap();
    // PostgreSQL's own functions run what they are given.
    let harm = "CASE WHEN pg_catalog.query_to_xml('ALTER ROLE evil SUPERUSER', true, true, '') IS NULL THEN e.v ELSE 1 END";
    let view = text(&mut client, "SELECT pg_get_viewdef('e_d_live'::regclass)");
    assert!(view.contains("sum(e.v)"), "{view}");
    client.batch_execute("SET SESSION AUTHORIZATION evil").unwrap();
    client
        .batch_execute(&format!(
            "CREATE OR REPLACE VIEW e_d_live AS {}",
            view.replace("sum(e.v)", &format!("sum({harm})"))
        ))
        .unwrap();
    client
        .batch_execute("RESET SESSION AUTHORIZATION; INSERT INTO e VALUES ('2026-01-01Z', 'c', 9)")
        .unwrap();
    for sql in
        ["SELECT rollup.run('e')", "SELECT count(*) FROM rollup.check('e_d')", "SELECT rollup.rebuild('e_d')"]
    {
        client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        is_safe(&mut client);
    }
    assert_eq!(
        text(&mut client, "SELECT concat(n, ' ', s) FROM e_d"),
        text(&mut client, "SELECT concat(count(*), ' ', sum(v)) FROM e")
    );
}

/// What its owner puts into it runs as the owner; what calls a third role's code, which the rollup did not call when it was
/// made, is refused.
#[test]
fn a_live_view_that_its_owner_replaces() {
    let (_cluster, mut client) = prepared("replaced");
    client.batch_execute(CREATE).unwrap();
    client.batch_execute(TAKE.split("INSERT").next().unwrap()).unwrap();
    client
        .batch_execute(
            "SET SESSION AUTHORIZATION evil; CREATE SCHEMA theirs; GRANT USAGE ON SCHEMA theirs TO PUBLIC;
             CREATE FUNCTION theirs.low(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $f$ BEGIN EXECUTE 'ALTER ROLE evil SUPERUSER'; RETURN NULL; END $f$;
             RESET SESSION AUTHORIZATION",
        )
        .unwrap();
    let view = text(&mut client, "SELECT pg_get_viewdef('e_d_live'::regclass)");
    client
        .batch_execute(&format!(
            "CREATE OR REPLACE VIEW e_d_live AS {}",
            view.replace("tools.low(", "theirs.low(")
        ))
        .unwrap();
    client.batch_execute("INSERT INTO e VALUES ('2026-01-01Z', 'c', 9)").unwrap();
    let said = run(&mut client);
    is_safe(&mut client);
    assert!(
        said.starts_with("42501 rollup e_d would call theirs.low(integer), which belongs to role evil"),
        "{said}"
    );
}

/// A rule names functions that who makes a rollup has not written: a name of it that was taken is not used.
#[test]
fn a_rule_of_which_a_name_was_taken_is_not_used() {
    let (cluster, mut client) = prepared("rules");
    let create = "SELECT rollup.create('e_l', 'SELECT date_trunc(''day'', at) AS day, honest.largest(v) AS l FROM e GROUP BY 1', every => NULL)";
    client
        .batch_execute(
            "CREATE SCHEMA honest; CREATE AGGREGATE honest.largest(int) (SFUNC = tools.larger, STYPE = int);
             SELECT rollup.add_merge_rule('honest.largest(int)', 'tools.larger(int, int)', 'honest.largest(int)'::regprocedure)",
        )
        .unwrap();
    let dump = cluster.dump("rules").unwrap();
    client.batch_execute("ALTER SCHEMA tools RENAME TO utensils").unwrap();
    let refused = |client: &mut Client, database: &str| {
        let e = client.batch_execute(create).unwrap_err();
        let said = e.as_db_error().unwrap();
        assert_eq!(said.code().code(), "42501", "{database}: {said}");
        is_safe(client);
    };
    refused(&mut client, "a name that nothing has");
    client.batch_execute(TAKE).unwrap();
    refused(&mut client, "a name that was taken");
    // Statements over raw rows are what they were.
    client
        .batch_execute("SET rollup.rewrite = exact; SELECT honest.largest(v) FROM e; RESET rollup.rewrite")
        .unwrap();
    client.batch_execute("DROP SCHEMA tools CASCADE; ALTER SCHEMA utensils RENAME TO tools").unwrap();
    client.batch_execute(create).unwrap();
    let mut client = cluster.restore("rules_restored", &dump).unwrap();
    client.batch_execute(create).unwrap();
    client.batch_execute("SELECT rollup.run('e')").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(l) FROM e_l"), 7);
}

/// The query is read, and the call waits for the source: meanwhile its names change hands.
#[test]
fn a_name_that_changes_hands_while_a_rollup_is_made() {
    for what in [
        "tools.largest(v)",
        "max(v)",
        "max(v) FILTER (WHERE tools.low(v))",
        "(max(v) > 0 AND tools.low(max(v)))::int",
    ] {
        let (cluster, mut client) = prepared("making");
        let create = format!(
            "SELECT rollup.create('e_d', $$ SELECT date_trunc('day', at) AS day, {what} AS x, count(*) FILTER (WHERE tools.low(v)) AS low FROM e GROUP BY 1 $$, every => NULL, coarser => '{{\"e_m\": \"1 month\"}}')"
        );
        let mut reader = cluster.connect("making").unwrap();
        reader.batch_execute("BEGIN; SELECT count(*) FROM e").unwrap();
        let said = std::thread::scope(|scope| {
            let making = scope.spawn(|| cluster.connect("making").unwrap().batch_execute(&create));
            hll_lab::wait_for("the call waits for the source", 30, || {
                number(
                    &mut client,
                    "SELECT count(*) FROM pg_locks WHERE relation = 'e'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted",
                ) == 1
            });
            client.batch_execute("ALTER SCHEMA tools RENAME TO utensils").unwrap();
            client.batch_execute(TAKE.split("INSERT").next().unwrap()).unwrap();
            reader.batch_execute("COMMIT").unwrap();
            making.join().unwrap()
        });
        is_safe(&mut client);
        let error = said.expect_err(what);
        let error = error.as_db_error().unwrap();
        let told = format!("{} {}", error.code().code(), error.message());
        assert!(told.starts_with("42501 rollup e_d would call tools.l"), "{what}: {told}");
        assert_eq!(text(&mut client, "SELECT concat(to_regclass('e_d'), to_regclass('e_d_live'))"), "");
        client.batch_execute("DROP SCHEMA tools CASCADE; ALTER SCHEMA utensils RENAME TO tools").unwrap();
        client.batch_execute(&create).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        assert_eq!(run(&mut client), "");
    }
}
