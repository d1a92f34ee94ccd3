//! Statements over the tables of `rewrite_random`, by the dice.
use crate::load::Dice;

/// Zones of sessions.
pub const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Africa/Monrovia",
    "Atlantic/Azores",
];

/// Keys; those of one table, those of the other and those of both.
const KEYS: [&str; 24] = [
    "site",
    "status",
    "site % 2",
    "coalesce(site, -1)",
    "status / 100",
    "date_trunc('minute', at)",
    "date_trunc('hour', at)",
    "date_trunc('day', at)",
    "date_trunc('day', at, 'Europe/Berlin')",
    "date_trunc('month', at, 'Europe/Berlin')",
    "date_trunc('hour', at, 'Asia/Kathmandu')",
    "date_trunc('week', at)",
    "date_trunc('month', at)",
    "date_bin('5 minutes', at, '2000-01-01Z')",
    "date_bin('30 minutes', at, '2000-01-01 00:03Z')",
    "at::date",
    "extract(hour FROM at)",
    "to_char(date_trunc('hour', at), 'HH24 DD')",
    "date_trunc('hour', at AT TIME ZONE 'Asia/Kolkata')",
    "CASE WHEN site > 2 THEN 'high' ELSE 'low' END",
    "n",
    "tag",
    "upper(tag)",
    "date_trunc('second', at)",
];

/// Aggregates, those of doubles marked.
const AGGREGATES: [(&str, bool); 26] = [
    ("count(*)", false),
    ("count(1)", false),
    ("count(status)", false),
    ("count(v)", false),
    ("sum(v)", false),
    ("min(v)", false),
    ("max(v)", false),
    ("avg(v)", false),
    ("sum(n)", false),
    ("avg(n)", false),
    ("sum(f)", true),
    ("avg(f)", true),
    ("variance(f)", true),
    ("stddev(v)", false),
    ("count(*) FILTER (WHERE v > 100)", false),
    ("count(*) FILTER (WHERE v > 200)", false),
    ("bool_or(v > 400)", false),
    ("hll_add_agg(hll_hash_text(tag))", false),
    ("hll_cardinality(hll_add_agg(hll_hash_text(tag)))", true),
    ("jsonb_counter_agg(tag)", false),
    ("ddsketch_agg(v)", false),
    ("ddsketch_percentile(ddsketch_agg(v), 0.9)", true),
    ("rollup.last(v, at)", false),
    ("sum(v) * 100 / NULLIF(count(*), 0)", false),
    ("count(DISTINCT tag)", false),
    ("max(f)", true),
];

const CONDITIONS: [&str; 14] = [
    "site = 2",
    "site IN (1, 3)",
    "site IS NULL",
    "site IS NOT NULL AND site <> 4",
    "status >= 500",
    "status BETWEEN 200 AND 299",
    "date_trunc('day', at) = '2026-01-02'",
    "extract(hour FROM at) < 12",
    "at::date <> '2026-01-01'",
    "site = (SELECT min(site) FROM event WHERE site > 1)",
    "EXISTS (SELECT FROM generate_series(1, 3) g WHERE g = site)",
    "n = 1.5",
    "n > 2",
    "at IS NOT NULL",
];

fn moment(dice: &mut Dice) -> String {
    match dice.roll(12) {
        0 => format!("2026-01-0{}", 1 + dice.roll(4)),
        1 => "2026-03-29 01:00Z".into(),
        2 => "1880-06-01 00:00Z".into(),
        3 => ["infinity", "-infinity"][dice.roll(2) as usize].into(),
        4..=7 => format!("2026-01-0{} {:02}:{:02}:00Z", 1 + dice.roll(3), dice.roll(24), dice.roll(60)),
        _ => format!(
            "2026-01-0{} {:02}:{:02}:{:02}.{}Z",
            1 + dice.roll(3),
            dice.roll(24),
            dice.roll(60),
            dice.roll(60),
            dice.roll(10)
        ),
    }
}

/// A statement with `$1`, `$2`, … for the values, which are given; and which columns are doubles.
#[derive(Debug)]
pub struct Asked {
    /// The statement.
    pub sql: String,
    /// The values.
    pub values: Vec<String>,
    /// Which columns are doubles.
    pub doubles: Vec<bool>,
}

