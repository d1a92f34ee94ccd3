//! A caller's mistake has a code of its own, never that of an internal error, and its error is the same wherever the
//! server was started from: no trace of the library's frames gets into it.
use hll_lab::{Cluster, OURS, Tree, wait_for};
use hll_tests::number;
use postgres::Client;
use std::collections::BTreeMap;

/// Values of a type, usual and odd ones.
fn values(kind: &str) -> Vec<&'static str> {
    match kind {
        "boolean" => vec!["true", "false"],
        "smallint" | "integer" => vec!["0", "-1", "1", "11", "2147483647", "(-2147483648)"],
        "bigint" => vec!["0", "-1", "64", "9223372036854775807", "(-9223372036854775808)"],
        "oid" => vec!["0", "1259", "999999", "4294967295"],
        "numeric" => vec!["0", "-1.5", "'NaN'", "'Infinity'", "1e131071", "1e-16383"],
        "double precision" | "real" => vec!["0", "-1.5", "'NaN'", "'Infinity'", "'1e308'"],
        "text" | "name" | "\"char\"" => vec![
            "''",
            "'x'",
            "'SELECT 1'",
            "'SELECT'",
            "'no; such \"name'",
            "'kept'",
            "'event'",
            "'count(*)'",
            "'1 hour'",
            "repeat('é', 4000)",
            "E'\\n%s'",
        ],
        "cstring" => vec!["''", "'x'", "'1'", "E'\\\\x14'", "'9999999999999999999'"],
        "bytea" => vec![
            "''",
            "'\\x14'",
            "'\\x128b7f'",
            "'\\xffffffffffffffffffff'",
            "decode(repeat('11', 4000), 'hex')",
        ],
        "hll" => vec![
            "hll_empty()",
            "hll_empty(11, 5, 0, 0)",
            "hll_add(hll_empty(4, 5), 1::hll_hashval)",
            "'\\x108b7f'",
            "''::bytea::hll",
            "'\\x148b7f00'::bytea::hll",
            "decode(repeat('13', 300), 'hex')::hll",
        ],
        "hll_hashval" => vec!["0", "(-1)::bigint", "9223372036854775807::bigint"],
        "jsonb" => vec![
            "'{}'",
            "'[]'",
            "'1'",
            "'null'",
            "'{\"a\": 1, \"*\": 2}'",
            "'{\"a\": {\"b\": 1e400}}'",
            "'{\"a\": \"x\"}'",
            "'{\"a\": 1, \"*\": [2, 1]}'",
            "'{\"b\": 1.5, \"*\": [2, 0, 7]}'",
            "'{\"b\": 1.5, \"*\": [2, -1]}'",
            "(repeat('{\"a\":', 40) || '1' || repeat('}', 40))::jsonb",
            "(repeat('[', 400) || repeat(']', 400))::jsonb",
        ],
        "ddsketch" => vec![
            "'scale=5'",
            "'scale=-4 positive=0:1'",
            "(SELECT ddsketch_agg(i - 20) FROM generate_series(1, 300) i)",
            "'scale=10 count=3 sum=? min=? max=? zero=1 negative=5:1 positive=9:1'",
            "'scale=0 positive=1024:9223372036854775807'",
        ],
        "jsonb_counter_state" => vec![
            "(SELECT kept_state(k) FROM unnest('{a,b}'::text[]) k)",
            "(SELECT kept_state(i::text) FROM generate_series(1, 400) i)::text::jsonb_counter_state",
            "'\\x020201240010010161000c'",
        ],
        "regclass" => vec![
            "0",
            "999999",
            "'pg_class'",
            "'event'",
            "'event_k_idx'",
            "'kept'",
            "'kept_live'",
            "'rollup.status'",
        ],
        "regclass[]" => vec!["'{}'", "'{NULL}'", "'{0,999999}'", "'{event,pg_class}'"],
        "regprocedure[]" => vec!["'{}'", "'{NULL}'", "'{0,999999}'", "'{now(),count(*)}'"],
        "regproc" => vec!["0", "999999", "'pg_table_size'", "'pg_backend_pid'"],
        "regprocedure" => vec!["0", "999999", "'now()'", "'count(*)'", "'sum(integer)'"],
        "interval" => vec!["'0'", "'1 hour'", "'-1 day'", "'1 month 1 second'", "'170000000 years'"],
        "timestamp with time zone" | "timestamp without time zone" | "date" => {
            vec!["'infinity'", "'-infinity'", "'2026-01-01'", "'epoch'"]
        }
        "tid" => vec!["'(0,0)'", "'(0,1)'", "'(4294967295,0)'", "'(4294967294,65535)'"],
        "uuid" => vec!["'00000000-0000-0000-0000-000000000000'"],
        "text[]" | "cstring[]" | "name[]" => {
            vec!["'{}'", "'{NULL}'", "'{1,2}'", "'{x,y}'", "'{{1,2},{3,4}}'", "'{1,2,3,4,5,6}'"]
        }
        "double precision[]" => {
            vec!["'{}'", "'{1}'", "'{1,2,3}'", "'{1,NULL,3}'", "'{{1,2,3}}'", "'{0,0,0,0,0,0}'"]
        }
        "hll_hashval[]" | "bigint[]" | "integer[]" | "oid[]" => {
            vec!["'{}'", "'{NULL}'", "'{{1,2},{3,4}}'", "'[-5:-4]={1,2}'"]
        }
        _ => panic!("no values of type {kind}"),
    }
}

