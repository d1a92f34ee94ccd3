//! Buckets of time: how long they are, where they begin, and which lie inside which.
use crate::sql::literal;
use serde::{Deserialize, Serialize};

const DAY: i64 = 86_400_000_000;
/// Offsets of time zones are multiples of this.
const QUARTER_HOUR: i64 = 900_000_000;

/// Where buckets of fixed length begin: a Monday, midnight in UTC, before any event.
pub const EPOCH: &str = "'0001-01-01 00:00:00+00'::pg_catalog.timestamptz";

/// The bucket of a timestamptz in UTC: by `date_bin`, and where that ends, since it counts microseconds from its origin,
/// as `date_trunc` has it.
pub fn bin(length: &str, unit: &str, time: &str) -> String {
    format!(
        "CASE WHEN {time}{BELOW}{length}, {time}, {EPOCH}) \
         ELSE (pg_catalog.date_trunc('{unit}', ({time}) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC') END"
    )
}

const BELOW: &str =
    " OPERATOR(pg_catalog.<) '290000-01-01 00:00:00+00'::pg_catalog.timestamptz THEN pg_catalog.date_bin(";

/// Length, unit and time of an expression that [`bin`] made; `None` for any other.
fn parts_of_bin(expression: &str) -> Option<(&str, &str, &str)> {
    let (head, rest) = expression.split_once(BELOW)?;
    let time = head.strip_prefix("CASE WHEN ")?;
    let length = rest.split_once(", ")?.0;
    let (_, unit) = expression.rsplit_once("pg_catalog.date_trunc('")?;
    let unit = unit.split_once('\'')?.0;
    (bin(length, unit, time) == expression).then_some((length, unit, time))
}

/// What `level`, an expression of `$1`, makes of `key`: where both are bins of [`bin`] and those of `key` lie inside
/// those of `level`, the bin of the time itself, which is the same and is computed in one step instead of two.
pub fn level_of(level: &str, key: &str) -> Option<String> {
    let (length, coarse, "$1") = parts_of_bin(level)? else { return None };
    let (_, fine, time) = parts_of_bin(key)?;
    Bucket::of_unit(fine).nests_in(Bucket::of_unit(coarse), true).then(|| bin(length, coarse, time))
}

/// What is known of the buckets of a time key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Bucket {
    /// Nothing: a function of the user's.
    Unknown,
    /// So many microseconds, counted from `offset` after a Monday's midnight of the rollup's time zone.
    Fixed {
        /// Length in microseconds.
        length: i64,
        /// Where they begin.
        offset: i64,
        /// They are counted through changes of the clock; else within each local day.
        absolute: bool,
    },
    /// So many months of the rollup's time zone.
    Months(i32),
}

/// The type of a time key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// timestamptz
    Zoned,
    /// timestamp
    Local,
    /// date
    Date,
}

impl Kind {
    /// The kind of a column of this type.
    pub fn of(sql_type: &str) -> Option<Kind> {
        let sql_type = sql_type.trim_start_matches("pg_catalog.");
        if sql_type.ends_with("with time zone") {
            Some(Kind::Zoned)
        } else if sql_type.starts_with("timestamp") {
            Some(Kind::Local)
        } else if sql_type == "date" {
            Some(Kind::Date)
        } else {
            None
        }
    }

    /// Its name, qualified.
    pub fn type_name(self) -> &'static str {
        match self {
            Kind::Zoned => "pg_catalog.timestamptz",
            Kind::Local => "pg_catalog.timestamp",
            Kind::Date => "pg_catalog.date",
        }
    }
}

