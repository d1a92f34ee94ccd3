//! What a run changes on another node and what it writes of that here are one transaction, whatever the kind of table:
//! each commit on the way is held open in turn, by a standby that never answers, and one who takes part is killed there.
//! COMMIT_ALL=1 tries every kind of table with every stage and every victim, which takes some ten minutes.
use std::thread;

use hll_lab::{Citus, wait_for};
use hll_tests::forgive::answering;
use hll_tests::nodes::{KINDS, Kind, error};
use hll_tests::number;
use postgres::Client;

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
    answering(|| citus.connect(node))
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
        if held {
            taken_up(citus, *node);
        }
    }
}

/// A commit that nobody needs, which tells whether others wait.
const PROBE: &str = "SELECT pg_logical_emit_message(true, 'probe', '')";

/// Waits until a commit waits. That a session has read the setting says nothing of it: a commit looks at a flag in shared
/// memory, which the checkpointer sets once it has read the setting itself.
fn taken_up(citus: &Citus, node: usize) {
    let mut probe: Option<(i64, thread::JoinHandle<()>)> = None;
    wait_for("commits wait", 60, || {
        let Ok(mut client) = citus.connect(node) else { return false };
        if let Some((pid, running)) = &probe
            && !running.is_finished()
        {
            let waits =
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::bigint AND wait_event = 'SyncRep'";
            return client.query_one(waits, &[pid]).is_ok_and(|row| row.get::<_, i64>(0) == 1);
        }
        let Ok(pid) = client.query_one("SELECT pg_backend_pid()::bigint", &[]) else { return false };
        // It ends with the setting, or with the server.
        probe = Some((pid.get(0), thread::spawn(move || drop(client.batch_execute(PROBE)))));
        false
    });
}

/// The process that waits in a commit, its statement, and the node.
fn waiting(citus: &Citus, nodes: &[usize]) -> Option<(usize, i64, String)> {
    nodes.iter().find_map(|node| {
        let sql = "SELECT pid::bigint, query FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend' AND query <> $1 LIMIT 1";
        let row = citus.connect(*node).ok()?.query_opt(sql, &[&PROBE]).ok()??;
        Some((*node, row.get(0), row.get(1)))
    })
}

