//! A real Kafka cluster, which is away, killed and back, and which refuses.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use serde_json::Value;
use vehiclecount_core::report::JsonReport;
use vehiclecount_tests::kafka::{KafkaCluster, KafkaListener, Message, Rules};
use vehiclecount_tests::service::Service;
use vehiclecount_tests::{certificates, init, publishing};

/// Clusters of several tests at once would take much memory.
fn alone() -> MutexGuard<'static, ()> {
    static CLUSTER: Mutex<()> = Mutex::new(());
    CLUSTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two simulated cameras, with ten counts a second each.
const CAMERAS: &str = "[defaults]\nrate = 10\n[cameras.\"north gate\"]\n\
    url = \"simulated:junction\"\n[cameras.south]\nurl = \"simulated:street\"\n";

/// What came, of each camera and each run of the service, and how often something came twice.
#[derive(Default)]
struct Account {
    partitions: BTreeMap<String, u32>,
    numbers: BTreeMap<(String, String), BTreeSet<u64>>,
    doubles: usize,
}

impl Account {
    /// Takes in a record, which is new and comes after all others of its camera, or is a double.
    fn take(&mut self, message: &Message) {
        let record: Value = serde_json::from_str(&message.value).unwrap();
        assert_eq!(record["camera"], message.key.as_str());
        let camera = message.key.clone();
        let partition = *self.partitions.entry(camera.clone()).or_insert(message.partition);
        assert_eq!(partition, message.partition, "{camera} has one partition");
        let (run, number) = record["id"].as_str().unwrap().split_once('-').unwrap();
        let number = number.parse().unwrap();
        let seen = self.numbers.entry((run.to_owned(), camera)).or_default();
        let is_new = seen.last().is_none_or(|last| number > *last);
        assert!(is_new || seen.contains(&number), "{number} comes too late");
        self.doubles += usize::from(!seen.insert(number));
    }

    /// Takes in `count` records.
    fn take_from(&mut self, listener: &KafkaListener, count: usize) {
        (0..count).for_each(|_| self.take(&listener.next("counts come")));
    }

    /// Asserts that of each run all records are there, from the first to the last. Gives how many.
    fn assert_complete(&self) -> usize {
        let mut runs: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for ((run, _), numbers) in &self.numbers {
            runs.entry(run).or_default().extend(numbers);
        }
        for (run, numbers) in &runs {
            let wanted: BTreeSet<_> = (1..=numbers.len() as u64).collect();
            assert_eq!(numbers, &wanted, "{run}");
        }
        runs.values().map(BTreeSet::len).sum()
    }
}

#[test]
fn nothing_is_lost_and_each_camera_keeps_its_order_when_cluster_and_service_are_killed() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let Some(mut cluster) = KafkaCluster::start(folder.path(), &Rules::default()) else { return };
    let listener = KafkaListener::start(&cluster, "site.counts");
    let text = format!(
        "{CAMERAS}[sinks.kafka]\nurl = \"kafka://127.0.0.1:1,127.0.0.1:{}/site.counts\"\n\
         records = [\"count\"]\n",
        cluster.port
    );
    let mut account = Account::default();
    let mut service = Service::start(folder.path(), &text);
    account.take_from(&listener, 40);
    service.kill();
    service = Service::start(folder.path(), &text);
    account.take_from(&listener, 40);
    // It is back before anything else is lost.
    cluster.kill();
    cluster.restart();
    account.take_from(&listener, 40);
    // Both are away, and the service comes first.
    cluster.kill();
    let waits = |sink: &Value| sink["waiting"].as_u64() > Some(20) && sink["state"] == "waiting";
    service.until_sink("kafka", "records wait", waits);
    service.kill();
    service = Service::start(folder.path(), &text);
    service.until_sink("kafka", "it says why", |sink| sink["state"] == "waiting");
    cluster.restart();
    service.until_sink("kafka", "all is delivered", |sink| {
        sink["state"] == "live" && sink["waiting"].as_u64() < Some(20)
    });
    account.take_from(&listener, 40);
    assert_eq!(service.sink("kafka")["dropped"], 0);
    assert!(service.terminate(), "{}", service.said);
    let outbox = rusqlite::Connection::open(folder.path().join("outbox.db")).unwrap();
    let waiting: i64 =
        outbox.query_row("SELECT count(*) FROM waiting", [], |row| row.get(0)).unwrap();
    assert_eq!(waiting, 0, "the end of the service has delivered all");
    // One more of each camera tells that all has come: Apache's producer finds the same partition.
    let end = "{\"id\":\"end\"}";
    cluster.put("site.counts", &[("south", end), ("north gate", end)]);
    let mut ends = 0;
    while ends < 2 {
        let message = listener.next("the end comes");
        match message.value == end {
            true => {
                assert_eq!(account.partitions.get(&message.key), Some(&message.partition));
                ends += 1;
            }
            false => account.take(&message),
        }
    }
    println!("{} records, which came again {} times", account.assert_complete(), account.doubles);
}

