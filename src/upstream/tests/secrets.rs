//! What must never be seen: tokens and passwords, in whatever form, in logs or errors.

use std::sync::Mutex;

use super::fake::{Authority, post, run_alone, serve, serve_tls, settings, within};
use crate::{
    secret::Secret,
    upstream::{
        Client, Copilot, GitHub, Opened, ProxySettings, Settings, Setup,
        copilot::{Access, Call, Endpoint},
        headers,
    },
};

/// Everything that was logged, at every level.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES
            .lock()
            .unwrap()
            .push(format!("{} {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

#[test]
fn no_secret_is_logged_at_any_level() {
    run_alone("secrets::with_a_logger_of_its_own", &[]);
}

#[actix_web::test]
#[ignore = "run by the test above"]
async fn with_a_logger_of_its_own() {
    log::set_logger(&Listener).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let authority = Authority::new();
    let file = authority.file();
    let upstream = serve_tls(&authority, "localhost", |mut peer: super::fake::Peer| async move {
        while peer.request().await.is_some() {
            peer.answer(401, "unauthorized: token expired").await;
        }
    })
    .await;
    let proxy = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 407 No\r\n\r\n").await;
    })
    .await;
    let direct = Settings {
        extra_ca_file: Some(file.path().into()),
        github_api_url: format!("https://localhost:{}", upstream.address.port()),
        ..settings()
    };
    let proxied = Settings {
        proxy: Some(ProxySettings {
            all: Some(format!("http://bob:geheim@{}", proxy.address)),
            ..ProxySettings::default()
        }),
        ..direct.clone()
    };
    let mut shown = format!("{direct:?} {proxied:?}");
    for settings in [direct, proxied] {
        let base_url = settings.github_api_url.clone();
        let setup = Setup::new(settings).unwrap();
        let token = Secret::new("tid=geheim");
        let access = Access {
            token: token.clone(),
            base_url,
        };
        let mut call = Call::new(Endpoint::Responses);
        shown += &format!("{access:?}");
        let copilot = Copilot::new(&setup);
        match within(copilot.open_socket(&access, &call)).await {
            Ok(Opened::Refused(answer)) => shown += &format!("{answer:?}"),
            Ok(socket) => panic!("{socket:?}"),
            Err(error) => shown += &format!("{error} {error:?}"),
        }
        call.body = Some("{}".into());
        shown += &format!("{:?}", within(copilot.send(&access, &call)).await);
        shown += &format!("{:?}", within(GitHub::new(&setup).exchange(&token)).await);
        let client = Client::new(&setup);
        let mut request = post(access.base_url.clone(), "{}");
        request.headers = headers::github(&setup.settings, &token);
        shown += &format!("{:?} {:?}", request.headers, within(client.send(&request)).await);
    }
    let lines = LINES.lock().unwrap().join("\n");
    assert!(
        lines.contains("rustls") && lines.contains("actix"),
        "nobody logged: {lines}"
    );
    // `bob:geheim`, as it goes to the proxy.
    for secret in ["geheim", "Ym9iOmdlaGVpbQ"] {
        assert!(!shown.contains(secret), "{shown}");
        let line = lines.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}
