//! Transactions and who the current user is.
use crate::pg::error::{hint, shortened};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use std::ffi::{CStr, CString};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Mutex, PoisonError};

/// The top-level transaction's 64-bit id, assigned now if it had none. Every inserted row asks.
pub fn own_transaction_id() -> i64 {
    if let Some(x) = own_transaction_id_if_any() {
        return x;
    }
    // SAFETY: plain call inside a transaction; raises an error on a standby or in a parallel worker.
    full_id(unsafe { pg_sys::GetTopFullTransactionId() })
}

/// The top-level transaction's 64-bit id, if it has one.
#[inline]
pub fn own_transaction_id_if_any() -> Option<i64> {
    mod unguarded {
        // Without pgrx's guard against errors, which costs ten times the call: it reads a variable and raises none.
        unsafe extern "C" {
            pub safe fn GetTopFullTransactionIdIfAny() -> pgrx::pg_sys::FullTransactionId;
        }
    }
    Some(full_id(unguarded::GetTopFullTransactionIdIfAny())).filter(|&x| x != 0)
}

/// The id that the next transaction will get.
pub fn next_transaction_id() -> i64 {
    // SAFETY: reads a variable that the processes share, under its lock.
    full_id(unsafe { pg_sys::ReadNextFullTransactionId() })
}

/// How much had happened on this server: as long as two of them are equal, no transaction with an id has finished between, in any database
/// and in whichever way (committed, rolled back, prepared, or a part of it rolled back), and no process has told of a change
/// of the catalog that this one has not taken in. Whatever a transaction reads in tables is written by one that has an id.
///
/// Neither is enough alone: a transaction is seen to have finished a little before it tells what it has changed in the
/// catalog, so a cache that was filled in between says what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    finished: u64,
    told: u64,
}

impl Moment {
    /// To be asked at the start of a transaction, and in one before that in which is read what is to hold since then:
    /// what finishes meanwhile then makes the next one another.
    pub fn now() -> Moment {
        // SAFETY: called inside a transaction, whose start has taken in what others have told; the snapshot is read at once. The one that
        // is copied when it is made the active one bears no count.
        unsafe {
            let finished = (*pg_sys::GetLatestSnapshot()).snapXactCompletionCount;
            Moment { finished, told: std::ptr::addr_of!(pg_sys::SharedInvalidMessageCounter).read() }
        }
    }
}

