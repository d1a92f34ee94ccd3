//! A private copy of the PostgreSQL tree with this extension in it.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::Outcome;

/// The top folder of the source tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/lab is two levels down").into()
}

/// The unprivileged account a server runs under when the caller is root; PostgreSQL refuses root.
#[derive(Clone, Debug)]
pub struct Account {
    /// The account's name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

impl Account {
    /// `postgres` if it exists, else `nobody`; `None` when the caller is not root and needs no other.
    pub fn unprivileged() -> Outcome<Option<Account>> {
        if fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd")?;
        let find = |name: &str| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == name).then_some(())?;
                let uid = fields.nth(1)?.parse().ok()?;
                Some(Account { name: name.into(), uid, gid: fields.next()?.parse().ok()? })
            })
        };
        match find("postgres").or_else(|| find("nobody")) {
            Some(account) => Ok(Some(account)),
            None => Err("no account postgres or nobody to run the server under".into()),
        }
    }

    /// Makes `command` run under this account.
    pub fn apply(account: Option<&Account>, command: &mut Command) {
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
    }
}

/// The private copy: programs, libraries and shared files in the layout PostgreSQL relocates by.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The major version.
    pub major: u32,
    /// The folder of `postgres`, `initdb`, `psql`.
    pub bin: PathBuf,
    /// The folder of loadable libraries.
    pub lib: PathBuf,
    /// The folder that holds `extension/`.
    pub share: PathBuf,
    /// Variables that its programs run with.
    pub environment: Vec<(String, String)>,
}

impl Tree {
    /// Copies the PostgreSQL of `$PG_CONFIG` (default: `$PG`, 15) once, and puts the freshly built extension in: once per
    /// program, whatever is built while it runs.
    pub fn prepare() -> Outcome<Tree> {
        static READY: Mutex<Option<Tree>> = Mutex::new(None);
        Self::once(&READY, || Ok(Some(Self::installed("private-pg")?)))?.ok_or("no tree".into())
    }

    /// The tree that `ready` keeps, else what `make` makes, which it keeps.
    fn once(
        ready: &Mutex<Option<Tree>>,
        make: impl FnOnce() -> Outcome<Option<Tree>>,
    ) -> Outcome<Option<Tree>> {
        let mut ready = ready.lock().unwrap_or_else(|e| e.into_inner());
        if ready.is_none() {
            *ready = make()?;
        }
        Ok(ready.clone())
    }

    /// A copy of that kind with the extension in it.
    fn installed(kind: &str) -> Outcome<Tree> {
        let (tree, top, _) = Self::copied(kind)?;
        // Several programs may prepare at once.
        let lock = fs::File::create(top.join("lock"))?;
        lock.lock()?;
        tree.install()?;
        Ok(tree)
    }

    /// A second copy, for cargo-pgrx to install its test builds into; returns its `pg_config`.
    ///
    /// The copied `pg_config` computes every path from its own place, so the headers are linked in.
    pub fn for_pgrx() -> Outcome<PathBuf> {
        let (tree, top, config) = Self::copied("pgrx-pg")?;
        let copied = tree.bin.join("pg_config");
        let ask = |program: &Path, what: &str| -> Outcome<PathBuf> {
            let out = Command::new(program).arg(what).output()?;
            Ok(PathBuf::from(String::from_utf8(out.stdout)?.trim()))
        };
        for what in ["--includedir-server", "--includedir", "--pkgincludedir"] {
            let (from, to) = (ask(Path::new(&config), what)?, ask(&copied, what)?);
            if from != to && !to.exists() {
                fs::create_dir_all(to.parent().unwrap_or(&top))?;
                std::os::unix::fs::symlink(from, to)?;
            }
        }
        Ok(copied)
    }

