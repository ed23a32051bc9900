//! The service where something of it fails: what it says of that.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::Value;
use vehiclecount_core::engine::scripted::SCRIPT;
use vehiclecount_tests::service::Service;

/// Waits until a check of health has that status, and gives its answer.
fn until_health(service: &mut Service, check: &str, status: u16) -> String {
    let (host, mut body) = (service.host.clone(), String::new());
    service.until(&format!("{check} is {status}"), |_| {
        let answer = Service::answer_of(&host, &format!("/api/v1/health/{check}"));
        body = answer.1;
        answer.0 == status
    });
    body
}

#[test]
fn engine_that_fails_or_hangs_is_told_and_ends_health_until_it_counts_again() {
    let folder = tempfile::tempdir().unwrap();
    let (script, socket) = (folder.path().join("script"), folder.path().join("notify"));
    fs::write(&script, "").unwrap();
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_nonblocking(true).unwrap();
    // How often systemd heard that all is well since it was asked last.
    let heard = || {
        let mut said = [0; 256];
        let mut count = 0;
        while let Ok(length) = systemd.recv(&mut said) {
            count += u32::from(said[..length].starts_with(b"WATCHDOG=1"));
        }
        count
    };
    let text = "[defaults]\nrate = 5\n[cameras.north]\nurl = \"simulated:junction\"\n\
                [cameras.still]\nurl = \"simulated:street\"\nskip-unchanged = true\n\
                [cameras.slow]\nurl = \"simulated:street\"\nrate = 0.05\n\
                [cameras.dead]\nurl = \"rtsp://127.0.0.1:1/\"\n";
    let variables = [(SCRIPT, script.as_path()), ("NOTIFY_SOCKET", socket.as_path())];
    let mut service = Service::start_in(folder.path(), text, &variables);
    let is_well = |camera: &Value| camera["count"].is_number() && camera["reason"].is_null();
    service
        .until("they are counted", |camera| is_well(&camera("north")) && is_well(&camera("still")));
    assert_eq!(service.json("/api/v1/cameras/north")["failed-frames"], 0);

    fs::write(&script, "fail CUDA error 719: unspecified launch failure").unwrap();
    let begin = Instant::now();
    service.until("the reason is told of every camera", |camera| {
        ["north", "still"].iter().all(|name| {
            let camera = camera(name);
            camera["state"] == "live"
                && camera["failed-frames"].as_u64() > Some(0)
                && camera["reason"].as_str().is_some_and(|reason| reason.contains("error 719"))
        })
    });
    let metrics = service.ask("/metrics").1;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("vehiclecount_frames_failed_total{camera=\"north\"} "));
    assert!(line.unwrap().parse::<f64>().unwrap() > 0.0, "{metrics}");
    // A moment of it is no reason to restart the service.
    assert_eq!(service.ask("/api/v1/health/live").0, 200);
    for check in ["live", "ready"] {
        let body = until_health(&mut service, check, 503);
        assert!(body.contains("no picture was counted for") && body.contains("719"), "{body}");
    }
    assert!(begin.elapsed() > Duration::from_secs(25));
    assert_eq!(service.ask("/api/v1/health/startup").0, 200);
    assert!(heard() > 0, "systemd has heard of the time before");
    for round in 0..2 {
        let failed = service.json("/api/v1/cameras/north")["failed-frames"].as_u64().unwrap();
        service.until("pictures go on to fail", |camera| {
            camera("north")["failed-frames"].as_u64().unwrap() > failed + 20
        });
        // One word may have waited, as the socket holds a few.
        if round == 0 {
            heard();
        }
    }
    assert_eq!(heard(), 0, "systemd hears no more that all is well");

    fs::write(&script, "").unwrap();
    service.until("they are counted again", |camera| {
        is_well(&camera("north")) && is_well(&camera("still"))
    });
    until_health(&mut service, "live", 200);
    until_health(&mut service, "ready", 200);
    // It was said once that it fails, not at every picture.
    let said = |service: &Service| service.said.matches("north: live: ").count();
    service.until_said("north: live: ");
    assert_eq!(said(&service), 1, "{}", service.said);

    fs::write(&script, "hang").unwrap();
    service.until("the reason is told", |camera| {
        let north = camera("north");
        north["reason"] == "the engine does not count its pictures" && north["count"].is_null()
    });
    fs::write(&script, "").unwrap();
    service.until("they are counted again", |camera| is_well(&camera("north")));
    assert!(service.terminate(), "{}", service.said);
}

#[test]
fn history_that_cannot_be_written_is_told_and_what_waits_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[defaults]\nrate = 5\n[cameras.north]\nurl = \"simulated:junction\"\n\
                [sinks.file]\nurl = \"file:windows.jsonl\"\n";
    let mut service = Service::start(folder.path(), text);
    for name in ["history", "outbox"] {
        let figures = service.sink(name);
        assert!(figures["state"] == "live" && figures["reason"].is_null(), "{figures}");
    }
    let other = rusqlite::Connection::open(folder.path().join("counter.db")).unwrap();
    other.busy_timeout(Duration::from_secs(30)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let figures = service.until_sink("history", "it waits", |sink| {
        sink["state"] == "waiting" && sink["waiting"].as_u64() > Some(0)
    });
    let reason = figures["reason"].as_str().unwrap();
    assert!(reason.contains("the history cannot be written: database is locked"), "{reason}");
    let body = until_health(&mut service, "ready", 503);
    assert!(body.contains("the history cannot be written"), "{body}");
    let metrics = service.ask("/metrics").1;
    for line in
        ["vehiclecount_sink_up{sink=\"history\"} 0", "vehiclecount_sink_up{sink=\"outbox\"} 1"]
    {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    // It counts on, and a restart would not help.
    assert_eq!(service.ask("/api/v1/health/live").0, 200);
    other.execute_batch("ROLLBACK").unwrap();
    service.until_sink("history", "it is written", |sink| {
        sink["state"] == "live" && sink["waiting"] == 0 && sink["delivered"].as_u64() > Some(0)
    });
    until_health(&mut service, "ready", 200);
    let host = service.host.clone();
    service.until("the windows are there", |_| {
        let path = "/api/v1/history?camera=north&window=10";
        !Service::json_of(&host, path)["records"].as_array().unwrap().is_empty()
    });
    assert!(service.terminate(), "{}", service.said);
    let waits = service.said.matches("sink history: waiting").count();
    assert_eq!(waits, 1, "it was said once: {}", service.said);
}
