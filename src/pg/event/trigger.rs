//! What a trigger function is told: which rows of which table change.
use crate::pg::v1::Call;
use pgrx::datum::DatumWithOid;
use pgrx::{PgList, PgMemoryContexts, pg_sys};
use std::ffi::{CStr, CString};
use std::num::NonZeroUsize;

/// A change that fires a trigger.
pub struct Change {
    data: *const pg_sys::TriggerData,
}

/// Microseconds, as PostgreSQL counts time; the largest and the least number are the infinities.
pub type Micros = i64;

const DAY: i64 = 86_400_000_000;

/// The first moment that no time stamp can be: the year 294277.
pub const END: Micros = 9_223_371_331_200_000_000;

impl Change {
    /// The change that calls this function; None where it is called as something else.
    pub fn of(call: &Call) -> Option<Change> {
        // SAFETY: the call is live; called as a trigger, its context is what a trigger is told.
        unsafe {
            pgrx::trigger_support::called_as_trigger(call.raw())
                .then(|| Change { data: (*call.raw()).context.cast() })
        }
    }

    /// The table, or the partition, whose rows change.
    pub fn relation(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open while the trigger runs.
        unsafe { (*(*self.data).tg_relation).rd_id }
    }

    /// No row but the whole table changes.
    pub fn is_of_the_table(&self) -> bool {
        // SAFETY: the data are live while the trigger runs.
        pgrx::trigger_support::trigger_fired_for_statement(unsafe { (*self.data).tg_event })
    }

    /// The times that the row holds in a column before and after, each None where it is NULL. None where that cannot be
    /// told: no row but the whole table changes, the table has no such column any more, or one of another type.
    pub fn times(&self, column: &str) -> Option<Vec<Option<Micros>>> {
        if self.is_of_the_table() {
            return None;
        }
        // SAFETY: the tuples and their descriptor are live.
        unsafe {
            let data = &*self.data;
            let desc = (*data.tg_relation).rd_att;
            let tuples = [data.tg_trigtuple, data.tg_newtuple].into_iter().filter(|tuple| !tuple.is_null());
            tuples.map(|tuple| time_of(desc, tuple, column)).collect()
        }
    }

    /// What the trigger returns to let the change happen.
    pub fn proceed(&self) -> pg_sys::Datum {
        // SAFETY: the data are live while the trigger runs.
        let data = unsafe { &*self.data };
        pg_sys::Datum::from(if data.tg_newtuple.is_null() { data.tg_trigtuple } else { data.tg_newtuple })
    }
}

/// The time that a row holds in a column, None where it is NULL. None where that cannot be told.
///
/// # Safety
/// `tuple` must be a live row of a table with these columns.
pub unsafe fn time_of(
    desc: pg_sys::TupleDesc,
    tuple: pg_sys::HeapTuple,
    column: &str,
) -> Option<Option<Micros>> {
    let name = CString::new(column).ok()?;
    // SAFETY: the number is of a column of the row's. A datum is taken for what its type says now, in this partition, and
    // for nothing where that is no type of times.
    unsafe {
        let number = pg_sys::SPI_fnumber(desc, name.as_ptr());
        let column = NonZeroUsize::new(usize::try_from(number).ok()?)?;
        let time = match pg_sys::getBaseType(pg_sys::SPI_gettypeid(desc, number)) {
            pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID => |value: pg_sys::Datum| value.value() as i64,
            pg_sys::DATEOID => |value: pg_sys::Datum| midnight(value.value() as i32),
            _ => return None,
        };
        Some(pgrx::htup::heap_getattr_raw(tuple, column, desc).map(time))
    }
}

/// The moment at which a day begins, as if in UTC.
pub fn midnight(days: i32) -> Micros {
    match days {
        i32::MIN => i64::MIN,
        i32::MAX => i64::MAX,
        // Days go on for millions of years after the last time stamp.
        days => (i64::from(days)).saturating_mul(DAY).clamp(-END, END),
    }
}

/// A moment as an argument of a statement.
pub fn timestamptz(at: Option<Micros>) -> DatumWithOid<'static> {
    // SAFETY: a timestamptz is its microseconds.
    unsafe { DatumWithOid::new(at, pg_sys::TIMESTAMPTZOID) }
}

