//! The way back of a streamed answer: upstream's bytes → frames → the client's frames, a heartbeat where upstream is
//! silent, and one honest ending. Knows no protocol: the translator does.
//!
//! Only an event is a sign of life, whole or in part: comments without end keep no stream open, nor do they keep the
//! client from its heartbeats.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::archive::Keeper;
use super::error::of_upstream;
use super::journal::Journal;
use crate::protocol::Dialect;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::json::{self, MOST_VALUES};
use crate::protocol::sse::{Decoder, Frame, MAX_FRAME, TooLong};
use crate::translate::{Heard, Translator, fold};
use crate::upstream;

/// How long a finished upstream stream may take to close, so that its connection can be used again.
const LINGER: Duration = Duration::from_secs(1);

/// How long an answer whose ending is known waits for what may come after it.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// When upstream told how the answer ends.
    told: Option<Instant>,
    closing: watch::Receiver<bool>,
    journal: Option<Journal>,
    keeper: Option<Keeper>,
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
            told: None,
            closing,
            journal: None,
            keeper: None,
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

    /// Has this keeper look for the end of the response.
    pub(super) fn watched_by(self, keeper: Keeper) -> Self {
        Self {
            keeper: Some(keeper),
            ..self
        }
    }

    /// Waits until there is something to send, but no longer than one heartbeat. A failure here has reached no client
    /// yet and can still be a plain HTTP error.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let deadline = start + self.heartbeat;
        while self.ready.is_empty() && self.upstream.is_some() && Instant::now() < deadline {
            match tokio::time::timeout_at(deadline, self.read()).await {
                Ok(read) if self.ready.is_empty() => read?,
                Ok(read) => self.failed = read.err(),
                Err(_) => break,
            }
        }
        // A client that has waited so long gets a sign of life with the head.
        let silent = self.ready.is_empty() && self.failed.is_none() && self.upstream.is_some();
        self.last_sent = if silent { start } else { Instant::now() };
        Ok(())
    }

    /// The next piece, or `None` after the last.
    pub async fn next(&mut self) -> Option<Piece> {
        while self.ready.is_empty() {
            let step = match self.failed.take() {
                Some(failure) => Err(failure),
                None if self.upstream.is_none() => return None,
                // An upstream that never pauses leaves no other moment to hear of it.
                None if *self.closing.borrow() => Err(shutting_down()),
                None => {
                    let patience = self.heartbeat.saturating_sub(self.last_sent.elapsed());
                    let told = self.told.map(|told| PATIENCE.saturating_sub(told.elapsed()));
                    let mut closing = self.closing.clone();
                    tokio::select! {
                        biased;
                        read = self.read() => read,
                        () = tokio::time::sleep(told.unwrap_or_default()), if told.is_some() => self.end(),
                        () = tokio::time::sleep(patience) => Ok(()),
                        () = cut(&mut closing) => Err(shutting_down()),
                    }
                }
            };
            match step {
                Err(failure) if self.ready.is_empty() => self.say(&failure),
                step => self.failed = step.err(),
            }
            let waits = self.ready.is_empty() && self.failed.is_none() && self.upstream.is_some();
            if waits && self.last_sent.elapsed() >= self.heartbeat {
                self.last_sent = Instant::now();
                return Some(Piece::Heartbeat { begun: self.begun });
            }
        }
        self.begun = true;
        self.last_sent = Instant::now();
        if let Some(journal) = &mut self.journal {
            journal.sent();
        }
        if let Some(keeper) = &self.keeper {
            keeper.see(&self.ready);
        }
        Some(Piece::Frames(std::mem::take(&mut self.ready)))
    }

    /// What was heard so far.
    pub(super) fn heard(&self) -> Heard {
        self.translator
            .as_ref()
            .map(|translator| translator.heard().clone())
            .unwrap_or_default()
    }

    /// Gathers the whole answer, of at most `limit` bytes, for a client that asked for no stream.
    pub(super) async fn gather(mut self, client: impl Into<Dialect>, limit: usize) -> Result<(Value, Heard), Failure> {
        let mut whole = fold::gather(client);
        let (mut length, mut share) = (0, upstream::ANSWERS.share());
        let mut closing = self.closing.clone();
        loop {
            for frame in self.ready.drain(..) {
                length += frame.data.len();
                whole.feed(&frame)?;
            }
            if length > limit {
                return Err(of_upstream(&upstream::Error::TooLarge { limit }));
            }
            if !share.holds(length) {
                return Err(of_upstream(&upstream::Error::Crowded));
            }
            if let Some(failure) = self.failed.take() {
                return Err(failure);
            }
            if self.upstream.is_none() {
                break;
            }
            tokio::select! {
                biased;
                () = cut(&mut closing) => return Err(shutting_down()),
                read = self.read() => read?,
            }
        }
        let heard = self.heard();
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
            Some(Err(error)) => self.end().map_err(|_| of_upstream(&error)),
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
        let lives = self.frames.iter().any(says_something) || self.decoder.is_within_event();
        if !lives && let Some(upstream) = &mut self.upstream {
            upstream.disregard().map_err(|silent| of_upstream(&silent))?;
        }
        self.translate()?;
        decoded.map_err(|_| too_long())
    }

    /// Upstream has closed its stream.
    fn end(&mut self) -> Result<(), Failure> {
        if let Some(body) = self.unframed.take() {
            let whole = json::object(&body).map_err(|_| Failure::truncated())?;
            if let Some(translator) = &mut self.translator {
                translator.whole(whole.into(), &mut self.ready)?;
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
            if !json::fits(&frame.data, MOST_VALUES) {
                return Err(Failure::new(Kind::Stream, "upstream sent an event of countless pieces"));
            }
            translator.feed(frame, &mut self.ready)?;
        }
        if self.told.is_none() && translator.is_told() {
            self.told = Some(Instant::now());
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

fn says_something(frame: &Frame) -> bool {
    !frame.data.trim_ascii().is_empty()
}

fn shutting_down() -> Failure {
    Failure::new(Kind::Unavailable, "the proxy is shutting down")
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
pub(crate) mod tests;
