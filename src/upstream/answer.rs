//! One HTTP answer: status, headers, and a body that cannot end quietly before its time. Knows limits; not what the
//! bytes mean.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use awc::{
    error::PayloadError,
    http::header::{HeaderMap, HeaderValue},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep};

use super::{Error, Phase};

/// What came back. Dropping it, or its body, closes the connection at once.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// With lower-case names. A name may occur more than once, its values then in order.
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

impl Answer {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads the body to its end, which also lets the connection serve again.
    pub async fn whole(self, limit: usize) -> Result<Bytes, Error> {
        let mut body = self.body;
        let mut first = match body.next().await {
            Some(piece) => piece?,
            None => return Ok(Bytes::new()),
        };
        let mut all = BytesMut::new();
        loop {
            if all.len().saturating_add(first.len()) > limit {
                return Err(Error::TooLarge { limit });
            }
            match body.next().await {
                Some(piece) => {
                    all.extend_from_slice(&first);
                    first = piece?;
                }
                None if all.is_empty() => return Ok(first),
                None => {
                    all.extend_from_slice(&first);
                    return Ok(all.freeze());
                }
            }
        }
    }
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>>;

/// The body of an answer, piece by piece. It ends with `None` only if upstream ended it, else with an error.
pub struct Body {
    pieces: Option<Pieces>,
    refusal: Option<Error>,
    patience: Patience,
}

impl Body {
    pub(crate) fn new(pieces: impl Stream<Item = Result<Bytes, PayloadError>> + 'static, silence: Duration) -> Self {
        Self {
            pieces: Some(Box::pin(pieces)),
            refusal: None,
            patience: Patience::new(silence),
        }
    }

    /// A body that cannot be read, and says why when somebody tries.
    pub(super) fn refused(why: Error) -> Self {
        Self {
            pieces: None,
            refusal: Some(why),
            patience: Patience::new(Duration::ZERO),
        }
    }

    fn end(&mut self, error: Error) -> Poll<Option<Result<Bytes, Error>>> {
        self.pieces = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Body {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(why) = this.refusal.take() {
            return this.end(why);
        }
        let Some(pieces) = &mut this.pieces else {
            return Poll::Ready(None);
        };
        match pieces.as_mut().poll_next(cx) {
            Poll::Ready(piece) => {
                this.patience.renew();
                match piece {
                    Some(Ok(bytes)) => Poll::Ready(Some(Ok(bytes))),
                    Some(Err(error)) => this.end(in_our_words(error)),
                    None => {
                        this.pieces = None;
                        Poll::Ready(None)
                    }
                }
            }
            Poll::Pending => match this.patience.poll_end(cx) {
                Poll::Ready(silent) => this.end(silent),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

/// How long upstream may say nothing. The clock runs only while somebody waits, so a slow reader is not mistaken for a
/// silent upstream.
pub(super) struct Patience {
    limit: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Patience {
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            alarm: None,
            running: false,
        }
    }

    /// Upstream said something: the next wait begins anew.
    pub fn renew(&mut self) {
        self.running = false;
    }

    /// Ready, with the error to report, once upstream has been silent for too long.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let limit = self.limit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.running {
            // A limit too large for the clock is no limit.
            let Some(until) = Instant::now().checked_add(limit) else {
                return Poll::Pending;
            };
            alarm.as_mut().reset(until);
            self.running = true;
        }
        alarm.as_mut().poll(cx).map(|()| Error::Timeout {
            phase: Phase::Silence,
            after: limit,
        })
    }
}

/// The headers of an answer, in plain terms.
pub(super) fn plain(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let pairs = headers.iter();
    pairs
        .map(|(name, value)| (name.as_str().to_string(), text(value)))
        .collect()
}

fn in_our_words(error: PayloadError) -> Error {
    match error {
        PayloadError::Incomplete(None) => Error::Cut,
        // Every I/O error arrives as the first of these, whatever its kind.
        PayloadError::Incomplete(Some(error)) | PayloadError::Io(error) => match Error::unwrap_io(error) {
            Ok(ours) => ours,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Error::NotHttp {
                what: error.to_string(),
            },
            Err(error) => Error::Reset {
                what: error.to_string(),
            },
        },
        other => Error::Reset {
            what: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn answer(pieces: Vec<&'static [u8]>) -> Answer {
        let pieces = stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from_static(piece))));
        Answer {
            status: 200,
            headers: Vec::new(),
            body: Body::new(pieces, Duration::from_secs(5)),
        }
    }

    #[actix_web::test]
    async fn a_whole_answer_is_bounded() {
        assert_eq!(answer(vec![b"ab", b"cd"]).whole(4).await.unwrap(), "abcd");
        assert_eq!(
            answer(vec![b"ab", b"cd"]).whole(3).await.unwrap_err(),
            Error::TooLarge { limit: 3 }
        );
        assert_eq!(
            answer(vec![b"abcd"]).whole(3).await.unwrap_err(),
            Error::TooLarge { limit: 3 }
        );
        assert_eq!(answer(vec![]).whole(0).await.unwrap(), "");
    }

    #[actix_web::test]
    async fn silence_is_an_error_and_then_the_end() {
        let mut body = Body::new(stream::pending(), Duration::from_millis(20));
        let error = body.next().await.unwrap().unwrap_err();
        assert_eq!(
            error,
            Error::Timeout {
                phase: Phase::Silence,
                after: Duration::from_millis(20)
            }
        );
        assert!(body.next().await.is_none());
    }

    #[actix_web::test]
    async fn a_slow_reader_is_not_a_silent_upstream() {
        let mut body = answer(vec![b"a", b"b"]).body;
        body.patience = Patience::new(Duration::from_millis(20));
        assert_eq!(body.next().await.unwrap().unwrap(), "a");
        sleep(Duration::from_millis(60)).await;
        assert_eq!(body.next().await.unwrap().unwrap(), "b");
    }
}
