//! The service as a process of its own: its configuration, what it says, and its HTTP interface.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::BOUND;
use crate::system::{assert_calm, command};

/// A running service. It is killed when this is dropped.
pub struct Service {
    process: Child,
    lines: Receiver<String>,
    /// All that it has said on both of its outputs.
    pub said: String,
    /// Host and port of its HTTP interface.
    pub host: String,
    /// The token that requests carry.
    pub token: String,
}

impl Service {
    /// Starts it with a configuration in `folder`, to which a free port and the scripted engine are
    /// added, and waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or says no address.
    pub fn start(folder: &Path, configuration: &str) -> Self {
        Self::start_with_token(folder, "", configuration)
    }

    /// As [`Service::start`], with a token, unless that is empty.
    ///
    /// # Panics
    /// As there.
    pub fn start_with_token(folder: &Path, token: &str, configuration: &str) -> Self {
        let set = if token.is_empty() { String::new() } else { format!("token = {token:?}\n") };
        Self::start_with_http(folder, token, &set, configuration)
    }

    /// As [`Service::start_with_token`], with keys of `[http]`, the token's among them.
    ///
    /// # Panics
    /// As there.
    pub fn start_with_http(folder: &Path, token: &str, set: &str, configuration: &str) -> Self {
        Self::start_with(folder, token, set, configuration, &[])
    }

    /// As [`Service::start`], with further variables of its environment.
    ///
    /// # Panics
    /// As there.
    pub fn start_in(folder: &Path, configuration: &str, variables: &[(&str, &Path)]) -> Self {
        Self::start_with(folder, "", "", configuration, variables)
    }

