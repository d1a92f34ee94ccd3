//! Background workers: registration, signals, the wait between ticks, the list of databases.
use crate::pg::ctext::c_text;
use pgrx::bgworkers::{
    BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker,
};
use pgrx::pg_sys;
use std::time::Duration;

/// True while the postmaster loads libraries of shared_preload_libraries, unless for pg_upgrade, which wants no
/// process but its own in the databases.
pub fn preloading() -> bool {
    // SAFETY: reads variables of this process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}

/// Registers the launcher with the postmaster; it starts once the server takes writes.
pub fn register_launcher(name: &str, entry: &str) {
    BackgroundWorkerBuilder::new(name)
        .set_type(name)
        .set_library("hll")
        .set_function(entry)
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(5)))
        .enable_spi_access()
        .load();
}

/// Starts a worker for one database; None where no worker slot is free.
pub fn start_worker(name: &str, kind: &str, entry: &str, argument: u64) -> Option<DynamicBackgroundWorker> {
    BackgroundWorkerBuilder::new(name)
        .set_type(kind)
        .set_library("hll")
        .set_function(entry)
        .set_argument(Some(pg_sys::Datum::from(argument)))
        .set_restart_time(None)
        .set_notify_pid(std::process::id() as i32)
        .enable_spi_access()
        .load_dynamic()
        .ok()
}

/// False once a worker has ended; true while it runs or is about to.
pub fn lives(worker: &DynamicBackgroundWorker) -> bool {
    matches!(worker.pid(), Ok(_) | Err(BackgroundWorkerStatus::NotYetStarted))
}

unsafe extern "C-unwind" {
    // utils/timeout.h
    fn enable_timeout_after(id: i32, delay_ms: i32);
    fn disable_timeout(id: i32, keep_indicator: bool);
}

/// TimeoutId of a statement's time.
const STATEMENT_TIMEOUT: i32 = 3;

/// Whether it is a process that no client waits for.
pub fn serves_nobody() -> bool {
    // SAFETY: reads a variable of this process.
    unsafe { !pg_sys::MyBgworkerEntry.is_null() }
}

/// From now on what this process does may take so many milliseconds, then it is cancelled as a statement of a
/// session would be; 0 sets no limit.
pub fn start_clock(milliseconds: i32) {
    if milliseconds > 0 {
        // SAFETY: the timeout was registered, with its handler, when the process connected.
        unsafe { enable_timeout_after(STATEMENT_TIMEOUT, milliseconds) };
    }
}

/// Ends what `start_clock` began, also where time ran out just now.
pub fn stop_clock() {
    // SAFETY: as above; what is cancelled has ended.
    unsafe {
        disable_timeout(STATEMENT_TIMEOUT, false);
        std::ptr::addr_of_mut!(pg_sys::QueryCancelPending).write_volatile(0);
    }
}

/// The database this process is connected to.
pub fn own_database() -> pg_sys::Oid {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::MyDatabaseId }
}

/// The name of the database this process is connected to. Nobody renames it while it is.
pub fn own_database_name() -> String {
    // SAFETY: a look-up in a shared catalog; the name is copied.
    crate::pg::xact::in_transaction(|| unsafe {
        let name = pg_sys::get_database_name(own_database());
        if name.is_null() {
            return String::new();
        }
        std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
    })
    .unwrap_or_default()
}

unsafe extern "C-unwind" fn on_term(signal: i32) {
    // SAFETY: PostgreSQL's own handler, in a process of its own.
    unsafe { pg_sys::die(signal) }
}

unsafe extern "C-unwind" fn on_int(signal: i32) {
    // SAFETY: as above.
    unsafe { pg_sys::StatementCancelHandler(signal) }
}

unsafe extern "C-unwind" fn on_hup(signal: i32) {
    // SAFETY: as above.
    unsafe { pg_sys::SignalHandlerForConfigReload(signal) }
}