/// Of any type at all, with the type.
const ANY: [&str; 10] = [
    "NULL::text",
    "'x'::text",
    "1::smallint",
    "1.5::numeric",
    "'NaN'::float8",
    "ROW(1, 'x')",
    "'{1,2}'::int[]",
    "'{\"a\": 1}'::jsonb",
    "int4range(1, 5)",
    "pg_sleep(0)",
];

/// The functions in C that belong to the extension, with the types of their arguments. SQL cannot write an argument of
/// type internal, not even NULL; functions that take one are called in tests inside the server.
fn functions(client: &mut Client) -> Vec<(String, Vec<String>)> {
    let sql = "SELECT format('%I.%I', n.nspname, p.proname), ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a(t, o) ORDER BY o)
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
         JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
         JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll'
        WHERE p.prokind = 'f' AND l.lanname = 'c'
          AND NOT p.proargtypes::oid[] && ARRAY['internal'::regtype::oid, 'pg_ddl_command'::regtype] ORDER BY p.oid";
    client.query(sql, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Every list of arguments where they are few; else all NULL, all of one place, and as many at random as are few.
fn lists(kinds: &[String], seed: &mut u64) -> Vec<Vec<String>> {
    const FEW: usize = 150;
    let choices: Vec<Vec<String>> = kinds
        .iter()
        .map(|kind| match kind.as_str() {
            "anyelement" | "\"any\"" | "anynonarray" => ANY.iter().map(|v| v.to_string()).collect(),
            kind => values(kind)
                .iter()
                .map(|value| format!("{value}::{kind}"))
                .chain([format!("NULL::{kind}")])
                .collect(),
        })
        .collect();
    let all: usize = choices.iter().map(Vec::len).product();
    let pick = |mut number: usize| -> Vec<String> {
        let mut list = Vec::new();
        for choice in &choices {
            list.push(choice[number % choice.len()].clone());
            number /= choice.len();
        }
        list
    };
    if all <= FEW {
        return (0..all).map(pick).collect();
    }
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 11) as usize % all
    };
    // The last of every place is NULL.
    let mut found = vec![pick(all - 1)];
    found.extend((0..FEW).map(|_| pick(next())));
    found
}

/// Calls, as SQLSTATEs: whatever a call did is undone.
const ATTEMPT: &str = r"CREATE FUNCTION attempt(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'SELECT ' || call;
    RAISE SQLSTATE 'P0099';
EXCEPTION WHEN query_canceled OR assert_failure OR others THEN RETURN SQLSTATE || ' ' || SQLERRM;
END $$";

/// A table, a rollup and aggregates for the calls.
const SUBJECTS: &str = "
CREATE AGGREGATE kept_state(text) (SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state);
CREATE AGGREGATE ddsketch_percentile_of(bytea) (SFUNC = approx_percentile_combine, STYPE = bytea, FINALFUNC = approx_percentile_final);
CREATE TABLE event (at timestamptz NOT NULL, k text, n int);
CREATE INDEX event_k_idx ON event (k);
INSERT INTO event SELECT timestamptz '2026-01-01' + i * interval '1 min', i % 5, i FROM generate_series(1, 100) i;
SELECT rollup.create('kept', $$SELECT date_trunc('hour', at) AS at, k, count(*) AS n, hll_add_agg(hll_hash_integer(n)) AS h FROM event GROUP BY 1, 2$$);
SELECT rollup.pause('kept')";

