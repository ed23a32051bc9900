//! Where the service's records go: files, a real MQTT broker and an HTTP server, which are away,
//! killed and back.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use serde_json::{Value, json};
use vehiclecount_tests::broker::{Broker, Gate, Listener, Rules};
use vehiclecount_tests::receiver::Receiving;
use vehiclecount_tests::service::Service;
use vehiclecount_tests::system::command;
use vehiclecount_tests::web::WebServer;
use vehiclecount_tests::{BOUND, certificates, free_port, init, publishing};

/// Two simulated cameras, with ten counts a second each.
const CAMERAS: &str = "[defaults]\nrate = 10\n\
    [cameras.\"north gate\"]\nurl = \"simulated:junction\"\n\
    regions = [{ name = \"left\", polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]] }]\n\
    [cameras.south]\nurl = \"simulated:street\"\n";

/// Run and number of a record.
fn id(record: &Value) -> (String, u64) {
    let (run, number) = record["id"].as_str().unwrap().split_once('-').unwrap();
    (run.to_owned(), number.parse().unwrap())
}

/// Asserts that of each run of the service there are all records from the first one on, in order:
/// doubles come after what they double, and what was sent after it comes again too. Gives how many
/// there are, and how many times one came again.
fn assert_complete(records: &[Value]) -> (usize, usize) {
    let mut runs: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut doubles = 0;
    for record in records {
        let (run, number) = id(record);
        let seen = runs.entry(run.clone()).or_default();
        let next = seen.last().map_or(1, |last| last + 1);
        assert!(number <= next, "{run}: {number} comes where {next} is missing");
        doubles += usize::from(!seen.insert(number));
    }
    (runs.values().map(BTreeSet::len).sum(), doubles)
}

#[test]
fn records_are_written_to_a_file_that_is_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "{CAMERAS}[sinks.archive]\nurl = \"file:counts.jsonl\"\n\
         records = [\"count\", \"window\", \"event\"]\nwindows = [10]\nmax-file-size = 10000\n"
    );
    let mut service = Service::start(folder.path(), &text);
    service.until_sink("archive", "records are written", |sink| {
        sink["delivered"].as_u64() > Some(100) && sink["state"] == "live"
    });
    let written = || -> String {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
        files.filter_map(|path| std::fs::read_to_string(path).ok()).collect()
    };
    service
        .until_sink("archive", "a window has ended", |_| written().contains("\"kind\":\"window\""));
    let url = service.sink("archive")["url"].as_str().unwrap().to_owned();
    assert!(url.ends_with("/counts.jsonl") && url.starts_with("file:/"), "{url}");
    let (_, metrics) = service.ask("/metrics");
    for line in [
        "vehiclecount_sink_up{sink=\"archive\"} 1",
        "vehiclecount_sink_records_delivered_total{sink=\"archive\"} 1",
        "vehiclecount_sink_records_dropped_total{sink=\"archive\"} 0",
        "vehiclecount_sink_records_waiting{sink=\"archive\"} ",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(service.terminate(), "{}", service.said);
    let mut files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    assert!(files.len() > 2, "{files:?}");
    // The current one has the shortest name, and is the last.
    let current = files.iter().position(|path| path.ends_with("counts.jsonl")).unwrap();
    let last = files.remove(current);
    files.push(last);
    let text: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(files.iter().all(|path| path.metadata().unwrap().len() <= 10_000));
    let records: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(assert_complete(&records).1, 0, "nothing is written twice");
    let kinds: BTreeSet<_> =
        records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains("count") && kinds.contains("window"), "{kinds:?}");
    let window = records.iter().find(|record| record["kind"] == "window").unwrap();
    assert!(window["window"] == 10 && window["mean"].is_number(), "{window}");
    let count = records.iter().find(|record| record["kind"] == "count").unwrap();
    assert!(count["received"].is_string() && count["schema"] == 3, "{count}");
}

