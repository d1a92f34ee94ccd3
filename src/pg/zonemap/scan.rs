//! Reading the map: which pages of the table may hold rows that a query asks for.
use super::buffer::{self, blocks, layout};
use super::page::{Bounds, Layout, ZONE};
use super::summarize::{number, width};
use crate::pg::interrupt;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

mod unguarded {
    unsafe extern "C-unwind" {
        pub fn tbm_add_page(bitmap: *mut pgrx::pg_sys::TIDBitmap, block: u32);
    }
}

/// The strategies of the operator classes: `<`, `<=`, `=`, `>=`, `>`.
const LESS: u16 = 1;
const AT_MOST: u16 = 2;
const EQUAL: u16 = 3;
const AT_LEAST: u16 = 4;
const GREATER: u16 = 5;

/// A condition on a column of the index.
struct Condition {
    column: usize,
    strategy: u16,
    with: With,
}

enum With {
    /// A value of the column's own type.
    Own(i64),
    /// A value of another type, that the operator's functions compare: with the greatest, with the least of a zone, each
    /// moved outwards by `slack`.
    Other { argument: Datum, collation: pg_sys::Oid, functions: [pg_sys::Oid; 2], slack: i64 },
}

/// How far the bounds of times without a zone are moved outwards before they are compared with an instant.
///
/// Such a time is an instant only by the session's time zone, and a later time can be an earlier instant: where clocks
/// jump from 2:00 to 3:00, 2:30 is taken for the instant of 3:30, which is after that of 3:00. What lies between two
/// times then lies between their instants except for the width of the jump. The widest known, across the date line, is a
/// day; so days keep their order as they are.
const JUMP: i64 = 2 * 86_400_000_000;

impl Condition {
    /// # Safety
    /// `key` is a condition on `index`.
    unsafe fn of(key: &pg_sys::ScanKeyData, index: pg_sys::Relation) -> Condition {
        let column = key.sk_attno as usize - 1;
        // SAFETY: the key's column is one of the index. An operator that its family lacks has function 0.
        unsafe {
            let (family, own) = (*(*index).rd_opfamily.add(column), *(*index).rd_opcintype.add(column));
            let with = if [pg_sys::InvalidOid, own].contains(&key.sk_subtype) {
                With::Own(number(key.sk_argument, width(index, column)))
            } else {
                let function = |strategy: u16| {
                    let operator = pg_sys::get_opfamily_member(family, own, key.sk_subtype, strategy as i16);
                    pg_sys::get_opcode(operator)
                };
                let functions = match key.sk_strategy {
                    EQUAL => [function(AT_LEAST), function(AT_MOST)],
                    _ => [key.sk_func.fn_oid; 2],
                };
                let local = own == pg_sys::TIMESTAMPOID && key.sk_subtype == pg_sys::TIMESTAMPTZOID;
                let slack = if local { JUMP } else { 0 };
                With::Other { argument: key.sk_argument, collation: key.sk_collation, functions, slack }
            };
            Condition { column, strategy: key.sk_strategy, with }
        }
    }

    /// Whether a row between the bounds may satisfy the condition.
    fn may_hold(&self, bounds: Bounds) -> bool {
        if bounds.is_none() {
            return false;
        }
        match &self.with {
            With::Own(v) => match self.strategy {
                LESS => bounds.least < *v,
                AT_MOST => bounds.least <= *v,
                EQUAL => bounds.least <= *v && *v <= bounds.greatest,
                AT_LEAST => bounds.greatest >= *v,
                GREATER => bounds.greatest > *v,
                _ => true,
            },
            With::Other { argument, collation, functions, slack } => {
                let least = bounds.least.saturating_sub(*slack);
                let greatest = bounds.greatest.saturating_add(*slack);
                // SAFETY: the functions take a value of the column's type, as bounds are, and one of the argument's.
                let holds = |function: pg_sys::Oid, bound: i64| unsafe {
                    function == pg_sys::InvalidOid
                        || pg_sys::OidFunctionCall2Coll(function, *collation, Datum::from(bound), *argument)
                            .value()
                            != 0
                };
                match self.strategy {
                    LESS | AT_MOST => holds(functions[1], least),
                    EQUAL => holds(functions[1], least) && holds(functions[0], greatest),
                    AT_LEAST | GREATER => holds(functions[0], greatest),
                    _ => true,
                }
            }
        }
    }
}

/// Adds the pages of all zones to the bitmap whose rows may satisfy the conditions; returns an estimate of the rows.
///
/// # Safety
/// `scan` must be a scan that was begun on a zone map, `bitmap` the bitmap to fill.
pub unsafe fn fill(scan: pg_sys::IndexScanDesc, bitmap: *mut pg_sys::TIDBitmap) -> i64 {
    // SAFETY: PostgreSQL hands over a live scan; the table of its index is locked by whoever scans it.
    unsafe {
        let index = (*scan).indexRelation;
        let keys = match (*scan).numberOfKeys {
            0 => &[],
            n => std::slice::from_raw_parts((*scan).keyData, n as usize),
        };
        if keys.iter().any(|k| k.sk_flags & pg_sys::SK_ISNULL as i32 != 0) {
            return 0;
        }
        let conditions: Vec<Condition> = keys.iter().map(|k| Condition::of(k, index)).collect();
        let table = pg_sys::IndexGetRelation((*index).rd_id, false);
        let table = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let pages = blocks(table);
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);

        let (layout, described) = (layout(index), blocks(index));
        let zones = pages.div_ceil(ZONE);
        let (mut first, mut added, mut page) = (0, 0, [0; buffer::WORDS]);
        while first < zones {
            interrupt::check();
            let (block, here) = (layout.place(first).0, (zones - first).min(layout.per_page()));
            let matching = if block < described {
                // A copy: functions are not to be called under the page's lock.
                buffer::read(index, block, |words| page.copy_from_slice(words));
                matching(layout, &page, here as usize, &conditions)
            } else {
                (0..here).collect()
            };
            for zone in matching {
                let start = (first + zone) * ZONE;
                for page in start..start.saturating_add(ZONE).min(pages) {
                    unguarded::tbm_add_page(bitmap, page);
                    added += 1;
                }
            }
            first += layout.per_page();
        }
        // The bitmap knows pages, not rows: what BRIN says in this place.
        added * 10
    }
}

/// The entries, of the first `here`, whose zones may hold rows that satisfy all conditions.
fn matching(layout: Layout, page: &[u64], here: usize, conditions: &[Condition]) -> Vec<u32> {
    let may_hold = |at: usize| {
        conditions.iter().all(|c| layout.bounds(page, at, c.column).is_none_or(|bounds| c.may_hold(bounds)))
    };
    (0..here).filter(|at| may_hold(*at)).map(|at| at as u32).collect()
}