    /// A third copy, with Debian's package of postgresql-hll in it, the C extension to compare with; `make setup-test`
    /// fetches the package. None where it is not there.
    pub fn original() -> Outcome<Option<Tree>> {
        let (tree, top, _) = Self::copied("original-pg")?;
        let lock = fs::File::create(top.join("lock"))?;
        lock.lock()?;
        let unpacked = top.join("unpacked");
        if !unpacked.exists() {
            let package = package(&format!("postgresql-{}-hll", tree.major));
            let Some(package) = package else { return Ok(None) };
            // The tree copied from may have an `hll` in it, ours even: nothing of it may pass for the original.
            for (folder, start) in [(tree.share.join("extension"), "hll"), (tree.lib.clone(), "hll.")] {
                for entry in fs::read_dir(folder)? {
                    let path = entry?.path();
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    if name.starts_with(start) {
                        fs::remove_file(&path)?;
                    }
                }
            }
            unpack(&package, &top)?;
            fs::write(unpacked, "")?;
        }
        Ok(Some(tree))
    }

    /// A copy of the PostgreSQL of `$PG_CONFIG` with this extension, where that has Citus; else None.
    pub fn citus() -> Outcome<Option<Tree>> {
        let asked = Command::new(Self::config()).arg("--sharedir").output()?;
        let share = PathBuf::from(String::from_utf8(asked.stdout)?.trim());
        if !share.join("extension/citus.control").exists() {
            return Ok(None);
        }
        static READY: Mutex<Option<Tree>> = Mutex::new(None);
        Self::once(&READY, || Ok(Some(Self::installed("citus-pg")?)))
    }

    /// The folder that this tree lies in.
    pub(crate) fn top(&self) -> &Path {
        self.bin.ancestors().nth(5).expect("usr/lib/postgresql/MAJOR/bin lies in a folder")
    }

    fn config() -> String {
        let major = std::env::var("PG").unwrap_or_else(|_| "15".into());
        std::env::var("PG_CONFIG").unwrap_or_else(|_| format!("/usr/lib/postgresql/{major}/bin/pg_config"))
    }

    /// The private copy with an extension's package of Debian unpacked in it, such as `partman`. None where it is not
    /// there.
    pub fn beside(extension: &str) -> Outcome<Option<Tree>> {
        let tree = Tree::prepare()?;
        let (_, top, _) = Self::copied("private-pg")?;
        let Some(package) = package(&format!("postgresql-{}-{extension}", tree.major)) else {
            return Ok(None);
        };
        let lock = fs::File::create(top.join("lock"))?;
        lock.lock()?;
        let unpacked = top.join(format!("unpacked-{extension}"));
        if !unpacked.exists() {
            unpack(&package, &top)?;
            fs::write(unpacked, "")?;
        }
        Ok(Some(tree))
    }

    /// The top of a package of Debian that is no extension, unpacked where the server's account can read it. None where
    /// it is not there.
    pub fn tool(name: &str) -> Outcome<Option<PathBuf>> {
        let Some(package) = package(name) else { return Ok(None) };
        let (_, top, _) = Self::copied("private-pg")?;
        let lock = fs::File::create(top.join("lock"))?;
        lock.lock()?;
        let to = top.join(name);
        if !to.join("complete").exists() {
            fs::create_dir_all(&to)?;
            unpack(&package, &to)?;
            fs::write(to.join("complete"), "")?;
        }
        Ok(Some(to))
    }

    /// The tree, its top folder, and the `pg_config` it was copied by.
    fn copied(kind: &str) -> Outcome<(Tree, PathBuf, String)> {
        Self::copied_by(kind, Self::config())
    }

    /// The same for the PostgreSQL of `config`.
    pub(crate) fn copied_by(kind: &str, config: String) -> Outcome<(Tree, PathBuf, String)> {
        let ask = |what: &str| -> Outcome<String> {
            let out = Command::new(&config).arg(what).output().map_err(|e| format!("{config}: {e}"))?;
            Ok(String::from_utf8(out.stdout)?.trim().to_string())
        };
        let version = ask("--version")?;
        let digits = version.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty());
        let major: u32 = digits.ok_or_else(|| format!("{config}: no version in {version}"))?.parse()?;

