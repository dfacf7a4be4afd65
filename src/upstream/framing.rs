//! What the bytes of one connection's answers mean: where a head ends, where a body ends, and what was cut off. Plain
//! state; knows no socket.
//!
//! The HTTP client above takes an informational head for the final one, an answer without a length for an empty one, and
//! a connection that breaks inside a body for its end. So every byte passes here first: heads are read, put right where
//! needed, and passed on whole; bodies are only counted.

use memchr::memchr;

/// A head longer than this is passed on as it is, for the client above to refuse.
const LONGEST_HEAD: usize = 128 * 1024;

/// The answers of one connection, one after the other.
#[derive(Debug, Default)]
pub struct Answers {
    state: State,
    /// The beginning of a head that is not complete yet.
    held: Vec<u8>,
    /// Whether any byte of the present answer came.
    begun: bool,
    /// Requests that were answered before the present one.
    served: u64,
    /// Whether this connection must not serve again.
    spent: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No request is open.
    #[default]
    Idle,
    /// A request was sent; the next bytes are the head of its answer.
    Head,
    Length(u64),
    Chunks(Chunk),
    /// The body ends with the connection.
    UntilClose,
    /// Another protocol took over.
    Tunnel,
}

/// Where in a chunked body the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Size(u64),
    Extension(u64),
    Data(u64),
    AfterData,
    /// In the trailer; whether the present line is still empty.
    Trailer(bool),
}

/// What the end of the connection means at this point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was awaited.
    Quiet,
    /// A request has no byte of an answer. The connection may have served before.
    NoAnswer {
        reused: bool,
    },
    /// A head or body broke off.
    CutHead,
    Cut,
    /// This is how the answer ends.
    Proper,
}

impl Answers {
    /// A request begins to be sent.
    pub fn expect(&mut self) {
        self.state = State::Head;
        self.begun = false;
    }

    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    pub fn awaits_head(&self) -> bool {
        self.state == State::Head
    }

    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// Says that this connection shall not serve again. Heads passed on from now on say so too.
    pub fn spend(&mut self) {
        self.spent = true;
    }

    /// Takes bytes while a head is awaited, and gives what may be passed on: nothing, or a whole head put right and what
    /// follows it. Heads that only inform are dropped, and the connection with them, when the answer is over.
    pub fn take_head(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.begun |= !bytes.is_empty();
        self.held.extend_from_slice(bytes);
        loop {
            let strange = !b"HTTP/".starts_with(&self.held[..self.held.len().min(5)]);
            let end = if strange { None } else { head_end(&self.held) };
            let Some(end) = end else {
                if strange || self.held.len() > LONGEST_HEAD {
                    self.state = State::UntilClose;
                    self.spent = true;
                    return std::mem::take(&mut self.held);
                }
                return Vec::new();
            };
            let rest = self.held.split_off(end);
            let head = std::mem::replace(&mut self.held, rest);
            let facts = Facts::read(&head);
            if facts.informs {
                self.spent = true;
                continue;
            }
            return self.pass_on(head, &facts);
        }
    }

    fn pass_on(&mut self, mut head: Vec<u8>, facts: &Facts) -> Vec<u8> {
        self.state = facts.body();
        if self.state == State::Idle {
            self.finish();
        }
        self.spent |= facts.closes || matches!(self.state, State::UntilClose | State::Tunnel);
        if self.state == State::UntilClose
            && let Some(minor) = head.get_mut(7)
        {
            // What HTTP/1.0 calls a body that ends with the connection, the client above understands.
            *minor = b'0';
        }
        if self.state != State::Tunnel {
            if facts.upgrades {
                drop_lines(&mut head, "upgrade");
            }
            if self.spent {
                say_close(&mut head);
            }
        }
        let body = std::mem::take(&mut self.held);
        self.count_body(&body);
        head.extend_from_slice(&body);
        head
    }

    /// Counts bytes of a body that pass by. Bytes after its end are nobody's: they spend the connection.
    pub fn count_body(&mut self, bytes: &[u8]) {
        let surplus = match &mut self.state {
            State::UntilClose | State::Tunnel => false,
            State::Idle | State::Head => !bytes.is_empty(),
            State::Length(left) => {
                let taken = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let surplus = taken > *left;
                *left = left.saturating_sub(taken);
                if *left == 0 {
                    self.finish();
                }
                surplus
            }
            State::Chunks(chunk) => match chunk.advance(bytes) {
                Some(rest) => {
                    self.finish();
                    rest > 0
                }
                None => false,
            },
        };
        self.spent |= surplus;
    }

