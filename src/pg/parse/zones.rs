//! Clocks of time zones: from when on their hours are in step with those of UTC, and their days follow each other.
use crate::pg::v1::Call;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;
/// Microseconds from 1970 to 2000.
const EPOCH: i64 = 946_684_800;
/// Rules are the same every 400 years; nothing new comes after.
const LAST: i64 = (2600 - 1970) * 31_556_952;

/// A moment that is always past.
pub const ALWAYS: i64 = i64::MIN;
/// One that is not.
pub const NEVER: i64 = i64::MAX;

/// A time zone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Zone(*const pg_sys::pg_tz);

thread_local! {
    /// From when on zones, which are kept for good, are in step.
    static KNOWN: RefCell<HashMap<(usize, i64), i64>> = RefCell::default();
}

/// A change of the clock: when, in seconds since 1970, and how many seconds it was and is ahead of UTC.
#[derive(Debug, Clone, Copy)]
struct Change {
    at: i64,
    before: i64,
    after: i64,
}

impl Zone {
    /// That of the session.
    pub fn session() -> Zone {
        // SAFETY: reads a variable of this process, which points to a zone that is kept for good.
        Zone(unsafe { pg_sys::session_timezone })
    }

    /// The zone with this name. What may be an abbreviation, which means something else to some functions, is none.
    pub fn named(name: &str) -> Option<Zone> {
        if !name.contains('/') && !["utc", "gmt"].contains(&name.to_ascii_lowercase().as_str()) {
            return None;
        }
        let name = CString::new(name).ok()?;
        // SAFETY: looks the name up among the zones; what it gives is kept for good.
        let zone = unsafe { pg_sys::pg_tzset(name.as_ptr()) };
        (!zone.is_null()).then_some(Zone(zone))
    }

    /// The name.
    pub fn name(self) -> String {
        // SAFETY: the zone and its name are kept for good.
        unsafe {
            let name: *const c_char = pg_sys::pg_get_timezone_name(self.0.cast_mut());
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }

    /// Its changes of the clock, and how it is after the last that is looked at; None where the zone cannot be read.
    fn changes(self) -> Option<(Vec<Change>, i64)> {
        let (mut found, mut now) = (Vec::new(), -300_000_000_000i64);
        loop {
            let (mut before, mut after, mut was, mut is, mut at) = (0, 0, 0, 0, 0);
            // SAFETY: the zone is kept for good; all the rest is written by the callee.
            let told = unsafe {
                pg_sys::pg_next_dst_boundary(
                    &now,
                    &mut before,
                    &mut was,
                    &mut at,
                    &mut after,
                    &mut is,
                    self.0,
                )
            };
            match told {
                1 if at > now && found.len() < 5000 => {
                    found.push(Change { at, before, after });
                    if at > LAST {
                        return Some((found, after));
                    }
                    now = at;
                }
                0 => return Some((found, before)),
                _ => return None,
            }
        }
    }

    /// The first moment, in microseconds since 2000, from which on each bucket of `step` microseconds of UTC is one of the
    /// zone's clock.
    pub fn in_step(self, step: i64) -> i64 {
        if SECOND % step == 0 {
            return ALWAYS;
        }
        if step % SECOND != 0 {
            return NEVER;
        }
        let known = KNOWN.with_borrow(|known| known.get(&(self.0 as usize, step)).copied());
        known.unwrap_or_else(|| {
            let seconds = step / SECOND;
            let from = self.since(|offset| offset % seconds == 0, |c| (c.at - EPOCH) % seconds == 0);
            KNOWN.with_borrow_mut(|known| known.insert((self.0 as usize, step), from));
            from
        })
    }

    /// The first moment from which on days follow each other: no clock is put back into the day before.
    pub fn days_in_order(self) -> i64 {
        let day = |c: &Change, offset: i64, back: i64| (c.at + offset - back).div_euclid(DAY);
        self.since(|_| true, |c| day(c, c.before, 1) <= day(c, c.after, 0))
    }

    /// Two days after the last change that is not `fine`, or time that is not.
    fn since(self, fine_offset: impl Fn(i64) -> bool, fine: impl Fn(&Change) -> bool) -> i64 {
        let Some((changes, last)) = self.changes() else { return NEVER };
        if !fine_offset(last) {
            return NEVER;
        }
        let bad = changes.iter().rev().find(|c| !fine_offset(c.before) || !fine_offset(c.after) || !fine(c));
        match bad {
            None => ALWAYS,
            Some(c) if c.at > LAST - 400 * 31_556_952 => NEVER,
            Some(c) => (c.at - EPOCH + 2 * DAY) * SECOND,
        }
    }
}

crate::v1!(rollup_in_step_from, in_step_from);

/// From when on buckets of so many microseconds are in step with the session's clock; with a zone, whether that is it.
fn in_step_from(call: &mut Call) -> pg_sys::Datum {
    let step = call.i64(0).unwrap_or_default();
    let zone = call.bytes(1).map(|b| String::from_utf8_lossy(b).into_owned());
    pg_sys::Datum::from(session_in_step(step, zone.as_deref()))
}

/// The same of this session.
pub fn session_in_step(step: i64, zone: Option<&str>) -> i64 {
    match zone {
        Some(name) if Zone::named(name) == Some(Zone::session()) => ALWAYS,
        Some(_) => NEVER,
        None if step <= 0 => NEVER,
        None => Zone::session().in_step(step),
    }
}
