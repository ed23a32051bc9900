//! Tests of the configuration: what is taken, what is refused, and where.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::table::Preset;
use super::*;

/// The problems of `text`, as they are told.
fn problems(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    match parse(text, &folder.path().join("counter.toml")) {
        Ok(service) => panic!("nothing is wrong with {text}: {service:?}"),
        Err(problems) => {
            let folder = format!("{}/", folder.path().display());
            problems.iter().map(|problem| format!("{problem}\n").replace(&folder, "")).collect()
        }
    }
}

fn service(text: &str) -> Service {
    parse(text, Path::new("counter.toml"))
        .unwrap_or_else(|problems| panic!("{text}: {}", problems[0]))
}

const NORTH: &str = "[cameras.north]\nurl = \"rtsp://10.0.0.5/stream1\"\n";

#[test]
fn one_camera_with_its_url_is_enough() {
    let service = service(NORTH);
    assert_eq!(service.http.listen.to_string(), "127.0.0.1:8080");
    let [camera] = &service.cameras[..] else { panic!("{:?}", service.cameras) };
    assert_eq!(camera.name, "north");
    assert_eq!(camera.place, Place::Rtsp("rtsp://10.0.0.5/stream1".parse().unwrap()));
    assert_eq!((camera.rate, camera.scale, camera.smoothing), (1.0, 1.0, Duration::from_secs(1)));
    assert!(!camera.skip_unchanged);
    let place = HistoryPlace::File("counter.db".into());
    assert_eq!(service.history, Some(History { place, keep_days: 400 }));
    assert_eq!(camera.regions, Default::default());
}

#[test]
fn preset_leaves_open_what_the_file_does_not_set() {
    let counter = |text: &str| service(&format!("{NORTH}[counter]\n{text}")).counter;
    let plain = counter("");
    assert_eq!((plain.model.as_deref(), plain.input_size.as_deref()), (Some(""), Some("auto")));
    let chosen = counter("preset = \"server\"\ninput-size = \"auto\"\n");
    assert_eq!(chosen.preset, Preset::Server);
    // What is set stays, also where it is the default.
    assert_eq!(chosen.input_size.as_deref(), Some("auto"));
    assert_eq!((chosen.model, chosen.precision), (None, None));
    let told = problems(&format!("{NORTH}[counter]\npreset = \"servr\"\n"));
    assert!(told.contains("unknown value servr; did you mean server?"), "{told}");
}

#[test]
fn the_reference_says_what_the_defaults_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = root.join("docs/counter.toml");
    let reference = read(&path).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let least = format!("{NORTH}[sinks.archive]\nurl = \"file:counts.jsonl\"\n");
    let mut least = parse(&least, &path).unwrap();
    // Only what the reference is there to show differs.
    least.cameras[0].regions = reference.cameras[0].regions.clone();
    assert_eq!(reference, least);

    let text = fs::read_to_string(&path).unwrap();
    let schema = schema();
    let mut keys = 0;
    for table in schema["$defs"].as_object().unwrap().values().chain([&schema]) {
        for key in table["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let is_there =
                [format!("{key} = "), format!("[{key}]"), format!("[{key}."), format!(".{key}]")];
            assert!(is_there.iter().any(|form| text.contains(form)), "the reference lacks {key}");
            keys += 1;
        }
    }
    assert!(keys > 20, "the keys were not found: {keys}");
}

