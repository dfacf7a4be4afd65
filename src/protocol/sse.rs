//! Server-sent events: bytes ⇄ frames, a piece at a time. Knows no JSON.
//!
//! A [`Decoder`] takes the bytes as they arrive, cut anywhere, and yields whole [`Frame`]s. Frames are slices of
//! the bytes read: a frame that is passed on costs one copy, the one into the next write.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest frame that is waited for; beyond it the stream is refused.
pub const MAX_FRAME: usize = 16 << 20;

/// One event: an optional name and its data, several `data:` lines joined by `\n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// What stood after `event:`, if anything did.
    pub name: Option<Bytes>,
    pub data: Bytes,
}

impl Frame {
    /// A frame without a name, as Chat Completions sends them.
    pub fn data(data: impl Into<Bytes>) -> Self {
        Self {
            name: None,
            data: data.into(),
        }
    }

    /// A named frame, as Messages and Responses send them.
    pub fn named(name: &'static str, data: impl Into<Bytes>) -> Self {
        Self {
            name: Some(Bytes::from_static(name.as_bytes())),
            data: data.into(),
        }
    }

    /// Whether this is `data: [DONE]`.
    pub fn is_done(&self) -> bool {
        self.data.trim_ascii() == b"[DONE]"
    }

    /// Appends the frame as it travels.
    pub fn write(&self, out: &mut BytesMut) {
        let name = self.name.as_deref().unwrap_or_default();
        out.reserve(name.len() + self.data.len() + 18);
        if self.name.is_some() {
            out.put_slice(b"event: ");
            out.put_slice(name);
            out.put_u8(b'\n');
        }
        let mut rest: &[u8] = &self.data;
        loop {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            out.put_slice(b"data: ");
            out.put_slice(&rest[..end]);
            out.put_u8(b'\n');
            if end == rest.len() {
                break;
            }
            rest = &rest[end + 1..];
        }
        out.put_u8(b'\n');
    }
}

/// A comment line: keeps the connection warm, means nothing.
pub const KEEPALIVE: &[u8] = b": keepalive\n\n";

/// A frame grew beyond [`MAX_FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than 16 MiB")]
pub struct TooLong;

/// Turns bytes into frames.
///
/// Accepts `\n`, `\r\n` and `\r`, a leading byte order mark, comments, `id:` and `retry:` (both ignored) and, at
/// [`Decoder::finish`], a last frame without its blank line.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What has arrived of the frame under way.
    pending: BytesMut,
    /// Where the line under way begins in `pending`.
    line: usize,
    /// How far that line has been searched for its end.
    scanned: usize,
    /// The last line ended with `\r`: a `\n` that follows belongs to it.
    after_cr: bool,
    /// The byte order mark, if any, is behind us.
    begun: bool,
    name: Option<Range<usize>>,
    data: Option<Range<usize>>,
    /// Data of a frame with several `data:` lines.
    joined: Option<BytesMut>,
}

impl Decoder {
    /// Takes a piece of the stream and appends the frames it completes to `out`.
    pub fn feed(&mut self, piece: Bytes, out: &mut Vec<Frame>) -> Result<(), TooLong> {
        if self.pending.is_empty() {
            self.pending = BytesMut::from(piece);
        } else {
            self.pending.extend_from_slice(&piece);
        }
        if !self.begun && !self.skip_mark() {
            return Ok(());
        }
        while let Some((line, next)) = self.next_line() {
            self.take_line(line, next, out);
        }
        if self.pending.len() > MAX_FRAME {
            return Err(TooLong);
        }
        Ok(())
    }