/// Waits for one whose statement begins so. What a process waits for is read a moment after what it does: it may have
/// come to its commit in between.
fn found(citus: &Citus, nodes: &[usize], statement: &str, what: &str) -> (usize, i64, String) {
    let mut found = None;
    wait_for(&format!("{what}: {statement} waits"), 30, || {
        found = waiting(citus, nodes).filter(|(.., query)| query.starts_with(statement));
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
    let statement = if stage == Stage::Prepare { "PREPARE TRANSACTION" } else { "" };
    let mut at = found(citus, first, statement, &label);
    if stage == Stage::CommitPrepared {
        hold(citus, &[1, 2], true);
        hold(citus, &[0], false);
        at = found(citus, &[1, 2], "COMMIT PREPARED", &label);
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

fn write(client: &mut Client, table: &str, rows: i32) {
    let insert = format!(
        "INSERT INTO {table} SELECT g % 7, timestamptz '2026-01-31 23:00+00' + g * interval '50 s', g FROM generate_series(1, {rows}) g"
    );
    client.batch_execute(&insert).expect(table);
}

/// A cluster whose runs do not wait long for what is in doubt, and whose workers do nothing by themselves.
fn cluster() -> Option<Citus> {
    let citus = Citus::new().expect("a cluster")?;
    for node in 0..3 {
        let mut client = connected(&citus, node);
        client.batch_execute("ALTER SYSTEM SET rollup.node_timeout = '2s'").expect("the setting");
        client.batch_execute("ALTER SYSTEM SET rollup.databases = 'none'").expect("the setting");
        client.batch_execute("SELECT pg_reload_conf()").expect("read");
    }
    Some(citus)
}

/// What is tried of the `at`th kind of table: each stage, with another victim each, or all of them.
fn trials(at: usize, kind: &Kind) -> Vec<(Stage, Victim)> {
    let all = std::env::var("COMMIT_ALL").is_ok();
    let mut trials = Vec::new();
    for (n, stage) in STAGES.into_iter().enumerate() {
        for (m, victim) in VICTIMS.into_iter().enumerate() {
            // What is written on the coordinator alone is committed there alone.
            let there = kind.on_workers || stage == Stage::Here && victim != Victim::Worker;
            if there && (all || m == (n + at) % 3) {
                trials.push((stage, victim));
            }
        }
    }
    trials
}

/// The kinds of which a run is one task of Citus on a worker.
fn of_one_task() -> Vec<(usize, Kind)> {
    KINDS.into_iter().enumerate().filter(|(_, kind)| kind.one_task).collect()
}

/// Those that things beside runs are tried with.
fn some() -> Vec<(usize, Kind)> {
    let all = std::env::var("COMMIT_ALL").is_ok();
    of_one_task().into_iter().take(if all { 4 } else { 1 }).collect()
}

#[test]
fn runs_are_committed_whole() {
    let Some(mut citus) = cluster() else { return };
    for (at, kind) in KINDS.into_iter().enumerate() {
        kind.make(&mut connected(&citus, 0));
        kind.roll_up(&mut connected(&citus, 0));
        let run = format!("SELECT rollup_internal.work_off('{}')", kind.rollup());
        for (stage, victim) in trials(at, &kind) {
            write(&mut connected(&citus, 0), kind.table, 200);
            interrupted(&mut citus, &run, stage, victim);
            kind.exact(&mut connected(&citus, 0), &format!("{stage:?} {victim:?}"));
        }
    }
}

#[test]
fn a_table_asks_for_it_where_the_library_does_not() {
    let Some(mut citus) = cluster() else { return };
    connected(&citus, 0)
        .batch_execute("ALTER DATABASE cluster SET rollup.two_phase_table = on")
        .expect("set");
    let mut client = connected(&citus, 0);
    for (_, kind) in of_one_task() {
        kind.make(&mut client);
        kind.roll_up(&mut client);
        write(&mut client, kind.table, 200);
        let run = format!("SELECT rollup_internal.work_off('{}')", kind.rollup());
        interrupted(&mut citus, &run, Stage::Prepare, Victim::Run);
        client = connected(&citus, 0);
        kind.exact(&mut client, "by a table");
    }
    // On one node only it asks for nothing, which is refused.
    let single = KINDS[2];
    write(&mut client, single.table, 10);
    client.batch_execute("BEGIN; DELETE FROM pg_dist_placement p USING pg_dist_shard s WHERE s.shardid = p.shardid AND s.logicalrelid = 'rollup.two_phases'::regclass AND p.groupid > 0").expect("rows of Citus");
    let refused = error(&mut client, "SELECT rollup_internal.work_off('single_min')");
    assert!(refused.starts_with("55000 changes on another node could be counted twice"), "{refused}");
    client.batch_execute("ROLLBACK").expect("as before");
    single.exact(&mut client, "afterwards");
    // A node that came since has no reference table yet. Tables of a rollup may not be made there before it has.
    let node = citus.start_node().expect("a node");
    citus.add(node).expect("one more");
    let lacking = "SELECT count(*) FROM pg_dist_node n WHERE NOT EXISTS (SELECT FROM pg_dist_shard s JOIN pg_dist_placement p USING (shardid)
        WHERE s.logicalrelid = 'rollup.two_phases'::regclass AND p.groupid = n.groupid)";
    assert_eq!(number(&mut client, lacking), 1, "the node has none yet");
    client.batch_execute("SELECT rollup.add_level('single_min', 'single_hour', '1 hour')").expect("a level");
    assert_eq!(number(&mut client, lacking), 0, "every node has one");
    write(&mut client, single.table, 20);
    single.exact(&mut client, "with one more node");
}

#[test]
fn pieces_are_committed_whole() {
    let Some(mut citus) = cluster() else { return };
    connected(&citus, 0).batch_execute("ALTER DATABASE cluster SET rollup.batch_rows = 100").expect("small");
    for (at, kind) in some() {
        let mut client = connected(&citus, 0);
        kind.make(&mut client);
        kind.roll_up(&mut client);
        write(&mut client, kind.table, 1600);
        let run = format!("SELECT rollup_internal.work_off('{}')", kind.rollup());
        client.batch_execute(&run).expect("it begins");
        for (stage, victim) in trials(at, &kind) {
            interrupted(&mut citus, &run, stage, victim);
            in_doubt_no_more(&citus);
            let mut client = connected(&citus, 0);
            let lag = format!("SELECT lag_rows FROM rollup.status WHERE name = '{}'", kind.rollup());
            let kept = format!("SELECT coalesce(sum(n), 0)::bigint FROM {}", kind.target());
            let raw = format!("SELECT count(*) FROM {} {}", kind.table, kind.limit);
            let what = format!("after a piece of {}: {stage:?} {victim:?}", kind.table);
            let (lag, kept) = (number(&mut client, &lag), number(&mut client, &kept));
            // Rows wait, too, that the query leaves out.
            if kind.limit.is_empty() {
                assert_eq!(lag + kept, number(&mut client, &raw), "{what}");
            }
            let check = format!("SELECT count(*) FROM rollup.check('{}')", kind.rollup());
            assert_eq!(number(&mut client, &check), 0, "{what}");
        }
        kind.exact(&mut connected(&citus, 0), "a backlog");
    }
}

/// What has gone, and what is said of it: both or none.
#[test]
fn removal_is_committed_whole() {
    let Some(mut citus) = cluster() else { return };
    for (at, kind) in some() {
        let (table, target) = (kind.table, kind.target());
        let mut client = connected(&citus, 0);
        kind.make(&mut client);
        kind.roll_up(&mut client);
        write(&mut client, table, 700);
        kind.exact(&mut client, "before");
        let raw = format!("SELECT count(*) FROM {table} {}", kind.limit);
        let of_it = format!("FROM rollup.retention WHERE relation = '{table}'::regclass");
        // Rows that no rollup counts go, too.
        let uncounted =
            number(&mut client, &format!("SELECT count(*) FROM {table}")) - number(&mut client, &raw);
        let mut written = 700;
        client.batch_execute(&format!("SELECT rollup.retain('{table}', '1 day')")).expect("old rows may go");
        for (stage, victim) in trials(at + 1, &kind) {
            interrupted(&mut citus, &format!("SELECT rollup.expire('{table}')"), stage, victim);
            in_doubt_no_more(&citus);
            let mut client = connected(&citus, 0);
            let what = format!("{table}: {stage:?} {victim:?}");
            let left = number(&mut client, &format!("SELECT count(*) FROM {table}"));
            let removed = number(&mut client, &format!("SELECT removed {of_it}"));
            let bound = format!("SELECT count(*) FROM rollup.expired WHERE relation = '{table}'::regclass");
            assert_eq!(left + removed, written, "{what}");
            assert_eq!(number(&mut client, &bound) > 0, removed > 0, "{what}");
            write(&mut client, table, 70);
            written += 70;
            let counted = written - uncounted * written / 700;
            let kept = format!("SELECT sum(n)::bigint FROM {target}");
            wait_for("everything is merged", 60, || {
                client.batch_execute(&format!("SELECT rollup_internal.work_off('{}')", kind.rollup())).is_ok()
                    && number(&mut client, &kept) >= counted
            });
            assert_eq!(number(&mut client, &kept), counted, "{what}");
        }
        let mut client = connected(&citus, 0);
        client.batch_execute(&format!("SELECT rollup.expire('{table}')")).expect("the rest");
        assert_eq!(number(&mut client, &format!("SELECT count(*) FROM {table}")), 0);
        assert_eq!(number(&mut client, &format!("SELECT removed {of_it}")), written);
    }
}

/// Buckets that are computed again, and stamps that are lifted above others: both or none, and no row twice.
#[test]
fn what_begins_again_is_committed_whole() {
    let Some(mut citus) = cluster() else { return };
    for (at, kind) in some() {
        let mut client = connected(&citus, 0);
        kind.make(&mut client);
        kind.roll_up(&mut client);
        client
            .batch_execute(&format!("SELECT rollup.add_level('{}', 'hourly', '1 hour')", kind.rollup()))
            .expect("a level");
        write(&mut client, kind.table, 200);
        kind.exact(&mut client, "before");
        let schema = kind.target().split_once('.').map(|(s, _)| format!("{s}.")).unwrap_or_default();
        let kept = format!("SELECT sum(n)::bigint FROM {}", kind.target());
        let lag = format!("SELECT lag_rows FROM rollup.status WHERE name = '{}'", kind.rollup());
        let raw = format!("SELECT count(*) FROM {} {}", kind.table, kind.limit);
        let between = format!(
            "WITH f AS MATERIALIZED (SELECT sum(n) AS n, sum(s) AS s FROM {}), l AS MATERIALIZED (SELECT sum(n) AS n, sum(s) AS s FROM {schema}hourly)
             SELECT count(*) FROM f, l WHERE f IS DISTINCT FROM l",
            kind.target()
        );
        for call in ["rollup.rebuild('ROLLUP')", "rollup.rebase('TABLE')"] {
            let call = call.replace("ROLLUP", &kind.rollup()).replace("TABLE", kind.table);
            for (stage, victim) in trials(at, &kind) {
                let mut client = connected(&citus, 0);
                // Some that are counted and then changed, some that are not counted yet.
                let change = format!("UPDATE {} SET v = v + 1 WHERE site = 3", kind.table);
                client.batch_execute(&change).expect("rows change");
                write(&mut client, kind.table, 70);
                interrupted(&mut citus, &format!("SELECT {call}"), stage, victim);
                in_doubt_no_more(&citus);
                let mut client = connected(&citus, 0);
                let what = format!("{call}: {stage:?} {victim:?}");
                // Done or not, the state tells which rows are in the rollup, and its level has the same.
                if kind.limit.is_empty() {
                    let both = number(&mut client, &kept) + number(&mut client, &lag);
                    assert_eq!(both, number(&mut client, &raw), "{what}");
                }
                assert_eq!(number(&mut client, &between), 0, "{what}: the level");
                wait_for(&what, 60, || {
                    client.batch_execute(&format!("SELECT rollup.rebuild('{}')", kind.rollup())).is_ok()
                });
                kind.exact(&mut client, &what);
            }
        }
        let mut client = connected(&citus, 0);
        client
            .batch_execute(&format!("SELECT rollup.drop_level('{}', 'hourly')", kind.rollup()))
            .expect("gone");
    }
}

fn in_doubt_no_more(citus: &Citus) {
    wait_for("nothing is in doubt", 60, || {
        (0..3).all(|n| number(&mut connected(citus, n), "SELECT count(*) FROM pg_prepared_xacts") == 0)
    });
}