#[test]
fn a_camera_overrides_the_defaults_and_the_defaults_the_rest() {
    let service = service(
        "[defaults]\nrate = 5\nsmoothing = 0\nskip-unchanged = true\nlevels = { moderate = 2 }\nuser = \"viewer\"\npassword = \"pw\"\n\
         regions = [{ name = \"all\", polygon = [[0, 0], [1, 0], [1, 1]] }]\n\
         [cameras.a]\nurl = \"rtsp://a/\"\n\
         [cameras.b]\nurl = \"rtsp://me:mine@b/\"\nrate = 0.5\nregions = []\nskip-unchanged = false\nlevels = { jammed = 50 }\n\
         [cameras.c]\nurl = \"rtsp://c/\"\npassword = \"other\"\ntransport = \"udp\"\n",
    );
    let [a, b, c] = &service.cameras[..] else { panic!("{:?}", service.cameras) };
    let login = |camera: &Camera| match &camera.place {
        Place::Rtsp(address) => {
            address.credentials().map(|(user, password)| format!("{user} {password}"))
        }
        _ => None,
    };
    assert_eq!((a.rate, b.rate, c.rate), (5.0, 0.5, 5.0));
    assert_eq!(
        (login(a).unwrap(), login(b).unwrap(), login(c).unwrap()),
        ("viewer pw".into(), "me mine".into(), "viewer other".into())
    );
    assert_eq!((a.transport, c.transport), (Transport::Tcp, Transport::Udp));
    assert_eq!((a.regions.regions.len(), b.regions.regions.len()), (1, 0));
    assert_eq!(
        (a.regions.levels.moderate, b.regions.levels.moderate, b.regions.levels.jammed),
        (2.0, 5.0, 50.0)
    );
    assert!(a.smoothing.is_zero());
    assert_eq!([a, b, c].map(|camera| camera.skip_unchanged), [true, false, true]);
}

#[test]
fn secrets_come_from_the_environment_and_from_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("password"), "p@ss w/rd\n").unwrap();
    // What cargo sets for its tests.
    let text = "[cameras.a]\nurl = \"rtsp://a/\"\nuser = { env = \"CARGO_PKG_NAME\" }\npassword = { file = \"password\" }\n";
    let service = parse(text, &folder.path().join("counter.toml")).unwrap();
    let Place::Rtsp(address) = &service.cameras[0].place else { panic!("{service:?}") };
    assert_eq!(address.credentials(), Some(("vehicle-count", "p@ss w/rd")));
    assert!(!format!("{service:?}").contains("p@ss"));
    for (secret, said) in [
        ("{ env = \"NO_SUCH_VARIABLE\" }", "the environment variable NO_SUCH_VARIABLE is not set"),
        ("{ file = \"nothing\" }", "nothing: No such file"),
        ("{ envv = \"A\" }", "unknown key envv; did you mean env?"),
        (
            "{ env = \"A\", file = \"b\" }",
            "a table with one key, expected a text in quotes, { env = ",
        ),
        ("{}", "a table with one key"),
        ("\"\"", "it is empty"),
    ] {
        let said_really = problems(&format!("{NORTH}user = \"me\"\npassword = {secret}\n"));
        assert!(said_really.contains(said), "{secret}: {said_really}");
    }
}

