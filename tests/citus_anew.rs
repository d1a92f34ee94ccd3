//! A table that Citus recreates keeps its rollups, with what has expired of them, and nothing else does that a user
//! drops, renames or calls the same. Shards move as they do by default, whatever rollups a table has.
use hll_lab::{Citus, wait_for, wait_until};
use hll_tests::nodes::KINDS;
use hll_tests::number;
use postgres::Client;
use postgres::error::SqlState;

/// A table with a rollup and a level of it, of which rows have expired.
struct Kept {
    table: &'static str,
    name: String,
    target: String,
    level: String,
    expired: i64,
}

/// Whether a command went through: Citus may choose it as the victim of a deadlock with a look of the worker at the table,
/// and whoever runs it does so again.
fn is_done(client: &mut Client, call: &str) -> bool {
    match client.batch_execute(call) {
        Ok(()) => true,
        Err(e) if e.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => false,
        Err(e) => panic!("{call}: {e:?}"),
    }
}

impl Kept {
    fn new(client: &mut Client, table: &'static str) -> Kept {
        let name = format!("{}_min", table.replace('.', "_"));
        let schema = table.split_once('.').map(|(schema, _)| format!("{schema}.")).unwrap_or_default();
        let level = format!("{name}_day");
        let create = format!(
            "SELECT rollup.create('{name}', 'SELECT site, date_trunc(''minute'', at) AS at, count(*) AS n, sum(v) AS s, hll_add_agg(hll_hash_integer(v)) AS vs
               FROM {table} GROUP BY 1, 2', every => NULL, coarser => '{{\"{level}\": \"1 day\"}}')"
        );
        client.batch_execute(&create).unwrap_or_else(|e| panic!("{table}: {e:?}"));
        let kept = Kept { table, target: schema.clone() + &name, level: schema + &level, name, expired: 300 };
        client
            .batch_execute(&format!(
                "INSERT INTO {table} SELECT g % 7, timestamptz '2020-01-01' + g * interval '50 s', g FROM generate_series(1, 300) g"
            ))
            .expect(table);
        kept.run(client, "before");
        client.batch_execute(&format!("SELECT rollup.retain('{table}', '1000 days')")).expect(table);
        wait_for("old rows have expired", 30, || {
            client.batch_execute(&format!("SELECT rollup.expire('{table}')")).expect(table);
            number(client, &format!("SELECT count(*) FROM {table}")) == 0
        });
        kept
    }

    fn run(&self, client: &mut Client, what: &str) {
        let run = format!("SELECT rollup_internal.work_off('{}')", self.name);
        let lag = format!("SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = '{}'", self.name);
        client.batch_execute(&run).unwrap_or_else(|e| panic!("{} {what}: {e:?}", self.table));
        wait_until(&format!("{} {what}: everything is merged", self.table), 30, || {
            client.batch_execute(&run)?;
            Ok(number(client, &lag) == 0)
        });
    }

    /// Rows come, on the nodes that have the table, are merged once, and nothing has gone.
    fn goes_on(&self, citus: &Citus, client: &mut Client, what: &str) {
        let what = format!("{} {what}", self.table);
        for node in 0..2 {
            let mut there = citus.connect(node).expect("a node");
            let is_there = format!("SELECT (to_regclass('{}') IS NOT NULL)::int::bigint", self.table);
            if number(&mut there, &is_there) == 1 {
                there
                    .batch_execute(&format!(
                        "INSERT INTO {} SELECT g % 7, now() - g * interval '20 s', g FROM generate_series(1, 70) g",
                        self.table
                    ))
                    .unwrap_or_else(|e| panic!("{what}: {e:?}"));
            }
        }
        let raw = number(client, &format!("SELECT count(*) FROM {}", self.table));
        let in_view = format!("SELECT sum(n)::bigint FROM {}_live", self.target);
        assert_eq!(number(client, &in_view), raw + self.expired, "{what}: before the run");
        self.run(client, &what);
        for table in [&self.target, &self.level, &format!("{}_live", self.level)] {
            let sum = number(client, &format!("SELECT sum(n)::bigint FROM {table}"));
            assert_eq!(sum, raw + self.expired, "{what}: {table}");
        }
        let check = format!("SELECT count(*) FROM rollup.check('{}')", self.name);
        assert_eq!(number(client, &check), 0, "{what}");
        let retained = format!(
            "SELECT count(*) FROM rollup.retention r JOIN rollup.expired USING (relation) WHERE r.relation = '{}'::regclass",
            self.table
        );
        assert_eq!(number(client, &retained), 1, "{what}: its retention");
    }

    /// Has `call` recreate the table, or move its rows, undone at first where that can be.
    fn through(&self, citus: &Citus, client: &mut Client, call: &str) {
        let before = number(client, &format!("SELECT '{}'::regclass::oid::bigint", self.table));
        if !call.contains("concurrently") {
            // One by one: Citus sends what it was sent on to other nodes, where it may be one command alone.
            let mut done = false;
            while !done {
                client.batch_execute("BEGIN").expect(call);
                done = is_done(client, call);
                client.batch_execute("ROLLBACK").expect(call);
            }
            self.goes_on(citus, client, &format!("after {call} was undone"));
        }
        // Rows that wait, too.
        client
            .batch_execute(&format!(
                "INSERT INTO {} VALUES (3, now(), 1), (4, now() - interval '1 h', 2)",
                self.table
            ))
            .expect(call);
        while !is_done(client, call) {}
        let after = number(client, &format!("SELECT '{}'::regclass::oid::bigint", self.table));
        let source =
            format!("SELECT source::oid::bigint FROM rollup.definition WHERE name = '{}'", self.name);
        assert_eq!(number(client, &source), after, "{call}: the rollup is that of the table");
        if !call.contains("create_distributed_table(") && !call.contains("schema_distribute") {
            assert_ne!(before, after, "{call} makes the table anew");
        }
        self.goes_on(citus, client, &format!("after {call}"));
    }
}

#[test]
fn tables_made_anew_keep_their_rollups() {
    let Some(citus) = Citus::new().expect("a cluster") else { return };
    let mut client = citus.connect(0).expect("the coordinator");
    client.batch_execute("SET client_min_messages = error").expect("set");
    for kind in [&KINDS[0], &KINDS[1], &KINDS[3]] {
        kind.make(&mut client);
    }
    let kept = Kept::new(&mut client, "several");
    for call in [
        "SELECT alter_distributed_table('several', shard_count => 5, cascade_to_colocated => true)",
        "SELECT alter_distributed_table('several', shard_count => 3, cascade_to_colocated => false)",
        "SELECT undistribute_table('several')",
        "SELECT create_distributed_table('several', 'site', colocate_with => 'several_min')",
    ] {
        kept.through(&citus, &mut client, call);
    }
    let kept = Kept::new(&mut client, "parted");
    kept.through(
        &citus,
        &mut client,
        "SELECT alter_distributed_table('parted', shard_count => 6, cascade_to_colocated => true)",
    );
    kept.through(&citus, &mut client, "SELECT undistribute_table('parted')");
    let kept = Kept::new(&mut client, "tenant.events");
    for call in ["SELECT citus_schema_undistribute('tenant')", "SELECT citus_schema_distribute('tenant')"] {
        kept.through(&citus, &mut client, call);
    }
    // Tables of one node that come to Citus, by the way of a foreign key, too.
    client
        .batch_execute("CREATE TABLE site (site int PRIMARY KEY); SELECT create_reference_table('site'); INSERT INTO site SELECT generate_series(0, 6)")
        .expect("a reference table");
    for table in ["by_key", "by_call", "at_once"] {
        client
            .batch_execute(&format!("CREATE TABLE {table} (site int, at timestamptz, v int)"))
            .expect(table);
    }
    let kept = Kept::new(&mut client, "by_key");
    kept.through(
        &citus,
        &mut client,
        "ALTER TABLE by_key ADD CONSTRAINT to_site FOREIGN KEY (site) REFERENCES site",
    );
    kept.through(&citus, &mut client, "ALTER TABLE by_key DROP CONSTRAINT to_site");
    let kept = Kept::new(&mut client, "by_call");
    kept.through(&citus, &mut client, "SELECT citus_add_local_table_to_metadata('by_call')");
    kept.through(&citus, &mut client, "SELECT undistribute_table('by_call')");
    let kept = Kept::new(&mut client, "at_once");
    client
        .batch_execute("ALTER TABLE at_once REPLICA IDENTITY FULL; DROP TRIGGER zz_rollup_kept ON at_once")
        .expect("an identity");
    kept.through(&citus, &mut client, "SELECT create_distributed_table_concurrently('at_once', 'site')");
    others_do_not(&mut client);
    shards_move(&citus, &mut client);
}

/// What users drop, rename and make is not followed, by whatever name.
fn others_do_not(client: &mut Client) {
    let make = |client: &mut Client, table: &str| {
        client
            .batch_execute(&format!(
                "CREATE TABLE {table} (site int, at timestamptz, v int);
                 SELECT rollup.create('{table}_min', 'SELECT site, date_trunc(''minute'', at) AS at, count(*) AS n FROM {table} GROUP BY 1, 2', every => NULL)"
            ))
            .expect(table);
    };
    let state = |client: &mut Client, table: &str| -> String {
        client
            .query_one(
                "SELECT concat(state, ' ', source::text) FROM rollup.status WHERE name = $1",
                &[&format!("{table}_min")],
            )
            .expect("a state")
            .get(0)
    };
    make(client, "swapped");
    client
        .batch_execute("BEGIN; CREATE TABLE fresh (LIKE swapped INCLUDING ALL); DROP TABLE swapped CASCADE; ALTER TABLE fresh RENAME TO swapped; COMMIT")
        .expect("swapped");
    assert_eq!(state(client, "swapped"), "gone ");
    make(client, "put_away");
    client
        .batch_execute("BEGIN; ALTER TABLE put_away RENAME TO put_away_102008; CREATE TABLE put_away (LIKE put_away_102008 INCLUDING ALL); COMMIT")
        .expect("put away");
    assert_eq!(state(client, "put_away"), "active put_away_102008");
}

/// Shards of a table with a primary key move without being told how, and its rollups run meanwhile and after.
fn shards_move(citus: &Citus, client: &mut Client) {
    for sql in [
        "CREATE TABLE keyed (id bigint, site int, at timestamptz NOT NULL, v int, PRIMARY KEY (id, site))",
        "SELECT create_distributed_table('keyed', 'site', shard_count => 4, colocate_with => 'none')",
        // With a key that may not be NULL, and with one that may.
        "SELECT rollup.create('keyed_min', 'SELECT site, date_trunc(''minute'', at) AS at, count(*) AS n FROM keyed GROUP BY 1, 2', every => NULL, coarser => '{\"keyed_hour\": \"1 hour\"}')",
        "SELECT rollup.create('keyed_v', 'SELECT site, v % 3 AS third, date_trunc(''hour'', at) AS at, count(*) AS n FROM keyed GROUP BY 1, 2, 3', every => NULL)",
    ] {
        client.batch_execute(sql).expect(sql);
    }
    let write = |client: &mut Client, from: i32| {
        client
            .batch_execute(&format!(
                "INSERT INTO keyed SELECT g, g % 9, timestamptz '2026-01-01' + g % 50 * interval '7 min', nullif(g % 5, 0) FROM generate_series({from}, {from} + 299) g"
            ))
            .expect("rows");
    };
    write(client, 0);
    client.batch_execute("SELECT rollup_keyed()").expect("a run");
    let placed = "SELECT shardid, nodeport FROM citus_shards WHERE table_name = 'keyed'::regclass ORDER BY shardid LIMIT 1";
    let row = client.query_one(placed, &[]).expect("a shard");
    let (shard, from): (i64, i32) = (row.get(0), row.get(1));
    let to =
        citus.nodes[1..3].iter().map(|n| i32::from(n.port())).find(|port| *port != from).expect("another");
    write(client, 300);
    let mover = citus.address(0);
    std::thread::scope(|scope| {
        let moved = scope.spawn(move || {
            let mut client = mover.connect(postgres::NoTls).expect("a connection");
            let call =
                format!("SELECT citus_move_shard_placement({shard}, '127.0.0.1', {from}, '127.0.0.1', {to})");
            client.batch_execute(&call)
        });
        // Buckets that are there change while the shard is copied.
        let mut next = 600;
        while !moved.is_finished() {
            write(client, next);
            next += 300;
            client.batch_execute("SELECT rollup_keyed()").expect("a run while a shard moves");
        }
        moved.join().expect("it ends").expect("the shard moves by itself");
    });
    client.batch_execute("SELECT citus_rebalance_start()").expect("the rebalancer takes the tables");
    client.batch_execute("SELECT citus_rebalance_wait()").expect("and ends");
    wait_for("everything is merged", 30, || {
        client.batch_execute("SELECT rollup_keyed()").expect("a run");
        number(client, "SELECT sum(lag_rows)::bigint FROM rollup.status WHERE source = 'keyed'::regclass")
            == 0
    });
    for name in ["keyed_min", "keyed_v"] {
        assert_eq!(number(client, &format!("SELECT count(*) FROM rollup.check('{name}')")), 0, "{name}");
    }
}
