//! Sinks of the service are added, changed and removed while it counts.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use vehiclecount_tests::BOUND;
use vehiclecount_tests::service::Service;

const CAMERA: &str =
    "[defaults]\nrate = 20\n[cameras.south]\nurl = \"simulated:street\"\nsmoothing = 0\n";

/// Numbers of the records in a file, in their order.
fn numbers(folder: &Path, name: &str) -> Vec<u64> {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    let number = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["id"].as_str().unwrap().split_once('-').unwrap().1.parse().unwrap()
    };
    text.lines().map(number).collect()
}

/// Asserts that these are all numbers from the first to the last of them, each once, in order.
fn assert_all(numbers: &[u64], first: u64) {
    let wanted: Vec<_> = (first..first + numbers.len() as u64).collect();
    assert_eq!(numbers, wanted);
}

#[test]
fn sinks_come_change_and_go_while_another_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sink =
        |name: &str, url: &str| format!("[sinks.{name}]\nurl = \"{url}\"\nrecords = [\"count\"]\n");
    let steady = sink("steady", "file:steady.jsonl");
    let mut service = Service::start(folder.path(), &format!("{CAMERA}{steady}"));
    let delivers = |sink: &Value| sink["delivered"].as_u64() > Some(20) && sink["state"] == "live";
    let before = service.until_sink("steady", "it delivers", delivers);

    // One comes, of which nothing is known yet, and one whose broker is away.
    let away = sink("away", "mqtt://127.0.0.1:1/site");
    let both = sink("more", "file:more.jsonl") + &away;
    service.reload(folder.path(), |text| text + &both);
    service.until_sink("more", "it delivers", delivers);
    let waits = |sink: &Value| sink["waiting"].as_u64() > Some(20) && sink["state"] == "waiting";
    service.until_sink("away", "records wait", waits);

    // What waits for the broker goes to a file, which stands in its place, and to the last one.
    service.reload(folder.path(), |text| text.replace(&away, &sink("away", "file:away.jsonl")));
    let delivered = service.until_sink("away", "all is delivered", |sink| {
        delivers(sink) && sink["waiting"].as_u64() < Some(20)
    });
    assert!(delivered["url"].as_str().unwrap().ends_with("away.jsonl"), "{delivered}");
    assert_eq!(delivered["dropped"], 0, "{delivered}");

    // Another file begins where the first one ends.
    service.reload(folder.path(), |text| text.replace("more.jsonl", "other.jsonl"));
    service.until_said("sink more: changed");
    let so_far = service.sink("more")["delivered"].as_u64().unwrap();
    service.until_sink("more", "it delivers there", |sink| {
        sink["delivered"].as_u64() > Some(so_far + 20) && sink["state"] == "live"
    });

    // A wrong one changes nothing.
    service.reload(folder.path(), |text| text + "[sinks.wrong]\nurl = \"file:.\"\n");
    service.until_said("is no file");
    let wrong = "[sinks.wrong]\nurl = \"file:.\"\n";

    // They go: one with all that it got, one whose broker never came with what waits for it.
    service.reload(folder.path(), |text| {
        let gone = sink("gone", "mqtt://127.0.0.1:1/site");
        text.replace(wrong, &gone)
    });
    service.until_sink("gone", "records wait", waits);
    service.reload(folder.path(), |text| {
        let end = text.find("[sinks.more]").unwrap();
        text[..end].to_owned() + &sink("away", "file:away.jsonl")
    });
    service.until_said("sink more: removed");
    service.until_said("records that waited for it are dropped");
    // It is said before the figures are gone.
    let begin = Instant::now();
    while (service.sink("more"), service.sink("gone")) != (Value::Null, Value::Null) {
        assert!(begin.elapsed() < BOUND, "{}", service.said);
    }
    let (_, metrics) = service.ask("/metrics");
    assert!(metrics.contains("sink=\"steady\"") && !metrics.contains("sink=\"gone\""));

    // The first one has noticed nothing.
    let after = service.sink("steady");
    assert_eq!((&after["since"], &after["dropped"]), (&before["since"], &before["dropped"]));
    assert!(service.terminate(), "{}", service.said);
    assert!(!service.said.contains("sink steady: changed"), "{}", service.said);
    let numbers = |name: &str| numbers(folder.path(), name);
    assert_all(&numbers("steady.jsonl"), 1);
    let (more, other) = (numbers("more.jsonl"), numbers("other.jsonl"));
    assert_all(&[more.clone(), other].concat(), more[0]);
    let away = numbers("away.jsonl");
    assert_all(&away, away[0]);
    let seen: BTreeSet<_> = away.into_iter().collect();
    assert!(seen.contains(numbers("steady.jsonl").last().unwrap()), "it got the last one, too");
}

