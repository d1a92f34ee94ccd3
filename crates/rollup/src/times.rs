//! Arithmetic on times near the ends of what a type can hold: it never fails, what lies too near the end becomes the infinity.
use crate::bucket::Kind;

const DAY: i64 = 86_400_000_000;
/// Of times up to this day every zone's clock shows time stamps.
const LAST: &str = "294276-01-01";

/// A key, `micros` or a little more later.
pub fn later(kind: Kind, key: &str, micros: i64) -> String {
    let t = kind.type_name();
    let (last, length) = match kind {
        Kind::Date => ("5874897-12-30", format!("{}", micros / DAY + 1)),
        _ => (LAST, interval(micros)),
    };
    let minus = format!("'{last}'::{t} OPERATOR(pg_catalog.-) {length}");
    format!(
        "CASE WHEN {key} OPERATOR(pg_catalog.>) ({minus}) THEN 'infinity'::{t} ELSE {key} OPERATOR(pg_catalog.+) {length} END"
    )
}

/// So many microseconds as an interval.
pub fn interval(micros: i64) -> String {
    format!("'{micros} microseconds'::pg_catalog.interval")
}

/// A time of a row as a timestamptz, whatever its type.
pub fn zoned(time: &str) -> String {
    // Days go on where time stamps have ended.
    format!(
        "CASE WHEN {time} OPERATOR(pg_catalog.>) '294276-12-30'::pg_catalog.date THEN 'infinity'::pg_catalog.timestamptz ELSE {time}::pg_catalog.timestamptz END"
    )
}

/// The same of a column without time zone, as if its times were those of UTC.
pub fn as_if_utc(time: &str) -> String {
    format!(
        "CASE WHEN {time} OPERATOR(pg_catalog.>) '294276-12-30'::pg_catalog.date THEN 'infinity'::pg_catalog.timestamptz ELSE pg_catalog.timezone('UTC', {time}::pg_catalog.timestamp) END"
    )
}

/// A moment in microseconds since 2000 as PostgreSQL reads it whatever is set, without a time zone; None of one that is not in the
/// years from 1 to 9999.
pub fn text_of(micros: i64) -> Option<String> {
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    // Days of the calendar that begins with March of the year 0, in eras of 400 years.
    let day = days + 730_425;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + i64::from(month > 9);
    let month = if month > 9 { month - 9 } else { month + 3 };
    let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
    (1..=9999).contains(&year).then(|| {
        format!(
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{micros:06}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_as_text() {
        let text = |micros| text_of(micros).unwrap();
        assert_eq!(text(0), "2000-01-01 00:00:00.000000");
        assert_eq!(text(-1), "1999-12-31 23:59:59.999999");
        assert_eq!(text(59 * DAY), "2000-02-29 00:00:00.000000");
        assert_eq!(text(60 * DAY + 3_723_000_004), "2000-03-01 01:02:03.000004");
        assert_eq!(text(-36_465 * DAY), "1900-03-01 00:00:00.000000");
        assert_eq!(text(9_557 * DAY), "2026-03-02 00:00:00.000000");
        assert_eq!(text_of(i64::MAX), None);
        assert_eq!(text_of(i64::MIN), None);
        // Every day follows the one before it.
        let mut before = text(-700_000 * DAY);
        for day in -699_999..700_000 {
            let now = text(day * DAY);
            assert!(now > before, "{before} {now}");
            before = now;
        }
    }
}
