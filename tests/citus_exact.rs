//! The ways in which a row of a Citus cluster may become visible after the transaction that its stamp names has
//! finished. Random load does not find them; each of these tests opens one wide and runs the rollup inside it.
use std::sync::mpsc;
use std::thread;

use hll_lab::{Citus, wait_for};
use hll_tests::forgive::{answering, lost};
use hll_tests::nodes::{merged, one_row, prepared, rows, run_and_compare, site_on, value_on};
use hll_tests::number;
use postgres::Client;

const RUN: &str = "SELECT rollup_http_request()";

#[test]
fn what_comes_late_is_not_lost() {
    let Some((mut citus, _)) = prepared() else { return };
    for node in 0..3 {
        citus.connect(node).unwrap().batch_execute("ALTER SYSTEM SET rollup.node_timeout = '500ms'").unwrap();
        citus
            .connect(node)
            .unwrap()
            .batch_execute("ALTER SYSTEM SET citus.recover_2pc_interval = '1h'")
            .unwrap();
        citus.connect(node).unwrap().batch_execute("SELECT pg_reload_conf()").unwrap();
    }
    wait_for("the settings are read", 10, || {
        number(
            &mut citus.connect(0).unwrap(),
            "SELECT setting::bigint FROM pg_settings WHERE name = 'rollup.node_timeout'",
        ) == 500
    });
    let mut client = citus.connect(0).unwrap();
    client.batch_execute(RUN).unwrap();
    a_sister_commits_later(&citus, &mut client);
    the_origin_was_terminated(&citus, &mut client);
    a_group_in_doubt(&citus, &mut client);
    an_orphan_after_a_crash(&citus, &mut client);
    let mut client = reconnected(&citus);
    a_crash_while_a_worker_commits(&citus, &mut client);
    let mut client = reconnected(&citus);
    ids_that_were_not_logged(&mut citus, &mut client);
    a_node_that_is_down(&mut citus, &mut client);
}

fn reconnected(citus: &Citus) -> Client {
    answering(|| citus.connect(0))
}

/// The state of a group: ids at or above were not finished, nor those in the list.
fn seen(client: &mut Client, group: i64, kind: &str) -> (i64, Vec<i64>) {
    let sql = format!(
        "SELECT (nodes->'nodes'->'{group}'->'{kind}'->>'xmax')::bigint, ARRAY(SELECT x::bigint FROM jsonb_array_elements_text(coalesce(nodes->'nodes'->'{group}'->'{kind}'->'xip', '[]')) x) FROM rollup.definition"
    );
    let row = client.query_one(&sql, &[]).unwrap();
    (row.get::<_, Option<i64>>(0).unwrap_or_default(), row.get(1))
}

fn is_seen(client: &mut Client, stamp: i64, kind: &str) -> bool {
    let (xmax, xip) = seen(client, stamp >> 48, kind);
    let id = stamp & ((1 << 47) - 1);
    id < xmax && !xip.contains(&id)
}

/// Makes commits of rows of a shard take long on the node that has it.
fn slow_commits(worker: &mut Client, shard: &str, seconds: f64) {
    worker
        .batch_execute(&format!(
            "SET citus.enable_manual_changes_to_shards = on; SET citus.override_table_visibility = off; SET citus.enable_ddl_propagation = off;
             CREATE OR REPLACE FUNCTION public.doze() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER doze AFTER INSERT ON {shard} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.doze()"
        ))
        .unwrap();
}

fn quick_commits(worker: &mut Client, shard: &str) {
    worker
        .batch_execute(&format!(
            "SET citus.enable_manual_changes_to_shards = on; SET citus.override_table_visibility = off; SET citus.enable_ddl_propagation = off;
             DROP TRIGGER doze ON {shard}"
        ))
        .unwrap();
}

/// A run that has something to do, and so goes as far as nodes are: it finds a row of another site.
fn run_on(client: &mut Client, site: i32) {
    client.batch_execute(&one_row(site)).unwrap();
    client.batch_execute(RUN).unwrap();
}