#[test]
fn first_sink_of_all_may_come_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), CAMERA);
    let outbox = folder.path().join("outbox.db");
    assert!(!outbox.exists(), "there is nothing that waits");
    service.reload(folder.path(), |text| {
        text + "[outbox]\nfile = \"no/outbox.db\"\n[sinks.a]\nurl = \"file:a.jsonl\"\n"
    });
    // The rest of the file holds from the next start on: that outbox is not this one's.
    let records = "[sinks.a]\nurl = \"file:a.jsonl\"\nrecords = [\"count\"]\n";
    service.until_said("the rest of the file holds from the next start on");
    service.reload(folder.path(), |text| {
        let end = text.find("[outbox]").unwrap();
        text[..end].to_owned() + records
    });
    service.until_sink("a", "it delivers", |sink| sink["delivered"].as_u64() > Some(10));
    assert!(outbox.exists());
    assert!(service.terminate(), "{}", service.said);
    let all = numbers(folder.path(), "a.jsonl");
    assert_all(&all, 1);
}

/// The answer to a request, which has that status.
fn ask(service: &Service, method: &str, path: &str, body: &str, status: u16) -> String {
    let (given, body) = service.send(method, path, body);
    assert_eq!(given, status, "{method} {path}: {body}");
    body
}

#[test]
fn sinks_are_changed_over_http_and_in_the_file_with_its_comments() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "{CAMERA}# Kept.\n[sinks.archive] # here\nurl = \"file:archive.jsonl\"\nrecords = [\"count\"]\n"
    );
    let mut service = Service::start(folder.path(), &text);
    let file = folder.path().join("counter.toml");
    let original = fs::read_to_string(&file).unwrap();
    service.until_sink("archive", "it delivers", |sink| sink["delivered"].as_u64() > Some(10));
    for (body, status, said) in [
        ("{\"url\": \"file:a.jsonl\"}", 422, "the sink has no name"),
        ("{\"name\": \"archive\", \"url\": \"file:a.jsonl\"}", 409, "there is one of that name"),
        ("{\"name\": \"a\", \"url\": \"file:../a.jsonl\"}", 422, "lies in the folder"),
        ("{\"name\": \"a\", \"url\": \"file:/tmp/a.jsonl\"}", 422, "lies in the folder"),
        ("{\"name\": \"a\", \"url\": \"file:counter.toml\"}", 422, "ends in .jsonl"),
        ("{\"name\": \"a\", \"url\": {\"file\": \"/etc/passwd\"}}", 422, "are texts"),
        ("{\"name\": \"a\", \"url\": \"ftp://s3cret\"}", 422, "a sink's url begins with"),
        ("{\"name\": \"a\", \"url\": \"mqtt://h\"}", 422, "the topic is empty"),
        ("{\"name\": \"a\", \"url\": \"mqtts://h/t\", \"ca-file\": \"ca.pem\"}", 422, "ca-file"),
        ("{\"name\": \"a\", \"url\": \"mqtt://***@h/t\"}", 422, "give it with it"),
    ] {
        let answer = ask(&service, "POST", "/api/v1/sinks", body, status);
        assert!(answer.contains(said) && !answer.contains("s3cret"), "{body}: {answer}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), original);
    ask(&service, "GET", "/api/v1/sinks/a", "", 404);
    ask(&service, "PUT", "/api/v1/sinks/a", "{}", 404);
    ask(&service, "DELETE", "/api/v1/sinks/a", "", 404);

    let body =
        "{\"name\": \"hook a\", \"url\": \"http://127.0.0.1:1/s3cret\", \"secret\": \"s3cret2\",
        \"records\": [\"count\"]}";
    let added = ask(&service, "POST", "/api/v1/sinks", body, 201);
    assert!(added.contains("http://127.0.0.1:1/***") && !added.contains("s3cret"), "{added}");
    ask(&service, "GET", "/api/v1/sinks/hook%20a", "", 200);
    // Another place gets no secret of the old one, and all that waited.
    let body = "{\"url\": \"file:hook.jsonl\"}";
    ask(&service, "PUT", "/api/v1/sinks/hook%20a", body, 200);
    let changed = fs::read_to_string(&file).unwrap();
    assert!(changed.contains("# Kept.\n[sinks.archive] # here\n"), "{changed}");
    assert!(changed.contains("hook.jsonl") && !changed.contains("s3cret"), "{changed}");
    service.until_sink("hook a", "it delivers", |sink| sink["delivered"].as_u64() > Some(10));
    ask(&service, "DELETE", "/api/v1/sinks/hook%20a", "", 204);
    assert_eq!(fs::read_to_string(&file).unwrap(), original);
    assert_eq!(service.sink("hook a"), Value::Null);
    assert!(service.terminate(), "{}", service.said);
    assert!(!service.said.contains("s3cret"), "{}", service.said);
    let hook = numbers(folder.path(), "hook.jsonl");
    assert_all(&hook, hook[0]);
    assert_all(&numbers(folder.path(), "archive.jsonl"), 1);
}
