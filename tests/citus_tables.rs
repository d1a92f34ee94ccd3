//! Tables of a cluster beside the plain distributed one: partitions that are made and dropped on every node, and lookup
//! tables that each node joins by itself.
use hll_lab::{Citus, wait_for, wait_until};
use hll_tests::nodes::{error, value_on};
use hll_tests::number;
use postgres::Client;

/// Groups in which two queries with the same columns differ.
fn differences(client: &mut Client, one: &str, other: &str) -> i64 {
    number(
        client,
        &format!(
            "WITH a AS MATERIALIZED ({one}), b AS MATERIALIZED ({other})
             SELECT (SELECT count(*) FROM (TABLE a EXCEPT ALL TABLE b) x) + (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE a) y)"
        ),
    )
}

#[test]
fn tables_of_a_cluster() {
    let Some(citus) = Citus::new().expect("a cluster") else { return };
    let mut client = citus.connect(0).unwrap();
    client
        .batch_execute(
            "CREATE TABLE event (at timestamptz NOT NULL, k int NOT NULL, country text, v int) PARTITION BY RANGE (at);
             CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
             CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2020-02-01') TO ('2020-03-01');
             CREATE TABLE event_3 PARTITION OF event FOR VALUES FROM ('2020-03-01') TO ('2020-04-01');
             SELECT create_distributed_table('event', 'k', shard_count => 4)",
        )
        .unwrap();
    partitions_ahead(&citus, &mut client);
    lookups(&citus, &mut client);
    settings_of_a_session(&citus, &mut client);
    a_table_that_is_there(&citus, &mut client);
    a_table_that_was_its_own(&citus, &mut client);
    partitions_go(&citus, &mut client);
}

