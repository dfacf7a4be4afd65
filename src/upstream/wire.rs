//! The bytes of one connection, watched: what `framing` says about them becomes reads, ends and errors that the HTTP
//! client above cannot misread. Also knows which connections lie idle, and closes them in time.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use actix_rt::net::{ActixStream, Ready};
use actix_tls::connect::rustls_0_23::reexports::AsyncTlsStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::sleep,
};

use super::{
    Error,
    framing::{Answers, Ending},
};

/// With more connections than this open on one thread, those that finish are closed instead of kept.
const MOST_KEPT: usize = 64;
const READ_AT_ONCE: usize = 8 * 1024;

/// The connections of one thread: how many are open, and which may still be used.
#[derive(Debug)]
pub(super) struct Shelf {
    open: Cell<usize>,
    /// Idle connections of an earlier generation are not used again.
    generation: Cell<u64>,
    kept_idle: Duration,
}

impl Shelf {
    pub fn new(kept_idle: Duration) -> Self {
        Self {
            open: Cell::new(0),
            generation: Cell::new(0),
            kept_idle,
        }
    }

    /// Gives up all connections that are idle now: one of them turned out to be dead.
    pub fn clear(&self) {
        self.generation.set(self.generation.get().wrapping_add(1));
    }

    fn is_full(&self) -> bool {
        self.open.get() > MOST_KEPT
    }
}

/// A place on the shelf, given back when the connection is closed.
struct Place(Rc<Shelf>);

impl Place {
    fn take(shelf: Rc<Shelf>) -> Self {
        shelf.open.set(shelf.open.get().saturating_add(1));
        Self(shelf)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

/// What connects us: plain TCP, or TLS on it.
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<AsyncTlsStream<TcpStream>>),
}

impl Stream {
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Secure(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Secure(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Secure(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Secure(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Secure(tls) => tls.get_ref().0,
        }
    }
}

/// One connection, as awc sees it.
pub(super) struct Wire(Rc<RefCell<Line>>);

struct Line {
    /// `None` once closed.
    open: Option<(Stream, Place)>,
    answers: Answers,
    /// Bytes of an answer that are ready to be read.
    ready: Vec<u8>,
    /// How many of them have been read.
    taken: usize,
    /// Upstream listens no longer, or has answered before the request was complete: the rest of it is not sent.
    deaf: bool,
    generation: u64,
    /// Counts requests, so that a watchman knows when his watch is over.
    requests: u64,
    watchman: Option<Waker>,
}

/// Whether the request is still being sent. An answer that comes so early spends the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Yes,
    No,
}

impl Wire {
    pub fn new(stream: Stream, shelf: Rc<Shelf>) -> Self {
        let generation = shelf.generation.get();
        Self(Rc::new(RefCell::new(Line {
            open: Some((stream, Place::take(shelf))),
            answers: Answers::default(),
            ready: Vec::new(),
            taken: 0,
            deaf: false,
            generation,
            requests: 0,
            watchman: None,
        })))
    }