#[test]
fn no_call_is_an_internal_error() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("mistakes").unwrap();
    client.batch_execute(SUBJECTS).unwrap();
    client.batch_execute(ATTEMPT).unwrap();
    client.batch_execute("SET statement_timeout = '20 s'; SET client_min_messages = error").unwrap();
    let mut seed = 88_172_645_463_325_252;
    let (mut internal, mut codes, mut calls) = (Vec::new(), BTreeMap::<String, usize>::new(), 0);
    let functions = functions(&mut client);
    assert!(functions.len() > 100, "{} functions", functions.len());
    let mut attempt_after = |before: &str, call: String| {
        client.batch_execute(before).unwrap_or_else(|e| panic!("{before}: {e:?}"));
        let result = client.query_one("SELECT attempt($1)", &[&call]);
        let result: String = result.unwrap_or_else(|e| panic!("{call}: {e:?}\n{}", cluster.log())).get(0);
        let code = &result[..5];
        *codes.entry(code.to_string()).or_default() += 1;
        if code.starts_with("XX") || code == "57014" {
            let shown: String = call.chars().take(300).collect();
            internal.push(format!("{shown}: {result}"));
        }
        calls += 1;
    };
    for (name, kinds) in &functions {
        for list in lists(kinds, &mut seed) {
            attempt_after("", format!("{name}({})", list.join(", ")));
        }
    }
    // Aggregates whose state a user can write.
    for (aggregate, kind) in [
        ("rollup_internal.moments_union", "double precision[]"),
        ("rollup_internal.pair_moments_union", "double precision[]"),
        ("hll_union_agg", "hll"),
        ("jsonb_counter_merge_agg", "jsonb"),
        ("ddsketch_union_agg", "ddsketch"),
        ("ddsketch_agg", "double precision"),
        ("ddsketch_percentile_of", "bytea"),
        ("kept_state", "text"),
    ] {
        for one in values(kind) {
            for other in values(kind) {
                let rows = format!("(VALUES ({one}::{kind}), (NULL), ({other}::{kind})) v(x)");
                attempt_after("", format!("{aggregate}(x) FROM {rows}"));
            }
        }
    }
    // Steps of one aggregate wired to those of another, as a superuser may do.
    let steps = [
        ("hll_add_trans0", "hll_hashval", "1::bigint::hll_hashval"),
        ("hll_union_trans", "hll", "hll_empty()"),
        ("approx_count_distinct_trans", "anyelement", "1::int"),
        ("rollup_internal.last_trans", "anyelement, timestamptz", "'x'::text, now()"),
        ("array_agg_transfn", "anynonarray", "1::int"),
    ];
    let finals = [
        "hll_pack",
        "hll_card_unpacked",
        "hll_floor_card_unpacked",
        "hll_ceil_card_unpacked",
        "approx_count_distinct_final",
    ];
    for (n, (step, kinds, values)) in steps.iter().enumerate() {
        for (m, last) in finals.iter().enumerate() {
            attempt_after(
                &format!(
                    "CREATE AGGREGATE wired_{n}_{m}({kinds}) (SFUNC = {step}, STYPE = internal, FINALFUNC = {last})"
                ),
                format!("wired_{n}_{m}({values})"),
            );
        }
    }
    println!("{calls} calls of {} functions: {codes:?}", functions.len());
    assert!(internal.is_empty(), "{} of {calls} calls:\n{}", internal.len(), internal.join("\n"));
    assert!(codes["P0099"] > 1000, "most calls are refused: {codes:?}");
    assert!(!cluster.log().contains("terminated by signal"));
}

