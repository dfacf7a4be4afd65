//! What does the proxy cost, per request and per event, and what would a plain reverse proxy have cost?
//!
//! `cargo bench --bench relay` starts an upstream that costs next to nothing, the proxy before it and, where it is
//! installed, nginx before it, as processes of their own. The same load goes to both in turn, and what each spent of the
//! processor's time is read from `/proc`, so Linux only. The figures are medians of several rounds after one that is not
//! counted; the figures of one run belong together: quote the ratios.
//!
//! `cargo bench --bench relay -- '1 MB' 'whole answer'` measures the processor's time of those rows alone.

use std::time::Duration;

use copilot_proxy::protocol::Protocol::{self, Chat, Messages, Responses};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use load::Load;
use server::Server;

mod load;
mod server;
#[path = "../transcripts/mod.rs"]
mod transcripts;
mod upstream;

const ROUNDS: usize = 5;

#[actix_web::main]
async fn main() {
    let upstream = upstream::start();
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Server::proxy(upstream, folder.path());
    let nginx = Server::nginx(upstream, folder.path());
    println!("idle: {:.1} MiB\n", proxy.memory());
    costs(&proxy, nginx.as_ref()).await;
    if asked().next().is_some() {
        return;
    }
    println!();
    latencies(&proxy, nginx.as_ref()).await;
    println!();
    open_streams(&proxy, nginx.as_ref()).await;
}

fn path(client: Protocol) -> &'static str {
    match client {
        Chat => "/v1/chat/completions",
        Messages => "/v1/messages",
        Responses => "/v1/responses",
    }
}

fn model(way: Protocol) -> &'static str {
    match way {
        Chat => "gpt-4.1",
        Messages => "claude-sonnet-4.5",
        Responses => "gpt-5.3-codex",
    }
}

fn short(client: Protocol, way: Protocol, text: &str, stream: bool) -> Value {
    let model = model(way);
    match client {
        Responses => json!({"model": model, "stream": stream, "input": text}),
        _ => {
            json!({"model": model, "stream": stream, "max_tokens": 8000, "messages": [{"role": "user", "content": text}]})
        }
    }
}

fn load(client: Protocol, body: &Value, connections: usize, requests: usize) -> Load {
    Load {
        path: path(client),
        body: body.to_string(),
        connections,
        requests,
    }
}

/// The events of an answer.
fn events(way: Protocol) -> usize {
    transcripts::stream(way, upstream::PIECES).len()
}

/// The processor's time by kind of load.
async fn costs(proxy: &Server, nginx: Option<&Server>) {
    println!("| µs of processor time | proxy | nginx | ratio |");
    println!("|---|--:|--:|--:|");
    let hello = short(Chat, Chat, "hello", false);
    cost(
        proxy,
        nginx,
        "a whole answer, per request",
        &load(Chat, &hello, 16, 125),
        1,
    )
    .await;
    for (name, bytes) in [("100 kB", 100_000), ("1 MB", 1_000_000)] {
        let body = transcripts::request(Messages, model(Messages), bytes);
        let name = format!("a request of {name} and its stream");
        cost(proxy, nginx, &name, &load(Messages, &body, 8, 12), 1).await;
    }
    for (pace, connections, requests) in [(5, 100, 1), (0, 8, 50)] {
        for (client, way) in transcripts::ROUTES {
            let body = short(client, way, &format!("pace={pace}"), true);
            let arrival = if pace == 0 { "many at once" } else { "one by one" };
            let name = format!("{} ← {}, {arrival}, per event", client.name(), way.name());
            // nginx can only pass on.
            let nginx = nginx.filter(|_| client == way);
            cost(
                proxy,
                nginx,
                &name,
                &load(client, &body, connections, requests),
                events(way),
            )
            .await;
        }
    }
}

/// The rows that were asked for, by a part of their names.
fn asked() -> impl Iterator<Item = String> {
    std::env::args().skip(1).filter(|argument| !argument.starts_with("--"))
}

async fn cost(proxy: &Server, nginx: Option<&Server>, name: &str, load: &Load, units: usize) {
    if asked().next().is_some() && !asked().any(|part| name.contains(&part)) {
        return;
    }
    let units = (load.total() * units) as f64;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for (server, costs) in [(Some(proxy), &mut ours), (nginx, &mut theirs)] {
            let Some(server) = server else { continue };
            let before = server.cpu();
            load.run(server.address).await;
            // What is left to tidy up belongs to the load.
            tokio::time::sleep(Duration::from_millis(20)).await;
            if round > 0 {
                costs.push((server.cpu() - before) / units);
            }
        }
    }
    match (median(&mut ours), median(&mut theirs)) {
        (Some(ours), Some(theirs)) => println!("| {name} | {ours:.1} | {theirs:.1} | {:.2} |", ours / theirs),
        (Some(ours), None) => println!("| {name} | {ours:.1} | | |"),
        _ => {}
    }
}

fn median(figures: &mut [f64]) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

/// Throughput, and how long a client waits for the first byte.
async fn latencies(proxy: &Server, nginx: Option<&Server>) {
    println!("| first byte of an answer, ms | p50 | p99 | requests/s |");
    println!("|---|--:|--:|--:|");
    let loads = [
        (
            "16 clients, whole answers",
            load(Chat, &short(Chat, Chat, "hello", false), 16, 250),
        ),
        ("100 streams", load(Chat, &short(Chat, Chat, "pace=10", true), 100, 2)),
    ];
    for (name, load) in loads {
        for (server, who) in [(Some(proxy), "proxy"), (nginx, "nginx")] {
            let Some(server) = server else { continue };
            let mut rounds = Vec::new();
            for _ in 0..3 {
                rounds.push(load.run(server.address).await);
            }
            rounds.sort_by_key(|(took, _)| *took);
            let (took, waits) = &rounds[1];
            let wait = |share: usize| waits[(waits.len() - 1) * share / 100].as_secs_f64() * 1e3;
            let rate = load.total() as f64 / took.as_secs_f64();
            println!("| {name}, {who} | {:.2} | {:.2} | {rate:.0} |", wait(50), wait(99));
        }
    }
}

/// Memory and sockets while streams are open, and after their clients have left.
async fn open_streams(proxy: &Server, nginx: Option<&Server>) {
    println!("| streams open at once | MiB | files | a while after, MiB | files |");
    println!("|---|--:|--:|--:|--:|");
    for count in [0, 1000, 3000] {
        for (server, who) in [(Some(proxy), "proxy"), (nginx, "nginx")] {
            let Some(server) = server else { continue };
            let body = short(Messages, Messages, "pace=500", true);
            let load = load(Messages, &body, 1, 1);
            let mut sockets = Vec::new();
            for _ in 0..count {
                let mut socket = TcpStream::connect(server.address).await.expect("a connection");
                load.send(&mut socket).await;
                sockets.push(socket);
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            let (memory, files) = (server.memory(), server.files());
            drop(sockets);
            tokio::time::sleep(Duration::from_secs(5)).await;
            println!(
                "| {count}, {who} | {memory:.1} | {files} | {:.1} | {} |",
                server.memory(),
                server.files()
            );
        }
    }
}
