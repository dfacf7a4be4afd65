//! When a connection is used again, when it is closed, and what happens if it turns out to be dead.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix_rt::time::sleep;
use futures_util::{StreamExt, future::join_all};

use super::fake::{Authority, Fake, SOON, ask, client, post, serve, serve_tls, settings, within};
use crate::upstream::Error;

/// How soon a connection must be closed once nobody wants it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Answers some requests of each connection; the next one it reads and closes on, without a byte.
async fn closes_after(requests: usize, asked: Rc<Cell<usize>>) -> Fake {
    serve(move |mut peer| {
        let asked = asked.clone();
        async move {
            for _ in 0..requests {
                if peer.request().await.is_none() {
                    return;
                }
                asked.set(asked.get() + 1);
                peer.answer(200, "ok").await;
            }
            peer.request().await;
            asked.set(asked.get() + 1);
        }
    })
    .await
}

#[actix_web::test]
async fn a_used_connection_that_dies_without_a_byte_costs_nobody_an_answer() {
    let asked = Rc::new(Cell::new(0));
    let fake = closes_after(1, asked.clone()).await;
    let client = client(settings());
    for _ in 0..200 {
        assert_eq!(ask(&client, fake.url()).await.unwrap(), (200, "ok".into()));
    }
    assert_eq!(fake.connections(), 200);
    // Every request but the first was sent twice: once in vain on the used connection.
    assert_eq!(asked.get(), 399);
}

#[actix_web::test]
async fn two_hundred_races_with_an_upstream_that_closes_idle_connections_are_won() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.answer(200, "ok").await;
        sleep(Duration::from_micros((peer.number as u64 % 7) * 150)).await;
    })
    .await;
    let client = client(settings());
    for number in 0..200 {
        assert_eq!(ask(&client, fake.url()).await.unwrap(), (200, "ok".into()));
        sleep(Duration::from_micros(number % 5 * 200)).await;
    }
}

#[actix_web::test]
async fn races_are_won_by_many_at_once_and_under_tls() {
    let authority = Authority::new();
    let file = authority.file();
    let fake = serve_tls(&authority, "localhost", |mut peer| async move {
        peer.request().await;
        peer.answer(200, "ok").await;
        peer.request().await;
    })
    .await;
    let mut settings = settings();
    settings.extra_ca_file = Some(file.path().into());
    let client = client(settings);
    let url = format!("https://localhost:{}", fake.address.port());
    for _ in 0..5 {
        let all = join_all((0..10).map(|_| ask(&client, url.clone()))).await;
        for one in all {
            assert_eq!(one.unwrap(), (200, "ok".into()));
        }
    }
}

#[actix_web::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let asked = Rc::new(Cell::new(0));
    let fake = closes_after(0, asked.clone()).await;
    let error = ask(&client(settings()), fake.url()).await.unwrap_err();
    assert_eq!(error, Error::Closed { reused: false });
    assert_eq!((asked.get(), fake.connections()), (1, 1));
}

#[actix_web::test]
async fn a_byte_of_an_answer_forbids_the_second_try() {
    for begin in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let asked = Rc::new(Cell::new(0));
        let count = asked.clone();
        let fake = serve(move |mut peer| {
            let count = count.clone();
            async move {
                peer.request().await;
                peer.answer(200, "ok").await;
                peer.request().await;
                count.set(count.get() + 1);
                peer.say(begin).await;
            }
        })
        .await;
        let client = client(settings());
        ask(&client, fake.url()).await.unwrap();
        let error = ask(&client, fake.url()).await.unwrap_err();
        assert_eq!(error, Error::CutHead, "after {begin:?}");
        assert_eq!((asked.get(), fake.connections()), (1, 1), "after {begin:?}");
    }
}

#[actix_web::test]
async fn giving_up_before_the_head_closes_the_connection() {
    let waited = Rc::new(Cell::new(None));
    let seen = waited.clone();
    let fake = serve(move |mut peer| {
        let seen = seen.clone();
        async move {
            peer.request().await;
            seen.set(Some(peer.closed().await));
        }
    })
    .await;
    let client = client(settings());
    let request = post(fake.url(), "{}");
    let given_up = tokio::time::timeout(Duration::from_millis(100), client.send(&request)).await;
    assert!(given_up.is_err());
    sleep(Duration::from_millis(200)).await;
    assert!(waited.get().expect("the connection is still open") < AT_ONCE);
}