/// Kills broker and service in turn, under load, and gives how often.
fn kill_in_turn(folder: &Path, rounds: usize) -> (usize, usize) {
    let mut broker = Broker::start(folder, &Rules::default());
    let gate = Gate::open_to(broker.port);
    let text = format!(
        "{CAMERAS}[sinks.broker]\nurl = \"mqtt://127.0.0.1:{}/site\"\nrecords = [\"count\"]\n",
        gate.port
    );
    let mut records: Vec<Value> = Vec::new();
    let mut listener = Listener::start(broker.port, None);
    let mut service = Service::start(folder, &text);
    let take = |listener: &Listener, records: &mut Vec<Value>, more: usize| {
        let target = records.len() + more;
        while records.len() < target {
            let message = listener.until("counts come", |m| m.topic.ends_with("/count"));
            assert!(!message.retain);
            records.push(serde_json::from_str(&message.payload).unwrap());
        }
    };
    for round in 0..rounds {
        take(&listener, &mut records, 20);
        if round % 2 == 0 {
            // Nothing gets through until the listener is back, who would miss it.
            gate.set_open(false);
            // What the broker has acknowledged it may not have passed on yet.
            drain(&listener, &mut records);
            broker.kill();
            drain(&listener, &mut records);
            service.until_sink("broker", "records wait", |sink| {
                sink["waiting"].as_u64() > Some(20) && sink["state"] == "waiting"
            });
            broker.restart();
            listener = Listener::start(broker.port, None);
            if round % 4 == 2 {
                service.kill();
                service = Service::start(folder, &text);
            }
            gate.set_open(true);
        } else {
            service.kill();
            service = Service::start(folder, &text);
        }
    }
    take(&listener, &mut records, 20);
    assert!(service.terminate(), "{}", service.said);
    drain(&listener, &mut records);
    let outbox = rusqlite::Connection::open(folder.join("outbox.db")).unwrap();
    let waiting: i64 =
        outbox.query_row("SELECT count(*) FROM waiting", [], |row| row.get(0)).unwrap();
    assert_eq!(waiting, 0, "the end of the service has delivered all");
    let figures = assert_complete(&records);
    println!("{rounds} kills: {} records, which came again {} times", figures.0, figures.1);
    figures
}

/// What came before the connection ended, or until nothing comes any more.
fn drain(listener: &Listener, records: &mut Vec<Value>) {
    while let Ok(message) = listener.messages.recv_timeout(Duration::from_millis(300)) {
        if message.topic.ends_with("/count") {
            records.push(serde_json::from_str(&message.payload).unwrap());
        }
    }
}

#[test]
fn nothing_is_lost_and_order_is_kept_when_broker_and_service_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    kill_in_turn(folder.path(), 4);
}

/// `./run soak`: as long as `VEHICLECOUNT_SOAK` says, and not at all without it.
#[test]
fn soak_of_kills() {
    let Ok(seconds) = std::env::var("VEHICLECOUNT_SOAK") else { return };
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
    while Instant::now() < end {
        let folder = tempfile::tempdir().unwrap();
        kill_in_turn(folder.path(), 20);
    }
}

