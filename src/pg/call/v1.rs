//! Raw version-1 functions: the call vocabulary of every function that rows flow through.
//!
//! `v1!(symbol, body)` exports `symbol` and `pg_finfo_symbol` and runs the safe `body(&mut Call) -> Datum`
//! inside pgrx's guard. What a `Call` hands out is right when the SQL declaration of the symbol names the
//! same argument types; sql/ is written by hand next to the bodies, and that is the invariant of this file.
//!
//! What a body returns belongs to its caller. One in C frees what it asked for and reads it under a header of four bytes:
//! `logicalrep_write_tuple` and `array_send` do both to what a send function gave. So a value that is returned by address
//! is made for that: palloc'd in the call's memory context, a varlena in line, uncompressed and with the long header.
//! `new_varlena`, `new_varlena_with`, `copied` and PostgreSQL's own functions behind `native` make such. It is never an
//! argument nor lies in one, not even where it has an argument's value, and nothing writes to an argument. Two kinds of
//! function give back what they were given, since their callers compare addresses: a transition or combine function the
//! state in argument 0, which is its aggregate's own (it asks whether it is called by one before), and a trigger function
//! a row. A record is made as PostgreSQL makes it, inside of a chunk, and freed by nobody. An expanded state that may be
//! written to goes to the aggregate alone, which hands it to others read-only.
use pgrx::pg_sys;
use std::ffi::{CStr, CString};
use std::panic::AssertUnwindSafe;

/// One call of a version-1 function.
pub struct Call {
    fcinfo: pg_sys::FunctionCallInfo,
}

impl Call {
    /// # Safety
    /// `fcinfo` must be the live call information that PostgreSQL passed to the exported function.
    #[inline(always)]
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Call {
        Call { fcinfo }
    }

    /// The raw call information, for the other files of the fence.
    #[inline(always)]
    pub fn raw(&self) -> pg_sys::FunctionCallInfo {
        self.fcinfo
    }

    /// Number of arguments in this call.
    pub fn nargs(&self) -> usize {
        // SAFETY: fcinfo is live for the call.
        unsafe { (*self.fcinfo).nargs as usize }
    }

    /// The elements of argument `n`, an array of oids, that are not NULL; none where it is NULL or not given.
    pub fn oids(&self, n: usize) -> Vec<pg_sys::Oid> {
        // SAFETY: the SQL declaration says the type of the argument.
        let found: Option<Vec<Option<pg_sys::Oid>>> =
            self.arg(n).and_then(|d| unsafe { pgrx::FromDatum::from_datum(d, false) });
        found.into_iter().flatten().flatten().collect()
    }

    /// The numbers of argument `n`, an array of int8, without those that are NULL.
    pub fn i64s(&self, n: usize) -> Vec<i64> {
        // SAFETY: the SQL declaration says the type of the argument.
        let found: Option<Vec<Option<i64>>> =
            self.arg(n).and_then(|d| unsafe { pgrx::FromDatum::from_datum(d, false) });
        found.into_iter().flatten().flatten().collect()
    }

    /// Argument `n` (from 0), or None where it is NULL or was not passed.
    #[inline(always)]
    pub fn arg(&self, n: usize) -> Option<pg_sys::Datum> {
        // SAFETY: fcinfo is live and `args` has `nargs` entries; n is checked against it.
        unsafe {
            if n >= (*self.fcinfo).nargs as usize {
                return None;
            }
            let a = &*(*self.fcinfo).args.as_ptr().add(n);
            (!a.isnull).then_some(a.value)
        }
    }

    /// Argument `n` as int8.
    #[inline(always)]
    pub fn i64(&self, n: usize) -> Option<i64> {
        self.arg(n).map(|d| d.value() as i64)
    }

    /// Argument `n` as int4.
    #[inline(always)]
    pub fn i32(&self, n: usize) -> Option<i32> {
        self.arg(n).map(|d| d.value() as i32)
    }

    /// Argument `n` as float8.
    #[inline(always)]
    pub fn f64(&self, n: usize) -> Option<f64> {
        self.arg(n).map(|d| f64::from_bits(d.value() as u64))
    }

    /// Argument `n` as oid, or as one of the types that show what an oid names.
    #[inline(always)]
    pub fn oid(&self, n: usize) -> Option<pg_sys::Oid> {
        self.arg(n).map(|d| pg_sys::Oid::from(d.value() as u32))
    }

    /// Argument `n` as tid.
    pub fn place(&self, n: usize) -> Option<pg_sys::ItemPointerData> {
        // SAFETY: a value of this type points to one.
        self.arg(n).map(|d| unsafe { *d.cast_mut_ptr::<pg_sys::ItemPointerData>() })
    }

    /// Argument `n` as name.
    pub fn name(&self, n: usize) -> Option<CString> {
        // SAFETY: a value of this type points to 64 bytes that end with a zero.
        self.arg(n).map(|d| unsafe { CStr::from_ptr(d.cast_mut_ptr()) }.to_owned())
    }

