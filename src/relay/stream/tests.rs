use futures_util::stream;

use super::*;
use crate::actors::Actors;
use crate::actors::rate_limiter::Permit;
use crate::protocol::Protocol;
use crate::relay::{Call, Client};
use crate::translate::ids::Ids;
use crate::translate::{Object, Reply, pairs};

const SECOND: Duration = Duration::from_secs(1);

/// A stream to a chat client whose upstream says this, and then that again and again, one second after the other.
fn flow(first: &'static str, ever: &'static str, closing: watch::Receiver<bool>) -> Flow {
    let pieces = stream::unfold(first, move |text| async move {
        tokio::time::sleep(SECOND).await;
        Some((Ok(Bytes::from_static(text.as_bytes())), ever))
    });
    let translator = pairs::translator(Protocol::Chat, Protocol::Chat, Reply::default(), Ids::new("r", 0));
    Flow::new(
        upstream::Body::new(pieces, SECOND * 30),
        translator,
        SECOND * 5,
        closing,
    )
}

const WORD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";

#[actix_web::test]
async fn comments_and_empty_events_are_silence() {
    tokio::time::pause();
    for nothing in [": still here\n\n", "data:\n\n", "data:  \n\n: x\n", "event: x\n\n"] {
        let (_open, closing) = watch::channel(false);
        let mut flow = flow(WORD, nothing, closing);
        flow.begin().await.unwrap();
        assert!(matches!(flow.next().await, Some(Piece::Frames(_))));
        let start = Instant::now();
        for heartbeats in 1..6 {
            assert!(matches!(flow.next().await, Some(Piece::Heartbeat { begun: true })));
            assert_eq!(start.elapsed().as_secs(), 5 * heartbeats);
        }
        let Some(Piece::Frames(last)) = flow.next().await else {
            panic!("{nothing:?} goes on for ever");
        };
        assert_eq!(start.elapsed().as_secs(), 30);
        assert!(String::from_utf8_lossy(&last[0].data).contains("fell silent for 30 s"));
        assert!(flow.next().await.is_none());
    }
}