#[actix_web::test]
async fn dropping_a_body_closes_the_connection() {
    let authority = Authority::new();
    let file = authority.file();
    for secure in [false, true] {
        let closed = Rc::new(Cell::new(false));
        let seen = closed.clone();
        let script = move |mut peer: super::fake::Peer| {
            let seen = seen.clone();
            async move {
                peer.request().await;
                peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
                    .await;
                peer.closed().await;
                seen.set(true);
            }
        };
        let (fake, scheme) = match secure {
            false => (serve(script).await, "http"),
            true => (serve_tls(&authority, "localhost", script).await, "https"),
        };
        let mut settings = settings();
        settings.extra_ca_file = Some(file.path().into());
        let url = format!("{scheme}://localhost:{}", fake.address.port());
        let client = client(settings);
        let mut answer = within(client.send(&post(url, "{}"))).await.unwrap();
        assert_eq!(within(answer.body.next()).await.unwrap().unwrap(), "a");
        sleep(Duration::from_millis(100)).await;
        assert!(!closed.get());
        drop(answer);
        sleep(Duration::from_millis(300)).await;
        assert!(closed.get(), "still open, with TLS: {secure}");
    }
}

#[actix_web::test]
async fn hundreds_of_streams_run_at_the_same_time_and_leave_few_connections() {
    const STREAMS: usize = 300;
    let open = Rc::new(Cell::new(0_usize));
    let count = open.clone();
    let (go, wait) = tokio::sync::watch::channel(false);
    let fake = serve(move |mut peer| {
        let (count, mut wait) = (count.clone(), wait.clone());
        async move {
            count.set(count.get() + 1);
            peer.request().await;
            peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
                .await;
            wait.wait_for(|go| *go).await.unwrap();
            peer.say("1\r\nb\r\n0\r\n\r\n").await;
            peer.closed().await;
            count.set(count.get() - 1);
        }
    })
    .await;
    let client = client(settings());
    let requests: Vec<_> = (0..STREAMS).map(|_| post(fake.url(), "{}")).collect();
    let answers = within(join_all(requests.iter().map(|request| client.send(request)))).await;
    let mut bodies: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().body).collect();
    for body in &mut bodies {
        assert_eq!(within(body.next()).await.unwrap().unwrap(), "a");
    }
    assert_eq!(open.get(), STREAMS);
    go.send(true).unwrap();
    for mut body in bodies {
        assert_eq!(within(body.next()).await.unwrap().unwrap(), "b");
        assert!(within(body.next()).await.is_none());
    }
    sleep(Duration::from_millis(500)).await;
    assert!(open.get() <= 64, "{} connections are kept", open.get());
}

#[actix_web::test]
async fn idle_connections_that_upstream_closed_are_closed_here_too() {
    // Upstream sees our close only if we close after it did.
    let gone = Rc::new(Cell::new(0_usize));
    let count = gone.clone();
    let fake = serve(move |mut peer| {
        let count = count.clone();
        async move {
            peer.request().await;
            peer.answer(200, "ok").await;
            let mut io = peer.into_io();
            tokio::io::AsyncWriteExt::shutdown(&mut io).await.unwrap();
            let mut rest = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut io, &mut rest).await.unwrap();
            count.set(count.get() + 1);
        }
    })
    .await;
    let client = client(settings());
    let urls: Vec<_> = (0..20).map(|_| fake.url()).collect();
    for answer in join_all(urls.into_iter().map(|url| ask(&client, url))).await {
        answer.unwrap();
    }
    sleep(Duration::from_millis(300)).await;
    assert_eq!(gone.get(), fake.connections());
    assert_eq!(ask(&client, fake.url()).await.unwrap(), (200, "ok".into()));
}

#[actix_web::test]
async fn a_dead_host_does_not_hold_up_the_others() {
    let fake = serve(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.answer(200, "ok").await;
        }
    })
    .await;
    let hangs = serve(|mut peer| async move {
        peer.request().await;
        sleep(SOON).await;
    })
    .await;
    let client = client(settings());
    let request = post(hangs.url(), "{}");
    let hanging = client.send(&request);
    let asking = ask(&client, fake.url());
    tokio::select! {
        biased;
        _ = hanging => panic!("it answered"),
        answer = asking => assert_eq!(answer.unwrap(), (200, "ok".into())),
    }
}
