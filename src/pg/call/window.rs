//! Functions that are called for the rows of a window, which read other rows of the same partition.
//!
//! What a function remembers of a partition lies in memory of the partition, which PostgreSQL sets to zero when a partition
//! begins. A value that is given back is the row's own, as lag() gives it back: it lasts until the next row is asked for.
use super::v1::Call;
use pgrx::pg_sys;

/// `WindowObject` of windowapi.h.
#[repr(C)]
struct Object {
    _opaque: [u8; 0],
}

/// WINDOW_SEEK_HEAD: rows are counted from the first of the partition.
const FROM_FIRST: i32 = 1;

unsafe extern "C-unwind" {
    fn WinGetPartitionLocalMemory(window: *mut Object, size: pg_sys::Size) -> *mut std::ffi::c_void;
    /// Reads a number, and raises no error: it needs no guard.
    fn WinGetCurrentPosition(window: *mut Object) -> i64;
    /// Raises an error where the mark would go back alone.
    fn WinSetMarkPosition(window: *mut Object, position: i64);
    fn WinGetFuncArgInPartition(
        window: *mut Object,
        argument: i32,
        position: i32,
        seek: i32,
        mark: bool,
        is_null: *mut bool,
        is_out: *mut bool,
    ) -> pg_sys::Datum;
    fn WinGetFuncArgCurrent(window: *mut Object, argument: i32, is_null: *mut bool) -> pg_sys::Datum;
}

/// The window that a function is called in.
pub struct Window(*mut Object);

impl Window {
    /// The window of a call; None where the function is called without OVER.
    pub fn of(call: &Call) -> Option<Window> {
        // SAFETY: fcinfo is live for the call; a node of type WindowObjectData in its context is what WindowAgg passes.
        unsafe {
            let context = (*call.raw()).context;
            (!context.is_null() && (*context).type_ == pg_sys::NodeTag::T_WindowObjectData)
                .then_some(Window(context.cast()))
        }
    }

    /// What the function remembers of this partition: `N` numbers, the same `N` in each of its calls.
    pub fn memory<const N: usize>(&mut self) -> &mut [i64; N] {
        let get = || {
            // SAFETY: the window is live for the call.
            unsafe { WinGetPartitionLocalMemory(self.0, size_of::<[i64; N]>() as pg_sys::Size) }
        };
        // It is allocated for the first row, and there can be no error after that: a guard is half of the time of a call.
        let memory = match self.row() {
            // SAFETY: what is called is a function of PostgreSQL's.
            0 => unsafe { pg_sys::ffi::pg_guard_ffi_boundary(get) },
            _ => get(),
        };
        // SAFETY: the memory is the function's own, aligned, and zero at first.
        unsafe { &mut *memory.cast::<[i64; N]>() }
    }

    /// The number of the row, from 0 in its partition.
    pub fn row(&self) -> i64 {
        // SAFETY: the window is live for the call.
        unsafe { WinGetCurrentPosition(self.0) }
    }

    /// Says that no row before the current one will be asked for.
    pub fn forget_before(&self) {
        // SAFETY: the window is live for the call; the current row is never before one that was.
        unsafe { WinSetMarkPosition(self.0, self.row()) }
    }

    /// Argument `n` of the current row.
    pub fn current(&self, n: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the window is live for the call, and the function has this argument.
        let datum = unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| WinGetFuncArgCurrent(self.0, n, &raw mut is_null))
        };
        (!is_null).then_some(datum)
    }

    /// Argument `n` of a row of the partition: None where there is no such row, Some(None) where it is NULL.
    pub fn at(&self, n: i32, row: i64) -> Option<Option<pg_sys::Datum>> {
        let (mut is_null, mut is_out) = (false, false);
        let row = i32::try_from(row).ok()?;
        // SAFETY: as in `current`; rows before a mark are not asked for.
        let datum = unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                WinGetFuncArgInPartition(self.0, n, row, FROM_FIRST, false, &raw mut is_null, &raw mut is_out)
            })
        };
        (!is_out).then_some((!is_null).then_some(datum))
    }
}
