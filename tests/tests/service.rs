//! The service `vehicle-count run` with real servers on loopback.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use gst::prelude::*;
use vehiclecount_tests::BOUND;
use vehiclecount_tests::camera::{Access, Cameras, H264, MJPEG};
use vehiclecount_tests::service::Service;
use vehiclecount_tests::system::command;
use vehiclecount_tests::{free_port, init};

/// Red pictures, which the scripted engine counts many vehicles in.
fn red(end: &str) -> String {
    format!(
        "videotestsrc is-live=true pattern=red ! video/x-raw,format=I420,width=160,height=120,framerate=10/1 ! {end}"
    )
}

/// A file of two seconds.
fn clip(path: &Path) {
    let line = "videotestsrc num-buffers=20 pattern=red ! video/x-raw,format=I420,width=160,height=120,framerate=10/1 \
                ! jpegenc ! avimux ! filesink name=end";
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.by_name("end").unwrap().set_property("location", path);
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn cameras_of_every_kind_are_counted_and_those_that_fail_say_why() {
    init();
    let folder = tempfile::tempdir().unwrap();
    clip(&folder.path().join("a clip.avi"));
    let open = Cameras::start(&[("h264", &red(H264)), ("mjpeg", &red(MJPEG))], Access::default());
    let locked = Cameras::start(
        &[("h264", &red(H264))],
        Access { login: Some(("me", "s3cret/1")), ..Access::default() },
    );
    let gone = free_port();
    std::fs::write(folder.path().join("password"), "s3cret/1\n").unwrap();
    let mut service = Service::start(
        folder.path(),
        &format!(
            "[defaults]\nrate = 4\nlevels = {{ moderate = 1, dense = 100000, jammed = 200000 }}\n\
             [cameras.h264]\nurl = {:?}\nregions = [{{ name = \"left\", polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]] }}]\n\
             [cameras.udp]\nurl = {:?}\ntransport = \"udp\"\n\
             [cameras.file]\nurl = \"file:a clip.avi\"\n\
             [cameras.simulated]\nurl = \"simulated:highway\"\n\
             [cameras.locked]\nurl = {:?}\nuser = \"me\"\npassword = {{ file = \"password\" }}\n\
             [cameras.wrong]\nurl = {:?}\n\
             [cameras.gone]\nurl = \"rtsp://me:s3cret2@127.0.0.1:{gone}/?token=s3cret3\"\n",
            open.url("", "h264"),
            open.url("", "mjpeg"),
            locked.url("", "h264"),
            locked.url("me:s3cret4@", "h264"),
        ),
    );
    let counted = |camera: &serde_json::Value| {
        camera["state"] == "live" && camera["counted"].as_u64() > Some(8)
    };
    service.until(
        "the cameras that are there are counted, and the file again and again",
        |camera| {
            ["h264", "udp", "file", "simulated", "locked"].iter().all(|name| counted(&camera(name)))
                && camera("file")["counted"].as_u64() > Some(12)
                && camera("wrong")["state"] == "refused"
                && camera("gone")["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.contains("refuses the connection"))
        },
    );
    let h264 = service.json("/api/v1/cameras/h264");
    assert!(h264["count"].as_f64() > Some(1.0) && h264["level"] == "moderate", "{h264:#}");
    assert!(h264["regions"][0]["name"] == "left", "{h264:#}");
    let share = h264["regions"][0]["count"].as_f64().unwrap() / h264["count"].as_f64().unwrap();
    assert!((share - 0.5).abs() < 0.1, "{h264:#}");
    // Four of the ten pictures a second are counted.
    let share = h264["counted"].as_f64().unwrap() / h264["received"].as_f64().unwrap();
    assert!(share < 0.7, "{h264:#}");
    let wrong = service.json("/api/v1/cameras/wrong");
    assert_eq!(wrong["reason"], "it refuses the user name or the password (401)");
    assert!(
        wrong["count"].is_null() && wrong["level"].is_null(),
        "no count is not zero: {wrong:#}"
    );
    assert_eq!(service.json("/api/v1/cameras/gone")["state"], "waiting");
    let counts = service.json("/api/v1/counts");
    assert_eq!(counts["counts"].as_array().unwrap().len(), 7);

    let (status, metrics) = service.ask("/metrics");
    assert_eq!(status, 200);
    for line in [
        "vehiclecount_camera_state{camera=\"h264\",state=\"live\"} 1",
        "vehiclecount_camera_state{camera=\"wrong\",state=\"refused\"} 1",
        "vehiclecount_region_vehicles{camera=\"h264\",region=\"left\"} ",
        "vehiclecount_frames_received_total{camera=\"file\"} ",
        "vehiclecount_engine_info{engine=\"scripted\"",
        "vehiclecount_reports_lost_total",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(
        !metrics.contains("vehiclecount_vehicles{camera=\"wrong\"}"),
        "no count is not zero: {metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"));

    let mut all = metrics;
    for path in [
        "/",
        "/api/v1/cameras",
        "/api/v1/cameras/locked",
        "/api/v1/counts",
        "/api/v1/events",
        "/nothing",
    ] {
        all += &service.ask(path).1;
    }
    assert!(service.terminate(), "{}", service.said);
    all += &service.said;
    assert!(!all.contains("s3cret") && all.contains("***@127.0.0.1"), "{all}");
}

#[test]
fn pictures_that_do_not_differ_keep_their_count_for_as_long_as_they_are_seen() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let server = Cameras::start(&[("still", &red(MJPEG))], Access::default());
    let url = server.url("", "still");
    let mut service = Service::start(
        folder.path(),
        &format!(
            "[defaults]\nrate = 4\nskip-unchanged = true\n\
             [cameras.still]\nurl = {url:?}\n[cameras.counted]\nurl = {url:?}\nskip-unchanged = false\n"
        ),
    );
    // Longer than a count holds that is not confirmed.
    service.until("a confirmed count is older than 3 s", |camera| {
        let still = camera("still");
        still["confirmed"] == true && still["age"].as_f64() > Some(3.0)
    });
    let still = service.json("/api/v1/cameras/still");
    assert!(still["count"].is_number() && still["settings"]["skip-unchanged"] == true, "{still:#}");
    let (all, confirmed) = (still["counted"].as_u64(), still["confirmed-frames"].as_u64());
    assert!(confirmed > Some(6) && all > confirmed, "{still:#}");
    let counted = service.json("/api/v1/cameras/counted");
    assert!(counted["counted"].as_u64() > Some(6), "{counted:#}");
    assert_eq!((&counted["confirmed-frames"], &counted["confirmed"]), (&0.into(), &false.into()));
    let metrics = service.ask("/metrics").1;
    let line = "vehiclecount_frames_confirmed_total{camera=\"still\"} ";
    assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    // The count covers the time in which it was confirmed.
    let (host, mut covered) = (service.host.clone(), 0.0);
    service.until("a whole window is covered", |_| {
        let records = Service::json_of(&host, "/api/v1/history?camera=still&window=10");
        let records = records["records"].as_array().unwrap().clone();
        let last = records.last().and_then(|record| record["covered"].as_f64());
        covered = f64::max(covered, last.unwrap_or(0.0));
        covered > 9.0
    });
    assert!(service.terminate(), "{}", service.said);
}

#[test]
fn camera_that_dies_comes_back_and_the_others_do_not_notice() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let steady = Cameras::start(&[("a", &red(H264))], Access::default());
    let mortal = Cameras::start(&[("b", &red(H264))], Access::default());
    let port = mortal.port();
    let text = format!(
        "[defaults]\nrate = 10\n[cameras.steady]\nurl = {:?}\n[cameras.mortal]\nurl = {:?}\n",
        steady.url("", "a"),
        mortal.url("", "b")
    );
    let mut service = Service::start(folder.path(), &text);
    service.until("both are live", |camera| {
        ["steady", "mortal"].iter().all(|name| camera(name)["state"] == "live")
    });
    drop(mortal);
    service.until("one is gone", |camera| {
        assert_eq!(camera("steady")["state"], "live");
        let mortal = camera("mortal");
        mortal["state"] == "waiting" && mortal["count"].is_null() && mortal["reason"].is_string()
    });
    let before = service.json("/api/v1/cameras/steady")["counted"].as_u64().unwrap();
    let again = Cameras::start(&[("b", &red(MJPEG))], Access { port, ..Access::default() });
    service.until("it is back, with another codec", |camera| {
        assert_eq!(camera("steady")["state"], "live");
        let mortal = camera("mortal");
        mortal["state"] == "live"
            && mortal["failures"].as_u64() >= Some(1)
            && mortal["count"].is_number()
    });
    let steady_now = service.json("/api/v1/cameras/steady");
    assert!(
        steady_now["counted"].as_u64().unwrap() > before && steady_now["failures"] == 0,
        "{steady_now:#}"
    );
    assert!(service.terminate());
    drop(again);
}

