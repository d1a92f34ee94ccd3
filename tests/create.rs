//! rollup.create beside transactions that are open.
use hll_lab::{Cluster, OURS, Tree, wait_for};
use hll_tests::{QUERY, another, number, prepared};
use postgres::Client;
use std::thread;
use std::time::{Duration, Instant};

/// A long reader keeps rollup.create waiting; what comes after it must not wait with it.
#[test]
fn waiting_for_the_table_holds_no_writer_up() {
    let (cluster, mut client) = prepared("creation", "");
    let mut reader = another(&cluster, "creation");
    reader.batch_execute("BEGIN; SELECT count(*) FROM http_request").unwrap();
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        let creating = scope.spawn(|| {
            let sql = format!("SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => NULL)");
            another(&cluster, "creation").batch_execute(&sql)
        });
        let begun = Instant::now();
        let mut attempts = 0;
        // It has tried for the lock more than once, seen by writers that get through meanwhile.
        while begun.elapsed() < Duration::from_secs(2) {
            let one = Instant::now();
            client.batch_execute("INSERT INTO http_request DEFAULT VALUES").unwrap();
            slowest = slowest.max(one.elapsed());
            attempts += 1;
        }
        assert!(attempts > 5, "{attempts} inserts in two seconds");
        assert!(!creating.is_finished(), "the reader is still open");
        reader.batch_execute("COMMIT").unwrap();
        creating.join().unwrap().expect("the rollup is created once the reader has gone");
    });
    assert!(slowest < Duration::from_secs(1), "an insert waited {slowest:?}");
    let rows = number(&mut client, "SELECT count(*) FROM http_request");
    assert_eq!(rows, number(&mut client, "SELECT rollup_http_request()"));
}

/// Code and message of a statement's error, which has a hint.
fn refused(client: &mut Client, sql: &str) -> String {
    let error = client.batch_execute(sql).expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    assert!(error.hint().is_some(), "{sql}: {error:?}");
    format!("{} {}", error.code().code(), error.message())
}

const EVENTS: &str = "CREATE TABLE event (at timestamptz, v int); CREATE SCHEMA other; CREATE TABLE other.event (at timestamptz, v int);
    CREATE TABLE parted (at timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE TABLE fresh (at timestamptz NOT NULL) PARTITION BY RANGE (at)";

fn create(schema: &str, name: &str) -> String {
    format!(
        "SELECT rollup.create('{schema}.{name}', 'SELECT date_trunc(''day'', at) AS day, sum(v) AS v FROM {schema}.event GROUP BY 1', every => NULL)"
    )
}

/// What a transaction that is prepared has taken stays taken for as long as it pleases somebody.
#[test]
fn what_others_hold_is_not_waited_for_without_end() {
    let settings = format!("{OURS}max_prepared_transactions = 5\nrollup.databases = ''\n");
    let cluster = Cluster::with(Tree::prepare().unwrap(), &settings).unwrap();
    let mut client = cluster.database("held").unwrap();
    client.batch_execute(EVENTS).unwrap();
    client.batch_execute(&create("public", "kept")).unwrap();
    client
        .batch_execute("SELECT rollup.retain('event', '5 days'), rollup.partition('parted', '7 days')")
        .unwrap();
    let today = "DO $$ BEGIN EXECUTE format('CREATE TABLE fresh_%s (i int)', to_char(timezone('UTC', now()), '\"p\"YYYY_MM_DD')); END $$";
    let (mine, theirs) = (create("public", "event_d"), create("other", "event_d"));
    for (taken, call) in [
        ("CREATE TABLE event_d (i int)", mine.as_str()),
        ("CREATE VIEW event_d_live AS SELECT 1", &mine),
        ("CREATE TYPE event_d AS ENUM ()", &mine),
        ("CREATE FUNCTION other.rollup_event() RETURNS int LANGUAGE sql RETURN 1", &theirs),
        (&theirs, &mine),
        ("LOCK TABLE rollup.source IN EXCLUSIVE MODE", &mine),
        ("CREATE TABLE event_m (i int)", "SELECT rollup.add_level('kept', 'event_m', '1 month')"),
        ("SELECT rollup.retain('event', '3 days')", "SELECT rollup.retain('event', '4 days')"),
        ("SELECT rollup.retain('event', NULL)", "SELECT rollup.retain('event', '4 days')"),
        ("SELECT rollup.partition('parted', '8 days')", "SELECT rollup.partition('parted', '1 day')"),
        ("ALTER TABLE parted ADD COLUMN x int", "SELECT rollup.partition('parted', '1 day', '0')"),
        (today, "SELECT rollup.partition('fresh', '1 day', '0')"),
    ] {
        client.batch_execute(&format!("BEGIN; {taken}; PREPARE TRANSACTION 'holds'")).unwrap();
        client.batch_execute("SET lock_timeout = '200ms'").unwrap();
        let told = refused(&mut client, call);
        assert!(told.starts_with("55P03 "), "{taken}; {call}: {told}");
        assert!(!told.contains("canceling"), "{taken}; {call}: {told}");
        client.batch_execute("SET lock_timeout = 0").unwrap();
        client.batch_execute("ROLLBACK PREPARED 'holds'").unwrap();
    }
    // Without a limit of the session's there is one, of the statement's.
    client.batch_execute("BEGIN; CREATE TABLE event_d (i int); PREPARE TRANSACTION 'holds'").unwrap();
    let begun = Instant::now();
    assert!(refused(&mut client, &mine).starts_with("55P03 "));
    assert!(begun.elapsed() > Duration::from_secs(5) && begun.elapsed() < Duration::from_secs(30));
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM pg_settings WHERE name = 'lock_timeout' AND setting = '0'"),
        1
    );
    client.batch_execute("ROLLBACK PREPARED 'holds'").unwrap();
    client.batch_execute(&mine).unwrap();
}

