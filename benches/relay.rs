//! What does the proxy itself cost, per request and per streamed event, beside a Copilot that answers at once?
//!
//! `cargo bench --bench relay` starts the simulator and the proxy as processes of their own, sends the same load to both,
//! and prints what each of them spent of the processor's time. The figures of one run belong together: quote ratios. Linux
//! only, since the processor's time is read from `/proc`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

/// Requests under way at once.
const AT_ONCE: usize = 16;
const REQUESTS: usize = 4000;
const STREAMS: usize = 200;
const EVENTS: usize = 500;

/// A process of the program that is killed with this value.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_copilot-proxy"))
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = output.lines();
        let url = loop {
            let line = lines.next().expect("an address is printed").expect("text");
            if let Some(at) = line.find("http://127.0.0.1:") {
                break line[at..]
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .trim_end_matches('/')
                    .to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    /// Seconds of processor time so far.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = |at: usize| {
            after_name
                .split_whitespace()
                .nth(at)
                .and_then(|text| text.parse::<f64>().ok())
        };
        (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
    }

    /// Mebibytes of memory in use.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
            / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One kind of load.
struct Load {
    name: &'static str,
    path: &'static str,
    body: Value,
    requests: usize,
    /// What a figure is divided by.
    unit: &'static str,
    units: usize,
}

fn loads() -> Vec<Load> {
    let whole = |name, path, body| Load {
        name,
        path,
        body,
        requests: REQUESTS,
        unit: "request",
        units: REQUESTS,
    };
    let streamed = |name, path, body| Load {
        name,
        path,
        body,
        requests: STREAMS,
        unit: "event",
        units: STREAMS * EVENTS,
    };
    let long = format!("[[sim:long chunks={EVENTS}]]");
    let chat = |model: &str, text: &str, stream: bool| json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]});
    let messages = |model: &str| json!({"model": model, "stream": true, "max_tokens": 8000, "messages": [{"role": "user", "content": long}]});
    let responses = |model: &str| json!({"model": model, "stream": true, "input": long});
    vec![
        whole("chat, whole", "/v1/chat/completions", chat("gpt-4.1", "hello", false)),
        streamed("chat, untouched", "/v1/chat/completions", chat("gpt-4.1", &long, true)),
        streamed("messages, untouched", "/v1/messages", messages("claude-sonnet-4.5")),
        streamed("responses, stable ids", "/v1/responses", responses("gpt-5.3-codex")),
        streamed("messages ← chat", "/v1/messages", messages("gpt-4.1")),
        streamed("messages ← responses", "/v1/messages", messages("gpt-5.3-codex")),
        streamed("responses ← messages", "/v1/responses", responses("claude-sonnet-4.5")),
    ]
}

/// Sends the load and waits for all of it; the seconds it took.
async fn send(url: &str, load: &Load) -> f64 {
    let client = awc::Client::builder()
        .connector(awc::Connector::new().limit(0))
        .disable_timeout()
        .no_default_headers()
        .finish();
    let began = Instant::now();
    let requests = (0..load.requests).map(|_| {
        let request = client.post(format!("{url}{}", load.path)).send_json(&load.body);
        async move {
            let mut answer = request.await.expect("an answer");
            assert!(answer.status().is_success(), "{}: {:?}", load.name, answer.body().await);
            while let Some(piece) = answer.next().await {
                piece.expect("a whole answer");
            }
        }
    });
    stream::iter(requests)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    began.elapsed().as_secs_f64()
}

#[actix_web::main]
async fn main() {
    let simulator = Process::start(&["simulator", "--port", "0"], &[]);
    let data = tempfile::tempdir().expect("a folder");
    let proxy = Process::start(
        &[
            "start",
            "--port",
            "0",
            "--github-token",
            copilot_proxy::simulator::DEMO_GITHUB_TOKEN,
        ],
        &[
            ("COPILOT_PROXY_DATA_DIR", data.path().to_str().expect("a path in text")),
            ("COPILOT_PROXY_UPSTREAM__GITHUB_URL", &simulator.url),
            ("COPILOT_PROXY_UPSTREAM__GITHUB_API_URL", &simulator.url),
            ("COPILOT_PROXY_UPSTREAM__COPILOT_URL", &simulator.url),
        ],
    );
    println!("| load | proxy, µs of CPU | simulator, µs of CPU | wall, s |");
    println!("|---|---|---|---|");
    for load in loads() {
        send(
            &proxy.url,
            &Load {
                requests: AT_ONCE * 2,
                body: load.body.clone(),
                ..load
            },
        )
        .await;
        let (proxy_before, simulator_before) = (proxy.cpu(), simulator.cpu());
        let wall = send(&proxy.url, &load).await;
        // The kernel accounts in ticks of 10 ms.
        actix_web::rt::time::sleep(Duration::from_millis(50)).await;
        let per_unit = |seconds: f64| seconds * 1e6 / load.units as f64;
        println!(
            "| {}, per {} | {:.1} | {:.1} | {wall:.2} |",
            load.name,
            load.unit,
            per_unit(proxy.cpu() - proxy_before),
            per_unit(simulator.cpu() - simulator_before),
        );
    }
    println!("\nmemory of the proxy after all of it: {:.1} MiB", proxy.memory());
}
