//! An answer as it comes over time: pieces in order, a writer for each protocol, pauses and accidents between events.
//! Knows no protocol and no request.

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::rt::time::sleep;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::mind::Answer;
use super::state::OpenStream;
use crate::protocol::sse::{Frame, KEEPALIVE};

/// The next thing that happens in an answer. Calls and deeds are named by their place.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Open,
    ReasoningOpen,
    Reasoning(String),
    ReasoningClose,
    /// What the service did by itself; only Responses has it.
    Deed(usize),
    TextOpen,
    Text(String),
    TextClose,
    CallOpen(usize),
    Call(usize, String),
    CallClose(usize),
    Close,
}

/// Writes pieces as one protocol's events.
pub trait Writer {
    fn write(&mut self, piece: Piece, out: &mut Vec<Frame>);

    /// The protocol's own event for a failure in the middle.
    fn fail(&mut self, out: &mut Vec<Frame>);
}

/// How the events are spaced, and what befalls them.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Before each event.
    pub delay: Duration,
    /// The connection breaks after this many events.
    pub cut_after: Option<usize>,
    /// After this many events, nothing for so long; then the rest.
    pub silence: Option<(usize, Duration)>,
    /// An error event takes the place of what follows this many events.
    pub error_after: Option<usize>,
    /// A comment line before each event.
    pub comments: bool,
    /// The stream ends neatly, but before its ending.
    pub no_end: bool,
    /// Only the last event is missing; writers see to it.
    pub no_done: bool,
}

/// The pieces of an answer, in order.
pub fn pieces(answer: &Answer) -> VecDeque<Piece> {
    let mut pieces = VecDeque::from([Piece::Open]);
    if let Some(reasoning) = &answer.reasoning {
        pieces.push_back(Piece::ReasoningOpen);
        pieces.extend(words(reasoning).into_iter().map(Piece::Reasoning));
        pieces.push_back(Piece::ReasoningClose);
    }
    pieces.extend((0..answer.deeds.len()).map(Piece::Deed));
    if !answer.text.is_empty() {
        pieces.push_back(Piece::TextOpen);
        pieces.extend(answer.text.iter().cloned().map(Piece::Text));
        pieces.push_back(Piece::TextClose);
    }
    for (at, call) in answer.calls.iter().enumerate() {
        pieces.push_back(Piece::CallOpen(at));
        let input = call.input_text();
        pieces.extend(slices(&input, 12).into_iter().map(|slice| Piece::Call(at, slice)));
        pieces.push_back(Piece::CallClose(at));
    }
    pieces.push_back(Piece::Close);
    pieces
}

/// The text cut after each word.
pub fn words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

/// The text cut into slices of so many characters.
fn slices(text: &str, size: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(size).map(|slice| slice.iter().collect()).collect()
}

/// One event of a running answer, or the accident that ends it.
pub enum Next {
    Frame(Frame),
    Comment,
    Broken,
}

/// An answer under way.
pub struct Playback {
    pieces: VecDeque<Piece>,
    writer: Box<dyn Writer>,
    pace: Pace,
    ready: VecDeque<Frame>,
    /// Events given out so far.
    sent: usize,
    commented: bool,
    broken: bool,
    _open: OpenStream,
}

impl Playback {
    pub fn new(answer: &Answer, writer: Box<dyn Writer>, pace: Pace, open: OpenStream) -> Self {
        Self {
            pieces: pieces(answer),
            writer,
            pace,
            ready: VecDeque::new(),
            sent: 0,
            commented: false,
            broken: false,
            _open: open,
        }
    }

    /// The next event, in its time.
    pub async fn next(&mut self) -> Option<Next> {
        if self.broken {
            return None;
        }
        if self.pace.cut_after.is_some_and(|after| self.sent >= after) {
            self.broken = true;
            // Lets what was said so far leave before the line breaks.
            tokio::task::yield_now().await;
            return Some(Next::Broken);
        }
        if self.pace.error_after.is_some_and(|after| self.sent >= after) {
            self.pace.error_after = None;
            self.pieces.clear();
            let mut out = Vec::new();
            self.writer.fail(&mut out);
            self.ready = out.into();
        }
        if self.pace.comments && !std::mem::replace(&mut self.commented, true) {
            return Some(Next::Comment);
        }
        // Pauses come before anything is taken, so that a caller may stop waiting and ask again.
        if let Some((after, silence)) = self.pace.silence
            && self.sent == after
        {
            sleep(silence).await;
        }
        if !self.pace.delay.is_zero() {
            sleep(self.pace.delay).await;
        }
        self.commented = false;
        self.sent += 1;
        self.frame().map(Next::Frame)
    }

    fn frame(&mut self) -> Option<Frame> {
        let mut out = Vec::new();
        while self.ready.is_empty() {
            let piece = self.pieces.pop_front()?;
            if piece == Piece::Close && self.pace.no_end {
                continue;
            }
            self.writer.write(piece, &mut out);
            self.ready.extend(out.drain(..));
        }
        self.ready.pop_front()
    }

    /// The answer as the body of an event stream, each event a chunk of its own.
    pub fn into_body(self) -> impl Stream<Item = std::io::Result<Bytes>> {
        futures_util::stream::unfold(self, |mut playback| async move {
            let chunk = match playback.next().await? {
                Next::Frame(frame) => {
                    let mut bytes = BytesMut::new();
                    frame.write(&mut bytes);
                    Ok(bytes.freeze())
                }
                Next::Comment => Ok(Bytes::from_static(KEEPALIVE)),
                Next::Broken => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            };
            Some((chunk, playback))
        })
    }
}