/// The time of the clock, in microseconds since 2000.
pub fn clock() -> i64 {
    // SAFETY: asks the system.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// What `now()` says, in microseconds since 2000.
pub fn transaction_time() -> i64 {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// Whether it is an id as rows bear it of this transaction or a part of it that was not rolled back.
pub fn is_own_transaction(id: pg_sys::TransactionId) -> bool {
    // SAFETY: a look at what this process knows of its transaction; raises no error.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(id) }
}

fn full_id(x: pg_sys::FullTransactionId) -> i64 {
    x.value as i64
}

/// Whether the whole transaction keeps one snapshot (REPEATABLE READ and up).
pub fn keeps_one_snapshot() -> bool {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Whether transactions of this session may not write unless they say so.
pub fn read_only_by_default() -> bool {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::DefaultXactReadOnly }
}

/// Takes notice of what other transactions have changed in the catalog, partitions among it, as taking a lock on a table
/// for the first time does.
pub fn accept_invalidations() {
    // SAFETY: plain call inside a transaction.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// The role that statements run as.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetUserId() }
}

/// Whether the current user may act as `role`; as nobody, None, a superuser alone may.
pub fn may_act_as(role: Option<pg_sys::Oid>) -> bool {
    // SAFETY: look-ups in the catalog, for oids that need not exist.
    unsafe {
        let user = pg_sys::GetUserId();
        match role {
            Some(role) => user == role || pg_sys::has_privs_of_role(user, role),
            None => pg_sys::superuser_arg(user),
        }
    }
}

/// Whether a role has all that another one may do.
pub fn has_rights_of(role: pg_sys::Oid, other: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the catalog, for oids that need not exist.
    unsafe { role == other || pg_sys::has_privs_of_role(role, other) }
}

/// The name of a role, or its number where there is none.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: a look-up that tolerates absence; the name is copied.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            return role.to_u32().to_string();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// The same outside any transaction, in one of its own.
pub fn role_name_at_top(role: pg_sys::Oid) -> String {
    in_transaction(|| role_name(role)).unwrap_or_else(|_| role.to_u32().to_string())
}

/// Settings that the end of a GUC level does not undo, since they are no part of transactions.
static LASTING: Mutex<Vec<&'static CStr>> = Mutex::new(Vec::new());

/// Registers a setting that outlives ROLLBACK: what a rollup's statements make of it is undone with the rest.
pub fn undo_with_role(setting: &'static CStr) {
    if let Ok(mut lasting) = LASTING.lock() {
        lasting.push(setting);
    }
}

/// Acts as another role until dropped. An error that unwinds past it restores the role as well, and the
/// end of the (sub)transaction would.
///
/// Invariant: what the role's own code sets, for the session too, is undone: the level of settings ends as that of a
/// transaction which is rolled back, and those of `LASTING` are put back by hand. So nothing that a rollup's owner can
/// write is in force when its caller, or the worker for the next owner, goes on.
pub struct ActingAs {
    user: pg_sys::Oid,
    context: i32,
    guc_level: i32,
    lasting: Vec<(&'static CStr, CString)>,
}

impl ActingAs {
    /// The extension's own writes to its catalog: fixed statements with qualified names, no user's text.
    pub fn catalog() -> ActingAs {
        ActingAs::new(
            pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID),
            pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32,
        )
    }

    /// A rollup's statements: as its owner, who cannot be made to do more than run them.
    pub fn role(role: pg_sys::Oid) -> ActingAs {
        ActingAs::new(
            role,
            (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32,
        )
    }

    /// The same for a text that the caller has written: its names and literals are read as before, by the caller's settings, and
    /// the caller's path as it is for the caller.
    pub fn reader(role: pg_sys::Oid) -> ActingAs {
        let path = search_path();
        let acting = ActingAs::unfixed(
            role,
            (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32,
        );
        crate::pg::query::set_local(c"search_path", &path);
        acting
    }

    /// Sets row security off for restricted roles: a statement that a policy would filter fails, and says so, where it would
    /// else take rows for seen, or for gone, that it may not see.
    fn new(role: pg_sys::Oid, flags: i32) -> ActingAs {
        let acting = ActingAs::unfixed(role, flags);
        crate::pg::deparse::fix_settings();
        if flags & pg_sys::SECURITY_RESTRICTED_OPERATION as i32 != 0 {
            crate::pg::query::set_local(c"row_security", c"off");
        }
        acting
    }

    fn unfixed(role: pg_sys::Oid, flags: i32) -> ActingAs {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // Only the restricted ones run code that is not ours.
        let restricted = flags & pg_sys::SECURITY_RESTRICTED_OPERATION as i32 != 0;
        let lasting = if restricted { lasting_settings() } else { Vec::new() };
        // SAFETY: both calls read and write variables of this process; the old values are put back in drop.
        let guc_level = unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(role, context | flags);
            pg_sys::NewGUCNestLevel()
        };
        ActingAs { user, context, guc_level, lasting }
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        // SAFETY: puts back what `new` read. While an error unwinds, the abort of the (sub)transaction undoes
        // the settings, and running their hooks here could raise a second one.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::AtEOXact_GUC(false, self.guc_level);
            }
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
        for (name, value) in &self.lasting {
            if setting(name).as_ref() != Some(value) {
                crate::pg::native::set_session_setting(name, value);
            }
        }
    }
}

/// Sees that names of this process, which serves no session, are those of pg_catalog alone.
pub fn fix_search_path() {
    crate::pg::native::set_session_setting(c"search_path", c"pg_catalog, pg_temp");
}

/// The schemas that the current user's path stands for, as a path.
fn search_path() -> CString {
    // SAFETY: look-ups in the catalog; the names are copied.
    unsafe {
        let schemas = pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::fetch_search_path(false));
        let quoted = |schema: pg_sys::Oid| {
            let name = pg_sys::get_namespace_name(schema);
            (!name.is_null())
                .then(|| CStr::from_ptr(pg_sys::quote_identifier(name)).to_string_lossy().into_owned())
        };
        let all: Vec<String> = schemas.iter_oid().filter_map(quoted).collect();
        let path = if all.is_empty() { "\"\"".to_string() } else { all.join(", ") };
        crate::pg::ctext::c_text(path)
    }
}

/// The value of a setting.
fn setting(name: &CStr) -> Option<CString> {
    // SAFETY: a look-up that tolerates absence; the text is copied.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_owned())
    }
}

