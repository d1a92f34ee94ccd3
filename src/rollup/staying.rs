//! Old rows that may go and stay all the same, of which no error tells: in tables that expiry deletes nothing from, or because
//! a trigger of the table keeps them. (A rule that does makes deleting them an error.) Whoever waits for them to go finds the reason in `rollup.status`.
use super::catalog::{self, Must};
use super::error::Result;
use super::removal::Partition;
use super::retention::Retention;
use pgrx::pg_sys;

/// Why old rows stay in the foreign tables below a table, and in those that are stored otherwise than as a heap, those
/// partitions aside. None where they have no old rows.
pub fn beside(r: &Retention, old: &str, without: &[Partition]) -> Result<Option<String>> {
    let _acting = r.acting();
    let tables = catalog::read(
        "WITH RECURSIVE t(oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid WHERE NOT i.inhdetachpending AND i.inhrelid <> ALL ($2)) \
         SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind = 'f', h.amname::pg_catalog.text FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am h ON h.oid = c.relam \
         WHERE c.relkind = 'f' OR c.relkind = 'r' AND h.amname <> 'heap' ORDER BY t.oid",
        &[r.oid.into(), without.iter().map(|p| p.oid).collect::<Vec<_>>().into()],
        |row| Ok((row.must::<String>(1)?, row.must::<bool>(2)?, row.get::<String>(3)?)),
    )?;
    for (name, foreign, method) in tables {
        let any = format!("SELECT true FROM ONLY {name} WHERE {old} LIMIT 1");
        if catalog::read(&any, &[], |row| row.get::<bool>(1))?.is_empty() {
            continue;
        }
        let kind = match (foreign, method) {
            (false, Some(method)) => format!("is stored by access method {method}"),
            _ => "is a foreign table".to_string(),
        };
        return Ok(Some(format!(
            "old rows of {name} stay, which {kind}: delete them there, or detach it when it is old as a whole"
        )));
    }
    Ok(None)
}

/// Whether triggers of a table may keep rows that are deleted.
pub fn may_keep(table: pg_sys::Oid) -> Result<bool> {
    // Row, before, and delete are bits 1, 2 and 8 of the type.
    let found = catalog::read(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 11 = 11)",
        &[table.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first() == Some(&Some(true)))
}

/// Why rows of a table stay that were to be deleted.
pub fn kept(name: &str) -> String {
    format!("old rows of {name} stay: a trigger before DELETE keeps them")
}
