//! Levels that drop keys on a Citus cluster, and have the one that the rollup is distributed by: they lie beside it.
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use hll_lab::wait_for;
use hll_tests::nodes::prepared;
use hll_tests::number;

const DIFFER: &str = "WITH raw AS MATERIALIZED (SELECT date_trunc('day', at, 'UTC') AS day, tenant, count(*) AS n, sum(ms) AS total, hll_add_agg(hll_hash_integer(ms))::text AS people FROM hit GROUP BY 1, 2),
    kept AS MATERIALIZED (SELECT at, tenant, n, total, people::text FROM hit_1day_tenant_live)
    SELECT count(*) FROM ((TABLE raw EXCEPT ALL TABLE kept) UNION ALL (TABLE kept EXCEPT ALL TABLE raw)) d";

#[test]
fn levels_that_drop_keys() {
    let Some((citus, mut client)) = prepared() else { return };
    for sql in [
        "CREATE TABLE hit (at timestamptz, tenant int, page text, ms int)",
        "SELECT create_distributed_table('hit', 'tenant')",
        "SELECT rollup.create('hit_1hour', $$ SELECT date_trunc('hour', at) AS at, tenant, page, count(*) AS n, sum(ms) AS total, hll_add_agg(hll_hash_integer(ms)) AS people FROM hit GROUP BY 1, 2, 3 $$,
           every => NULL, coarser => '{\"hit_1day_tenant\": {\"width\": \"1 day\", \"keys\": [\"tenant\"]}, \"hit_1hour_tenant\": {\"width\": \"1 hour\", \"keys\": [\"tenant\"]}}')",
    ] {
        client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for node in 0..3 {
            let (mut writer, stop) = (citus.connect(node).unwrap(), &stop);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Relaxed) && n > 20 {
                        break;
                    }
                    writer
                        .batch_execute(&format!("INSERT INTO hit SELECT timestamptz '2026-01-01' + {n} * interval '37 min' + g * interval '1 s', ({n} + g) % 9, nullif('p' || g % 5, 'p4'), g FROM generate_series(1, 12) g"))
                        .unwrap();
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..12 {
                client.batch_execute("SELECT rollup_hit()").unwrap();
            }
        }));
        stop.store(true, Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    client.batch_execute("INSERT INTO hit VALUES ('2026-01-03', 3, 'late', 5)").unwrap();
    assert_eq!(number(&mut client, DIFFER), 0, "with a row that no run has merged");
    wait_for("all is merged", 60, || {
        client.batch_execute("SELECT rollup_hit()").unwrap();
        number(&mut client, "SELECT count(*) FROM hit")
            == number(&mut client, "SELECT sum(n)::bigint FROM hit_1hour_tenant")
    });
    assert_eq!(number(&mut client, DIFFER), 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('hit_1hour')"), 0);
    let shown = "SELECT sum(n)::bigint FROM rollup.series(NULL::hit_1day_tenant_live, '2025-12-31', '2026-12-31', points => 2, fill => 'none')";
    assert_eq!(number(&mut client, shown), number(&mut client, "SELECT count(*) FROM hit"));
    client.batch_execute("SELECT rollup.rebuild('hit_1hour')").unwrap();
    client.batch_execute("SELECT rollup.drop_level('hit_1hour', 'hit_1hour_tenant')").unwrap();
    assert_eq!(number(&mut client, DIFFER), 0, "after a rebuild");
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('hit_1hour')"), 0);
}
