//! One HTTP client per thread, and what all threads share. Knows TLS roots, limits of time, the pool, and the single
//! resend; not whom it talks to.

use std::{
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::body::{BodySize, MessageBody};
use awc::{
    error::{ConnectError, SendRequestError},
    http::{
        Method, Uri,
        header::{HeaderName, HeaderValue},
    },
};
use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};

use super::{
    Answer, Body, Error, Phase, Settings, answer::plain, connector::Connector, headers::Header, proxy::Proxies,
    refusal::KeepRefusals, wire::Shelf,
};

/// How long an unused connection is kept for the next call, and how old one may become.
const KEPT_IDLE: Duration = Duration::from_secs(60);
const KEPT_AT_ALL: Duration = Duration::from_secs(600);

/// What every thread shares: settings, TLS, proxy rules. Made once, at start, where a mistake in them is an error.
#[derive(Clone)]
pub struct Setup {
    pub settings: Arc<Settings>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) proxies: Option<Arc<Proxies>>,
}

impl Setup {
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let tls = Arc::new(tls(&settings)?);
        let proxies = settings.proxy.as_ref().map(Proxies::new).transpose()?.map(Arc::new);
        Ok(Self {
            settings: Arc::new(settings),
            tls,
            proxies,
        })
    }
}

/// Trusts the compiled-in roots, those of the system (`SSL_CERT_FILE` included), and the user's extra file. Speaks
/// HTTP/1.1 only: one socket per stream, closed when the stream is dropped.
fn tls(settings: &Settings) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    // A container without certificates, or one broken file, is no reason not to start: the roots above remain.
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    for error in system.errors {
        log::warn!("some certificates of the system cannot be used: {error}");
    }
    if let Some(file) = &settings.extra_ca_file {
        let bad = |what: String| Error::Setting(format!("cannot use the certificates in {}: {what}", file.display()));
        let pem = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| bad(error.to_string()))?;
        if certificates.is_empty() {
            return Err(bad("no certificate found".into()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Setting(format!("cannot set up TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// One request, ready to go. It can be sent twice, since its body is shared bytes. It has no `Debug`, which would show
/// what people write.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    pub url: String,
    pub headers: Vec<Header>,
    pub body: Option<Bytes>,
}

/// The client of one thread. Cloning shares its connections.
#[derive(Clone)]
pub struct Client {
    pub setup: Setup,
    shelf: Rc<Shelf>,
    plain: awc::Client,
    secure: awc::Client,
}

impl Client {
    pub fn new(setup: &Setup) -> Self {
        let shelf = Rc::new(Shelf::new(KEPT_IDLE));
        let awc = |secure| awc_client(Connector::new(setup, shelf.clone(), secure), &setup.settings);
        Self {
            setup: setup.clone(),
            plain: awc(false),
            secure: awc(true),
            shelf,
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A connection that had served before may have been closed by upstream in the meantime. If it fails before any
    /// byte of an answer, the request is sent once more, on a new connection; every other failure is final.
    pub async fn send(&self, request: &Request) -> Result<Answer, Error> {
        self.patiently(async || self.attempt(request).await).await
    }

    /// Keeps the limit on the first byte, and the rule about the single resend.
    pub(super) async fn patiently<T>(&self, attempt: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
        let limit = self.setup.settings.first_byte;
        let exchange = async {
            match attempt().await {
                Err(Error::Closed { reused: true }) => {
                    self.shelf.clear();
                    attempt().await
                }
                outcome => outcome,
            }
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout {
                phase: Phase::FirstByte,
                after: limit,
            }),
        }
    }

    async fn attempt(&self, request: &Request) -> Result<Answer, Error> {
        let target = Target::parse(&request.url)?;
        let mut call = self
            .road(&target)
            .request(request.method.clone(), &target.dial)
            .insert_header(("host", target.host.as_str()));
        for header in &request.headers {
            call = call.insert_header(sendable(header)?);
        }
        let sent = match &request.body {
            Some(body) => call.send_body(Pieces(body.clone())).await,
            None => call.send().await,
        };
        let response = sent.map_err(|error| in_our_words(error, &self.setup.settings))?;
        let (status, headers) = (response.status().as_u16(), plain(response.headers()));
        let body = Body::new(response, self.setup.settings.silence);
        acceptable(Answer { status, headers, body })
    }

    /// The awc client that leads to a target.
    pub(super) fn road(&self, target: &Target) -> &awc::Client {
        if target.secure { &self.secure } else { &self.plain }
    }
}

/// A request's body on its way out. awc copies what it is given, and keeps the room until the answer is over: so it is
/// given a piece at a time.
struct Pieces(Bytes);

impl Pieces {
    const SIZE: usize = 16 << 10;
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let size = self.0.len().min(Self::SIZE);
        let piece = self.0.split_to(size);
        Poll::Ready((size > 0).then_some(Ok(piece)))
    }
}

/// One of our headers, in the HTTP client's terms.
pub(super) fn sendable(header: &Header) -> Result<(HeaderName, HeaderValue), Error> {
    let bad = || Error::Header {
        name: header.name.to_string(),
    };
    let name = HeaderName::try_from(header.name.as_ref()).map_err(|_| bad())?;
    let mut value = HeaderValue::try_from(header.value()).map_err(|_| bad())?;
    value.set_sensitive(header.is_secret());
    Ok((name, value))
}

/// Whether an answer is one: a redirect is not followed, and compressed bytes are not decoded.
pub(super) fn acceptable(answer: Answer) -> Result<Answer, Error> {
    match answer.status {
        status @ 300..400 => Err(Error::Redirect { status }),
        _ => refuse_encoding(answer),
    }
}

/// Compressed bytes that nobody asked for would reach the client as garbage. The status of a refusal still counts, so
/// there only the body is lost.
fn refuse_encoding(answer: Answer) -> Result<Answer, Error> {
    let Some(encoding) = answer.header("content-encoding") else {
        return Ok(answer);
    };
    if encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("identity") {
        return Ok(answer);
    }
    let error = Error::Encoding {
        status: answer.status,
        encoding: encoding.chars().take(40).collect(),
    };
    if answer.is_success() {
        Err(error)
    } else {
        Ok(Answer {
            body: Body::refused(error),
            ..answer
        })
    }
}

/// TLS, limits and outbound proxies are our connector's business; awc does the HTTP and the pool.
pub(super) fn awc_client(connector: Connector, settings: &Settings) -> awc::Client {
    // Our connector keeps the connect limit itself and words it; awc's own, just above, never speaks first.
    let spare = settings.connect.saturating_add(Duration::from_secs(5));
    let connector = awc::Connector::new()
        .connector(connector)
        .timeout(spare)
        .handshake_timeout(spare)
        .limit(0)
        .conn_keep_alive(KEPT_IDLE)
        .conn_lifetime(KEPT_AT_ALL);
    awc::Client::builder()
        .connector(connector)
        .no_default_headers()
        .disable_redirects()
        .disable_timeout()
        .wrap(KeepRefusals::new(settings.silence))
        .finish()
}

/// An address taken apart: what to dial, by which road, and what to call the host.
pub(super) struct Target {
    /// For awc, which must not add TLS of its own: always `http`, always with the port.
    pub dial: String,
    /// The value of the `host` header.
    pub host: String,
    pub secure: bool,
}

impl Target {
    pub fn parse(url: &str) -> Result<Self, Error> {
        // The address may carry a password; an error shows no more than where it ends.
        let bad = || Error::Address {
            address: url.rsplit('@').next().unwrap_or_default().to_string(),
        };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let (secure, usual) = match uri.scheme_str() {
            Some("http" | "ws") => (false, 80),
            Some("https" | "wss") => (true, 443),
            _ => return Err(bad()),
        };
        let name = uri.host().filter(|name| !name.is_empty()).ok_or_else(bad)?;
        let port = uri.port_u16().unwrap_or(usual);
        let host = if port == usual {
            name.to_string()
        } else {
            format!("{name}:{port}")
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            dial: format!("http://{name}:{port}{path}"),
            host,
            secure,
        })
    }
}

/// Turns awc's errors into ours. Those our connector and wire raised are still inside.
pub(super) fn in_our_words(error: SendRequestError, settings: &Settings) -> Error {
    use awc::error::SendRequestError as Send;
    let connect = Error::Timeout {
        phase: Phase::Connect,
        after: settings.connect,
    };
    let io = |error: std::io::Error| {
        Error::unwrap_io(error).unwrap_or_else(|error| Error::Reset {
            what: error.to_string(),
        })
    };
    match error {
        Send::Connect(ConnectError::Io(error)) | Send::Send(error) => io(error),
        Send::Connect(ConnectError::Timeout) | Send::Timeout => connect,
        Send::Connect(ConnectError::Disconnected) => Error::Closed { reused: false },
        Send::Response(actix_web::error::ParseError::Io(error)) => io(error),
        Send::Response(actix_web::error::ParseError::TooLarge) => Error::NotHttp {
            what: "the head of the answer is too large".into(),
        },
        Send::Response(error) => Error::NotHttp {
            what: error.to_string(),
        },
        other => Error::Reset {
            what: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let target = Target::parse("https://api.example.com/v1?x=1").unwrap();
        assert_eq!(
            (target.dial.as_str(), target.host.as_str()),
            ("http://api.example.com:443/v1?x=1", "api.example.com")
        );
        assert!(target.secure);
        let target = Target::parse("http://[::1]:8080").unwrap();
        assert_eq!(
            (target.dial.as_str(), target.host.as_str()),
            ("http://[::1]:8080/", "[::1]:8080")
        );
        assert!(!target.secure);
    }

    #[test]
    fn a_bad_address_is_named_without_its_password() {
        let error = Target::parse("ftp://me:pw@host/x").err().unwrap();
        assert_eq!(error.to_string(), "host/x is not an http or https address");
        assert!(Target::parse("nonsense").is_err());
        assert!(Target::parse("").is_err());
    }

    #[test]
    fn a_bad_certificate_file_is_an_error_at_start() {
        let missing = Settings {
            extra_ca_file: Some("does/not/exist.pem".into()),
            ..Settings::default()
        };
        let error = Setup::new(missing).err().unwrap().to_string();
        assert!(
            error.starts_with("cannot use the certificates in does/not/exist.pem: "),
            "{error}"
        );

        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"not a certificate").unwrap();
        let empty = Settings {
            extra_ca_file: Some(file.path().into()),
            ..Settings::default()
        };
        let error = Setup::new(empty).err().unwrap().to_string();
        assert!(error.ends_with("no certificate found"), "{error}");
    }
}
