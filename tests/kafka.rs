//! A real Kafka cluster of one broker, that can be killed and started again, and one that listens
//! to it: both from Apache's own Java archives, which tools/kafka.sh fetches.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::{BOUND, free_port};

/// How long Java may take: it starts slowly where much else is done.
const SLOW: Duration = BOUND.saturating_mul(3);

/// What the cluster asks of its clients.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// User name and password, for SASL with this mechanism, such as `SCRAM-SHA-512`.
    pub login: Option<(String, String, String)>,
    /// A file of PEM with the key and the certificates of the broker: it speaks TLS.
    pub certificate: Option<PathBuf>,
}

/// A cluster on the loopback address. It is killed when this is dropped.
pub struct KafkaCluster {
    process: Option<Child>,
    folder: PathBuf,
    /// Its port.
    pub port: u16,
    /// A port without TLS and login, for listeners of the test.
    inner_port: u16,
}

/// Where tools/kafka.sh has put the archives.
fn archives() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the root");
    let runtime = std::env::var_os("VEHICLECOUNT_RUNTIME").map(PathBuf::from);
    runtime.unwrap_or_else(|| root.join(".runtime")).join("kafka/libs")
}

/// A program of Kafka.
fn java(class: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"])
        .arg(archives().join("*"))
        .arg(class)
        .stdin(Stdio::null());
    command
}

impl KafkaCluster {
    /// Starts a cluster whose files are in `folder`, and waits until it is ready; or says that
    /// there is none here. Where `VEHICLECOUNT_REQUIRE_KAFKA` is set, there must be one. Topics
    /// have three partitions, and begin to be when a [`KafkaListener`] asks for them.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(folder: &Path, rules: &Rules) -> Option<Self> {
        let is_there = archives().is_dir()
            && Command::new("java").arg("-version").output().is_ok_and(|out| out.status.success());
        if !is_there {
            let required = std::env::var_os("VEHICLECOUNT_REQUIRE_KAFKA").is_some();
            assert!(!required, "there is no Kafka: tools/kafka.sh");
            eprintln!("SKIPPED: there is no Kafka: tools/kafka.sh");
            return None;
        }
        let (port, inner_port, controller_port) = (free_port(), free_port(), free_port());
        let protocol = match (&rules.login, &rules.certificate) {
            (None, None) => "PLAINTEXT",
            (None, Some(_)) => "SSL",
            (Some(_), None) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        };
        let listeners = format!("OUTER://127.0.0.1:{port},INNER://127.0.0.1:{inner_port}");
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
             listeners={listeners},CONTROLLER://127.0.0.1:{controller_port}\n\
             advertised.listeners={listeners}\n\
             listener.security.protocol.map=OUTER:{protocol},INNER:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=INNER\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\nnum.partitions=3\noffsets.topic.num.partitions=1\n\
             offsets.topic.replication.factor=1\ngroup.initial.rebalance.delay.ms=0\n\
             log.cleaner.dedupe.buffer.size=4194304\n",
            folder.join("log").display()
        );
        let mut format = java("kafka.tools.StorageTool");
        let file = folder.join("server.properties");
        format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c"]).arg(&file);
        if let Some((mechanism, user, password)) = &rules.login {
            text += &format!("sasl.enabled.mechanisms={mechanism}\n");
            let module = "org.apache.kafka.common.security";
            if mechanism == "PLAIN" {
                text += &format!(
                    "listener.name.outer.plain.sasl.jaas.config={module}.plain.PlainLoginModule \
                     required user_{user}=\"{password}\";\n"
                );
            } else {
                text += &format!(
                    "listener.name.outer.{}.sasl.jaas.config=\
                     {module}.scram.ScramLoginModule required;\n",
                    mechanism.to_lowercase()
                );
                format.arg("--add-scram");
                format.arg(format!("{mechanism}=[name={user},password={password}]"));
            }
        }
        if let Some(certificate) = &rules.certificate {
            text += &format!(
                "listener.name.outer.ssl.keystore.type=PEM\n\
                 listener.name.outer.ssl.keystore.location={}\n",
                certificate.display()
            );
        }
        std::fs::write(&file, text).expect("the folder can be written");
        let formatted = format.output().expect("java starts");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stdout));
        let mut cluster = Self { process: None, folder: folder.to_owned(), port, inner_port };
        cluster.restart();
        Some(cluster)
    }

    /// Starts it again on the same ports, after [`KafkaCluster::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        let mut process = java("kafka.Kafka")
            .arg(self.folder.join("server.properties"))
            .current_dir(&self.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("java starts");
        let mut output = process.stderr.take().expect("it is piped");
        self.process = Some(process);
        let (send, said) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            // What it says at its end is enough.
            let _ = output.read_to_string(&mut text);
            let _ = send.send(text);
        });
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = said.try_recv();
            assert!(ended.is_err() && begin.elapsed() < SLOW, "Kafka does not start: {ended:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends records, keys and values, with Apache's own producer.
    ///
    /// # Panics
    /// When they are not taken.
    pub fn put(&self, topic: &str, records: &[(&str, &str)]) {
        let mut process = java("org.apache.kafka.tools.ConsoleProducer")
            .arg("--bootstrap-server")
            .arg(format!("127.0.0.1:{}", self.inner_port))
            .args(["--topic", topic, "--property", "parse.key=true", "--sync"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("java starts");
        let mut input = process.stdin.take().expect("it is piped");
        for (key, value) in records {
            writeln!(input, "{key}\t{value}").expect("it reads");
        }
        drop(input);
        assert!(process.wait().expect("it is a child").success(), "the records are not taken");
    }

    /// Ends it as a failing machine does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for KafkaCluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A record that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The partition that it is in.
    pub partition: u32,
    /// Its key.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// A consumer of a topic from its beginning, which survives that the cluster is killed. It is
/// killed when this is dropped.
pub struct KafkaListener {
    process: Child,
    /// What came.
    pub messages: Receiver<Message>,
}

impl KafkaListener {
    /// Subscribes. The topic is made where there is none.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(cluster: &KafkaCluster, topic: &str) -> Self {
        let mut process = java("org.apache.kafka.tools.consumer.ConsoleConsumer")
            .arg("--bootstrap-server")
            .arg(format!("127.0.0.1:{}", cluster.inner_port))
            .args(["--topic", topic, "--from-beginning"])
            .args(["--consumer-property", "metadata.max.age.ms=500"])
            .args(["--consumer-property", "reconnect.backoff.max.ms=200"])
            .args(["--property", "print.key=true", "--property", "print.partition=true"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("java starts");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (send, messages) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut parts = line.splitn(3, '\t');
                let partition = parts.next().and_then(|part| part.strip_prefix("Partition:"));
                let (Some(Ok(partition)), Some(key), Some(value)) =
                    (partition.map(str::parse), parts.next(), parts.next())
                else {
                    continue;
                };
                let (key, value) = (key.to_owned(), value.to_owned());
                if send.send(Message { partition, key, value }).is_err() {
                    return;
                }
            }
        });
        Self { process, messages }
    }

    /// The next record.
    ///
    /// # Panics
    /// When none comes within [`SLOW`].
    pub fn next(&self, what: &str) -> Message {
        self.messages.recv_timeout(SLOW).unwrap_or_else(|error| panic!("{what}: {error}"))
    }
}

impl Drop for KafkaListener {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
