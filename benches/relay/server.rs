//! The programs measured: started as processes of their own, and what they used of processor and memory.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that listens. It ends with this value.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// The proxy before this upstream, which plays GitHub, too.
    pub fn proxy(upstream: SocketAddr, data: &Path) -> Self {
        let upstream = format!("http://{upstream}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_copilot-proxy"))
            .args(["start", "--port", "0", "--github-token", "gho_bench"])
            .env("COPILOT_PROXY_DATA_DIR", data)
            .env("COPILOT_PROXY_UPSTREAM__GITHUB_URL", &upstream)
            .env("COPILOT_PROXY_UPSTREAM__GITHUB_API_URL", &upstream)
            .env("COPILOT_PROXY_UPSTREAM__COPILOT_URL", &upstream)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let address = loop {
            let line = lines.next().expect("an address is printed").expect("text");
            if let Some((_, after)) = line.split_once("http://") {
                let address = after.split(['/', ' ']).next().unwrap_or_default();
                break address.parse().expect("an address");
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// nginx as a plain reverse proxy without buffering or log; `None` where it is not installed.
    pub fn nginx(upstream: SocketAddr, folder: &Path) -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a port");
        let shown = folder.display();
        let config = format!(
            "daemon off; worker_processes auto; pid {shown}/pid; error_log /dev/null; worker_rlimit_nofile 20000;
             events {{ worker_connections 8192; }}
             http {{
                 access_log off; client_max_body_size 32m; proxy_temp_path {shown}; client_body_temp_path {shown};
                 upstream copilot {{ server {upstream}; keepalive 64; }}
                 server {{
                     listen {address};
                     location / {{
                         proxy_pass http://copilot; proxy_http_version 1.1; proxy_set_header Connection '';
                         proxy_buffering off; proxy_request_buffering off;
                     }}
                 }}
             }}"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config).expect("a file");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Self { child, address };
        let listens = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            TcpStream::connect(address).is_ok()
        });
        listens.then_some(server)
    }

    /// The process and its children.
    fn family(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        std::iter::once(own).chain(children).collect()
    }

    /// Microseconds of processor time so far.
    pub fn cpu(&self) -> f64 {
        let threads = self.family().into_iter().flat_map(|process| {
            let threads = std::fs::read_dir(format!("/proc/{process}/task"));
            threads.into_iter().flatten().flatten()
        });
        let spent = threads.filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<f64>().ok()
        });
        spent.sum::<f64>() / 1000.0
    }

    /// Mebibytes of memory in use.
    pub fn memory(&self) -> f64 {
        let resident = self.family().into_iter().filter_map(|process| {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        });
        resident.sum::<f64>() / 1024.0
    }

    /// Open files and sockets.
    pub fn files(&self) -> usize {
        let open = |process| std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
        self.family().into_iter().map(open).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx ends its workers only when asked to; the proxy may end as it likes.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