impl Bucket {
    /// How long they are, as an interval is written; None where that is not known.
    pub fn width(self) -> Option<String> {
        let (count, unit) = match self {
            Bucket::Unknown => return None,
            Bucket::Months(months) => (i64::from(months), "month"),
            Bucket::Fixed { length, .. } => {
                [(DAY, "day"), (3_600_000_000, "hour"), (60_000_000, "minute"), (1_000_000, "second")]
                    .into_iter()
                    .find(|(unit, _)| length % unit == 0)
                    .map_or((length, "microsecond"), |(micros, unit)| (length / micros, unit))
            }
        };
        Some(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }))
    }

    /// The buckets of `date_trunc(unit, …)`.
    pub fn of_unit(unit: &str) -> Bucket {
        let fixed = |length| Bucket::Fixed { length, offset: 0, absolute: false };
        match unit.to_ascii_lowercase().trim_end_matches('s') {
            "microsecond" => fixed(1),
            "millisecond" => fixed(1_000),
            "second" => fixed(1_000_000),
            "minute" => fixed(60_000_000),
            "hour" => fixed(3_600_000_000),
            "day" => fixed(DAY),
            "week" => fixed(7 * DAY),
            "month" => Bucket::Months(1),
            "quarter" => Bucket::Months(3),
            "year" => Bucket::Months(12),
            "decade" => Bucket::Months(120),
            _ => Bucket::Unknown,
        }
    }

    /// The buckets of a level so long, or why there are none.
    pub fn of_level(months: i32, days: i32, micros: i64) -> Result<Bucket, String> {
        match (months, i64::from(days) * DAY + micros) {
            (m, 0) if m > 0 && (12 % m == 0 || m % 12 == 0) => Ok(Bucket::Months(m)),
            (m, 0) if m > 0 => Err(format!("{m} months do not divide a year")),
            (0, length) if length >= DAY && length % DAY != 0 => {
                Err("a level longer than a day is a number of whole days".into())
            }
            (0, length) if length > 0 && length < DAY && DAY % length != 0 => {
                Err("a level shorter than a day divides the day".into())
            }
            (0, length) if length > 0 => Ok(Bucket::Fixed { length, offset: 0, absolute: false }),
            _ => Err("a level is some months, or some days, or a part of a day, above zero".into()),
        }
    }

    /// Whether every bucket of `self` lies inside one bucket of `coarse`, which is a level's.
    pub fn nests_in(self, coarse: Bucket, utc: bool) -> bool {
        let (length, offset, absolute) = match self {
            Bucket::Unknown => return false,
            Bucket::Months(m) => return matches!(coarse, Bucket::Months(c) if c > m && c % m == 0),
            Bucket::Fixed { length, offset, absolute } => (length, offset, absolute),
        };
        // Buckets that run through clock changes begin anywhere in a local day, except for parts of a quarter hour.
        let placed = |unit: i64| {
            unit % length == 0 && offset % length == 0 && (!absolute || utc || QUARTER_HOUR % length == 0)
        };
        match coarse {
            Bucket::Unknown => false,
            Bucket::Months(_) => placed(DAY),
            Bucket::Fixed { length: coarse, .. } => coarse > length && placed(coarse),
        }
    }

    /// Whether both are so long, wherever they begin.
    pub fn is_as_long_as(self, other: Bucket) -> bool {
        match (self, other) {
            (Bucket::Fixed { length, .. }, Bucket::Fixed { length: other, .. }) => length == other,
            (Bucket::Months(months), Bucket::Months(other)) => months == other,
            _ => false,
        }
    }

    /// Whether it is longer than `other`.
    pub fn longer_than(self, other: Bucket) -> bool {
        self.shortest() > other.shortest()
    }

    /// Microseconds of the shortest; 0 where nothing is known.
    pub fn shortest(self) -> i64 {
        match self {
            Bucket::Unknown => 0,
            Bucket::Fixed { length, .. } => length,
            Bucket::Months(m) => 28 * DAY * i64::from(m),
        }
    }

    /// The expression that gives the level's bucket of `$1`, a time key of this kind, in `zone`.
    pub fn expression(self, kind: Kind, zone: &str) -> String {
        let zone_text = literal(zone);
        let utc = zone.eq_ignore_ascii_case("utc");
        let local = match kind {
            Kind::Zoned => format!("($1 AT TIME ZONE {zone_text})"),
            Kind::Local => "$1".into(),
            Kind::Date => "$1::pg_catalog.timestamp".into(),
        };
        let back = |local: String| match kind {
            Kind::Zoned => format!("(({local}) AT TIME ZONE {zone_text})"),
            Kind::Local => local,
            Kind::Date => format!("({local})::pg_catalog.date"),
        };
        // A zone's clock can show the year after the last time stamp, which is no timestamp itself.
        let truncated = |unit: &str| match kind {
            Kind::Zoned => format!("pg_catalog.date_trunc('{unit}', $1, {zone_text})"),
            _ => back(format!("pg_catalog.date_trunc('{unit}', {local})")),
        };
        match self {
            Bucket::Unknown => "$1".into(),
            Bucket::Fixed { length, .. } if kind == Kind::Zoned && utc && unit(length).is_some() => {
                let interval = format!("'{length} microseconds'::pg_catalog.interval");
                bin(&interval, unit(length).unwrap_or_default(), "$1")
            }
            Bucket::Fixed { length, .. } if kind == Kind::Zoned && utc => {
                format!("pg_catalog.date_bin('{length} microseconds'::pg_catalog.interval, $1, {EPOCH})")
            }
            Bucket::Fixed { length, .. } if kind == Kind::Zoned && QUARTER_HOUR % length == 0 => {
                format!("pg_catalog.date_bin('{length} microseconds'::pg_catalog.interval, $1, {EPOCH})")
            }
            // An hour that the clock shows twice stays two hours.
            Bucket::Fixed { length: 3_600_000_000, .. } if kind == Kind::Zoned => {
                format!("pg_catalog.date_trunc('hour', $1, {zone_text})")
            }
            Bucket::Fixed { length, .. } if unit(length).is_some() => {
                truncated(unit(length).unwrap_or_default())
            }
            Bucket::Fixed { length, .. } => back(format!(
                "pg_catalog.date_bin('{length} microseconds'::pg_catalog.interval, {local}, '0001-01-01'::pg_catalog.timestamp)"
            )),
            Bucket::Months(m) => {
                let unit = match m {
                    1 => Some("month"),
                    3 => Some("quarter"),
                    12 => Some("year"),
                    _ => None,
                };
                match unit {
                    Some(unit) => truncated(unit),
                    None => back(format!(
                        "pg_catalog.date_trunc('month', {local}) OPERATOR(pg_catalog.-) pg_catalog.make_interval(months => \
                         (pg_catalog.date_part('year', {local}) OPERATOR(pg_catalog.*) 12 OPERATOR(pg_catalog.+) \
                         pg_catalog.date_part('month', {local}) OPERATOR(pg_catalog.-) 1)::pg_catalog.int4 OPERATOR(pg_catalog.%) {m})"
                    )),
                }
            }
        }
    }
}