    fn finish(&mut self) {
        self.state = State::Idle;
        self.served = self.served.saturating_add(1);
    }

    /// What it means that the connection ends here.
    pub fn ending(&self) -> Ending {
        match self.state {
            State::Idle => Ending::Quiet,
            State::Head if self.begun => Ending::CutHead,
            State::Head => Ending::NoAnswer {
                reused: self.served > 0,
            },
            State::Length(_) | State::Chunks(_) => Ending::Cut,
            State::UntilClose | State::Tunnel => Ending::Proper,
        }
    }
}

impl Chunk {
    /// Walks over bytes; gives how many are left once the body is over.
    fn advance(&mut self, mut bytes: &[u8]) -> Option<usize> {
        while let [first, rest @ ..] = bytes {
            if let Self::Data(left) = *self {
                let skipped = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left.saturating_sub(u64::try_from(skipped).unwrap_or(u64::MAX));
                *self = if left == 0 { Self::AfterData } else { Self::Data(left) };
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            *self = match (*self, *first) {
                (Self::Trailer(true), b'\n') => return Some(bytes.len()),
                (Self::Size(0) | Self::Extension(0), b'\n') => Self::Trailer(true),
                (Self::Size(size) | Self::Extension(size), b'\n') => Self::Data(size),
                (Self::Size(size), byte) => match char::from(byte).to_digit(16) {
                    Some(digit) => Self::Size(size.saturating_mul(16).saturating_add(digit.into())),
                    None => Self::Extension(size),
                },
                (Self::AfterData, b'\n') => Self::Size(0),
                (Self::Trailer(_), b'\n') => Self::Trailer(true),
                (Self::Trailer(empty), byte) => Self::Trailer(empty && byte == b'\r'),
                (state, _) => state,
            };
        }
        None
    }
}

/// What decides how an answer goes on after its head.
#[derive(Debug, Default)]
struct Facts {
    status: u16,
    informs: bool,
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    /// Names another protocol, be it the one that was taken up or only one that would be welcome.
    upgrades: bool,
}

impl Facts {
    fn read(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let status = first
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let old = first.starts_with("HTTP/1.0");
        let mut facts = Self {
            status,
            informs: (100..200).contains(&status) && status != 101,
            closes: old,
            ..Self::default()
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "content-length" => facts.length = value.parse().ok(),
                "transfer-encoding" => {
                    let last = value.rsplit(',').next().unwrap_or_default();
                    facts.chunked |= !old && last.trim().eq_ignore_ascii_case("chunked");
                }
                "upgrade" => facts.upgrades = true,
                "connection" => facts.closes |= value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")),
                _ => {}
            }
        }
        facts
    }

    fn body(&self) -> State {
        match (self.status, self.length) {
            (101, _) => State::Tunnel,
            (204 | 304, None | Some(0)) if !self.chunked => State::Idle,
            _ if self.chunked => State::Chunks(Chunk::Size(0)),
            (_, Some(0)) => State::Idle,
            (_, Some(length)) => State::Length(length),
            (_, None) => State::UntilClose,
        }
    }
}

/// Where the first head ends, its blank line included.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    while let Some(newline) = memchr(b'\n', bytes.get(start..)?) {
        let next = start.saturating_add(newline).saturating_add(1);
        match bytes.get(next..) {
            Some([b'\n', ..]) => return Some(next.saturating_add(1)),
            Some([b'\r', b'\n', ..]) => return Some(next.saturating_add(2)),
            _ => start = next,
        }
    }
    None
}

/// Takes out a header. The client above reads an answer that only recommends another protocol as one that took it up,
/// and would wait for the end of the connection.
fn drop_lines(head: &mut Vec<u8>, name: &str) {
    let is_it = |line: &[u8]| {
        let before = line.split(|byte| *byte == b':').next().unwrap_or_default();
        before.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
    };
    let lines = head.split_inclusive(|byte| *byte == b'\n');
    *head = lines.filter(|line| !is_it(line)).flatten().copied().collect();
}

