//! The counters against a naive oracle over `serde_json`, and what only a cluster shows: cancellation, memory, damaged bytes.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, wait_for};
use hll_tests::{another, number};
use postgres::Client;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value};

/// Key by key, recursively: what `jsonb_counter_merge` is.
fn oracle(a: &Value, b: &Value) -> Value {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut sum = a.clone();
            for (key, value) in b {
                let merged = a.get(key).map_or_else(|| value.clone(), |old| oracle(old, value));
                sum.insert(key.clone(), merged);
            }
            Value::Object(sum)
        }
        _ => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Value::from(a + b),
            _ => Value::from(a.as_f64().unwrap() + b.as_f64().unwrap()),
        },
    }
}

/// Numbers whose sums of three are exact in the oracle: whole ones, and eighths.
fn plain_number(eighths: bool) -> BoxedStrategy<Value> {
    let bound = if eighths { 1i64 << 40 } else { 1i64 << 61 };
    prop_oneof![-20i64..20, -bound..bound]
        .prop_map(move |n| if eighths { Value::from(n as f64 / 8.0) } else { Value::from(n) })
        .boxed()
}

/// A counter. The first letter of a key says what is under it, so that two counters never clash.
fn counter() -> impl Strategy<Value = Value> {
    let key = prop_oneof!["[a-c]{0,2}", "[\\PC\"\\\\/]{0,12}", "[x-z]{30,70}"];
    let leaf = prop_oneof![
        (key.clone(), plain_number(false)).prop_map(|(k, n)| (format!("n{k}"), n)),
        (key.clone(), plain_number(true)).prop_map(|(k, n)| (format!("f{k}"), n)),
    ];
    let object = |pair: BoxedStrategy<(String, Value)>| {
        prop::collection::vec(pair, 0..40).prop_map(|pairs| Value::Object(Map::from_iter(pairs)))
    };
    object(
        leaf.prop_recursive(3, 60, 8, move |pair| {
            let inner = prop::collection::vec(pair, 0..8);
            (key.clone(), inner)
                .prop_map(|(k, pairs)| (format!("o{k}"), Value::Object(Map::from_iter(pairs))))
        })
        .boxed(),
    )
}

fn start(db: &str) -> (Cluster, Client) {
    let cluster = Cluster::new().expect("a private cluster");
    let client = cluster.database(db).expect("a database with the extension");
    (cluster, client)
}

