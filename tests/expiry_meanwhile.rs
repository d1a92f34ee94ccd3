//! What changes while rows expire: nothing goes that ceased to be old, and nothing else goes unseen.
use hll_lab::wait_for;
use hll_tests::partitioned::days_of_event;
use hll_tests::{another, configure, number, prepared};

const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass";

fn without_worker(client: &mut postgres::Client) {
    configure(client, &["SET rollup.databases = ''"]);
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'rollup%' AND datname = current_database()";
    wait_for("the worker leaves", 60, || number(client, workers) == 0);
}

/// Calls `rollup.expire` while somebody holds what it waits for, changes the world meanwhile, and lets it go on.
fn expire_meanwhile(cluster: &hll_lab::Cluster, db: &str, holds: &str, meanwhile: &str) {
    let (mut holder, mut other) = (another(cluster, db), another(cluster, db));
    holder.batch_execute(&format!("BEGIN; {holds}")).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| another(cluster, db).batch_execute("SELECT rollup.expire('event')"));
        wait_for("expiry waits", 60, || {
            number(
                &mut other,
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.query ~ 'rollup.expire'",
            ) > 0
        });
        other.batch_execute(meanwhile).unwrap();
        holder.batch_execute("COMMIT").unwrap();
        // It may find that there is nothing to do; the rest is what it left.
        waiting.join().unwrap().unwrap_or_else(|e| panic!("{meanwhile}: {e:?}"));
    });
}

#[test]
fn nothing_goes_that_ceased_to_be_old() {
    let (cluster, mut client) = prepared("meanwhile", "");
    without_worker(&mut client);
    let interlock = "SELECT FROM rollup.source WHERE relation = 'event'::regclass FOR UPDATE";
    let rows = "SELECT count(*) FROM ";
    // What is done meanwhile, which table must keep its rows, and how many.
    for (meanwhile, keeps, left) in [
        ("ALTER TABLE event DETACH PARTITION event_4", "event_4", 10),
        (
            "ALTER TABLE event DETACH PARTITION event_4; ALTER TABLE event_4 RENAME TO saved; CREATE TABLE event_4 AS TABLE saved",
            "saved",
            10,
        ),
        (
            "ALTER TABLE event DETACH PARTITION event_4; ALTER TABLE event_4 RENAME TO saved; CREATE TABLE event_4 AS TABLE saved",
            "event_4",
            10,
        ),
        ("ALTER TABLE event_4 RENAME TO old; CREATE TABLE event_4 AS TABLE old", "event_4", 10),
        (
            "CREATE SCHEMA archive; ALTER TABLE event DETACH PARTITION event_4; ALTER TABLE event_4 SET SCHEMA archive",
            "archive.event_4",
            10,
        ),
        ("SELECT rollup.retain('event', '30 days')", "event", 60),
        ("SELECT rollup.retain('event', NULL)", "event", 60),
        (
            "ALTER TABLE event RENAME TO past; CREATE TABLE event (LIKE past); INSERT INTO event SELECT * FROM past",
            "event",
            60,
        ),
        (
            "ALTER TABLE event DETACH PARTITION event_4; ALTER TABLE event ATTACH PARTITION event_4 FOR VALUES FROM ('2999-01-01') TO ('2999-01-02')",
            "event_4",
            0,
        ),
    ] {
        client.batch_execute("DROP TABLE IF EXISTS event, event_4, saved, past CASCADE; DROP SCHEMA IF EXISTS archive CASCADE; SELECT rollup.drop(name) FROM rollup.definition").unwrap();
        days_of_event(&mut client, 5);
        client.batch_execute("SELECT rollup_event(); SELECT rollup.retain('event', '2 days')").unwrap();
        if left == 0 {
            // A partition whose bound is another one by now stays; its rows need fit the new bound only.
            client.batch_execute("DELETE FROM event_4").unwrap();
        }
        expire_meanwhile(&cluster, "meanwhile", interlock, meanwhile);
        assert_eq!(number(&mut client, &format!("{rows}{keeps}")), left, "{keeps} after {meanwhile}");
    }
}

