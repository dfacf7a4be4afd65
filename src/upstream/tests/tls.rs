//! Whom we trust, and what is said of those we do not.

use std::io::Write;

use tokio::io::AsyncWriteExt;

use super::fake::{Authority, Fake, Peer, ask, client, post, run_alone, serve_tls, settings, text, within};
use crate::upstream::{Error, Settings};

async fn answers_ok(mut peer: Peer) {
    while peer.request().await.is_some() {
        peer.answer(200, "ok").await;
    }
}

fn url(fake: &Fake) -> String {
    format!("https://localhost:{}/", fake.address.port())
}

fn trusting(file: &tempfile::NamedTempFile) -> Settings {
    Settings {
        extra_ca_file: Some(file.path().into()),
        ..settings()
    }
}

#[actix_web::test]
async fn an_extra_authority_is_trusted_also_as_one_of_many() {
    let (ours, other) = (Authority::new(), Authority::new());
    let fake = serve_tls(&ours, "localhost", answers_ok).await;
    let mut bundle = tempfile::NamedTempFile::new().unwrap();
    for authority in [&other, &ours] {
        bundle
            .write_all(&std::fs::read(authority.file().path()).unwrap())
            .unwrap();
    }
    assert_eq!(
        ask(&client(trusting(&bundle)), url(&fake)).await.unwrap(),
        (200, "ok".into())
    );
    assert_eq!(
        ask(&client(trusting(&ours.file())), url(&fake)).await.unwrap(),
        (200, "ok".into())
    );
}

#[actix_web::test]
async fn a_strangers_certificate_is_refused_by_name() {
    let fake = serve_tls(&Authority::new(), "localhost", answers_ok).await;
    for settings in [settings(), trusting(&Authority::new().file())] {
        let error = ask(&client(settings), url(&fake)).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no secure connection to localhost: invalid peer certificate"),
            "{error}"
        );
    }
}

#[actix_web::test]
async fn a_certificate_for_another_name_is_refused_by_name() {
    let authority = Authority::new();
    let fake = serve_tls(&authority, "elsewhere.test", answers_ok).await;
    let error = ask(&client(trusting(&authority.file())), url(&fake)).await.unwrap_err();
    let words = error.to_string();
    assert!(words.starts_with("no secure connection to localhost: "), "{words}");
    assert!(words.contains("elsewhere.test"), "{words}");
}

#[actix_web::test]
async fn a_certificate_for_an_address_is_checked_against_it() {
    let authority = Authority::new();
    let fake = serve_tls(&authority, "127.0.0.1", answers_ok).await;
    let url = format!("https://{}/", fake.address);
    assert_eq!(ask(&client(trusting(&authority.file())), url).await.unwrap().0, 200);
}

#[actix_web::test]
async fn an_end_that_anybody_could_have_made_is_no_end() {
    let authority = Authority::new();
    for honest in [true, false] {
        let fake = serve_tls(&authority, "localhost", move |mut peer: Peer| async move {
            peer.request().await;
            peer.say("HTTP/1.1 200 OK\r\n\r\nabc").await;
            if honest {
                peer.into_io().shutdown().await.unwrap();
            }
        })
        .await;
        let outcome = ask(&client(trusting(&authority.file())), url(&fake)).await;
        match honest {
            true => assert_eq!(outcome.unwrap(), (200, "abc".into())),
            false => assert_eq!(outcome.unwrap_err(), Error::Cut),
        }
    }
}

#[actix_web::test]
async fn an_early_answer_is_read_though_the_request_is_not() {
    let authority = Authority::new();
    let fake = serve_tls(&authority, "localhost", |mut peer: Peer| async move {
        peer.answer(413, "too large").await;
        actix_rt::time::sleep(super::fake::SOON).await;
    })
    .await;
    // Of every size, since what is stuck may sit in the socket, in TLS or in between.
    for kilobytes in [1 << 10, 6000, 7000, 8000, 16 << 10] {
        let mut request = post(url(&fake), "");
        request.body = Some(vec![b' '; kilobytes << 10].into());
        let client = client(trusting(&authority.file()));
        let answer = within(client.send(&request)).await.unwrap();
        assert_eq!(answer.status, 413);
        assert_eq!(text(answer).await.unwrap(), "too large");
    }
}

#[actix_web::test]
async fn the_environment_names_certificates_but_no_proxies() {
    let authority = Authority::new();
    let fake = serve_tls(&authority, "localhost", answers_ok).await;
    let file = authority.file();
    let nowhere = "http://127.0.0.1:1".to_string();
    let environment = [
        ("SSL_CERT_FILE", file.path().display().to_string()),
        ("TEST_UPSTREAM", url(&fake)),
        ("HTTPS_PROXY", nowhere.clone()),
        ("https_proxy", nowhere.clone()),
        ("ALL_PROXY", nowhere),
    ];
    actix_web::web::block(move || run_alone("tls::with_an_environment_of_its_own", &environment))
        .await
        .unwrap();
    assert_eq!(fake.connections(), 1);
}

#[actix_web::test]
#[ignore = "run by the test above"]
async fn with_an_environment_of_its_own() {
    let url = std::env::var("TEST_UPSTREAM").unwrap();
    assert_eq!(ask(&client(settings()), url).await.unwrap(), (200, "ok".into()));
}
