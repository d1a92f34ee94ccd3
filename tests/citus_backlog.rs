//! A backlog on a Citus cluster comes in pieces, whoever is killed meanwhile, and is exact at each of them.
use hll_lab::{Citus, wait_for, wait_until};
use hll_tests::forgive::answering;
use hll_tests::nodes::{one_row, prepared, rows, run_and_compare, site_on};
use hll_tests::{differences, number};
use postgres::Client;

const PIECE: &str = "SELECT rollup_internal.work_off('http_request_1min')";
const LEFT: &str =
    "SELECT count(*) FROM rollup.definition WHERE backlog_to_xmax IS NOT NULL AND nodes ? 'backlog'";

/// What is merged, what is not and what the live view says add up, and merged groups are as their rows make them.
fn exact(client: &mut Client, what: &str) {
    assert_eq!(differences(client, "http_request_1min_live"), 0, "{what}: live");
    assert_eq!(number(client, "SELECT count(*) FROM rollup.check('http_request_1min')"), 0, "{what}");
    let merged = "SELECT coalesce(sum(request_count), 0)::bigint FROM http_request_1min";
    let lag = "SELECT lag_rows FROM rollup.status";
    assert_eq!(number(client, merged) + number(client, lag), rows(client), "{what}");
}

fn piece(client: &mut Client) -> i64 {
    let rest = number(client, PIECE);
    exact(client, "after a piece");
    rest
}

#[test]
fn a_backlog_in_pieces() {
    let Some((citus, mut client)) = prepared() else { return };
    client.batch_execute("ALTER DATABASE cluster SET rollup.batch_rows = 2000").unwrap();
    client
        .batch_execute("CREATE TABLE apart (id int, g int); SELECT create_distributed_table('apart', 'g', shard_count => 5, colocate_with => 'none'); INSERT INTO apart SELECT g % 40, g FROM generate_series(1, 400) g")
        .unwrap();
    // Of every node, some without a time, some read on one node and written on another.
    for node in 0..3 {
        let mut there = citus.connect(node).unwrap();
        there
            .batch_execute(&format!(
                "INSERT INTO http_request SELECT g % 40, timestamptz '2026-01-01' + g * interval '7 s', '10.{node}.0.' || g % 99, 'DE', 200, g FROM generate_series(1, 4000) g;
                 INSERT INTO http_request SELECT g, NULL, 'none', 'FR', 200, g FROM generate_series(1, 20) g;
                 INSERT INTO http_request SELECT id, timestamptz '2026-01-01' + g * interval '60 s', 'apart', 'FR', 200, g FROM apart"
            ))
            .unwrap();
    }
    // A transaction that is open as the backlog begins is none of it. It writes where it was begun: one that has a
    // connection of Citus at work on another node holds up what such connections wrote, all of it here.
    let mut open = citus.connect(1).unwrap();
    let (site, _) = site_on(&mut client, &citus, 1);
    open.batch_execute(&format!("BEGIN; {}", one_row(site))).unwrap();
    let mut client = citus.connect(0).unwrap();
    // Rows of transactions that Citus has not done with on every node are left to the next call.
    wait_for("the first piece", 20, || piece(&mut client) > 0);
    assert_eq!(number(&mut client, LEFT), 1);
    open.batch_execute("COMMIT").unwrap();
    // What is undone is done again.
    client.batch_execute(&format!("BEGIN; {PIECE}; ROLLBACK")).unwrap();
    exact(&mut client, "after a rollback");
    while_pieces_come(&citus, &mut client);
    // The rest by one call.
    client.batch_execute("CALL rollup.catch_up('http_request_1min')").unwrap();
    assert_eq!(number(&mut client, LEFT), 0);
    run_and_compare(&mut client, "a backlog");
    assert_eq!(number(&mut client, "SELECT rows_total FROM rollup.status"), rows(&mut client));
}

fn while_pieces_come(citus: &Citus, client: &mut Client) {
    let before = number(client, "SELECT backlog_done FROM rollup.definition");
    // The coordinator crashes within a piece: another holds the rows of a group that it writes to.
    let mut other = citus.connect(1).unwrap();
    other.batch_execute("BEGIN; LOCK TABLE http_request_1min IN SHARE MODE").unwrap();
    let mut victim = citus.connect(0).unwrap();
    let pid = number(&mut victim, "SELECT pg_backend_pid()::bigint");
    std::thread::scope(|scope| {
        scope.spawn(move || victim.batch_execute(PIECE).expect_err("the server crashes"));
        let waits =
            format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock'");
        wait_for("the piece waits", 20, || number(client, &waits) > 0);
        citus.nodes[0].kill(pid).unwrap();
        wait_for("the server notices", 30, || client.simple_query("SELECT 1").is_err());
    });
    drop(other);
    *client = answering(|| citus.connect(0));
    assert_eq!(number(client, "SELECT backlog_done FROM rollup.definition"), before);
    wait_until("statements from before the crash have ended", 30, || {
        client.batch_execute(PIECE)?;
        Ok(true)
    });
    exact(client, "after a crash");
    assert_eq!(number(client, LEFT), 1);
    // Rows come, and a shard goes elsewhere.
    let (site, shard) = site_on(client, citus, 2);
    citus.connect(1).unwrap().batch_execute(&one_row(site)).unwrap();
    exact(client, "with new rows");
    let shard = shard.trim_start_matches("http_request_");
    let (from, to) = (citus.nodes[2].port(), citus.nodes[1].port());
    client
        .batch_execute(&format!("SELECT citus_move_shard_placement({shard}, '127.0.0.1', {from}, '127.0.0.1', {to}, shard_transfer_mode => 'block_writes')"))
        .unwrap();
    assert!(piece(client) > 0);
    // Expiry leaves the rows of the backlog alone.
    client.batch_execute("SELECT rollup.retain('http_request', '1 hour')").unwrap();
    let unmerged = number(client, "SELECT lag_rows FROM rollup.status");
    let removable = number(client, "SELECT rollup.expire('http_request', dry_run => true)");
    assert!(removable > 0 && removable <= rows(client) - unmerged, "{removable} {unmerged}");
    client.batch_execute("SELECT rollup.retain('http_request', NULL)").unwrap();
}