    /// Argument `n` as bool.
    #[inline(always)]
    pub fn bool(&self, n: usize) -> Option<bool> {
        self.arg(n).map(|d| d.value() & 0xff != 0)
    }

    /// Argument `n` as uuid.
    #[inline(always)]
    pub fn uuid(&self, n: usize) -> Option<[u8; 16]> {
        // SAFETY: the declaration says uuid, a pointer to 16 bytes.
        self.arg(n).map(|d| unsafe { *d.cast_mut_ptr::<[u8; 16]>() })
    }

    /// Payload of varlena argument `n`: de-toasted when it must be, borrowed where it lies otherwise.
    #[inline(always)]
    pub fn bytes(&self, n: usize) -> Option<&[u8]> {
        // SAFETY: the declaration says a varlena type, so the datum points at a valid one.
        self.arg(n).map(|d| unsafe { varlena_payload(d) })
    }

    /// Payload of varlena argument `n` where it is in line under a header of one byte, as values below 127 bytes are in
    /// a table's rows; None for every other, and for NULL.
    #[inline(always)]
    pub fn short_bytes(&self, n: usize) -> Option<&[u8]> {
        // SAFETY: the declaration says a varlena type, so the datum points at a valid one.
        self.arg(n).and_then(|d| unsafe { short_payload(d) })
    }

    /// As `bytes`, for a function that will be called for the next row too: a scan of a heap page finds the next
    /// row's value below this one, and asks the processor for it while this one is worked on.
    #[inline(always)]
    pub fn scanned(&self, n: usize) -> Option<&[u8]> {
        let bytes = self.bytes(n)?;
        prefetch_below(bytes);
        Some(bytes)
    }

    /// The first `len` bytes of the payload of varlena argument `n`, or as many as there are. An uncompressed
    /// value that lies out of line is read as far as that alone.
    pub fn prefix(&self, n: usize, len: usize) -> Option<&[u8]> {
        // SAFETY: as in `bytes`; the slice function takes any varlena and gives a plain one.
        let bytes = self.arg(n).map(|d| unsafe {
            if is_plain(d) {
                varlena_payload(d)
            } else {
                varlena_payload(pg_sys::Datum::from(pg_sys::pg_detoast_datum_slice(
                    d.cast_mut_ptr(),
                    0,
                    len as i32,
                )))
            }
        })?;
        Some(&bytes[..len.min(bytes.len())])
    }

    /// Returns NULL.
    #[inline(always)]
    pub fn null(&mut self) -> pg_sys::Datum {
        // SAFETY: fcinfo is live for the call.
        unsafe { (*self.fcinfo).isnull = true };
        pg_sys::Datum::from(0usize)
    }
}

/// Asks for the cache lines below `value`, as many as it and a row's header have.
#[inline(always)]
fn prefetch_below(value: &[u8]) {
    const LINE: usize = 64;
    /// The row's header, the value's, and short columns before it.
    const HEADER: usize = 64;
    /// A row does not lie in line where it is longer than a quarter of a page.
    const LONGEST: usize = 2048;
    #[cfg(target_arch = "x86_64")]
    if (2 * LINE..=LONGEST).contains(&value.len()) {
        for line in 1..=(value.len() + HEADER) / LINE {
            let address = value.as_ptr().wrapping_sub(line * LINE);
            // SAFETY: a prefetch reads nothing that the program can see and never faults, whatever the address.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast()) };
        }
    }
}

/// Copies `payload` into a palloc'd varlena.
pub fn new_varlena(payload: &[u8]) -> pg_sys::Datum {
    let len = payload.len() + pg_sys::VARHDRSZ;
    // SAFETY: palloc gives `len` writable bytes or raises an error; the header is written before use.
    unsafe {
        let p = pg_sys::palloc(len).cast::<u8>();
        pgrx::set_varsize_4b(p.cast(), len as i32);
        std::ptr::copy_nonoverlapping(payload.as_ptr(), p.add(pg_sys::VARHDRSZ), payload.len());
        pg_sys::Datum::from(p)
    }
}

/// The value of varlena argument `n` in memory of its own.
pub fn copied(call: &mut Call, n: usize) -> pg_sys::Datum {
    match call.bytes(n).map(new_varlena) {
        Some(copy) => copy,
        None => call.null(),
    }
}

/// A palloc'd varlena with a payload of `len` bytes that `write` fills in.
pub fn new_varlena_with(len: usize, write: impl FnOnce(&mut [u8])) -> pg_sys::Datum {
    let size = len + pg_sys::VARHDRSZ;
    // SAFETY: palloc0 gives `size` bytes, all of them zero, or raises an error.
    unsafe {
        let p = pg_sys::palloc0(size).cast::<u8>();
        pgrx::set_varsize_4b(p.cast(), size as i32);
        write(std::slice::from_raw_parts_mut(p.add(pg_sys::VARHDRSZ), len));
        pg_sys::Datum::from(p)
    }
}

