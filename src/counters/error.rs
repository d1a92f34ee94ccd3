//! What the counters refuse, with its SQLSTATE, the key it is about and a hint.
use super::codec::Damaged;
use crate::pg::counter_map::Refused;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// Objects nest at most this deep, the outermost included.
pub const MAX_DEPTH: usize = 32;

/// What a value is called in a message.
pub const NUMBER: &str = "a number";
/// What a value is called in a message.
pub const OBJECT: &str = "an object";

/// Refuses a value that a map did not take: `this` under `path`.
#[cold]
pub fn refused(why: Refused, path: &[&[u8]], this: &str) -> ! {
    match why {
        Refused::Full => too_large(),
        Refused::Clash => cannot_add(path, this, if this == NUMBER { OBJECT } else { NUMBER }),
    }
}

/// Refuses bytes that are no compact state.
#[cold]
pub fn damaged<T>(_: Damaged) -> T {
    raise(
        PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
        "invalid state of a counter aggregate".into(),
        Some("Only what the aggregates themselves wrote is a jsonb_counter_state."),
    )
}

/// Refuses a number of rows or keys below zero.
#[cold]
pub fn negative(name: &str, value: i32) -> ! {
    refuse(format!("{name} is {value}, and must be at least 0"), "NULL stands for no limit.")
}

/// Refuses a number below zero in a bounded aggregate.
#[cold]
pub fn negative_number(key: &[u8]) -> ! {
    refuse(
        format!(
            "{} would get a number below 0, and max_keys bounds counters of numbers from 0 on",
            named(&[key])
        ),
        "Leave such rows out, as in FILTER (WHERE n >= 0), or count without max_keys.",
    )
}

/// Refuses a number that jsonb cannot hold.
#[cold]
pub fn not_finite(key: &[u8], what: &str) -> ! {
    refuse(
        format!("{} would get a number that is {what}", named(&[key])),
        "jsonb holds finite numbers only: leave such rows out, as in FILTER (WHERE n <> 'NaN').",
    )
}

/// Refuses two bounds on one counter.
#[cold]
pub fn unequal_bounds(one: Option<u32>, other: Option<u32>) -> ! {
    let name = |bound: Option<u32>| bound.map_or("NULL".into(), |k| k.to_string());
    refuse(
        format!("max_keys is {} and {} within one group", name(one), name(other)),
        "Give one max_keys to all rows of a group.",
    )
}

/// Refuses an object in a bounded aggregate.
#[cold]
pub fn bounded_object(key: &[u8]) -> ! {
    refuse(
        format!("{} is an object, and max_keys bounds counters of numbers only", named(&[key])),
        "Merge without max_keys, and cut the result with jsonb_counter_limit.",
    )
}

/// Refuses what jsonb cannot hold.
#[cold]
pub fn too_large() -> ! {
    raise(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        "the counter is larger than jsonb can be: 256 MB, 14.9 million keys".into(),
        Some("Count fewer keys in one counter."),
    )
}

/// Refuses a value that is neither a number nor an object.
#[cold]
pub fn not_a_counter(path: &[&[u8]], what: &str) -> ! {
    refuse(
        format!(
            "{} is {what}, not {}",
            named(path),
            if path.is_empty() { "an object" } else { "a number or an object" }
        ),
        "A counter is a jsonb object whose values are numbers or further counters, such as {\"de\": 12, \"fr\": 3}.",
    )
}

/// Refuses to add a number and an object.
#[cold]
pub fn cannot_add(path: &[&[u8]], this: &str, other: &str) -> ! {
    refuse(
        format!("{} is {this} in one counter and {other} in another", named(path)),
        "Counters can be merged when each key holds numbers in all of them or objects in all of them.",
    )
}

/// Refuses an object inside too many others.
#[cold]
pub fn too_deep(path: &[&[u8]]) -> ! {
    let deepest = &path[..path.len().min(3)];
    refuse(
        format!(
            "{} holds objects nested deeper than {MAX_DEPTH} levels: {} or more",
            named(deepest),
            path.len() + 1
        ),
        "Flatten the counter, or join the levels into one key.",
    )
}

fn named(path: &[&[u8]]) -> String {
    if path.is_empty() {
        return "the counter".into();
    }
    let quoted = |key: &&[u8]| {
        let key = String::from_utf8_lossy(key);
        let clipped: String = key.chars().take(64).collect();
        let more = if clipped.len() < key.len() { "..." } else { "" };
        format!("\"{}{more}\"", clipped.replace('\\', "\\\\").replace('"', "\\\""))
    };
    format!("counter key $.{}", path.iter().map(quoted).collect::<Vec<_>>().join("."))
}

fn refuse(message: String, hint: &str) -> ! {
    raise(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, Some(hint))
}

fn raise(code: PgSqlErrorCode, message: String, hint: Option<&str>) -> ! {
    let mut report = ErrorReport::new(code, message, "counters");
    if let Some(hint) = hint {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an error report returned")
}
