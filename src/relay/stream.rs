//! The way back of a streamed answer: upstream's bytes → frames → the client's frames, a heartbeat where upstream is
//! silent, and one honest ending. Knows no protocol: the translator does.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::watch;

use super::journal::Journal;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::{Decoder, Frame};
use crate::translate::Translator;
use crate::upstream;

/// How long a finished upstream stream may take to close, so that its connection can be used again.
const LINGER: Duration = Duration::from_secs(1);

/// What the client is to be sent next.
#[derive(Debug)]
pub enum Piece {
    Frames(Vec<Frame>),
    /// Nothing has been sent for a while. `begun` says whether a frame has ever been.
    Heartbeat { begun: bool },
}

/// One streamed answer on its way to the client. Dropping it drops the upstream call and the permit with it.
pub struct Flow {
    upstream: Option<upstream::copilot::Body>,
    decoder: Decoder,
    translator: Box<dyn Translator>,
    /// Translated, not yet taken.
    ready: Vec<Frame>,
    begun: bool,
    heartbeat: Duration,
    last_sent: Instant,
    /// Turns true when the server must cut its streams to shut down in time.
    closing: watch::Receiver<bool>,
    journal: Journal,
}

impl Flow {
    pub(super) fn new(
        upstream: upstream::copilot::Body,
        translator: Box<dyn Translator>,
        heartbeat: Duration,
        closing: watch::Receiver<bool>,
        journal: Journal,
    ) -> Self {
        Self {
            upstream: Some(upstream),
            decoder: Decoder::default(),
            translator,
            ready: Vec::new(),
            begun: false,
            heartbeat,
            last_sent: Instant::now(),
            closing,
            journal,
        }
    }

    /// A stream that is already complete: an answer that came whole, replayed, or a failure told as a stream.
    pub(super) fn replayed(frames: Vec<Frame>, translator: Box<dyn Translator>, closing: watch::Receiver<bool>, journal: Journal) -> Self {
        Self {
            upstream: None,
            decoder: Decoder::default(),
            translator,
            ready: frames,
            begun: false,
            heartbeat: Duration::MAX,
            last_sent: Instant::now(),
            closing,
            journal,
        }
    }

    /// Waits until there is something to send, but no longer than one heartbeat. A failure here has reached no client
    /// yet and can still be a plain HTTP error.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + self.heartbeat;
        while self.ready.is_empty() && self.upstream.is_some() {
            match tokio::time::timeout_at(deadline, self.read()).await {
                Ok(read) => {
                    if let Err(failure) = read {
                        self.journal.failed(&failure);
                        return Err(failure);
                    }
                }
                Err(_) => break,
            }
        }
        self.last_sent = Instant::now();
        Ok(())
    }

    /// The next piece, or `None` after the last.
    pub async fn next(&mut self) -> Option<Piece> {
        while self.ready.is_empty() {
            self.upstream.as_ref()?;
            let patience = self.heartbeat.saturating_sub(self.last_sent.elapsed());
            let mut closing = self.closing.clone();
            let step = tokio::select! {
                biased;
                read = self.read() => read,
                () = tokio::time::sleep(patience) => {
                    self.last_sent = Instant::now();
                    return Some(Piece::Heartbeat { begun: self.begun });
                }
                _ = closing.wait_for(|closing| *closing) => Err(Failure::new(Kind::Unavailable, "the proxy is shutting down")),
            };
            if let Err(failure) = step {
                self.say(&failure);
            }
        }
        self.begun = true;
        self.last_sent = Instant::now();
        self.journal.sent();
        Some(Piece::Frames(std::mem::take(&mut self.ready)))
    }

    /// Takes one read from upstream and translates what it completes.
    async fn read(&mut self) -> Result<(), Failure> {
        let Some(upstream) = &mut self.upstream else { return Ok(()) };
        let mut frames = Vec::new();
        let ended = match upstream.next().await {
            Some(Ok(bytes)) => {
                self.journal.heard_upstream();
                let fed = self.decoder.feed(bytes, &mut frames);
                fed.map_err(|error| Failure::new(Kind::Stream, error.to_string()))?;
                false
            }
            Some(Err(error)) => return Err(super::error::of_upstream(&error)),
            None => {
                self.decoder.finish(&mut frames);
                true
            }
        };
        for frame in frames {
            if !self.translator.is_over() {
                self.translator.feed(frame, &mut self.ready)?;
            }
        }
        if ended && !self.translator.is_over() {
            self.translator.end(&mut self.ready)?;
        }
        if ended || self.translator.is_over() {
            self.close(ended);
        }
        Ok(())
    }

    /// Tells the client of a failure in the middle of its stream; nothing follows.
    fn say(&mut self, failure: &Failure) {
        self.journal.failed(failure);
        self.translator.fail(failure, &mut self.ready);
        self.upstream = None;
        self.journal.ended(self.translator.heard());
    }

    /// The answer is complete. What upstream still has to close, it closes beside us.
    fn close(&mut self, ended: bool) {
        self.journal.ended(self.translator.heard());
        if let Some(mut rest) = self.upstream.take().filter(|_| !ended) {
            actix_rt::spawn(async move {
                let drain = async { while let Some(Ok(_)) = rest.next().await {} };
                let _ = tokio::time::timeout(LINGER, drain).await;
            });
        }
    }
}
