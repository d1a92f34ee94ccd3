//! One private cluster: started, crashed, restarted and removed by its owner.
use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postgres::{Client, NoTls};

use crate::{Account, Outcome, Tree};

/// The settings of a cluster whose rollups run by themselves.
pub const OURS: &str = "
shared_preload_libraries = 'hll'
rollup.naptime = 200ms
";

/// PostgreSQL's own.
pub(crate) const PORT: u16 = 5432;

const SETTINGS: &str = "
listen_addresses = ''
fsync = off
max_prepared_transactions = 20
max_worker_processes = 32
autovacuum_naptime = 5s
log_line_prefix = '%m [%p] %b '
";

const INITDB: [&str; 8] = ["-A", "trust", "-N", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"];

/// A PostgreSQL cluster in a temporary folder, on a Unix socket only.
#[derive(Debug)]
pub struct Cluster {
    /// The programs it runs.
    pub tree: Tree,
    folder: PathBuf,
    account: Option<Account>,
    postmaster: Option<Child>,
    port: u16,
}

impl Cluster {
    /// A new, started cluster with `hll` preloaded.
    pub fn new() -> Outcome<Cluster> {
        Cluster::with(Tree::prepare()?, OURS)
    }

    /// A new, started cluster of that tree, with more lines for postgresql.conf.
    pub fn with(tree: Tree, settings: &str) -> Outcome<Cluster> {
        let mut cluster = Cluster::made(tree, settings, &[], PORT)?;
        cluster.start()?;
        Ok(cluster)
    }

    /// The same, under that port; it is for the settings to have it listen anywhere but on its socket.
    pub fn on(tree: Tree, settings: &str, port: u16) -> Outcome<Cluster> {
        let mut cluster = Cluster::made(tree, settings, &[], port)?;
        cluster.start()?;
        Ok(cluster)
    }

    /// The same, not started yet, with more options for initdb.
    pub(crate) fn made(tree: Tree, settings: &str, options: &[&str], port: u16) -> Outcome<Cluster> {
        let mut cluster = Cluster::empty(tree)?;
        cluster.port = port;
        if options.is_empty() {
            // A copy of a cluster that is kept takes a tenth of initdb's time.
            let kept = cluster.kept()?;
            cluster.done("/bin/cp", &["-a"], &[&kept, &cluster.data()])?;
            cluster.identify()?;
        } else {
            cluster.done("initdb", &[&INITDB[..], options].concat(), &[Path::new("-D"), &cluster.data()])?;
        }
        let conf = cluster.data().join("postgresql.conf");
        let place = format!("port = {port}\nunix_socket_directories = '{}'\n", cluster.folder.display());
        fs::write(&conf, fs::read_to_string(&conf)? + SETTINGS + settings + &place)?;
        Ok(cluster)
    }

    /// The data of a cluster of this tree that never ran; made once.
    fn kept(&self) -> Outcome<PathBuf> {
        let top = self.tree.top();
        let lock = fs::File::create(top.join("cluster-lock"))?;
        lock.lock()?;
        let (folder, data) = (top.join("cluster"), top.join("cluster/data"));
        if !data.exists() {
            // What an initdb that was cut off left.
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir(&folder)?;
            if let Some(account) = &self.account {
                chown(&folder, Some(account.uid), Some(account.gid))?;
            }
            let fresh = folder.join("fresh");
            self.done("initdb", &INITDB, &[Path::new("-D"), &fresh])?;
            fs::rename(fresh, &data)?;
        }
        Ok(data)
    }

    /// Gives the copied data an identifier of its own, by which a server knows that it is not where a dump was made. It is
    /// the first field of pg_control, and in each segment of the log: pg_resetwal writes both again.
    fn identify(&self) -> Outcome<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let count = u64::from(COUNT.fetch_add(1, Ordering::Relaxed) % 4096);
        // As initdb makes them, but that it has the process id in the last 12 bits.
        let identifier = now.as_secs() << 32 | u64::from(now.subsec_micros()) << 12 | count;
        let control = self.data().join("global/pg_control");
        fs::OpenOptions::new().write(true).open(control)?.write_all(&identifier.to_ne_bytes())?;
        self.done("pg_resetwal", &["-f"], &[&self.data()])
    }

    /// Runs a program to its end; what it said is the error where it fails.
    fn done(&self, program: &str, options: &[&str], paths: &[&Path]) -> Outcome<()> {
        let made = self.command(program).args(options).args(paths).output()?;
        if made.status.success() {
            return Ok(());
        }
        Err(format!("{program}: {}", String::from_utf8_lossy(&made.stderr)).into())
    }

    /// A cluster without data, in a folder of its own.
    fn empty(tree: Tree) -> Outcome<Cluster> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let account = Account::unprivileged()?;
        // Short, because the path of a Unix socket is limited to 107 bytes.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/tmp/hll-{}-{number}", std::process::id()));
        fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let cluster = Cluster { tree, folder, account, postmaster: None, port: PORT };
        if let Some(account) = &cluster.account {
            chown(&cluster.folder, Some(account.uid), Some(account.gid))?;
        }
        Ok(cluster)
    }

    /// A program of the private tree, to run under the cluster's account.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.tree.bin.join(program));
        Account::apply(self.account.as_ref(), &mut command);
        command
            .current_dir("/")
            .env("PGHOST", &self.folder)
            .env("PGUSER", "postgres")
            .env("PGPORT", self.port.to_string());
        command.envs(self.tree.environment.iter().cloned());
        command
    }

    /// The folder that holds the socket.
    pub fn socket(&self) -> &Path {
        &self.folder
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.postmaster.as_ref().map(Child::id)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Starts the server and waits until it answers.
    pub fn start(&mut self) -> Outcome<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?;
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.postmaster = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.connect("postgres").is_err() {
            let ended = self.postmaster.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(Some(_))));
            if ended || Instant::now() > deadline {
                return Err(format!("the server did not start:\n{}", self.log()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A connection to database `db`.
    pub fn connect(&self, db: &str) -> Outcome<Client> {
        let mut to = postgres::Config::new();
        Ok(to.host_path(&self.folder).port(self.port).user("postgres").dbname(db).connect(NoTls)?)
    }

    /// A connection to a new database that has the extension.
    pub fn database(&self, db: &str) -> Outcome<Client> {
        self.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {db} TEMPLATE template0"))?;
        let mut client = self.connect(db)?;
        client.batch_execute("CREATE EXTENSION hll")?;
        Ok(client)
    }

    /// Database `db` as pg_dump writes it.
    pub fn dump(&self, db: &str) -> Outcome<String> {
        let dump = self.command("pg_dump").arg(db).output()?;
        if !dump.status.success() {
            return Err(format!("pg_dump: {}", String::from_utf8_lossy(&dump.stderr)).into());
        }
        Ok(String::from_utf8(dump.stdout)?)
    }

    /// A new database `db` of what pg_dump wrote, and a connection to it; the first error ends it.
    pub fn restore(&self, db: &str, dump: &str) -> Outcome<Client> {
        self.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {db} TEMPLATE template0"))?;
        self.restore_into(db, dump)
    }

    /// The same into a database that is there.
    pub fn restore_into(&self, db: &str, dump: &str) -> Outcome<Client> {
        let mut psql = self
            .command("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", db])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        // The pipe closes when it is dropped, which is what ends psql.
        let written = psql.stdin.take().map(|mut pipe| pipe.write_all(dump.as_bytes()));
        let done = psql.wait_with_output()?;
        if !done.status.success() {
            return Err(format!("psql: {}", String::from_utf8_lossy(&done.stderr)).into());
        }
        written.transpose()?;
        self.connect(db)
    }

    fn signal(&mut self, signal: &str) -> Outcome<()> {
        let Some(mut child) = self.postmaster.take() else { return Ok(()) };
        // The shell's own kill: the program of that name is not on every machine.
        Command::new("sh").args(["-c", "kill \"$0\" \"$1\"", signal, &child.id().to_string()]).status()?;
        child.wait()?;
        Ok(())
    }

    /// Kills the postmaster outright and waits for it and for all its children to be gone.
    pub fn crash(&mut self) -> Outcome<()> {
        let Some(child) = &self.postmaster else { return Ok(()) };
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
        self.signal("-KILL")?;
        let gone = || children.split_whitespace().all(|pid| !Path::new("/proc").join(pid).exists());
        // A backend notices the postmaster's death at its next wait; shared memory is held until then.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !gone() {
            if Instant::now() > deadline {
                return Err("a backend outlived the postmaster".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops without order (immediate mode): what a crash leaves, except for the log.
    pub fn quit(&mut self) -> Outcome<()> {
        self.signal("-QUIT")
    }

    /// Kills one process of the server outright, which makes the postmaster start again.
    pub fn kill(&self, pid: i64) -> Outcome<()> {
        let done = Command::new("sh").args(["-c", "kill -KILL \"$0\"", &pid.to_string()]).status()?;
        if done.success() { Ok(()) } else { Err(format!("process {pid} is not there").into()) }
    }

    /// A new cluster that follows this one.
    pub fn standby(&self) -> Outcome<Cluster> {
        self.standby_on(self.port)
    }

    /// The same, under another port.
    pub fn standby_on(&self, port: u16) -> Outcome<Cluster> {
        let mut standby = Cluster::empty(self.tree.clone())?;
        standby.port = port;
        let copied = self
            .command("pg_basebackup")
            .args(["-R", "-X", "stream", "-c", "fast", "-D"])
            .arg(standby.data())
            .output()?;
        if !copied.status.success() {
            return Err(format!("pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr)).into());
        }
        let conf = standby.data().join("postgresql.conf");
        let place = format!("port = {port}\nunix_socket_directories = '{}'\n", standby.folder.display());
        fs::write(&conf, fs::read_to_string(&conf)? + &place)?;
        standby.start()?;
        Ok(standby)
    }

    /// Shuts down in order (fast mode).
    pub fn stop(&mut self) -> Outcome<()> {
        self.signal("-INT")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Immediate mode: the data is thrown away anyway.
        let _ = self.signal("-QUIT");
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("the end of the server log:");
            lines.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Asks until the answer is true; panics with `what`, and the last error, when `seconds` have passed. For what may fail
/// for a while, such as a run beside the server's end.
pub fn wait_until(what: &str, seconds: u64, mut ask: impl FnMut() -> Outcome<bool>) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let answer = ask();
        if matches!(answer, Ok(true)) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s: {answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks until the answer is true; panics with `what` when `seconds` have passed.
pub fn wait_for(what: &str, seconds: u64, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !ask() {
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