/// Whether the varlena `d` lies in line and uncompressed.
///
/// # Safety
/// `d` must point at a valid varlena.
#[inline(always)]
unsafe fn is_plain(d: pg_sys::Datum) -> bool {
    // SAFETY: a varlena has at least one byte.
    let first = unsafe { *d.cast_mut_ptr::<u8>() };
    // 0x01: out of line; xxxxxx10: compressed in line (little-endian layouts of varatt.h)
    first != 0x01 && first & 0x03 != 0x02
}

/// The payload of the varlena `d`, if its header has one byte.
///
/// # Safety
/// `d` must point at a valid varlena that outlives the slice.
#[inline(always)]
unsafe fn short_payload<'a>(d: pg_sys::Datum) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for the varlena. The length, in the upper seven bits, counts the header. 0x01 alone
    // is the header of a value that lies out of line.
    unsafe {
        let p = d.cast_mut_ptr::<u8>();
        let first = *p;
        let short = first & 1 == 1 && first != 0x01;
        short.then(|| std::slice::from_raw_parts(p.add(1), usize::from(first >> 1) - 1))
    }
}

/// The payload of the varlena `d`, de-toasted when compressed or out of line.
///
/// # Safety
/// `d` must point at a valid varlena that outlives the slice.
#[inline(always)]
pub unsafe fn varlena_payload<'a>(d: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: the caller vouches for the varlena; a de-toasted copy lives in the current memory context. The
    // length counts the header: one byte (odd first byte, length in the upper seven bits) or four.
    unsafe {
        // Short values first: most are.
        if let Some(payload) = short_payload(d) {
            return payload;
        }
        let mut p = d.cast_mut_ptr::<u8>();
        let mut first = *p;
        if first & 0x03 != 0 {
            p = detoasted(d);
            first = *p;
            if first & 1 == 1 {
                return std::slice::from_raw_parts(p.add(1), usize::from(first >> 1) - 1);
            }
        }
        let len = (p.cast::<u32>().read_unaligned() >> 2) as usize;
        std::slice::from_raw_parts(p.add(pg_sys::VARHDRSZ), len - pg_sys::VARHDRSZ)
    }
}

/// A copy of the varlena `d`, uncompressed and in line.
///
/// Apart, so that the functions which read values in line save no registers for it.
///
/// # Safety
/// `d` must point at a valid varlena.
#[cold]
#[inline(never)]
unsafe fn detoasted(d: pg_sys::Datum) -> *mut u8 {
    // SAFETY: the caller vouches for the varlena.
    unsafe { pg_sys::pg_detoast_datum_packed(d.cast_mut_ptr()).cast() }
}

/// Exports a version-1 function: `v1!(hll_union, union)` makes the C symbol `hll_union` run `union(&mut Call)`.
#[macro_export]
macro_rules! v1 {
    ($name:ident, $body:path) => {
        // The code is that of the fence, wherever it is asked for.
        #[allow(unsafe_code)]
        const _: () = {
            #[unsafe(export_name = concat!("pg_finfo_", stringify!($name)))]
            extern "C" fn finfo() -> &'static pgrx::pg_sys::Pg_finfo_record {
                const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
                &V1
            }
            #[unsafe(export_name = stringify!($name))]
            extern "C-unwind" fn call(fcinfo: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
                // SAFETY: PostgreSQL calls the symbol, with live call information.
                unsafe { $crate::pg::v1::run(fcinfo, |call| $body(call)) }
            }
        };
    };
}

/// Runs the body of a version-1 function inside the guard that turns panics into PostgreSQL errors.
///
/// # Safety
/// `fcinfo` must be the live call information that PostgreSQL passed to the exported function.
#[inline(always)]
pub unsafe fn run(
    fcinfo: pg_sys::FunctionCallInfo,
    // A type of its own for each body, so that the guard and the body become one function.
    body: impl Fn(&mut Call) -> pg_sys::Datum,
) -> pg_sys::Datum {
    // pgrx's own guard passes its result through memory, 3 ns a call; this one catches first and hands what it
    // caught to that guard, which knows how to turn every kind of panic into an error.
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller vouches for fcinfo; isnull starts as not null.
        let mut call = unsafe {
            (*fcinfo).isnull = false;
            Call::new(fcinfo)
        };
        body(&mut call)
    }));
    match caught {
        Ok(datum) => datum,
        Err(payload) => raise_caught(payload),
    }
}

#[cold]
#[inline(never)]
fn raise_caught(payload: Box<dyn std::any::Any + Send>) -> pg_sys::Datum {
    // SAFETY: PostgreSQL called the exported function whose frame this is, so an error may leave from here.
    unsafe { pg_sys::panic::pgrx_extern_c_guard(|| std::panic::resume_unwind(payload)) }
}
