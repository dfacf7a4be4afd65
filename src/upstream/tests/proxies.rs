//! The way out through somebody else's machine: what is asked of it, what it is told, and whose fault it is.

use std::{
    cell::RefCell,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    rc::Rc,
    time::Duration,
};

use actix_rt::time::sleep;
use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};

use super::fake::{Authority, Fake, Io, Peer, SOON, ask, client, header, post, serve, serve_tls, settings, within};
use crate::upstream::{Client, Error, ProxySettings, Settings};

const PASSWORD: &str = "geheim%2Fno:t";
const SHORT: Duration = Duration::from_millis(300);

/// What a proxy was asked for, connection by connection.
type Log = Rc<RefCell<Vec<String>>>;

/// A proxy that grants every CONNECT, wherever it should lead, with a connection to the same place.
async fn http_proxy(place: SocketAddr) -> (Fake, Log) {
    let log = Log::default();
    let asked = log.clone();
    let proxy = serve(move |mut peer| {
        let asked = asked.clone();
        async move {
            let Some(head) = peer.request().await else { return };
            asked.borrow_mut().push(head);
            peer.say("HTTP/1.1 200 Connection established\r\nvia: 1.1 fake\r\n\r\n")
                .await;
            join(peer.into_io(), place).await;
        }
    })
    .await;
    (proxy, log)
}

/// A SOCKS 5 proxy; asks for the given user and password, if any, and leads everywhere to the same place.
async fn socks_proxy(place: SocketAddr, user: Option<(&'static str, &'static str)>) -> (Fake, Log) {
    let log = Log::default();
    let asked = log.clone();
    let proxy = serve(move |peer| {
        let asked = asked.clone();
        async move {
            if let Some((target, io)) = socks_greeting(peer.into_io(), user).await {
                asked.borrow_mut().push(target);
                join(io, place).await;
            }
        }
    })
    .await;
    (proxy, log)
}

async fn socks_greeting(mut io: Box<dyn Io>, user: Option<(&str, &str)>) -> Option<(String, Box<dyn Io>)> {
    assert_eq!(io.read_u8().await.ok()?, 5);
    let methods = counted(&mut io).await?;
    match user {
        None => io.write_all(&[5, 0]).await.ok()?,
        Some(_) if !methods.contains(&2) => {
            io.write_all(&[5, 0xff]).await.ok()?;
            return None;
        }
        Some((name, password)) => {
            io.write_all(&[5, 2]).await.ok()?;
            assert_eq!(io.read_u8().await.ok()?, 1);
            let right = counted(&mut io).await? == name.as_bytes();
            let right = counted(&mut io).await? == password.as_bytes() && right;
            io.write_all(&[1, u8::from(!right)]).await.ok()?;
            if !right {
                return None;
            }
        }
    }
    let mut request = [0; 4];
    io.read_exact(&mut request).await.ok()?;
    assert_eq!(request[..2], [5, 1]);
    let host = match request[3] {
        3 => String::from_utf8(counted(&mut io).await?).unwrap(),
        1 => format!("ip {:x}", io.read_u32().await.ok()?),
        kind => format!("kind {kind}"),
    };
    let port = io.read_u16().await.ok()?;
    io.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    Some((format!("{host}:{port}"), io))
}

/// Bytes with their number before them.
async fn counted(io: &mut Box<dyn Io>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; io.read_u8().await.ok()?.into()];
    io.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

async fn join(mut io: Box<dyn Io>, place: SocketAddr) {
    let mut tcp = TcpStream::connect(place).await.unwrap();
    let _ = copy_bidirectional(&mut io, &mut tcp).await;
}

async fn answers_ok(mut peer: Peer) {
    while peer.request().await.is_some() {
        peer.answer(200, "ok").await;
    }
}

/// A stream whose second event waits until the first was read.
async fn streams(mut peer: Peer) {
    while peer.request().await.is_some() {
        peer.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
            .await;
        sleep(SHORT).await;
        peer.say("9\r\ndata: 2\n\n\r\n0\r\n\r\n").await;
    }
}

