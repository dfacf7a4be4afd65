//! The way back of a streamed answer: upstream's bytes → frames → the client's frames, a heartbeat where upstream is
//! silent, and one honest ending. Knows no protocol: the translator does.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::watch;

use super::journal::Journal;
use crate::protocol::Protocol;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::{Decoder, Frame, MAX_FRAME, TooLong};
use crate::translate::{Heard, Translator, fold};
use crate::upstream;

/// How long a finished upstream stream may take to close, so that its connection can be used again.
const LINGER: Duration = Duration::from_secs(1);

/// What the client is to be sent next.
#[derive(Debug)]
pub enum Piece {
    Frames(Vec<Frame>),
    /// Nothing has been sent for a while. `begun` says whether a frame has ever been.
    Heartbeat {
        begun: bool,
    },
}

/// One streamed answer on its way to the client. Dropping it drops the upstream call and the permit with it.
pub struct Flow {
    upstream: Option<upstream::Body>,
    decoder: Decoder,
    /// The body so far, where it is a JSON object after all and no stream of events, whatever its type says.
    unframed: Option<BytesMut>,
    /// A byte has come.
    heard: bool,
    /// `None` for a stream of ours that is already complete.
    translator: Option<Box<dyn Translator>>,
    /// Decoded, not yet translated; kept for its memory.
    frames: Vec<Frame>,
    /// Translated, not yet taken.
    ready: Vec<Frame>,
    /// A failure that came behind frames that are still to be sent.
    failed: Option<Failure>,
    begun: bool,
    heartbeat: Duration,
    last_sent: Instant,
    closing: watch::Receiver<bool>,
    journal: Option<Journal>,
}

