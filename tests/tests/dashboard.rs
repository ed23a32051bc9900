//! What the service tells Prometheus, asked by a real Prometheus with the queries of the dashboard.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vehiclecount_tests::service::Service;
use vehiclecount_tests::{BOUND, free_port};

const TOKEN: &str = "token-for-prometheus";

/// Prometheus at work. It is killed when this is dropped.
struct Prometheus {
    process: Child,
    host: String,
}

impl Prometheus {
    /// Starts one that scrapes `target`, or says that there is none here. Where
    /// `VEHICLECOUNT_REQUIRE_PROMETHEUS` is set, there must be one.
    fn start(folder: &Path, target: &str) -> Option<Self> {
        let configuration = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n- job_name: vehiclecount\n  \
             authorization: {{ credentials: {TOKEN} }}\n  static_configs: [ {{ targets: [ \"{target}\" ] }} ]\n"
        );
        fs::write(folder.join("prometheus.yml"), configuration).unwrap();
        let port = free_port();
        let host = format!("127.0.0.1:{port}");
        let started = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={host}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(process) => Some(Self { process, host }),
            Err(error) => {
                let required = std::env::var_os("VEHICLECOUNT_REQUIRE_PROMETHEUS").is_some();
                assert!(!required, "prometheus does not start: {error}");
                eprintln!("SKIPPED: prometheus does not start: {error}");
                None
            }
        }
    }

    /// The answer to a query: an error, or how many series it gives.
    fn ask(&self, query: &str) -> Result<usize, String> {
        use std::io::Write;
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = TcpStream::connect(&self.host).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let head =
            format!("GET /api/v1/query?query={query} HTTP/1.0\r\nHost: {}\r\n\r\n", self.host);
        stream.write_all(head.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").ok_or("no HTTP")?.1;
        let body: Value = serde_json::from_str(body).map_err(|_| body.to_owned())?;
        match body["data"]["result"].as_array() {
            Some(series) => Ok(series.len()),
            None => Err(body.to_string()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The queries of a dashboard, as Grafana asks them.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap();
            query.replace("$camera", ".*").replace("$__rate_interval", "1m")
        })
        .collect()
}

#[test]
fn every_query_of_the_dashboard_has_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[cameras.a]\nurl = \"simulated:street\"\nrate = 10\n\
                regions = [{ name = \"left\", polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]] }]\n\
                [sinks.archive]\nurl = \"file:counts.jsonl\"\n[cameras.\"b\\\"c\"]\nurl = \"rtsp://127.0.0.1:9/\"\n";
    let mut service = Service::start_with_token(folder.path(), TOKEN, text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/grafana/vehiclecount.json");
    let dashboard: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 15, "{queries:?}");

    // All metrics are shown, and none that does not exist.
    service.until("it is counted", |camera| {
        camera("a")["count"].is_number() && camera("b\"c")["reason"].is_string()
    });
    let metrics = service.ask("/metrics").1;
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(queries.iter().any(|query| query.contains(name)), "no panel shows {name}");
    }
    let Some(prometheus) = Prometheus::start(folder.path(), &service.host) else { return };
    let begin = Instant::now();
    for query in &queries {
        // Rates need two scrapes.
        loop {
            let asked = prometheus.ask(query);
            if asked.as_ref().is_ok_and(|series| *series > 0) {
                break;
            }
            let refused = asked.as_ref().err().filter(|error| error.contains("bad_data"));
            assert!(refused.is_none() && begin.elapsed() < BOUND, "{query}: {asked:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    assert!(service.terminate(), "{}", service.said);
}