/// Who was faster is told of in words.
#[test]
fn a_name_that_another_transaction_takes_is_taken() {
    let (cluster, mut client) = prepared("faster", "");
    client.batch_execute(EVENTS).unwrap();
    client.batch_execute(&create("public", "kept")).unwrap();
    let (mine, theirs) = (create("public", "event_d"), create("other", "event_d"));
    let of_other = create("other", "hours");
    for (taken, call, code) in [
        ("CREATE TABLE event_d (i int)", mine.as_str(), "42P07 "),
        ("CREATE TYPE event_d AS ENUM ()", &mine, "42P07 "),
        (&theirs, &mine, "42P07 "),
        ("CREATE FUNCTION other.rollup_event() RETURNS int LANGUAGE sql RETURN 1", &of_other, "42710 "),
        ("CREATE TABLE event_m (i int)", "SELECT rollup.add_level('kept', 'event_m', '1 month')", "42P07 "),
    ] {
        let mut faster = another(&cluster, "faster");
        faster.batch_execute(&format!("BEGIN; {taken}")).unwrap();
        let told = thread::scope(|scope| {
            let slower = scope.spawn(|| refused(&mut another(&cluster, "faster"), call));
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
            wait_for("the slower one waits", 10, || number(&mut client, waits) > 0);
            faster.batch_execute("COMMIT").unwrap();
            slower.join().unwrap()
        });
        assert!(told.starts_with(code), "{taken}; {call}: {told}");
        client
            .batch_execute(
                "DROP TABLE IF EXISTS event_m; SELECT rollup.drop(name) FROM rollup.definition WHERE name <> 'kept'; DROP FUNCTION IF EXISTS other.rollup_event();
                 DO $$ BEGIN DROP TYPE IF EXISTS event_d; EXCEPTION WHEN wrong_object_type OR dependent_objects_still_exist THEN DROP TABLE event_d; END $$",
            )
            .unwrap();
    }
}

/// The last rollup of a table goes while another comes: whichever is first, what is left is whole.
#[test]
fn one_comes_while_the_last_one_goes() {
    let (cluster, mut client) = prepared("coming", "");
    client.batch_execute(EVENTS).unwrap();
    for (isolation, code) in [("READ COMMITTED", None), ("REPEATABLE READ", Some("40001"))] {
        client.batch_execute(&create("public", "first")).unwrap();
        let mut coming = another(&cluster, "coming");
        let mut going = another(&cluster, "coming");
        going
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM event"))
            .unwrap();
        going.batch_execute("COMMIT; BEGIN").unwrap();
        going
            .batch_execute(&format!(
                "SET TRANSACTION ISOLATION LEVEL {isolation}; SELECT 1 FROM rollup.source"
            ))
            .unwrap();
        coming.batch_execute(&format!("BEGIN; {}", create("public", "second"))).unwrap();
        let gone = thread::scope(|scope| {
            let drops = scope.spawn(|| going.batch_execute("SELECT rollup.drop('first'); COMMIT"));
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            wait_for("the one that goes waits", 10, || number(&mut client, waits) > 0);
            coming.batch_execute("COMMIT").unwrap();
            drops.join().unwrap()
        });
        let failed = gone.err().map(|e| e.code().unwrap().code().to_string());
        assert_eq!(failed.as_deref(), code, "{isolation}");
        client.batch_execute("INSERT INTO event VALUES (now(), 1)").unwrap();
        assert!(number(&mut client, "SELECT rollup_event()") > 0);
        client.batch_execute("SELECT rollup.drop(name) FROM rollup.definition").unwrap();
        // And the other way round: the one that comes waits until the last has gone.
        client.batch_execute(&create("public", "first")).unwrap();
        let mut going = another(&cluster, "coming");
        going.batch_execute("BEGIN; SELECT rollup.drop('first')").unwrap();
        thread::scope(|scope| {
            let comes =
                scope.spawn(|| another(&cluster, "coming").batch_execute(&create("public", "second")));
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            wait_for("the one that comes waits", 10, || number(&mut client, waits) > 0);
            going.batch_execute("COMMIT").unwrap();
            comes.join().unwrap().expect("it comes");
        });
        client.batch_execute("INSERT INTO event VALUES (now(), 1)").unwrap();
        assert!(number(&mut client, "SELECT rollup.run('event')") > 0);
        client.batch_execute("SELECT rollup.drop(name) FROM rollup.definition").unwrap();
        assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.source"), 0);
    }
}