        let top = Self::place(kind, major)?;
        fs::create_dir_all(&top)?;
        let top = top.canonicalize()?;
        let lock = fs::File::create(top.join("lock"))?;
        lock.lock()?;
        let bin = top.join("usr/lib/postgresql").join(major.to_string()).join("bin");
        let complete = top.join("complete");
        let fresh = fs::read_to_string(&complete).ok().as_deref() != Some(&version);
        if fresh {
            copy(Path::new(&ask("--bindir")?), &bin)?;
            if fs::exists(top.join("cluster"))? {
                fs::remove_dir_all(top.join("cluster"))?; // another version's
            }
        }
        // Programs find the rest from where they lie, in the layout that they were built for.
        let copied = |what: &str| -> Outcome<PathBuf> {
            let out = Command::new(bin.join("pg_config")).arg(what).output()?;
            let path = PathBuf::from(String::from_utf8(out.stdout)?.trim());
            if !path.starts_with(&top) {
                return Err(
                    format!("{config}: a copy of this PostgreSQL would use {}", path.display()).into()
                );
            }
            if fresh {
                copy(Path::new(&ask(what)?), &path)?;
            }
            Ok(path)
        };
        let (lib, share) = (copied("--pkglibdir")?, copied("--sharedir")?);
        let tree = Tree { major, bin, lib, share, environment: Vec::new() };
        if fresh {
            fs::write(&complete, &version)?;
        }
        Ok((tree, top, config))
    }

    /// Under `target/`, unless the server's account cannot walk there.
    fn place(kind: &str, major: u32) -> Outcome<PathBuf> {
        let target = root().join("target");
        fs::create_dir_all(&target)?;
        let open = |dir: &Path| fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
        let name = format!("{kind}-{major}");
        if Account::unprivileged()?.is_none() || target.ancestors().all(open) {
            return Ok(target.join(name));
        }
        // One folder per checkout, or two of them would share a library.
        let mark = fs::metadata(&target)?;
        Ok(std::env::temp_dir().join(format!("hll-{name}-{}", mark.ino())))
    }

    /// The extension's files, as `make install` would put them.
    fn install(&self) -> Outcome<()> {
        let root = root();
        let extension = self.share.join("extension");
        let scripts = root.join("target/extension");
        // Trees of other kinds are made of the same folder.
        let lock = fs::File::create(root.join("target/extension-lock"))?;
        lock.lock()?;
        let assembled = Command::new(root.join("sql/assemble")).arg(&scripts).status()?;
        if !assembled.success() {
            return Err("sql/assemble failed".into());
        }
        // A packaged version of the same name must not be reachable from the copy.
        for entry in fs::read_dir(&extension)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("hll--") && !scripts.join(&name).exists() {
                fs::remove_file(path)?;
            }
        }
        for entry in fs::read_dir(&scripts)? {
            let entry = entry?;
            replace(&extension.join(entry.file_name()), &fs::read(entry.path())?)?;
        }
        replace(&extension.join("hll.control"), &fs::read(root.join("hll.control"))?)?;
        let library = root.join("target/release/libhll.so");
        let bytes =
            fs::read(&library).map_err(|e| format!("{}: {e}; `make build` makes it", library.display()))?;
        replace(&self.lib.join("hll.so"), &bytes)
    }
}

/// A package that `make setup-test` keeps.
fn package(name: &str) -> Option<PathBuf> {
    let name = format!("{name}_");
    fs::read_dir(root().join("target/original")).ok()?.find_map(|entry| {
        let entry = entry.ok()?;
        entry.file_name().to_str()?.starts_with(&name).then(|| entry.path())
    })
}

fn unpack(package: &Path, to: &Path) -> Outcome<()> {
    if Command::new("dpkg-deb").arg("-x").arg(package).arg(to).status()?.success() {
        return Ok(());
    }
    Err(format!("{} cannot be unpacked", package.display()).into())
}

/// Replaces a file by rename, so that a running server keeps the one it has mapped.
fn replace(path: &Path, bytes: &[u8]) -> Outcome<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, bytes)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    Ok(fs::rename(&fresh, path)?)
}

/// Copies a folder's entries, links as links; bitcode (for JIT inlining) stays behind.
fn copy(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() == "bitcode" {
            continue;
        }
        let done = Command::new("cp").arg("-a").arg(entry.path()).arg(to).status()?;
        if !done.success() {
            return Err(format!("could not copy {} to {}", entry.path().display(), to.display()).into());
        }
    }
    Ok(())
}