    /// Sets a watchman over a connection that has just become idle: it is closed when upstream closes it, says
    /// something unasked, or nobody needs it for too long.
    fn watch(&self) {
        let line = self.0.borrow();
        let Some((_, place)) = &line.open else { return };
        let (kept_idle, requests) = (place.0.kept_idle, line.requests);
        actix_rt::spawn(watch(Rc::downgrade(&self.0), requests, kept_idle));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut line = self.0.borrow_mut();
        line.open = None;
        line.dismiss();
    }
}

async fn watch(line: Weak<RefCell<Line>>, requests: u64, kept_idle: Duration) {
    let mut long_enough = pin!(sleep(kept_idle));
    poll_fn(|cx| {
        let Some(line) = line.upgrade() else {
            return Poll::Ready(());
        };
        let mut line = line.borrow_mut();
        if line.requests != requests || line.open.is_none() {
            return Poll::Ready(());
        }
        line.watchman = Some(cx.waker().clone());
        if long_enough.as_mut().poll(cx).is_ready() || line.poll_idle(cx).is_ready() {
            line.open = None;
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await
}

impl Line {
    fn dismiss(&mut self) {
        if let Some(watchman) = self.watchman.take() {
            watchman.wake();
        }
    }

    /// Ready if an idle connection can no longer serve: there is nothing it could rightly say now.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((stream, place)) = &mut self.open else {
            return Poll::Ready(());
        };
        if self.answers.is_spent() || self.generation != place.0.generation.get() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 1];
        stream.read(cx, &mut ReadBuf::new(&mut bytes)).map(|_| ())
    }

    /// Reads until a head is complete, and makes it ready.
    fn poll_head(&mut self, cx: &mut Context<'_>, sending: Sending) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_AT_ONCE];
        while self.answers.awaits_head() {
            let Some((stream, place)) = &mut self.open else {
                return Poll::Ready(self.end(None));
            };
            let mut buf = ReadBuf::new(&mut bytes);
            let outcome = ready!(stream.read(cx, &mut buf));
            if outcome.is_err() || buf.filled().is_empty() {
                return Poll::Ready(self.end(outcome.err()));
            }
            if sending == Sending::Yes || place.0.is_full() {
                self.answers.spend();
            }
            self.ready = self.answers.take_head(buf.filled());
            self.taken = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = self.ready.get(self.taken..).unwrap_or_default();
        let piece = &rest[..rest.len().min(buf.remaining())];
        buf.put_slice(piece);
        self.taken = self.taken.saturating_add(piece.len());
        if self.taken >= self.ready.len() {
            self.ready = Vec::new();
            self.taken = 0;
        }
    }

    /// The connection ended, properly or not: what that means here.
    fn end(&mut self, error: Option<io::Error>) -> io::Result<()> {
        self.open = None;
        match (self.answers.ending(), error) {
            (Ending::NoAnswer { reused }, _) => Err(Error::Closed { reused }.into()),
            (Ending::CutHead, _) => Err(Error::CutHead.into()),
            (Ending::Cut, None) => Err(Error::Cut.into()),
            (Ending::Cut | Ending::Proper, Some(error)) => Err(broke(&error).into()),
            (Ending::Proper, None) | (Ending::Quiet, _) => Ok(()),
        }
    }
}

fn broke(error: &io::Error) -> Error {
    match error.kind() {
        // TLS that ends without saying so may have been cut by anybody on the way.
        io::ErrorKind::UnexpectedEof => Error::Cut,
        _ => Error::Reset {
            what: error.to_string(),
        },
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut line = self.0.borrow_mut();
        let line_ref = &mut *line;
        if line_ref.answers.is_idle() && line_ref.ready.is_empty() {
            // Only the pool asks now, to see whether this connection still lives: an end says no.
            ready!(line_ref.poll_idle(cx));
            line_ref.open = None;
            return Poll::Ready(Ok(()));
        }
        if line_ref.ready.is_empty() && line_ref.answers.awaits_head() {
            ready!(line_ref.poll_head(cx, Sending::No))?;
        } else if line_ref.ready.is_empty() {
            let Some((stream, _)) = &mut line_ref.open else {
                return Poll::Ready(line_ref.end(None));
            };
            let before = buf.filled().len();
            let outcome = ready!(stream.read(cx, buf));
            let bytes = buf.filled().get(before..).unwrap_or_default();
            if outcome.is_err() || bytes.is_empty() {
                return Poll::Ready(line_ref.end(outcome.err()));
            }
            line_ref.answers.count_body(bytes);
        }
        line_ref.hand_over(buf);
        let resting = line_ref.answers.is_idle() && line_ref.ready.is_empty();
        drop(line);
        if resting {
            self.watch();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let line = &mut *self.0.borrow_mut();
        if line.answers.is_idle() && !line.deaf {
            line.answers.expect();
            line.requests = line.requests.wrapping_add(1);
            line.dismiss();
        }
        let Some((stream, _)) = &mut line.open else {
            return Poll::Ready(Ok(buf.len()));
        };
        if line.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        match stream.write(cx, buf) {
            Poll::Ready(Ok(written)) => Poll::Ready(Ok(written)),
            // The answer, if one came before the connection broke, is worth more than the error: reading finds either.
            Poll::Ready(Err(_)) => Poll::Ready(Ok(line.stop_listening(buf))),
            Poll::Pending if line.answered_early(cx) => Poll::Ready(Ok(line.stop_listening(buf))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = &mut *self.0.borrow_mut();
        let Some((stream, _)) = line.open.as_mut().filter(|_| !line.deaf) else {
            return Poll::Ready(Ok(()));
        };
        match stream.flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Pending if !line.answered_early(cx) => return Poll::Pending,
            _ => {
                line.stop_listening(&[]);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.borrow_mut().open {
            Some((stream, _)) => stream.shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Line {
    fn stop_listening(&mut self, unsent: &[u8]) -> usize {
        self.deaf = true;
        self.answers.spend();
        unsent.len()
    }

    /// Whether upstream answered while it takes no more of the request, as one does that finds it too large.
    fn answered_early(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.answers.awaits_head() {
            return false;
        }
        self.poll_head(cx, Sending::Yes).is_ready()
    }
}

impl ActixStream for Wire {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.0.borrow().open {
            Some((stream, _)) => stream.tcp().poll_read_ready(cx).map_ok(|()| Ready::READABLE),
            None => Poll::Ready(Ok(Ready::READ_CLOSED)),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.0.borrow().open {
            Some((stream, _)) => stream.tcp().poll_write_ready(cx).map_ok(|()| Ready::WRITABLE),
            None => Poll::Ready(Ok(Ready::WRITE_CLOSED)),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    async fn pair(kept_idle: Duration) -> (Wire, TcpStream, Rc<Shelf>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let shelf = Rc::new(Shelf::new(kept_idle));
        (Wire::new(Stream::Plain(ours), shelf.clone()), theirs, shelf)
    }

    async fn exchange(wire: &mut Wire, theirs: &mut TcpStream) {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        wire.write_all(b"x").await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'x');
        theirs.write_all(ANSWER).await.unwrap();
        let mut bytes = [0; ANSWER.len()];
        wire.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, ANSWER);
    }

    #[actix_web::test]
    async fn a_connection_nobody_needs_is_closed_in_time_but_not_before() {
        let (mut wire, mut theirs, shelf) = pair(Duration::from_millis(400)).await;
        for _ in 0..3 {
            exchange(&mut wire, &mut theirs).await;
            let soon = timeout(Duration::from_millis(200), theirs.read_u8()).await;
            assert!(soon.is_err(), "closed too early");
        }
        assert_eq!(shelf.open.get(), 1);
        let end = timeout(Duration::from_secs(5), theirs.read_u8()).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(shelf.open.get(), 0);
    }

    #[actix_web::test]
    async fn a_cleared_shelf_offers_nothing_old() {
        let (mut wire, mut theirs, shelf) = pair(Duration::from_secs(60)).await;
        exchange(&mut wire, &mut theirs).await;
        // As the pool looks whether a connection still lives.
        let look = |wire: &mut Wire| {
            let mut bytes = [0; 2];
            let mut cx = Context::from_waker(Waker::noop());
            Pin::new(wire)
                .poll_read(&mut cx, &mut ReadBuf::new(&mut bytes))
                .is_ready()
        };
        assert!(!look(&mut wire));
        shelf.clear();
        assert!(look(&mut wire));
        assert_eq!(shelf.open.get(), 0);
    }
}