/// (a) Rows read on one node and written on another: both end at once, the one that only read sooner. Its id is what
/// the rows are stamped with.
fn a_sister_commits_later(citus: &Citus, client: &mut Client) {
    let (to, shard) = site_on(client, citus, 2);
    client
        .batch_execute("CREATE TABLE other (id int, v int); SELECT create_distributed_table('other', 'id', colocate_with => 'none')")
        .unwrap();
    let (from, _) = value_on(client, citus, "other", 1);
    client
        .batch_execute(&format!("INSERT INTO other SELECT {from}, g FROM generate_series(1, 5) g"))
        .unwrap();
    let mut worker = citus.connect(2).unwrap();
    slow_commits(&mut worker, &shard, 0.3);
    let insert = format!(
        "BEGIN; INSERT INTO http_request (site_id, ip_address, response_time_msec) SELECT {to}, v::text, v FROM other; COMMIT"
    );
    let (elsewhere, _) = site_on(client, citus, 1);
    let there = format!("SELECT count(*) FROM http_request WHERE site_id = {to} AND ip_address = '5'");
    let (send, done) = mpsc::channel();
    let mut writer = citus.connect(0).unwrap();
    let mut windows = 0;
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.batch_execute(&insert).unwrap();
            send.send(()).unwrap();
        });
        let mut candidates = Vec::new();
        while done.try_recv().is_err() {
            run_on(client, elsewhere);
            if number(client, &there) == 0 {
                candidates.push([0, 1, 2].map(|g| (seen(client, g, "seen"), seen(client, g, "safe"))));
            }
        }
        let stamp = number(
            client,
            &format!("SELECT max(rollup_stamp) FROM http_request WHERE site_id = {to} AND ip_address = '5'"),
        );
        assert_eq!((stamp >> 47) & 1, 1, "a connection of Citus evaluated the stamp");
        let id = stamp & ((1 << 47) - 1);
        for groups in &candidates {
            let ((xmax, xip), (safe, _)) = &groups[(stamp >> 48) as usize];
            // Finished by its own node, and not taken for it.
            windows += usize::from(id < *xmax && !xip.contains(&id));
            assert!(id >= *safe, "safe has passed a transaction whose rows cannot be seen");
        }
    });
    assert!(windows > 0, "no run came between the two commits");
    quick_commits(&mut worker, &shard);
    run_and_compare(client, "rows whose stamp is that of the reader");
}

/// (e) The client of a statement is terminated while a worker commits it, past the point where it would still listen.
fn the_origin_was_terminated(citus: &Citus, client: &mut Client) {
    let (site, _) = site_on(client, citus, 2);
    let mut worker = citus.connect(2).unwrap();
    worker.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").unwrap();
    worker.batch_execute("SELECT pg_reload_conf()").unwrap();
    let mut origin = citus.connect(0).unwrap();
    let pid = number(&mut origin, "SELECT pg_backend_pid()::bigint");
    let (elsewhere, _) = site_on(client, citus, 1);
    let there = format!("SELECT count(*) FROM http_request WHERE site_id = {site}");
    let before = number(client, &there);
    thread::scope(|scope| {
        scope.spawn(move || {
            let error = origin.batch_execute(&one_row(site)).expect_err("its connection ends under it");
            assert!(lost(&error), "{error:?}");
        });
        let committing =
            "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        wait_for("the worker waits for its standby", 20, || number(&mut worker, committing) > 0);
        let victim = number(&mut worker, committing);
        signal("-STOP", victim);
        client.batch_execute(&format!("SELECT pg_terminate_backend({pid}::int, 5000)")).unwrap();
        for _ in 0..3 {
            run_on(client, elsewhere);
        }
        assert_eq!(number(client, &there), before);
        let (xmax, xip) = seen(client, 0, "seen");
        assert!(!xip.is_empty() && xmax > 0, "what was aborted is not finished yet: {xmax} {xip:?}");
        worker.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").unwrap();
        worker.batch_execute("SELECT pg_reload_conf()").unwrap();
        signal("-CONT", victim);
    });
    wait_for("the row is there", 20, || number(client, &there) == before + 1);
    run_and_compare(client, "a row whose transaction was aborted");
    wait_for("it is finished", 10, || {
        run_on(client, elsewhere);
        seen(client, 0, "seen").1.len() <= 1
    });
}

fn signal(signal: &str, pid: i64) {
    let done = std::process::Command::new("sh")
        .args(["-c", "kill \"$0\" \"$1\"", signal, &pid.to_string()])
        .status();
    assert!(done.unwrap().success(), "process {pid}");
}

