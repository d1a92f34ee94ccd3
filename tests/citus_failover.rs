//! A rollup on a Citus cluster goes on exactly when another server takes the coordinator's place: a standby that is
//! promoted, or another cluster into which a dump was restored.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use hll_lab::{Citus, wait_for, wait_until};
use hll_tests::nodes::{StopAtEnd, one_row, page, prepared, rows, run_and_compare, site_on};
use hll_tests::{differences, number};
use postgres::NoTls;

#[test]
fn a_promoted_coordinator_goes_on() {
    let Some((mut citus, mut client)) = prepared() else { return };
    for sql in [
        "UPDATE rollup.definition SET every = '100 milliseconds'",
        "ALTER SYSTEM SET rollup.crash_hold = '1s'",
    ] {
        client.batch_execute(sql).unwrap();
    }
    let standby = citus.standby(0).unwrap();
    // Citus promises no more than this: a standby that lags may lack what the nodes have committed.
    client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_for("the standby is synchronous", 30, || {
        number(&mut client, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
    });
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut to = citus.address(0);
    thread::scope(|scope| {
        for node in 0..3 {
            let (address, stop, written) = (citus.address(node), &stop, &written);
            scope.spawn(move || {
                let mut site = node;
                while !stop.load(Relaxed) {
                    let Ok(mut there) = address.connect(NoTls) else { return };
                    while !stop.load(Relaxed) {
                        site = (site + 1) % 40;
                        let many = format!("INSERT INTO http_request SELECT ({site} + g) % 40, now(), 'x', 'DE', 200, g FROM generate_series(1, 5) g");
                        let one = one_row(i32::try_from(site).unwrap());
                        if there.batch_execute(if site % 3 == 0 { &many } else { &one }).is_err() {
                            break;
                        }
                        written.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let _stop = StopAtEnd(&stop);
        wait_for("runs and writers are under way", 60, || {
            written.load(Relaxed) > 300
                && number(&mut client, "SELECT coalesce(runs, 0) FROM rollup.status") > 5
        });
        citus.nodes[0].crash().unwrap();
        let port = standby.port();
        to = citus.replace(0, standby);
        let mut promoted = citus.connect(0).unwrap();
        promoted.batch_execute("SELECT pg_promote()").unwrap();
        promoted.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").unwrap();
        promoted.batch_execute("SELECT pg_reload_conf()").unwrap();
        let told = page(2).concat().replace("10.0.0.9", "127.0.0.1").replace("5432", &port.to_string());
        wait_until("it takes writes", 30, || {
            promoted.batch_execute(&told)?;
            Ok(true)
        });
        let before = written.load(Relaxed);
        wait_for("writers go on", 30, || written.load(Relaxed) > before + 50);
    });
    let mut client = to.connect(NoTls).unwrap();
    let runs = number(&mut client, "SELECT runs FROM rollup.status");
    let (site, _) = site_on(&mut client, &citus, 2);
    client.batch_execute(&one_row(site)).unwrap();
    // By itself: nobody calls it.
    wait_for("the promoted coordinator has merged everything", 60, || {
        number(&mut client, "SELECT lag_rows FROM rollup.status") == 0
    });
    assert!(number(&mut client, "SELECT runs FROM rollup.status") > runs);
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
    // The other nodes know where it is.
    let port = citus.nodes[0].port();
    for node in 1..3 {
        let mut worker = citus.connect(node).unwrap();
        let known = format!("SELECT count(*) FROM pg_dist_node WHERE groupid = 0 AND nodeport = {port}");
        wait_for("the node knows the coordinator", 30, || number(&mut worker, &known) == 1);
        worker.batch_execute(&one_row(site)).unwrap();
    }
    wait_for("their rows are merged", 60, || number(&mut client, "SELECT lag_rows FROM rollup.status") == 0);
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('http_request_1min')"), 0);
    assert!(rows(&mut client) > 300);
}

/// Rows of every node, with stamps of each group and of connections of Citus.
fn write_everywhere(citus: &Citus, rows: i32) {
    for node in 0..3 {
        citus.connect(node).unwrap().batch_execute(&format!(
            "INSERT INTO http_request SELECT g % 40, timestamptz '2026-01-01' + g * interval '17 s', '10.{node}.0.' || g % 99, 'DE', 200, g FROM generate_series(1, {rows}) g;
             INSERT INTO http_request (site_id, ingest_time, ip_address) SELECT (site_id + 1) % 40, ingest_time, 'again' FROM http_request LIMIT 5"
        )).unwrap();
    }
}

#[test]
fn a_restored_coordinator_goes_on() {
    let Some((old, mut client)) = prepared() else { return };
    client
        .batch_execute(
            "SELECT rollup.add_level('http_request_1min', 'http_request_1day', '1 day'), rollup.add_level('http_request_1min', 'every_site', '1 day', keys => '{}')",
        )
        .unwrap();
    write_everywhere(&old, 300);
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    // What no run has merged comes along.
    write_everywhere(&old, 100);
    assert!(number(&mut client, "SELECT lag_rows FROM rollup.status") > 0);
    let (count, dump) = (rows(&mut client), old.dump(0).unwrap());
    drop(old);

    let citus = Citus::new().unwrap().unwrap();
    citus.connect(0).unwrap().batch_execute("DROP EXTENSION hll").unwrap();
    let mut client = citus.restore(0, &dump).unwrap();
    assert_eq!(rows(&mut client), count);
    client.batch_execute("SET citus.shard_count = 6").unwrap();
    let statements = page(3);
    client.batch_execute(&statements[0]).unwrap();
    // Rows of this cluster, whose ids the other one may have used, before anything was said of it.
    write_everywhere(&citus, 50);
    client.batch_execute(&statements[1]).unwrap();
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
    let colocated = "SELECT count(DISTINCT colocation_id) * 10 + count(*) FROM citus_tables WHERE table_name::text LIKE 'http_request%'";
    assert_eq!(number(&mut client, colocated), 13);
    assert_eq!(number(&mut client, "SELECT rollup_http_request()"), 0);
    for _ in 0..3 {
        write_everywhere(&citus, 40);
        assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
        run_and_compare(&mut client, "after a restore");
    }
    let day = "SELECT sum(request_count)::bigint FROM http_request_1day";
    assert_eq!(number(&mut client, day), rows(&mut client));
    let every_site = "SELECT sum(request_count)::bigint FROM every_site";
    assert_eq!(number(&mut client, every_site), rows(&mut client));
    // A second time, with rows that no run has merged.
    write_everywhere(&citus, 30);
    client.batch_execute("SELECT rollup.rebase('http_request')").unwrap();
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
    write_everywhere(&citus, 30);
    run_and_compare(&mut client, "after a second rebase");
    assert_eq!(number(&mut client, every_site), rows(&mut client));
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('http_request_1min')"), 0);
}
