//! What a run changes on another node and what it writes of that here are one transaction, whatever the kind of table:
//! each commit on the way is held open in turn, by a standby that never answers, and one who takes part is killed there.
use std::thread;

use hll_lab::{Citus, wait_for};
use hll_tests::nodes::error;
use hll_tests::number;
use postgres::Client;

/// Kinds of tables of a cluster: name, how it is made of the plain table of that name, and what its query is limited to.
const KINDS: [(&str, &str, &str); 8] = [
    ("several", "SELECT create_distributed_table('several', 'site', shard_count => 8)", ""),
    (
        "parted",
        "DROP TABLE parted; CREATE TABLE parted (site int, at timestamptz, v int) PARTITION BY RANGE (at);
         CREATE TABLE parted_old PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
         CREATE TABLE parted_new PARTITION OF parted FOR VALUES FROM ('2026-02-01') TO (MAXVALUE);
         SELECT create_distributed_table('parted', 'site', shard_count => 4)",
        "",
    ),
    ("single", "SELECT create_distributed_table('single', NULL)", ""),
    (
        "tenant.events",
        "SET citus.enable_schema_based_sharding = on; CREATE SCHEMA tenant; RESET citus.enable_schema_based_sharding;
         CREATE TABLE tenant.events (site int, at timestamptz, v int)",
        "",
    ),
    (
        "one_shard",
        "SELECT create_distributed_table('one_shard', 'site', shard_count => 1, colocate_with => 'none')",
        "",
    ),
    (
        "one_value",
        "SELECT create_distributed_table('one_value', 'site', shard_count => 5, colocate_with => 'none')",
        "WHERE site = 3",
    ),
    ("reference", "SELECT create_reference_table('reference')", ""),
    ("here", "SELECT citus_add_local_table_to_metadata('here')", ""),
];

/// The kinds of which a run is one task of Citus on a worker.
const ONE_TASK: [&str; 4] = ["single", "tenant.events", "one_shard", "one_value"];

/// A commit that is held open: of the part on a worker, first or last, or of what is written on the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Prepare,
    Here,
    CommitPrepared,
}

/// Who is killed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Run,
    Worker,
    Coordinator,
}

const STAGES: [Stage; 3] = [Stage::Prepare, Stage::Here, Stage::CommitPrepared];
const VICTIMS: [Victim; 3] = [Victim::Run, Victim::Worker, Victim::Coordinator];

fn connected(citus: &Citus, node: usize) -> Client {
    let mut found = None;
    wait_for("the node answers", 60, || {
        found = citus.connect(node).ok();
        found.as_mut().is_some_and(|c| c.simple_query("SELECT 1").is_ok())
    });
    found.expect("a connection")
}

/// Commits on these nodes wait for ever, or no more.
fn hold(citus: &Citus, nodes: &[usize], held: bool) {
    let set =
        if held { "SET synchronous_standby_names = 'nobody'" } else { "RESET synchronous_standby_names" };
    let now = "SELECT setting <> '' FROM pg_settings WHERE name = 'synchronous_standby_names'";
    for node in nodes {
        // The server may just be noticing that one of its processes was killed.
        wait_for("the setting is read", 60, || {
            let Ok(mut client) = citus.connect(*node) else { return false };
            let set = format!("ALTER SYSTEM {set}");
            [set.as_str(), "SELECT pg_reload_conf()"].iter().all(|sql| client.batch_execute(sql).is_ok())
                && client.query_one(now, &[]).is_ok_and(|row| row.get::<_, bool>(0) == held)
        });
    }
}

/// The process that waits in a commit, its statement, and the node.
fn waiting(citus: &Citus, nodes: &[usize]) -> Option<(usize, i64, String)> {
    nodes.iter().find_map(|node| {
        let sql = "SELECT pid::bigint, query FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend' LIMIT 1";
        let row = citus.connect(*node).ok()?.query_opt(sql, &[]).ok()??;
        Some((*node, row.get(0), row.get(1)))
    })
}

fn found(citus: &Citus, nodes: &[usize], what: &str) -> (usize, i64, String) {
    let mut found = None;
    wait_for(what, 30, || {
        found = waiting(citus, nodes);
        found.is_some()
    });
    found.expect("a process")
}

