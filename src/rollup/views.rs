//! Live views that are made anew: whoever owned and read one before does so after.
use super::catalog;
use super::error::{Result, internal};
use super::plan::Plan;

/// A live view as it was: who owned it and who might read it.
pub struct Kept {
    view: String,
    owner: String,
    /// Statements that give back what was granted, with the column where it was granted on one.
    grants: Vec<(Option<String>, String)>,
}

/// The live view of a table of a rollup.
pub fn view_of(table: &str) -> Result<String> {
    catalog::read(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname || '_live') FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::pg_catalog.regclass",
        &[table.into()],
        |row| row.get::<String>(1),
    )?
    .into_iter()
    .flatten()
    .next()
    .ok_or_else(|| internal(format!("table {table} is gone")))
}

/// Drops a view, qualified and quoted; whatever stands on it speaks up.
pub fn drop(view: &str) -> Result<Kept> {
    let owner = catalog::read(
        "SELECT pg_catalog.format('%I', r.rolname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE c.oid = $1::pg_catalog.regclass",
        &[view.into()],
        |row| row.get::<String>(1),
    )?;
    let grants = catalog::read(
        "SELECT g.attname::pg_catalog.text, pg_catalog.format('GRANT %s%s ON %s TO %s%s', a.privilege_type, ' (' || pg_catalog.quote_ident(g.attname) || ')', $1, \
         CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
         FROM (SELECT c.oid, NULL::pg_catalog.name AS attname, c.relacl AS acl FROM pg_catalog.pg_class c UNION ALL \
               SELECT t.attrelid, t.attname, t.attacl FROM pg_catalog.pg_attribute t WHERE t.attnum > 0 AND NOT t.attisdropped) g \
         JOIN pg_catalog.pg_class c USING (oid), LATERAL pg_catalog.aclexplode(g.acl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee \
         WHERE g.oid = $1::pg_catalog.regclass AND a.grantee <> c.relowner AND (a.grantee = 0 OR r.oid IS NOT NULL)",
        &[view.into()],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?.unwrap_or_default())),
    )?;
    catalog::define(&format!("DROP VIEW {view}"))?;
    Ok(Kept { view: view.to_string(), owner: owner.into_iter().flatten().next().unwrap_or_default(), grants })
}

impl Kept {
    /// Gives the view that took its place to whom it belonged, for those to read who might; grants on columns that
    /// are gone have gone with them.
    pub fn restore(&self, plan: &Plan) -> Result<()> {
        let there = |c: &Option<String>| match c {
            None => true,
            Some(name) => plan.column(name).is_some_and(|c| !c.hidden),
        };
        for (_, grant) in self.grants.iter().filter(|(c, _)| there(c)) {
            catalog::define(grant)?;
        }
        catalog::define(&format!("ALTER VIEW {} OWNER TO {}", self.view, self.owner))
    }
}
