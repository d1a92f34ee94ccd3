//! A partition of a table without rollups costs the same however many sources there are.
use hll_tests::prepared;
use postgres::Client;
use std::time::{Duration, Instant};

/// The shortest times of 30 new partitions each, with the event trigger that looks for new children and without it, in
/// turn: what disturbs the machine disturbs both.
fn partitions(client: &mut Client, next: &mut i32) -> (Duration, Duration) {
    let mut shortest = (Duration::MAX, Duration::MAX);
    for _ in 0..30 {
        for watched in [true, false] {
            let state = if watched { "ENABLE ALWAYS" } else { "DISABLE" };
            client.batch_execute(&format!("ALTER EVENT TRIGGER rollup_watch_children {state}")).unwrap();
            *next += 1;
            let create = format!(
                "CREATE TABLE event_{next} PARTITION OF event FOR VALUES FROM ({next}) TO ({next} + 1)"
            );
            let begun = Instant::now();
            client.batch_execute(&create).unwrap();
            let slot = if watched { &mut shortest.0 } else { &mut shortest.1 };
            *slot = (*slot).min(begun.elapsed());
        }
    }
    shortest
}

#[test]
fn a_partition_costs_the_same_beside_many_sources() {
    let (_cluster, mut client) = prepared("many", "");
    client.batch_execute("CREATE TABLE event (at int, v int) PARTITION BY RANGE (at)").unwrap();
    let mut next = 0;
    partitions(&mut client, &mut next);
    let (watched, unwatched) = partitions(&mut client, &mut next);
    for n in 0..100 {
        client
            .batch_execute(&format!(
                "CREATE TABLE t{n} (at timestamptz, v int);
                 SELECT rollup.create('t{n}_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM t{n} GROUP BY 1',
                   every => NULL, on_change => 'recompute')"
            ))
            .unwrap();
    }
    let (beside, without) = partitions(&mut client, &mut next);
    println!("watched, not: {watched:?}, {unwatched:?}; beside 100 sources: {beside:?}, {without:?}");
    let (alone, beside) = (watched.saturating_sub(unwatched), beside.saturating_sub(without));
    assert!(
        beside < 2 * alone + Duration::from_millis(1),
        "{beside:?} beside 100 sources, {alone:?} beside none"
    );
    assert!(
        beside < Duration::from_millis(2) + without,
        "{beside:?} for the trigger, {without:?} for the partition"
    );
}