#[test]
fn a_wrong_key_is_shown_with_its_line_a_caret_and_what_was_meant() {
    assert_eq!(
        problems("[cameras.north]\nulr = \"rtsp://10.0.0.5/\"\n"),
        "counter.toml:2:1: unknown key ulr; did you mean url?\n  |\n2 | ulr = ***\n  | ^^^\n"
    );
    assert_eq!(
        problems(&format!("{NORTH}\n[counter]\nengine = \"tensort\"\n")),
        "counter.toml:5:10: unknown value tensort; did you mean tensorrt?\n  |\n5 | engine = \"tensort\"\n  |          ^^^^^^^^^\n"
    );
    assert_eq!(
        problems(&format!("{NORTH}rate = 0 # a second\n")),
        "counter.toml:3:8: cameras.north.rate: 0 is not from 0.01 to 60\n  |\n3 | rate = 0 ***\n  |        ^\n"
    );
    for (text, said) in [
        ("[camera.north]\nurl = \"rtsp://a\"\n", "1:2: unknown key camera; did you mean cameras?"),
        (
            "[cameras.north]\nregions_file = \"a\"\n",
            "unknown key regions_file; did you mean regions-file?",
        ),
        ("[cameras.north]\nusername = \"a\"\n", "unknown key username; did you mean user?"),
        ("[cameras.north]\nxyz = 1\n", "unknown key xyz; here it is one of url, user, password, "),
        ("[cameras.north]\nrate = \"often\"\n", "2:8: string where a number is expected"),
        ("[cameras.north]\nrate = 1\nrate = 2\n", "3:1: duplicate key"),
        (
            "[cameras]\nnorth = \"rtsp://a\"\n",
            "2:9: string where a table of a camera's keys is expected",
        ),
        ("[http]\nlisten = \"8080\"\n", "http.listen: it is not an IP address and a port"),
        ("[history]\nkeep-days = 0\n", "2:13: history.keep-days: 0 is not from 1 to 36500"),
        ("[history]\nkeep-days = -1\n", "integer where a whole number is expected"),
        ("[cameras.north]\n", "1:10: cameras.north: the camera has no url"),
        ("[http]\nlisten = \"0.0.0.0:8080\"\n", "2:10: http.listen: all who reach this address"),
        ("[http]\nrate-limit = 0\n", "2:14: http.rate-limit: 0 is not from 1 to 100000"),
        ("[http]\ncertificate = \"a.pem\"\n", "http.certificate: certificate needs key too"),
        ("[http]\nkey = \"a.pem\"\n", "http.key: key needs certificate too"),
        (
            "[http]\ncertificate = \"a.pem\"\nkey = \"b.pem\"\n",
            "2:15: http.certificate: a.pem: No such file",
        ),
        ("[http]\ntoken = \"short\"\n", "http.token: a token has 16 to 256 letters"),
        ("[http]\ntoken = \"a token with blanks\"\n", "http.token: a token has 16 to 256 letters"),
        ("[defaults]\nurl = \"rtsp://a\"\n", "defaults.url: every camera has a url of its own"),
        ("[cameras.\"a/b\"]\nurl = \"rtsp://a\"\n", "a camera's name has 1 to 64 letters"),
        ("[cameras.north]\nurl = \"simulated:moon\"\n", "after simulated: comes highway, junction"),
        (
            "[cameras.north]\nurl = \"10.0.0.5\"\n",
            "a url begins with rtsp://, rtsps://, http://, https://, file:, v4l2: or simulated:",
        ),
        (
            "[cameras.north]\nurl = \"rtsp://a:b/c@d\"\n",
            "/ ? # in a user name or password are written %2F %3F %23",
        ),
    ] {
        let problems = problems(text);
        assert!(problems.contains(said), "{problems} lacks {said}");
    }
}

#[test]
fn wrong_values_are_told_all_at_once_and_a_default_but_once() {
    let problems = problems(
        "[defaults]\nscale = -1\n[cameras.a]\nurl = \"rtsp://a\"\nrate = 99\n[cameras.b]\nurl = \"ftp://b\"\npassword = \"p\"\n",
    );
    let told: Vec<_> = problems.lines().filter(|line| line.starts_with("counter.toml")).collect();
    assert_eq!(told.len(), 3, "{problems}");
    assert!(told[0].starts_with("counter.toml:5:8: cameras.a.rate"), "{problems}");
    assert!(told[1].starts_with("counter.toml:2:9: defaults.scale"), "{problems}");
    assert!(told[2].starts_with("counter.toml:7:7: cameras.b.url"), "{problems}");
}

