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
use crate::system::command;

/// A running service. It is killed when this is dropped.
pub struct Service {
    process: Child,
    lines: Receiver<String>,
    /// All that it has said on both of its outputs.
    pub said: String,
    /// Host and port of its HTTP interface.
    pub host: String,
}

impl Service {
    /// Starts it with a configuration in `folder`, to which a free port and the scripted engine are
    /// added, and waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or says no address.
    pub fn start(folder: &Path, configuration: &str) -> Self {
        let file = folder.join("counter.toml");
        let common = "[http]\nlisten = \"127.0.0.1:0\"\n[counter]\nengine = \"scripted\"\ninput-size = \"256x256\"\n";
        std::fs::write(&file, format!("{common}{configuration}"))
            .expect("the folder can be written");
        let mut process = command()
            .arg("run")
            .arg(&file)
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
        let mut service = Self { process, lines, said: String::new(), host: String::new() };
        let begin = Instant::now();
        while service.host.is_empty() {
            assert!(begin.elapsed() < BOUND, "the service says no address: {}", service.said);
            match service.lines.recv_timeout(BOUND) {
                Ok(line) => {
                    if let Some(host) = line.strip_prefix("http://") {
                        service.host = host.trim_end_matches('/').to_owned();
                    }
                    service.hear(&line);
                }
                Err(_) => panic!("the service has ended: {}", service.said),
            }
        }
        service
    }

    fn hear(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
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
        let (status, _, body) = self.ask_as(&self.host, path);
        (status, body)
    }

    /// As [`Service::ask`], with a host of the client's choice; with the headers.
    ///
    /// # Panics
    /// As there.
    pub fn ask_as(&self, host: &str, path: &str) -> (u16, String, String) {
        ask(&self.host, host, path)
    }

    /// The JSON at `path`.
    ///
    /// # Panics
    /// When there is none.
    pub fn json(&self, path: &str) -> Value {
        Self::json_of(&self.host, path)
    }

    /// The JSON at `path` of the service at `host`.
    ///
    /// # Panics
    /// When there is none.
    pub fn json_of(host: &str, path: &str) -> Value {
        let (_, _, body) = ask(host, host, path);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
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

    /// Ends it as systemd and Docker do. Gives whether it ended well.
    ///
    /// # Panics
    /// When it does not end within [`BOUND`].
    pub fn terminate(&mut self) -> bool {
        // SAFETY: kill takes any process id; this one is a child that was not waited for yet, so it
        // is no other's.
        unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGTERM) };
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

/// Status, headers and body of the answer to a request.
fn ask(place: &str, host: &str, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(place).expect("the interface is there");
    stream.set_read_timeout(Some(BOUND)).expect("a bound can be set");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        .expect("it is asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("it answers in HTTP");
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("it gives a status");
    (status, head.to_owned(), body.to_owned())
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