/// Partitions are made on every node before rows need them.
fn partitions_ahead(citus: &Citus, client: &mut Client) {
    let ahead = "SELECT rollup.partition('event', '1 month', '2 months')";
    let made = number(client, ahead);
    assert!(made >= 3, "{made} partitions");
    assert_eq!(number(client, ahead), 0);
    for node in 0..3 {
        let mut there = citus.connect(node).unwrap();
        assert_eq!(
            number(&mut there, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass"),
            made + 3
        );
    }
    let shards = "SELECT count(DISTINCT s.logicalrelid) FROM pg_dist_shard s JOIN pg_inherits i ON i.inhrelid = s.logicalrelid WHERE i.inhparent = 'event'::regclass";
    assert_eq!(number(client, shards), made + 3, "each lies in shards");
    let until = "SELECT extract(day FROM partitions_until - now())::bigint FROM rollup.status";
    client
        .batch_execute("SELECT rollup.create('event_1h', 'SELECT k, date_trunc(''hour'', at) AS at, count(*) AS n, sum(v) AS s FROM event GROUP BY 1, 2', every => NULL)")
        .unwrap();
    assert!(number(client, until) >= 59);
    // What an ATTACHed partition lacks would make its rows unknown to runs.
    for node in 0..3 {
        let mut there = citus.connect(node).unwrap();
        let row = format!("INSERT INTO event VALUES (now() + interval '40 days', {node}, 'DE', 1)");
        there.batch_execute(&row).unwrap();
    }
    all_merged(client);
    assert_eq!(number(client, "SELECT sum(n)::bigint FROM event_1h WHERE at > now()"), 3);
    // Rows that a default partition took in stay there.
    client
        .batch_execute("CREATE TABLE event_rest PARTITION OF event DEFAULT; INSERT INTO event VALUES (now() + interval '80 days', 1, 'DE', 1)")
        .unwrap();
    let e = error(client, "SELECT rollup.partition('event', '1 month', '4 months')");
    assert!(e.starts_with("0A000 rows of public.event from"), "{e}");
    client
        .batch_execute("DELETE FROM event WHERE at > now() + interval '70 days'; DROP TABLE event_rest")
        .unwrap();
    client.batch_execute("SELECT rollup.partition('event', NULL)").unwrap();
}

fn all_merged(client: &mut Client) {
    wait_until("everything is merged", 30, || {
        client.batch_execute("SELECT rollup_event()")?;
        Ok(number(client, "SELECT max(coalesce(lag_rows, 1)) FROM rollup.status") == 0)
    });
}

/// Each node joins the rows it has to its own copy of a reference table.
fn lookups(citus: &Citus, client: &mut Client) {
    client
        .batch_execute(
            "CREATE TABLE continent (country text PRIMARY KEY, name text); SELECT create_reference_table('continent');
             INSERT INTO continent VALUES ('DE', 'Europe'), ('FR', 'Europe'), ('US', 'America')",
        )
        .unwrap();
    let query = "SELECT e.k, c.name, date_trunc('hour', e.at) AS at, count(*) AS n, sum(e.v) AS s FROM event e LEFT JOIN continent c ON c.country = e.country GROUP BY 1, 2, 3";
    let e = error(
        client,
        &format!(
            "SELECT rollup.create('refused', $q${query}$q$, joins => 'snapshot', coarser => '{{\"refused_day\": \"1 day\"}}')"
        ),
    );
    assert!(e.starts_with("0A000 rollup refused joins lookup tables"), "{e}");
    let e = error(client, &format!("SELECT rollup.create('refused', $q${query}$q$, joins => 'follow')"));
    assert!(e.starts_with("0A000 lookup tables of a table that Citus keeps cannot be followed"), "{e}");
    client
        .batch_execute(&format!(
            "SELECT rollup.create('by_continent', $q${query}$q$, joins => 'snapshot', every => NULL)"
        ))
        .unwrap();
    for node in 0..3 {
        citus
            .connect(node)
            .unwrap()
            .batch_execute("INSERT INTO event SELECT timestamptz '2020-01-10' + g * interval '31 min', g % 11, (ARRAY['DE','FR','US','JP',NULL])[1 + g % 5], g FROM generate_series(1, 2000) g")
            .unwrap();
    }
    let kept = |table: &str| format!("SELECT k, name, at, n, s FROM {table}");
    assert_eq!(differences(client, query, &kept("by_continent_live")), 0, "live, before the run");
    let explained: String = client.query_one("SELECT rollup.explain('by_continent')", &[]).unwrap().get(0);
    let plan: String = client
        .query(&format!("EXPLAIN (COSTS OFF) {explained}"), &[])
        .unwrap()
        .iter()
        .map(|line| line.get::<_, String>(0) + "\n")
        .collect();
    assert!(plan.contains("Task Count: 4") && !plan.contains("pull to coordinator"), "{plan}");
    assert_eq!(
        number(client, "SELECT count(*) FROM rollup.check('by_continent')"),
        0,
        "before the first run"
    );
    all_merged(client);
    assert_eq!(differences(client, query, &kept("by_continent")), 0);
    // A lookup that changes later is not followed; rows from then on are.
    client
        .batch_execute("CREATE TABLE before AS SELECT k, name, at, n, s FROM by_continent; UPDATE continent SET name = 'Elsewhere' WHERE country = 'US'; INSERT INTO event VALUES ('2020-03-20', 1, 'US', 7)")
        .unwrap();
    all_merged(client);
    let with_one = "SELECT k, name, at, n, s FROM before UNION ALL SELECT 1, 'Elsewhere', '2020-03-20', 1, 7";
    assert_eq!(differences(client, with_one, &kept("by_continent")), 0);
    client.batch_execute("SELECT rollup.drop('by_continent'); DROP TABLE before").unwrap();
}

/// A table that the user has made, in partitions of time, takes the groups, and expires by the partition.
fn a_table_that_is_there(citus: &Citus, client: &mut Client) {
    client
        .batch_execute(
            "CREATE TABLE by_day (k int NOT NULL, at timestamptz NOT NULL, n bigint, note text, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
             CREATE TABLE by_day_1 PARTITION OF by_day FOR VALUES FROM ('2019-01-01') TO ('2020-03-01');
             SELECT create_distributed_table('by_day', 'k', colocate_with => 'event')",
        )
        .unwrap();
    let create = "SELECT rollup.create('by_day', 'SELECT k, date_trunc(''day'', at) AS at, count(*) AS n FROM event GROUP BY 1, 2', into_table => 'by_day', every => NULL)";
    client.batch_execute("SELECT rollup.partition('by_day', '1 year', '1 year')").unwrap();
    client
        .batch_execute(
            "CREATE TABLE by_day_2 PARTITION OF by_day FOR VALUES FROM ('2020-03-01') TO ('2020-06-01')",
        )
        .unwrap();
    client.batch_execute(create).unwrap();
    all_merged(client);
    let raw = "SELECT k, date_trunc('day', at, 'UTC') AS at, count(*) AS n FROM event GROUP BY 1, 2";
    assert_eq!(differences(client, raw, "SELECT k, at, n FROM by_day"), 0);
    client.batch_execute("SELECT rollup.retain('by_day', '1000 days')").unwrap();
    wait_for("its old partitions go", 30, || {
        let gone = "SELECT dropped FROM rollup.retention WHERE relation = 'by_day'::regclass";
        number(client, gone) == 2
    });
    assert!(!there(citus, "by_day_1") && !there(citus, "by_day_2"));
    let recent = raw.replace("GROUP BY", "WHERE at > '2021-01-01' GROUP BY");
    assert_eq!(differences(client, &recent, "SELECT k, at, n FROM by_day"), 0);
    client.batch_execute("SELECT rollup.drop('by_day'); DROP TABLE by_day").unwrap();
}

/// A rollup that was dropped takes the table that it left back, with what is computed in it; rows that are there have
/// been counted, on every node, and others come.
fn a_table_that_was_its_own(citus: &Citus, client: &mut Client) {
    let create = |options: &str| {
        format!(
            "SELECT rollup.create('back', 'SELECT k, date_trunc(''day'', at) AS at, count(*) AS n, avg(v) AS mean FROM event GROUP BY 1, 2', every => NULL{options})"
        )
    };
    client.batch_execute(&create("")).unwrap();
    all_merged(client);
    let counted = number(client, "SELECT sum(n)::bigint FROM back");
    client.batch_execute("SELECT rollup.drop('back', keep_data => true)").unwrap();
    let e = error(client, &create(", into_table => 'back'"));
    assert!(e.contains("is not empty"), "{e}");
    let mut open = citus.connect(1).unwrap();
    open.batch_execute("BEGIN").unwrap();
    client.batch_execute(&create(", into_table => 'back', backfill => false")).unwrap();
    // A transaction that was there before, and writes now.
    open.batch_execute("INSERT INTO event VALUES ('2020-02-20', 5, 'DE', 50); COMMIT").unwrap();
    assert_eq!(number(client, "SELECT sum(n)::bigint FROM back"), counted);
    for node in 0..3 {
        let mut there = citus.connect(node).unwrap();
        there
            .batch_execute("INSERT INTO event SELECT timestamptz '2020-02-10' + g * interval '3 h', g % 5, 'DE', g FROM generate_series(1, 40) g")
            .unwrap();
    }
    all_merged(client);
    assert_eq!(number(client, "SELECT sum(n)::bigint FROM back"), counted + 121);
    assert_eq!(number(client, "SELECT count(*) FROM rollup.check('back')"), 0);
    let mean = "SELECT count(*) FROM (SELECT k, date_trunc('day', at, 'UTC') AS at, avg(v) AS mean FROM event GROUP BY 1, 2) r JOIN back b USING (k, at) WHERE abs(r.mean - b.mean) > 1e-6";
    assert_eq!(number(client, mean), 0);
    client.batch_execute("SELECT rollup.drop('back')").unwrap();
    client.batch_execute("DROP TABLE back").unwrap();
}

/// Neither the time zone of a session nor its parameters of sketches reach other nodes: what a rollup makes does not
/// depend on them.
fn settings_of_a_session(citus: &Citus, client: &mut Client) {
    let query = "SELECT k, date_trunc('day', at) AS at, count(*) AS n, hll_add_agg(hll_hash_integer(v)) AS vs FROM event GROUP BY 1, 2";
    let mut maker = citus.connect(0).unwrap();
    maker
        .batch_execute(&format!(
            "SET timezone = 'America/Caracas'; SELECT hll_set_defaults(12, 6, 0, 1);
             SELECT rollup.create('event_1d', $q${query}$q$, timezone => 'Asia/Kolkata', every => NULL)"
        ))
        .unwrap();
    for node in 0..3 {
        citus
            .connect(node)
            .unwrap()
            .batch_execute("SET timezone = 'Pacific/Auckland'; INSERT INTO event SELECT timestamptz '2020-02-10' + g * interval '17 min', g % 5, 'DE', g FROM generate_series(1, 500) g")
            .unwrap();
    }
    all_merged(client);
    // Spelled out, as no setting can change it.
    let raw = "SELECT k, date_trunc('day', at, 'Asia/Kolkata') AS at, count(*) AS n, hll_add_agg(hll_hash_integer(v), 12, 6, 0, 1)::text AS vs FROM event GROUP BY 1, 2";
    for table in ["event_1d", "event_1d_live"] {
        assert_eq!(
            differences(client, raw, &format!("SELECT k, at, n, vs::text FROM {table}")),
            0,
            "{table}"
        );
    }
    client.batch_execute("SELECT rollup.drop('event_1d')").unwrap();
}

/// A statement that goes on after its origin: no lock on the table, but one on a shard.
struct Orphan {
    origin: Client,
    worker: Client,
}

impl Orphan {
    /// Writes a row of 2020-01-11 into that shard, on node 2.
    fn begin(citus: &Citus, k: i32, shard: &str) -> Orphan {
        let mut origin = citus.connect(0).unwrap();
        origin.batch_execute("BEGIN").unwrap();
        let stamp = number(&mut origin, "SELECT rollup.stamp()");
        let mut worker = citus.connect(2).unwrap();
        worker
            .batch_execute(&format!(
                "SET citus.enable_manual_changes_to_shards = on; BEGIN; INSERT INTO {shard} VALUES ('2020-01-11', {k}, 'DE', 5, {stamp})"
            ))
            .unwrap();
        Orphan { origin, worker }
    }

    fn commit(mut self) {
        self.worker.batch_execute("COMMIT").unwrap();
        self.origin.batch_execute("COMMIT").unwrap();
    }
}

/// Old partitions go on every node, and none with a row that is not rolled up, whatever writes that.
fn partitions_go(citus: &Citus, client: &mut Client) {
    let raw =
        "SELECT k, date_trunc('hour', at, 'UTC') AS at, count(*) AS n, sum(v) AS s FROM event GROUP BY 1, 2";
    let kept = "SELECT k, at, n, s FROM event_1h";
    all_merged(client);
    assert_eq!(differences(client, raw, kept), 0);
    let (k, shard) = value_on(client, citus, "event_1", 2);
    let orphan = Orphan::begin(citus, k, &shard);
    client.batch_execute("SELECT rollup.retain('event', '1000 days')").unwrap();
    let begun = std::time::Instant::now();
    // It has the table above its shard open: those partitions can be emptied meanwhile, and are dropped later.
    wait_for("rows of the partitions without it go", 30, || {
        number(client, "SELECT count(*) FROM event WHERE at >= '2020-02-01' AND at < '2020-04-01'") == 0
    });
    client.batch_execute("SELECT rollup.expire('event')").unwrap();
    assert!(begun.elapsed().as_secs() < 20, "nobody waits for the orphan");
    assert!(there(citus, "event_1") && there(citus, "event_2") && there(citus, "event_3"));
    orphan.commit();
    // Its row is not rolled up yet: its partition stays until it is, the others go.
    wait_for("the partitions without it go", 30, || {
        client.batch_execute("SELECT rollup.expire('event')").unwrap();
        dropped(client) == 2
    });
    assert!(there(citus, "event_1") && !there(citus, "event_2") && !there(citus, "event_3"));
    let old = "SELECT count(*) FROM event WHERE at < '2020-02-01'";
    let rolled_up = "SELECT sum(n)::bigint FROM event_1h WHERE at < '2020-02-01'";
    assert_eq!(number(client, old), number(client, rolled_up) + 1);
    let mut all_rows = 0;
    // One that commits at any moment of an attempt to drop the partition.
    for moment in 0..24 {
        // There before all others are merged, so that nothing may be dropped meanwhile.
        let orphan = Orphan::begin(citus, k, &shard);
        all_merged(client);
        let all = number(client, rolled_up);
        let mut other = citus.connect(0).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || other.batch_execute("SELECT rollup.expire('event')").unwrap());
            std::thread::sleep(std::time::Duration::from_millis(5 * moment));
            orphan.commit();
        });
        assert!(there(citus, "event_1"), "it went with a row that is not rolled up, after {moment}");
        all_rows = all + 1;
        assert_eq!(number(client, old), all_rows);
    }
    all_merged(client);
    let rows = number(client, rolled_up);
    assert_eq!(rows, all_rows);
    wait_for("the last old partition goes", 30, || dropped(client) == 3);
    assert!(!there(citus, "event_1"));
    assert_eq!(number(client, "SELECT count(*) FROM event WHERE at < '2021-01-01'"), 0);
    assert_eq!(number(client, rolled_up), rows);
    assert_eq!(number(client, "SELECT count(*) FROM rollup.check('event_1h')"), 0);
}

fn dropped(client: &mut Client) -> i64 {
    number(client, "SELECT dropped FROM rollup.retention WHERE relation = 'event'::regclass")
}

/// Whether a partition, or a shard of it, is there on any node; it must not be on one and gone from another.
fn there(citus: &Citus, partition: &str) -> bool {
    let found: Vec<i64> = (0..3)
        .map(|node| {
            let mut there = citus.connect(node).unwrap();
            there.batch_execute("SET citus.override_table_visibility = off").unwrap();
            number(&mut there, &format!("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^{partition}(_1[0-9]+)?$'"))
        })
        .collect();
    assert!(found.iter().all(|n| (*n > 0) == (found[0] > 0)), "{partition}: {found:?}");
    found[0] > 0
}
