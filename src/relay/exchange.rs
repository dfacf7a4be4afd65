//! One exchange with Copilot: a credential, the call, one fresh try after a refused credential. Knows nothing of what
//! the body says.

use std::sync::Arc;
use std::time::Duration;

use super::error::{of_upstream, passed_on_by};
use super::{Error, Relay};
use crate::actors::token::{Confirm, Credential, Invalidate};
use crate::protocol::failure::{Failure, Kind};
use crate::translate::upstream_failure;
use crate::upstream::Answer;
use crate::upstream::copilot::{Access, Call};

/// How much of an error is read, and for how long.
const MAX_ERROR: usize = 64 << 10;
const ERROR_PATIENCE: Duration = Duration::from_secs(5);

/// An answer that was no success.
pub(super) struct Refusal {
    pub error: Error,
    /// Upstream spoke of the credential, not of the request.
    pub credential: bool,
}

impl Relay {
    /// Sends a call with the seat's credential. Any answer but a success is an error here, read once into a failure.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, Error> {
        let credential = self.credential().await?;
        let refusal = match self.send_once(&credential, call).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) if refusal.credential => refusal,
            Err(refusal) => return Err(refusal.error),
        };
        log::info!(
            "credential refused, asking for a fresh one: {}",
            refusal.error.failure.message
        );
        let why = refusal.error.failure.message.clone();
        match self.renew(&credential, why).await? {
            Some(fresh) => {
                // Each attempt has an id of its own, so that GitHub can tell them apart in a report.
                let again = Call {
                    request_id: uuid::Uuid::new_v4().to_string(),
                    ..call.clone()
                };
                let answered = self.send_once(&fresh, &again).await;
                self.confirm(answered.is_ok());
                answered.map_err(|refusal| refusal.error)
            }
            None => Err(refusal.error),
        }
    }

    /// Tells the keeper whether the credential it gave in place of another has helped.
    pub(super) fn confirm(&self, helped: bool) {
        if helped {
            self.actors.token.do_send(Confirm);
        }
    }

    /// Has a refused credential replaced; `None` where no other is to be had.
    pub(super) async fn renew(&self, refused: &Credential, why: String) -> Result<Option<Arc<Credential>>, Error> {
        let invalidate = Invalidate {
            generation: refused.generation,
            why,
        };
        self.actors.ask(&self.actors.token, invalidate).await?;
        let fresh = self.credential().await.ok();
        Ok(fresh.filter(|fresh| fresh.generation != refused.generation))
    }

    pub(super) async fn credential(&self) -> Result<Arc<Credential>, Error> {
        self.actors.credential().await?.map_err(|error| {
            let kind = if error.is_permanent() {
                Kind::UpstreamAuth
            } else {
                Kind::Unavailable
            };
            Failure::new(kind, error.to_string()).into()
        })
    }

    async fn send_once(&self, credential: &Credential, call: &Call) -> Result<Answer, Refusal> {
        match self.copilot.send(&access(credential), call).await {
            Ok(answer) if answer.is_success() => Ok(answer),
            Ok(answer) => Err(read_refusal(answer).await),
            Err(error) => Err(Refusal {
                error: of_upstream(&error).into(),
                credential: false,
            }),
        }
    }
}

/// What the credential opens.
pub(super) fn access(credential: &Credential) -> Access {
    Access {
        token: credential.token.clone(),
        base_url: credential.base_url.clone(),
    }
}

pub(super) async fn read_refusal(answer: Answer) -> Refusal {
    let (status, headers) = (answer.status, answer.headers.clone());
    let body = match tokio::time::timeout(ERROR_PATIENCE, answer.whole(MAX_ERROR)).await {
        Ok(Ok(body)) => body,
        _ => bytes::Bytes::new(),
    };
    let failure = upstream_failure::read(status, &headers, &body);
    let credential = is_about_credential(status, &headers, &failure.message, failure.code.as_deref());
    let passed = passed_on_by(&failure, &headers);
    Refusal {
        error: Error::told(failure, passed),
        credential,
    }
}

/// Whether a fresh credential may help: a refused token, a bare 403, or a host that is not this token's.
fn is_about_credential(status: u16, headers: &[(String, String)], message: &str, code: Option<&str>) -> bool {
    const TOKEN_CODES: [&str; 3] = ["token_expired", "expired_token", "invalid_token"];
    let about_token = code.is_some_and(|code| TOKEN_CODES.contains(&code)) || message.contains("token expired");
    match status {
        // An item of another connection is the request's fault, whatever the status says.
        401 => !message.contains("does not belong to this connection"),
        403 => {
            let asks_to_wait = headers.iter().any(|(name, _)| name == "retry-after");
            about_token || message.trim().eq_ignore_ascii_case("forbidden") && !asks_to_wait
        }
        421 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_credential_is_renewed() {
        let about = |status, message: &str, code| is_about_credential(status, &[], message, code);
        assert!(about(401, "unauthorized: token expired", None));
        assert!(!about(401, "input item ID does not belong to this connection", None));
        assert!(about(403, "Forbidden", None));
        assert!(about(403, "x", Some("token_expired")));
        assert!(!about(
            403,
            "access to this endpoint is forbidden, please review our Terms of Service",
            None
        ));
        assert!(about(421, "Misdirected Request", None));
        assert!(!about(429, "token expired", None));
        let wait = [("retry-after".to_owned(), "5".to_owned())];
        assert!(!is_about_credential(403, &wait, "Forbidden", None));
    }
}
