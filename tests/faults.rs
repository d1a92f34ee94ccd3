//! Processes that are killed, servers that stop, disks that are full: afterwards the rollup equals the raw table,
//! and the worker goes on by itself.
use std::process::Command;

use hll_lab::{Cluster, skip, wait_for};
use hll_tests::forgive::answering;
use hll_tests::{QUERY, ROWS, TABLE, another, caught_up, configure, differences, number, prepared};
use postgres::Client;

const RUNNING: &str = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity
    WHERE application_name = 'rollup: http_request_1min' AND wait_event_type = 'Lock'";

/// A worker that waits in the middle of a run, for a lock that `blocker` holds; its process id.
fn stuck(client: &mut Client, blocker: &mut Client) -> i64 {
    blocker.batch_execute("BEGIN; LOCK TABLE http_request_1min IN SHARE MODE").unwrap();
    client.batch_execute(ROWS).unwrap();
    wait_for("a run that waits", 30, || number(client, RUNNING) > 0);
    number(client, RUNNING)
}

fn reconnected(cluster: &Cluster, db: &str) -> Client {
    answering(|| cluster.connect(db))
}

#[test]
fn a_killed_worker_rests_and_goes_on() {
    let (cluster, mut client) = prepared("killed", "1 second");
    configure(&mut client, &["SET rollup.crash_hold = '3s'"]);
    let mut blocker = another(&cluster, "killed");
    let pid = stuck(&mut client, &mut blocker);
    cluster.kill(pid).unwrap();
    wait_for("the server notices", 30, || client.simple_query("SELECT 1").is_err());
    let mut client = reconnected(&cluster, "killed");
    let told = "SELECT count(*) FROM rollup.status WHERE state = 'failing' AND last_error LIKE 'the server crashed while it ran%rollup.crash_hold'
                AND next_run > last_run + interval '2 seconds'";
    wait_for("it rests", 30, || number(&mut client, told) == 1);
    assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
    caught_up(&mut client);
    assert_eq!(number(&mut client, "SELECT failures::bigint FROM rollup.status"), 0);
    assert!(cluster.log().contains("rollup http_request_1min rests: the server crashed while it ran"));
}

#[test]
fn a_killed_backend_costs_nothing() {
    let (cluster, mut client) = prepared("backend", "100 milliseconds");
    client.batch_execute("ALTER DATABASE backend SET synchronous_commit = off").unwrap();
    // A run may be under way when the server crashes, and its rollup rests.
    configure(&mut client, &["SET rollup.crash_hold = '1s'"]);
    for _ in 0..3 {
        let mut writer = another(&cluster, "backend");
        let pid = number(&mut writer, "SELECT pg_backend_pid()::bigint");
        for _ in 0..5 {
            writer.batch_execute(ROWS).unwrap();
        }
        writer.batch_execute(&format!("BEGIN; {ROWS}")).unwrap();
        cluster.kill(pid).unwrap();
        wait_for("the server notices", 30, || client.simple_query("SELECT 1").is_err());
        client = reconnected(&cluster, "backend");
        assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
        caught_up(&mut client);
    }
}

#[test]
fn an_orderly_end_is_no_crash() {
    let (mut cluster, mut client) = prepared("orderly", "1 second");
    let mut blocker = another(&cluster, "orderly");
    let pid = stuck(&mut client, &mut blocker);
    client.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    wait_for("another process runs it", 30, || ![0, pid].contains(&number(&mut client, RUNNING)));
    // A run whose process somebody ends has failed, and the rollup rests as after any other failure.
    assert_eq!(number(&mut client, "SELECT failed FROM rollup.status"), 1);
    cluster.stop().unwrap();
    cluster.start().unwrap();
    client = reconnected(&cluster, "orderly");
    caught_up(&mut client);
    assert_eq!(number(&mut client, "SELECT failed FROM rollup.status"), 1, "the shutdown was none");
    cluster.quit().unwrap();
    cluster.start().unwrap();
    client = reconnected(&cluster, "orderly");
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
}

