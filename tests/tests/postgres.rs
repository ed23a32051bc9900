//! The history in a real PostgreSQL, which is away, killed and back, and which refuses.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use serde_json::Value;
use vehiclecount_tests::certificates;
use vehiclecount_tests::postgres::Postgres;
use vehiclecount_tests::service::Service;

/// Two simulated cameras, with ten counts a second each.
const CAMERAS: &str = "[defaults]\nrate = 10\n[cameras.\"north gate\"]\n\
    url = \"simulated:junction\"\n\
    regions = [{ name = \"left\", polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]] }]\n\
    [cameras.south]\nurl = \"simulated:street\"\n";

/// All windows of the database, in order.
const WINDOWS: &str = "SELECT camera, region, length, start, covered, stale, mean, max, p95, free,
    moderate, dense, jammed FROM vehiclecount.record ORDER BY camera, region, length, start";

/// Counts in a region of that name, and ends its windows: it is removed.
fn end_windows(service: &mut Service, region: &str) {
    let polygon = "[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]";
    let regions =
        [format!("[{{\"name\": \"{region}\", \"polygon\": {polygon}}}]"), "[]".to_owned()];
    for regions in regions {
        let body = format!("{{\"regions\": {regions}}}");
        let (status, body) = service.send("PUT", "/api/v1/cameras/south", &body);
        assert_eq!(status, 200, "{body}");
        service.until("it counts", |camera| {
            camera("south")["state"] == "live" && camera("south")["count"].is_number()
        });
    }
}

/// Copies an outbox that no service uses.
fn copy(from: &Path, to: &Path) {
    for name in ["outbox.db", "outbox.db-wal"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

#[test]
fn history_waits_for_a_database_that_is_away_and_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut server) = Postgres::start(folder.path(), None) else { return };
    let history = format!("[history]\nurl = {:?}\nkeep-days = 30\n", server.url());
    let text = format!("{CAMERAS}{history}");
    let is_empty = |sink: &Value| sink["state"] == "live" && sink["waiting"].as_u64() == Some(0);
    let mut service = Service::start(folder.path(), &text);
    end_windows(&mut service, "one");
    service.until_sink("history", "windows are written", |sink| {
        is_empty(sink) && sink["delivered"].as_u64() >= Some(4)
    });
    let lengths = "SELECT count(DISTINCT length) FROM vehiclecount.record WHERE camera = 'south'";
    assert_eq!(server.ask("traffic", lengths), "4");
    // What is too old is deleted at the next start; what is not, is told again then.
    server.ask(
        "traffic",
        "INSERT INTO vehiclecount.record
             SELECT 'old', '', 3600, 3600, 1, 0, 1, 1, 1, 1, 0, 0, 0;
         INSERT INTO vehiclecount.event (time, event) VALUES
             (1, '{\"time\":1,\"camera\":\"old\",\"event\":\"camera-back\"}'),
             (extract(epoch from now()),
              '{\"time\":1,\"camera\":\"remembered\",\"event\":\"camera-back\"}')",
    );

    // It is away: counting goes on, and what is asked of it is answered with the reason.
    server.kill();
    end_windows(&mut service, "two");
    service.until_sink("history", "windows wait", |sink| {
        sink["waiting"].as_u64() >= Some(4) && sink["state"] == "waiting"
    });
    let (status, body) = service.ask("/api/v1/history?camera=south&window=3600");
    assert!(status == 503 && body.contains("the history cannot be read"), "{body}");
    assert_eq!(service.ask("/api/v1/health/ready").0, 200);
    // Killed meanwhile, and away at the next start.
    service.kill();
    service = Service::start(folder.path(), &text);
    end_windows(&mut service, "three");
    service.until_sink("history", "windows wait", |sink| {
        sink["waiting"].as_u64() >= Some(8) && sink["state"] == "waiting"
    });
    assert!(service.terminate(), "{}", service.said);

    // The windows of cameras that are not there any more are ended. Without cameras nothing is
    // added to what waits then.
    let mut service = Service::start(folder.path(), &history);
    service.until_sink("history", "windows wait", |sink| sink["waiting"].as_u64() >= Some(20));
    assert!(service.terminate(), "{}", service.said);
    let kept = tempfile::tempdir().unwrap();
    copy(folder.path(), kept.path());
    server.restart();
    let mut service = Service::start(folder.path(), &history);
    service.until_sink("history", "all is written", |sink| {
        is_empty(sink) && sink["delivered"].as_u64() >= Some(8)
    });
    let written = server.ask("traffic", WINDOWS);
    assert!(!written.contains("old|"), "what is too old is deleted: {written}");
    let events = service.ask("/api/v1/events").1;
    assert!(events.contains("remembered") && !events.contains("old"), "{events}");
    // The interface gives what the database has.
    for (camera, region) in [("south", ""), ("north%20gate", ""), ("north%20gate", "left")] {
        let region_asked = if region.is_empty() { "" } else { "&region=left" };
        let path = format!("/api/v1/history?camera={camera}&window=3600{region_asked}");
        let records = service.json(&path)["records"].clone();
        let query = format!(
            "SELECT json_agg(json_build_array(start, covered, mean, max, p95, free) ORDER BY start)
             FROM vehiclecount.record WHERE camera = '{}' AND region = '{region}'
             AND length = 3600",
            camera.replace("%20", " ")
        );
        let wanted: Value = serde_json::from_str(&server.ask("traffic", &query)).unwrap();
        let fields = |record: &Value| {
            let levels = &record["levels"]["free"];
            let names = ["start", "covered", "mean", "max", "p95"];
            let mut values: Vec<_> = names.iter().map(|name| record[name].as_f64()).collect();
            values.push(levels.as_f64());
            values
        };
        let given: Vec<_> = records.as_array().unwrap().iter().map(fields).collect();
        let rows = wanted.as_array().unwrap().iter();
        let wanted: Vec<Vec<_>> =
            rows.map(|row| row.as_array().unwrap().iter().map(Value::as_f64).collect()).collect();
        assert!(!given.is_empty() && given == wanted, "{records} {wanted:?}");
    }
    assert!(service.terminate(), "{}", service.said);

    // As if it had been killed after the database had taken all and before the outbox knew: the
    // same is sent again, and written once.
    copy(kept.path(), folder.path());
    let mut service = Service::start(folder.path(), &history);
    service.until_sink("history", "all is sent again", |sink| {
        is_empty(sink) && sink["delivered"].as_u64() >= Some(8)
    });
    assert_eq!(server.ask("traffic", WINDOWS), written);
    assert!(service.terminate(), "{}", service.said);
    assert!(!service.said.contains("s3cret"), "{}", service.said);
}

