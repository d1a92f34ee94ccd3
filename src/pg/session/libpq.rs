//! Connections to other servers through libpq, the library that Citus itself uses and has therefore loaded: this
//! extension is not linked with it, and looks its functions up where a server has Citus. Waiting ends early where
//! the statement is cancelled or the session terminated.
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A value as it is written into what a connection is opened with.
pub fn conninfo_value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

type Conn = *mut c_void;
type Res = *mut c_void;

/// Declares the functions of libpq that are used, as libpq-fe.h does, and how they are found.
macro_rules! functions {
    ($($field:ident = $name:literal: fn($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        struct Api {
            $($field: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
        }

        impl Api {
            fn find() -> Option<Api> {
                $(
                    // SAFETY: the null handle is RTLD_DEFAULT, and PostgreSQL loads libraries so that their symbols
                    // are found by it.
                    let $field = unsafe { dlsym(std::ptr::null_mut(), $name.as_ptr()) };
                    if $field.is_null() {
                        return None;
                    }
                    // SAFETY: a symbol of this name is the function of libpq, whose type is declared here.
                    let $field = unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $ret)?>($field)
                    };
                )*
                Some(Api { $($field),* })
            }
        }
    };
}

functions! {
    connect_start = c"PQconnectStart": fn(*const c_char) -> Conn;
    connect_poll = c"PQconnectPoll": fn(Conn) -> c_int;
    status = c"PQstatus": fn(Conn) -> c_int;
    socket = c"PQsocket": fn(Conn) -> c_int;
    error = c"PQerrorMessage": fn(Conn) -> *const c_char;
    finish = c"PQfinish": fn(Conn);
    send = c"PQsendQuery": fn(Conn, *const c_char) -> c_int;
    consume = c"PQconsumeInput": fn(Conn) -> c_int;
    busy = c"PQisBusy": fn(Conn) -> c_int;
    result = c"PQgetResult": fn(Conn) -> Res;
    result_status = c"PQresultStatus": fn(Res) -> c_int;
    result_error = c"PQresultErrorMessage": fn(Res) -> *const c_char;
    tuples = c"PQntuples": fn(Res) -> c_int;
    fields = c"PQnfields": fn(Res) -> c_int;
    value = c"PQgetvalue": fn(Res, c_int, c_int) -> *const c_char;
    is_null = c"PQgetisnull": fn(Res, c_int, c_int) -> c_int;
    clear = c"PQclear": fn(Res);
}

// Values of libpq-fe.h.
const CONNECTION_OK: c_int = 0;
const CONNECTION_BAD: c_int = 1;
const POLLING_FAILED: c_int = 0;
const POLLING_READING: c_int = 1;
const POLLING_OK: c_int = 3;
const COMMAND_OK: c_int = 1;
const TUPLES_OK: c_int = 2;

/// WAIT_EVENT_EXTENSION of PostgreSQL 15 to 17 (utils/wait_event.h).
const WAIT_EVENT: u32 = 0x0700_0000;

unsafe extern "C" {
    // dlfcn.h
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

fn api() -> Option<&'static Api> {
    static API: OnceLock<Option<Api>> = OnceLock::new();
    API.get_or_init(Api::find).as_ref()
}

/// One row: a text, or NULL, for each column.
pub type Row = Vec<Option<String>>;

/// A connection, open until it is dropped.
pub struct Connection {
    api: &'static Api,
    conn: Conn,
}

/// # Safety
/// `text` is NULL or a NUL-terminated string.
unsafe fn message(text: *const c_char) -> String {
    if text.is_null() {
        return "out of memory".into();
    }
    // SAFETY: the caller vouches for the string.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim_end().to_string()
}

impl Connection {
    /// Connects as `conninfo` says, until `deadline`.
    pub fn open(conninfo: &str, deadline: Instant) -> Result<Connection, String> {
        let Some(api) = api() else { return Err("libpq is not loaded".into()) };
        let text = CString::new(conninfo).map_err(|e| e.to_string())?;
        // SAFETY: the descriptor is counted among those that PostgreSQL knows of, and given back in drop.
        if !unsafe { pg_sys::AcquireExternalFD() } {
            return Err("too many files are open".into());
        }
        // SAFETY: the string is NUL-terminated; a connection that was made is finished in drop, also where it failed.
        let connection = Connection { api, conn: unsafe { (api.connect_start)(text.as_ptr()) } };
        let mut state = POLLING_OK - 1;
        // SAFETY: the connection is live.
        while unsafe { (api.status)(connection.conn) } != CONNECTION_BAD {
            let event = if state == POLLING_READING {
                pg_sys::WL_SOCKET_READABLE
            } else {
                pg_sys::WL_SOCKET_WRITEABLE
            };
            connection.wait(event, deadline)?;
            // SAFETY: as above.
            state = unsafe { (api.connect_poll)(connection.conn) };
            if state == POLLING_OK {
                return Ok(connection);
            }
            if state == POLLING_FAILED {
                break;
            }
        }
        Err(connection.error())
    }

    fn error(&self) -> String {
        // SAFETY: the connection is live, or NULL, which libpq takes too.
        unsafe { message((self.api.error)(self.conn)) }
    }

    /// True while nothing is known to be wrong with it.
    pub fn alive(&self) -> bool {
        // SAFETY: the connection is live.
        unsafe { (self.api.status)(self.conn) == CONNECTION_OK }
    }

    /// Waits until the socket is ready. Raises the error of a cancelled statement.
    fn wait(&self, event: u32, deadline: Instant) -> Result<(), String> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("no answer in time".into());
        }
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH | event;
        // SAFETY: the latch is this process's own and the socket that of a live connection.
        unsafe {
            let socket = (self.api.socket)(self.conn);
            if socket < 0 {
                return Err(self.error());
            }
            let wait = left.min(Duration::from_secs(1)).as_millis() as i64 + 1;
            let latch = pg_sys::MyLatch;
            if pg_sys::WaitLatchOrSocket(latch, events as i32, socket, wait, WAIT_EVENT)
                & pg_sys::WL_LATCH_SET as i32
                != 0
            {
                pg_sys::ResetLatch(latch);
            }
        }
        crate::pg::interrupt::check();
        Ok(())
    }

    /// Sends statements without waiting for what they give.
    pub fn send(&self, sql: &str) -> Result<(), String> {
        let text = CString::new(sql).map_err(|e| e.to_string())?;
        // SAFETY: the connection is live and the string NUL-terminated.
        if unsafe { (self.api.send)(self.conn, text.as_ptr()) } == 1 { Ok(()) } else { Err(self.error()) }
    }

    /// Waits for the rows of the statements that were sent, all of them in one list.
    pub fn receive(&self, deadline: Instant) -> Result<Vec<Row>, String> {
        let (mut rows, mut failed) = (Vec::new(), None);
        // SAFETY: the connection is live; every result is read before it is cleared, inside the bounds it names.
        unsafe {
            loop {
                while (self.api.busy)(self.conn) != 0 {
                    self.wait(pg_sys::WL_SOCKET_READABLE, deadline)?;
                    if (self.api.consume)(self.conn) == 0 {
                        return Err(self.error());
                    }
                }
                let result = (self.api.result)(self.conn);
                if result.is_null() {
                    return failed.map_or(Ok(rows), Err);
                }
                match (self.api.result_status)(result) {
                    COMMAND_OK | TUPLES_OK => self.read(result, &mut rows),
                    _ => failed = Some(message((self.api.result_error)(result))),
                }
                (self.api.clear)(result);
            }
        }
    }

    /// # Safety
    /// `result` is one of this connection that is not cleared yet.
    unsafe fn read(&self, result: Res, rows: &mut Vec<Row>) {
        // SAFETY: rows and columns are counted by the result itself, its values are NUL-terminated.
        unsafe {
            for row in 0..(self.api.tuples)(result) {
                let value = |column| {
                    ((self.api.is_null)(result, row, column) == 0)
                        .then(|| message((self.api.value)(result, row, column)))
                };
                rows.push((0..(self.api.fields)(result)).map(value).collect());
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: `open` took both, and nobody else gives them back.
        unsafe {
            (self.api.finish)(self.conn);
            pg_sys::ReleaseExternalFD();
        }
    }
}