#[test]
fn broker_keeps_states_and_knows_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &Rules::default());
    let text = format!(
        "{CAMERAS}[cameras.gone]\nurl = \"rtsp://127.0.0.1:1/\"\n\
         [sinks.broker]\nurl = \"mqtt://127.0.0.1:{}/site/a\"\n\
         home-assistant = \"homeassistant\"\n",
        broker.port
    );
    let service = Service::start(folder.path(), &text);
    let live = Listener::start(broker.port, None);
    let mut states = BTreeSet::new();
    live.until("states come", |message| {
        if message.topic.ends_with("/state") {
            states.insert(message.topic.clone());
        }
        states.len() == 2
    });
    // One that comes later gets what was kept.
    let late = Listener::start(broker.port, None);
    let mut kept = BTreeMap::new();
    late.until("all that is kept comes", |message| {
        if message.retain {
            kept.insert(message.topic.clone(), message.payload.clone());
        }
        // The status, three cameras, two states and eight sensors.
        kept.len() == 14
    });
    let at = |topic: &str| kept.get(topic).map(String::as_str).unwrap_or_default();
    assert_eq!(at("site/a/status"), "online");
    assert_eq!(at("site/a/south/availability"), "online");
    assert_eq!(at("site/a/gone/availability"), "offline");
    assert_eq!(at("site/a/gone/state"), "", "no count is not zero vehicles");
    let state: Value = serde_json::from_str(at("site/a/north gate/state")).unwrap();
    assert!(state["count"].is_number() && state["regions"][0]["name"] == "left", "{state}");
    let sensors: Vec<_> =
        kept.iter().filter(|(topic, _)| topic.starts_with("homeassistant/")).collect();
    assert_eq!(sensors.len(), 8, "frame and region, vehicles and level: {sensors:?}");
    for (topic, payload) in sensors {
        let sensor: Value = serde_json::from_str(payload).unwrap();
        assert!(topic.starts_with("homeassistant/sensor/") && topic.ends_with("/config"));
        let topic = sensor["state_topic"].as_str().unwrap();
        assert!(kept.contains_key(topic) || topic == "site/a/gone/state", "{topic}");
    }
    // Killed, it says nothing: the broker does.
    let mut service = service;
    service.kill();
    live.until("the last will is told", |m| m.topic == "site/a/status" && m.payload == "offline");
    let mut service = Service::start(folder.path(), &text);
    live.until("it is back", |m| m.topic == "site/a/status" && m.payload == "online");
    live.until("its cameras are", |m| m.topic == "site/a/south/state");
    // What is removed is taken back.
    let sensor = "homeassistant/sensor/site_2f_a_2f_north_20_gate/region_left_vehicles/config";
    let regions = json!({ "regions": [] }).to_string();
    assert_eq!(service.send("PUT", "/api/v1/cameras/north%20gate", &regions).0, 200);
    live.until("a region goes", |m| m.topic == sensor && m.payload.is_empty());
    assert_eq!(service.send("DELETE", "/api/v1/cameras/gone", "").0, 204);
    live.until("a camera goes", |m| m.topic == "site/a/gone/availability" && m.payload.is_empty());
    // The camera that was changed is there again, or has nothing to say farewell for.
    Listener::start(broker.port, None).until("it is back", |m| {
        m.topic == "site/a/north gate/availability" && m.payload == "online"
    });
    assert!(service.terminate(), "{}", service.said);
    let mut farewell = BTreeSet::new();
    live.until("all say farewell", |m| {
        if m.payload == "offline" {
            farewell.insert(m.topic.clone());
        }
        ["site/a/south/availability", "site/a/north gate/availability", "site/a/status"]
            .iter()
            .all(|topic| farewell.contains(*topic))
    });
}

