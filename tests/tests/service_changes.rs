//! The service `vehicle-count run` is changed while it runs, by its HTTP interface and by its file.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};
use vehiclecount_tests::camera::{Access, Cameras, H264};
use vehiclecount_tests::service::{Service, exchange};
use vehiclecount_tests::{BOUND, free_port, init};

const RED: &str = "videotestsrc is-live=true pattern=red ! video/x-raw,format=I420,width=160,height=120,framerate=10/1 ! ";

const TOKEN: &str = "s3cret-token-of-the-test";

fn cameras(access: Access) -> Cameras {
    Cameras::start(&[("red", &format!("{RED}{H264}"))], access)
}

#[test]
fn cameras_come_change_and_go_while_another_loses_no_picture() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let server = cameras(Access::default());
    let url = server.url("", "red");
    let text = format!(
        "# Of the town.\n[defaults] # All.\nrate = 30\n\n# It stays.\n[cameras.steady]\nurl = {url:?} # here\n"
    );
    let mut service = Service::start(folder.path(), &text);
    let file = folder.path().join("counter.toml");
    let read = || fs::read_to_string(&file).unwrap();
    let original = read();
    service.until("the first camera is live", |camera| camera("steady")["state"] == "live");
    let received =
        |service: &Service| service.json("/api/v1/cameras/steady")["received"].as_u64().unwrap();
    let uncounted = |steady: &Value| {
        let figure = |name: &str| steady[name].as_u64().unwrap();
        figure("received") - figure("counted") - figure("stale-frames")
    };
    let uncounted_before = uncounted(&service.json("/api/v1/cameras/steady"));
    let (begin, before) = (Instant::now(), received(&service));

    let added = json!({ "name": "new gate", "url": url, "rate": 5 });
    let (status, body) = service.send("POST", "/api/v1/cameras", &added.to_string());
    assert_eq!(status, 201, "{body}");
    service.until("the new camera is counted", |camera| camera("new gate")["count"].is_number());
    let region =
        json!({ "regions": [{ "name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]] }] });
    let (status, body) = service.send("PUT", "/api/v1/cameras/new%20gate", &region.to_string());
    assert_eq!(status, 200, "{body}");
    let changed: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(changed["settings"]["regions"][0]["name"], "left", "{changed:#}");
    assert_eq!(changed["settings"]["rate"], 5.0, "what is not named stays");
    service.until("the region is counted", |camera| {
        let region = &camera("new gate")["regions"][0];
        region["name"] == "left" && region["count"].as_f64() > Some(1.0)
    });
    assert!(read().starts_with(&original), "what was written stays as it is: {}", read());

    for (method, path, body, status) in [
        ("POST", "/api/v1/cameras", added.to_string(), 409),
        ("POST", "/api/v1/cameras", json!({ "name": "a/b", "url": url }).to_string(), 422),
        ("POST", "/api/v1/cameras", json!({ "name": "a" }).to_string(), 422),
        ("POST", "/api/v1/cameras", json!({ "url": url }).to_string(), 422),
        (
            "POST",
            "/api/v1/cameras",
            json!({ "name": "a", "url": "file:/etc/passwd" }).to_string(),
            422,
        ),
        (
            "POST",
            "/api/v1/cameras",
            json!({ "name": "a", "url": "file:../a.mp4" }).to_string(),
            422,
        ),
        (
            "POST",
            "/api/v1/cameras",
            json!({ "name": "a", "url": { "file": "/etc/passwd" } }).to_string(),
            422,
        ),
        ("PUT", "/api/v1/cameras/steady", json!({ "rtae": 1 }).to_string(), 422),
        ("PUT", "/api/v1/cameras/steady", json!({ "rate": 1000 }).to_string(), 422),
        (
            "PUT",
            "/api/v1/cameras/steady",
            json!({ "password": { "env": "HOME" } }).to_string(),
            422,
        ),
        (
            "PUT",
            "/api/v1/cameras/steady",
            json!({ "regions-file": "/etc/passwd" }).to_string(),
            422,
        ),
        ("PUT", "/api/v1/cameras/steady", json!({ "regions": [{ "name": "a" }] }).to_string(), 422),
        (
            "PUT",
            "/api/v1/cameras/steady",
            json!({ "regions": [{ "name": "a", "polygon": vec![[0, 0]; 9000] }] }).to_string(),
            422,
        ),
        ("PUT", "/api/v1/cameras/steady", json!({ "levels": [1] }).to_string(), 422),
        ("PUT", "/api/v1/cameras/steady", "[]".to_owned(), 400),
        ("PUT", "/api/v1/cameras/steady", "{".to_owned(), 400),
        ("PUT", "/api/v1/cameras/none", json!({ "rate": 1 }).to_string(), 404),
        ("DELETE", "/api/v1/cameras/none", String::new(), 404),
        ("DELETE", "/api/v1/cameras", String::new(), 405),
    ] {
        let (answered, said) = service.send(method, path, &body);
        assert_eq!(answered, status, "{method} {path} {body}: {said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert!(said["error"].is_string(), "{method} {path} {body}: {said}");
    }

    assert_eq!(service.send("DELETE", "/api/v1/cameras/new%20gate", "").0, 204);
    assert_eq!(service.ask("/api/v1/cameras/new%20gate").0, 404);
    assert!(!service.ask("/metrics").1.contains("new gate"), "its series go with it");
    assert_eq!(read(), original);

    // DeepStream's clients add and remove streams, too.
    let stream = |change: &str| {
        let value = json!({
            "camera_id": "south", "camera_name": "front", "camera_url": "simulated:street",
            "change": change, "metadata": {},
        });
        json!({ "key": "sensor", "value": value, "headers": { "source": "vst" } }).to_string()
    };
    let (status, body) = service.send("POST", "/api/v1/stream/add", &stream("camera_add"));
    assert!(status == 200 && body.contains("STREAM_ADD_SUCCESS"), "{body}");
    service.until("DeepStream's camera is live", |camera| camera("south")["state"] == "live");
    let (status, body) = service.send("POST", "/api/v1/stream/remove", &stream("camera_remove"));
    assert!(status == 200 && body.contains("STREAM_REMOVE_SUCCESS"), "{body}");
    assert_eq!(read(), original);

    // The file is changed by hand, and read anew.
    fs::write(&file, original.replace("rate = 30", "rtae = 30")).unwrap();
    service.signal(libc::SIGHUP);
    service.until_said("unknown key rtae; did you mean rate?");
    let by_hand = original.clone() + "[cameras.hand]\nurl = \"simulated:highway\"\n";
    fs::write(&file, by_hand).unwrap();
    service.signal(libc::SIGHUP);
    service.until("the camera of the file is live", |camera| camera("hand")["state"] == "live");

    // Ten pictures a second came all the while, but for those that are under way.
    let expected = before + (begin.elapsed().as_secs_f64() * 10.0) as u64;
    service.until("the first camera has lost nothing", |camera| {
        let steady = camera("steady");
        assert_eq!(steady["failures"], 0, "{steady:#}");
        steady["received"].as_u64() >= Some(expected - 2)
    });
    let late = received(&service) - before;
    assert!(late as f64 <= begin.elapsed().as_secs_f64() * 10.0 + 12.0, "it was not begun anew");
    service.until("all of its pictures are counted", |camera| {
        uncounted(&camera("steady")) <= uncounted_before + 3
    });
    assert!(service.terminate(), "{}", service.said);
}

#[test]
fn regions_that_are_drawn_keep_what_else_their_file_said() {
    let folder = tempfile::tempdir().unwrap();
    let corner = json!([[0, 0], [1, 0], [1, 1]]);
    let file = json!({
        "levels": { "moderate": 2, "dense": 4, "jammed": 6 },
        "input-scale": "small",
        "scale-factor": 1.5,
        "regions": [{ "name": "old", "polygon": corner }],
    });
    fs::write(folder.path().join("regions.json"), file.to_string()).unwrap();
    let text = "[cameras.a]\nurl = \"simulated:street\"\nregions-file = \"regions.json\"\n\
                [cameras.b]\nurl = \"simulated:street\"\nregions-file = \"regions.json\"\n\
                scale = 1.0\n";
    let mut service = Service::start(folder.path(), text);
    let settings = |service: &Service, name: &str| {
        service.json(&format!("/api/v1/cameras/{name}"))["settings"].clone()
    };
    let before = settings(&service, "a");
    assert_eq!((&before["scale"], &before["input-scale"]), (&json!(1.5), &json!("small")));
    assert_eq!(settings(&service, "b")["scale"], 1.0, "the camera's own goes before the file's");
    let drawn = json!({ "regions": [{ "name": "new", "polygon": corner }] }).to_string();
    for name in ["a", "b"] {
        let before = settings(&service, name);
        let (status, body) = service.send("PUT", &format!("/api/v1/cameras/{name}"), &drawn);
        assert_eq!(status, 200, "{body}");
        let after = settings(&service, name);
        assert_eq!(after["regions"][0]["name"], "new");
        for key in ["scale", "input-scale", "levels"] {
            assert_eq!(after[key], before[key], "{name}: {key}");
        }
    }
    // What is said of them in the same change holds.
    let both = json!({ "regions": [], "scale": 2 }).to_string();
    assert_eq!(service.send("PUT", "/api/v1/cameras/a", &both).0, 200);
    assert_eq!(settings(&service, "a")["scale"], 2.0);
    assert!(service.terminate(), "{}", service.said);
}

#[test]
fn pictures_are_given_plain_and_annotated() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let text = "[cameras.\"a b\"]\nurl = \"simulated:junction\"\nrate = 0.01\n\
                [cameras.none]\nurl = \"rtsp://127.0.0.1:9/\"\n";
    let mut service = Service::start(folder.path(), text);
    service.until("it is live", |camera| camera("a b")["state"] == "live");
    let mut pictures = Vec::new();
    for query in ["", "?annotated=true", "?annotated=true&width=320"] {
        let path = format!("/api/v1/cameras/a%20b/snapshot{query}");
        let (status, head, body) = service.exchange("GET", &path, "", "");
        assert_eq!(status, 200, "{query}");
        assert!(head.contains("content-type: image/jpeg"), "{head}");
        pictures.push(decoded(&body));
    }
    let [plain, annotated, small] = &pictures[..] else { panic!("three pictures") };
    assert_eq!((plain.0, plain.1), (annotated.0, annotated.1));
    assert_eq!((small.0, small.0 * plain.1 / plain.0), (320, small.1));
    // The panel stands in the upper left, and the traffic does not.
    let differ = (0..40 * 3).filter(|&at| {
        let at = (plain.0 as usize * 20 + 20) * 3 + at;
        plain.2[at].abs_diff(annotated.2[at]) > 40
    });
    assert!(differ.count() > 20, "something is drawn");
    for (path, status) in [
        ("a%20b/snapshot?annotated=maybe", 400),
        ("a%20b/snapshot?width=9", 400),
        ("a%20b/snapshot?size=9", 400),
        ("south/snapshot", 404),
        ("none/snapshot", 503),
    ] {
        assert_eq!(service.ask(&format!("/api/v1/cameras/{path}")).0, status, "{path}");
    }
    assert!(service.terminate(), "{}", service.said);
}

/// Width, height and pixels in RGB of a JPEG.
fn decoded(jpeg: &[u8]) -> (u32, u32, Vec<u8>) {
    use gst::prelude::*;
    let line = "appsrc name=in caps=image/jpeg ! jpegdec ! videoconvert ! video/x-raw,format=RGB ! appsink name=out sync=false";
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let input = pipeline.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let output = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    input.push_buffer(gst::Buffer::from_slice(jpeg.to_vec())).unwrap();
    input.end_of_stream().unwrap();
    let sample = output.try_pull_sample(gst::ClockTime::from_seconds(30)).unwrap();
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let buffer = sample.buffer().unwrap();
    let map = buffer.map_readable().unwrap();
    let (row, stride) = (info.width() as usize * 3, info.stride()[0] as usize);
    let pixels = map.chunks(stride).flat_map(|line| line[..row].iter().copied()).collect();
    pipeline.set_state(gst::State::Null).unwrap();
    (info.width(), info.height(), pixels)
}

#[test]
fn an_address_is_tried_before_it_is_saved() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let open = cameras(Access::default());
    let locked = cameras(Access { login: Some(("me", "s3cret/1")), ..Access::default() });
    let gone = free_port();
    let mut service = Service::start(
        folder.path(),
        &format!(
            "[cameras.locked]\nurl = {:?}\nuser = \"me\"\npassword = \"s3cret/1\"\n",
            locked.url("", "red")
        ),
    );
    let before = fs::read_to_string(folder.path().join("counter.toml")).unwrap();
    for (keys, reason) in [
        (json!({ "url": open.url("", "red") }), None),
        (json!({ "url": "simulated:street" }), None),
        (json!({ "name": "locked" }), None),
        (json!({ "name": "locked", "scale": 2 }), None),
        (json!({ "url": locked.url("", "red"), "user": "me", "password": "s3cret/1" }), None),
        (
            json!({ "url": locked.url("", "red"), "user": "me", "password": "s3cret2" }),
            Some("(401)"),
        ),
        // The login of before is for the address of before.
        (json!({ "name": "locked", "url": locked.url("", "red") }), Some("(401)")),
        (json!({ "url": open.url("", "blue") }), Some("(404)")),
        (
            json!({ "url": format!("rtsp://me:s3cret3@127.0.0.1:{gone}/") }),
            Some("refuses the connection"),
        ),
    ] {
        let (status, body) = service.send("POST", "/api/v1/try", &keys.to_string());
        assert_eq!(status, 200, "{keys}: {body}");
        let said: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(said["ok"], reason.is_none(), "{keys}: {said}");
        match reason {
            Some(reason) => assert!(said["reason"].as_str().unwrap().contains(reason), "{said}"),
            None => assert!(
                said["picture"].as_str().unwrap().starts_with("data:image/jpeg;base64,/9j/")
            ),
        }
        assert!(!body.contains("s3cret"), "{body}");
    }
    for (keys, status) in
        [(json!({ "name": "none" }), 404), (json!({ "url": "ftp://a" }), 422), (json!({}), 422)]
    {
        assert_eq!(service.send("POST", "/api/v1/try", &keys.to_string()).0, status, "{keys}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("counter.toml")).unwrap(), before);
    assert!(service.terminate(), "{}", service.said);
    assert!(!service.said.contains("s3cret"), "{}", service.said);
}

#[test]
fn without_the_token_nothing_is_read_or_changed() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[cameras.a]\nurl = \"simulated:street\"\n";
    let mut service = Service::start_with_token(folder.path(), TOKEN, text);
    let described: Value = serde_json::from_str(&service.ask("/api/v1/openapi.json").1).unwrap();
    let mut closed = 0;
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if method == "parameters" || operation["security"].is_array() {
                continue;
            }
            let path = path.replace("{name}", "a");
            for headers in [
                "",
                "\r\nAuthorization: Bearer s3cret-token-of-the-tesT",
                "\r\nAuthorization: Basic s3cret",
                "\r\nCookie: vehiclecount=0; vehiclecount=",
            ] {
                let (status, head, body) =
                    service.exchange(&method.to_uppercase(), &path, headers, "");
                assert_eq!(status, 401, "{method} {path}: {body:?}");
                assert!(head.contains("www-authenticate: Bearer"), "{head}");
            }
            closed += 1;
        }
    }
    assert!(closed > 10, "{closed}");
    for path in ["/", "/page.js", "/page.css", "/api/v1/health/live", "/api/v1/openapi.json"] {
        assert_eq!(service.exchange("GET", path, "", "").0, 200, "{path} is open");
    }
    service.until("the token opens it", |camera| camera("a")["state"] == "live");
    assert_eq!(service.ask("/metrics").0, 200);

    // A browser has a cookie for it.
    let json = "\r\nContent-Type: application/json";
    let login = |token: &str| {
        service.exchange("POST", "/api/v1/login", json, &json!({ "token": token }).to_string())
    };
    assert_eq!(login("s3cret").0, 401);
    let (status, head, _) = login(TOKEN);
    assert_eq!(status, 200);
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = format!("\r\nCookie: other=1; {}", cookie.split(';').next().unwrap());
    assert_eq!(service.exchange("GET", "/api/v1/cameras", &cookie, "").0, 200);

    // A page of elsewhere changes nothing, whoever looks at it; nor does a body without bounds.
    for (headers, body, status) in [
        (format!("{json}{cookie}\r\nOrigin: http://evil.example"), "{}".to_owned(), 403),
        (format!("{json}{cookie}\r\nOrigin: null"), "{}".to_owned(), 403),
        (format!("\r\nContent-Type: text/plain{cookie}"), "{}".to_owned(), 415),
        (format!("{json}{cookie}"), format!("{{\"a\":\"{}\"}}", "a".repeat(1 << 20)), 413),
        (format!("{json}{cookie}\r\nOrigin: http://{}", service.host), "{}".to_owned(), 422),
    ] {
        let (answered, _, said) = service.exchange("POST", "/api/v1/cameras", &headers, &body);
        assert_eq!(answered, status, "{headers}: {said:?}");
    }

    // A proxy in front of it tells it its own address, and the browser where the page is from.
    let proxied = |headers: &str| {
        let headers = format!("Host: 10.0.0.9:80{json}{cookie}{headers}");
        exchange(&service.host, "POST", "/api/v1/cameras", &headers, "{}").0
    };
    let origin = "\r\nOrigin: https://counter.example";
    assert_eq!(proxied(origin), 403);
    assert_eq!(proxied(&format!("{origin}\r\nX-Forwarded-Host: counter.example")), 422);
    assert_eq!(proxied(&format!("{origin}\r\nSec-Fetch-Site: same-origin")), 422);
    assert_eq!(proxied("\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site"), 403);
    let read = exchange(
        &service.host,
        "GET",
        "/api/v1/cameras",
        &format!("Host: counter.example{cookie}"),
        "",
    );
    assert_eq!(read.0, 200);

    // Those who have no token and take their time hold up none of those who have it.
    let slow = "POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    let strangers: Vec<_> = (0..100)
        .map(|_| {
            let mut stranger = TcpStream::connect(&service.host).unwrap();
            stranger.write_all(slow.as_bytes()).unwrap();
            stranger
        })
        .collect();
    let begin = Instant::now();
    while login("s3cret").0 != 503 {
        assert!(begin.elapsed() < BOUND, "strangers are not sent away");
    }
    for path in ["/api/v1/cameras", "/metrics", "/api/v1/health/live"] {
        assert_eq!(service.ask(path).0, 200, "{path}");
    }
    drop(strangers);
    assert!(service.terminate(), "{}", service.said);
    assert!(!service.said.contains("s3cret"), "{}", service.said);
}

#[test]
fn everything_is_answered_as_it_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = "[cameras.a]\nurl = \"simulated:street\"\nrate = 10\n\
        [sinks.a]\nurl = \"file:counts.jsonl\"\n";
    let mut service = Service::start(folder.path(), configuration);
    service.until("it is counted", |camera| camera("a")["count"].is_number());
    let described: Value = serde_json::from_str(&service.ask("/api/v1/openapi.json").1).unwrap();
    for (path, methods) in described["paths"].as_object().unwrap() {
        if methods["get"].is_null() {
            continue;
        }
        let asked = format!("{}?camera=a", path.replace("{name}", "a"));
        let asked =
            if path.contains("history") { &asked } else { asked.split('?').next().unwrap() };
        let (status, _, body) = service.exchange("GET", asked, "", "");
        assert_eq!(status, 200, "{asked}");
        let schema = &methods["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if schema.is_object() {
            let body: Value = serde_json::from_slice(&body).unwrap();
            matches(&described, schema, &body, path);
        }
    }
    assert!(service.terminate(), "{}", service.said);
}

/// Whether an answer has the keys and types that are described, and no others.
fn matches(described: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = described.pointer(name.trim_start_matches('#')).unwrap();
        return matches(described, schema, value, place);
    }
    if let Some(schemas) = schema["anyOf"].as_array() {
        let fits = if value.is_null() { &schemas[1] } else { &schemas[0] };
        return matches(described, fits, value, place);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        kinds => kinds.as_array().unwrap().iter().filter_map(Value::as_str).collect(),
    };
    let fits = kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    assert!(fits, "{place}: {value} is no {kinds:?}");
    for item in value.as_array().into_iter().flatten() {
        matches(described, &schema["items"], item, place);
    }
    if let (Some(keys), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (key, value) in keys {
            let schema = properties.get(key).unwrap_or_else(|| panic!("{place}: {key}"));
            matches(described, schema, value, &format!("{place} {key}"));
        }
    }
}