#[test]
fn regions_stand_in_the_configuration_or_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let json = r#"{"regions": [], "cameras": {"north": {"levels": {"moderate": 1, "dense": 2, "jammed": 3},
        "regions": [{"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1]]}]}}}"#;
    fs::write(folder.path().join("regions.json"), json).unwrap();
    let path = folder.path().join("counter.toml");
    let service = parse(&format!("{NORTH}regions-file = \"regions.json\"\n"), &path).unwrap();
    assert_eq!(
        (
            service.cameras[0].regions.regions[0].name.as_str(),
            service.cameras[0].regions.levels.dense
        ),
        ("left", 2.0)
    );
    let inline = "regions = [{ name = \"left\", polygon = [[0, 0], [0.5, 0], [0.5, 1]], levels = { moderate = 3 } }]\n";
    let service = parse(&format!("{NORTH}{inline}"), &path).unwrap();
    assert_eq!(service.cameras[0].regions.regions[0].levels.moderate, 3.0);
    for (text, said) in [
        (
            format!("{inline}regions-file = \"regions.json\"\n"),
            "regions-file: regions stand here or in a file",
        ),
        (inline.replace("0.5", "5"), "corner [5, 0] lies outside the frame"),
        (inline.replace("\"left\"", "\"\""), "it has no name"),
        (inline.replace(", [0.5, 1]", ""), "2 corners"),
        (inline.replace("= 3", "= 30"), "levels 30, 15, 30"),
        ("levels = { dense = 1 }\n".to_owned(), "north.levels: the whole frame: levels 5, 1, 30"),
        ("regions-file = \"none.json\"\n".to_owned(), "none.json: No such file"),
    ] {
        let problems = problems(&format!("{NORTH}{text}"));
        assert!(problems.contains(said), "{problems} lacks {said}");
    }
}

#[test]
fn cameras_have_scales_and_regions_have_closer_looks() {
    use vehiclecount_core::region::Detail;

    let folder = tempfile::tempdir().unwrap();
    let json = r#"{"input-scale": "small", "scale-factor": 1.5}"#;
    fs::write(folder.path().join("regions.json"), json).unwrap();
    let path = folder.path().join("counter.toml");
    let of = |text: &str| parse(&format!("{NORTH}{text}"), &path).unwrap().cameras[0].clone();
    let region =
        "regions = [{ name = \"far\", polygon = [[0, 0], [1, 0], [1, 1]], detail = true }]\n";
    for (value, detail) in [
        ("true", Detail::On),
        ("false", Detail::Off),
        ("2", Detail::Times(2.0)),
        ("2.5", Detail::Times(2.5)),
    ] {
        let camera = of(&region.replace("true", value));
        assert_eq!(camera.regions.regions[0].detail, detail);
    }
    for (value, scale) in [("\"large\"", "large"), ("512", "large"), ("\"normal\"", "normal")] {
        let camera = of(&format!("input-scale = {value}\n"));
        assert_eq!(camera.regions.input_scale.to_string(), scale);
    }
    // The regions file says both, and the configuration goes before it.
    let file = "regions-file = \"regions.json\"\n";
    let camera = of(file);
    assert_eq!(camera.regions.input_scale.to_string(), "small");
    assert_eq!(camera.regions.scale_factor, Some(1.5));
    let camera = of(&format!("{file}input-scale = \"large\"\n"));
    assert_eq!(camera.regions.input_scale.to_string(), "large");
    for (text, said) in [
        (region.replace("true", "9"), "region \"far\": detail is 9"),
        (region.replace("true", "1"), "detail is 1; give true, false, or a number"),
        (region.replace("true", "\"much\""), "true, false or a number above 1"),
        ("input-scale = \"huge\"\n".to_owned(), "input-scale is huge; write small"),
        ("input-scale = 513\n".to_owned(), "513"),
    ] {
        let problems = problems(&format!("{NORTH}{text}"));
        assert!(problems.contains(said), "{problems} lacks {said}");
    }
}

#[test]
fn sinks_are_files_brokers_and_http_servers() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("password"), "p@ss w/rd\n").unwrap();
    let text = format!(
        "{NORTH}[sinks.archive]\nurl = \"file:counts.jsonl\"\nmax-file-size = 1000\nmax-files = 3\n\
         [sinks.broker]\nurl = \"mqtts://broker.example/site/a\"\nuser = \"me\"\n\
         password = {{ file = \"password\" }}\nrecords = [\"count\"]\nhome-assistant = \"ha\"\n\
         [sinks.hook]\nurl = \"https://hooks.example:8443/a/key\"\nsecret = \"s3cret\"\nwindows = [900]\n"
    );
    let service = parse(&text, &folder.path().join("counter.toml")).unwrap();
    let [archive, broker, hook] = &service.sinks[..] else { panic!("{service:?}") };
    assert_eq!(service.outbox, folder.path().join("outbox.db"));
    let SinkPlace::File(path, rotation) = &archive.place else { panic!("{archive:?}") };
    assert_eq!(path, &folder.path().join("counts.jsonl"));
    assert_eq!((rotation.max_size, rotation.max_files), (1000, 3));
    assert_eq!(archive.records, [RecordKind::Window, RecordKind::Event]);
    assert_eq!((archive.keep.as_secs(), archive.keep_bytes), (7 * 86_400, 64_000_000));
    let SinkPlace::Mqtt { address, home_assistant, .. } = &broker.place else { panic!() };
    assert_eq!(address.broker(), ("broker.example", 8883));
    assert_eq!((address.login(), address.topic()), (Some(("me", "p@ss w/rd")), "site/a"));
    assert_eq!(home_assistant.as_deref(), Some("ha"));
    let SinkPlace::Webhook(webhook) = &hook.place else { panic!("{hook:?}") };
    assert_eq!(webhook.secret.as_deref(), Some("s3cret"));
    assert_eq!(
        (hook.place.to_string().as_str(), &hook.windows[..]),
        ("https://hooks.example:8443/***", &[900][..])
    );
    let shown = format!("{service:?}");
    assert!(!shown.contains("p@ss") && !shown.contains("s3cret") && !shown.contains("a/key"));
}