/// Does `what` on the coordinator and kills who is to be killed in that stage of its commit.
fn interrupted(citus: &mut Citus, what: &str, stage: Stage, victim: Victim) {
    let mut run = connected(citus, 0);
    let pid = number(&mut run, "SELECT pg_backend_pid()::bigint");
    let first: &[usize] = if stage == Stage::Prepare { &[1, 2] } else { &[0] };
    hold(citus, first, true);
    let sql = what.to_string();
    // Its connection ends under it, or it does not: both are right.
    let run = thread::spawn(move || drop(run.batch_execute(&sql)));
    let label = format!("{what}: {stage:?} {victim:?}");
    let mut at = found(citus, first, &label);
    if stage == Stage::Prepare {
        assert!(at.2.starts_with("PREPARE TRANSACTION"), "{label}: {}", at.2);
    }
    if stage == Stage::CommitPrepared {
        hold(citus, &[1, 2], true);
        hold(citus, &[0], false);
        at = found(citus, &[1, 2], &label);
        assert!(at.2.starts_with("COMMIT PREPARED"), "{label}: {}", at.2);
    }
    match (victim, stage) {
        (Victim::Run, _) => citus.nodes[0].kill(pid).expect("the run"),
        (Victim::Worker, Stage::Here) => {
            citus.nodes[1].quit().expect("a worker ends");
            citus.nodes[1].start().expect("it comes back");
        }
        (Victim::Worker, _) => citus.nodes[at.0].kill(at.1).expect("a worker's process"),
        (Victim::Coordinator, _) => {
            citus.nodes[0].quit().expect("the coordinator ends");
            citus.nodes[0].start().expect("it comes back");
        }
    }
    hold(citus, &[0, 1, 2], false);
    run.join().expect("the run has ended");
}

/// Everything is merged, once.
fn exact(citus: &Citus, table: &str, limit: &str, what: &str) {
    let name = format!("{}_min", table.replace('.', "_"));
    let mut client = connected(citus, 0);
    let lag = format!("SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = '{name}'");
    wait_for(&format!("{what}: everything is merged"), 60, || {
        client.batch_execute(&format!("SELECT rollup.work_off('{name}')")).is_ok()
            && number(&mut client, &lag) == 0
    });
    let raw = number(&mut client, &format!("SELECT count(*) FROM {table} {limit}"));
    let kept = number(&mut client, &format!("SELECT sum(n)::bigint FROM {}", target(table)));
    assert_eq!(raw, kept, "{what}: raw rows and rolled up ones");
    let check = format!("SELECT count(*) FROM rollup.check('{name}')");
    assert_eq!(number(&mut client, &check), 0, "{what}");
}

/// The table of a rollup: beside its source.
fn target(table: &str) -> String {
    format!("{}{}_min", if table.contains('.') { "tenant." } else { "" }, table.replace('.', "_"))
}

fn make(client: &mut Client, (table, made, limit): (&str, &str, &str)) {
    if !table.contains('.') {
        client
            .batch_execute(&format!("CREATE TABLE {table} (site int, at timestamptz, v int)"))
            .expect(table);
    }
    client.batch_execute(made).unwrap_or_else(|e| panic!("{table}: {e:?}"));
    let name = table.replace('.', "_");
    let create = format!(
        "SELECT rollup.create('{name}_min', 'SELECT site, date_trunc(''minute'', at) AS at, count(*) AS n, sum(v) AS s FROM {table} {limit} GROUP BY 1, 2', every => NULL)"
    );
    client.batch_execute(&create).unwrap_or_else(|e| panic!("{table}: {e:?}"));
}

fn write(client: &mut Client, table: &str, rows: i32) {
    let insert = format!(
        "INSERT INTO {table} SELECT g % 7, timestamptz '2026-01-31 23:00+00' + g * interval '50 s', g FROM generate_series(1, {rows}) g"
    );
    client.batch_execute(&insert).expect(table);
}

/// A cluster whose runs do not wait long for what is in doubt.
fn cluster() -> Option<Citus> {
    let citus = Citus::new().expect("a cluster")?;
    for node in 0..3 {
        let mut client = connected(&citus, node);
        client.batch_execute("ALTER SYSTEM SET rollup.node_timeout = '2s'").expect("the setting");
        client.batch_execute("SELECT pg_reload_conf()").expect("read");
    }
    Some(citus)
}

#[test]
fn runs_are_committed_whole() {
    let Some(mut citus) = cluster() else { return };
    for (at, kind) in KINDS.into_iter().enumerate() {
        let (table, _, limit) = kind;
        make(&mut connected(&citus, 0), kind);
        let run = format!("SELECT rollup.work_off('{}_min')", table.replace('.', "_"));
        let on_workers = !["reference", "here"].contains(&table);
        for (n, stage) in STAGES.into_iter().enumerate() {
            let victim = VICTIMS[(n + at) % 3];
            if !on_workers && (stage != Stage::Here || victim == Victim::Worker) {
                continue;
            }
            write(&mut connected(&citus, 0), table, 200);
            interrupted(&mut citus, &run, stage, victim);
            exact(&citus, table, limit, &format!("{table}: {stage:?} {victim:?}"));
        }
    }
}