/// Names that others have: who has them, and the way out.
#[test]
fn a_name_that_is_taken_says_by_whom() {
    let (_cluster, mut client) = prepared("taken", "");
    client
        .batch_execute(
            "CREATE ROLE first; CREATE ROLE second; CREATE SCHEMA one AUTHORIZATION first; CREATE SCHEMA two AUTHORIZATION second; CREATE SCHEMA shared; GRANT ALL ON SCHEMA shared TO first, second;
             SET ROLE first; CREATE TABLE one.other (at timestamptz, v int); CREATE TABLE shared.y (v int); RESET ROLE;
             SET ROLE second; CREATE TABLE two.event (at timestamptz, v int); RESET ROLE",
        )
        .unwrap();
    let create = |name: &str, source: &str| {
        format!(
            "SELECT rollup.create('{name}', 'SELECT date_trunc(''day'', at) AS day, sum(v) AS v FROM {source} GROUP BY 1', every => NULL)"
        )
    };
    // Its table goes to another schema and gets another name; its name in the catalog stays.
    client.batch_execute("SET ROLE first").unwrap();
    client.batch_execute(&create("shared.x", "one.other")).unwrap();
    client.batch_execute("ALTER TABLE shared.x RENAME TO z").unwrap();
    client.batch_execute("ALTER VIEW shared.x_live RENAME TO z_live").unwrap();
    client.batch_execute("ALTER TABLE shared.z SET SCHEMA one").unwrap();
    client.batch_execute("SET ROLE second").unwrap();
    let told = |client: &mut Client, sql: &str| {
        let error = client.batch_execute(sql).expect_err(sql);
        let error = error.as_db_error().unwrap();
        format!("{} {} {}", error.code().code(), error.message(), error.hint().unwrap_or_default())
    };
    let said = told(&mut client, &create("shared.x", "two.event"));
    assert!(
        said.starts_with(
            "42710 name shared.x is taken by another rollup, that of table one.z, which belongs to role first"
        ),
        "{said}"
    );
    let way_out = said.split("stays with it: ").nth(1).unwrap().to_string();
    let said = told(&mut client, &create("shared.y", "two.event"));
    assert!(
        said.starts_with("42P07 relation \"shared\".\"y\" already exists It belongs to role first"),
        "{said}"
    );
    // The way out runs as it stands.
    client.batch_execute("SET ROLE first").unwrap();
    client.batch_execute(&way_out).unwrap();
    client.batch_execute("SET ROLE second").unwrap();
    client.batch_execute(&create("shared.x", "two.event")).unwrap();
}

/// A row of the table's type, and a file with all of the columns but one, lack the stamp: what to do is said, and helps.
#[test]
fn rows_without_a_stamp() {
    let (_cluster, mut client) = prepared("stampless", "");
    client.batch_execute(EVENTS).unwrap();
    client.batch_execute("CREATE TABLE other.\"Odd \"\"one\" (LIKE event)").unwrap();
    for table in ["public.event", "other.\"Odd \"\"one\""] {
        client
            .execute(
                "SELECT rollup.create('public.by_' || length($1::text), 'SELECT date_trunc(''day'', at) AS day, sum(v) AS v FROM ' || $1 || ' GROUP BY 1', every => NULL)",
                &[&table],
            )
            .unwrap();
        let insert = format!(
            "INSERT INTO {table} SELECT * FROM jsonb_populate_record(NULL::{table}, '{{\"at\": \"2026-01-01Z\", \"v\": 4}}')"
        );
        let error = client.batch_execute(&insert).expect_err("no stamp");
        let hint = error.as_db_error().unwrap().hint().expect("a hint").to_string();
        assert_eq!(error.as_db_error().unwrap().code().code(), "23502");
        let remedy = &hint[hint.find("CREATE TRIGGER").expect("a statement")..];
        client.batch_execute(remedy).unwrap_or_else(|e| panic!("{remedy}: {e:?}"));
        client.batch_execute(&insert).unwrap();
        let run = client.query_one("SELECT rollup.run($1::text::regclass)", &[&table]).unwrap();
        assert_eq!(run.get::<_, i64>(0), 1, "{table}");
        // Any other column is PostgreSQL's affair.
        client.batch_execute(&format!("ALTER TABLE {table} ALTER COLUMN at SET NOT NULL")).unwrap();
        let error =
            client.batch_execute(&format!("INSERT INTO {table} (v) VALUES (1)")).expect_err("no time");
        assert!(error.as_db_error().unwrap().hint().is_none());
    }
    use std::io::Write;
    let mut copy = client.copy_in("COPY event FROM STDIN").unwrap();
    let done = copy.write_all(b"2026-01-01\t1\n").map_err(|e| e.to_string());
    let error = copy.finish().expect_err("a column is missing");
    let hint = error.as_db_error().unwrap().hint().unwrap_or_default();
    assert!(done.is_ok() && hint.contains("COPY table (column"), "{hint}");
}
