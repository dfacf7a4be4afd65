//! What counts as an answer, and where one ends.

use std::{cell::RefCell, rc::Rc, time::Duration};

use actix_rt::time::sleep;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fake::{ask, client, post, serve, settings, text, within};
use crate::upstream::Error;

/// Serves the same bytes to the first request of each connection, then closes it.
async fn said(bytes: &'static [u8]) -> Result<(u16, String), Error> {
    let fake = serve(move |mut peer| async move {
        peer.request().await;
        peer.say(bytes).await;
    })
    .await;
    ask(&client(settings()), fake.url()).await
}

#[actix_web::test]
async fn an_answer_is_the_same_wherever_its_bytes_are_cut() {
    const WHOLE: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nx-a: 1\r\n\
        transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nx-trailer: 1\r\n\r\n";
    let cut = Rc::new(RefCell::new(0));
    let at = cut.clone();
    let fake = serve(move |mut peer| {
        let at = *at.borrow();
        async move {
            peer.request().await;
            peer.say(&WHOLE[..at]).await;
            tokio::task::yield_now().await;
            peer.say(&WHOLE[at..]).await;
            peer.closed().await;
        }
    })
    .await;
    for at in 0..=WHOLE.len() {
        *cut.borrow_mut() = at;
        let (status, body) = ask(&client(settings()), fake.url()).await.unwrap();
        assert_eq!((status, body.as_str()), (200, "abcdefg"), "cut at {at}");
    }
}

#[actix_web::test]
async fn heads_that_only_inform_are_passed_over_and_end_the_connection() {
    for informs in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let fake = serve(move |mut peer| async move {
            while peer.request().await.is_some() {
                peer.say(informs).await;
                peer.say("HTTP/1.1 201 Created\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok")
                    .await;
            }
        })
        .await;
        let client = client(settings());
        for expected in 1..=3 {
            assert_eq!(ask(&client, fake.url()).await.unwrap(), (201, "ok".into()));
            assert_eq!(
                fake.connections(),
                expected,
                "a connection was used again after {informs:?}"
            );
        }
    }
}

#[actix_web::test]
async fn an_ordinary_connection_is_used_again() {
    let fake = serve(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.answer(200, "ok").await;
        }
    })
    .await;
    let client = client(settings());
    for _ in 0..5 {
        assert_eq!(ask(&client, fake.url()).await.unwrap(), (200, "ok".into()));
    }
    assert_eq!(fake.connections(), 1);
}

#[actix_web::test]
async fn a_body_that_breaks_off_never_looks_whole() {
    let broken: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 10\r\n\r\nabc",
    ];
    for bytes in broken {
        let error = said(bytes).await.unwrap_err();
        assert_eq!(error, Error::Cut, "{}", String::from_utf8_lossy(bytes));
    }
}

#[actix_web::test]
async fn what_came_before_the_break_is_still_given() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
            .await;
    })
    .await;
    let mut answer = client(settings()).send(&post(fake.url(), "{}")).await.unwrap();
    assert_eq!(within(answer.body.next()).await.unwrap().unwrap(), "abc");
    assert_eq!(within(answer.body.next()).await.unwrap().unwrap_err(), Error::Cut);
    assert!(within(answer.body.next()).await.is_none());
}

#[actix_web::test]
async fn a_connection_that_is_torn_down_says_so() {
    let fake = serve(|peer| async move {
        let mut io = peer.into_io();
        // What stays unread when a socket is closed makes the system reset the connection.
        io.read_u8().await.unwrap();
        io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            .await
            .unwrap();
        sleep(Duration::from_millis(100)).await;
    })
    .await;
    let error = ask(&client(settings()), fake.url()).await.unwrap_err();
    assert!(matches!(error, Error::Reset { .. }), "{error:?}");
}

#[actix_web::test]
async fn a_head_that_breaks_off_is_named() {
    assert_eq!(said(b"HTTP/1.1 200 OK\r\nx-a:").await.unwrap_err(), Error::CutHead);
    assert_eq!(
        said(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap_err(),
        Error::CutHead
    );
    assert_eq!(said(b"").await.unwrap_err(), Error::Closed { reused: false });
}

#[actix_web::test]
async fn an_answer_without_a_length_is_read_to_the_end_of_the_connection() {
    let whole: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\nall of it",
        b"HTTP/1.0 200 OK\r\n\r\nall of it",
        b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\nall of it",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nall of it",
    ];
    for bytes in whole {
        assert_eq!(said(bytes).await.unwrap(), (200, "all of it".into()));
    }
    assert_eq!(said(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap(), (200, String::new()));
}

#[actix_web::test]
async fn answers_without_a_body_end_at_once() {
    let fake = serve(|mut peer| async move {
        while peer.request().await.is_some() {
            let status = if peer.number == 0 { "204 No Content" } else { "200 OK" };
            peer.say(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"))
                .await;
        }
    })
    .await;
    let client = client(settings());
    assert_eq!(ask(&client, fake.url()).await.unwrap(), (204, String::new()));
    assert_eq!(ask(&client, fake.url()).await.unwrap(), (204, String::new()));
    assert_eq!(
        said(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap(),
        (204, String::new())
    );
}

#[actix_web::test]
async fn an_answer_that_only_recommends_another_protocol_keeps_its_length() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 4\r\n\r\nnope")
            .await;
        peer.closed().await;
    })
    .await;
    assert_eq!(
        ask(&client(settings()), fake.url()).await.unwrap(),
        (426, "nope".into())
    );
}

