//! What a run on a Citus cluster costs beside the statement that somebody would type for the same aggregates.
use std::time::Instant;

use hll_lab::Citus;
use hll_tests::nodes::prepared;
use hll_tests::{alone, differences, number};
use postgres::Client;

const ROWS: i64 = 1_000_000;
const ROUNDS: usize = 5;

fn timed(client: &mut Client, sql: &str) -> f64 {
    let begun = Instant::now();
    client.batch_execute(sql).unwrap();
    begun.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A cluster with a rollup that has run, and rows since then.
fn filled() -> Option<(Citus, Client)> {
    let (citus, mut client) = prepared()?;
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    client
        .batch_execute(&format!(
            "INSERT INTO http_request SELECT g % 40, timestamptz '2026-01-01' + g / 100 * interval '1 s', '10.0.' || g % 700 || '.1', (ARRAY['DE','US','FR'])[1 + g % 3], 200, g % 1000 FROM generate_series(1, {ROWS}) g"
        ))
        .unwrap();
    client.batch_execute("CREATE TABLE state AS SELECT nodes FROM rollup.definition").unwrap();
    client.batch_execute("VACUUM ANALYZE http_request").unwrap();
    Some((citus, client))
}

/// Seconds of a run over these rows, after the rollup has forgotten them.
fn run_again(client: &mut Client) -> f64 {
    client
        .batch_execute(
            "TRUNCATE http_request_1min; UPDATE rollup.definition SET nodes = (SELECT s.nodes FROM public.state s)",
        )
        .unwrap();
    timed(client, "SELECT rollup_http_request()")
}

/// Nodes share the cores of this machine, so each gets one: a connection from the coordinator at a time.
#[test]
fn a_node_more_brings_its_core() {
    let _alone = alone();
    let Some((citus, mut client)) = filled() else { return };
    client.batch_execute("SET citus.max_adaptive_executor_pool_size = 1").unwrap();
    let two = median((0..ROUNDS).map(|_| run_again(&mut client)).collect());
    let port = citus.nodes[2].port();
    client
        .batch_execute(&format!(
            "SELECT citus_set_node_property(nodename, nodeport, 'shouldhaveshards', false) FROM pg_dist_node WHERE nodeport = {port}"
        ))
        .unwrap();
    client
        .batch_execute(
            "SELECT rebalance_table_shards(drain_only => true, shard_transfer_mode => 'block_writes')",
        )
        .unwrap();
    let left = format!(
        "SELECT count(*) FROM citus_shards WHERE nodeport = {port} AND citus_table_type = 'distributed'"
    );
    assert_eq!(number(&mut client, &left), 0);
    client.batch_execute("VACUUM ANALYZE http_request").unwrap();
    let one = median((0..ROUNDS).map(|_| run_again(&mut client)).collect());
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
    println!(
        "a run over {ROWS} rows, a connection a node: one worker {one:.3} s, two {two:.3} s, {:.2} times as fast",
        one / two
    );
    assert!(one > 1.2 * two, "one worker takes {one:.3} s, two take {two:.3} s");
}

#[test]
fn a_run_costs_what_the_statement_costs() {
    let _alone = alone();
    let Some((_citus, mut client)) = filled() else { return };
    client
        .batch_execute(
            "CREATE TABLE by_hand (LIKE http_request_1min INCLUDING ALL); SELECT create_distributed_table('by_hand', 'site_id', colocate_with => 'http_request')",
        )
        .unwrap();
    let statement = "INSERT INTO by_hand AS t (site_id, ingest_time, request_count, total_msec, hash_sum, distinct_ips, countries)
        SELECT site_id, date_trunc('minute', ingest_time, 'UTC'), count(*), sum(response_time_msec), sum(hashtext(ip_address)),
               hll_add_agg(hll_hash_text(ip_address)), jsonb_counter_agg(request_country) FROM http_request GROUP BY 1, 2
        ON CONFLICT (site_id, ingest_time) DO UPDATE SET request_count = t.request_count + excluded.request_count,
               total_msec = t.total_msec + excluded.total_msec, hash_sum = t.hash_sum + excluded.hash_sum,
               distinct_ips = hll_union(t.distinct_ips, excluded.distinct_ips), countries = t.countries + excluded.countries";
    let explained: String =
        client.query_one("SELECT rollup.explain('http_request_1min')", &[]).unwrap().get(0);
    let (select, rest) = explained.split_once(" WHERE ").unwrap();
    let (_, upsert) = rest.split_once(" GROUP BY 1, 2 ON CONFLICT").unwrap();
    let best_statement = format!("{select} GROUP BY 1, 2 ON CONFLICT{upsert}")
        .replace("INTO public.http_request_1min ", "INTO by_hand ");
    let (mut run, mut typed, mut best) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        client.batch_execute("TRUNCATE by_hand").unwrap();
        typed.push(timed(&mut client, statement));
        client.batch_execute("TRUNCATE by_hand").unwrap();
        // What a run sends, without its condition, and as it has nodes plan it. One by one: Citus hands on the whole of
        // a query.
        let begun = Instant::now();
        for sql in [
            "BEGIN",
            "SET LOCAL citus.propagate_set_commands = 'local'",
            "SET LOCAL enable_sort = off",
            &best_statement,
            "COMMIT",
        ] {
            client.batch_execute(sql).unwrap();
        }
        best.push(begun.elapsed().as_secs_f64());
        run.push(run_again(&mut client));
    }
    let differing = "SELECT count(*) FROM (SELECT site_id, ingest_time, request_count, total_msec, hash_sum, distinct_ips::text, countries FROM by_hand) b
        FULL JOIN (SELECT site_id, ingest_time, request_count, total_msec, hash_sum, distinct_ips::text AS ips, countries FROM http_request_1min) r USING (site_id, ingest_time)
        WHERE b.request_count IS DISTINCT FROM r.request_count OR b.distinct_ips IS DISTINCT FROM r.ips OR b.countries IS DISTINCT FROM r.countries
           OR b.total_msec IS DISTINCT FROM r.total_msec OR b.hash_sum IS DISTINCT FROM r.hash_sum";
    assert_eq!(number(&mut client, differing), 0);
    let (run, typed, best) = (median(run), median(typed), median(best));
    println!(
        "a run over {ROWS} rows on two workers: {run:.3} s; INSERT ... SELECT typed by hand: {typed:.3} s, ratio {:.2}; as a run has it planned, without condition and count: {best:.3} s, ratio {:.2}",
        run / typed,
        run / best
    );
    assert!(run <= 1.1 * typed, "a run takes {run:.3} s, the statement {typed:.3} s");
    client
        .batch_execute("SELECT rollup.add_level('http_request_1min', 'all_sites', '1 minute', keys => '{}')")
        .unwrap();
    let with_level = median(
        (0..ROUNDS)
            .map(|_| {
                client.batch_execute("TRUNCATE all_sites").unwrap();
                run_again(&mut client)
            })
            .collect(),
    );
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM all_sites"), ROWS);
    println!(
        "with a level of all sites on the coordinator: {with_level:.3} s, ratio {:.2}",
        with_level / run
    );
    assert!(with_level <= 3.0 * run, "a run takes {run:.3} s, with the level {with_level:.3} s");
}