#[test]
fn a_standby_waits_and_a_promoted_one_goes_on() {
    let (mut primary, mut client) = prepared("promoted", "200 milliseconds");
    // The standby has it too: there the end of the primary is a crash, maybe in the middle of a run.
    client.batch_execute("ALTER SYSTEM SET rollup.crash_hold = '3s'").unwrap();
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    let standby = primary.standby().unwrap();
    client.batch_execute(ROWS).unwrap();
    let mut replica = reconnected(&standby, "promoted");
    wait_for("the standby follows", 60, || number(&mut replica, "SELECT count(*) FROM http_request") == 2000);
    assert_eq!(differences(&mut replica, "http_request_1min_live"), 0, "the live view works on a standby");
    assert_eq!(
        number(&mut replica, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'rollup%'"),
        0
    );
    primary.quit().unwrap();
    replica.batch_execute("SELECT pg_promote()").unwrap();
    replica.batch_execute(ROWS).unwrap();
    caught_up(&mut replica);
    assert_eq!(number(&mut replica, "SELECT sum(request_count)::bigint FROM http_request_1min"), 3000);
}

/// A small file system of its own, gone with this value.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// None where this account may not mount one: it is not root, or root of a container without that right.
    fn new(cluster: &Cluster) -> Option<SmallDisk> {
        let path = cluster.socket().join("small");
        std::fs::create_dir(&path).unwrap();
        let account = hll_lab::Account::unprivileged().unwrap()?;
        let options = format!("size=2m,uid={},gid={},mode=700", account.uid, account.gid);
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).status();
        mounted.is_ok_and(|s| s.success()).then_some(SmallDisk(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        // A test that fails has said so already.
        assert!(std::thread::panicking() || done.is_ok_and(|s| s.success()), "it stays mounted");
    }
}

#[test]
fn a_full_disk_is_waited_for() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("fulldisk").unwrap();
    let Some(disk) = SmallDisk::new(&cluster) else {
        return skip("this account may not mount a file system");
    };
    client.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.display())).unwrap();
    configure(&mut client, &["SET rollup.retry_delay = '200ms'"]);
    client.batch_execute(TABLE).unwrap();
    let create =
        format!("SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => '500 milliseconds')");
    client.batch_execute(&create).unwrap();
    client.batch_execute("ALTER TABLE http_request_1min SET TABLESPACE small").unwrap();
    client
        .batch_execute(
            "CREATE TABLE filler TABLESPACE small AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)",
        )
        .unwrap();
    client
        .batch_execute(
            "INSERT INTO http_request SELECT g % 50, now() - g * interval '1 minute', '10.0.0.' || g % 250, 'USA', 200, g
             FROM generate_series(1, 20000) g",
        )
        .unwrap();
    let error = "SELECT count(*) FROM rollup.status WHERE last_error LIKE 'could not extend file%'";
    wait_for("the disk is full", 60, || number(&mut client, error) == 1);
    assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
    client
        .batch_execute(
            "DROP TABLE filler; CHECKPOINT; ALTER TABLE http_request_1min SET TABLESPACE pg_default",
        )
        .unwrap();
    caught_up(&mut client);
    client.batch_execute("DROP TABLESPACE small").unwrap();
}

#[test]
fn a_failure_ends_with_what_caused_it() {
    let (_cluster, mut client) = prepared("over", "200 milliseconds");
    for sql in [
        "ALTER SYSTEM SET rollup.retry_delay = '200ms'",
        "SELECT pg_reload_conf()",
        "ALTER TABLE http_request_1min ADD CONSTRAINT never CHECK (request_count < 2)",
        "INSERT INTO http_request SELECT 1, now(), '10.0.0.1', 'USA', 200, g FROM generate_series(1, 9) g",
    ] {
        client.batch_execute(sql).unwrap();
    }
    let state = "SELECT count(*) FROM rollup.status WHERE state = 'failing' AND last_error LIKE '%never%'";
    wait_for("it fails", 30, || number(&mut client, state) == 1);
    // Nothing is left to merge: by the next look there is nothing that fails.
    client.batch_execute("DELETE FROM http_request").unwrap();
    let ended =
        "SELECT count(*) FROM rollup.status WHERE state = 'active' AND failures = 0 AND last_error IS NULL";
    wait_for("the failure has ended", 30, || number(&mut client, ended) == 1);
}