#[test]
fn what_was_recorded_survives_a_kill() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let text = "[defaults]\nrate = 10\n[cameras.\"north gate\"]\nurl = \"simulated:junction\"\n\
                regions = [{ name = \"left & right\", polygon = [[0, 0], [1, 0], [1, 1]] }]\n";
    let path = "/api/v1/history?camera=north%20gate&window=10";
    let mut service = Service::start(folder.path(), text);
    let mut records = serde_json::Value::Null;
    for round in 0..2 {
        let before = records.as_array().map_or(0, Vec::len);
        let host = service.host.clone();
        service.until("a window has ended", |_| {
            records = Service::json_of(&host, path)["records"].clone();
            records.as_array().unwrap().len() > before
        });
        service.kill();
        service = Service::start(folder.path(), text);
        let after = service.json(path)["records"].clone();
        let old = &records.as_array().unwrap()[..];
        assert_eq!(&after.as_array().unwrap()[..old.len()], old, "round {round}");
    }
    let record = &records[0];
    assert!(
        record["covered"].as_f64() > Some(0.0) && record["covered"].as_f64() <= Some(10.0),
        "{record:#}"
    );
    assert!(
        record["mean"].as_f64() <= record["max"].as_f64()
            && record["start"].as_u64().unwrap().is_multiple_of(10)
    );
    let region = service.json(&format!("{path}&region=left%20%26%20right"))["records"].clone();
    assert_eq!(region[0]["start"], record["start"], "{region:#}");
    for (query, status) in [
        ("", 400),
        ("?camera=north%20gate&window=11", 400),
        ("?camera=north%20gate&windows=10", 400),
        ("?camera=north%20gate&from=x", 400),
        ("?camera=south", 200),
        ("?camera=north%20gate&from=-9223372036854775808&to=9223372036854775807", 200),
        ("?camera='%20OR%201%20--", 200),
    ] {
        let (answered, body) = service.ask(&format!("/api/v1/history{query}"));
        assert_eq!(answered, status, "{query}: {body}");
        serde_json::from_str::<serde_json::Value>(&body)
            .unwrap_or_else(|error| panic!("{query}: {error}: {body}"));
    }
    assert!(service.terminate(), "{}", service.said);
}

