//! What a chart asks of a rollup: `rollup.series` of a thousand points.
use hll_lab::figures::{figure, row, table};
use hll_lab::{Cluster, Outcome};

use crate::measure::{at_most, by_turns};

/// A rollup of a thousand minutes, a tenth of them without rows, and the rows of the last ones not merged yet.
const LOAD: &str = "
  SET jit = off;
  CREATE TABLE event (at timestamptz NOT NULL, msec int NOT NULL);
  SELECT rollup.create('event_1min', $$ SELECT date_trunc('minute', at) AS at, count(*) AS events, sum(msec) AS msec, avg(msec) AS mean
    FROM event GROUP BY 1 $$, every => NULL, coarser => '{\"event_1hour\": \"1 hour\"}', timezone => 'UTC');
  INSERT INTO event SELECT timestamptz '2026-01-01 00:00+00' + i * interval '1 second', i % 900
    FROM generate_series(0, 59399) i WHERE i / 60 % 10 <> 5;
  SELECT rollup_event();
  INSERT INTO event SELECT timestamptz '2026-01-01 00:00+00' + i * interval '1 second', i % 900 FROM generate_series(59400, 59999) i";

const TIME: &str = "'2026-01-01 00:00+00', '2026-01-01 16:40+00'";

/// Prints the table.
pub fn run() -> Outcome<()> {
    let cluster = Cluster::new()?;
    let mut client = cluster.database("series")?;
    // Each in a transaction of its own: a run merges what has been committed.
    for statement in LOAD.split(';') {
        client.batch_execute(statement)?;
    }
    client.batch_execute("VACUUM ANALYZE event, event_1min")?;
    let series = |fill: &str| {
        format!(
            "SELECT * FROM rollup.series(NULL::event_1min_live, {TIME}, points => 1000, fill => '{fill}')"
        )
    };
    let merged: i64 = client.query_one("SELECT sum(events)::bigint FROM event_1min", &[])?.get(0);
    if merged != 53_460 {
        return Err(format!("{merged} rows are merged, and not 53,460").into());
    }
    let points = client.query(&series("null"), &[])?.len();
    if points != 1000 {
        return Err(format!("a series of {points} points, and not of 1000").into());
    }
    let [null, linear] = by_turns(&mut [&mut client], [(0, &*series("null")), (0, &*series("linear"))])?;
    table(
        "A series for a chart: 1,000 points, the last of them from rows not merged yet",
        &["work", "ms", "to reach, ms"],
    );
    for (fill, ms) in [("null", null), ("linear", linear)] {
        row([
            format!("`rollup.series`, gaps filled by `{fill}`").into(),
            figure(ms, 2).into(),
            at_most(2.0, "ms"),
        ]);
    }
    Ok(())
}
