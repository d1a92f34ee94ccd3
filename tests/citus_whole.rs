//! Levels without the key that their rollup is distributed by, on a Citus cluster: one table on the coordinator with the
//! groups of every node, whatever the kind of their values, while rows are written everywhere and shards move.
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use hll_lab::{Citus, wait_for};
use hll_tests::load::Dice;
use hll_tests::nodes::{StopAtEnd, error, prepared};
use hll_tests::{number, text};
use postgres::Client;

const MAKE: &str = "CREATE TABLE hit (at timestamptz, tenant int, page text, ms int, who text);
    SELECT create_distributed_table('hit', 'tenant', shard_count => 6, colocate_with => 'none');
    SELECT rollup.create('hit_1hour', $$ SELECT date_trunc('hour', at) AS at, tenant, page, count(*) AS n, sum(ms) AS total, avg(ms) AS mean, min(ms) AS least, hll_add_agg(hll_hash_text(who)) AS people,
        ddsketch_agg(ms) AS pct, jsonb_counter_agg(who) AS by_who, jsonb_counter_bounded_agg(who, 1, 8) AS top FROM hit GROUP BY 1, 2, 3 $$,
      every => NULL, coarser => '{\"hit_1hour_all\": {\"width\": \"1 hour\", \"keys\": []}, \"hit_1day_page\": {\"width\": \"1 day\", \"keys\": [\"page\"]},
        \"hit_1day\": \"1 day\", \"hit_1day_tenant\": {\"width\": \"1 day\", \"keys\": [\"tenant\"]}, \"hit_1month_all\": {\"width\": \"1 month\", \"keys\": []}}')";

/// Levels with their unit, and their keys besides the time with commas behind.
const LEVELS: [(&str, &str, &str); 4] = [
    ("hit_1hour_all", "hour", ""),
    ("hit_1day_page", "day", "page,"),
    ("hit_1day_tenant", "day", "tenant,"),
    ("hit_1month_all", "month", ""),
];

/// How many groups of a level, or of its live view, differ from those that the raw rows give.
fn differing(client: &mut Client, (level, unit, keys): (&str, &str, &str), suffix: &str) -> i64 {
    let positions = if keys.is_empty() { "1" } else { "1, 2" };
    // An average of a few million integers has no digits that depend on the order of rows.
    number(
        client,
        &format!(
            "WITH raw AS MATERIALIZED (SELECT date_trunc('{unit}', at, 'UTC') AS at, {keys} count(*) AS n, sum(ms) AS total, avg(ms) AS mean, min(ms) AS least, hll_add_agg(hll_hash_text(who))::text AS people,
               ddsketch_agg(ms)::text AS pct, jsonb_counter_agg(who) AS by_who FROM hit GROUP BY {positions}),
             kept AS MATERIALIZED (SELECT at, {keys} n, total, mean, least, people::text, pct::text, by_who FROM {level}{suffix})
             SELECT count(*) FROM ((TABLE raw EXCEPT ALL TABLE kept) UNION ALL (TABLE kept EXCEPT ALL TABLE raw)) d"
        ),
    )
}