impl Flow {
    pub(super) fn new(
        upstream: upstream::Body,
        translator: Box<dyn Translator>,
        heartbeat: Duration,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            upstream: Some(upstream),
            translator: Some(translator),
            heartbeat,
            ..Self::told(Vec::new(), closing)
        }
    }

    /// The stream of an answer that came whole.
    pub(super) fn replayed(
        frames: Vec<Frame>,
        translator: Box<dyn Translator>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            translator: Some(translator),
            ..Self::told(frames, closing)
        }
    }

    /// A stream of our own words.
    pub(super) fn told(frames: Vec<Frame>, closing: watch::Receiver<bool>) -> Self {
        Self {
            upstream: None,
            decoder: Decoder::default(),
            unframed: None,
            heard: false,
            translator: None,
            frames: Vec::new(),
            ready: frames,
            failed: None,
            begun: false,
            heartbeat: Duration::MAX,
            last_sent: Instant::now(),
            closing,
            journal: None,
        }
    }

    /// Writes down in this journal how the stream goes and ends.
    pub(super) fn kept_in(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        if self.upstream.is_none() {
            self.write_down();
        }
        self
    }

    /// Waits until there is something to send, but no longer than one heartbeat. A failure here has reached no client
    /// yet and can still be a plain HTTP error.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + self.heartbeat;
        while self.ready.is_empty() && self.upstream.is_some() {
            match tokio::time::timeout_at(deadline, self.read()).await {
                Ok(read) if self.ready.is_empty() => read?,
                Ok(read) => self.failed = read.err(),
                Err(_) => break,
            }
        }
        self.last_sent = Instant::now();
        Ok(())
    }

    /// The next piece, or `None` after the last.
    pub async fn next(&mut self) -> Option<Piece> {
        while self.ready.is_empty() {
            let step = match self.failed.take() {
                Some(failure) => Err(failure),
                None if self.upstream.is_none() => return None,
                None => {
                    let patience = self.heartbeat.saturating_sub(self.last_sent.elapsed());
                    let mut closing = self.closing.clone();
                    tokio::select! {
                        biased;
                        read = self.read() => read,
                        () = tokio::time::sleep(patience) => {
                            self.last_sent = Instant::now();
                            return Some(Piece::Heartbeat { begun: self.begun });
                        }
                        () = cut(&mut closing) => Err(Failure::new(Kind::Unavailable, "the proxy is shutting down")),
                    }
                }
            };
            match step {
                Err(failure) if self.ready.is_empty() => self.say(&failure),
                step => self.failed = step.err(),
            }
        }
        self.begun = true;
        self.last_sent = Instant::now();
        if let Some(journal) = &mut self.journal {
            journal.sent();
        }
        Some(Piece::Frames(std::mem::take(&mut self.ready)))
    }

    /// Gathers the whole answer for a client that asked for no stream.
    pub(super) async fn gather(mut self, client: Protocol) -> Result<(Value, Heard), Failure> {
        let mut whole = fold::gather(client);
        let mut closing = self.closing.clone();
        loop {
            for frame in self.ready.drain(..) {
                whole.feed(&frame)?;
            }
            if let Some(failure) = self.failed.take() {
                return Err(failure);
            }
            if self.upstream.is_none() {
                break;
            }
            tokio::select! {
                biased;
                read = self.read() => read?,
                () = cut(&mut closing) => return Err(Failure::new(Kind::Unavailable, "the proxy is shutting down")),
            }
        }
        let heard = self
            .translator
            .as_ref()
            .map(|translator| translator.heard().clone())
            .unwrap_or_default();
        Ok((whole.finish()?, heard))
    }

    /// Takes one read from upstream and translates what it completes.
    async fn read(&mut self) -> Result<(), Failure> {
        let Some(upstream) = &mut self.upstream else {
            return Ok(());
        };
        match upstream.next().await {
            Some(Ok(bytes)) => self.take(bytes),
            // A turn that was already told its ending has lost nothing.
            Some(Err(error)) => self.end().map_err(|_| super::error::of_upstream(&error)),
            None => self.end(),
        }
    }

    fn take(&mut self, bytes: Bytes) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.heard, true) && bytes.trim_ascii_start().starts_with(b"{") {
            self.unframed = Some(BytesMut::new());
        }
        if let Some(body) = &mut self.unframed {
            body.extend_from_slice(&bytes);
            return if body.len() > MAX_FRAME {
                Err(too_long())
            } else {
                Ok(())
            };
        }
        let decoded = self.decoder.feed(bytes, &mut self.frames);
        self.translate()?;
        decoded.map_err(|_| too_long())
    }

    /// Upstream has closed its stream.
    fn end(&mut self) -> Result<(), Failure> {
        if let Some(body) = self.unframed.take() {
            let whole = serde_json::from_slice(&body).map_err(|_| Failure::truncated())?;
            if let Some(translator) = &mut self.translator {
                translator.whole(whole, &mut self.ready)?;
            }
        } else {
            self.decoder.finish(&mut self.frames);
            // The last event may lack its end, and then it is no event.
            self.frames.retain(|frame| frame.is_done() || is_json(&frame.data));
            self.translate()?;
        }
        if let Some(translator) = self.translator.as_mut().filter(|translator| !translator.is_over()) {
            translator.end(&mut self.ready)?;
        }
        self.close(true);
        Ok(())
    }

    /// Hands what is decoded to the translator; after the client's ending nothing matters any more.
    fn translate(&mut self) -> Result<(), Failure> {
        let Some(translator) = &mut self.translator else {
            return Ok(());
        };
        for frame in self.frames.drain(..) {
            if translator.is_over() {
                break;
            }
            if std::str::from_utf8(&frame.data).is_err() {
                return Err(Failure::new(Kind::Stream, "upstream sent an event that is not UTF-8"));
            }
            translator.feed(frame, &mut self.ready)?;
        }
        if translator.is_over() && self.upstream.is_some() {
            self.close(false);
        }
        Ok(())
    }

    /// Tells the client of a failure in the middle of its stream; nothing follows.
    fn say(&mut self, failure: &Failure) {
        if let Some(translator) = &mut self.translator {
            translator.fail(failure, &mut self.ready);
        }
        if let Some(journal) = &mut self.journal {
            journal.failed(failure);
        }
        self.upstream = None;
        self.write_down();
    }

    /// The answer is complete. What upstream still has to close, it closes beside us.
    fn close(&mut self, ended: bool) {
        let Some(mut rest) = self.upstream.take() else { return };
        self.write_down();
        if !ended {
            actix_rt::spawn(async move {
                let drain = async { while let Some(Ok(_)) = rest.next().await {} };
                let _ = tokio::time::timeout(LINGER, drain).await;
            });
        }
    }

    fn write_down(&mut self) {
        if let (Some(journal), Some(translator)) = (&mut self.journal, &self.translator) {
            journal.ended(translator.heard());
        }
    }
}

fn is_json(data: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
}

fn too_long() -> Failure {
    Failure::new(Kind::Stream, TooLong.to_string())
}

/// Waits until streams must be cut; for ever where nobody can say so any more.
async fn cut(closing: &mut watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use futures_util::stream;

    use super::*;
    use crate::actors::Actors;
    use crate::actors::rate_limiter::Permit;
    use crate::relay::{Call, Client};
    use crate::translate::ids::Ids;
    use crate::translate::{Object, Reply, pairs};

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
        let call = Call {
            client: Client {
                protocol: Protocol::Chat,
                request_id: "req_1".into(),
                agent: String::new(),
                originator: None,
                betas: Vec::new(),
                session: None,
                says_user: false,
            },
            body: Object::new(),
            bytes: 0,
        };
        let mut journal = Journal::open(actors, &call);
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
}