#[test]
fn wrong_sinks_are_told_with_the_key_that_is_wrong() {
    for (sink, said) in [
        ("", "sinks.a: the sink has no url"),
        ("url = \"ftp://host/\"", "sinks.a.url: a sink's url begins with file:, mqtt://"),
        ("type = \"file\"", "unknown key type; here it is one of url, user, password, "),
        ("url = \"file:\"", "is no file"),
        ("url = \"file:a\"\nuser = \"b\"", "sinks.a.user: it says nothing about a file"),
        ("url = \"file:a\"\nmax-files = 2", "sinks.a.max-files: files are counted where"),
        ("url = \"file:a\"\nrecords = []", "sinks.a.records: nothing is sent"),
        (
            "url = \"file:a\"\nrecords = [\"windows\"]",
            "unknown value windows; did you mean window?",
        ),
        ("url = \"file:a\"\nwindows = [60, 61]", "sinks.a.windows: 61 is not 10, 60, 900 or 3600"),
        ("url = \"file:a\"\nkeep-days = 0", "sinks.a.keep-days: 0 is not from 0.001 to 36500"),
        ("url = \"file:a\"\nkeep-megabytes = nan", "sinks.a.keep-megabytes: NaN is not from"),
        ("url = \"mqtt://host\"", "sinks.a.url: the topic is empty"),
        ("url = \"mqtt://h/t\"\nsecret = \"b\"", "sinks.a.secret: it says nothing about a broker"),
        ("url = \"mqtt://h/t\"\nca-file = \"b\"", "sinks.a.ca-file: certificates are for mqtts://"),
        ("url = \"mqtts://h/t\"\nca-file = \"none.pem\"", "none.pem: No such file"),
        ("url = \"mqtt://u:v@h/t\"\nuser = \"b\"", "sinks.a.user: the url has a user name"),
        ("url = \"mqtt://h/t\"\npassword = \"b\"", "sinks.a.password: a password needs a user"),
        ("url = \"mqtt://h/t\"\nhome-assistant = \"#\"", "sinks.a.home-assistant: it is no topic"),
        (
            "url = \"mqtt://h/t\"\nmax-file-size = 2",
            "max-file-size: it says nothing about a broker",
        ),
        ("url = \"http://u:v@h/t\"", "sinks.a.url: the form is https://HOST:PORT/PATH"),
        ("url = \"kafka://host\"", "sinks.a.url: a topic has 1 to 249 of a-z"),
        ("url = \"kafka://h/t\"\nsecret = \"b\"", "secret: it says nothing about a Kafka cluster"),
        ("url = \"kafka://h/t\"\nmax-files = 2", "it says nothing about a Kafka cluster"),
        (
            "url = \"kafka://h/t\"\nca-file = \"b\"",
            "sinks.a.ca-file: certificates are for kafkas://",
        ),
        ("url = \"kafkas://h/t\"\nca-file = \"none.pem\"", "none.pem: No such file"),
        ("url = \"kafka://u:v@h/t\"\nuser = \"b\"", "sinks.a.user: the url has a user name"),
        ("url = \"http://\"", "sinks.a.url: the form is https://HOST:PORT/PATH"),
        ("url = \"http://h/\"\nhome-assistant = \"b\"", "it says nothing about a webhook"),
    ] {
        let problems = problems(&format!("{NORTH}[sinks.a]\n{sink}\n"));
        assert!(problems.contains(said), "{problems} lacks {said}");
    }
    let problems = problems(&format!("{NORTH}[sinks.\"a/b\"]\nurl = \"file:a\"\n"));
    assert!(problems.contains("a sink's name has 1 to 64 letters"), "{problems}");
}