/// The difference between two moments of which one bucket at least, of those that a zone's clock cuts, has the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// So many microseconds of time.
    Time(i64),
    /// So much on the clock, as an interval is written.
    Clock(String),
}

impl Bucket {
    /// The length of a level's buckets where each of them has the same, counted from [`EPOCH`], in microseconds; None where the
    /// clock of `zone` cuts them.
    pub fn absolute_length(self, zone: &str) -> Option<i64> {
        match self {
            Bucket::Fixed { length, .. }
                if zone.eq_ignore_ascii_case("utc") || QUARTER_HOUR % length == 0 =>
            {
                Some(length)
            }
            _ => None,
        }
    }

    /// How to go through a level's buckets that the clock of a zone cuts. Changes of clocks make a bucket shorter than a day
    /// half as long as others at the least: clocks go forward by an hour or less where an hour is looked at, and buckets of
    /// less than an hour that are cut by the clock divide it.
    pub fn step(self) -> Step {
        match self {
            Bucket::Months(months) => Step::Clock(format!("{months} months")),
            Bucket::Fixed { length, .. } if length >= DAY => Step::Clock(format!("{} days", length / DAY)),
            Bucket::Fixed { length, .. } => Step::Time((length / 2).clamp(1, QUARTER_HOUR)),
            Bucket::Unknown => Step::Time(QUARTER_HOUR),
        }
    }
}

/// The beginning of the bucket of `length` microseconds, counted from [`EPOCH`], that has a moment: both in microseconds from
/// 2000-01-01 in UTC on, as PostgreSQL counts them.
pub fn bin_of(at: i64, length: i64) -> i64 {
    /// Days from 0001-01-01 to 2000-01-01.
    const DAYS: i64 = 730_119;
    let since = i128::from(at) + i128::from(DAYS) * i128::from(DAY);
    at.saturating_sub(since.rem_euclid(i128::from(length)) as i64)
}

