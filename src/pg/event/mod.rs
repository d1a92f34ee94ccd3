//! What triggers and event triggers are told, and tables that are about to leave.
pub mod ddl;
pub mod leaving;
pub mod trigger;