#[actix_web::test]
async fn redirects_are_named_and_not_followed() {
    for status in [301, 302, 307, 308] {
        let fake = serve(move |mut peer| async move {
            while peer.request().await.is_some() {
                peer.say(format!(
                    "HTTP/1.1 {status} Moved\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n"
                ))
                .await;
            }
        })
        .await;
        let error = ask(&client(settings()), fake.url()).await.unwrap_err();
        assert_eq!(error, Error::Redirect { status });
        assert!(error.to_string().contains(&status.to_string()));
        assert_eq!(fake.connections(), 1);
    }
}

#[actix_web::test]
async fn refusals_are_asked_for_exactly_once() {
    for status in [429, 500, 502, 503, 504, 529] {
        let asked = Rc::new(RefCell::new(0));
        let count = asked.clone();
        let fake = serve(move |mut peer| {
            let count = count.clone();
            async move {
                while peer.request().await.is_some() {
                    *count.borrow_mut() += 1;
                    peer.answer(status, "slow down").await;
                }
            }
        })
        .await;
        let client = client(settings());
        assert_eq!(ask(&client, fake.url()).await.unwrap(), (status, "slow down".into()));
        assert_eq!(ask(&client, fake.url()).await.unwrap(), (status, "slow down".into()));
        assert_eq!(*asked.borrow(), 2);
        assert_eq!(
            fake.connections(),
            1,
            "the connection after a {status} is as good as any"
        );
    }
}

#[actix_web::test]
async fn an_encoding_nobody_asked_for_is_refused_but_a_refusals_status_counts() {
    let error = said(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b")
        .await
        .unwrap_err();
    let encoding = |status| Error::Encoding {
        status,
        encoding: "gzip".into(),
    };
    assert_eq!(error, encoding(200));
    assert_eq!(
        said(b"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap(),
        (200, "ok".into())
    );

    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 429 Slow\r\ncontent-encoding: gzip\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\n\x1f ")
            .await;
    })
    .await;
    let answer = client(settings()).send(&post(fake.url(), "{}")).await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
    assert_eq!(text(answer).await.unwrap_err(), encoding(429));
}

#[actix_web::test]
async fn what_is_not_http_is_named_so() {
    let huge: &[u8] = Box::leak(
        format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "a".repeat(200 << 10))
            .into_bytes()
            .into_boxed_slice(),
    );
    let endless: &[u8] = &huge[..huge.len() - 4];
    let many: &[u8] = Box::leak(
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: 1\r\n".repeat(5000))
            .into_bytes()
            .into_boxed_slice(),
    );
    let strange: [&[u8]; 10] = [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"<html>hello</html>\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: banana\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nbanana\r\n",
        huge,
        endless,
        many,
    ];
    for bytes in strange {
        let error = said(bytes).await.unwrap_err();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        assert!(matches!(error, Error::NotHttp { .. }), "{error:?} for {shown}");
        assert!(
            error.to_string().starts_with("upstream did not answer in HTTP: "),
            "{error}"
        );
    }
}

#[actix_web::test]
async fn a_large_but_honest_head_passes() {
    let head: &[u8] = Box::leak(
        format!(
            "HTTP/1.1 200 OK\r\nx-a: {}\r\ncontent-length: 2\r\n\r\nok",
            "a".repeat(60 << 10)
        )
        .into_bytes()
        .into_boxed_slice(),
    );
    assert_eq!(said(head).await.unwrap(), (200, "ok".into()));
}

#[actix_web::test]
async fn a_whole_answer_is_bounded_however_it_comes() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
        let piece = vec![b'a'; 64 << 10];
        for _ in 0..256 {
            peer.say(&piece).await;
        }
        peer.closed().await;
    })
    .await;
    let answer = client(settings()).send(&post(fake.url(), "{}")).await.unwrap();
    let limit = 1 << 20;
    assert_eq!(
        within(answer.whole(limit)).await.unwrap_err(),
        Error::TooLarge { limit }
    );
}

#[actix_web::test]
async fn an_answer_to_a_request_that_was_not_read_to_its_end_is_still_read() {
    let fake = serve(|mut peer| async move {
        peer.answer(413, "too large").await;
        peer.closed().await;
    })
    .await;
    let mut request = post(fake.url(), "");
    request.body = Some(vec![b' '; 32 << 20].into());
    let answer = within(client(settings()).send(&request)).await.unwrap();
    assert_eq!(answer.status, 413);
    assert_eq!(text(answer).await.unwrap(), "too large");
}

#[actix_web::test]
async fn bytes_after_the_end_of_an_answer_end_the_connection() {
    let fake = serve(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
                .await;
        }
    })
    .await;
    let client = client(settings());
    for _ in 0..3 {
        assert_eq!(ask(&client, fake.url()).await.unwrap(), (200, "ok".into()));
    }
    assert_eq!(fake.connections(), 3);
}
