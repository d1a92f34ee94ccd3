//! On a Citus cluster: rollups that are defined once more, what tells of their changes, and what is refused.
use hll_lab::{Citus, wait_until};
use hll_tests::nodes::error;
use hll_tests::{number, text};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use serde_json::{Value, json};
use std::time::Duration;

const QUERY: &str = "SELECT k, date_trunc(''hour'', at) AS at, count(*) AS n FROM event GROUP BY 1, 2";

fn create(client: &mut Client, query: &str, options: &str) -> i64 {
    number(client, &format!("SELECT rollup.create('by_hour', '{query}', every => NULL{options})"))
}

fn heard(client: &mut Client) -> Vec<Value> {
    client.batch_execute("SELECT 1").unwrap();
    let mut notifications = client.notifications();
    let mut waiting = notifications.timeout_iter(Duration::from_millis(500));
    let mut all = Vec::new();
    while let Some(n) = waiting.next().unwrap() {
        all.push(serde_json::from_str(n.payload()).unwrap());
    }
    all
}

/// Runs until every row is merged: what a node has at work comes with the next run.
fn merged(client: &mut Client, rows: i64) {
    wait_until("every row is merged", 60, || {
        client.batch_execute("SELECT rollup.run('event')")?;
        Ok(number(client, "SELECT coalesce(sum(n), 0)::bigint FROM by_hour") == rows)
    });
}

#[test]
fn defined_again_and_told_on_a_cluster() {
    let Some(citus) = Citus::new().expect("a cluster") else { return };
    let mut client = citus.connect(0).unwrap();
    client
        .batch_execute(
            "CREATE TABLE event (at timestamptz NOT NULL, k int NOT NULL, v int) PARTITION BY RANGE (at)",
        )
        .unwrap();
    client
        .batch_execute(
            "CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01+00') TO ('2026-02-01+00');
             CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2026-02-01+00') TO ('2026-03-01+00');
             SELECT create_distributed_table('event', 'k', shard_count => 4)",
        )
        .unwrap();
    let id = create(&mut client, QUERY, ", notify => true");
    let mut listener = citus.connect(0).unwrap();
    listener.batch_execute("LISTEN rollup_by_hour").unwrap();
    // From every node: the coordinator, which runs the rollup, tells.
    for node in 0..3 {
        let mut there = citus.connect(node).unwrap();
        there.batch_execute(&format!("INSERT INTO event SELECT timestamptz '2026-01-0{}+00' + g * interval '1 minute', g, g FROM generate_series(0, 99) g", node + 1)).unwrap();
    }
    merged(&mut client, 300);
    let all = heard(&mut listener);
    let ends: Vec<&str> = all.iter().flat_map(|m| [&m["from"], &m["to"]]).filter_map(Value::as_str).collect();
    assert!(all.iter().all(|m| m["rollup"] == "by_hour" && m["because"] == "run"), "{all:?}");
    assert_eq!(
        (ends.iter().min(), ends.iter().max()),
        (Some(&"2026-01-01T00:00:00+00:00"), Some(&"2026-01-03T01:00:00+00:00")),
        "{all:?}"
    );
    client.batch_execute("SELECT rollup.run('event')").unwrap();
    assert_eq!(heard(&mut listener), Vec::<Value>::new());
    client.batch_execute("SELECT rollup.rebuild('by_hour', '2026-01-02', '2026-01-03')").unwrap();
    assert_eq!(
        heard(&mut listener),
        [
            json!({"rollup": "by_hour", "because": "rebuild", "from": "2026-01-02T00:00:00+00:00", "to": "2026-01-02T01:00:00+00:00"})
        ]
    );

    // What is there stays, or becomes what is asked for.
    assert_eq!(create(&mut client, QUERY, ", notify => true, if_not_exists => true"), id);
    let more =
        "SELECT k, date_trunc(''hour'', at) AS at, count(*) AS n, sum(v) AS total FROM event GROUP BY 1, 2";
    assert_eq!(
        create(
            &mut client,
            more,
            ", coarser => ''{\"by_day\": \"1 day\"}'', replace => true".replace("''", "'").as_str()
        ),
        id
    );
    assert_eq!(number(&mut client, "SELECT sum(total)::bigint FROM by_day"), 3 * 4950);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('by_hour')"), 0);
    assert_eq!(text(&mut client, "SELECT channel FROM rollup.status"), "");
    let other = "SELECT k, date_trunc(''day'', at) AS at, count(*) AS n FROM event WHERE v > 9 GROUP BY 1, 2";
    assert_ne!(create(&mut client, other, ", replace => true"), id);
    merged(&mut client, 270);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('by_hour')"), 0);
    // Partitions of a distributed table are not archived.
    client
        .batch_execute(
            "CREATE FUNCTION keep(partition regclass) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'",
        )
        .unwrap();
    let refused = error(&mut client, "SELECT rollup.retain('event', '1 year', archive => 'keep')");
    assert!(refused.contains("archive is not supported for event, which Citus keeps"), "{refused}");
}
