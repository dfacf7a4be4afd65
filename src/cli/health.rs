//! `health`: asks a running proxy how it is, for container health checks. Finds it by the settings it was started with.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use super::args::Health;
use super::{Error, Outcome, Surroundings, print};
use crate::config::{self, Environment};
use crate::secret::Secret;

/// A proxy that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(4);
/// The most that is read of an answer.
const MAX_ANSWER: u64 = 1 << 20;

pub fn run(health: &Health, environment: Environment) -> Outcome {
    let surroundings = Surroundings::new(&health.place, health.flags(), environment)?;
    let server = config::load_without_listening(&surroundings.sources)?.settings.server;
    let path = if health.ready { "/readyz" } else { "/livez" };
    let host = reachable(&server.host);
    let address = format!("{host}:{}", server.port);
    let (status, _) = ask(&address, path, None).map_err(|error| {
        Error::new(format!("no proxy answers on {address}"))
            .because(&error)
            .hint("start it, or name its port with --port")
    })?;
    match status.as_str() {
        "200" => print("ok\n").map(|_| ExitCode::SUCCESS),
        other => Err(Error::new(format!("the proxy on {address} answers {other} to {path}"))),
    }
}

/// Where a listener of this address can be reached from its own machine.
pub fn reachable(host: &str) -> String {
    match host.trim_start_matches('[').trim_end_matches(']') {
        "0.0.0.0" => "127.0.0.1".into(),
        "::" => "[::1]".into(),
        v6 if v6.contains(':') => format!("[{v6}]"),
        other => other.into(),
    }
}

/// The status and the body of one GET, with the proxy's own key where it wants one.
pub fn ask(address: &str, path: &str, key: Option<&Secret>) -> std::io::Result<(String, String)> {
    let bad = |what| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let place = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| bad("its name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&place, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A name that every listener takes, whatever hosts it is told to allow.
    let key = key.map_or(String::new(), |key| format!("x-api-key: {}\r\n", key.expose()));
    let question = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{key}connection: close\r\n\r\n");
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let mut words = head.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(version), Some(status)) if version.starts_with("HTTP/") => Ok((status.to_owned(), body.to_owned())),
        _ => Err(bad("it does not speak HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            stream.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn the_status_is_read() {
        let asked = |answer, path| ask(&answering(answer), path, None).unwrap();
        assert_eq!(
            asked(b"HTTP/1.1 200 OK\r\n\r\nok", "/livez"),
            ("200".into(), "ok".into())
        );
        assert_eq!(asked(b"HTTP/1.1 503 No\r\n\r\n", "/readyz").0, "503");
        assert!(ask(&answering(b"SSH-2.0-x\r\n"), "/livez", None).is_err());
    }

    #[test]
    fn a_listener_on_every_address_is_reached_by_loopback() {
        for (host, reached) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "[::1]"),
            ("::1", "[::1]"),
            ("box", "box"),
        ] {
            assert_eq!(reachable(host), reached);
        }
    }
}
