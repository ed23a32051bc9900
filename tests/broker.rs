//! A real MQTT broker, mosquitto, that can be killed and started again; one that listens to it; and
//! a gate before it.

use std::io::{self, BufRead, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{Client, Event, MqttOptions};

use crate::{BOUND, free_port};

/// What the broker asks of its clients.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Certificate and key, PEM: it speaks TLS.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// A broker on the loopback address. It is killed when this is dropped.
pub struct Broker {
    process: Option<Child>,
    folder: PathBuf,
    /// Its port.
    pub port: u16,
}

impl Broker {
    /// Starts a broker whose files are in `folder`, and waits until it is ready.
    ///
    /// # Panics
    /// When mosquitto is not installed or does not start.
    pub fn start(folder: &Path, rules: &Rules) -> Self {
        let port = free_port();
        let mut text = format!(
            "listener {port} 127.0.0.1\npersistence false\nlog_dest stderr\nlog_type all\n\
             max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        );
        match &rules.login {
            Some((user, password)) => {
                let file = folder.join("passwords");
                std::fs::write(&file, "").expect("the folder can be written");
                let mut command = Command::new("mosquitto_passwd");
                let made = command.args(["-b"]).arg(&file).args([user, password]).output();
                let made = made.expect("mosquitto is installed: tools/setup.sh");
                assert!(made.status.success(), "{made:?}");
                text += &format!("allow_anonymous false\npassword_file {}\n", file.display());
            }
            None => text += "allow_anonymous true\n",
        }
        if let Some((certificate, key)) = &rules.certificate {
            text += &format!("certfile {}\nkeyfile {}\n", certificate.display(), key.display());
        }
        // Run by root, it becomes another user, who reads none of our files.
        text += "user root\n";
        std::fs::write(folder.join("mosquitto.conf"), text).expect("the folder can be written");
        let mut broker = Self { process: None, folder: folder.to_owned(), port };
        broker.restart();
        broker
    }

    /// Starts it again on the same port, after [`Broker::kill`].
    ///
    /// # Panics
    /// As [`Broker::start`].
    pub fn restart(&mut self) {
        let mut process = Command::new("mosquitto")
            .args(["-c", "mosquitto.conf"])
            .current_dir(&self.folder)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto is installed: tools/setup.sh");
        let error = process.stderr.take().expect("it is piped");
        self.process = Some(process);
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(error).lines().map_while(Result::ok) {
                // The test may be over.
                let _ = send.send(line);
            }
        });
        let (begin, mut said) = (Instant::now(), String::new());
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            said.extend(lines.try_iter().map(|line| line + "\n"));
            assert!(begin.elapsed() < BOUND, "the broker does not start: {said}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a failing machine does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: String,
    /// The broker had kept it.
    pub retain: bool,
}

/// A client that has subscribed to all that a broker has, without TLS.
pub struct Listener {
    /// What came.
    pub messages: Receiver<Message>,
}

impl Listener {
    /// Subscribes, and goes on until the connection ends.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn start(port: u16, login: Option<(&str, &str)>) -> Self {
        let id = format!("listener-{}-{}", std::process::id(), free_port());
        let mut options = MqttOptions::new(id, ("127.0.0.1", port));
        options.set_clean_start(true).set_keep_alive(30);
        if let Some((user, password)) = login {
            options.set_credentials(user.to_owned(), password.to_owned());
        }
        let (client, mut connection) = Client::builder(options).capacity(8).build();
        client.try_subscribe("#", QoS::AtLeastOnce).expect("there is room for a request");
        let (send, messages) = mpsc::channel();
        let (ready, subscribed) = mpsc::channel();
        thread::spawn(move || {
            let _client = client;
            for event in connection.iter() {
                let Ok(event) = event else { return };
                match event {
                    Event::Incoming(Packet::SubAck(_)) => drop(ready.send(())),
                    Event::Incoming(Packet::Publish(publish)) => {
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        let message = Message {
                            topic: text(&publish.topic),
                            payload: text(&publish.payload),
                            retain: publish.retain,
                        };
                        if send.send(message).is_err() {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        subscribed.recv_timeout(BOUND).expect("the broker answers");
        Self { messages }
    }

    /// The next message for which `wanted` says so.
    ///
    /// # Panics
    /// When none comes within [`BOUND`].
    pub fn until(&self, what: &str, mut wanted: impl FnMut(&Message) -> bool) -> Message {
        let begin = Instant::now();
        loop {
            let left = BOUND.saturating_sub(begin.elapsed());
            match self.messages.recv_timeout(left) {
                Ok(message) if wanted(&message) => return message,
                Ok(_) => {}
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
}

/// A gate before a server: it can be shut, which ends what passes through it.
pub struct Gate {
    /// Its port.
    pub port: u16,
    shared: Arc<Mutex<(bool, Vec<TcpStream>)>>,
}

impl Gate {
    /// An open gate before a port.
    ///
    /// # Panics
    /// When no port is free.
    pub fn open_to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let shared = Arc::new(Mutex::new((true, Vec::new())));
        let own = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut shared = own.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                if !shared.0 {
                    continue;
                }
                let Ok(()) = pass(&client, &server).and_then(|()| pass(&server, &client)) else {
                    continue;
                };
                shared.1.extend([client, server]);
            }
        });
        Self { port, shared }
    }

    /// Shuts or opens it.
    pub fn set_open(&self, open: bool) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.0 = open;
        if !open {
            for stream in shared.1.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

/// Hands on what comes from one side to the other.
fn pass(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    to.set_nodelay(true)?;
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    Ok(())
}
