//! Another major version of PostgreSQL, and pg_upgrade from it.
use std::fs;
use std::process::Command;

use crate::cluster::PORT;
use crate::{Cluster, Outcome, Tree, root};

impl Tree {
    /// A copy of Debian's PostgreSQL `major` with the package of this extension in it, or why there is none.
    pub fn packaged(major: u32) -> Outcome<Result<Tree, String>> {
        let bin = format!("/usr/lib/postgresql/{major}/bin");
        if !fs::exists(format!("{bin}/initdb"))? {
            return Ok(Err(format!("PostgreSQL {major} is not installed")));
        }
        let prefix = format!("postgresql-{major}-hll-rollup_");
        let built = fs::read_dir(root().join("target/deb")).into_iter().flatten().filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_name().to_str()?.starts_with(&prefix).then(|| entry.path())
        });
        let Some(package) = built.max() else {
            return Ok(Err(format!("no package for PostgreSQL {major} was built: make deb PG={major}")));
        };
        let (tree, top, _) = Tree::copied_by("packaged-pg", format!("{bin}/pg_config"))?;
        if !Command::new("dpkg-deb").arg("-x").arg(&package).arg(&top).status()?.success() {
            return Err(format!("{} cannot be unpacked", package.display()).into());
        }
        Ok(Ok(tree))
    }
}

impl Cluster {
    /// Stops this cluster; a started one of `tree` with those settings, which pg_upgrade made of it.
    pub fn upgraded(&mut self, tree: Tree, settings: &str) -> Outcome<Cluster> {
        self.stop()?;
        // From 18 on clusters have checksums by default; both must be alike.
        let alike = tree.major < 18 || self.tree.major >= 18;
        let options: &[&str] = if alike { &[] } else { &["--no-data-checksums"] };
        let mut new = Cluster::made(tree, settings, options, PORT)?;
        let done = new
            .command("pg_upgrade")
            .current_dir(new.socket()) // where it keeps its sockets, and its log where it fails
            .arg("-b")
            .arg(&self.tree.bin)
            .arg("-B")
            .arg(&new.tree.bin)
            .arg("-d")
            .arg(self.data())
            .arg("-D")
            .arg(new.data())
            .args(["-U", "postgres"])
            .output()?;
        if !done.status.success() {
            return Err(format!("pg_upgrade:\n{}", String::from_utf8_lossy(&done.stdout)).into());
        }
        new.start()?;
        Ok(new)
    }
}
