//! pg_partman's own recipe for the online partitioning of a table, beside rollups of it that run and writers that go on: each
//! row is counted once. Then pg_partman keeps the partitions, and drops old ones. Skipped where it is not installed.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use hll_lab::{Cluster, skip, wait_for};
use hll_tests::forgive::is_one_of;
use hll_tests::load::Dice;
use hll_tests::nodes::StopAtEnd;
use hll_tests::{another, number, text};
use postgres::Client;

/// What the rollups count.
const DAYS: &str = "SELECT date_trunc('day', col3) AS at, count(*) AS n, sum(length(col2)) AS total FROM original_table GROUP BY 1";
const ROLLUPS: [&str; 2] = ["by_day", "followed"];

/// Writers rest: what pg_partman does with a day fails for as long as rows of that day come.
static REST: AtomicBool = AtomicBool::new(false);

/// Rows of the last days, most of them of today.
fn write(client: &mut Client, dice: &mut Dice, written: &AtomicU64) {
    let rows = 1 + dice.roll(40);
    let insert = format!(
        "INSERT INTO original_table (col2, col3, col4) SELECT repeat('x', g % 5), now() {} + g * interval '37 seconds', 'new' FROM generate_series(1, {rows}) g",
        // Most are of now; to a day whose rows are being moved out of the default partition none may come, which is tried again.
        match dice.roll(10) {
            0 => format!("- {} * interval '1 minute'", dice.roll(8640)),
            _ => "- interval '1 hour'".to_string(),
        }
    );
    match client.batch_execute(&insert) {
        Ok(()) => drop(written.fetch_add(rows, Relaxed)),
        // Chosen as the victim of a deadlock with who moves rows, or sent to the default partition when another was not there yet.
        Err(e) if is_one_of(&e, &["40P01", "23514"]) => {}
        Err(e) => panic!("{e:?}"),
    }
    while REST.load(Relaxed) {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(40 + dice.roll(80)));
}

/// Every row was judged, and the rollups hold what the table does.
fn exact(client: &mut Client, what: &str) {
    wait_for(&format!("{what}: every row was judged"), 60, || {
        number(
            client,
            "SELECT (SELECT count(*) FROM rollup.arrival) + (SELECT count(*) FROM rollup.change) + coalesce((SELECT sum(lag_rows)::bigint FROM rollup.status), 1)",
        ) == 0
    });
    for name in ROLLUPS {
        let differ = format!(
            "SELECT count(*) FROM ((TABLE {name} EXCEPT ALL {DAYS}) UNION ALL ({DAYS} EXCEPT ALL TABLE {name})) d"
        );
        assert_eq!(number(client, &differ), 0, "{what}: {name}");
        assert_eq!(
            number(client, &format!("SELECT count(*) FROM rollup.check('{name}')")),
            0,
            "{what}: {name}"
        );
    }
    assert_eq!(number(client, "SELECT sum(left_out)::bigint FROM rollup.status"), 0, "{what}: left out");
}

#[test]
fn online_partitioning_by_its_recipe() {
    let cluster = Cluster::new().expect("a cluster");
    let mut client = cluster.database("partman").expect("a database");
    if number(&mut client, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_partman'") == 0 {
        skip("pg_partman is not there: install postgresql-NN-partman, and remove target/private-pg-NN");
        return;
    }
    client
        .batch_execute(
            "CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman;
             CREATE TABLE original_table (col1 bigint NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY, col2 text NOT NULL, col3 timestamptz DEFAULT now() NOT NULL, col4 text);
             CREATE INDEX ON original_table (col3);
             INSERT INTO original_table (col2, col3, col4) SELECT 'stuff', t, 'stuff' FROM generate_series(now() - interval '6 days', now(), interval '5 minutes') t",
        )
        .expect("the table");
    for (name, on_change) in [(ROLLUPS[0], "ignore"), (ROLLUPS[1], "recompute")] {
        let create = format!(
            "SELECT rollup.create('{name}', $${DAYS}$$, every => '100 milliseconds', on_change => '{on_change}')"
        );
        client.batch_execute(&create).expect("a rollup");
    }
    let before = number(&mut client, "SELECT count(*) FROM original_table") as u64;
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for n in 1..=2u64 {
            let (mut writer, stop, written) = (another(&cluster, "partman"), &stop, &written);
            scope.spawn(move || {
                let mut dice = Dice(n * 0x9E37_79B9_7F4A_7C15);
                while !stop.load(Relaxed) {
                    write(&mut writer, &mut dice, written);
                }
            });
        }
        let _stop = StopAtEnd(&stop);
        by_its_recipe(&mut client);
        // Everybody goes on for a while.
        let so_far = written.load(Relaxed);
        wait_for("writers go on", 30, || written.load(Relaxed) > so_far + 300);
    });
    exact(&mut client, "partitioned");
    let rows = number(&mut client, "SELECT count(*) FROM original_table");
    assert_eq!(rows as u64, before + written.load(Relaxed), "each row that was committed is there");
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM by_day"), rows);
    let parts =
        number(&mut client, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'original_table'::regclass");
    println!("{rows} rows, {} of them written meanwhile, {parts} partitions", written.load(Relaxed));
    assert!(parts > 8, "{parts} partitions");
    // pg_partman drops what is old: what was counted stays.
    client
        .batch_execute("UPDATE partman.part_config SET retention = '3 days', retention_keep_table = false; SELECT partman.run_maintenance('public.original_table')")
        .expect("its retention");
    assert!(number(&mut client, "SELECT count(*) FROM original_table") < rows);
    client.batch_execute("INSERT INTO original_table (col2) VALUES ('one')").expect("a row");
    for name in ROLLUPS {
        let counted = format!("SELECT sum(n)::bigint FROM {name}");
        wait_for("it is merged", 30, || number(&mut client, &counted) == rows + 1);
        assert_eq!(number(&mut client, &format!("SELECT count(*) FROM rollup.check('{name}')")), 0);
    }
}

