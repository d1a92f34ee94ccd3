//! examples/continuous_aggregates.sql: what it makes of the definitions that TimescaleDB's views hold counts what they counted.
//!
//! The views are stood in for by tables of their columns, and time_bucket by functions that do what TimescaleDB documents:
//! the definitions, which are as TimescaleDB deparses them, run as they are beside the rollups.
use hll_lab::{Cluster, root};
use hll_tests::{number, text};
use std::fs;
use std::process::Stdio;

const STAND_INS: &str = "
CREATE SCHEMA timescaledb_information;
CREATE TABLE timescaledb_information.continuous_aggregates (hypertable_schema name, hypertable_name name, view_schema name, view_name name, view_owner name,
  materialized_only bool, compression_enabled bool, materialization_hypertable_schema name, materialization_hypertable_name name, view_definition text, finalized bool);
CREATE TABLE timescaledb_information.dimensions (hypertable_schema name, hypertable_name name, dimension_number bigint, column_name name, column_type regtype);
CREATE TABLE timescaledb_information.jobs (job_id int, proc_name name, schedule_interval interval, hypertable_schema name, hypertable_name name, config jsonb);
-- Buckets of months begin on 2000-01-01, others on 2000-01-03, by the clock of the zone where one is named.
CREATE FUNCTION public.time_bucket(w interval, t timestamp, origin timestamp DEFAULT NULL) RETURNS timestamp LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN extract(year FROM w) * 12 + extract(month FROM w) > 0
    THEN timestamp '2000-01-01' + w * floor((extract(year FROM t) * 12 + extract(month FROM t) - 1 - 24000) / (extract(year FROM w) * 12 + extract(month FROM w)))::float8
    ELSE date_bin(w, t, coalesce(origin, timestamp '2000-01-03')) END $$;