/// A node has prepared its part, and not heard that the whole was committed: rows of that origin wait, others do not.
fn a_group_in_doubt(citus: &Citus, client: &mut Client) {
    let (site, shard) = site_on(client, citus, 2);
    let mut worker = citus.connect(2).unwrap();
    // What Citus leaves when it loses the connection between the two: the origin has committed, with a record of it.
    let stamp = number(
        client,
        "WITH r AS (INSERT INTO pg_dist_transaction (groupid, gid) VALUES (2, 'citus_0_4711_1_0') RETURNING 1) SELECT rollup.stamp() FROM r",
    );
    worker
        .batch_execute(&format!(
            "SET citus.enable_manual_changes_to_shards = on; BEGIN;
             INSERT INTO {shard} VALUES ({site}, now(), '10.9.9.9', 'DE', 200, 7, {stamp});
             PREPARE TRANSACTION 'citus_0_4711_1_0'"
        ))
        .unwrap();
    let before = merged(client);
    client.batch_execute(&one_row(site)).unwrap();
    citus.connect(1).unwrap().batch_execute(&one_row(site)).unwrap();
    client.batch_execute(RUN).unwrap();
    assert_eq!(merged(client), before + 1, "rows of the other origin are merged, those of this one wait");
    assert!(!is_seen(client, stamp, "seen"));
    let told = "SELECT count(*) FROM rollup.nodes('http_request_1min') WHERE group_id = 2 AND waits_for LIKE '%citus_0_4711_1_0 is in doubt'";
    assert_eq!(number(client, told), 1);
    let held = held_back(client).unwrap();
    let port = citus.nodes[2].port();
    assert_eq!(held, format!("node 127.0.0.1:{port} (group 2): transaction citus_0_4711_1_0 is in doubt"));
    client.batch_execute("SELECT recover_prepared_transactions()").unwrap();
    assert_eq!(number(&mut worker, "SELECT count(*) FROM pg_prepared_xacts"), 0);
    run_and_compare(client, "a transaction in doubt");
    assert_eq!(held_back(client), None);
    assert_eq!(merged(client), before + 3);
}

/// What `rollup.status` says of what the next run waits for.
fn held_back(client: &mut Client) -> Option<String> {
    client.query_one("SELECT held_back_by FROM rollup.status", &[]).unwrap().get(0)
}

/// A process that waits, as told in `pg_stat_activity`; its id.
fn waiting(node: &mut Client, kind: &str) -> i64 {
    let sql = format!(
        "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity WHERE application_name LIKE 'citus_internal%' AND {kind}"
    );
    wait_for("a connection of Citus that waits", 20, || number(node, &sql) > 0);
    number(node, &sql)
}

fn crash(citus: &Citus, client: &mut Client, pid: i64) {
    citus.nodes[0].kill(pid).unwrap();
    wait_for("the server notices", 30, || client.simple_query("SELECT 1").is_err());
}

/// What a run says that must wait for statements sent before a crash.
fn held(client: &mut Client) -> String {
    let e = client.batch_execute(RUN).expect_err("statements from before the crash are at work");
    let e = e.as_db_error().unwrap();
    format!("{} {}", e.code().code(), e.message())
}

/// (b) The coordinator crashes while a statement it has sent waits on a worker: that goes on, and commits.
fn an_orphan_after_a_crash(citus: &Citus, client: &mut Client) {
    let (site, shard) = site_on(client, citus, 2);
    let mut worker = citus.connect(2).unwrap();
    worker
        .batch_execute(&format!(
            "SET citus.enable_manual_changes_to_shards = on; BEGIN; LOCK TABLE {shard} IN SHARE MODE"
        ))
        .unwrap();
    let before = rows(client);
    let mut origin = citus.connect(0).unwrap();
    let pid = number(&mut origin, "SELECT pg_backend_pid()::bigint");
    let mut look = citus.connect(2).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || origin.batch_execute(&one_row(site)).expect_err("the server crashes"));
        waiting(&mut look, "wait_event_type = 'Lock'");
        crash(citus, client, pid);
    });
    let mut client = reconnected(citus);
    let e = held(&mut client);
    assert!(e.starts_with("55000 group 0 was restarted"), "{e}");
    let why = held_back(&mut client).unwrap();
    assert!(
        why.contains(" (group 0): the server was restarted, and statements of Citus are at work"),
        "{why}"
    );
    worker.batch_execute("COMMIT").unwrap();
    wait_for("the orphan's row is there", 20, || rows(&mut client) == before + 1);
    run_and_compare(&mut client, "a statement that outlived its origin");
}