/// A statement.
pub fn question(dice: &mut Dice) -> Asked {
    let clock = dice.roll(6) == 0;
    let (table, cast) = if clock { ("clock", "timestamp") } else { ("event", "timestamptz") };
    let fits = |text: &str| {
        !clock
            || !["status", "n", "Europe", "Kathmandu", "ZONE"].iter().any(|w| text.contains(w))
            || text.contains("count(*)")
            || text.contains("count(DISTINCT")
    };
    let mut values = Vec::new();
    let mut keys: Vec<&str> = Vec::new();
    for _ in 0..dice.roll(4) {
        // Mostly those that rollups have.
        let among = if dice.roll(4) == 0 { 24 } else { 20 };
        let key = KEYS[dice.roll(among) as usize];
        if fits(key) && !keys.contains(&key) && !(clock && key.contains('Z')) {
            keys.push(key);
        }
    }
    let mut aggregates: Vec<(&str, bool)> = Vec::new();
    for _ in 0..1 + dice.roll(4) {
        let among = if dice.roll(6) == 0 { 26 } else { 24 };
        let a = AGGREGATES[dice.roll(among) as usize];
        let there = !clock || ["count(*)", "count(1)", "sum(v)"].contains(&a.0);
        if there && !aggregates.contains(&a) {
            aggregates.push(a);
        }
    }
    if aggregates.is_empty() {
        aggregates.push(AGGREGATES[0]);
    }
    let mut conditions: Vec<String> = Vec::new();
    for _ in 0..dice.roll(3) {
        let c = CONDITIONS[dice.roll(14) as usize];
        if fits(c) && !(clock && (c.contains("event") || c.contains("EXISTS"))) {
            conditions.push(c.into());
        }
    }
    let mut bound = |operator: &str, dice: &mut Dice| {
        let at = moment(dice);
        match dice.roll(4) {
            0 if !at.contains(':') && !at.contains("inf") => format!("at {operator} date '{at}'"),
            _ if at.contains("inf") => format!("at {operator} {cast} '{at}'"),
            0 | 1 => format!("at {operator} {cast} '{at}'"),
            2 => {
                values.push(at);
                format!("at {operator} ${}::text::{cast}", values.len())
            }
            _ => format!(
                "now() - (now() - {cast} '{at}') {} at",
                ["<", "<=", ">", ">=", "="][["<", "<=", ">", ">=", "="]
                    .iter()
                    .position(|o| *o == operator)
                    .map_or(0, |p| [2, 3, 0, 1, 4][p])]
            ),
        }
    };
    match dice.roll(8) {
        0 => {}
        1 => conditions.push(bound(">=", dice)),
        2 => conditions.push(bound("<", dice)),
        3 => conditions.push(bound("=", dice)),
        4 => {
            conditions.push(bound(">", dice));
            conditions.push(bound("<=", dice));
        }
        _ => {
            conditions.push(bound(">=", dice));
            conditions.push(bound("<", dice));
        }
    }
    let shown: Vec<String> =
        keys.iter().copied().chain(aggregates.iter().map(|a| a.0)).map(|e| format!("({e})::text")).collect();
    let filter =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let group = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
    let having = if dice.roll(6) == 0 { " HAVING count(*) > 3" } else { "" };
    // By itself, by a view or by a sub-select.
    let from = match dice.roll(6) {
        0 => format!("seen_{table} AS {table}"),
        1 => format!("(SELECT * FROM {table}) AS {table}"),
        _ => table.into(),
    };
    let sql = format!("SELECT {} FROM {from}{filter}{group}{having}", shown.join(", "));
    let sql = match dice.roll(6) {
        0 => format!("WITH q AS MATERIALIZED ({sql}) SELECT * FROM q"),
        1 => format!("SELECT q.* FROM generate_series(1, 2) g CROSS JOIN LATERAL ({sql}) q"),
        _ => sql,
    };
    let doubles = keys.iter().map(|_| false).chain(aggregates.iter().map(|a| a.1)).collect();
    Asked { sql, values, doubles }
}
