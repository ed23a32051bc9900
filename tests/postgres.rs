//! A real PostgreSQL server, that can be killed and started again.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{BOUND, free_port};

/// The password of the user `counter`.
pub const PASSWORD: &str = "s3cret/1";

/// A server on the loopback address with a user `counter` and a database `traffic` of that user. It
/// is killed when this is dropped.
pub struct Postgres {
    process: Option<Child>,
    programs: PathBuf,
    folder: PathBuf,
    /// Its port.
    pub port: u16,
}

/// The user and the group `nobody`: PostgreSQL refuses to be run by root.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

impl Postgres {
    /// Starts a server whose files are in `folder`, and waits until it is ready; or says that there
    /// is none here. Where `VEHICLECOUNT_REQUIRE_POSTGRES` is set, there must be one. With
    /// certificate and key (PEM) it speaks TLS.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(folder: &Path, certificate: Option<(&Path, &Path)>) -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let programs = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        let Some(programs) = programs.filter(|path| path.join("initdb").is_file()).max() else {
            let required = std::env::var_os("VEHICLECOUNT_REQUIRE_POSTGRES").is_some();
            assert!(!required, "there is no PostgreSQL: tools/setup.sh");
            eprintln!("SKIPPED: there is no PostgreSQL: tools/setup.sh");
            return None;
        };
        // A folder of its own, which its user reaches.
        let folder = folder.join("postgres");
        std::fs::create_dir(&folder).expect("the folder can be written");
        let mut server = Self { process: None, programs, folder, port: free_port() };
        server.open_folders();
        let password = server.folder.join("password");
        std::fs::write(&password, format!("{PASSWORD}\n")).expect("the folder can be written");
        server.give(&password);
        let data = server.folder.join("data");
        let made = server
            .command("initdb")
            .args(["--username=counter", "--auth=scram-sha-256", "--no-sync", "--no-locale"])
            .args(["--encoding=UTF8"])
            .arg(format!("--pwfile={}", password.display()))
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n\
             max_connections = 20\nshared_buffers = 16MB\ndynamic_shared_memory_type = mmap\n",
            server.port
        );
        if let Some((certificate, key)) = certificate {
            for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
                let to = data.join(to);
                std::fs::copy(from, &to).expect("the folder can be written");
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(&to, mode).expect("it is ours");
                server.give(&to);
            }
            text += "ssl = on\n";
        }
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .expect("initdb has made it");
        file.write_all(text.as_bytes()).expect("it can be written");
        server.restart();
        server.ask("postgres", "CREATE DATABASE traffic");
        Some(server)
    }

    /// The folders above are opened to the server's user, who may read nothing in them.
    fn open_folders(&self) {
        self.give(&self.folder);
        let parent = self.folder.parent().expect("it lies in a folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(parent, mode).expect("it is ours");
    }

    /// Gives a file or folder to the server's user.
    fn give(&self, path: &Path) {
        if is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("root gives what it has");
        }
    }

    /// A program of the server, run by a user that it accepts.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder).stdin(Stdio::null()).env("LC_ALL", "C");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts it again on the same port, after [`Postgres::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        let process = self
            .command("postgres")
            .arg("-D")
            .arg(self.folder.join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("postgres starts");
        self.process = Some(process);
        let begin = Instant::now();
        while self.try_ask("postgres", "SELECT 1").is_none() {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            assert!(ended.is_none() && begin.elapsed() < BOUND, "it does not start: {ended:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as a failing machine does: all its processes at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let group = process.id() as libc::pid_t;
            // SAFETY: killpg takes any group; this one is of a child that was not waited for yet,
            // which leads it, so that it is no other's.
            unsafe { libc::killpg(group, libc::SIGKILL) };
            let _ = process.wait();
        }
    }

    /// Its address for the user `counter`.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same at another port.
    pub fn url_at(&self, port: u16) -> String {
        let password = PASSWORD.replace('/', "%2F");
        format!("postgresql://counter:{password}@127.0.0.1:{port}/traffic")
    }

    /// What a query gives: rows as lines, fields separated by `|`.
    ///
    /// # Panics
    /// When it gives an error.
    pub fn ask(&self, database: &str, query: &str) -> String {
        self.try_ask(database, query).unwrap_or_else(|| panic!("{query}: it gives an error"))
    }

    fn try_ask(&self, database: &str, query: &str) -> Option<String> {
        TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"])
            .args(["-U", "counter", "-d", database, "-c", query, "-p"])
            .arg(self.port.to_string())
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(Stdio::null())
            .output()
            .expect("psql starts");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}
