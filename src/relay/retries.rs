//! Whether a request that upstream failed to serve is sent again, and when. Off unless a setting says how often: most
//! clients do it themselves, and each try may be billed.

use std::time::Duration;

use crate::protocol::failure::{Failure, Kind};

/// The pause before the first retry; it doubles with each.
const PAUSE: Duration = Duration::from_millis(500);
/// Who is told to come back later than this is told so.
const LONGEST: Duration = Duration::from_secs(10);

/// The retries that one request has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retries {
    left: u32,
    pause: Duration,
}

impl Retries {
    pub fn new(most: u32) -> Self {
        Self {
            left: most,
            pause: PAUSE,
        }
    }

    /// How long to wait before the request is sent again; `None` where it is not.
    pub fn after(&mut self, failure: &Failure) -> Option<Duration> {
        let is_upstreams = matches!(
            failure.kind,
            Kind::UpstreamFailed | Kind::UpstreamUnavailable | Kind::Overloaded
        );
        if !is_upstreams {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let wanted = match &failure.retry_after {
            Some(after) => Duration::from_secs(after.parse().ok()?),
            None => self.pause,
        };
        self.pause *= 2;
        (wanted <= LONGEST).then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: Kind, after: Option<&str>) -> Failure {
        Failure {
            retry_after: after.map(str::to_owned),
            ..Failure::new(kind, "x")
        }
    }

    #[test]
    fn a_failure_of_upstreams_own_is_tried_again_ever_later() {
        let mut retries = Retries::new(3);
        let failed = told(Kind::UpstreamFailed, None);
        assert_eq!(retries.after(&failed), Some(PAUSE));
        assert_eq!(
            retries.after(&told(Kind::Overloaded, Some("3"))),
            Some(Duration::from_secs(3))
        );
        assert_eq!(retries.after(&failed), Some(PAUSE * 4));
        assert_eq!(retries.after(&failed), None);
        assert_eq!(Retries::new(0).after(&failed), None);
    }

    #[test]
    fn what_another_try_cannot_mend_is_told() {
        for kind in [
            Kind::BadRequest,
            Kind::Payment,
            Kind::RateLimited,
            Kind::Forbidden,
            Kind::ContentFiltered,
            Kind::UpstreamTimeout,
        ] {
            assert_eq!(Retries::new(3).after(&told(kind, None)), None, "{kind:?}");
        }
        for after in ["11", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(Retries::new(3).after(&told(Kind::Overloaded, Some(after))), None);
        }
    }
}
