//! Aggregates that nothing is known of here: their functions are called as the executor calls them (nodeAgg.c).
use super::column::{Column, Rows};
use crate::pg::aggcontext::Context;
use crate::pg::array::Array;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// A function that is called again and again, with its arguments.
pub struct Callee {
    function: Box<pg_sys::FmgrInfo>,
    call: *mut pg_sys::FunctionCallInfoBaseData,
}

impl Callee {
    /// Of so many arguments, called by an aggregate: `aggregate` is what `AggCheckCallContext` finds.
    ///
    /// # Safety
    /// Called inside a query, whose memory is the current context and outlives the value; so does `aggregate`.
    pub unsafe fn new(
        function: pg_sys::Oid,
        arguments: usize,
        collation: pg_sys::Oid,
        aggregate: *mut pg_sys::AggState,
    ) -> Callee {
        // SAFETY: the call's information has room for its arguments. The box does not move what it holds.
        unsafe {
            let mut info = Box::<pg_sys::FmgrInfo>::default();
            pg_sys::fmgr_info_cxt(function, &mut *info, pg_sys::CurrentMemoryContext);
            let size = size_of::<pg_sys::FunctionCallInfoBaseData>()
                + arguments * size_of::<pg_sys::NullableDatum>();
            let call = pg_sys::palloc0(size).cast::<pg_sys::FunctionCallInfoBaseData>();
            (*call).flinfo = &mut *info;
            (*call).context = aggregate.cast();
            (*call).fncollation = collation;
            (*call).nargs = arguments as i16;
            Callee { function: info, call }
        }
    }

    #[inline(always)]
    pub fn set(&mut self, n: usize, value: Option<Datum>) {
        // SAFETY: `new` made room for as many arguments as callers set.
        unsafe {
            assert!(n < (*self.call).nargs as usize);
            let argument = &mut *(*self.call).args.as_mut_ptr().add(n);
            argument.isnull = value.is_none();
            argument.value = value.unwrap_or(Datum::from(0usize));
        }
    }

    /// Calls it with what was set; a strict function of a NULL gives NULL. Frames below own nothing.
    #[inline(always)]
    pub fn call(&mut self) -> Option<Datum> {
        // SAFETY: the function takes what was set, as the catalog says, which is what its oid was found by.
        unsafe {
            if self.function.fn_strict
                && (0..(*self.call).nargs as usize).any(|n| (*(*self.call).args.as_ptr().add(n)).isnull)
            {
                return None;
            }
            (*self.call).isnull = false;
            let function = self.function.fn_addr?;
            let value = function(self.call);
            (!(*self.call).isnull).then_some(value)
        }
    }
}

mod unguarded {
    unsafe extern "C-unwind" {
        pub fn datumCopy(value: super::Datum, by_value: bool, length: std::ffi::c_int) -> super::Datum;
    }
}

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Held {
    /// No row yet, and the function is strict and has nothing to begin with: the first value is the state.
    Nothing,
    Null,
    Value,
}

/// The states of an aggregate whose transition function is called for each row.
pub struct Called {
    transition: Callee,
    strict: bool,
    by_value: bool,
    length: i16,
    initial: Option<Datum>,
    words: Array<u64>,
    held: Array<Held>,
    context: Context,
}

impl Called {
    /// `initial` is the state before any row; `length` and `by_value` are its type's.
    pub fn new(
        transition: Callee,
        initial: Option<Datum>,
        length: i16,
        by_value: bool,
        context: Context,
    ) -> Called {
        let strict = transition.function.fn_strict;
        Called {
            transition,
            strict,
            by_value,
            length,
            initial,
            words: Array::EMPTY,
            held: Array::EMPTY,
            context,
        }
    }

    pub fn grow(&mut self, groups: usize) {
        for _ in self.words.len()..groups {
            let (word, held) = match self.initial {
                Some(value) => (self.copied(value).value() as u64, Held::Value),
                None if self.strict => (0, Held::Nothing),
                None => (0, Held::Null),
            };
            self.words.extend(self.context, &[word]);
            self.held.extend(self.context, &[held]);
        }
    }

    pub fn forget(&mut self) {
        (self.words, self.held) = (Array::EMPTY, Array::EMPTY);
    }

    /// A value of the state's type in memory that lasts as long as the states.
    fn copied(&self, value: Datum) -> Datum {
        // SAFETY: the value is of the type whose length and kind these are.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.context.raw());
            let copy = unguarded::datumCopy(value, self.by_value, self.length.into());
            pg_sys::MemoryContextSwitchTo(before);
            copy
        }
    }

    pub fn add(&mut self, rows: Rows, arguments: &[&Column]) {
        for (row, group) in rows.iter() {
            if self.strict && arguments.iter().any(|a| a.word(row).is_none()) {
                continue;
            }
            let (word, held) = (self.words.slice()[group], self.held.slice()[group]);
            if self.strict {
                match held {
                    Held::Value => {}
                    Held::Null => continue,
                    Held::Nothing => {
                        let first = arguments.first().and_then(|a| a.word(row)).unwrap_or_default();
                        self.words.slice_mut()[group] = self.copied(Datum::from(first)).value() as u64;
                        self.held.slice_mut()[group] = Held::Value;
                        continue;
                    }
                }
            }
            self.transition.set(0, (held == Held::Value).then(|| Datum::from(word)));
            for (n, argument) in arguments.iter().enumerate() {
                self.transition.set(n + 1, argument.word(row).map(Datum::from));
            }
            let mut new = self.transition.call();
            if !self.by_value && new.map(|new| new.value() as u64) != (held == Held::Value).then_some(word) {
                new = self.replaced((held == Held::Value).then(|| Datum::from(word)), new);
            }
            self.words.slice_mut()[group] = new.map_or(0, |new| new.value() as u64);
            self.held.slice_mut()[group] = if new.is_some() { Held::Value } else { Held::Null };
        }
    }

    /// The new state where it will last, the old one freed: ExecAggCopyTransValue of execExprInterp.c.
    fn replaced(&self, old: Option<Datum>, new: Option<Datum>) -> Option<Datum> {
        // SAFETY: both are values of the state's type; the old one lies in the states' memory and goes nowhere else.
        unsafe {
            let new = new.map(|new| {
                let ours = self.is_expanded(new)
                    && pg_sys::MemoryContextGetParent((*pg_sys::DatumGetEOHP(new)).eoh_context)
                        == self.context.raw();
                if ours { new } else { self.copied(new) }
            });
            if let Some(old) = old {
                if self.is_expanded(old) {
                    pg_sys::DeleteExpandedObject(old);
                } else {
                    pg_sys::pfree(old.cast_mut_ptr());
                }
            }
            new
        }
    }

    /// Whether it is an expanded object that may be written to.
    unsafe fn is_expanded(&self, value: Datum) -> bool {
        const READ_WRITE: u8 = pg_sys::vartag_external::VARTAG_EXPANDED_RW as u8;
        let p = value.cast_mut_ptr::<u8>();
        // SAFETY: a varlena of such a header has a second byte.
        self.length == -1 && unsafe { *p == 1 && *p.add(1) == READ_WRITE }
    }

    pub fn state(&self, group: usize) -> Option<Datum> {
        (self.held.slice()[group] == Held::Value).then(|| Datum::from(self.words.slice()[group]))
    }
}
