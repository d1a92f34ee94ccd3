//! What users store is run as them and as nobody else, whatever they call it.
use hll_tests::{another, number, prepared};
use postgres::Client;

/// A user with a schema that is hers, and her rollup.
fn user(client: &mut Client, name: &str) {
    client
        .batch_execute(&format!(
            "CREATE ROLE {name}; CREATE SCHEMA AUTHORIZATION {name}; SET ROLE {name};
             CREATE TABLE {name}.event (at timestamptz NOT NULL, x int, secret text);
             SELECT rollup.create('{name}.{name}_sums', 'SELECT date_trunc(''hour'', at) AS at, sum(x) AS total FROM {name}.event GROUP BY 1', every => NULL);
             RESET ROLE"
        ))
        .unwrap();
}

fn refused(client: &mut Client, sql: &str) -> String {
    let error = client.batch_execute(sql).expect_err(sql);
    let error = error.as_db_error().unwrap();
    format!("{}: {}", error.code().code(), error.message())
}

#[test]
fn triggers_run_as_the_owner() {
    let (_cluster, mut client) = prepared("asowner", "");
    user(&mut client, "alice");
    // The superuser runs alice's rollup; what alice put on its table runs as alice, and may not become another.
    client
        .batch_execute(
            "CREATE TABLE who (name text); GRANT INSERT ON who TO alice; SET ROLE alice;
             CREATE FUNCTION alice.spy() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN INSERT INTO public.who VALUES (current_user); RETURN NEW; END';
             CREATE TRIGGER spy BEFORE INSERT ON alice.alice_sums FOR EACH ROW EXECUTE FUNCTION alice.spy();
             RESET ROLE; INSERT INTO alice.event VALUES (now(), 1)",
        )
        .unwrap();
    assert_eq!(number(&mut client, "SELECT rollup.run('alice.event')"), 1);
    assert_eq!(number(&mut client, "SELECT count(*) FROM who WHERE name = 'alice'"), 1);
    assert_eq!(number(&mut client, "SELECT count(*) FROM who WHERE name <> 'alice'"), 0);
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION alice.spy() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN RESET ROLE; SET ROLE postgres; RETURN NEW; END';
             INSERT INTO alice.event VALUES (now(), 1)",
        )
        .unwrap();
    let told = refused(&mut client, "SELECT rollup.run('alice.event')");
    assert!(told.starts_with("42501: rollup alice_sums: cannot set parameter \"role\" within"), "{told}");
    let me = "SELECT count(*) FROM pg_roles WHERE rolname = current_user AND rolsuper";
    assert_eq!(number(&mut client, me), 1, "an error gives the caller's role back");
}

#[test]
fn operators_in_the_path_are_not_found() {
    let (_cluster, mut client) = prepared("operators", "");
    user(&mut client, "mallory");
    client
        .batch_execute(
            "GRANT CREATE ON SCHEMA public TO PUBLIC; SET ROLE mallory;
             CREATE FUNCTION public.evil(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''evil was called''; END';
             CREATE OPERATOR public.>= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.evil);
             CREATE OPERATOR public.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.evil);
             CREATE FUNCTION public.sum(int) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RAISE ''evil was called''; END';
             CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''evil was called''; END';
             CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''evil was called''; END';
             RESET ROLE; SET search_path = public, pg_catalog; INSERT INTO mallory.event VALUES (now(), 1)",
        )
        .unwrap();
    assert_eq!(client.query("SELECT rollup.run('mallory.event')", &[]).unwrap().len(), 1);
    client
        .batch_execute(
            "SELECT rollup.retain('mallory.event', '1 day'); SELECT rollup.expire('mallory.event')",
        )
        .unwrap();
    client
        .batch_execute(
            "SELECT rollup.run_due(); TABLE rollup.status; TABLE rollup.history; TABLE rollup.metrics",
        )
        .unwrap();
    client
        .batch_execute("SELECT rollup.pause('mallory_sums'); SELECT rollup.resume('mallory_sums')")
        .unwrap();
    client.batch_execute("RESET search_path").unwrap();
    assert_eq!(number(&mut client, "SELECT total FROM mallory.mallory_sums"), 1);
}