#[test]
fn login_certificate_and_topic_are_checked_and_secrets_told_nowhere() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    certificates::signed(folder.path());
    let login = ("SCRAM-SHA-256".to_owned(), "me".to_owned(), "s3cret/1".to_owned());
    let certificate = Some(folder.path().join("both.pem"));
    let rules = Rules { login: Some(login), certificate };
    let Some(cluster) = KafkaCluster::start(folder.path(), &rules) else { return };
    let listener = KafkaListener::start(&cluster, "counts");
    std::fs::write(folder.path().join("password"), "s3cret/1\n").unwrap();
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "{CAMERAS}[sinks.right]\nurl = \"kafkas://127.0.0.1:{0}/counts\"\nuser = \"me\"\n\
         password = {{ file = \"password\" }}\nca-file = \"ca.pem\"\nrecords = [\"count\"]\n\
         [sinks.wrong]\nurl = \"kafkas://me:s3cret2@127.0.0.1:{0}/counts\"\nca-file = \"ca.pem\"\n\
         [sinks.stranger]\nurl = \"kafkas://me:s3cret%2F1@127.0.0.1:{0}/counts\"\n\
         [sinks.nowhere]\nurl = \"kafkas://me:s3cret%2F1@127.0.0.1:{0}/elsewhere\"\n\
         ca-file = \"ca.pem\"\n\
         [sinks.gone]\nurl = \"kafka://me:s3cret%2F1@127.0.0.1:1/counts\"\n\
         [sinks.frozen]\nurl = \"kafka://127.0.0.1:{1}/counts\"\n\
         [sinks.plain]\nurl = \"kafka://127.0.0.1:{0}/counts\"\n",
        cluster.port,
        frozen.local_addr().unwrap().port(),
    );
    let mut service = Service::start(folder.path(), &text);
    service.until_sink("right", "it is live", |sink| sink["state"] == "live");
    let message = listener.next("a count comes");
    assert!(message.value.contains("\"kind\":\"count\""), "{message:?}");
    for (name, reason) in [
        ("wrong", "the cluster refuses the user name or the password"),
        ("stranger", "none of the authorities that are trusted vouches for the server"),
        ("nowhere", "the cluster has no topic elsewhere: create it"),
        ("gone", "refused"),
        ("frozen", "the cluster does not answer"),
        ("plain", "what answers does not speak Kafka, or speaks it with TLS"),
    ] {
        service.until_sink(name, reason, |sink| {
            sink["reason"].as_str().is_some_and(|said| said.contains(reason))
        });
    }
    let mut all = String::new();
    for path in ["/", "/metrics", "/api/v1/sinks", "/api/v1/cameras", "/api/v1/events"] {
        all += &service.ask(path).1;
    }
    assert!(service.terminate(), "{}", service.said);
    all += &service.said;
    assert!(!all.contains("s3cret") && all.contains("kafkas://***@127.0.0.1"), "{all}");
}

#[test]
fn counts_of_a_pipeline_reach_a_cluster_in_order_and_a_wrong_password_is_refused() {
    let _alone = alone();
    init();
    let folder = tempfile::tempdir().unwrap();
    let login = ("PLAIN".to_owned(), "me".to_owned(), "right".to_owned());
    let rules = Rules { login: Some(login), certificate: None };
    let Some(cluster) = KafkaCluster::start(folder.path(), &rules) else { return };
    let listener = KafkaListener::start(&cluster, "counts");
    let frames = 300;
    let place = format!("127.0.0.1:{}/counts", cluster.port);
    let counting = publishing::pipeline(frames, 100, &format!("kafka://me:right@{place}"));
    counting.set_state(gst::State::Playing).unwrap();
    for sequence in 0..u64::from(frames) {
        let Message { key, value, .. } = listener.next("counts come");
        let report: JsonReport = serde_json::from_str(&value).unwrap();
        assert_eq!((key.as_str(), report.sequence), ("north/gate", sequence));
    }
    let statistics = publishing::finish(counting);
    assert_eq!(statistics.get::<u64>("delivered"), Ok(u64::from(frames)), "{statistics}");

    let refused = publishing::pipeline(10, 100, &format!("kafka://me:s3cret@{place}"));
    let said = publishing::refusal(&refused);
    assert!(said.contains("the cluster refuses the user name or the password"), "{said}");
    assert!(said.contains("kafka://***@127.0.0.1") && !said.contains("s3cret"), "{said}");
}
