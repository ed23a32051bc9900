//! Windows and events of the service over changes, ends and kills.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use vehiclecount_tests::camera::{Access, Cameras, MJPEG};
use vehiclecount_tests::init;
use vehiclecount_tests::service::Service;

#[test]
fn windows_go_on_over_kills_ends_and_changes_and_come_to_sinks_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[defaults]\nrate = 5\n[cameras.north]\nurl = \"simulated:junction\"\n\
                regions = [{ name = \"left\", polygon = [[0, 0], [1, 0], [1, 1]] }]\n\
                [sinks.file]\nurl = \"file:windows.jsonl\"\nrecords = [\"window\"]\n\
                windows = [10, 60]\n";
    let mut service = Service::start(folder.path(), text);
    let counts = |service: &mut Service| {
        service.until("it counts", |camera| camera("north")["counted"].as_u64() > Some(15));
    };
    for round in 0..6 {
        counts(&mut service);
        match round % 3 {
            0 => {
                service.kill();
                service = Service::start(folder.path(), text);
            }
            1 => {
                assert!(service.terminate(), "{}", service.said);
                service = Service::start(folder.path(), text);
            }
            _ => {
                let body = format!("{{\"scale\": {round}}}");
                let (status, body) = service.send("PUT", "/api/v1/cameras/north", &body);
                assert_eq!(status, 200, "{body}");
            }
        }
    }
    let host = service.host.clone();
    service.until("a minute has ended", |_| {
        let path = "/api/v1/history?camera=north&window=60&region=left";
        !Service::json_of(&host, path)["records"].as_array().unwrap().is_empty()
    });
    for region in ["", "&region=left"] {
        let records = |window: u32| {
            let path = format!("/api/v1/history?camera=north&window={window}{region}");
            service.json(&path)["records"].as_array().unwrap().clone()
        };
        let mut covered = BTreeMap::<u64, f64>::new();
        for record in records(10) {
            let minute = record["start"].as_u64().unwrap() / 60 * 60;
            *covered.entry(minute).or_default() += record["covered"].as_f64().unwrap();
        }
        for record in records(60) {
            let (start, all) = (record["start"].as_u64().unwrap(), &record["covered"]);
            let parts = covered.get(&start).copied().unwrap_or_default();
            assert!((all.as_f64().unwrap() - parts).abs() < 1e-3, "{parts} s of {record}");
        }
    }
    assert!(service.terminate(), "{}", service.said);
    let text = fs::read_to_string(folder.path().join("windows.jsonl")).unwrap();
    let (mut seen, mut minutes) = (BTreeSet::new(), 0);
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let key = ["region", "window", "start"].map(|name| record[name].to_string());
        assert!(seen.insert(key), "it comes twice: {record}");
        minutes += u32::from(record["window"] == 60);
    }
    assert!(minutes >= 2, "{text}");
}

#[test]
fn camera_that_is_mended_is_told_to_be_back_and_events_are_found_by_camera_and_time() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let server = Cameras::start(
        &[(
            "gate",
            &format!(
                "videotestsrc is-live=true pattern=red ! video/x-raw,format=I420,width=160,height=120,framerate=10/1 ! {MJPEG}"
            ),
        )],
        Access { login: Some(("me", "right")), ..Access::default() },
    );
    let url = server.url("", "gate");
    let text = format!(
        "[cameras.gate]\nurl = {url:?}\nuser = \"me\"\npassword = \"wrong\"\n\
         [cameras.gone]\nurl = \"rtsp://127.0.0.1:1/\"\n"
    );
    let mut service = Service::start(folder.path(), &text);
    let events = |host: &str, query: &str| -> Vec<(String, String)> {
        let events = Service::json_of(host, &format!("/api/v1/events{query}"))["events"].clone();
        let word = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
        let events = events.as_array().unwrap().iter();
        events.map(|event| (word(event, "camera"), word(event, "event"))).collect()
    };
    let host = service.host.clone();
    service.until("both are lost", |_| events(&host, "").len() >= 2);
    // Killed meanwhile; then the password is mended.
    service.kill();
    service = Service::start(folder.path(), &text);
    let body = "{\"user\": \"me\", \"password\": \"right\"}";
    assert_eq!(service.send("PUT", "/api/v1/cameras/gate", body).0, 200);
    let host = service.host.clone();
    let back = ("gate".to_owned(), "camera-back".to_owned());
    service.until("it is back", |_| events(&host, "?camera=gate").contains(&back));

    let lost = ("gate".to_owned(), "camera-lost".to_owned());
    assert_eq!(events(&host, "?camera=gate"), [back.clone(), lost]);
    assert_eq!(events(&host, "?camera=gate&limit=1"), std::slice::from_ref(&back));
    assert_eq!(events(&host, "?camera=nowhere"), []);
    let all = service.json("/api/v1/events?limit=10000")["events"].clone();
    let times: Vec<_> =
        all.as_array().unwrap().iter().map(|event| event["time"].as_f64().unwrap()).collect();
    assert!(times.len() >= 3 && times.is_sorted_by(|a, b| a >= b), "{all}");
    let first = times[times.len() - 1];
    let number = times.iter().filter(|time| **time == first).count();
    assert_eq!(events(&host, &format!("?to={first}&limit=1")).len(), number);
    assert_eq!(events(&host, &format!("?from={first}")).len(), times.len());
    assert_eq!(events(&host, &format!("?from={}", times[0] + 1.0)), []);
    for query in ["limit=0", "limit=10001", "limit=-1", "from=x", "to=NaN", "cameras=gate"] {
        let (status, body) = service.ask(&format!("/api/v1/events?{query}"));
        assert!(status == 400 && body.contains("error"), "{query}: {status} {body}");
    }
    assert!(service.terminate(), "{}", service.said);
}