/// The unit of `date_trunc` that gives buckets so long.
fn unit(length: i64) -> Option<&'static str> {
    Some(match length {
        60_000_000 => "minute",
        3_600_000_000 => "hour",
        DAY => "day",
        _ if length == 7 * DAY => "week",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn trunc(length: i64) -> Bucket {
        Bucket::Fixed { length, offset: 0, absolute: false }
    }

    #[test]
    fn what_nests() {
        let five = Bucket::Fixed { length: 5 * MINUTE, offset: 0, absolute: true };
        let odd = Bucket::Fixed { length: 5 * MINUTE, offset: MINUTE, absolute: true };
        let hour = Bucket::Fixed { length: 60 * MINUTE, offset: 0, absolute: true };
        assert!(trunc(MINUTE).nests_in(trunc(60 * MINUTE), false));
        assert!(trunc(60 * MINUTE).nests_in(trunc(DAY), false));
        assert!(trunc(DAY).nests_in(Bucket::Months(1), false));
        assert!(!trunc(7 * DAY).nests_in(Bucket::Months(1), true));
        assert!(trunc(DAY).nests_in(trunc(7 * DAY), true));
        assert!(!trunc(60 * MINUTE).nests_in(trunc(90 * MINUTE), true));
        assert!(!trunc(60 * MINUTE).nests_in(trunc(60 * MINUTE), true));
        assert!(five.nests_in(trunc(DAY), false));
        assert!(!odd.nests_in(trunc(DAY), true));
        assert!(hour.nests_in(trunc(DAY), true));
        assert!(!hour.nests_in(trunc(DAY), false));
        assert!(Bucket::Months(1).nests_in(Bucket::Months(3), false));
        assert!(!Bucket::Months(2).nests_in(Bucket::Months(3), false));
        assert!(!Bucket::Unknown.nests_in(trunc(DAY), true));
    }

    #[test]
    fn bins_of_bins() {
        let level = |length| trunc(length).expression(Kind::Zoned, "UTC");
        let minute = bin("'00:01:00'::interval", "minute", "t.at");
        let hour = bin(&format!("'{} microseconds'::pg_catalog.interval", 60 * MINUTE), "hour", "t.at");
        assert_eq!(level_of(&level(60 * MINUTE), &minute), Some(hour.clone()));
        // A bin of a bin is one of what the finer is of.
        let fine = "date_trunc('second', t.at)";
        let of_fine = bin("'00:01:00'::interval", "minute", fine);
        assert_eq!(level_of(&level(DAY), &of_fine), Some(level(DAY).replace("$1", fine)));
        // One more step stays as it is.
        assert_eq!(level_of(&level(DAY), &bin("'00:01:00'::interval", "minute", &hour)), None);
        assert_eq!(level_of(&level(60 * MINUTE), &hour), None);
        assert_eq!(level_of(&level(MINUTE), &hour), None);
        assert_eq!(level_of(&level(5 * MINUTE), &minute), None, "no unit, no bin");
        assert_eq!(level_of(&level(DAY), &format!("({minute})")), None);
        assert_eq!(level_of(&trunc(DAY).expression(Kind::Zoned, "Europe/Berlin"), &minute), None);
    }

    #[test]
    fn levels_that_are_none() {
        assert!(Bucket::of_level(0, 0, 0).is_err());
        assert!(Bucket::of_level(5, 0, 0).is_err());
        assert!(Bucket::of_level(1, 1, 0).is_err());
        assert!(Bucket::of_level(0, 1, 1).is_err());
        assert!(Bucket::of_level(0, 0, 7 * 60 * MINUTE).is_err());
        assert_eq!(Bucket::of_level(0, 1, 0), Ok(trunc(DAY)));
        assert_eq!(Bucket::of_level(0, 0, 24 * 60 * MINUTE), Ok(trunc(DAY)));
        assert_eq!(Bucket::of_level(24, 0, 0), Ok(Bucket::Months(24)));
    }
}