#[actix_web::test]
async fn the_first_sign_of_life_comes_with_the_head() {
    tokio::time::pause();
    let start = Instant::now();
    let (_open, closing) = watch::channel(false);
    let mut flow = flow(": not yet\n\n", ": nor now\n\n", closing);
    flow.begin().await.unwrap();
    for seconds in [5, 10, 15] {
        assert!(matches!(flow.next().await, Some(Piece::Heartbeat { begun: false })));
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

#[actix_web::test]
async fn events_are_no_silence_nor_is_an_event_that_grows() {
    tokio::time::pause();
    let (_open, closing) = watch::channel(false);
    let mut words = flow(WORD, WORD, closing.clone());
    words.begin().await.unwrap();
    for _ in 0..100 {
        assert!(matches!(words.next().await, Some(Piece::Frames(_))));
    }
    let mut growing = flow("data: {", " ", closing);
    growing.begin().await.unwrap();
    for _ in 0..20 {
        assert!(matches!(growing.next().await, Some(Piece::Heartbeat { begun: false })));
    }
}

#[actix_web::test]
async fn an_answer_without_end_is_not_gathered_for_ever() {
    tokio::time::pause();
    let (_open, closing) = watch::channel(false);
    let gathered = flow(WORD, WORD, closing).gather(Protocol::Chat, 10_000).await;
    assert_eq!(gathered.unwrap_err().kind, Kind::UpstreamGarbage);
}

#[actix_web::test]
async fn an_upstream_that_never_pauses_keeps_nobody_waiting() {
    let comments = stream::repeat_with(|| Ok(Bytes::from_static(b": x\n")));
    let translator = pairs::translator(Protocol::Chat, Protocol::Chat, Reply::default(), Ids::new("r", 0));
    let (close, closing) = watch::channel(false);
    let heartbeat = Duration::from_millis(10);
    let body = upstream::Body::new(comments, SECOND * 30);
    let mut flow = Flow::new(body, translator, heartbeat, closing);
    flow.begin().await.unwrap();
    for _ in 0..3 {
        assert!(matches!(flow.next().await, Some(Piece::Heartbeat { begun: false })));
    }
    close.send(true).unwrap();
    assert!(matches!(flow.next().await, Some(Piece::Frames(_))));
    assert!(flow.next().await.is_none());
}

/// The count of tokens may come after the ending, but nobody waits for it for ever.
#[actix_rt::test]
async fn an_answer_whose_ending_is_told_waits_only_so_long_for_its_usage() {
    let chunk = "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n";
    let pieces = stream::iter([Ok(Bytes::from(chunk))]).chain(stream::pending());
    let long = Duration::from_secs(60);
    let translator = pairs::translator(
        Protocol::Messages,
        Protocol::Chat,
        Reply::default(),
        Ids::new("req_1", 0),
    );
    let (_open, closing) = watch::channel(false);
    let mut flow = Flow::new(upstream::Body::new(pieces, long), translator, long, closing);
    flow.begin().await.unwrap();
    assert!(matches!(flow.next().await, Some(Piece::Frames(_))));
    flow.told = flow.told.and_then(|told| told.checked_sub(PATIENCE));
    let Some(Piece::Frames(frames)) = flow.next().await else {
        panic!("no ending");
    };
    assert_eq!(frames.last().unwrap().name.as_deref(), Some(&b"message_stop"[..]));
    assert!(flow.next().await.is_none());
}

/// Passes on what upstream says, except its ending.
struct Bug(Heard);

impl Translator for Bug {
    fn feed(&mut self, frame: Frame, out: &mut Vec<Frame>) -> Result<(), Failure> {
        assert!(!frame.is_done(), "this is the bug");
        out.push(frame);
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<Frame>) -> Result<(), Failure> {
        Ok(())
    }

    fn whole(&mut self, _: Value, _: &mut Vec<Frame>) -> Result<(), Failure> {
        Ok(())
    }

    fn answer(&mut self, answer: Value) -> Result<Value, Failure> {
        Ok(answer)
    }

    fn fail(&mut self, _: &Failure, _: &mut Vec<Frame>) {}

    fn is_over(&self) -> bool {
        false
    }

    fn heard(&self) -> &Heard {
        &self.0
    }
}

/// An answer that begins, and then, when it is time, meets a bug of ours.
pub fn with_a_bug(actors: Actors, permit: Permit, time: impl Future<Output = ()> + 'static) -> Flow {
    let client = Client {
        dialect: Protocol::Chat.into(),
        protocol: Protocol::Chat,
        request_id: "req_1".into(),
        agent: String::new(),
        originator: None,
        betas: Vec::new(),
        session: None,
        says_user: false,
    };
    let mut journal = Journal::open(actors, &Call::of(client, Object::new()).asked());
    journal.admitted(permit);
    let said = stream::once(async { Ok(Bytes::from("data: {}\n\n")) }).chain(stream::once(async {
        time.await;
        Ok(Bytes::from("data: [DONE]\n\n"))
    }));
    let upstream = upstream::Body::new(said, Duration::from_secs(5));
    let closing = watch::channel(false).1;
    Flow::new(
        upstream,
        Box::new(Bug(Heard::default())),
        Duration::from_secs(5),
        closing,
    )
    .kept_in(journal)
}

/// All that a client is sent of an upstream's answer that comes in these pieces.
async fn sent(client: Protocol, way: Protocol, pieces: Vec<Bytes>) -> Vec<Frame> {
    let said = stream::iter(pieces.into_iter().map(Ok));
    let upstream = upstream::Body::new(said, Duration::from_secs(5));
    let translator = pairs::translator(client, way, Reply::default(), Ids::new("req_1", 1));
    let mut flow = Flow::new(upstream, translator, Duration::from_secs(5), watch::channel(false).1);
    flow.begin().await.unwrap();
    let mut sent = Vec::new();
    while let Some(piece) = flow.next().await {
        match piece {
            Piece::Frames(frames) => sent.extend(frames),
            Piece::Heartbeat { .. } => panic!("a heartbeat in time"),
        }
    }
    sent
}

#[actix_web::test]
async fn k166_reads_that_end_anywhere_are_the_same_answer() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/streams");
    for way in Protocol::ALL {
        let text = std::fs::read_to_string(folder.join(way.name()).join("text.sse")).unwrap();
        // The beginning has all that matters here: its first byte, its lines' ends, the first events.
        let bytes = Bytes::from(text.replace('\n', "\r\n"));
        for client in Protocol::ALL {
            let whole = sent(client, way, vec![bytes.clone()]).await;
            assert!(whole.len() > 3, "{whole:?}");
            for cut in 0..=bytes.len().min(600) {
                let halves = vec![bytes.slice(..cut), bytes.slice(cut..)];
                let pair = format!("{} to {}, cut at {cut}", way.name(), client.name());
                assert_eq!(sent(client, way, halves).await, whole, "{pair}");
            }
        }
    }
}

#[actix_web::test]
async fn k085_an_answer_that_fails_lets_go_of_upstream_at_once() {
    let open = std::rc::Rc::new(());
    let held = open.clone();
    let said = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"error\":{\"message\":\"no\"}}\n\n",
    ];
    let said = stream::iter(said.map(|piece| Ok(Bytes::from(piece)))).chain(stream::pending());
    let said = said.inspect(move |_| drop(held.clone()));
    let translator = pairs::translator(
        Protocol::Messages,
        Protocol::Chat,
        Reply::default(),
        Ids::new("req_1", 1),
    );
    let patience = Duration::from_secs(5);
    let mut flow = Flow::new(
        upstream::Body::new(said, patience),
        translator,
        patience,
        watch::channel(false).1,
    );
    flow.begin().await.unwrap();
    let mut last = None;
    while let Some(Piece::Frames(frames)) = flow.next().await {
        last = frames.last().cloned();
    }
    assert_eq!(last.and_then(|last| last.name), Some(Bytes::from("error")));
    assert_eq!(std::rc::Rc::strong_count(&open), 1, "upstream goes on");
}
