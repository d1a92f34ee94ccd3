//! Which rows every rollup of a table has merged: what expiry asks.
use super::catalog::Definition;
use super::error::Result;
use hll_rollup::sql as bounds;

/// What every one of some rollups has merged, as conditions on rows.
pub struct Merged(Vec<String>);

impl Merged {
    /// By all of these.
    pub fn by_all(definitions: &[Definition]) -> Result<Merged> {
        let mut rules = Vec::new();
        for d in definitions {
            d.check_cluster()?;
            rules.push(bounds::merged_rows("", d.plan()?.time(), &d.state));
            let noted = |table: &str| {
                format!(
                    "NOT EXISTS (SELECT FROM rollup_internal.{table}({}::pg_catalog.oid) n WHERE {})",
                    d.source_oid.to_u32(),
                    bounds::unmerged("n.", &d.state.frontier)
                )
            };
            if d.state.nodes().is_none() {
                // Rows that came with stamps of others are to be judged first, and need those next to them for that.
                rules.push(noted("arrivals"));
            }
            if d.follows {
                // A bucket that is to be computed again needs its rows.
                rules.push(noted("changes"));
            }
        }
        Ok(Merged(rules))
    }

    /// Whether there are no rollups: all rows count as merged.
    pub fn is_every_row(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Merged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("true")?;
        self.0.iter().try_for_each(|rule| write!(f, " AND {rule}"))
    }
}