/// The table with its rollup, a statement after the other.
fn make(client: &mut Client, skip: &str) {
    for statement in MAKE.split(";\n").filter(|s| skip.is_empty() || !s.contains(skip)) {
        client.batch_execute(statement).unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
}

fn compare(client: &mut Client, what: &str, suffix: &str) {
    for level in LEVELS {
        assert_eq!(differing(client, level, suffix), 0, "{}{suffix}: {what}", level.0);
    }
}

fn check(client: &mut Client, what: &str) {
    let found = "SELECT coalesce(string_agg(concat_ws(' ', relation::text, keys, column_name, stored, recomputed), '; '), '') FROM rollup.check('hit_1hour')";
    assert_eq!(text(client, found), "", "{what}");
}

fn all_merged(client: &mut Client) {
    wait_for("everything is merged", 60, || {
        client.batch_execute("SELECT rollup_internal.work_off('hit_1hour')").expect("a run");
        number(client, "SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = 'hit_1hour'") == 0
    });
}

/// Rows of a writer, whatever they meet on their way while shards move.
fn write(client: &mut Client, dice: &mut Dice) -> Result<(), postgres::Error> {
    let (a, b, n) = (dice.roll(40), dice.roll(2000), dice.roll(1 << 20));
    let insert = format!(
        "INSERT INTO hit SELECT timestamptz '2026-01-01' + {b} * interval '31 min' + g * interval '13 s', ({a} + g) % 9, nullif('p' || ({n} + g) % 4, 'p3'), nullif(({n} + g) % 300, 7), 'w' || ({n} + g) % 13 FROM generate_series(1, 10) g"
    );
    match dice.roll(5) {
        0 => client.batch_execute(&format!("BEGIN; {insert}; ROLLBACK")),
        1 => client.batch_execute(&format!("BEGIN; {insert}; SAVEPOINT a; {insert}; ROLLBACK TO a; COMMIT")),
        2 => client.batch_execute(&format!("BEGIN; {insert}; SELECT pg_sleep(0.1); {insert}; COMMIT")),
        _ => client.batch_execute(&insert),
    }
}

/// Moves a shard of the raw table, with those of its rollup, to the other worker.
fn move_a_shard(citus: &Citus, client: &mut Client, dice: &mut Dice) {
    let mode = if dice.roll(2) == 0 { "block_writes" } else { "force_logical" };
    let found = client
        .query("SELECT shardid, nodename, nodeport FROM citus_shards WHERE table_name = 'hit'::regclass ORDER BY shardid", &[])
        .expect("the shards");
    let row = &found[dice.roll(found.len() as u64) as usize];
    let (shard, host, port): (i64, String, i32) = (row.get(0), row.get(1), row.get(2));
    let to =
        citus.nodes[1..].iter().map(hll_lab::Cluster::port).find(|p| i32::from(*p) != port).expect("another");
    let call = format!(
        "SELECT citus_move_shard_placement({shard}, '{host}', {port}, '127.0.0.1', {to}, shard_transfer_mode => '{mode}')"
    );
    client.batch_execute(&call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
}

#[test]
fn totals_over_all_nodes() {
    let Some((citus, mut client)) = prepared() else { return };
    client
        .batch_execute(
            "INSERT INTO http_request SELECT g, now(), 'x', 'DE', 200, g FROM generate_series(1, 9) g",
        )
        .unwrap();
    make(&mut client, "");
    let on_nodes = "SELECT count(*) FROM pg_dist_partition WHERE logicalrelid::text LIKE 'hit_1%'";
    assert_eq!(
        number(&mut client, on_nodes),
        3,
        "the rollup, a longer level, and that by tenant are in shards"
    );
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for node in 0..3 {
            let (mut writer, stop) = (citus.connect(node).unwrap(), &stop);
            scope.spawn(move || {
                let mut dice = Dice(77 + node as u64);
                while !stop.load(Relaxed) {
                    write(&mut writer, &mut dice).unwrap_or_else(|e| panic!("{e:?}"));
                }
            });
        }
        let mut dice = Dice(4);
        for turn in 0..10 {
            client.batch_execute("SELECT rollup_hit()").unwrap();
            if turn % 2 == 0 {
                let mut mover = citus.connect(0).unwrap();
                let (citus, dice) = (&citus, &mut dice);
                thread::scope(|inner| {
                    inner.spawn(|| move_a_shard(citus, &mut mover, dice));
                    client.batch_execute("SELECT rollup_hit()").unwrap();
                });
            }
        }
    });
    client
        .batch_execute(
            "INSERT INTO hit VALUES ('2026-01-03', 3, 'late', 5, 'w1'), (NULL, 4, NULL, NULL, NULL)",
        )
        .unwrap();
    compare(&mut client, "with rows that no run has merged", "_live");
    all_merged(&mut client);
    compare(&mut client, "all is merged", "");
    compare(&mut client, "all is merged", "_live");
    check(&mut client, "after all of it");
    let shown = "SELECT sum(n)::bigint FROM rollup.series(NULL::hit_1hour_all_live, '2025-12-31', '2026-12-31', points => 2, fill => 'none')";
    assert_eq!(
        number(&mut client, shown),
        number(&mut client, "SELECT count(*) FROM hit WHERE at IS NOT NULL")
    );
    // A difference is found.
    client
        .batch_execute("UPDATE hit_1day_page SET n = n + 1 WHERE at = '2026-01-03' AND page = 'late'")
        .unwrap();
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM rollup.check('hit_1hour') WHERE relation = 'hit_1day_page'::regclass"
        ),
        1
    );
    client.batch_execute("SELECT rollup.rebuild('hit_1hour')").unwrap();
    check(&mut client, "after a rebuild");
    compare(&mut client, "after a rebuild", "");
    // Levels and columns come and go.
    for call in [
        "SELECT rollup.drop_level('hit_1hour', 'hit_1month_all'), rollup.add_level('hit_1hour', 'hit_1month_all', '1 month', keys => '{}')",
        "SELECT rollup.add_column('hit_1hour', 'most', 'max(ms)', backfill => true)",
        "SELECT rollup.drop_column('hit_1hour', 'top')",
    ] {
        client.batch_execute(call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
    }
    check(&mut client, "levels and columns have come and gone");
    compare(&mut client, "levels and columns have come and gone", "");
    assert_eq!(
        number(&mut client, "SELECT max(most)::bigint FROM hit_1month_all"),
        number(&mut client, "SELECT max(ms)::bigint FROM hit")
    );
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), 9);
}