#[test]
fn login_and_certificates_are_checked_and_secrets_told_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    certificates::signed(folder.path());
    let files = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    let login = Some(("me".to_owned(), "s3cret/1".to_owned()));
    let secure = Broker::start(folder.path(), &Rules { login, certificate: Some(files.into()) });
    std::fs::write(folder.path().join("password"), "s3cret/1\n").unwrap();
    let other = tempfile::tempdir().unwrap();
    certificates::signed(other.path());
    let hook = Receiving::start(0, &[401; 20], 1 << 20);
    let (send, requests) = mpsc::channel();
    let secure_hook = WebServer::secure(&folder.path().join("both.pem"), move |request, peer| {
        peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        send.send(request.line.clone()).map_err(io::Error::other)
    });
    let text = format!(
        "{CAMERAS}[sinks.right]\nurl = \"mqtts://127.0.0.1:{0}/t\"\nuser = \"me\"\n\
         password = {{ file = \"password\" }}\nca-file = \"ca.pem\"\nrecords = [\"count\"]\n\
         [sinks.wrong]\nurl = \"mqtts://me:s3cret2@127.0.0.1:{0}/u\"\nca-file = \"ca.pem\"\n\
         [sinks.stranger]\nurl = \"mqtts://me:s3cret%2F1@127.0.0.1:{0}/v\"\nca-file = {1:?}\n\
         [sinks.system]\nurl = \"mqtts://me:s3cret%2F1@127.0.0.1:{0}/w\"\n\
         [sinks.hook]\nurl = \"http://127.0.0.1:{2}/hook/s3cret3?key=s3cret4\"\n\
         secret = \"s3cret5\"\nuser = \"me\"\npassword = \"s3cret6\"\nrecords = [\"count\"]\n\
         [sinks.nobody]\nurl = \"https://127.0.0.1:1/hook/s3cret7\"\nca-file = \"ca.pem\"\n\
         records = [\"count\"]\n\
         [sinks.secure]\nurl = \"https://127.0.0.1:{3}/hook/s3cret8\"\nca-file = \"ca.pem\"\n\
         records = [\"count\"]\n\
         [sinks.alien]\nurl = \"https://127.0.0.1:{3}/\"\nrecords = [\"count\"]\n",
        secure.port,
        other.path().join("ca.pem"),
        hook.port,
        secure_hook.port
    );
    let mut service = Service::start(folder.path(), &text);
    service.until_sink("secure", "records are taken", |sink| {
        sink["delivered"].as_u64() > Some(10) && sink["state"] == "live"
    });
    let line = requests.recv_timeout(BOUND).unwrap();
    assert_eq!(line, "POST /hook/s3cret8 HTTP/1.1\r\n");
    service.until_sink("right", "records are taken", |sink| {
        sink["delivered"].as_u64() > Some(10) && sink["state"] == "live"
    });
    for (name, reason) in [
        ("wrong", "the broker refuses the user name or the password"),
        ("stranger", "TLS: "),
        ("system", "none of the authorities that are trusted vouches for the server"),
        ("hook", "it answers 401"),
        ("nobody", "refused"),
        ("alien", "none of the authorities that are trusted vouches for the server"),
    ] {
        let figures = service.until_sink(name, "it says why", |sink| sink["state"] == "waiting");
        let said = figures["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{name}: {said}");
    }
    let mut all = String::new();
    for path in ["/", "/metrics", "/api/v1/sinks", "/api/v1/cameras", "/api/v1/events"] {
        all += &service.ask(path).1;
    }
    assert!(service.terminate(), "{}", service.said);
    all += &service.said;
    assert!(!all.contains("s3cret") && all.contains("/***"), "{all}");
    // The server itself was told.
    let request = hook.requests.recv_timeout(BOUND).unwrap();
    assert!(request.header("authorization").starts_with("Basic "));
}

#[test]
fn webhook_is_sent_again_until_the_server_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let text = format!(
        "{CAMERAS}[sinks.hook]\nurl = \"http://127.0.0.1:{port}/hook/a\"\nrecords = [\"count\"]\n\
         secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n"
    );
    let mut service = Service::start(folder.path(), &text);
    // Each failure doubles the pause after it: the first is enough.
    service.until_sink("hook", "records wait", |sink| {
        sink["waiting"].as_u64() > Some(0) && sink["state"] == "waiting"
    });
    service.until("the cameras do not notice", |camera| {
        ["north gate", "south"].iter().all(|name| camera(name)["state"] == "live")
    });
    // It is back, fails at first, redirects to elsewhere, and takes no large requests.
    let hook = Receiving::start(port, &[503, 301], 8000);
    service.until_sink("hook", "all is delivered", |sink| {
        sink["delivered"].as_u64() > Some(60) && sink["waiting"].as_u64() < Some(10)
    });
    let figures = service.sink("hook");
    assert_eq!((&figures["state"], &figures["dropped"]), (&"live".into(), &0.into()));
    assert!(service.terminate(), "{}", service.said);
    let requests: Vec<_> = hook.requests.try_iter().collect();
    let answers: Vec<_> = requests.iter().map(|request| request.status).collect();
    assert_eq!(answers[..2], [503, 301]);
    assert!(answers.contains(&413), "{answers:?}");
    // What is sent again is the same under the same id.
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_eq!(requests[0].body, requests[1].body);
    let taken = requests.iter().filter(|request| request.status == 204);
    let records: Vec<_> = taken.flat_map(|request| request.records()).collect();
    assert_eq!(assert_complete(&records).1, 0);
    // Checked by another implementation.
    let request = &requests[0];
    let signed = format!(
        "{}.{}.{}",
        request.header("webhook-id"),
        request.header("webhook-timestamp"),
        request.body
    );
    assert_eq!(request.header("webhook-signature"), format!("v1,{}", openssl_hmac(&signed)));
}