/// (d) The coordinator crashes while a worker is committing what it alone has written.
fn a_crash_while_a_worker_commits(citus: &Citus, client: &mut Client) {
    let (site, shard) = site_on(client, citus, 2);
    let mut worker = citus.connect(2).unwrap();
    slow_commits(&mut worker, &shard, 2.0);
    let before = rows(client);
    let mut origin = citus.connect(0).unwrap();
    let pid = number(&mut origin, "SELECT pg_backend_pid()::bigint");
    thread::scope(|scope| {
        scope.spawn(move || {
            origin
                .batch_execute(&format!("BEGIN; {}; COMMIT", one_row(site)))
                .expect_err("the server crashes")
        });
        waiting(&mut worker, "wait_event = 'PgSleep'");
        crash(citus, client, pid);
    });
    let mut client = reconnected(citus);
    assert_eq!(rows(&mut client), before);
    let e = held(&mut client);
    assert!(e.starts_with("55000 group 0 was restarted"), "{e}");
    wait_for("the row is there", 20, || rows(&mut client) == before + 1);
    run_and_compare(&mut client, "a commit that outlived its origin");
    quick_commits(&mut worker, &shard);
}

/// (c) A node that writes nothing itself hands out ids that no crash would remember, had the run not seen to it.
fn ids_that_were_not_logged(citus: &mut Citus, client: &mut Client) {
    let node = citus.start_node().unwrap();
    let mut there = citus.connect(node).unwrap();
    there.batch_execute("ALTER SYSTEM SET wal_writer_delay = '10s'").unwrap();
    there.batch_execute("SELECT pg_reload_conf()").unwrap();
    citus.add(node).unwrap();
    client.batch_execute(RUN).unwrap();
    let (site, _) = site_on(client, citus, 2);
    there.batch_execute("CHECKPOINT").unwrap();
    for _ in 0..40 {
        there.batch_execute(&one_row(site)).unwrap();
    }
    let highest = number(&mut there, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
    client.batch_execute(RUN).unwrap();
    let group = number(&mut there, "SELECT groupid::bigint FROM pg_dist_local_group");
    assert!(seen(client, group, "seen").0 >= highest);
    citus.nodes[node].quit().unwrap();
    citus.nodes[node].start().unwrap();
    let mut there = citus.connect(node).unwrap();
    let again = number(&mut there, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
    assert!(again >= highest, "ids went back from {highest} to {again}");
    for _ in 0..20 {
        there.batch_execute(&one_row(site)).unwrap();
    }
    run_and_compare(client, "ids handed out after a crash");
}

/// A run without one of the nodes fails, changes nothing, and says which; the next one goes on.
fn a_node_that_is_down(citus: &mut Citus, client: &mut Client) {
    let (site, _) = site_on(client, citus, 1);
    client.batch_execute(&one_row(site)).unwrap();
    let before: String = client.query_one("SELECT nodes::text FROM rollup.definition", &[]).unwrap().get(0);
    citus.nodes[2].stop().unwrap();
    let e = client.batch_execute(RUN).expect_err("a node is down");
    let e = e.as_db_error().unwrap();
    assert_eq!(e.code().code(), "08000");
    assert!(e.message().contains("(group 2) does not answer"), "{}", e.message());
    let told = "SELECT count(*) FROM rollup.nodes('http_request_1min') WHERE (waits_for LIKE '%does not answer%') = (group_id = 2)";
    assert!(number(client, told) >= 1);
    // The view that operators look at answers, and names the node.
    let (held, port) = (held_back(client).unwrap(), citus.nodes[2].port());
    assert!(held.starts_with(&format!("node 127.0.0.1:{port} (group 2): ")), "{held}");
    assert!(held.contains("does not answer") && !held.contains("(group 1)"), "{held}");
    let unknown: Option<i64> = client.query_one("SELECT lag_rows FROM rollup.status", &[]).unwrap().get(0);
    assert_eq!(unknown, None, "nobody can count rows of a node that is down");
    let after: String = client.query_one("SELECT nodes::text FROM rollup.definition", &[]).unwrap().get(0);
    assert_eq!(before, after);
    citus.nodes[2].start().unwrap();
    run_and_compare(client, "after a node was down");
}