#[test]
fn history_is_a_file_or_a_database() {
    let history = |text: &str| service(&format!("[history]\n{text}\n")).history;
    assert_eq!(history("file = \"\""), None);
    let found = history("url = \"postgresql://me:s3cret@db/traffic\"").unwrap();
    let HistoryPlace::Postgres(database) = &found.place else { panic!("{found:?}") };
    assert_eq!(database.to_string(), "postgresql://***@db:5432/traffic");
    for (text, said) in [
        ("url = \"mysql://h/a\"", "history.url: the form is postgresql://"),
        ("ca-file = \"ca.pem\"", "history.ca-file: certificates are for a url"),
        ("url = \"postgres://me@h\"\nca-file = \"none.pem\"", "none.pem: No such file"),
        ("url = \"postgres://me@h\"\n[outbox]\nfile = \"\"", "need a file for what waits"),
        (
            "url = \"postgres://me@h\"\n[sinks.history]\nurl = \"file:a\"",
            "sinks.history: with [history] url, the sink of this name is that of the history",
        ),
    ] {
        let problems = problems(&format!("[history]\n{text}\n"));
        assert!(problems.contains(said), "{problems} lacks {said}");
    }
}

/// Whatever is wrong, and wherever: no error shows what may be a secret.
#[test]
fn no_problem_tells_a_secret() {
    for line in [
        "pasword = \"s3cret\"",
        "password = s3cret",
        "password = \"s3cret",
        "password = 's3cret' 'x'",
        "password = \"a\\qs3cret\"",
        "password = \"\"\"\ns3cret \\q\n\"\"\"",
        "password = [\"s3cret\"]",
        "password = { env = \"A\", value = \"s3cret\" }",
        "password = { text = \"s3cret\" }",
        "password = 5.3e3 s3cret",
        "password: s3cret",
        "password s3cret",
        "rate = 0 # s3cret",
        "nam = { password = \"s3cret\" }",
        "login = [\"me\", \"s3cret\"]",
        "url = \"rtsp://me:s3cret@north/\"",
        "url = \"http://me:s3cret@north/\"",
        "url = \"rtsp://me:s3cret@north:port/\"",
        "url = \"rtsp://me:s3cret/@north/\"",
        "user = \"me\"\npassword = \"s3cret\"\nrate = 100\n",
        "password = \"s3cret\"",
        "\"ürl\" = \"rtsp://me:s3cret@ü/\"",
        "url = \"mqtt://me:s3cret@host\"",
        "url = \"https://host/s3cret\"\nsecret = \"s3cret\"\nkeep-days = -1",
        "url = \"https://host/s3cret with a space\"",
    ] {
        for text in [
            format!("{NORTH}{line}\n"),
            format!("[cameras.north]\n{line}\n"),
            format!("[cameras]\nnorth = {{ {line} }}\n"),
            format!("{line}\n"),
            format!("[cameras]\n{line}\n"),
            format!("[sinks.a]\n{line}\n"),
        ] {
            if let Err(problems) = parse(&text, Path::new("counter.toml")) {
                let said: String =
                    problems.iter().map(|problem| format!("{problem}{problem:?}")).collect();
                assert!(!said.contains("s3cret"), "{text}{said}");
            }
        }
    }
    for value in ["12345678", "1234.5678", "true", "1979-05-27", "0x12345678"] {
        let said = problems(&format!("{NORTH}password = {value}\n"));
        assert!(!said.contains(value) && !said.contains("1234"), "{said}");
    }
}

#[test]
fn what_is_not_there_yet_is_told_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counter.toml");
    let text = "[cameras.north]\nurl = \"file:none.mp4\"\n[sinks.a]\nurl = \"file:no/such/a\"\n";
    std::fs::write(&path, text).unwrap();
    let service = read(&path).unwrap();
    let absent: Vec<_> = absent(&service, &path).iter().map(ToString::to_string).collect();
    assert!(absent[0].contains("2:7: cameras.north.url: there is no file "), "{absent:?}");
    assert!(absent[1].contains("4:7: sinks.a.url: there is no folder "), "{absent:?}");
    std::fs::create_dir_all(folder.path().join("no/such")).unwrap();
    std::fs::write(folder.path().join("none.mp4"), "").unwrap();
    assert!(super::absent(&service, &path).is_empty());
}