/// What `make` gives, made once for all the rows of a statement.
pub fn once<T: 'static>(call: &Call, make: impl FnOnce() -> T) -> &T {
    // SAFETY: this function's calls alone use fn_extra of its own call information, always for one T; the value
    // lives as long as the context that the information lies in.
    unsafe {
        let info = (*call.raw()).flinfo;
        if (*info).fn_extra.is_null() {
            (*info).fn_extra = PgMemoryContexts::For((*info).fn_mcxt).leak_and_drop_on_delete(make()).cast();
        }
        &*(*info).fn_extra.cast::<T>()
    }
}

/// The transaction, or the part of it, that is under way.
pub fn subtransaction() -> (i64, u32) {
    // SAFETY: reads a variable of this process.
    (crate::pg::xact::own_transaction_id(), unsafe { pg_sys::GetCurrentSubTransactionId() })
}

/// The number that the next statement of this transaction will have: one that is run at once, and by nothing else.
pub fn next_command() -> u32 {
    // SAFETY: plain calls inside a transaction.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::GetCurrentCommandId(false)
    }
}

/// The number of the statement that fires a trigger.
///
/// A statement that writes uses its number up as it starts, and whatever code it calls takes the next one for each
/// statement of its own that may write: so no two of them that are under way at once have the same.
pub fn command() -> Option<u32> {
    // SAFETY: the snapshot is looked at while it is the active one.
    unsafe { pg_sys::ActiveSnapshotSet().then(|| (*pg_sys::GetActiveSnapshot()).curcid) }
}

/// The statement that fires this event trigger; None where it is called as something else.
fn parse_tree(call: &Call) -> Option<*mut pg_sys::Node> {
    // SAFETY: the tag says what the node is.
    unsafe {
        let context = (*call.raw()).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData {
            return None;
        }
        let tree = (*context.cast::<pg_sys::EventTriggerData>()).parsetree;
        (!tree.is_null()).then_some(tree)
    }
}

/// Whether this function is an event trigger's.
pub fn is_event(call: &Call) -> bool {
    parse_tree(call).is_some()
}

/// What a command is about to drop, with all that depends on it.
pub enum Cascade {
    /// Extensions of these names.
    Extensions(Vec<String>),
    /// Schemas of these names.
    Schemas(Vec<String>),
    /// What these roles own.
    Owned(Vec<pg_sys::Oid>),
}

/// What the command that fires this event trigger drops by CASCADE.
pub fn cascade(call: &Call) -> Option<Cascade> {
    let tree = parse_tree(call)?;
    // SAFETY: the tags say what the nodes are; names of extensions and schemas are lists of strings.
    unsafe {
        match (*tree).type_ {
            pg_sys::NodeTag::T_DropStmt => {
                let drop = &*tree.cast::<pg_sys::DropStmt>();
                if drop.behavior != pg_sys::DropBehavior::DROP_CASCADE {
                    return None;
                }
                let names = PgList::<pg_sys::Node>::from_pg(drop.objects)
                    .iter_ptr()
                    .filter(|n| (**n).type_ == pg_sys::NodeTag::T_String)
                    .map(|n| {
                        CStr::from_ptr((*n.cast::<pg_sys::String>()).sval).to_string_lossy().into_owned()
                    })
                    .collect();
                match drop.removeType {
                    pg_sys::ObjectType::OBJECT_EXTENSION => Some(Cascade::Extensions(names)),
                    pg_sys::ObjectType::OBJECT_SCHEMA => Some(Cascade::Schemas(names)),
                    _ => None,
                }
            }
            pg_sys::NodeTag::T_DropOwnedStmt => {
                let drop = &*tree.cast::<pg_sys::DropOwnedStmt>();
                if drop.behavior != pg_sys::DropBehavior::DROP_CASCADE {
                    return None;
                }
                let roles = PgList::<pg_sys::RoleSpec>::from_pg(drop.roles)
                    .iter_ptr()
                    .map(|role| pg_sys::get_rolespec_oid(role, true))
                    .collect();
                Some(Cascade::Owned(roles))
            }
            _ => None,
        }
    }
}