#[test]
fn counts_of_a_pipeline_reach_a_webhook_that_fails_at_first() {
    init();
    let frames = 40;
    let hook = Receiving::start(0, &[503], 2000);
    let location =
        format!("\"http://me:s3cret@127.0.0.1:{}/hook/b#secret=whsec_MfKQ9r8G\"", hook.port);
    let pipeline = publishing::pipeline(frames, 100, &location);
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut records = Vec::new();
    let mut failed = 0;
    while records.len() < frames as usize {
        let request = hook.requests.recv_timeout(BOUND).unwrap();
        assert!(request.header("webhook-signature").starts_with("v1,"));
        assert!(request.header("authorization").starts_with("Basic "));
        match request.status {
            204 => records.extend(request.records()),
            _ => failed += 1,
        }
    }
    assert!(failed > 0, "it fails at first, or takes no large requests");
    let statistics = publishing::finish(pipeline);
    assert_eq!(statistics.get::<u64>("delivered").unwrap(), u64::from(frames), "{statistics}");
    let sequences: Vec<_> = records.iter().map(|record| record["sequence"].as_u64()).collect();
    assert_eq!(sequences, (0..u64::from(frames)).map(Some).collect::<Vec<_>>());
}

/// HMAC-SHA256 of `text`, with the key of the test, in Base64.
fn openssl_hmac(text: &str) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let script = "key=$(printf MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw | base64 -d | od -An -tx1 | tr -d ' \\n'); \
                  openssl dgst -sha256 -mac HMAC -macopt hexkey:$key -binary | base64";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn sinks_that_are_away_hold_neither_counting_nor_the_end_and_the_oldest_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is ever accepted from this backlog: a server that is there and does not answer.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = frozen.local_addr().unwrap().port();
    let text = format!(
        "{CAMERAS}[sinks.broker]\nurl = \"mqtt://127.0.0.1:{port}/t\"\nrecords = [\"count\"]\n\
         keep-megabytes = 0.02\n\
         [sinks.hook]\nurl = \"http://127.0.0.1:{port}/\"\nrecords = [\"count\"]\n\
         [sinks.gone]\nurl = \"mqtt://127.0.0.1:1/t\"\nrecords = [\"count\"]\n"
    );
    let mut service = Service::start(folder.path(), &text);
    let figures = service.until_sink("broker", "the oldest are dropped", |sink| {
        sink["dropped"].as_u64() > Some(20) && sink["state"] == "waiting"
    });
    assert_eq!(figures["reason"], "the broker does not answer");
    let waiting = figures["waiting"].as_u64().unwrap();
    assert!(waiting > 5 && waiting < 60, "{figures}");
    let cameras = service.json("/api/v1/cameras");
    assert!(cameras["cameras"].as_array().unwrap().iter().all(|c| c["state"] == "live"));
    assert_eq!(service.ask("/api/v1/health/live").0, 200);
    let begin = Instant::now();
    assert!(service.terminate(), "{}", service.said);
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    let said = &service.said;
    assert!(
        said.contains("sink broker: ")
            && said.contains("are dropped: more wait than keep-megabytes")
    );
}

#[test]
fn outbox_that_cannot_be_opened_is_told_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counter.toml");
    let text = "[outbox]\nfile = \"no/outbox.db\"\n[sinks.a]\nurl = \"file:a.jsonl\"\n\
                [cameras.a]\nurl = \"simulated:street\"\n";
    std::fs::write(&file, text).unwrap();
    let output = command().arg("run").arg(&file).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(error.contains("choose another file with [outbox] file"), "{error}");
}