/// Adds the header that keeps the client above from using this connection again.
fn say_close(head: &mut Vec<u8>) {
    let blank = if head.ends_with(b"\r\n") { 2 } else { 1 };
    head.truncate(head.len().saturating_sub(blank));
    head.extend_from_slice(b"connection: close\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of an answer that comes in these pieces, and what an end of the connection would then mean.
    fn passed_on(answers: &mut Answers, pieces: &[&[u8]]) -> (String, Ending) {
        answers.expect();
        let mut passed = Vec::new();
        for piece in pieces {
            if answers.awaits_head() {
                passed.extend(answers.take_head(piece));
            } else {
                answers.count_body(piece);
                passed.extend_from_slice(piece);
            }
        }
        (String::from_utf8(passed).unwrap(), answers.ending())
    }

    #[test]
    fn an_end_means_something_else_in_each_place() {
        let fresh = Ending::NoAnswer { reused: false };
        let rows = [
            ("", fresh),
            ("HTTP", Ending::CutHead),
            ("HTTP/1.1 100 Continue\r\n\r\n", Ending::CutHead),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", Ending::Cut),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Ending::Quiet),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ending::Quiet),
            ("HTTP/1.1 204 No\r\n\r\n", Ending::Quiet),
            ("HTTP/1.1 200 OK\r\n\r\n", Ending::Proper),
            ("HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\n", Ending::Proper),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Ending::Cut),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
                Ending::Cut,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                Ending::Quiet,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-a: 1\r\n\r\n",
                Ending::Quiet,
            ),
            ("banana", Ending::Proper),
        ];
        for (answer, ending) in rows {
            assert_eq!(
                passed_on(&mut Answers::default(), &[answer.as_bytes()]).1,
                ending,
                "{answer:?}"
            );
        }
        let mut used = Answers::default();
        passed_on(&mut used, &[b"HTTP/1.1 204 No\r\n\r\n"]);
        assert_eq!(passed_on(&mut used, &[]).1, Ending::NoAnswer { reused: true });
    }

    #[test]
    fn it_does_not_matter_where_bytes_are_cut() {
        let answers = [
            "HTTP/1.1 103 E\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n",
            "HTTP/1.1 426 No\r\nUpgrade : websocket\r\ncontent-length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\n\nto the end",
        ];
        for answer in answers {
            let bytes = answer.as_bytes();
            let whole = passed_on(&mut Answers::default(), &[bytes]);
            for at in 0..bytes.len() {
                let pieces = [&bytes[..at], &bytes[at..]];
                let pieces: Vec<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
                assert_eq!(passed_on(&mut Answers::default(), &pieces), whole, "{answer:?} at {at}");
            }
        }
    }

    #[test]
    fn heads_are_put_right_only_where_they_mislead() {
        let rows = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n", None),
            (
                "HTTP/1.1 200 OK\r\nx: 1\r\n\r\n",
                Some("HTTP/1.0 200 OK\r\nx: 1\r\nconnection: close\r\n\r\n"),
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n",
                Some("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\n"),
            ),
            (
                "HTTP/1.1 426 No\r\nUPGRADE: h2c\r\ncontent-length: 1\r\n\r\n",
                Some("HTTP/1.1 426 No\r\ncontent-length: 1\r\n\r\n"),
            ),
            ("HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\n", None),
        ];
        for (head, expected) in rows {
            let passed = passed_on(&mut Answers::default(), &[head.as_bytes()]).0;
            assert_eq!(passed, expected.unwrap_or(head));
        }
    }

    #[test]
    fn a_connection_that_said_too_much_does_not_serve_again() {
        for (answer, spent) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok!", true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n!", true),
            ("HTTP/1.1 204 No\r\n\r\n!", true),
            (
                "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n",
                true,
            ),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 102 P\r\n\r\nHTTP/1.1 204 No\r\n\r\n", true),
        ] {
            let mut answers = Answers::default();
            passed_on(&mut answers, &[answer.as_bytes()]);
            assert_eq!((answers.is_idle(), answers.is_spent()), (true, spent), "{answer:?}");
        }
    }

    #[test]
    fn sizes_beyond_all_bounds_do_no_harm() {
        let huge = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}\r\nx",
            "f".repeat(100)
        );
        assert_eq!(passed_on(&mut Answers::default(), &[huge.as_bytes()]).1, Ending::Cut);
        let endless = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'a'; LONGEST_HEAD]].concat();
        let (passed, _) = passed_on(&mut Answers::default(), &[&endless]);
        assert_eq!(passed.len(), endless.len());
    }
}