#[test]
fn pieces_of_a_child_table_go_by_its_oid() {
    let (cluster, mut client) = prepared("child", "");
    let mut holder = another(&cluster, "child");
    client
        .batch_execute(
            "CREATE TABLE event (at timestamptz, x int); CREATE TABLE child () INHERITS (event);
             SELECT rollup.retain('event', '2 days', 'at')",
        )
        .unwrap();
    // The worker finds the rows, and stops at the row that it has to hold while it removes them.
    holder.batch_execute("BEGIN; SELECT FROM rollup.retention FOR UPDATE").unwrap();
    client
        .batch_execute("INSERT INTO child SELECT now() - interval '9 days', g FROM generate_series(1, 10) g")
        .unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'rollup%' AND wait_event_type = 'Lock'";
    wait_for("the worker has found the rows, and waits", 60, || number(&mut client, waits) > 0);
    client
        .batch_execute(
            "ALTER TABLE child NO INHERIT event; ALTER TABLE child RENAME TO saved; CREATE TABLE child () INHERITS (event); INSERT INTO child SELECT * FROM saved",
        )
        .unwrap();
    holder.batch_execute("COMMIT").unwrap();
    wait_for("the rows of the new child go", 60, || number(&mut client, "SELECT count(*) FROM child") == 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM saved"), 10, "it is no child any more");
}

#[test]
fn what_cannot_go_says_why_once() {
    let (cluster, mut client) = prepared("rests", "");
    days_of_event(&mut client, 5);
    client
        .batch_execute(
            "ALTER TABLE event ADD CONSTRAINT event_key UNIQUE (at, x); SELECT rollup_event();
             CREATE TABLE line (at timestamptz, x int, FOREIGN KEY (at, x) REFERENCES event (at, x)); INSERT INTO line SELECT at, x FROM event_4 LIMIT 1",
        )
        .unwrap();
    client.batch_execute("SELECT rollup.retain('event', '2 days')").unwrap();
    wait_for("the others go", 60, || number(&mut client, PARTITIONS) == 4);
    let said = "SELECT count(*) FROM rollup.status WHERE expiry_error LIKE '%event_4%'";
    wait_for("the status names the one that stays", 60, || number(&mut client, said) == 1);
    assert_eq!(number(&mut client, "SELECT count(*) FROM event_4"), 10);
    wait_for("another attempt", 60, || {
        number(&mut client, "SELECT failures::bigint FROM rollup.retention") >= 2
    });
    assert_eq!(
        cluster.log().matches("expiry of public.event failed").count(),
        1,
        "one line, not one an attempt"
    );
    client.batch_execute("TRUNCATE line").unwrap();
    wait_for("it goes", 60, || number(&mut client, PARTITIONS) == 3);
    wait_for("nothing is said any more", 60, || number(&mut client, said) == 0);
}

#[test]
fn only_what_expires_is_no_change() {
    let (_cluster, mut client) = prepared("bystander", "");
    client
        .batch_execute(
            "CREATE TABLE kept (at timestamptz, v int);
             SELECT rollup.create('kept_1d', 'SELECT date_trunc(''day'', at) AS at, sum(v) AS total FROM kept GROUP BY 1', every => NULL, on_change => 'recompute');
             CREATE TABLE old (at timestamptz, v int);
             SELECT rollup.create('old_1d', 'SELECT date_trunc(''day'', at) AS at, sum(v) AS total FROM old GROUP BY 1', every => NULL, on_change => 'recompute');
             INSERT INTO kept SELECT now(), 1 FROM generate_series(1, 3); INSERT INTO old VALUES (now(), 1), (now() - interval '10 days', 1);
             -- Rows that code beside the deletion changes, of another table and of this one.
             CREATE FUNCTION on_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               UPDATE public.kept SET v = 1000; UPDATE public.old SET v = 7 WHERE at > now() - interval '1 day'; RETURN OLD; END $$;
             CREATE TRIGGER d BEFORE DELETE ON old FOR EACH ROW EXECUTE FUNCTION on_delete()",
        )
        .unwrap();
    for step in [
        "SELECT rollup_kept(), rollup_old()",
        "SELECT rollup.retain('old', '1 day'); SELECT rollup.expire('old')",
        "SELECT rollup_kept(), rollup_old()",
    ] {
        client.batch_execute(step).unwrap();
    }
    assert_eq!(number(&mut client, "SELECT count(*) FROM old"), 1);
    assert_eq!(number(&mut client, "SELECT sum(total)::bigint FROM kept_1d"), 3000);
    // The row that expired is in the rollup for good, the one that changed as it is now.
    assert_eq!(number(&mut client, "SELECT sum(total)::bigint FROM old_1d"), 8);
}
