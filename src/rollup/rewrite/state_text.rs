//! What a statement that is answered from a rollup asks of the catalog, in one row, as a common table expression.
use super::table::{FIRST, Table};
use crate::pg::plan::since;
use crate::pg::plan::time::Since;
use hll_rollup::sql::literal;
use hll_rollup::{Kind, times};
use pgrx::pg_sys;

/// How many pieces of time in which changes wait are looked for in the raw table; they are as many columns of `state_of`.
pub const PIECES: usize = 3;

/// What the state is to say of a table.
pub struct Of<'a> {
    pub table: &'a Table<'a>,
    /// From when on its buckets follow each other, in microseconds since 2000.
    pub clear_from: i64,
    /// From when on what the query makes of the time is the same for all rows of a bucket.
    pub since: &'a [Since],
    /// The table of a level; None of the rollup's own.
    pub relation: Option<pg_sys::Oid>,
}

/// A moment as a constant of a key's type.
fn moment(kind: Kind, at: i64) -> String {
    let t = kind.type_name();
    format!("('2000-01-01 00:00:00+00'::{t} OPERATOR(pg_catalog.+) '{at} microseconds'::pg_catalog.interval)")
}

fn greatest(of: &[String]) -> String {
    match of {
        [one] => one.clone(),
        several => format!("greatest({})", several.join(", ")),
    }
}

impl Of<'_> {
    /// From when on its buckets may be used, as far as the time zones are concerned.
    fn clear(&self) -> Vec<String> {
        let kind = self.table.kind;
        let (now, asks) = since(self.since);
        let mut clear = vec![format!("'{FIRST}'::{}", kind.type_name())];
        let from = now.into_iter().chain((self.clear_from != i64::MIN).then_some(self.clear_from)).max();
        clear.extend(from.map(|at| moment(kind, at)));
        for (step, zone) in asks {
            let zone = zone.map_or("NULL".into(), |z| literal(&z));
            clear.push(format!("rollup_internal.in_step_from({step}, {zone}::pg_catalog.text)"));
        }
        clear
    }

    /// Up to when something has expired, as the first bucket that is whole. Expiry goes by moments: clock times by some
    /// zone's clock, and a bucket may begin late where clocks change. A bucket that begins at what has expired, or later, is
    /// whole.
    fn lifted(&self, at: &str) -> String {
        match (self.table.kind, self.table.absolute) {
            (Kind::Zoned, true) => at.to_string(),
            (Kind::Zoned, false) => format!("({at} OPERATOR(pg_catalog.+) '2 days'::pg_catalog.interval)"),
            _ => {
                format!("(({at} OPERATOR(pg_catalog.+) '2 days'::pg_catalog.interval) AT TIME ZONE 'UTC')")
            }
        }
    }
}

/// A value of `state_of` that is a moment, as one of a key's type.
fn of_kind(kind: Kind, at: &str) -> String {
    match kind {
        Kind::Zoned => at.to_string(),
        _ => format!("({at} AT TIME ZONE 'UTC')"),
    }
}