#[test]
fn a_table_asks_for_it_where_the_library_does_not() {
    let Some(mut citus) = cluster() else { return };
    connected(&citus, 0)
        .batch_execute("ALTER DATABASE cluster SET rollup.two_phase_table = on")
        .expect("set");
    for kind in KINDS.into_iter().filter(|(table, ..)| ONE_TASK.contains(table)) {
        let (table, _, limit) = kind;
        make(&mut connected(&citus, 0), kind);
        write(&mut connected(&citus, 0), table, 200);
        let run = format!("SELECT rollup.work_off('{}_min')", table.replace('.', "_"));
        interrupted(&mut citus, &run, Stage::Prepare, Victim::Run);
        exact(&citus, table, limit, table);
    }
    // On one node only it asks for nothing, which is refused.
    let mut client = connected(&citus, 0);
    write(&mut client, "single", 10);
    client.batch_execute("BEGIN; DELETE FROM pg_dist_placement p USING pg_dist_shard s WHERE s.shardid = p.shardid AND s.logicalrelid = 'rollup.two_phases'::regclass AND p.groupid > 0").expect("rows of Citus");
    let refused = error(&mut client, "SELECT rollup.work_off('single_min')");
    assert!(refused.starts_with("55000 changes on another node could be counted twice"), "{refused}");
    client.batch_execute("ROLLBACK").expect("as before");
    exact(&citus, "single", "", "afterwards");
}

#[test]
fn removal_and_pieces_are_committed_whole() {
    let Some(mut citus) = cluster() else { return };
    make(&mut connected(&citus, 0), KINDS[2]);
    let mut client = connected(&citus, 0);
    write(&mut client, "single", 1000);
    client.batch_execute("ALTER DATABASE cluster SET rollup.batch_rows = 100").expect("small pieces");
    // Pieces of a backlog, each interrupted once.
    connected(&citus, 0).batch_execute("SELECT rollup.work_off('single_min')").expect("it begins");
    for (stage, victim) in STAGES.into_iter().zip(VICTIMS) {
        interrupted(&mut citus, "SELECT rollup.work_off('single_min')", stage, victim);
        let mut client = connected(&citus, 0);
        in_doubt_no_more(&citus);
        let both =
            "SELECT coalesce(sum(n), 0)::bigint + (SELECT lag_rows FROM rollup.status) FROM single_min";
        assert_eq!(number(&mut client, both), 1000, "after a piece: {stage:?} {victim:?}");
        assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('single_min')"), 0);
    }
    exact(&citus, "single", "", "a backlog");
    // What has gone, and what is said of it: both or none.
    let mut client = connected(&citus, 0);
    client.batch_execute("SELECT rollup.retain('single', '1 day')").expect("old rows may go");
    let mut written = 1000;
    for (stage, victim) in STAGES.into_iter().zip([Victim::Coordinator, Victim::Run, Victim::Worker]) {
        interrupted(&mut citus, "SELECT rollup.expire('single')", stage, victim);
        in_doubt_no_more(&citus);
        let mut client = connected(&citus, 0);
        let left = number(&mut client, "SELECT count(*) FROM single");
        let removed = number(&mut client, "SELECT removed FROM rollup.retention");
        let bound = "SELECT count(*) FROM rollup.expired WHERE relation = 'single'::regclass";
        assert_eq!(left + removed, written, "{stage:?} {victim:?}");
        assert_eq!(number(&mut client, bound) > 0, removed > 0, "{stage:?} {victim:?}");
        write(&mut client, "single", 100);
        written += 100;
        wait_for("everything is merged", 60, || {
            client.batch_execute("SELECT rollup.work_off('single_min')").is_ok()
                && number(&mut client, "SELECT sum(n)::bigint FROM single_min") >= written
        });
        assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM single_min"), written);
    }
    let mut client = connected(&citus, 0);
    client.batch_execute("SELECT rollup.expire('single')").expect("the rest");
    assert_eq!(number(&mut client, "SELECT count(*) FROM single"), 0);
    assert_eq!(number(&mut client, "SELECT removed FROM rollup.retention"), written);
}

fn in_doubt_no_more(citus: &Citus) {
    wait_for("nothing is in doubt", 60, || {
        (0..3).all(|n| number(&mut connected(citus, n), "SELECT count(*) FROM pg_prepared_xacts") == 0)
    });
}