#[test]
fn hostile_names_are_names() {
    let (_cluster, mut client) = prepared("names", "");
    let name = r#"x"; DROP TABLE "public".victim; --' \ $q$ é"#;
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    client
        .batch_execute(&format!(
            "CREATE TABLE victim (x int); CREATE SCHEMA {quoted}; CREATE ROLE {quoted};
             ALTER SCHEMA {quoted} OWNER TO {quoted}; SET ROLE {quoted};
             CREATE TABLE {quoted}.{quoted} ({quoted} timestamptz NOT NULL, \"select\" int)"
        ))
        .unwrap();
    let query = format!(
        "SELECT date_trunc('hour', {quoted}) AS {quoted}, sum(\"select\") AS \"group\" FROM {quoted}.{quoted} GROUP BY 1"
    );
    let rollup = format!("{quoted}.\"sums'; --\"");
    client.execute("SELECT rollup.create($1, $2, every => NULL)", &[&rollup, &query]).unwrap();
    client
        .batch_execute(&format!("INSERT INTO {quoted}.{quoted} VALUES (now() - interval '3 days', 5)"))
        .unwrap();
    let table = format!("{quoted}.{quoted}");
    let run = client.query_one("SELECT rollup.run($1::text::regclass)", &[&table]).unwrap();
    assert_eq!(run.get::<_, i64>(0), 1);
    client.execute("SELECT rollup.retain($1::text::regclass, '1 day')", &[&table]).unwrap();
    let gone = client.query_one("SELECT rollup.expire($1::text::regclass)", &[&table]).unwrap();
    assert_eq!(gone.get::<_, i64>(0), 1);
    client.batch_execute("RESET ROLE; TABLE rollup.metrics").unwrap();
    assert_eq!(number(&mut client, &format!("SELECT sum(\"group\")::bigint FROM {quoted}.\"sums'; --\"")), 5);
    assert_eq!(number(&mut client, "SELECT count(*) FROM victim"), 0);
}

#[test]
fn other_users_see_and_do_what_they_may() {
    let (cluster, mut client) = prepared("others", "");
    user(&mut client, "alice");
    user(&mut client, "bob");
    client
        .batch_execute(
            "ALTER TABLE alice.alice_sums ADD CONSTRAINT secret_limit CHECK (total < 0); ALTER ROLE alice LOGIN; ALTER ROLE bob LOGIN;
             UPDATE rollup.definition SET every = '1 second'; INSERT INTO alice.event VALUES (now(), 1)",
        )
        .unwrap();
    client.batch_execute("SELECT rollup.run_due()").unwrap();
    let mut bob = another(&cluster, "others");
    bob.batch_execute("SET ROLE bob").unwrap();
    for (sql, code) in [
        ("SELECT rollup.run('alice.event')", "42501"),
        ("SELECT rollup.pause('alice_sums')", "42501"),
        ("SELECT rollup.drop('alice_sums')", "42501"),
        ("SELECT rollup.retain('alice.event', '1 second')", "42501"),
        ("SELECT rollup.retain('alice.event', '1 second', 'at')", "42501"),
        (
            "SELECT rollup.create('bob.spy', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM alice.event GROUP BY 1')",
            "42501",
        ),
        (
            "SELECT rollup.create('alice.spy', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM bob.event GROUP BY 1')",
            "42501",
        ),
        ("SELECT query FROM rollup.definition", "42501"),
        ("SELECT plan FROM rollup.definition", "42501"),
        ("SELECT routines FROM rollup.definition", "42501"),
        ("SELECT refused_changes FROM rollup.definition", "42501"),
        ("SELECT last_error FROM rollup.attempt", "42501"),
        ("SELECT error FROM rollup.run", "42501"),
        ("UPDATE rollup.definition SET timezone = 'UTC'", "42501"),
        ("DELETE FROM rollup.attempt", "42501"),
        ("INSERT INTO rollup.retention VALUES ('alice.event', 'at', '1 second', 'alice')", "42501"),
        ("INSERT INTO rollup.uptime VALUES (now())", "42501"),
        ("SET rollup.max_failures = 1", "55P02"),
    ] {
        let told = refused(&mut bob, sql);
        assert!(told.starts_with(code), "{sql}: {told}");
    }
    // What live views read is for everybody: how far a rollup is, the bounds of the pieces of its backlog among it.
    let open = "SELECT count(backlog_cursor) + count(*) + count(backlog_cuts) FROM rollup.definition WHERE name = 'alice_sums'";
    assert_eq!(number(&mut bob, open), 1, "there is no backlog now");
    let seen = "SELECT count(*) FROM rollup.status WHERE name LIKE '%sums' AND last_error IS NOT NULL";
    assert_eq!(number(&mut bob, seen), 0);
    assert_eq!(number(&mut bob, "SELECT count(*) FROM rollup.history WHERE error IS NOT NULL"), 0);
    assert_eq!(number(&mut bob, "SELECT rollup.run_due()"), 0, "bob's own are run, alice's left");
    let mut alice = another(&cluster, "others");
    alice.batch_execute("SET ROLE alice").unwrap();
    assert_eq!(number(&mut alice, seen), 1);
    assert_eq!(number(&mut alice, "SELECT count(*) FROM rollup.history WHERE error ~ 'secret_limit'"), 1);
}

#[test]
fn the_owner_of_a_database_dumps_it() {
    let (cluster, mut client) = prepared("dumped", "");
    client
        .batch_execute(
            "DROP TABLE http_request; CREATE ROLE keeper LOGIN; ALTER DATABASE dumped OWNER TO keeper; CREATE SCHEMA AUTHORIZATION keeper;
             SET ROLE keeper; CREATE TABLE keeper.event (at timestamptz, x int);
             SELECT rollup.create('keeper.days', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM keeper.event GROUP BY 1', every => NULL);
             RESET ROLE",
        )
        .unwrap();
    let dump = cluster.command("pg_dump").args(["-U", "keeper", "dumped"]).output().unwrap();
    let text = String::from_utf8_lossy(&dump.stdout);
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(text.contains("COPY rollup.definition") && text.contains("FROM keeper.event GROUP BY 1"));
    client.batch_execute("CREATE ROLE stranger; SET ROLE stranger").unwrap();
    assert!(refused(&mut client, "TABLE rollup.definition").starts_with("42501"));
}

/// The minutes of changed rows are for those who may read the rows' times, and for a live view by the rights of its owner,
/// however it is reached. Nobody gets a part of them: the view would be wrong without a word.
#[test]
fn times_of_changes_are_for_those_who_may_read_them() {
    let (_cluster, mut client) = prepared("changes_read", "");
    client
        .batch_execute(
            "CREATE ROLE owner_; CREATE ROLE looker; CREATE ROLE stranger; CREATE ROLE columns_; CREATE ROLE shower;
             CREATE SCHEMA o AUTHORIZATION owner_; CREATE SCHEMA s AUTHORIZATION stranger; CREATE SCHEMA w AUTHORIZATION shower;
             GRANT USAGE ON SCHEMA o TO looker, stranger, columns_, shower; GRANT USAGE ON SCHEMA w TO looker;
             SET ROLE owner_;
             CREATE TABLE o.event (at timestamptz NOT NULL, site int, secret text);
             SELECT rollup.create('o.event_h', 'SELECT date_trunc(''hour'', at) AS hour, count(*) AS n, sum(site) AS s FROM o.event GROUP BY 1',
               every => NULL, on_change => 'recompute');
             INSERT INTO o.event SELECT timestamptz '2026-01-01Z' + n * interval '7 minutes', n FROM generate_series(1, 100) n;
             GRANT SELECT ON o.event_h_live TO looker, shower; GRANT SELECT (site, at) ON o.event TO columns_;
             CREATE VIEW o.unrelated AS SELECT 1 AS x; GRANT SELECT ON o.unrelated TO stranger;
             SET ROLE shower; CREATE VIEW w.shown AS SELECT * FROM o.event_h_live; GRANT SELECT ON w.shown TO looker;
             RESET ROLE",
        )
        .unwrap();
    client.batch_execute("SELECT rollup.run('o.event')").unwrap();
    client.batch_execute("UPDATE o.event SET site = 1000 WHERE site = 50").unwrap();
    let raw = number(&mut client, "SELECT sum(site) FROM o.event");
    let stale = number(&mut client, "SELECT sum(s)::bigint FROM o.event_h");
    assert_ne!(raw, stale, "the change waits for a run");

    client.batch_execute("SET ROLE looker").unwrap();
    for from in ["o.event_h_live", "w.shown", "(SELECT * FROM w.shown OFFSET 0) q"] {
        assert_eq!(number(&mut client, &format!("SELECT sum(s)::bigint FROM {from}")), raw, "{from}");
    }
    client
        .batch_execute(
            "CREATE FUNCTION pg_temp.total() RETURNS bigint LANGUAGE sql AS 'SELECT sum(s)::bigint FROM w.shown';
             CREATE FUNCTION pg_temp.summed() RETURNS bigint LANGUAGE plpgsql AS 'DECLARE r record; t bigint := 0; BEGIN FOR r IN SELECT s FROM w.shown LOOP t := t + r.s; END LOOP; RETURN t; END';",
        )
        .unwrap();
    assert_eq!(number(&mut client, "SELECT pg_temp.total()"), raw);
    assert_eq!(number(&mut client, "SELECT pg_temp.summed()"), raw);
    client.batch_execute("PREPARE p AS SELECT sum(s)::bigint FROM o.event_h_live").unwrap();
    for _ in 0..7 {
        assert_eq!(number(&mut client, "EXECUTE p"), raw);
    }
    client.batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT sum(s)::bigint FROM w.shown").unwrap();
    assert_eq!(number(&mut client, "FETCH c"), raw);
    client.batch_execute("COMMIT").unwrap();

    let asks = "SELECT count(*) FROM rollup_internal.changes('o.event', 'at')";
    let no = "42501: role looker may not know when rows of o.event changed";
    assert_eq!(refused(&mut client, asks), no);
    client.batch_execute("SET ROLE stranger").unwrap();
    let no = no.replace("looker", "stranger");
    assert_eq!(refused(&mut client, asks), no);
    assert_eq!(refused(&mut client, "SELECT count(*) FROM rollup_internal.arrivals('o.event')"), no);
    assert_eq!(
        refused(&mut client, "SELECT count(*) FROM rollup_internal.changes('o.event'), o.unrelated"),
        no
    );
    client
        .batch_execute("CREATE VIEW s.mine AS SELECT * FROM rollup_internal.changes('o.event', 'at')")
        .unwrap();
    assert_eq!(refused(&mut client, "SELECT count(*) FROM s.mine"), no);
    for table in ["rollup.change", "rollup.arrival"] {
        assert!(
            refused(&mut client, &format!("SELECT since FROM {table}"))
                .starts_with("42501: permission denied")
        );
    }
    assert!(
        refused(&mut client, "SELECT sum(s) FROM o.event_h_live").starts_with("42501: permission denied")
    );
    client.batch_execute("SET ROLE columns_").unwrap();
    assert_eq!(number(&mut client, asks), 1, "the minute of the row");
    assert_eq!(
        refused(&mut client, "SELECT count(*) FROM rollup_internal.changes('o.event')"),
        no.replace("stranger", "columns_"),
        "of any column"
    );
    client.batch_execute("SET ROLE owner_; SELECT rollup.run('o.event'); RESET ROLE").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(s)::bigint FROM o.event_h"), raw);
}

/// Bounds of partitions that have no end, or that are no moments, hide the other rollups from nobody.
#[test]
fn bounds_of_all_kinds_hide_nothing() {
    let (_cluster, mut client) = prepared("bounds", "");
    client
        .batch_execute(
            "SET timezone = 'UTC';
             CREATE TABLE endless (at timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE TABLE endless_1 PARTITION OF endless FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
             CREATE TABLE infinite (at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE infinite_1 PARTITION OF infinite FOR VALUES FROM (MINVALUE) TO ('infinity');
             CREATE TABLE far (at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE far_1 PARTITION OF far FOR VALUES FROM ('5000000-01-01') TO ('5000001-01-01');
             CREATE TABLE late (at timestamp NOT NULL) PARTITION BY RANGE (at); CREATE TABLE late_1 PARTITION OF late FOR VALUES FROM ('2020-01-01') TO ('294276-12-31 23:59:59')",
        )
        .unwrap();
    for (table, zone) in [("endless", "UTC"), ("infinite", "UTC"), ("late", "Etc/GMT+12"), ("far", "UTC")] {
        client
            .batch_execute(&format!(
                "SELECT rollup.create('{table}_d', 'SELECT date_trunc(''day'', at) AS d, count(*) AS n FROM {table} GROUP BY 1', every => NULL, timezone => '{zone}')"
            ))
            .unwrap();
        // What cannot be kept ahead is refused, or fails later.
        client
            .batch_execute(&format!("SELECT rollup.partition('{table}', '1 day', timezone => '{zone}')"))
            .ok();
    }
    assert_eq!(number(&mut client, "SELECT count(s::text) FROM rollup.status s"), 4);
    assert!(number(&mut client, "SELECT count(m::text) FROM rollup.metrics m") > 20);
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM rollup.metrics WHERE name = 'rollup_partitions_ahead_seconds' AND labels ->> 'relation' = 'endless' AND value = 'Infinity'"
        ),
        1
    );
}

/// Whom row security hides rows from is not told when these changed.
#[test]
fn times_of_hidden_rows_are_hidden() {
    let (_cluster, mut client) = prepared("hidden_times", "");
    client
        .batch_execute(
            "CREATE ROLE looker; CREATE TABLE event (at timestamptz NOT NULL, who name, v int) PARTITION BY RANGE (at);
             CREATE TABLE event_25 PARTITION OF event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01'); CREATE TABLE event_26 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
             SELECT rollup.create('event_d', 'SELECT date_trunc(''day'', at) AS d, count(*) AS n FROM event GROUP BY 1', every => NULL, on_change => 'recompute');
             INSERT INTO event VALUES ('2025-03-04 05:06:07Z', 'me', 1), ('2026-03-04 05:06:07Z', 'me', 1); GRANT SELECT ON event TO looker",
        )
        .unwrap();
    client.batch_execute("SELECT rollup.run('event')").unwrap();
    client.batch_execute("ALTER TABLE event DETACH PARTITION event_25").unwrap();
    client.batch_execute("SELECT rollup.run('event')").unwrap();
    let told = "SELECT count(*) FROM rollup.status WHERE name = 'event_d' AND (missing_rows IS NOT NULL OR refused_changes IS NOT NULL)";
    client.batch_execute("SET ROLE looker").unwrap();
    assert_eq!(number(&mut client, told), 1, "who may read all rows is told");
    client.batch_execute("RESET ROLE; ALTER TABLE event ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON event USING (who = current_user); SET ROLE looker").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM event"), 0);
    assert_eq!(number(&mut client, told), 0);
}
