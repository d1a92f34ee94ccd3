//! What is written into the server's log of what owners define, and hints that PostgreSQL's own errors lack: the hook that
//! is called before a message goes out.
//!
//! Invariant: a process that serves an owner writes at most one line a minute of what the owner's code can have it say, its
//! failures and warnings of this library's among it, however many rollups the owner has and whichever process serves them; and
//! no line is longer than `shortened` makes it. What PostgreSQL says itself of locks, files and the end of processes is not
//! the owner's.
use super::counted;
use crate::pg::ctext::c_text;
use crate::pg::error::{LONGEST, shortened};
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds between two lines of one owner.
const PAUSE: u32 = 60;

/// Whom this process serves; 0: a client.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// What is said now is for the client alone.
static UNLOGGED: AtomicBool = AtomicBool::new(false);
static NEXT: OnceLock<pg_sys::emit_log_hook_type> = OnceLock::new();

/// Installs the hook once.
pub fn install() {
    // SAFETY: the library is loaded by the only thread of the process; the next hook is kept and called.
    unsafe {
        if NEXT.set(pg_sys::emit_log_hook).is_ok() {
            pg_sys::emit_log_hook = Some(emit);
        }
    }
}

/// From now on this process serves this owner and nobody else.
pub fn serve(owner: pg_sys::Oid) {
    OWNER.store(owner.to_u32(), Relaxed);
}

/// Whether this process serves an owner.
pub fn serves() -> bool {
    OWNER.load(Relaxed) != 0
}

/// The moment of the last line of an owner, what tells the owner from others that share the place, and the moment now.
fn last(owner: pg_sys::Oid) -> Option<(&'static std::sync::atomic::AtomicU64, u32, u32)> {
    // SAFETY: reads a variable of this process.
    let database = unsafe { pg_sys::MyDatabaseId.to_u32() };
    let key = u64::from(database) << 32 | u64::from(owner.to_u32());
    let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as u32);
    Some((counted::moments()?.get((hash >> 54) as usize)?, hash as u32, now))
}

/// Whether nothing was written of an owner for so many seconds. A clock that was set back makes it true.
pub fn is_quiet(owner: pg_sys::Oid, seconds: u32) -> bool {
    last(owner).is_none_or(|(place, tag, now)| {
        let before = place.load(Relaxed);
        (before >> 32) as u32 != tag || now.wrapping_sub(before as u32) >= seconds
    })
}

/// Whether a line may be written of an owner; it is taken for written then.
pub fn may_tell(owner: pg_sys::Oid) -> bool {
    let Some((place, tag, now)) = last(owner) else { return true };
    let before = place.load(Relaxed);
    is_quiet(owner, PAUSE)
        && place.compare_exchange(before, u64::from(tag) << 32 | u64::from(now), Relaxed, Relaxed).is_ok()
}

/// Has what `say` says of an owner go to the client, and into the log where a line of that owner may be written.
pub fn bounded(owner: Option<pg_sys::Oid>, say: impl FnOnce()) {
    UNLOGGED.store(!owner.is_none_or(may_tell), Relaxed);
    say();
    UNLOGGED.store(false, Relaxed);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn emit(data: *mut pg_sys::ErrorData) {
    // SAFETY: PostgreSQL hands over a message that is about to go out, whose texts are its own.
    unsafe {
        let said = &mut *data;
        if UNLOGGED.load(Relaxed) && said.elevel < pg_sys::PGERROR as i32 {
            said.output_to_server = false;
        }
        let owner = OWNER.load(Relaxed);
        if owner != 0 {
            match is_owners(said) && !may_tell(owner.into()) {
                true => said.output_to_server = false,
                // The end of a process, too, says what the owner's code was doing.
                false => shorten(said),
            }
        }
        if said.hint.is_null()
            && let Some(hint) = lacks(said)
        {
            said.hint = pg_sys::MemoryContextStrdup(said.assoc_context, c_text(hint).as_ptr());
        }
        if let Some(Some(next)) = NEXT.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| next(data));
        }
    }
}

/// # Safety
/// `text` is NULL or ends with NUL.
unsafe fn text<'a>(text: *const c_char) -> &'a [u8] {
    // SAFETY: as the caller says.
    if text.is_null() { b"" } else { unsafe { CStr::from_ptr(text).to_bytes() } }
}

/// What PostgreSQL says of locks that are waited for and of temporary files, where an administrator wants to know.
const ASKED_FOR: [&[u8]; 2] = [b"proc.c", b"fd.c"];

/// Whether code that an owner defines can have a message said: whatever a procedural language says, what this library says of
/// what it does for the owner, and what PostgreSQL warns of, or writes since a setting was made that everybody may make, as
/// debug_print_plan and trace_sort.
///
/// # Safety
/// The message is live.
unsafe fn is_owners(said: &pg_sys::ErrorData) -> bool {
    let level = said.elevel as u32;
    // SAFETY: as the caller says.
    let (file, domain) = unsafe { (text(said.filename), text(said.domain)) };
    let is_core = domain.starts_with(b"postgres") && !file.ends_with(b".rs");
    level < pg_sys::PGERROR
        && (!is_core || (level >= pg_sys::LOG && !ASKED_FOR.iter().any(|asked| file.ends_with(asked))))
}

/// # Safety
/// The message is live.
unsafe fn shorten(said: &mut pg_sys::ErrorData) {
    let context = said.assoc_context;
    let texts = [
        &mut said.message,
        &mut said.detail,
        &mut said.detail_log,
        &mut said.hint,
        &mut said.context,
        &mut said.internalquery,
    ];
    for one in texts {
        // SAFETY: each is NULL, or a text of this message, which goes with its context.
        unsafe {
            let long = text(*one);
            if long.len() > LONGEST {
                let short = c_text(shortened(&String::from_utf8_lossy(long)));
                *one = pg_sys::MemoryContextStrdup(context, short.as_ptr());
            }
        }
    }
}

const STAMP: &[u8] = b"rollup_stamp";

/// What to do where a statement gives no stamp for the column that holds them: PostgreSQL does not know of its default's
/// reason. Looks nothing up: the transaction has failed.
///
/// # Safety
/// The message is live.
unsafe fn lacks(said: &pg_sys::ErrorData) -> Option<String> {
    if said.elevel != pg_sys::PGERROR as i32 {
        return None;
    }
    let code = |code: pgrx::PgSqlErrorCode| said.sqlerrcode == code as i32;
    // SAFETY: as the caller says.
    unsafe {
        if code(pgrx::PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION) && text(said.column_name) == STAMP {
            let name = |part| hll_rollup::sql::ident(&String::from_utf8_lossy(text(part)));
            let table = format!("{}.{}", name(said.schema_name), name(said.table_name));
            return Some(format!(
                "The rollup of the table fills the column in where a statement leaves it out: name the others, in INSERT INTO table (column, …) and what is selected. Or have it filled in where it is NULL, too: CREATE TRIGGER own_stamp BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION rollup.own_stamp();"
            ));
        }
        let missing = code(pgrx::PgSqlErrorCode::ERRCODE_BAD_COPY_FILE_FORMAT)
            && text(said.message_id).starts_with(b"missing data for column")
            && text(said.message).windows(STAMP.len()).any(|part| part == STAMP);
        missing.then(|| {
            "The rollup of the table fills the column in where COPY leaves it out: name the columns that the data has, COPY table (column, …) FROM ….".to_string()
        })
    }
}