/// How far rows are merged; `floor_0`, … from which on buckets of each table are used, and `reach_0`, … before which rows
/// of others lie; `changed_0`, … the buckets in which changes wait, as bounds between which they lie; `clear`, from which on
/// expressions over the time are the same for all rows of a bucket; `since_1` to `until_3`, where raw rows of changed
/// buckets lie; `from_0`, `to_0`, … where buckets of each table lie of which the next table's have changed.
pub fn select(id: i64, generation: i64, history: bool, tables: &[Of]) -> String {
    let [own, ..] = tables else { return String::new() };
    let kind = own.table.kind;
    let mut columns = vec![
        "s.seen_xmax".to_string(),
        "s.first_open".into(),
        "s.seen_xip".into(),
        format!("{} AS clear", greatest(&own.clear())),
    ];
    if history {
        let t = kind.type_name();
        columns.push(format!("coalesce({}, '-infinity'::{t}) AS gone", own.lifted("s.raw_below")));
    }
    for (n, of) in tables.iter().enumerate() {
        columns.extend(floors(own, of, n, history));
        columns.extend(changes(of, n));
    }
    for n in 1..=PIECES {
        columns.push(format!("{} AS since_{n}", of_kind(kind, &format!("s.since_{n}"))));
        columns.push(format!("{} AS until_{n}", of_kind(kind, &format!("s.until_{n}"))));
    }
    let list = |of: Vec<String>, kind: &str| match of.is_empty() {
        true => "NULL".to_string(),
        false => format!("ARRAY[{}]::pg_catalog.{kind}[]", of.join(", ")),
    };
    format!(
        "SELECT {} FROM rollup_internal.state_of({id}, {generation}, {history}, {}, {}, {}) s",
        columns.join(", "),
        list(tables.iter().filter_map(|o| o.relation).map(|r| r.to_u32().to_string()).collect(), "oid"),
        list(tables.iter().map(|o| o.table.width.to_string()).collect(), "int8"),
        list(tables.iter().map(|o| o.table.slack().to_string()).collect(), "int8"),
    )
}

/// From when on buckets of table `n` are used, and before when rows of others lie. Where nothing is good that is infinity.
/// A level's is never below that of the rollup's own table, but with `history`: of what has expired from there it cannot be
/// told that the level has it.
fn floors(own: &Of, of: &Of, n: usize, history: bool) -> [String; 2] {
    let kind = own.table.kind;
    let t = kind.type_name();
    let own_floor = || own.clear().into_iter().chain([own.lifted("s.below")]);
    let floor = |of: Vec<String>| format!("CASE WHEN s.good THEN {} ELSE 'infinity'::{t} END", greatest(&of));
    let mut all: Vec<String> = match (n, history) {
        (0, _) | (_, false) => own_floor().collect(),
        _ => own.clear(),
    };
    if n > 0 {
        all.extend(of.clear());
        all.push(of.lifted(&format!("s.expired[{n}]")));
    }
    let floor_of = floor(all);
    let reach = match (n, history) {
        (1.., true) => format!("greatest({floor_of}, {})", floor(own_floor().collect())),
        _ => floor_of.clone(),
    };
    [
        format!("{floor_of} AS floor_{n}"),
        format!("{} AS reach_{n}", times::later(kind, &format!("({reach})"), of.table.width)),
    ]
}

/// The buckets of table `n` in which changes wait, and where those of the table before lie.
fn changes(of: &Of, n: usize) -> Vec<String> {
    let (kind, changed) = (of.table.kind, format!("s.changed_{n}"));
    let mut columns = vec![match kind {
        Kind::Zoned => changed.clone(),
        _ => format!(
            "(SELECT pg_catalog.array_agg({} ORDER BY x) FROM pg_catalog.unnest({changed}) x) AS changed_{n}",
            of_kind(kind, "x")
        ),
    }];
    if n > 0 {
        let margin = times::interval(of.table.width.saturating_add(of.table.slack()));
        let end = |at: &str, sign: &str| {
            of_kind(kind, &format!("({changed}[{at}] OPERATOR(pg_catalog.{sign}) {margin})"))
        };
        columns.push(format!("{} AS from_{}", end("1", "-"), n - 1));
        columns.push(format!(
            "{} AS to_{}",
            end(&format!("pg_catalog.array_length({changed}, 1)"), "+"),
            n - 1
        ));
    }
    columns
}

/// Where raw rows of changed buckets lie.
pub fn pieces() -> Vec<(String, String)> {
    (1..=PIECES).map(|n| (format!("since_{n}"), format!("until_{n}"))).collect()
}

/// Where buckets of a table lie of which the next table's have changed.
pub fn span(table: usize) -> Vec<(String, String)> {
    vec![(format!("from_{table}"), format!("to_{table}"))]
}
