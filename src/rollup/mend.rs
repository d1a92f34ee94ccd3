//! Missing triggers of a source are made by a run: see `arrange`.
use super::arrange::{is_watched, odd, tables, try_as, warn};
use super::catalog::Definition;
use super::error::Result;
use super::{leaving, source};
use hll_rollup::sql::literal;

/// Makes, as the owner of a source whose rollup is run, what lacks: changes were made unseen. At the end of the run: its locks
/// keep writers out until then.
pub fn mend(d: &Definition) -> Result<()> {
    if !is_watched(d.source_oid)? {
        return Ok(());
    }
    let mut all = odd(d.source_oid)?;
    all.retain(|o| o.lacks && !o.commands.is_empty());
    let source = source::describe(d.source_oid)?;
    // What cannot be made now, rollup.status names: a line in the log with every run would be none the better.
    if all.is_empty() || try_as(source.owner, &all)?.is_some() {
        return Ok(());
    }
    leaving::unseen(d.source_oid)?;
    warn(
        format!(
            "rollup {}: triggers of rollups were missing on {}, and are there again",
            d.name,
            tables(&all)
        ),
        format!(
            "Changes of rows that were made without them are not in the rollups of {}. SELECT rollup.rebuild({}) computes all again, its second and third argument say from when to when.",
            source.qualified(),
            literal(&d.name)
        ),
    );
    Ok(())
}