#[test]
fn merging_is_what_the_oracle_says() {
    let (_cluster, client) = start("laws");
    let client = RefCell::new(client);
    let sql = "SELECT ab = $4::text::jsonb, ab::text = (b + a)::text, jsonb_counter_merge(ab, c)::text = jsonb_counter_merge(a, b + c)::text,
            (a + '{}')::text = a::text AND (NULL + a)::text = a::text AND record_image_eq(ROW(a + '{}'), ROW(a)),
            record_image_eq(ROW(ab), ROW(ab::text::jsonb)),
            (SELECT jsonb_counter_merge_agg(x)::text FROM unnest(ARRAY[a, NULL, b, c]) x) = (ab + c)::text,
            jsonb_counter_total(ab) = jsonb_counter_total(a) + jsonb_counter_total(b)
       FROM (SELECT a, b, c, a + b AS ab FROM (SELECT $1::text::jsonb AS a, $2::text::jsonb AS b, $3::text::jsonb AS c) s) t";
    let statement = client.borrow_mut().prepare(sql).unwrap();
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let laws = [
        "the oracle's sum",
        "commutative",
        "associative",
        "neutral",
        "stored as jsonb stores it",
        "the aggregate",
        "total",
    ];
    TestRunner::new(config)
        .run(&(counter(), counter(), counter()), |(a, b, c)| {
            let sum = oracle(&a, &b).to_string();
            let texts = [a.to_string(), b.to_string(), c.to_string(), sum];
            let row = client
                .borrow_mut()
                .query_one(&statement, &[&texts[0], &texts[1], &texts[2], &texts[3]])
                .map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
            for (i, law) in laws.iter().enumerate() {
                prop_assert!(row.get::<_, bool>(i), "{law}: {texts:?}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_bounded_counter_keeps_its_promise() {
    let (_cluster, client) = start("bounded");
    let client = RefCell::new(client);
    let statement = client
        .borrow_mut()
        .prepare("SELECT jsonb_counter_agg(k, n, $3)::text FROM unnest($1::text[], $2::bigint[]) v(k, n)")
        .unwrap();
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    // Skewed keys: some come again and again, most once or twice.
    let key = prop_oneof![0u32..10, 0u32..200, 0u32..5000];
    let rows = prop::collection::vec((key, 0i64..50), 0..4000);
    TestRunner::new(config)
        .run(&(rows, 0i32..30), |(rows, max_keys)| {
            let keys: Vec<String> = rows.iter().map(|(key, _)| format!("k{key}")).collect();
            let numbers: Vec<i64> = rows.iter().map(|(_, n)| *n).collect();
            let row = client.borrow_mut().query_one(&statement, &[&keys, &numbers, &max_keys]).unwrap();
            let Some(text) = row.get::<_, Option<String>>(0) else {
                prop_assert!(rows.is_empty());
                return Ok(());
            };
            let got: BTreeMap<String, i64> = serde_json::from_str(&text).unwrap();
            let mut truth = BTreeMap::<&str, i64>::new();
            keys.iter().zip(&numbers).for_each(|(key, n)| *truth.entry(key).or_default() += n);
            let total: i64 = numbers.iter().sum();
            prop_assert_eq!(got.values().sum::<i64>(), total);
            let kept: BTreeMap<&str, i64> =
                got.iter().filter(|(k, _)| *k != "*").map(|(k, n)| (k.as_str(), *n)).collect();
            prop_assert!(kept.len() <= max_keys as usize, "{} keys of {max_keys}", kept.len());
            let bound = total as f64 / f64::from(2 * max_keys + 33);
            let exact = truth.len() <= 4 * max_keys as usize + 64;
            for (key, n) in &kept {
                let behind = (truth[key] - n) as f64;
                prop_assert!(behind >= 0.0 && behind <= bound + 1e-6, "{key}: {n} of {}", truth[key]);
                prop_assert!(!exact || behind == 0.0, "{key} of {} keys", truth.len());
            }
            let least = kept.values().min().copied().unwrap_or(i64::MAX);
            for (key, n) in truth.iter().filter(|(key, _)| !kept.contains_key(*key)) {
                let most = if max_keys == 0 || kept.len() < max_keys as usize { i64::MAX } else { least };
                prop_assert!(
                    max_keys == 0 || *n as f64 <= most as f64 + bound + 1e-6,
                    "{key}: {n} is missing"
                );
            }
            Ok(())
        })
        .unwrap();
}

/// Each statement would run for many seconds inside one call of ours.
#[test]
fn any_tree_of_bounded_counters_keeps_its_promise() {
    let (_cluster, client) = start("trees");
    let client = RefCell::new(client);
    client
        .borrow_mut()
        .batch_execute("CREATE AGGREGATE fold(jsonb) (SFUNC = jsonb_counter_merge, STYPE = jsonb)")
        .unwrap();
    let sql = "WITH part AS MATERIALIZED (SELECT p, jsonb_counter_bounded_agg(k, n / 4.0, $4 + p % 2) AS c
                 FROM unnest($1::text[], $2::bigint[], $3::int[]) v(k, n, p) GROUP BY p),
               tree AS MATERIALIZED (
                 SELECT jsonb_counter_merge_agg(c) FROM part UNION ALL
                 SELECT jsonb_counter_merge_agg(c) FROM (SELECT jsonb_counter_merge_agg(c) FROM part GROUP BY p % 3) s(c) UNION ALL
                 SELECT fold(c ORDER BY p * 7919 % 101) FROM part UNION ALL
                 SELECT fold(c) FROM (SELECT fold(c ORDER BY p DESC) FROM part GROUP BY p / 2) s(c) UNION ALL
                 SELECT jsonb_counter_bounded_agg(k, n / 4.0, (SELECT min((c->'*'->>1)::int) FROM part))
                   FROM unnest($1::text[], $2::bigint[], $3::int[]) v(k, n, p))
               SELECT c::text, (SELECT array_agg(t.key) FROM jsonb_counter_top(c, NULL) t),
                 (SELECT array_agg((4 * n)::float8) FROM jsonb_counter_top(c, NULL)), (SELECT array_agg((4 * at_most)::float8) FROM jsonb_counter_top(c, NULL)),
                 (4 * jsonb_counter_total(c))::int8, (4 * (c->'*'->>0)::numeric)::float8, (c->'*'->>1)::int, (SELECT bool_and(rollup_internal.counters_agree(c, o.c)) FROM tree o(c))
               FROM tree t(c)";
    let statement = client.borrow_mut().prepare(sql).unwrap();
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let key = prop_oneof![0u32..10, 0u32..200, 0u32..5000];
    let rows = prop::collection::vec((key, 0i64..50, 0i32..20), 1..3000);
    TestRunner::new(config)
        .run(&(rows, 0i32..20), |(rows, max_keys)| {
            let keys: Vec<String> = rows.iter().map(|(key, ..)| format!("k{key}")).collect();
            let numbers: Vec<i64> = rows.iter().map(|(_, n, _)| *n).collect();
            let parts: Vec<i32> = rows.iter().map(|(.., part)| *part).collect();
            let mut truth = BTreeMap::<String, i64>::new();
            keys.iter().zip(&numbers).for_each(|(key, n)| *truth.entry(key.clone()).or_default() += n);
            let total: i64 = numbers.iter().sum();
            let least = max_keys + parts.iter().map(|part| part % 2).min().unwrap();
            let trees = client.borrow_mut().query(&statement, &[&keys, &numbers, &parts, &max_keys]).unwrap();
            prop_assert_eq!(trees.len(), 5);
            for row in trees {
                let text: String = row.get(0);
                let list = |at: usize| row.get::<_, Option<Vec<f64>>>(at).unwrap_or_default();
                let names = row.get::<_, Option<Vec<String>>>(1).unwrap_or_default();
                let limits: BTreeMap<&String, (f64, f64)> =
                    names.iter().zip(list(2).into_iter().zip(list(3))).collect();
                prop_assert_eq!((row.get::<_, i64>(4), row.get::<_, i32>(6)), (total, least), "{}", text);
                prop_assert!(limits.len() <= least as usize, "{text}");
                prop_assert!(row.get::<_, bool>(7), "{text} does not agree with the others");
                let error = row.get::<_, f64>(5) / f64::from(least + 1);
                for (key, n) in &truth {
                    let (low, high) = limits.get(key).copied().unwrap_or((0.0, error));
                    prop_assert!(low <= *n as f64 && *n as f64 <= high + 1e-6, "{key} has {n}: {text}");
                    let heavy = *n as f64 > total as f64 / f64::from(least + 1);
                    prop_assert!(!heavy || limits.contains_key(key), "{key} with {n} is missing: {text}");
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn cancel_answers_at_once() {
    let (cluster, mut client) = start("cancel");
    client
        .batch_execute(
            "CREATE TABLE big AS SELECT jsonb_object_agg('key' || i, i) AS c FROM generate_series(1, 400000) i;
             CREATE FUNCTION again(c jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
               BEGIN LOOP c := jsonb_counter_merge(c, c); EXIT WHEN jsonb_counter_total(c) < 0; END LOOP; RETURN c; END $$",
        )
        .unwrap();
    for sql in [
        "SELECT again(c) FROM big",
        "SELECT jsonb_counter_merge_agg(c) FROM big, generate_series(1, 100000)",
        "SELECT count(jsonb_counter_limit(c, 10)) FROM big, generate_series(1, 100000)",
        "SELECT jsonb_counter_agg('key' || i, 1, 1000) FROM generate_series(1, 1000000000) i",
    ] {
        let token = client.cancel_token();
        let pid = number(&mut client, "SELECT pg_backend_pid()::bigint");
        let mut observer = another(&cluster, "cancel");
        let took = std::thread::scope(|scope| {
            let asked = scope.spawn(move || {
                let running = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active' AND clock_timestamp() > query_start + interval '300 ms'"
                );
                wait_for("the statement is in the middle of its work", 30, || number(&mut observer, &running) == 1);
                let begun = Instant::now();
                token.cancel_query(postgres::NoTls).unwrap();
                begun
            });
            let error = client.batch_execute(sql).unwrap_err();
            let ended = Instant::now();
            assert_eq!(error.code().map(|c| c.code()), Some("57014"), "{sql}: {error:?}");
            ended.duration_since(asked.join().unwrap())
        });
        assert!(took < Duration::from_secs(1), "{sql}: {took:?} until the cancel was answered");
        assert_eq!(number(&mut client, "SELECT jsonb_counter_total('{\"a\": 1}')::bigint"), 1);
    }
}

/// Bytes that are almost a state: an error or a state, never a crash.
#[test]
fn damaged_states_do_no_harm() {
    let (_cluster, mut client) = start("damaged");
    client
        .batch_execute("CREATE AGGREGATE state_of(text, numeric, integer) (SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state)")
        .unwrap();
    let pid = number(&mut client, "SELECT pg_backend_pid()::bigint");
    let mut refused = 0;
    for bound in ["NULL", "2"] {
        let sql = format!(
            "SELECT jsonb_counter_state_send(state_of('key' || i % 9, i * 1e19 / (i % 5 + 1), {bound})) FROM generate_series(1, 30) i"
        );
        let bytes: Vec<u8> = client.query_one(&sql, &[]).unwrap().get(0);
        for at in 0..bytes.len() {
            for change in [0x00, 0x01, 0x7F, 0x80, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[at] ^= change;
                damaged.truncate(if change == 0 { at } else { bytes.len() });
                let hex: String = damaged.iter().map(|b| format!("{b:02x}")).collect();
                let sql = format!("SELECT jsonb_counter_final('\\x{hex}')::text::jsonb IS NOT NULL");
                if let Err(e) = client.simple_query(&sql) {
                    let code = e.code().unwrap_or_else(|| panic!("{sql}: {e:?}")).code();
                    assert!(["22P03", "22P02", "22003", "22023"].contains(&code), "{sql}: {e:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 200, "{refused} refused");
    assert_eq!(number(&mut client, "SELECT pg_backend_pid()::bigint"), pid, "the same session");
}

/// A hash aggregate whose groups do not fit writes rows out, and ends with the same counters.
#[test]
fn groups_that_do_not_fit_are_spilled() {
    let (_cluster, mut client) = start("spill");
    client
        .batch_execute(
            "CREATE TABLE r AS SELECT i % 5000 AS g, 'key' || i * 7919 % 101 AS k FROM generate_series(1, 200000) i; ANALYZE r;
             CREATE TABLE expected AS SELECT g, jsonb_object_agg(k, n) AS c FROM (SELECT g, k, count(*) AS n FROM r GROUP BY 1, 2) s GROUP BY 1;
             SET enable_sort = off; SET work_mem = '64kB'",
        )
        .unwrap();
    let grouped = "SELECT g, jsonb_counter_agg(k) AS c FROM r GROUP BY g";
    let explain = format!("EXPLAIN (ANALYZE, TIMING OFF) {grouped}");
    let lines: Vec<String> = client.query(&explain, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    let batches = lines.iter().find_map(|l| l.split_once("Batches: ")?.1.split_whitespace().next());
    assert!(batches.is_some_and(|b| b.parse::<u32>().unwrap() > 1), "{lines:?}");
    let same = format!("SELECT count(*) FROM ({grouped}) s JOIN expected USING (g, c)");
    assert_eq!(number(&mut client, &same), 5000);
}

/// The bound holds while rows come: what a flood of keys takes does not grow with it.
#[test]
fn a_flood_of_keys_stays_in_bounds() {
    let (_cluster, mut client) = start("flood");
    let mut peak = |max_keys: &str| {
        let sql = format!(
            "SET work_mem = '1GB'; SET enable_sort = off; EXPLAIN (ANALYZE, TIMING OFF) SELECT i % 2, jsonb_counter_agg('/page/' || i, 1, {max_keys}) FROM generate_series(1, 400000) i GROUP BY 1"
        );
        let (settings, explain) = sql.rsplit_once("; ").unwrap();
        client.batch_execute(settings).unwrap();
        let lines: Vec<String> = client.query(explain, &[]).unwrap().iter().map(|row| row.get(0)).collect();
        let memory = lines.iter().find_map(|l| l.split_once("Memory Usage: ")?.1.split_once("kB"));
        memory.unwrap_or_else(|| panic!("{lines:?}")).0.parse::<u64>().unwrap()
    };
    let (bounded, free) = (peak("100"), peak("NULL"));
    assert!(bounded < 400, "{bounded} kB");
    assert!(free > 20 * bounded, "{free} kB without a bound, {bounded} kB with one");
}
