//! `rollup_internal.partitions_ahead`: up to when rows find a partition in a table that `rollup.partition` keeps ahead.
use super::error::{raise, report};
use crate::pg::rows::record;
use crate::pg::v1::Call;
use crate::pg::xact::in_subtransaction;
use crate::pg::zonemap::ahead::{Ahead, ahead};
use pgrx::{IntoDatum, PgSqlErrorCode, pg_sys};
use std::panic::AssertUnwindSafe;

crate::v1!(rollup_partitions_ahead, partitions_ahead);

/// One that cannot be told is an error of its own row: views show all of them at once.
fn partitions_ahead(call: &mut Call) -> pg_sys::Datum {
    let (Some(table), Some(zone)) = (call.oid(0), call.arg(1)) else { return call.null() };
    let found = in_subtransaction(AssertUnwindSafe(|| Ok(ahead(table, zone))));
    match found {
        Ok(Ahead::Unknown) => record(call, &[None, None]),
        Ok(Ahead::Nowhere) => record(call, &[Some(crate::pg::xact::transaction_time().into()), None]),
        Ok(Ahead::Until(end)) => record(call, &[Some(end.into()), None]),
        // Whoever reads may stop that.
        Err(e) if e.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED => raise(report(e.code, e.message, "")),
        Err(e) => record(call, &[None, e.message.into_datum()]),
    }
}