CREATE FUNCTION public.time_bucket(w interval, t timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT public.time_bucket(w, t AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' $$;
CREATE FUNCTION public.time_bucket(w interval, t timestamptz, origin timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT date_bin(w, t, origin) $$;
CREATE FUNCTION public.time_bucket(w interval, t timestamptz, \"offset\" interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT date_bin(w, t, timestamptz '2000-01-03+00' + \"offset\") $$;
CREATE FUNCTION public.time_bucket(w interval, t timestamptz, timezone text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT public.time_bucket(w, t AT TIME ZONE timezone) AT TIME ZONE timezone $$;
CREATE FUNCTION public.time_bucket(w interval, t date) RETURNS date LANGUAGE sql IMMUTABLE AS $$ SELECT public.time_bucket(w, t::timestamp)::date $$;
CREATE TABLE conditions (\"time\" timestamptz NOT NULL, device text, temperature float8);
CREATE TABLE clock (at timestamp NOT NULL, n int);
CREATE TABLE days (day date NOT NULL, n int);
INSERT INTO conditions SELECT timestamptz '2025-01-01+00' + g * interval '5 hours 7 minutes', 'd' || g % 3, g % 40 FROM generate_series(0, 2500) g;
INSERT INTO clock SELECT timestamp '2025-01-01' + g * interval '3 hours', g FROM generate_series(0, 900) g;
INSERT INTO days SELECT date '2025-01-01' + g, g FROM generate_series(0, 300) g;
INSERT INTO timescaledb_information.dimensions VALUES ('public', 'conditions', 1, 'time', 'timestamptz'), ('public', 'clock', 1, 'at', 'timestamp'), ('public', 'days', 1, 'day', 'date')";

/// A name, the table, the bucket and the other columns as they are deparsed.
const KNOWN: [(&str, &str, &str); 14] = [
    ("hourly", "conditions", "time_bucket('01:00:00'::interval, conditions.\"time\")"),
    ("quarters", "conditions", "time_bucket('00:15:00'::interval, conditions.\"time\")"),
    ("six_hours", "conditions", "public.time_bucket('06:00:00'::interval, conditions.\"time\")"),
    ("daily", "conditions", "time_bucket('1 day'::interval, conditions.\"time\")"),
    ("weekly", "conditions", "time_bucket('7 days'::interval, conditions.\"time\")"),
    ("ten_days", "conditions", "time_bucket('10 days'::interval, conditions.\"time\")"),
    ("monthly", "conditions", "time_bucket('1 mon'::interval, conditions.\"time\")"),
    ("seasons", "conditions", "time_bucket('3 mons'::interval, conditions.\"time\")"),
    ("thirty_days", "conditions", "time_bucket('30 days'::interval, conditions.\"time\")"),
    ("berlin", "conditions", "time_bucket('1 day'::interval, conditions.\"time\", 'Europe/Berlin'::text)"),
    (
        "berlin_months",
        "conditions",
        "time_bucket('1 mon'::interval, conditions.\"time\", timezone => 'Europe/Berlin'::text)",
    ),
    (
        "from_two",
        "conditions",
        "time_bucket('1 day'::interval, conditions.\"time\", '2024-12-31 02:00:00+00'::timestamp with time zone)",
    ),
    (
        "half_past",
        "conditions",
        "time_bucket('01:00:00'::interval, conditions.\"time\", \"offset\" => '00:30:00'::interval)",
    ),
    ("odd name", "conditions", "time_bucket('1 day'::interval, conditions.\"time\")"),
];

const OTHERS: [(&str, &str, &str); 4] = [
    ("clock_days", "clock", "time_bucket('1 day'::interval, clock.at)"),
    ("clock_weeks", "clock", "time_bucket('14 days'::interval, clock.at)"),
    ("date_weeks", "days", "time_bucket('7 days'::interval, days.day)"),
    ("date_days", "days", "time_bucket('3 days'::interval, days.day)"),
];

/// What has no counterpart, and what is said of it.
const LEFT_OUT: [(&str, &str, &str); 4] = [
    ("numbers", "time_bucket(10, conditions.n)", "are no time"),
    ("two_months", "time_bucket('2 mons'::interval, conditions.\"time\")", "other months than 1, 3 or 12"),
    (
        "berlin_hours",
        "time_bucket('06:00:00'::interval, conditions.\"time\", 'Europe/Berlin'::text)",
        "by the clock of Europe/Berlin",
    ),
    ("filled", "time_bucket_gapfill('1 day'::interval, conditions.\"time\")", "fill gaps where it is read"),
];

fn definition(table: &str, bucket: &str) -> String {
    let (columns, keys) = match table {
        "conditions" => (
            "conditions.device, count(*) AS count, avg(conditions.temperature) AS mean, max(conditions.temperature) AS most",
            ", conditions.device",
        ),
        "clock" => ("sum(clock.n) AS total", ""),
        _ => ("sum(days.n) AS total", ""),
    };
    format!(" SELECT {bucket} AS bucket,\n    {columns}\n   FROM {table}\n  GROUP BY ({bucket}){keys};")
}

#[test]
fn definitions_become_rollups_that_count_the_same() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("caggs").unwrap();
    client.batch_execute(STAND_INS).unwrap();
    let mut add = |name: &str, table: &str, definition: &str, number: usize| {
        client
            .execute(
                "INSERT INTO timescaledb_information.continuous_aggregates VALUES ('public', $2::text::name, 'public', $1::text::name, 'postgres', false, false, '_timescaledb_internal', $4::text::name, $3, true)",
                &[&name, &table, &definition, &format!("_materialized_hypertable_{number}")],
            )
            .unwrap();
    };
    for (number, (name, table, bucket)) in KNOWN.iter().chain(&OTHERS).enumerate() {
        add(name, table, &definition(table, bucket), number + 1);
    }
    for (number, (name, bucket, _)) in LEFT_OUT.iter().enumerate() {
        add(name, "conditions", &definition("conditions", bucket), number + 101);
    }
    add(
        "upon",
        "_materialized_hypertable_1",
        "SELECT time_bucket('1 day'::interval, hourly.bucket) AS bucket, sum(hourly.count) AS count FROM hourly GROUP BY 1",
        201,
    );
    client
        .batch_execute(
            "UPDATE timescaledb_information.continuous_aggregates SET hypertable_schema = '_timescaledb_internal' WHERE view_name = 'upon';
             INSERT INTO timescaledb_information.jobs VALUES (1, 'policy_refresh_continuous_aggregate', '30 minutes', '_timescaledb_internal', '_materialized_hypertable_1', '{}'),
             (2, 'policy_retention', '1 day', 'public', 'conditions', '{\"drop_after\": \"90 days\"}'), (3, 'policy_retention', '1 day', '_timescaledb_internal', '_materialized_hypertable_4', '{\"drop_after\": \"5 years\"}'),
             (4, 'policy_retention', '1 day', 'public', 'elsewhere', '{\"drop_after\": \"5 years\"}')",
        )
        .unwrap();
    let script = cluster.socket().join("continuous_aggregates.sql");
    fs::copy(root().join("examples/continuous_aggregates.sql"), &script).unwrap();
    let printed = cluster
        .command("psql")
        .args(["-X", "-q", "-At", "-d", "caggs", "-f", script.to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let printed = String::from_utf8(printed.stdout).unwrap();
    let (policies, calls): (Vec<&str>, Vec<&str>) =
        printed.lines().partition(|line| line.starts_with("SELECT rollup.retain"));
    assert_eq!(
        policies,
        [
            "SELECT rollup.retain('public.conditions', '90 days');",
            "SELECT rollup.retain('public.daily', '5 years');"
        ]
    );
    for (name, _, why) in LEFT_OUT {
        assert!(
            calls.iter().any(
                |line| line.starts_with(&format!("-- public.{name} is left out: ")) && line.contains(why)
            ),
            "{name}: {printed}"
        );
    }
    assert!(
        calls
            .iter()
            .any(|line| line.starts_with("-- SELECT rollup.add_level('public.hourly', 'public.upon'")),
        "{printed}"
    );
    // Once more changes nothing.
    client.batch_execute(&calls.join("\n")).unwrap_or_else(|e| panic!("{e:?}\n{printed}"));
    client.batch_execute(&calls.join("\n")).unwrap();
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM rollup.definition"),
        (KNOWN.len() + OTHERS.len()) as i64
    );
    assert_eq!(
        text(&mut client, "SELECT every::text FROM rollup.definition WHERE name = 'hourly'"),
        "00:30:00"
    );
    client
        .batch_execute("SELECT rollup.run(t) FROM unnest('{conditions,clock,days}'::regclass[]) t")
        .unwrap();
    for (name, table, bucket) in KNOWN.iter().chain(&OTHERS) {
        let asked = definition(table, bucket);
        let columns = if *table == "conditions" {
            "bucket, device, count, mean::numeric(20, 9), most"
        } else {
            "bucket, total"
        };
        for (relation, rows) in
            [(format!("\"{name}_live\""), true), (format!("({}) asked", asked.trim_end_matches(';')), false)]
        {
            let other = if rows {
                format!("({}) asked", asked.trim_end_matches(';'))
            } else {
                format!("\"{name}_live\"")
            };
            let differ = format!(
                "SELECT count(*) FROM (SELECT {columns} FROM {relation} EXCEPT SELECT {columns} FROM {other}) d"
            );
            assert_eq!(number(&mut client, &differ), 0, "{name}: {relation}\n{printed}");
        }
        assert!(number(&mut client, &format!("SELECT count(*) FROM \"{name}\"")) > 3, "{name}");
    }
    client.batch_execute(&policies.join("\n")).unwrap();
}