#[test]
fn health_and_errors_are_answers_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut service =
        Service::start(folder.path(), "[cameras.\"north gate\"]\nurl = \"simulated:junction\"\n");
    for path in ["/api/v1/health/live", "/api/v1/health/ready", "/api/v1/health/startup"] {
        assert_eq!(service.ask(path), (200, "{\"status\":\"ok\"}".to_owned()), "{path}");
    }
    assert_eq!(service.json("/api/v1/cameras/north%20gate")["name"], "north gate");
    for path in [
        "/api/v1/cameras/south",
        "/api/v1/nothing",
        "/../../etc/passwd",
        "/api/v1/cameras/..%2f..%2fetc",
    ] {
        let (status, body) = service.ask(path);
        assert_eq!(status, 404, "{path}: {body}");
        assert!(
            serde_json::from_str::<serde_json::Value>(&body).unwrap()["error"].is_string(),
            "{path}: {body}"
        );
    }
    // A page of elsewhere whose name leads here reads nothing.
    for host in ["evil.example", "127.0.0.1.evil.example:80", ""] {
        assert_eq!(service.ask_as(host, "/api/v1/cameras").0, 403, "{host}");
    }
    for host in ["localhost", "LOCALHOST:80", "[::1]:80", "127.0.0.1"] {
        assert_eq!(service.ask_as(host, "/api/v1/cameras").0, 200, "{host}");
    }
    let (status, head, page) = service.ask_as("localhost", "/");
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/html") && head.contains("default-src 'none'"),
        "{head}"
    );
    assert!(
        page.contains("<title>Vehicle counts</title>")
            && !page.contains("http://")
            && !page.contains("https://")
    );
    assert!(service.terminate());
}