    fn start_with(
        folder: &Path,
        token: &str,
        set: &str,
        configuration: &str,
        variables: &[(&str, &Path)],
    ) -> Self {
        let file = folder.join("counter.toml");
        let common = "[counter]\nengine = \"scripted\"\ninput-size = \"256x256\"\n";
        std::fs::write(
            &file,
            format!("[http]\nlisten = \"127.0.0.1:0\"\n{set}{common}{configuration}"),
        )
        .expect("the folder can be written");
        let mut process = command()
            .arg("run")
            .arg(&file)
            .envs(variables.iter().copied())
            // What libraries warn of is heard instead.
            .env_remove("G_DEBUG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let (send, lines) = mpsc::channel();
        let error = process.stderr.take().expect("it is piped");
        let output = process.stdout.take().expect("it is piped");
        for stream in [Box::new(error) as Box<dyn Read + Send>, Box::new(output)] {
            let send = send.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // The test may be over.
                    let _ = send.send(line);
                }
            });
        }
        // The lines end when both outputs do.
        drop(send);
        let mut service = Self {
            process,
            lines,
            said: String::new(),
            host: String::new(),
            token: token.to_owned(),
        };
        let begin = Instant::now();
        while service.host.is_empty() {
            assert!(begin.elapsed() < BOUND, "the service says no address: {}", service.said);
            match service.lines.recv_timeout(BOUND) {
                Ok(line) => {
                    let host = ["http://", "https://"].map(|scheme| line.strip_prefix(scheme));
                    if let Some(host) = host.into_iter().flatten().next() {
                        service.host = host.trim_end_matches('/').to_owned();
                    }
                    service.hear(&line);
                }
                Err(_) => panic!("the service has ended: {}", service.said),
            }
        }
        service
    }

    /// # Panics
    /// When a library has warned.
    fn hear(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
        assert_calm(line);
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Status and body of the answer to a request.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&self, path: &str) -> (u16, String) {
        self.send("GET", path, "")
    }

    /// As [`Service::ask`], with a host of the client's choice; with the headers.
    ///
    /// # Panics
    /// As there.
    pub fn ask_as(&self, host: &str, path: &str) -> (u16, String, String) {
        let (status, head, body) = exchange(&self.host, "GET", path, &format!("Host: {host}"), "");
        (status, head, text(body))
    }

    /// Status and body of the answer to a request with a body of JSON, unless that is empty.
    ///
    /// # Panics
    /// As there.
    pub fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let kind = if body.is_empty() { "" } else { "\r\nContent-Type: application/json" };
        let token = match &self.token {
            token if token.is_empty() => String::new(),
            token => format!("\r\nAuthorization: Bearer {token}"),
        };
        let (status, _, body) = self.exchange(method, path, &format!("{kind}{token}"), body);
        (status, text(body))
    }

    /// Status, headers and body of the answer to a request with further `headers`, each after a
    /// line break.
    ///
    /// # Panics
    /// As there.
    pub fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String, Vec<u8>) {
        exchange(&self.host, method, path, &format!("Host: {}{headers}", self.host), body)
    }

    /// The JSON at `path`.
    ///
    /// # Panics
    /// When there is none.
    pub fn json(&self, path: &str) -> Value {
        let (_, body) = self.ask(path);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// The JSON at `path` of the service at `host`.
    ///
    /// # Panics
    /// When there is none.
    pub fn json_of(host: &str, path: &str) -> Value {
        let (_, _, body) = exchange(host, "GET", path, &format!("Host: {host}"), "");
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Status and body of the answer of the service at `host`.
    ///
    /// # Panics
    /// When there is none.
    pub fn answer_of(host: &str, path: &str) -> (u16, String) {
        let (status, _, body) = exchange(host, "GET", path, &format!("Host: {host}"), "");
        (status, text(body))
    }

    /// Waits until `done` says so of the cameras, which it is asked about again and again.
    ///
    /// # Panics
    /// When that does not happen within [`BOUND`].
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&dyn Fn(&str) -> Value) -> bool) {
        let begin = Instant::now();
        loop {
            let all = self.json("/api/v1/cameras");
            let camera = |name: &str| {
                let cameras = all["cameras"].as_array().expect("a list");
                cameras.iter().find(|camera| camera["name"] == name).cloned().unwrap_or_default()
            };
            if done(&camera) {
                return;
            }
            assert!(begin.elapsed() < BOUND, "{what}: {all:#}\n{}", self.said);
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) {
                self.hear(&line);
            }
        }
    }

    /// The figures of a sink; null where there is none of that name.
    ///
    /// # Panics
    /// As [`Service::json`].
    pub fn sink(&self, name: &str) -> Value {
        let all = self.json("/api/v1/sinks");
        let sinks = all["sinks"].as_array().expect("a list");
        sinks.iter().find(|sink| sink["name"] == name).cloned().unwrap_or_default()
    }

    /// Waits until the figures of a sink are as they are to be, and gives them.
    ///
    /// # Panics
    /// When that does not happen within [`BOUND`].
    pub fn until_sink(&mut self, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let figures = self.sink(name);
            if done(&figures) {
                return figures;
            }
            assert!(begin.elapsed() < BOUND, "{name}: {what}: {figures:#}\n{}", self.said);
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) {
                self.hear(&line);
            }
        }
    }

    /// Changes its configuration with `change`, and has it read anew.
    ///
    /// # Panics
    /// When the file cannot be changed.
    pub fn reload(&self, folder: &Path, change: impl FnOnce(String) -> String) {
        let file = folder.join("counter.toml");
        let text = std::fs::read_to_string(&file).expect("there is a configuration");
        std::fs::write(&file, change(text)).expect("the folder can be written");
        self.signal(libc::SIGHUP);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill takes any process id; this one is a child that was not waited for yet, so it
        // is no other's.
        unsafe { libc::kill(self.process.id() as libc::pid_t, signal) };
    }

    /// Waits until it says that in a line.
    ///
    /// # Panics
    /// When that does not happen within [`BOUND`].
    pub fn until_said(&mut self, what: &str) {
        let begin = Instant::now();
        while !self.said.contains(what) {
            assert!(begin.elapsed() < BOUND, "it does not say {what}: {}", self.said);
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) {
                self.hear(&line);
            }
        }
    }

    /// Ends it as systemd and Docker do. Gives whether it ended well.
    ///
    /// # Panics
    /// When it does not end within [`BOUND`].
    pub fn terminate(&mut self) -> bool {
        self.signal(libc::SIGTERM);
        let begin = Instant::now();
        // Both outputs are at their end when it is gone.
        loop {
            match self.lines.recv_timeout(BOUND) {
                Ok(line) => self.hear(&line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {}", self.said),
            }
            assert!(begin.elapsed() < BOUND, "it does not end: {}", self.said);
        }
        self.process.wait().expect("it is a child").success()
    }

    /// Ends it as a failing machine does.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it is a child");
    }
}

/// Status, headers and body of the answer of the service at `place` to a request.
///
/// # Panics
/// When there is none.
pub fn exchange(
    place: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(place).expect("the interface is there");
    stream.set_read_timeout(Some(BOUND)).expect("a bound can be set");
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let head =
        format!("{method} {path} HTTP/1.1\r\n{headers}\r\n{length}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it is asked");
    // A body that is refused may not be read to its end.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("it answers in HTTP: {read:?}"));
    let (head, body) = (text(answer[..end].to_vec()), answer[end + 4..].to_vec());
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("it gives a status"), head, body)
}

fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).expect("the answer is a text")
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