#[test]
fn database_that_refuses_is_told_with_the_reason_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    certificates::signed(folder.path());
    let pair = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    let Some(server) = Postgres::start(folder.path(), Some((&pair[0], &pair[1]))) else { return };
    let url = server.url();
    let ca = "ca-file = \"ca.pem\"\n";
    server.ask("traffic", "CREATE ROLE guest LOGIN PASSWORD 's3cret3'");
    let guest = url.replace("counter:s3cret%2F1", "guest:s3cret3");
    for (url, ca, state, reason) in [
        (url.replace("s3cret", "s3cret2"), ca, "waiting", "refuses the user name or the password"),
        (url.replace("/traffic", "/nowhere"), ca, "waiting", "make it with createdb"),
        (url.clone(), "", "waiting", "none of the authorities that are trusted vouches"),
        (guest, ca, "waiting", "the user needs CREATE on the database"),
        (server.url_at(1), "", "waiting", "refused"),
        (format!("{url}?sslmode=disable"), "", "live", ""),
        (format!("{url}?sslmode=require"), ca, "live", ""),
    ] {
        let text = format!("[history]\nurl = {url:?}\n{ca}");
        let mut service = Service::start(folder.path(), &text);
        service.until_sink("history", reason, |sink| {
            let said = sink["reason"].as_str().unwrap_or_default();
            sink["state"] == state && said.contains(reason)
        });
        let all = service.ask("/api/v1/sinks").1 + &service.ask("/api/v1/history?camera=a").1;
        assert!(service.terminate(), "{}", service.said);
        assert!(!format!("{all}{}", service.said).contains("s3cret"), "{all}{}", service.said);
    }
    server.ask("traffic", "UPDATE vehiclecount.version SET version = 1000");
    let text = format!("[history]\nurl = {url:?}\n{ca}");
    let mut service = Service::start(folder.path(), &text);
    service.until_sink("history", "it says why", |sink| {
        sink["reason"].as_str().is_some_and(|said| said.contains("a later version"))
    });
}