async fn reads_a_stream(client: &Client, url: &str) {
    let mut answer = within(client.send(&post(url, "{}"))).await.unwrap();
    assert_eq!(answer.status, 200);
    let start = std::time::Instant::now();
    assert_eq!(within(answer.body.next()).await.unwrap().unwrap(), "data: 1\n\n");
    assert!(start.elapsed() < SHORT, "the first event was held back");
    assert_eq!(within(answer.body.next()).await.unwrap().unwrap(), "data: 2\n\n");
    assert!(within(answer.body.next()).await.is_none());
}

fn through(proxy: impl Into<String>) -> Settings {
    Settings {
        proxy: Some(ProxySettings {
            all: Some(proxy.into()),
            ..ProxySettings::default()
        }),
        ..settings()
    }
}

/// The error of one question asked through a proxy that is no help. It never shows the password.
async fn trouble(settings: Settings) -> String {
    let error = ask(&client(settings), "https://upstream.test/x").await.unwrap_err();
    assert!(matches!(error, Error::Proxy { .. }), "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("geheim") && !shown.contains("bob"), "{shown}");
    error.to_string()
}

#[actix_web::test]
async fn tls_goes_through_a_connect_proxy_by_the_name_of_the_target() {
    let authority = Authority::new();
    let upstream = serve_tls(&authority, "upstream.test", streams).await;
    let (proxy, log) = http_proxy(upstream.address).await;
    let file = authority.file();
    let settings = Settings {
        extra_ca_file: Some(file.path().into()),
        ..through(proxy.url())
    };
    let client = client(settings);
    reads_a_stream(&client, "https://upstream.test/x").await;
    reads_a_stream(&client, "https://upstream.test/x").await;
    assert_eq!(
        *log.borrow(),
        ["CONNECT upstream.test:443 HTTP/1.1\r\nHost: upstream.test:443\r\n\r\n"],
        "one tunnel serves both"
    );
}

#[actix_web::test]
async fn user_and_password_are_decoded_for_the_proxy_alone() {
    let seen = Log::default();
    let requests = seen.clone();
    let upstream = serve(move |mut peer| {
        let requests = requests.clone();
        async move {
            while let Some(request) = peer.request().await {
                requests.borrow_mut().push(request);
                peer.answer(200, "ok").await;
            }
        }
    })
    .await;
    let (proxy, log) = http_proxy(upstream.address).await;
    let client = client(through(format!("http://bob:{PASSWORD}@{}", proxy.address)));
    assert_eq!(ask(&client, "http://upstream.test/x").await.unwrap().0, 200);
    let head = log.borrow()[0].clone();
    assert!(head.starts_with("CONNECT upstream.test:80 HTTP/1.1\r\n"), "{head}");
    // bob:geheim/no:t
    assert_eq!(header(&head, "proxy-authorization"), Some("Basic Ym9iOmdlaGVpbS9ubzp0"));
    let request = seen.borrow()[0].clone();
    assert!(request.starts_with("POST /x HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(&request, "host"), Some("upstream.test"));
    assert_eq!(header(&request, "proxy-authorization"), None);
}

#[actix_web::test]
async fn an_address_of_version_six_keeps_its_brackets() {
    let upstream = serve(answers_ok).await;
    let (proxy, log) = http_proxy(upstream.address).await;
    let client = client(through(proxy.url()));
    assert_eq!(ask(&client, "http://[2001:db8::1]:8080/").await.unwrap().0, 200);
    assert!(log.borrow()[0].starts_with("CONNECT [2001:db8::1]:8080 HTTP/1.1\r\n"));
}

#[actix_web::test]
async fn socks_looks_names_up_at_the_far_end() {
    let authority = Authority::new();
    let upstream = serve_tls(&authority, "upstream.test", streams).await;
    let file = authority.file();
    for scheme in ["socks5", "socks5h"] {
        let (proxy, log) = socks_proxy(upstream.address, None).await;
        let settings = Settings {
            extra_ca_file: Some(file.path().into()),
            ..through(format!("{scheme}://{}", proxy.address))
        };
        reads_a_stream(&client(settings), "https://upstream.test/x").await;
        assert_eq!(*log.borrow(), ["upstream.test:443"]);
    }
}

#[actix_web::test]
async fn socks_takes_a_user_and_a_password() {
    let upstream = serve(answers_ok).await;
    let (proxy, log) = socks_proxy(upstream.address, Some(("bob", "geheim/no:t"))).await;
    let with = |user: &str| through(format!("socks5://{user}{}", proxy.address));
    let client = client(with(&format!("bob:{PASSWORD}@")));
    assert_eq!(ask(&client, "http://upstream.test:8080/x").await.unwrap().0, 200);
    assert_eq!(*log.borrow(), ["upstream.test:8080"]);

    let address = proxy.address;
    assert_eq!(
        trouble(with("bob:geheim-wrong@")).await,
        format!("the outbound proxy {address} did not accept the user name and password")
    );
    assert_eq!(
        trouble(with("")).await,
        format!("the outbound proxy {address} asks for a user name and password")
    );
    let long = trouble(with(&format!("bob:{}@", "geheim".repeat(50)))).await;
    assert!(long.starts_with(&format!("the outbound proxy {address} ")), "{long}");
}

#[actix_web::test]
async fn a_socks_proxy_that_cannot_reach_the_target_says_so() {
    let proxy = serve(|peer| async move {
        let mut io = peer.into_io();
        let mut bytes = [0; 3];
        io.read_exact(&mut bytes).await.unwrap();
        io.write_all(&[5, 0]).await.unwrap();
        io.read_u32().await.unwrap();
        io.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let _ = io.read_u8().await;
        sleep(SHORT).await;
    })
    .await;
    let words = trouble(through(format!("socks5://bob:geheim@{}", proxy.address))).await;
    let begin = format!("the outbound proxy {} ", proxy.address);
    assert!(words.starts_with(&begin), "{words}");
}

#[actix_web::test]
async fn exceptions_are_reached_directly_and_loopback_is_none_by_itself() {
    let upstream = serve(answers_ok).await;
    let (proxy, log) = http_proxy(upstream.address).await;
    let port = upstream.address.port();
    let url = format!("http://127.0.0.1:{port}/");
    let rows = [
        (String::new(), false),
        ("example.com".into(), false),
        ("127.0.0.1".into(), true),
        (format!("example.com, 127.0.0.0/8:{port}"), false),
        ("example.com 127.0.0.0/8".into(), true),
        (format!("127.0.0.1:{port}"), true),
        ("127.0.0.1:1".into(), false),
        ("*".into(), true),
    ];
    for (no, direct) in rows {
        log.borrow_mut().clear();
        let mut settings = through(proxy.url());
        settings.proxy.as_mut().unwrap().no = Some(no.clone());
        assert_eq!(ask(&client(settings), url.clone()).await.unwrap().0, 200);
        assert_eq!(log.borrow().is_empty(), direct, "{no:?}");
    }
}

#[actix_web::test]
async fn without_proxy_settings_nothing_is_asked_of_a_proxy() {
    let upstream = serve(answers_ok).await;
    let (proxy, log) = http_proxy(upstream.address).await;
    let settings = Settings {
        proxy: Some(ProxySettings {
            https: Some(proxy.url()),
            ..ProxySettings::default()
        }),
        ..settings()
    };
    assert_eq!(ask(&client(settings), upstream.url()).await.unwrap().0, 200);
    assert_eq!((log.borrow().len(), upstream.connections()), (0, 1));
}

#[actix_web::test]
async fn a_proxy_that_is_down_is_named() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for scheme in ["http", "socks5"] {
        let words = trouble(through(format!("{scheme}://bob:geheim@{address}"))).await;
        assert_eq!(words, format!("the outbound proxy {address} refused the connection"));
    }
    let words = trouble(through("http://bob:geheim@no-such-host.invalid:3128")).await;
    assert!(
        words.starts_with("the outbound proxy no-such-host.invalid:3128 could not be resolved: "),
        "{words}"
    );
}

#[actix_web::test]
async fn a_proxys_refusal_is_told_with_its_status() {
    let rows = [
        (
            "HTTP/1.1 407 Auth\r\nproxy-authenticate: Basic\r\n\r\n",
            "answered 407: it did not accept the user name and password",
        ),
        (
            "HTTP/1.0 403 Filtered\r\n\r\n",
            "answered 403 when asked for a connection to upstream.test:443",
        ),
        (
            "HTTP/1.1 502 Bad\r\n\r\n",
            "answered 502 when asked for a connection to upstream.test:443",
        ),
        ("SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
        ("HTTP/1.1 \r\n\r\n", "does not speak HTTP"),
        ("HTTP/1.1 200 OK\r\n", "closed the connection before answering"),
        ("", "closed the connection before answering"),
    ];
    for (said, expected) in rows {
        let proxy = serve(move |mut peer| async move {
            peer.request().await;
            peer.say(said).await;
        })
        .await;
        let words = trouble(through(format!("http://bob:geheim@{}", proxy.address))).await;
        assert_eq!(words, format!("the outbound proxy {} {expected}", proxy.address));
    }
}

#[actix_web::test]
async fn a_proxy_that_never_stops_talking_is_left() {
    let proxy = serve(|mut peer| async move {
        peer.request().await;
        peer.say(format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(64 << 10)))
            .await;
        peer.closed().await;
    })
    .await;
    let words = trouble(through(proxy.url())).await;
    assert_eq!(
        words,
        format!("the outbound proxy {} gave an answer without end", proxy.address)
    );
}

#[actix_web::test]
async fn a_proxy_that_hangs_is_named_when_the_connect_limit_is_over() {
    let proxy = serve(|mut peer| async move {
        peer.closed().await;
    })
    .await;
    for scheme in ["http", "socks5"] {
        let settings = Settings {
            connect: SHORT,
            ..through(format!("{scheme}://bob:geheim@{}", proxy.address))
        };
        let start = std::time::Instant::now();
        let words = trouble(settings).await;
        assert!(start.elapsed() < SOON / 2);
        assert_eq!(
            words,
            format!(
                "the outbound proxy {} did not open a connection within 0.3 s",
                proxy.address
            )
        );
    }
}

/// A program that runs as long as its handle lives.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a proxy from the system, and waits until it listens; `None`, with a note, where there is none.
async fn start(program: &str, arguments: &[&str], port: u16) -> Option<Running> {
    let mut command = Command::new(program);
    let command = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        println!("skipped: {program} is not installed");
        return None;
    };
    let mut running = Running(child);
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(running.0.try_wait().unwrap().is_none(), "{program} does not start");
            sleep(Duration::from_millis(50)).await;
        }
    };
    within(listens).await;
    Some(running)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What every real proxy must carry: a stream behind TLS, and a refusal where the password is wrong.
