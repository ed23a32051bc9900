//! Who reaches the service: by TLS, and how often.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use vehiclecount_tests::BOUND;
use vehiclecount_tests::certificates::self_signed;
use vehiclecount_tests::service::{Service, exchange};
use vehiclecount_tests::web::ask_securely;

const TOKEN: &str = "0123456789abcdef";

/// Puts a certificate and its key where the service looks for them.
fn put(folder: &Path, pem: &Path) {
    for name in ["server.pem", "server.key"] {
        let new = folder.join("new");
        fs::copy(pem, &new).unwrap();
        fs::rename(new, folder.join(name)).unwrap();
    }
}

#[test]
fn page_is_reached_by_tls_alone_and_shows_a_certificate_that_was_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "renewed"].map(|name| folder.path().join(name).with_extension("pem"));
    self_signed(&old);
    self_signed(&new);
    put(folder.path(), &old);
    let set = format!("token = {TOKEN:?}\ncertificate = \"server.pem\"\nkey = \"server.key\"\n");
    let mut service = Service::start_with_http(folder.path(), TOKEN, &set, "");
    assert!(service.said.contains("https://127.0.0.1:"), "{}", service.said);
    let port = service.host.rsplit_once(':').unwrap().1.parse().unwrap();
    let login = format!("Authorization: Bearer {TOKEN}\r\n");
    let asked = |pem: &Path| ask_securely(port, pem, "/api/v1/cameras", &login);
    let mut all = asked(&old).unwrap();
    assert!(all.starts_with("HTTP/1.1 200 "), "{all}");
    assert!(ask_securely(port, &old, "/api/v1/cameras", "").unwrap().starts_with("HTTP/1.1 401 "));
    assert!(ask_securely(port, &old, "/", "").unwrap().contains("<title>"));
    assert!(asked(&new).is_err(), "that one is not shown yet");

    // Without TLS there is health alone, and no token is taken.
    let (status, body) = service.ask("/api/v1/cameras");
    assert!(status == 400 && body.contains("https://"), "{status} {body}");
    assert_eq!(service.ask("/").0, 400);
    assert_eq!(service.ask("/api/v1/health/live").0, 200);
    all += &body;

    let until = |what: &str, done: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < BOUND, "{what}");
            thread::yield_now();
        }
    };
    put(folder.path(), &new);
    until("the renewed certificate is shown", &|| asked(&new).is_ok());
    assert!(asked(&old).is_err());
    service.until_said("the certificate is read");
    fs::write(folder.path().join("server.key"), "-----BEGIN PRIVATE KEY-----\nbm8=\n").unwrap();
    service.until_said("the certificate is not taken: [http] key: there is none in PEM form");
    all += &asked(&new).unwrap();
    assert!(service.terminate(), "{}", service.said);
    all += &service.said;
    let secret = fs::read_to_string(&new).unwrap();
    let secret = secret.lines().nth(3).unwrap();
    assert!(!all.contains(secret) && !all.contains(TOKEN), "{all}");
}

#[test]
fn client_that_asks_too_often_is_sent_away_and_health_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_with_http(folder.path(), "", "rate-limit = 1\n", "");
    let host = service.host.clone();
    let ask = |path: &str| {
        let (status, head, body) = exchange(&host, "GET", path, &format!("Host: {host}"), "");
        (status, format!("{head}\r\n\r\n{}", String::from_utf8(body).unwrap()))
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let asked = (0..32).map(|_| scope.spawn(|| ask("/api/v1/cameras")));
        let threads: Vec<_> = asked.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.iter().any(|(status, _)| *status == 200), "{answers:?}");
    let (_, refused) = answers.iter().find(|(status, _)| *status == 429).expect("some are refused");
    let wait = refused.to_ascii_lowercase().split_once("retry-after: ").unwrap().1.to_owned();
    let wait: u64 = wait.lines().next().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{refused}");
    assert!(refused.contains("too many requests"), "{refused}");
    assert!(refused.contains("nosniff"), "it has the headers of every answer: {refused}");
    for path in ["/api/v1/health/live", "/api/v1/health/startup", "/metrics"] {
        assert_eq!(ask(path).0, 200, "{path}");
    }
    // Who waits as long as it was told is let in, if nobody else asks.
    let begin = Instant::now();
    while ask("/api/v1/cameras").0 != 200 {
        assert!(begin.elapsed() < BOUND, "it is never let in again");
        thread::sleep(Duration::from_secs(wait));
    }
}