#[test]
fn systemd_hears_how_the_service_is() {
    let folder = tempfile::tempdir().unwrap();
    let (file, socket) = (folder.path().join("counter.toml"), folder.path().join("notify"));
    fs::write(&file, "[http]\nlisten = \"127.0.0.1:0\"\n[counter]\nengine = \"scripted\"\n")
        .unwrap();
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(BOUND)).unwrap();
    let hear = || {
        let mut said = [0; 256];
        let length = systemd.recv(&mut said).unwrap();
        String::from_utf8_lossy(&said[..length]).trim().to_owned()
    };
    let mut process =
        command().arg("run").arg(&file).env("NOTIFY_SOCKET", &socket).spawn().unwrap();
    assert_eq!(hear(), "READY=1");
    assert_eq!(hear(), "WATCHDOG=1");
    // SAFETY: kill takes any process id; this one is a child that was not waited for yet.
    unsafe { libc::kill(process.id() as libc::pid_t, libc::SIGTERM) };
    while hear() != "STOPPING=1" {}
    assert!(process.wait().unwrap().success());
}

#[test]
fn what_is_wrong_is_told_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counter.toml");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let camera = "[cameras.a]\nurl = \"simulated:street\"\n";
    for (text, arguments, said) in [
        (
            "[cameras.a]\nulr = \"rtsp://a\"\n".to_owned(),
            &["check", "run"][..],
            "unknown key ulr; did you mean url?",
        ),
        (
            format!("{camera}[http]\nlisten = \"{address}\"\n"),
            &["run"],
            "choose another one with [http] listen",
        ),
        (
            format!("{camera}[history]\nfile = \"no/folder/counter.db\"\n"),
            &["run"],
            "choose another file with [history] file",
        ),
        (format!("{camera}[counter]\nmodel = \"no such model\"\n"), &["run"], "no such model"),
    ] {
        std::fs::write(&file, text).unwrap();
        for argument in arguments {
            let output = command().arg(argument).arg(&file).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && error.contains(said), "{argument}: {error}");
            assert!(output.stdout.is_empty());
        }
    }
    let output = command().arg("check").arg(folder.path().join("none.toml")).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("none.toml: No such file"));
    std::fs::write(&file, camera).unwrap();
    let output = command().arg("check").arg(&file).output().unwrap();
    assert!(output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stdout)
            .ends_with("counter.toml: 1 camera, nothing wrong\n")
    );
    let schema = command().args(["check", "--schema"]).output().unwrap().stdout;
    assert!(
        serde_json::from_slice::<serde_json::Value>(&schema).unwrap()["properties"]["cameras"]
            .is_object()
    );
}