async fn carries_everything(port: u16) {
    let authority = Authority::new();
    let file = authority.file();
    let secure = serve_tls(&authority, "localhost", streams).await;
    let plain = serve(answers_ok).await;
    let with = |password: &str| Settings {
        extra_ca_file: Some(file.path().into()),
        ..through(format!("http://bob:{password}@127.0.0.1:{port}"))
    };
    let right = client(with("geheim%2Ehome"));
    let url = format!("https://localhost:{}/x", secure.address.port());
    reads_a_stream(&right, &url).await;
    assert_eq!(ask(&right, plain.url()).await.unwrap(), (200, "ok".into()));

    let wrong = ask(&client(with("geheim-wrong")), url.clone()).await.unwrap_err();
    let none = client(through(format!("http://127.0.0.1:{port}")));
    let none = ask(&none, url.clone()).await.unwrap_err();
    for (error, expected) in [
        (wrong, "did not accept the user name and password"),
        (none, "answered 407: it asks for a user name and password"),
    ] {
        let words = error.to_string();
        assert!(
            words.starts_with(&format!("the outbound proxy 127.0.0.1:{port} ")),
            "{words}"
        );
        assert!(words.ends_with(expected), "{words}");
    }
    let stranger = Settings {
        extra_ca_file: None,
        ..with("geheim%2Ehome")
    };
    let error = ask(&client(stranger), url).await.unwrap_err();
    assert!(
        matches!(&error, Error::Tls { host, .. } if host == "localhost"),
        "{error:?}"
    );
}

#[actix_web::test]
async fn tinyproxy_carries_a_stream_to_an_upstream_of_our_own_authority() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = directory.path().join("tinyproxy.conf");
    std::fs::write(
        &config,
        format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nBasicAuth bob geheim.home\n"),
    )
    .unwrap();
    let arguments = ["-d", "-c", config.to_str().unwrap()];
    if let Some(_running) = start("tinyproxy", &arguments, port).await {
        carries_everything(port).await;
    }
}