/// What makes the new table the parent of partitions, and what moves the rows there, as this version calls it.
fn of_its_version(client: &mut Client) -> (String, String) {
    let version =
        "SELECT split_part(extversion, '.', 1)::bigint FROM pg_extension WHERE extname = 'pg_partman'";
    let (days, batches) = match number(client, version) {
        ..5 => ("'native', 'daily'", "p_batch"),
        _ => ("'1 day'", "p_loop_count"),
    };
    (
        format!(
            "SELECT partman.create_parent('public.new_partitioned_table', 'col3', {days}, p_template_table := 'public.original_table_template', p_premake := 1, p_start_partition := (CURRENT_TIMESTAMP + interval '2 days')::text)"
        ),
        format!("CALL partman.partition_data_proc('public.original_table', {batches} := 200)"),
    )
}

/// The steps of "Online Partitioning" in pg_partman_howto_native.md (4) or pg_partman_howto.md (5); the new table has the column
/// of rollups as it has the others.
fn by_its_recipe(client: &mut Client) {
    let (parent, move_rows) = of_its_version(client);
    for step in [
        "CREATE TABLE new_partitioned_table (LIKE original_table INCLUDING DEFAULTS) PARTITION BY RANGE (col3)",
        "ALTER TABLE new_partitioned_table ALTER col1 ADD GENERATED BY DEFAULT AS IDENTITY",
        "CREATE INDEX ON new_partitioned_table (col3)",
        "CREATE TABLE original_table_template (LIKE original_table)",
        "ALTER TABLE original_table_template ADD PRIMARY KEY (col1)",
        &parent,
        "DROP TABLE new_partitioned_table_default",
        "UPDATE partman.part_config SET parent_table = 'public.original_table', premake = 4 WHERE parent_table = 'public.new_partitioned_table'",
    ] {
        client.batch_execute(step).unwrap_or_else(|e| panic!("{step}: {e:?}"));
    }
    let first = text(
        client,
        "SELECT partition FROM (SELECT inhrelid::regclass::text AS partition FROM pg_inherits WHERE inhparent = 'new_partitioned_table'::regclass) p",
    );
    let swap = format!(
        "LOCK TABLE original_table IN ACCESS EXCLUSIVE MODE; LOCK TABLE new_partitioned_table IN ACCESS EXCLUSIVE MODE;
         ALTER TABLE original_table RENAME TO original_table_default;
         ALTER TABLE original_table_default ALTER col1 DROP IDENTITY;
         ALTER TABLE new_partitioned_table RENAME TO original_table;
         ALTER TABLE {first} RENAME TO {};
         ALTER SEQUENCE new_partitioned_table_col1_seq RENAME TO original_table_col1_seq;
         SELECT setval('original_table_col1_seq', (SELECT max(col1) FROM original_table_default));
         ALTER TABLE original_table ATTACH PARTITION original_table_default DEFAULT",
        first.replace("new_partitioned_table", "original_table")
    );
    wait_for("the tables are swapped", 60, || {
        match client.batch_execute(&format!("BEGIN; {swap}; COMMIT")) {
            Ok(()) => true,
            // As its authors say: ROLLBACK, and again.
            Err(e) if is_one_of(&e, &["40P01"]) => {
                client.batch_execute("ROLLBACK").expect("undone");
                false
            }
            Err(e) => panic!("{e:?}"),
        }
    });
    let unwatched = "SELECT count(*) FROM rollup.status WHERE unwatched LIKE '%has become a partition of public.original_table%'";
    assert_eq!(number(client, unwatched), 2, "the rollups say that they count a part");
    for name in ROLLUPS {
        let moved = format!("SELECT rollup.move('{name}', 'original_table')");
        client.batch_execute(&moved).expect("the whole is counted");
    }
    assert_eq!(number(client, "SELECT count(*) FROM rollup.status WHERE unwatched IS NOT NULL"), 0);
    for step in [
        move_rows.as_str(),
        "VACUUM ANALYZE original_table",
        "SELECT partman.run_maintenance('public.original_table')",
        "SELECT * FROM partman.partition_gap_fill('public.original_table')",
    ] {
        let mut done = false;
        while !done {
            // What fails is tried again while writers rest.
            match client.batch_execute(step) {
                Ok(()) => done = true,
                // It moves the rows of a day, and fails where another has come before the day has its partition.
                Err(e) if is_one_of(&e, &["40P01", "P0001"]) => REST.store(true, Relaxed),
                Err(e) => panic!("{step}: {e:?}"),
            }
        }
        REST.store(false, Relaxed);
    }
}
