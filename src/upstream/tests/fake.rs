//! An upstream of a few lines: each connection it takes is handed to the test's own script.

use std::{cell::Cell, future::Future, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use actix_rt::task::JoinHandle;
use awc::http::Method;
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::upstream::{Answer, Client, Error, Settings, Setup, client::Request, headers::Header};

/// Longer than anything here should take, shorter than a person's patience.
pub const SOON: Duration = Duration::from_secs(10);

pub trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A connection, from upstream's side.
pub struct Peer {
    io: Box<dyn Io>,
    /// Which one it is, counted from 0.
    pub number: usize,
    seen: Vec<u8>,
}

impl Peer {
    pub fn new(io: impl Io + 'static, number: usize) -> Self {
        Self {
            io: Box::new(io),
            number,
            seen: Vec::new(),
        }
    }

    /// Reads one request, its body included; `None` if the connection ended instead.
    pub async fn request(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.seen[..end + 4]).into_owned();
                let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
                let whole = end + 4 + length;
                if self.seen.len() >= whole {
                    let rest = self.seen.split_off(whole);
                    let request = std::mem::replace(&mut self.seen, rest);
                    return Some(String::from_utf8_lossy(&request).into_owned());
                }
            }
            match self.io.read_buf(&mut self.seen).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn say(&mut self, text: impl AsRef<[u8]>) {
        // Whether anybody listens is the test's question, not the upstream's.
        let _ = self.io.write_all(text.as_ref()).await;
        let _ = self.io.flush().await;
    }

    /// An answer with a length, after which the connection may be used again.
    pub async fn answer(&mut self, status: u16, body: &str) {
        let length = body.len();
        self.say(format!(
            "HTTP/1.1 {status} Whatever\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Waits for the other side to close; gives how long that took.
    pub async fn closed(&mut self) -> Duration {
        let start = Instant::now();
        let mut bytes = [0; 1024];
        while matches!(self.io.read(&mut bytes).await, Ok(read) if read > 0) {}
        start.elapsed()
    }

    pub fn into_io(self) -> Box<dyn Io> {
        self.io
    }
}

/// A header of a request, by its lower-case name.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// A running upstream. It ends with its handle.
pub struct Fake {
    pub address: SocketAddr,
    taken: Rc<Cell<usize>>,
    task: JoinHandle<()>,
}

impl Fake {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections it took.
    pub fn connections(&self) -> usize {
        self.taken.get()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts an upstream that runs the script on each connection, all at the same time.
pub async fn serve<Script, Run>(script: Script) -> Fake
where
    Script: Fn(Peer) -> Run + 'static,
    Run: Future<Output = ()> + 'static,
{
    listen(None, script).await
}

/// The same, behind TLS.
pub async fn serve_tls<Script, Run>(authority: &Authority, name: &str, script: Script) -> Fake
where
    Script: Fn(Peer) -> Run + 'static,
    Run: Future<Output = ()> + 'static,
{
    listen(Some(authority.acceptor(name)), script).await
}

async fn listen<Script, Run>(tls: Option<TlsAcceptor>, script: Script) -> Fake
where
    Script: Fn(Peer) -> Run + 'static,
    Run: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Rc::new(Cell::new(0));
    let script = Rc::new(script);
    let count = taken.clone();
    let task = actix_rt::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let number = count.replace(count.get() + 1);
            let (script, tls) = (script.clone(), tls.clone());
            actix_rt::spawn(async move {
                if let Some(peer) = greet(tcp, tls, number).await {
                    script(peer).await;
                }
            });
        }
    });
    Fake { address, taken, task }
}

async fn greet(tcp: TcpStream, tls: Option<TlsAcceptor>, number: usize) -> Option<Peer> {
    tcp.set_nodelay(true).unwrap();
    match tls {
        None => Some(Peer::new(tcp, number)),
        Some(tls) => tls.accept(tcp).await.ok().map(|tls| Peer::new(tls, number)),
    }
}

/// Somebody who certifies names, and whom nobody trusts unless told to.
pub struct Authority {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
    params: rcgen::CertificateParams,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            key,
            params,
        }
    }

    /// Its own certificate, in a file.
    pub fn file(&self) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, self.certificate.pem().as_bytes()).unwrap();
        file
    }

    pub fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_string()]).unwrap();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        // As real upstreams do; the scripts speak only the second.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Settings with limits that a test can wait for, but that nothing else runs into.
pub fn settings() -> Settings {
    Settings {
        connect: SOON,
        first_byte: SOON,
        silence: SOON,
        ..Settings::default()
    }
}

pub fn client(settings: Settings) -> Client {
    Client::new(&Setup::new(settings).unwrap())
}

pub fn post(url: impl Into<String>, body: &'static str) -> Request {
    Request {
        method: Method::POST,
        url: url.into(),
        headers: vec![Header::new("accept", "*/*")],
        body: Some(body.into()),
    }
}

/// Asks once and reads everything.
pub async fn ask(client: &Client, url: impl Into<String>) -> Result<(u16, String), Error> {
    let answer = within(client.send(&post(url, "{}"))).await?;
    let status = answer.status;
    Ok((status, text(answer).await?))
}

pub async fn text(answer: Answer) -> Result<String, Error> {
    let bytes = within(answer.whole(1 << 20)).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs a test that is otherwise ignored in a process of its own, since it needs an environment or a logger of its own.
pub fn run_alone(test: &str, environment: &[(&str, String)]) {
    let module = module_path!().rsplit_once("::").unwrap().0;
    let name = format!("{}::{test}", module.split_once("::").unwrap().1);
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--ignored", "--nocapture"])
        .envs(environment.iter().map(|(key, value)| (*key, value)))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Fails a test that would hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(2 * SOON, future).await.expect("this takes too long")
}
