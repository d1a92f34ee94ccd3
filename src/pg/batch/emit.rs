//! Aggregates of a query: how their states are kept, and what comes of a state when all rows were seen.
use super::called::{Called, Callee};
use super::known;
use super::states::{Way, plain};
use crate::pg::aggcontext::Context;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// Columns of pg_aggregate, which the bindings leave out.
const TRANSITION: i16 = 4;
const FINISH: i16 = 5;
const SERIALIZE: i16 = 7;
const EXTRA: i16 = 12;
const INITIAL: i16 = 21;

/// What pg_aggregate says.
pub struct About {
    pub transition: pg_sys::Oid,
    finish: pg_sys::Oid,
    serialize: pg_sys::Oid,
    extra: bool,
    initial: Option<Datum>,
    pub state: pg_sys::Oid,
}

impl About {
    /// # Safety
    /// `call` is a live call of an aggregate, whose state's type is known.
    pub unsafe fn of(call: *mut pg_sys::Aggref) -> Option<About> {
        // SAFETY: the tuple of the cache is released after what is needed was copied.
        unsafe {
            let cache = pg_sys::SysCacheIdentifier::AGGFNOID as i32;
            let tuple = pg_sys::SearchSysCache1(cache, Datum::from((*call).aggfnoid));
            if tuple.is_null() {
                return None;
            }
            let column = |number: i16| {
                let mut null = true;
                let value = pg_sys::SysCacheGetAttr(cache, tuple, number, &mut null);
                (!null).then_some(value)
            };
            let function = |number| pg_sys::Oid::from(column(number).map_or(0, |value| value.value() as u32));
            let initial = column(INITIAL).map(|text| {
                let (mut input, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
                pg_sys::getTypeInputInfo((*call).aggtranstype, &mut input, &mut parameter);
                let text = pg_sys::text_to_cstring(text.cast_mut_ptr());
                pg_sys::OidInputFunctionCall(input, text, parameter, -1)
            });
            let about = About {
                transition: function(TRANSITION),
                finish: function(FINISH),
                serialize: function(SERIALIZE),
                extra: column(EXTRA).is_some_and(|value| value.value() & 0xff != 0),
                initial,
                state: (*call).aggtranstype,
            };
            pg_sys::ReleaseSysCache(tuple);
            Some(about)
        }
    }

    /// Whether there is no state before the first row.
    pub fn begins_with_nothing(&self) -> bool {
        self.initial.is_none()
    }
}

/// One aggregate.
pub struct Aggregate {
    pub way: Way,
    /// Makes of a state what is handed up: the final function, or that which another process can read; None where it
    /// is the state itself.
    finish: Option<Callee>,
    length: i16,
}

impl Aggregate {
    /// # Safety
    /// `call` is one that `offer` took; `aggregate` is what its functions are told that they are called by, and
    /// `context` its memory. The current memory context outlives the value.
    pub unsafe fn new(
        call: *mut pg_sys::Aggref,
        partial: bool,
        aggregate: *mut pg_sys::AggState,
        context: Context,
    ) -> Option<Aggregate> {
        // SAFETY: functions are given as many arguments as the catalog says that they take, of the types it says.
        unsafe {
            let about = About::of(call)?;
            let (mut length, mut by_value) = (0, false);
            pg_sys::get_typlenbyval(about.state, &mut length, &mut by_value);
            let arguments = pgrx::PgList::<pg_sys::TargetEntry>::from_pg((*call).args).len();
            let way = match (plain((*call).aggfnoid), known::kernel(about.transition)) {
                (Some(plain), _) => Way::plain(plain),
                (None, Some(kernel)) if kernel.arguments == arguments && about.initial.is_none() => {
                    Way::kernel(kernel, context)
                }
                _ => {
                    let transition =
                        Callee::new(about.transition, arguments + 1, (*call).inputcollid, aggregate);
                    Way::Called(Called::new(transition, about.initial, length, by_value, context))
                }
            };
            let (function, extra) = match partial {
                true if about.state == pg_sys::INTERNALOID => (about.serialize, 0),
                true => (pg_sys::InvalidOid, 0),
                false => (about.finish, if about.extra { arguments } else { 0 }),
            };
            let finish = (function != pg_sys::InvalidOid).then(|| {
                let mut finish = Callee::new(function, 1 + extra, (*call).inputcollid, aggregate);
                (0..extra).for_each(|n| finish.set(n + 1, None));
                finish
            });
            Some(Aggregate { way, finish, length })
        }
    }

    /// The value of a group. It lies in the current memory context, or in the aggregate's.
    pub fn value(&mut self, group: usize) -> Option<Datum> {
        let mut state = self.way.state(group);
        if self.length == -1 {
            // SAFETY: a varlena; an expanded one is handed out such that nobody writes to it.
            state = state.map(|state| unsafe { pg_sys::MakeExpandedObjectReadOnlyInternal(state) });
        }
        match &mut self.finish {
            None => state,
            Some(finish) => {
                finish.set(0, state);
                finish.call()
            }
        }
    }
}