/// Errors of every origin: this library's own, PostgreSQL's in functions that it calls, in statements that it runs and
/// in code of users that those run, with details and hints of theirs and without.
const ERRORS: [&str; 29] = [
    "SELECT '\\x1'::hll",
    "SELECT 'zz'::hll",
    "SELECT '\\x14'::hll",
    "SELECT hll_cardinality('\\x148b7f00'::bytea::hll)",
    "SELECT 'x'::hll_hashval",
    "SELECT 'x'::jsonb_counter_state",
    "SELECT '\\x02'::jsonb_counter_state",
    "SELECT '\\x010001016b20036162'::jsonb_counter_state",
    "SELECT 'x'::ddsketch",
    "SELECT ddsketch_agg('NaN')",
    "SELECT ddsketch_percentile('scale=5', 2)",
    "SELECT ddsketch_from_otel(5, 0, 0, '{-1}', 0, NULL)",
    "SELECT approx_percentile_final('\\x00')",
    "SELECT hll_empty(99)",
    "SELECT jsonb_counter_agg_trans(NULL, 'a')",
    "SELECT jsonb_counter_agg_trans((SELECT kept_state('a')), NULL)",
    "SELECT jsonb_counter_merge('{\"a\": 1}', '{\"a\": {}}')",
    "SELECT jsonb_counter_agg('k', 'NaN'::float8)",
    "SELECT rollup_internal.moments_union(x) FROM (VALUES ('{1}'::float8[]), ('{1}')) v(x)",
    "SELECT rollup.zones(999999::regclass)",
    "SELECT approx_count_distinct(x) FROM (VALUES ('(1,1)'::point)) v(x)",
    "SELECT rollup.last(x, now()) FROM (VALUES ('(1,1)'::point), ('(2,2)')) v(x)",
    "SELECT rollup.create('r', 'SELECT')",
    "SELECT rollup.create('r', 'SELECT nonsense FROM event GROUP BY 1')",
    "SELECT rollup.create('r', 'SELECT date_trunc(''hour'', at) AS at, sum(1 / (n - n)) FROM event GROUP BY 1'); SELECT rollup.run('event')",
    "SELECT rollup.create('event', 'SELECT date_trunc(''hour'', at) AS at, count(*) FROM event GROUP BY 1')",
    "SELECT rollup.drop('nobody')",
    "UPDATE event SET at = 'infinity', n = 1 / (n - n)",
    "CREATE UNIQUE INDEX refuses ON kept (k); SELECT rollup.resume('kept'); SELECT rollup.run('event')",
];

/// What a client is told of an error, except for where in which source it was raised.
fn told(error: postgres::Error) -> String {
    let Some(e) = error.as_db_error() else { panic!("no error of the server: {error:?}") };
    let place = (e.schema(), e.table(), e.column(), e.datatype(), e.constraint());
    let text = (e.message(), e.detail(), e.hint(), e.where_());
    format!("{} {} {text:?} {:?} {place:?}", e.severity(), e.code().code(), e.position())
}

/// The errors of a server with such an environment.
fn errors(environment: &str) -> Vec<String> {
    let mut tree = Tree::prepare().unwrap();
    for variable in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        tree.environment.push((variable.into(), environment.into()));
    }
    let cluster = Cluster::with(tree, OURS).unwrap();
    let mut client = cluster.database("mistakes").unwrap();
    client.batch_execute(SUBJECTS).unwrap();
    let mut told: Vec<String> = ERRORS
        .iter()
        .map(|sql| match client.batch_execute(sql) {
            Ok(()) => panic!("no error: {sql}"),
            Err(e) => told(e),
        })
        .collect();
    // An interrupt inside this library's loops, and what a worker met and keeps for its users.
    client.batch_execute("SET statement_timeout = '300 ms'").unwrap();
    let long = "SELECT jsonb_counter_limit(jsonb_object_agg(i::text, i), 7) FROM generate_series(1, 200000) i, generate_series(1, 500) j";
    told.push(self::told(client.batch_execute(long).unwrap_err()));
    client.batch_execute("SET statement_timeout = 0").unwrap();
    client
        .batch_execute(
            "DROP INDEX IF EXISTS refuses;
             CREATE TABLE part (at timestamptz NOT NULL, n int);
             SELECT rollup.create('fails', 'SELECT date_trunc(''hour'', at) AS at, sum(100 / n) AS q FROM part GROUP BY 1', every => '100 ms');
             INSERT INTO part VALUES ('2026-01-01', 0)",
        )
        .unwrap();
    let failing = "SELECT count(*) FROM rollup.status WHERE name::text = 'fails' AND last_error IS NOT NULL";
    wait_for("the worker meets the error", 60, || number(&mut client, failing) == 1);
    let kept = "SELECT last_error FROM rollup.status WHERE name::text = 'fails'";
    told.push(client.query_one(kept, &[]).unwrap().get(0));
    let log = cluster.log();
    for frame in ["__rust_begin_short_backtrace", "pgrx_pg_sys::", "stack backtrace", "   0: "] {
        assert!(!log.contains(frame), "the log has a trace:\n{log}");
    }
    told
}

#[test]
fn no_trace_gets_into_an_error() {
    let (without, with) = (errors("0"), errors("full"));
    for (sql, (without, with)) in
        ERRORS.iter().chain(&["a time-out", "a worker"]).zip(without.iter().zip(&with))
    {
        println!("{sql}\n    {without}");
        assert_eq!(without, with, "{sql}");
        assert!(!without.contains(" XX000 "), "{sql}: {without}");
    }
}
