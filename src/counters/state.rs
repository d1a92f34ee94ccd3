//! What the counter aggregates share: combine, serialize, deserialize, the result, and the errors.
//!
//! A state is serialized as a version byte and its map. A map is its number of keys (u32), then for each key its length (u32), its bytes, a tag and the
//! value: 0 an i128, 1 the length (u32) and text of a numeric, 2 a map. All little-endian, so that it may cross machines.
use super::layout::{self, Object, Writer};
use crate::pg::aggcontext::Context;
use crate::pg::counter_map::{CounterMap, Value};
use crate::pg::numeric::Num;
use crate::pg::v1::Call;
use crate::v1;
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use std::ffi::CString;

v1!(jsonb_counter_combine, combine);
v1!(jsonb_counter_serialize, serialize);
v1!(jsonb_counter_deserialize, deserialize);
v1!(jsonb_counter_final, finish);

/// Objects nest at most this deep, the outermost included.
pub const MAX_DEPTH: usize = 32;

const VERSION: u8 = 1;
const WHOLE: u8 = 0;
const NUMBER: u8 = 1;
const CHILD: u8 = 2;

fn combine(call: &mut Call) -> Datum {
    let (into, from) = (CounterMap::state(call, 0), CounterMap::state(call, 1));
    match (into, from) {
        (None, None) => call.null(),
        (Some(map), None) => map.datum(),
        // The second state lives in a shorter context than the result: it is copied even when it is the first.
        (into, Some(from)) => {
            let map = match into {
                Some(map) => map,
                None => CounterMap::create(Context::of_aggregate(call)),
            };
            add_map(map, from, &mut Vec::new());
            map.datum()
        }
    }
}

fn add_map<'a>(sum: &mut CounterMap, from: &'a CounterMap, path: &mut Vec<&'a [u8]>) {
    for (key, value) in from.iter() {
        path.push(key);
        match value {
            Value::Whole(n) => match sum.add_whole(key, n) {
                Ok(()) => {}
                Err(_) => cannot_add(path, "a number", "an object"),
            },
            Value::Number(n) => match sum.add_number(key, n) {
                Ok(()) => {}
                Err(_) => cannot_add(path, "a number", "an object"),
            },
            Value::Child(inner) => match sum.child(key) {
                Ok(child) => add_map(child, inner, path),
                Err(_) => cannot_add(path, "an object", "a number"),
            },
        }
        path.pop();
    }
}

fn serialize(call: &mut Call) -> Datum {
    let Some(map) = CounterMap::state(call, 0) else { return call.null() };
    let mut out = vec![VERSION];
    write_map(map, &mut out);
    call.varlena(&out)
}

fn write_map(map: &CounterMap, out: &mut Vec<u8>) {
    out.extend((map.len() as u32).to_le_bytes());
    for (key, value) in map.iter() {
        write_bytes(key, out);
        match value {
            Value::Whole(n) => {
                out.push(WHOLE);
                out.extend(n.to_le_bytes());
            }
            Value::Number(n) => {
                out.push(NUMBER);
                write_bytes(n.text(), out);
            }
            Value::Child(child) => {
                out.push(CHILD);
                write_map(child, out);
            }
        }
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn deserialize(call: &mut Call) -> Datum {
    let Some(bytes) = call.bytes(0) else { return call.null() };
    let map = CounterMap::create(Context::current());
    let done = match bytes.split_first() {
        Some((&VERSION, mut rest)) => read_map(map, &mut rest, 1).filter(|()| rest.is_empty()),
        _ => None,
    };
    if done.is_none() {
        raise(
            PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
            "invalid state of a counter aggregate".into(),
            None,
        );
    }
    map.datum()
}

/// None where the bytes are not what `write_map` writes.
fn read_map(map: &mut CounterMap, rest: &mut &[u8], depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    for _ in 0..read_u32(rest)? {
        let key = read_bytes(rest)?;
        match *rest.split_off_first()? {
            WHOLE => {
                let n = i128::from_le_bytes(rest.split_off(..16)?.try_into().ok()?);
                map.add_whole(key, n).ok()?;
            }
            NUMBER => map.add_number(key, Num::parse(&CString::new(read_bytes(rest)?).ok()?)).ok()?,
            CHILD => read_map(map.child(key).ok()?, rest, depth + 1)?,
            _ => return None,
        }
    }
    Some(())
}

fn read_u32(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(rest.split_off(..4)?.try_into().ok()?))
}

fn read_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = read_u32(rest)? as usize;
    rest.split_off(..length)
}

/// The state as jsonb; NULL where nothing was counted.
fn finish(call: &mut Call) -> Datum {
    match CounterMap::state(call, 0) {
        Some(map) => emit(map),
        None => call.null(),
    }
}

/// `map` as a jsonb datum.
fn emit(map: &CounterMap) -> Datum {
    emit_document(&written(map))
}

fn written(map: &CounterMap) -> Writer<'_> {
    let mut out = Writer::default();
    for (key, value) in map.iter() {
        match value {
            Value::Whole(n) => out.number(key, |bytes| layout::write_whole(n, bytes)),
            Value::Number(n) => out.number(key, |bytes| bytes.extend_from_slice(n.bytes())),
            Value::Child(child) => {
                if out.object(key, written(child)).is_err() {
                    too_large();
                }
            }
        }
    }
    out.sort();
    out
}

/// A finished object as a jsonb datum.
pub fn emit_document(object: &Writer<'_>) -> Datum {
    match object.finish() {
        Ok(bytes) => crate::pg::v1::new_varlena(&bytes),
        Err(_) => too_large(),
    }
}

/// The object in a jsonb argument.
pub fn document(payload: &[u8]) -> Object<'_> {
    layout::document(payload).unwrap_or_else(|what| not_a_counter(&[], what))
}

/// Refuses what jsonb cannot hold.
pub fn too_large() -> ! {
    raise(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        "the counter is larger than jsonb can be, 256 MB".into(),
        Some("Count fewer keys in one counter."),
    )
}

/// Refuses a value that is neither a number nor an object.
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
pub fn cannot_add(path: &[&[u8]], this: &str, other: &str) -> ! {
    refuse(
        format!("{} is {this} in one counter and {other} in another", named(path)),
        "Counters can be merged when each key holds numbers in all of them or objects in all of them.",
    )
}

/// Refuses an object inside too many others.
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
