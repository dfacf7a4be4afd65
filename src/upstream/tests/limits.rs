//! Each wait has its limit, and its own word for it.

use std::time::Duration;

use actix_rt::time::sleep;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::fake::{SOON, ask, client, post, serve, settings, within};
use crate::upstream::{Error, Phase, Settings};

const SHORT: Duration = Duration::from_millis(300);

fn late(phase: Phase) -> Error {
    Error::Timeout { phase, after: SHORT }
}

#[actix_web::test]
async fn a_handshake_that_does_not_come_about_is_a_matter_of_connecting() {
    let mute = serve(|mut peer| async move {
        peer.closed().await;
    })
    .await;
    let settings = Settings {
        connect: SHORT,
        ..settings()
    };
    let url = format!("https://{}", mute.address);
    let start = Instant::now();
    assert_eq!(ask(&client(settings), url).await.unwrap_err(), late(Phase::Connect));
    assert!(start.elapsed() < SOON / 2);
}

#[actix_web::test]
async fn a_head_that_does_not_come_is_named() {
    let scripts: [&'static str; 3] = ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n"];
    for said in scripts {
        let fake = serve(move |mut peer| async move {
            peer.request().await;
            peer.say(said).await;
            peer.closed().await;
        })
        .await;
        let settings = Settings {
            first_byte: SHORT,
            ..settings()
        };
        let error = ask(&client(settings), fake.url()).await.unwrap_err();
        assert_eq!(error, late(Phase::FirstByte), "after {said:?}");
    }
}

#[actix_web::test]
async fn silence_inside_a_body_is_named_in_every_framing() {
    let heads: [&'static str; 3] = [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab",
        "HTTP/1.1 200 OK\r\n\r\nab",
    ];
    for head in heads {
        let fake = serve(move |mut peer| async move {
            peer.request().await;
            peer.say(head).await;
            peer.closed().await;
        })
        .await;
        let settings = Settings {
            silence: SHORT,
            ..settings()
        };
        let client = client(settings);
        let mut answer = within(client.send(&post(fake.url(), "{}"))).await.unwrap();
        assert_eq!(within(answer.body.next()).await.unwrap().unwrap(), "ab");
        let start = Instant::now();
        let error = within(answer.body.next()).await.unwrap().unwrap_err();
        assert_eq!(error, late(Phase::Silence));
        assert!(start.elapsed() >= SHORT);
        let error = ask(&client, fake.url()).await.unwrap_err();
        assert_eq!(error, late(Phase::Silence), "when read whole");
    }
}

#[actix_web::test]
async fn an_answer_may_take_longer_than_every_limit_if_it_never_falls_silent() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        for _ in 0..10 {
            sleep(SHORT / 3).await;
            peer.say("1\r\na\r\n").await;
        }
        peer.say("0\r\n\r\n").await;
    })
    .await;
    let settings = Settings {
        connect: SHORT,
        first_byte: SHORT,
        silence: SHORT,
        ..settings()
    };
    assert_eq!(ask(&client(settings), fake.url()).await.unwrap(), (200, "a".repeat(10)));
}

#[actix_web::test]
async fn a_slow_reader_is_not_a_silent_upstream() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            .await;
        sleep(2 * SHORT).await;
        peer.say("1\r\nb\r\n").await;
        sleep(SHORT / 2).await;
        peer.say("1\r\nc\r\n0\r\n\r\n").await;
    })
    .await;
    let settings = Settings {
        silence: SHORT,
        ..settings()
    };
    let mut answer = client(settings).send(&post(fake.url(), "{}")).await.unwrap();
    assert_eq!(within(answer.body.next()).await.unwrap().unwrap(), "a");
    sleep(2 * SHORT + SHORT / 4).await;
    // Upstream was silent for twice the limit, but nobody waited; from now on somebody does.
    assert_eq!(within(answer.body.next()).await.unwrap().unwrap(), "b");
    assert_eq!(within(answer.body.next()).await.unwrap().unwrap(), "c");
    assert!(within(answer.body.next()).await.is_none());
}

#[actix_web::test]
async fn a_reader_that_looks_in_now_and_then_still_notices_silence() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            .await;
        peer.closed().await;
    })
    .await;
    let settings = Settings {
        silence: SHORT,
        ..settings()
    };
    let mut answer = client(settings).send(&post(fake.url(), "{}")).await.unwrap();
    assert_eq!(within(answer.body.next()).await.unwrap().unwrap(), "a");
    let error = within(async {
        loop {
            // As a relay does that sends a heartbeat in between.
            if let Ok(piece) = tokio::time::timeout(SHORT / 10, answer.body.next()).await {
                break piece.unwrap().unwrap_err();
            }
        }
    })
    .await;
    assert_eq!(error, late(Phase::Silence));
}

#[actix_web::test]
async fn limits_beyond_the_clock_are_no_limits() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.answer(200, "ok").await;
    })
    .await;
    let settings = Settings {
        connect: Duration::MAX,
        first_byte: Duration::MAX,
        silence: Duration::MAX,
        ..settings()
    };
    assert_eq!(ask(&client(settings), fake.url()).await.unwrap(), (200, "ok".into()));
}
