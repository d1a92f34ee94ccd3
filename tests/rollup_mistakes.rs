//! Whatever is written for a rollup, or in the place of one, an error of it has a code that says whose mistake it is.
//! tests/data/mistakes.txt has the texts: queries, right and wrong, of every shape that PostgreSQL's grammar takes or
//! nearly takes, expressions of columns, names, and values of options.
use hll_lab::Cluster;
use std::collections::BTreeMap;

const TEXTS: &str = include_str!("data/mistakes.txt");

/// The lines of a part of the file.
fn texts(part: &str) -> Vec<&'static str> {
    let after = TEXTS.lines().skip_while(|line| *line != format!("[{part}]")).skip(1);
    after.take_while(|line| !["[queries]", "[expressions]", "[names]", "[values]"].contains(line)).collect()
}

/// Statements, as SQLSTATEs: whatever they did is undone.
const ATTEMPT: &str = r"CREATE FUNCTION attempt(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE call;
    RAISE SQLSTATE 'P0099';
EXCEPTION WHEN query_canceled OR assert_failure OR others THEN RETURN SQLSTATE || ' ' || SQLERRM;
END $$";

/// A table and a rollup.
const SUBJECTS: &str = "
CREATE TABLE event (at timestamptz NOT NULL, k text, n int);
INSERT INTO event SELECT timestamptz '2026-01-01' + i * interval '1 min', i % 5, i FROM generate_series(1, 100) i;
SELECT rollup.create('kept', $$SELECT date_trunc('hour', at) AS at, k, count(*) AS n, hll_add_agg(hll_hash_integer(n)) AS h FROM event GROUP BY 1, 2$$)";

const ODD: &str = "
CREATE TYPE mood AS ENUM ('fine', 'so'); CREATE DOMAIN small AS int CHECK (VALUE < 100); CREATE TYPE pair AS (at timestamptz, n int);
CREATE TABLE odd (at timestamptz, e mood, d small, x xml, a timestamptz[], c pair, m money, t tstzrange, day date, clock time);
INSERT INTO odd VALUES ('2026-01-01', 'fine', 1, NULL, '{2026-01-01,NULL}', ROW('2026-01-01', 3), 4, '[2026-01-01,)', '2026-01-01', '10:00');
CREATE TABLE parted (at timestamptz) PARTITION BY RANGE (at); CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
CREATE TABLE rows (at timestamptz UNIQUE NULLS NOT DISTINCT, count bigint)";

