//! Errors that a test provokes, by name: any other is a failure.
use std::time::{Duration, Instant};

use hll_lab::Outcome;
use postgres::{Client, Error};

/// What one of several that run at once may be told: its transaction is gone, nothing else.
pub const COLLISIONS: [&str; 3] = ["40001", "40P01", "55P03"];

/// Whether the session has ended: the server went away, or said that it ends it (57P01, 57P02) or starts (57P03).
pub fn lost(error: &Error) -> bool {
    match error.as_db_error() {
        Some(said) => ["57P01", "57P02", "57P03"].contains(&said.code().code()),
        // Not from the server: the connection itself. A value that does not fit its type says so differently.
        None => {
            error.is_closed() || std::error::Error::source(error).is_some_and(|e| e.is::<std::io::Error>())
        }
    }
}

/// Whether the server said one of these SQLSTATEs.
pub fn is_one_of(error: &Error, states: &[&str]) -> bool {
    error.as_db_error().is_some_and(|said| states.contains(&said.code().code()))
}

/// Whether it was done. An error that is none of these is a failure of the test.
#[track_caller]
pub fn done_unless<T>(outcome: Result<T, Error>, states: &[&str]) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) if is_one_of(&error, states) => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// Repeats a statement until the server goes away; any other error is a failure.
#[track_caller]
pub fn until_lost(client: &mut Client, sql: &str) {
    let error = loop {
        if let Err(error) = client.batch_execute(sql) {
            break error;
        }
    };
    assert!(lost(&error), "{sql}: {error:?}");
}

/// A connection that answers; the last error where there is none within a minute.
#[track_caller]
pub fn answering(mut connect: impl FnMut() -> Outcome<Client>) -> Client {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = connect().and_then(|mut client| {
            client.simple_query("SELECT 1")?;
            Ok(client)
        });
        match answer {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "the server does not answer: {error:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