fn lasting_settings() -> Vec<(&'static CStr, CString)> {
    let names = LASTING.lock().unwrap_or_else(PoisonError::into_inner).clone();
    names.into_iter().filter_map(|name| Some((name, setting(name)?))).collect()
}

/// Has the constraints of the transaction checked with each statement from now on, as SET CONSTRAINTS ALL IMMEDIATE does. Takes no
/// transaction id.
pub fn check_constraints_at_once() {
    let mut all = pg_sys::ConstraintsSetStmt {
        type_: pg_sys::NodeTag::T_ConstraintsSetStmt,
        constraints: std::ptr::null_mut(),
        deferred: false,
    };
    // SAFETY: called inside a transaction; the statement is read, and not kept.
    unsafe { pg_sys::AfterTriggerSetState(&mut all) }
}

/// What went wrong in a transaction of a worker.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The error's message, with its hint, neither longer than `shortened` makes it: it is stored, and written into the log.
    pub message: String,
    /// Its SQLSTATE.
    pub code: pgrx::PgSqlErrorCode,
}

impl Failure {
    fn from_caught(caught: CaughtError) -> Failure {
        let report = match &caught {
            CaughtError::PostgresError(r) | CaughtError::ErrorReport(r) => r,
            CaughtError::RustPanic { ereport, .. } => ereport,
        };
        let message = match hint(report) {
            Some(h) => format!("{} ({})", shortened(report.message()), shortened(h)),
            None => shortened(report.message()),
        };
        Failure { message, code: report.sql_error_code() }
    }
}

/// Runs `body` in a transaction of its own and commits it; rolls back and gives the failure where it raises
/// an error. For the top level of a worker, outside any transaction.
pub fn in_transaction<T>(body: impl FnOnce() -> T + UnwindSafe + RefUnwindSafe) -> Result<T, Failure> {
    // SAFETY: a worker's main loop calls this outside any transaction; after an error the transaction is
    // aborted before anything else happens.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let out = pgrx::PgTryBuilder::new(|| {
            let value = body();
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            Ok(value)
        })
        .catch_others(|e| Err(Failure::from_caught(e)))
        .catch_rust_panic(|e| Err(Failure::from_caught(e)))
        .execute();
        if out.is_err() {
            pg_sys::AbortCurrentTransaction();
        }
        out
    }
}

/// Runs `body` in a part of the caller's transaction that is undone where it gives or raises an error.
pub fn in_subtransaction<T>(
    body: impl FnOnce() -> Result<T, pgrx::pg_sys::panic::ErrorReport> + UnwindSafe + RefUnwindSafe,
) -> Result<T, Failure> {
    // SAFETY: called inside a transaction; the memory context and resource owner of the caller are put back on
    // both ways out, as PL/pgSQL does around a block with handlers.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let out = pgrx::PgTryBuilder::new(|| {
            let value = body().unwrap_or_else(|report| {
                report.report(pgrx::PgLogLevel::ERROR);
                unreachable!("an error ends the subtransaction")
            });
            pg_sys::ReleaseCurrentSubTransaction();
            Ok(value)
        })
        .catch_others(|e| Err(Failure::from_caught(e)))
        .catch_rust_panic(|e| Err(Failure::from_caught(e)))
        .execute();
        pg_sys::MemoryContextSwitchTo(context);
        if out.is_err() {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(context);
        }
        pg_sys::CurrentResourceOwner = owner;
        out
    }
}

/// Runs `body` in a part of the caller's transaction that is undone where it gives None. An error in it is the caller's.
pub fn undone_unless<T>(
    body: impl FnOnce() -> Result<Option<T>, pgrx::pg_sys::panic::ErrorReport>,
) -> Result<Option<T>, pgrx::pg_sys::panic::ErrorReport> {
    // SAFETY: as in `in_subtransaction`; an error goes on once the part is undone.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let done = pgrx::PgTryBuilder::new(std::panic::AssertUnwindSafe(|| Ok(body())))
            .catch_others(Err)
            .catch_rust_panic(Err)
            .execute();
        pg_sys::MemoryContextSwitchTo(context);
        match &done {
            Ok(Ok(Some(_))) => pg_sys::ReleaseCurrentSubTransaction(),
            _ => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        done.unwrap_or_else(|e| e.rethrow())
    }
}