#[test]
fn no_mistake_in_a_rollup_is_an_internal_error() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("made").unwrap();
    client.batch_execute(SUBJECTS).unwrap();
    client.batch_execute(ODD).unwrap();
    client.batch_execute(ATTEMPT).unwrap();
    client.batch_execute("SELECT rollup.run('event'), rollup.add_level('kept', 'kept_d', '1 day')").unwrap();
    client.batch_execute("SET statement_timeout = '20 s'; SET client_min_messages = error").unwrap();
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    const GOOD: &str = "SELECT at, count(*) FROM event GROUP BY 1";
    let mut calls: Vec<String> = Vec::new();
    let after = "SELECT rollup.run(source) FROM rollup.definition; SELECT rollup.check(name), rollup.rebuild(name), rollup.explain(name) FROM rollup.definition; TABLE rollup.status";
    let deep = [
        format!("SELECT at, sum({}n{}) AS s FROM event GROUP BY 1", "(".repeat(3000), ")".repeat(3000)),
        format!("SELECT at, {} AS s FROM event GROUP BY 1", vec!["count(*)"; 800].join(" + ")),
        format!(
            "SELECT at, {} FROM event GROUP BY 1",
            (0..1700).map(|i| format!("count(*) AS c{i}")).collect::<Vec<_>>().join(", ")
        ),
        format!("SELECT at, count(*) AS \"{}\" FROM event GROUP BY 1", "é".repeat(40)),
    ];
    for (n, query) in texts("queries").into_iter().chain(deep.iter().map(String::as_str)).enumerate() {
        let query = quoted(query);
        let rest = calls.len() + 1;
        calls.push(format!("SELECT rollup.create('made', {query}); {after}; TABLE made_live"));
        calls.push(format!("SELECT rollup.create('made', {query}, joins => 'snapshot', on_change => 'recompute', coarser => '{{\"made_y\": \"1 year\"}}'); UPDATE event SET n = 1; {after}; TABLE made_y_live"));
        calls.push(format!(
            "SELECT rollup.create('rows', {query}, into_table => 'rows'); {after}; TABLE rows_live"
        ));
        calls.push(format!("SELECT rollup.replace('kept', {query}); {after}"));
        // One or two of the four: all take long.
        calls.swap(rest, rest + n % 3);
        calls.truncate(rest + n % 2);
    }
    let (expressions, names) = (texts("expressions"), texts("names"));
    for (one, other) in
        expressions.iter().zip(names.iter().cycle()).chain(names.iter().map(|n| (&"count(*)", n)))
    {
        calls.push(format!(
            "SELECT rollup.add_column('kept', 'made', {}); {after}; TABLE kept_live; TABLE kept_d_live",
            quoted(one)
        ));
        calls.push(format!("SELECT rollup.add_column('kept', {}, {}); {after}", quoted(other), quoted(one)));
    }
    for name in names.iter().map(|name| quoted(name)).chain([format!("'{}'", "é".repeat(32)), "NULL".into()])
    {
        calls.push(format!("SELECT rollup.create({name}, '{GOOD}'); {after}"));
        calls.push(format!("SELECT rollup.create('made', '{GOOD}', into_table => {name}); {after}"));
        calls.push(format!(
            "SELECT rollup.create('made', '{GOOD}', coarser => jsonb_build_object({name}, '1 day')); {after}"
        ));
        calls.push(format!("SELECT rollup.add_level('kept', {name}, '1 month'); {after}"));
        if calls.len().is_multiple_of(2) {
            continue;
        }
        for function in [
            "drop_column('kept', $)",
            "drop_level('kept', $)",
            "drop($)",
            "check($)",
            "rebuild($)",
            "explain($)",
            "add_level($, 'm', '1 month')",
            "add_column($, 'c', 'count(*)')",
            "replace($, 'SELECT 1')",
            "pause($)",
            "resume($)",
            "nodes($)",
        ] {
            calls.push(format!("SELECT rollup.{}; {after}", function.replace('$', &name)));
        }
        calls.push(format!("SELECT rollup_internal.work_off({name}); {after}"));
    }
    for (n, value) in texts("values").into_iter().enumerate() {
        let options = ["every", "coarser", "timezone", "joins", "on_change", "into_table", "backfill"];
        for option in options.iter().skip(n % 2).step_by(2) {
            calls.push(format!("SELECT rollup.create('made', '{GOOD}', {option} => {value}); {after}"));
        }
        for call in [
            "add_level('kept', 'made', $)",
            "retain('event', $)",
            "retain('kept', $)",
            "partition('parted', $)",
            "partition('parted', '1 day', $)",
            "partition('parted', '1 day', '2 days', $)",
        ] {
            // Each day of a year takes long.
            if call.starts_with("partition('parted', '1 day', $") && value == "'1 year'" {
                continue;
            }
            calls.push(format!(
                "SELECT rollup.{}; SELECT rollup.expire('event'), rollup.run_due(); {after}",
                call.replace('$', value)
            ));
        }
        let other = ["NULL", "'2026-01-01 00:30'"][n % 2];
        calls.push(format!(
            "SELECT rollup.check('kept', {value}, {other}); SELECT rollup.rebuild('kept', {value}, {other})"
        ));
        calls.push(format!(
            "SELECT rollup.check('kept', {other}, {value}); SELECT rollup.rebuild('kept', {other}, {value})"
        ));
    }
    // Half of them, of every kind.
    let mut at = 0;
    calls.retain(|_| {
        at += 1;
        at % 2 == at / 7 % 2
    });
    let (mut internal, mut codes) = (Vec::new(), BTreeMap::<String, usize>::new());
    for call in &calls {
        let result = client.query_one("SELECT attempt($1)", &[call]);
        let result: String = result.unwrap_or_else(|e| panic!("{call}: {e:?}\n{}", cluster.log())).get(0);
        *codes.entry(result[..5].to_string()).or_default() += 1;
        if result.starts_with("XX") || result.starts_with("57014") {
            internal.push(format!("{}: {result}", call.chars().take(300).collect::<String>()));
        }
    }
    println!("{} calls: {codes:?}", calls.len());
    assert!(internal.is_empty(), "{} of {} calls:\n{}", internal.len(), calls.len(), internal.join("\n"));
    assert!(codes["P0099"] > 60, "most calls are refused: {codes:?}");
    assert!(!cluster.log().contains("terminated by signal"));
}
