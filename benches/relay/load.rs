//! The clients: requests over a number of connections, each used again and again, and how long answers took to begin.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::upstream::find;

/// What is sent, how often, and over how many connections at once.
#[derive(Clone)]
pub struct Load {
    pub path: &'static str,
    pub body: String,
    pub connections: usize,
    /// Requests of each connection.
    pub requests: usize,
}

impl Load {
    pub fn total(&self) -> usize {
        self.connections * self.requests
    }

    /// Sends it all; gives the time it took, and the sorted times to the first byte of a body.
    pub async fn run(&self, server: SocketAddr) -> (Duration, Vec<Duration>) {
        let began = Instant::now();
        let clients: Vec<_> = (0..self.connections)
            .map(|_| actix_web::rt::spawn(self.clone().one_client(server)))
            .collect();
        let mut waits = Vec::new();
        for client in clients {
            waits.extend(client.await.expect("a client"));
        }
        waits.sort_unstable();
        (began.elapsed(), waits)
    }

    async fn one_client(self, server: SocketAddr) -> Vec<Duration> {
        let mut socket = TcpStream::connect(server).await.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        let mut waits = Vec::new();
        for _ in 0..self.requests {
            self.send(&mut socket).await;
            waits.push(read_answer(&mut socket).await);
        }
        waits
    }

    pub async fn send(&self, socket: &mut TcpStream) {
        let Self { path, body, .. } = self;
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).await.expect("a request");
    }
}

/// Reads one answer to its end; gives the time until its body began.
async fn read_answer(socket: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let mut read = Vec::with_capacity(16 << 10);
    let head = loop {
        assert_ne!(
            socket.read_buf(&mut read).await.expect("an answer"),
            0,
            "cut in the head"
        );
        if let Some(at) = find(&read, b"\r\n\r\n").filter(|at| read.len() > at + 4) {
            break at + 4;
        }
    };
    let wait = began.elapsed();
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(&read));
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    loop {
        let over = match length {
            Some(length) => read.len() >= head + length,
            None => read.ends_with(b"0\r\n\r\n"),
        };
        if over {
            return wait;
        }
        // Only the end matters, so what lies before it is let go.
        if length.is_none() && read.len() > 1024 {
            read.drain(..read.len() - 8);
        }
        assert_ne!(
            socket.read_buf(&mut read).await.expect("an answer"),
            0,
            "cut in the body"
        );
    }
}