    /// Ends the stream: a frame that lacks only its blank line still counts.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        if self.pending.len() > self.line {
            let line = self.line..self.pending.len();
            self.field(line);
        }
        let end = self.pending.len();
        self.complete(end, out);
    }

    /// Whether some of an event's data has come, and not yet its end.
    pub fn is_within_event(&self) -> bool {
        let begun = self.data.is_some() || self.joined.is_some();
        begun
            || self
                .pending
                .get(self.line..)
                .is_some_and(|line| line.starts_with(b"data"))
    }

    /// Drops a byte order mark; false while too little has come to tell.
    fn skip_mark(&mut self) -> bool {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        if self.pending.len() < MARK.len() && MARK.starts_with(&self.pending) {
            return false;
        }
        if self.pending.starts_with(MARK) {
            self.pending.advance(MARK.len());
        }
        self.begun = true;
        true
    }

    /// The next whole line and where the one after it begins.
    fn next_line(&mut self) -> Option<(Range<usize>, usize)> {
        if self.after_cr && self.line < self.pending.len() {
            self.after_cr = false;
            if self.pending[self.line] == b'\n' {
                self.line += 1;
                self.scanned = self.scanned.max(self.line);
            }
        }
        let from = self.scanned.max(self.line);
        let Some(at) = memchr::memchr2(b'\n', b'\r', &self.pending[from..]) else {
            self.scanned = self.pending.len();
            return None;
        };
        let end = from + at;
        self.after_cr = self.pending[end] == b'\r';
        Some((self.line..end, end + 1))
    }

    fn take_line(&mut self, line: Range<usize>, next: usize, out: &mut Vec<Frame>) {
        if line.is_empty() {
            self.complete(next, out);
        } else {
            self.field(line);
            self.line = next;
            self.scanned = next;
        }
    }

    /// Reads `field: value`; unknown fields and comments mean nothing here.
    fn field(&mut self, line: Range<usize>) {
        let text = &self.pending[line.clone()];
        let colon = memchr::memchr(b':', text).unwrap_or(text.len());
        let mut value = (line.start + colon + 1).min(line.end)..line.end;
        if self.pending[value.clone()].first() == Some(&b' ') {
            value.start += 1;
        }
        match &self.pending[line.start..line.start + colon] {
            b"event" => self.name = Some(value),
            b"data" => self.add_data(value),
            _ => {}
        }
    }

    fn add_data(&mut self, value: Range<usize>) {
        match (&mut self.joined, self.data.take()) {
            (None, None) => self.data = Some(value),
            (joined, first) => {
                let joined = joined.get_or_insert_default();
                if let Some(first) = first {
                    joined.extend_from_slice(&self.pending[first]);
                }
                joined.put_u8(b'\n');
                joined.extend_from_slice(&self.pending[value]);
            }
        }
    }

    /// A blank line: what was gathered becomes a frame, if it had data.
    fn complete(&mut self, next: usize, out: &mut Vec<Frame>) {
        let frame = self.pending.split_to(next).freeze();
        let name = self.name.take().map(|range| frame.slice(range));
        let data = match self.joined.take() {
            Some(joined) => Some(joined.freeze()),
            None => self.data.take().map(|range| frame.slice(range)),
        };
        self.line = 0;
        self.scanned = 0;
        if let Some(data) = data {
            out.push(Frame { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<Frame> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(Bytes::copy_from_slice(piece), &mut out).unwrap();
        }
        decoder.finish(&mut out);
        out
    }

    fn frame(name: Option<&'static str>, data: &'static str) -> Frame {
        Frame {
            name: name.map(|name| Bytes::from_static(name.as_bytes())),
            data: Bytes::from_static(data.as_bytes()),
        }
    }

    #[test]
    fn a_frame_has_a_name_and_data() {
        assert_eq!(decode(&[b"event: ping\ndata: {}\n\n"]), [frame(Some("ping"), "{}")]);
    }

    #[test]
    fn every_line_ending_counts() {
        for text in [
            "data: a\n\ndata: b\n\n",
            "data: a\r\n\r\ndata: b\r\n\r\n",
            "data: a\r\rdata: b\r\r",
        ] {
            assert_eq!(
                decode(&[text.as_bytes()]),
                [frame(None, "a"), frame(None, "b")],
                "{text:?}"
            );
        }
    }

    #[test]
    fn data_lines_join_and_one_space_goes() {
        assert_eq!(decode(&[b"data:a\ndata:  b\ndata\n\n"]), [frame(None, "a\n b\n")]);
    }

    #[test]
    fn comments_ids_and_frames_without_data_are_nothing() {
        assert_eq!(
            decode(&[b": hi\n\nid: 1\nretry: 2\n\nevent: x\n\ndata: y\n\n"]),
            [frame(None, "y")]
        );
    }

    #[test]
    fn only_data_begins_an_event() {
        for (text, within) in [
            ("", false),
            (": x", false),
            (": x\n: y", false),
            ("event: x\n", false),
            ("data", true),
            ("data: x", true),
            ("data: x\n: y\n", true),
            ("data: x\n\n", false),
            ("data: x\n\n: y", false),
        ] {
            let mut decoder = Decoder::default();
            decoder
                .feed(Bytes::from_static(text.as_bytes()), &mut Vec::new())
                .unwrap();
            assert_eq!(decoder.is_within_event(), within, "{text:?}");
        }
    }

    #[test]
    fn the_last_frame_may_lack_its_blank_line() {
        assert_eq!(decode(&[b"data: a\n\ndata: b"]), [frame(None, "a"), frame(None, "b")]);
    }

    /// K166 at this floor: any cut gives the same frames.
    #[test]
    fn any_cut_gives_the_same_frames() {
        let text = "\u{feff}: c\r\nevent: e\r\ndata: grün\r\ndata: 2\r\n\r\ndata: [DONE]\r\rdata: tail".as_bytes();
        let whole = decode(&[text]);
        assert_eq!(whole.len(), 3);
        for at in 0..=text.len() {
            assert_eq!(decode(&[&text[..at], &text[at..]]), whole, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(decode(&bytes), whole);
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let fed = (0..17).try_for_each(|_| decoder.feed(piece.clone(), &mut out));
        assert_eq!(fed, Err(TooLong));
    }

    #[test]
    fn what_is_written_reads_back() {
        for frame in [frame(Some("a"), "{}"), frame(None, "x\ny"), frame(None, "")] {
            let mut bytes = BytesMut::new();
            frame.write(&mut bytes);
            assert_eq!(decode(&[&bytes]), [frame]);
        }
    }
}