#[test]
fn late_rows_and_expiry() {
    let Some((_citus, mut client)) = prepared() else { return };
    make(&mut client, "");
    for call in [
        "INSERT INTO hit SELECT now() - g * interval '1 hour', g % 9, 'p' || g % 3, g, 'w' FROM generate_series(1, 400) g",
        "SELECT rollup_hit()",
        "SELECT rollup.retain('hit', '6 days'), rollup.retain('hit_1hour', '8 days'), rollup.retain('hit_1day_page', '10 days')",
    ] {
        client.batch_execute(call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
    }
    for table in ["hit", "hit_1hour", "hit_1day_page"] {
        client.batch_execute(&format!("SELECT rollup.expire('{table}')")).unwrap();
    }
    let hours = |days: i32| format!("date_trunc('hour', now() - interval '{days} days')");
    assert_eq!(number(&mut client, "SELECT count(*) FROM hit WHERE at < now() - interval '6 days'"), 0);
    assert_eq!(number(&mut client, &format!("SELECT count(*) FROM hit_1hour WHERE at < {}", hours(8))), 0);
    assert_eq!(
        number(&mut client, &format!("SELECT count(*) FROM hit_1day_page WHERE at < {}", hours(10))),
        0
    );
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM hit_1hour_all"), 400, "the totals are kept");
    // Rows of a time of which a level has nothing left, and of one of which the totals have.
    client
        .batch_execute("INSERT INTO hit VALUES (now() - interval '12 days', 3, 'p1', 5, 'w'), (now() - interval '7 days', 3, 'p1', 5, 'w')")
        .unwrap();
    all_merged(&mut client);
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM hit_1hour_all"), 402);
    assert_eq!(
        number(&mut client, "SELECT sum(late_ignored)::bigint FROM rollup.status WHERE name = 'hit_1hour'"),
        1
    );
    check(&mut client, "after expiry");
    client.batch_execute("SELECT rollup.expire('hit_1day_page')").unwrap();
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM hit_1day_page WHERE at < now() - interval '11 days'"),
        0
    );
}