/// Signal handlers of a worker: PostgreSQL's own, so that termination interrupts a running query and the
/// postmaster sees a worker that wants to be restarted.
pub fn take_signals() {
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal;
    #[cfg(feature = "pg18")] // the server's own function has another symbol there
    use pg_sys::pqsignal_be as pqsignal;
    // SAFETY: called once at the start of a worker, before signals are unblocked.
    unsafe {
        pqsignal(pg_sys::SIGTERM as i32, Some(on_term));
        pqsignal(pg_sys::SIGINT as i32, Some(on_int));
        pqsignal(pg_sys::SIGHUP as i32, Some(on_hup));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Connects a worker to a database by its oid, or to none (shared catalogs only).
pub fn connect(database: Option<pg_sys::Oid>) {
    // SAFETY: called once at the start of a worker; an error ends the process.
    unsafe {
        match database {
            Some(oid) => pg_sys::BackgroundWorkerInitializeConnectionByOid(oid, pg_sys::InvalidOid, 0),
            None => pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0),
        }
    }
    // Whatever ALTER DATABASE or ALTER ROLE says of the superuser that it runs as.
    crate::pg::xact::fix_search_path();
}

/// Waits for `milliseconds` or until woken; takes in a changed configuration; ends the process when told to.
pub fn pause(milliseconds: i64) {
    // SAFETY: the latch is this process's own; interrupts are served outside any transaction.
    unsafe {
        let events = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
        pg_sys::WaitLatch(pg_sys::MyLatch, events, milliseconds as _, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
        // There is no query to cancel.
        std::ptr::addr_of_mut!(pg_sys::QueryCancelPending).write_volatile(0);
        pgrx::check_for_interrupts!();
        if std::ptr::addr_of!(pg_sys::ConfigReloadPending).read_volatile() != 0 {
            std::ptr::addr_of_mut!(pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Says in pg_stat_activity who this is and what it does (None: idle).
pub fn report(application: &str, activity: Option<&str>) {
    let app = c_text(application);
    let text = c_text(activity.unwrap_or(""));
    let state = match activity {
        Some(_) => pg_sys::BackendState::STATE_RUNNING,
        None => pg_sys::BackendState::STATE_IDLE,
    };
    // SAFETY: both strings are copied by the callee.
    unsafe {
        pg_sys::pgstat_report_appname(app.as_ptr());
        pg_sys::pgstat_report_activity(state, text.as_ptr());
    }
}

/// Says in pg_stat_activity what this process is doing; None: what its client sent it to do.
pub fn tell(activity: Option<&str>) {
    let text = activity.map(c_text);
    // SAFETY: the text is copied by the callee; the client's own lives as long as the statement that runs.
    unsafe {
        let own = text.as_ref().map_or(pg_sys::debug_query_string, |text| text.as_ptr());
        if !own.is_null() {
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, own);
        }
    }
}

/// Sends table statistics of the last transaction on their way, as a backend does between commands.
pub fn report_statistics() {
    // SAFETY: called outside any transaction.
    unsafe { pg_sys::pgstat_report_stat(false) };
}

/// Ends the worker as done: the postmaster does not restart it.
pub fn exit_done() -> ! {
    // SAFETY: the normal end of a process of PostgreSQL.
    unsafe { pg_sys::proc_exit(0) };
    #[cfg(feature = "pg18")] // whose declaration does not say that it never returns
    unreachable!("proc_exit returned")
}

/// Oids and names of the databases that take connections. Call inside a transaction.
pub fn databases() -> Vec<(u32, String)> {
    // SAFETY: a plain sequential scan of a shared catalog, closed before return; names are copied.
    unsafe {
        let mut found = Vec::new();
        let rel = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(rel, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let db = &*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_database>(tuple);
            if db.datallowconn && !db.datistemplate {
                let name = std::ffi::CStr::from_ptr(db.datname.data.as_ptr()).to_string_lossy().into_owned();
                found.push((db.oid.to_u32(), name));
            }
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as i32);
        found
    }
}

/// Whether this database has the extension. Call inside a transaction.
pub fn extension_installed() -> bool {
    // SAFETY: a catalog lookup that tolerates absence.
    unsafe { pg_sys::get_extension_oid(c"hll".as_ptr(), true) != pg_sys::InvalidOid }
}

/// Exports the entry point of a worker: `worker_entry!(rollup_launcher_main, main)` makes the C symbol run
/// `main(argument)`, where the argument is the number given to `start_worker`.
#[macro_export]
macro_rules! worker_entry {
    ($name:ident, $body:path) => {
        #[allow(unsafe_code)]
        const _: () = {
            #[pgrx::pg_guard]
            #[unsafe(export_name = stringify!($name))]
            extern "C-unwind" fn entry(argument: pgrx::pg_sys::Datum) {
                $body(argument.value() as u64)
            }
        };
    };
}
