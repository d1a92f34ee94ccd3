//! For tests: a call of a function by its OID as PostgreSQL's code in C makes it, which frees what it gets.
use crate::pg::ctext::c_text;
use crate::pg::xact::{Failure, in_subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, Oid};
use std::ffi::CStr;

/// How arguments of variable length lie.
#[derive(Clone, Copy, Debug)]
pub enum Header {
    /// As they are computed, aligned.
    Long,
    /// As short ones are stored, not aligned.
    Short,
}

/// An argument: its type and its text; None is NULL.
pub type Argument = (Oid, Option<String>);

/// What is wrong with the result of a call, in words, or that nothing is; None where it has no result to look at.
pub type Seen = Option<Result<(), String>>;

/// Calls a function, outside of any aggregate, and looks at the result.
pub fn look(function: Oid, arguments: &[Argument], header: Header) -> Result<Seen, Failure> {
    let arguments = arguments.to_vec();
    // SAFETY: the arguments have the types that the catalog says the function takes.
    in_subtransaction(move || Ok(unsafe { called(function, &arguments, header) }))
}

struct Made {
    datum: Datum,
    /// What lies behind a datum that is an address.
    range: std::ops::Range<usize>,
    before: Vec<u8>,
}

/// # Safety
/// The function takes arguments of these types.
unsafe fn called(function: Oid, arguments: &[Argument], header: Header) -> Seen {
    // SAFETY: the call information has room for its arguments and lives until the end. Contexts go with the transaction's.
    unsafe {
        let before = pg_sys::MemoryContextSwitchTo(context(c"arguments"));
        let made: Vec<Option<Made>> =
            arguments.iter().map(|(kind, text)| Some(make(*kind, text.as_deref()?, header))).collect();
        let of_call = context(c"call");
        pg_sys::MemoryContextSwitchTo(of_call);
        let mut info = pg_sys::FmgrInfo::default();
        pg_sys::fmgr_info(function, &mut info);
        if info.fn_strict && made.iter().any(Option::is_none) {
            pg_sys::MemoryContextSwitchTo(before);
            return None;
        }
        let size =
            size_of::<pg_sys::FunctionCallInfoBaseData>() + made.len() * size_of::<pg_sys::NullableDatum>();
        let call = pg_sys::palloc0(size).cast::<pg_sys::FunctionCallInfoBaseData>();
        (*call).flinfo = &mut info;
        (*call).fncollation = pg_sys::DEFAULT_COLLATION_OID;
        (*call).nargs = made.len() as i16;
        for (n, argument) in made.iter().enumerate() {
            let slot = (*call).args.as_mut_ptr().add(n);
            (*slot).isnull = argument.is_none();
            (*slot).value = argument.as_ref().map_or(Datum::from(0usize), |a| a.datum);
        }
        let body = info.fn_addr?;
        let result = pg_sys::ffi::pg_guard_ffi_boundary(|| body(call));
        let null = (*call).isnull;
        pg_sys::MemoryContextSwitchTo(before);
        let (mut length, mut by_value) = (0, false);
        pg_sys::get_typlenbyval(pg_sys::get_func_rettype(function), &mut length, &mut by_value);
        if null || by_value {
            return None;
        }
        let address = result.value();
        let made = || made.iter().flatten();
        Some(if made().any(|a| a.range.contains(&address)) {
            Err("the result lies in an argument".into())
        } else if made().any(|a| bytes(&a.range) != a.before) {
            Err("an argument was changed".into())
        } else if length == -1 && *result.cast_mut_ptr::<u8>() & 3 != 0 {
            Err("the result has no long header of its own".into())
        } else if pg_sys::GetMemoryChunkContext(result.cast_mut_ptr()) != of_call {
            Err("the result lies in another memory context".into())
        } else {
            pg_sys::pfree(result.cast_mut_ptr());
            Ok(())
        })
    }
}

fn context(name: &'static CStr) -> pg_sys::MemoryContext {
    // SAFETY: the name is constant, the parent live.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            name.as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

fn bytes(range: &std::ops::Range<usize>) -> &[u8] {
    // SAFETY: the range of an argument that was made, which is as long as its context.
    unsafe { std::slice::from_raw_parts(range.start as *const u8, range.len()) }
}

/// # Safety
/// There is a type of that OID with an input function that SQL may call.
unsafe fn make(kind: Oid, text: &str, header: Header) -> Made {
    let text = c_text(text);
    // SAFETY: the input function of the type makes one of its values, whose length the type tells.
    unsafe {
        let (mut input, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::getTypeInputInfo(kind, &mut input, &mut parameter);
        let mut datum = pg_sys::OidInputFunctionCall(input, text.as_ptr().cast_mut(), parameter, -1);
        let (mut length, mut by_value) = (0, false);
        pg_sys::get_typlenbyval(kind, &mut length, &mut by_value);
        let size = match length {
            _ if by_value => return Made { datum, range: 1..1, before: Vec::new() },
            -1 => {
                let plain = pgrx::varsize_any(datum.cast_mut_ptr());
                let short = plain - pg_sys::VARHDRSZ + 1;
                if matches!(header, Header::Short) && short < 0x80 {
                    let packed = pg_sys::palloc(short).cast::<u8>();
                    packed.write((short << 1 | 1) as u8);
                    let payload = datum.cast_mut_ptr::<u8>().add(pg_sys::VARHDRSZ);
                    packed.add(1).copy_from_nonoverlapping(payload, short - 1);
                    datum = Datum::from(packed);
                    short
                } else {
                    plain
                }
            }
            -2 => CStr::from_ptr(datum.cast_mut_ptr()).to_bytes_with_nul().len(),
            fixed => fixed as usize,
        };
        let range = datum.value()..datum.value() + size;
        let before = bytes(&range).to_vec();
        Made { datum, range, before }
    }
}