#[test]
fn where_it_is_read() {
    let Some((citus, mut client)) = prepared() else { return };
    make(&mut client, "");
    client
        .batch_execute("INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '1 hour', g % 9, 'p' || g % 3, g, 'w' FROM generate_series(1, 100) g")
        .unwrap();
    client.batch_execute("SELECT rollup_hit()").unwrap();
    let read = "SELECT sum(n)::bigint FROM hit_1hour_all";
    let mut worker = citus.connect(1).unwrap();
    assert!(error(&mut worker, read).starts_with("42P01"));
    client.batch_execute("SELECT citus_add_local_table_to_metadata('hit_1hour_all')").unwrap();
    assert_eq!(number(&mut worker, read), 100);
    client.batch_execute("INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '1 hour', g % 9, 'p' || g % 3, g, 'w' FROM generate_series(1, 100) g").unwrap();
    all_merged(&mut client);
    assert_eq!(number(&mut worker, read), 200);
    compare(&mut client, "in the metadata of Citus", "");
    compare(&mut client, "in the metadata of Citus", "_live");
    check(&mut client, "in the metadata of Citus");
    client.batch_execute("SELECT undistribute_table('hit_1hour_all')").unwrap();
    client.batch_execute("INSERT INTO hit VALUES ('2026-01-03', 3, 'late', 5, 'w1')").unwrap();
    all_merged(&mut client);
    compare(&mut client, "on the coordinator again", "");
    // The raw table elsewhere, on one node, and back.
    for call in [
        "SELECT alter_distributed_table('hit', shard_count => 3, cascade_to_colocated => true)",
        "SELECT alter_distributed_table('hit', distribution_column => 'page')",
        "SELECT undistribute_table('hit')",
    ] {
        client.batch_execute(call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
        client.batch_execute("INSERT INTO hit VALUES ('2026-01-04', 3, 'late', 5, 'w1')").unwrap();
        all_merged(&mut client);
        compare(&mut client, call, "");
        check(&mut client, call);
    }
}

#[test]
fn a_rollup_given_to_citus() {
    let Some((_citus, mut client)) = prepared() else { return };
    make(&mut client, "create_distributed_table");
    let insert = "INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '1 hour', g % 9, 'p' || g % 3, g, 'w' FROM generate_series(1, 100) g";
    client.batch_execute(insert).unwrap();
    client.batch_execute("SELECT rollup_hit()").unwrap();
    client.batch_execute("DROP TRIGGER IF EXISTS zz_rollup_kept ON hit").unwrap();
    client.batch_execute("SELECT create_distributed_table('hit', 'tenant')").unwrap();
    client.batch_execute(insert).unwrap();
    all_merged(&mut client);
    compare(&mut client, "given to Citus", "");
    compare(&mut client, "given to Citus", "_live");
    check(&mut client, "given to Citus");
    let on_nodes = "SELECT count(*) FROM pg_dist_partition WHERE logicalrelid::text LIKE 'hit_1%'";
    assert_eq!(number(&mut client, on_nodes), 3);
}

#[test]
fn the_worker_merges_them() {
    let Some((citus, mut client)) = prepared() else { return };
    for statement in MAKE.replace("every => NULL", "every => '200 milliseconds'").split(";\n") {
        client.batch_execute(statement).unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
    for node in 0..3 {
        let insert = "INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '1 hour', g % 9, 'p' || g % 3, g, 'w' FROM generate_series(1, 100) g";
        citus.connect(node).unwrap().batch_execute(insert).unwrap();
        let rows = 100 * (node as i64 + 1);
        wait_for("the worker has merged the rows", 60, || {
            number(&mut client, "SELECT coalesce(sum(n), 0)::bigint FROM hit_1month_all") == rows
        });
    }
    compare(&mut client, "by the worker", "");
    assert_eq!(number(&mut client, "SELECT failures::bigint FROM rollup.status WHERE name = 'hit_1hour'"), 0);
}

/// How many groups of `by_page` differ from those that the raw rows give.
const BY_PAGE: &str = "WITH raw AS MATERIALIZED (SELECT date_trunc('day', at, 'UTC'), page, count(*), ddsketch_agg(ms)::text FROM hit GROUP BY 1, 2),
    kept AS MATERIALIZED (SELECT at, page, n, pct::text FROM by_page)
    SELECT count(*) FROM ((TABLE raw EXCEPT ALL TABLE kept) UNION ALL (TABLE kept EXCEPT ALL TABLE raw)) d";

#[test]
fn a_query_without_the_column() {
    let Some((_citus, mut client)) = prepared() else { return };
    make(&mut client, "rollup.create");
    let insert = "INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '1 hour', g % 9, 'p' || g % 3, g, 'w' FROM generate_series(1, 100) g";
    client.batch_execute(insert).unwrap();
    let create = |more: &str, options: &str| {
        format!(
            "SELECT rollup.create('by_page', $$ SELECT date_trunc('day', at) AS at, page, count(*) AS n, ddsketch_agg(ms) AS pct{more} FROM hit WHERE ms > 0 GROUP BY 1, 2 $$, every => NULL{options})"
        )
    };
    let merged = |client: &mut Client| {
        wait_for("everything is merged", 60, || {
            client.batch_execute("SELECT rollup_internal.work_off('by_page')").expect("a run");
            number(
                client,
                "SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = 'by_page_by_tenant'",
            ) == 0
        });
        assert_eq!(number(client, BY_PAGE), 0);
        assert_eq!(number(client, "SELECT count(*) FROM rollup.check('by_page')"), 0);
    };
    let id = number(&mut client, &create("", ", coarser => '{\"by_page_month\": \"1 month\"}'"));
    merged(&mut client);
    let columns = |client: &mut Client, table: &str| {
        text(
            client,
            &format!(
                "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
            ),
        )
    };
    assert_eq!(columns(&mut client, "by_page"), "at page n pct");
    assert_eq!(columns(&mut client, "by_page_live"), "at page n pct");
    assert_eq!(columns(&mut client, "by_page_month"), "at page n pct");
    let explained = text(&mut client, "SELECT rollup.explain('by_page')");
    assert!(
        explained.contains("-- Merges them:\nWITH delta_1")
            && explained.contains("INSERT INTO public.by_page AS"),
        "{explained}"
    );
    // The same once more, with a column more, and with a level.
    assert_eq!(
        number(
            &mut client,
            &create("", ", if_not_exists => true, coarser => '{\"by_page_month\": \"1 month\"}'")
        ),
        id
    );
    assert_eq!(number(&mut client, &create(", sum(ms) AS total", ", replace => true")), id);
    client.batch_execute("SELECT rollup.add_level('by_page', 'by_page_year', '1 year')").unwrap();
    assert_eq!(columns(&mut client, "by_page_year"), "at page n pct total");
    client.batch_execute(insert).unwrap();
    merged(&mut client);
    assert_eq!(number(&mut client, "SELECT sum(total)::bigint FROM by_page_year"), 2 * 5050);
    client
        .batch_execute("SELECT rollup.replace('by_page', 'SELECT date_trunc(''day'', at) AS at, page, count(*) AS n, ddsketch_agg(ms) AS pct FROM hit WHERE ms > 0 GROUP BY 1, 2')")
        .unwrap();
    assert_eq!(columns(&mut client, "by_page_year"), "at page n pct");
    merged(&mut client);
    client.batch_execute("SELECT rollup.drop('by_page')").unwrap();
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'by_page%'";
    assert_eq!(number(&mut client, left), 0);
    // Where it cannot be.
    let refused = error(&mut client, &create(", sum(ms) AS tenant", ""));
    assert!(refused.starts_with("0A000 no group key is tenant, the column that"), "{refused}");
    let way = refused.split(" level of the same rollup: ").nth(1).expect(&refused).trim_end_matches('.');
    let along = create("", &format!(", {way}"))
        .replace("GROUP BY 1, 2", "GROUP BY 1, 2, 5")
        .replace(" FROM hit", ", tenant FROM hit");
    client.batch_execute(&along).unwrap_or_else(|e| panic!("{along}: {e:?}"));
    assert_eq!(columns(&mut client, "totals"), "at page n pct");
}
