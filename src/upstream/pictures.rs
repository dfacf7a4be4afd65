//! Pictures that a request names by their address: fetched over TLS from public addresses, and from nowhere else. Nothing
//! of ours goes along, neither a credential nor a header of the client's.
//!
//! A name is resolved once, and the connection goes to the very address that was looked at. A redirect is looked at
//! like the first address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use awc::http::{Uri, header};
use bytes::Bytes;

use super::client::{Target, awc_client, in_our_words};
use super::connector::{Connector, Reach};
use super::wire::Shelf;
use super::{Answer, Body, Error, Setup};

const MOST_BYTES: usize = 10 << 20;
const MOST_REDIRECTS: usize = 3;
/// For one picture, with all its redirects.
const PATIENCE: Duration = Duration::from_secs(10);
const ACCEPT: &str = "image/png, image/jpeg, image/gif, image/webp";
const AGENT: &str = concat!("copilot-proxy/", env!("CARGO_PKG_VERSION"));

/// One thread's way to pictures.
#[derive(Clone)]
pub struct Pictures {
    client: awc::Client,
    setup: Setup,
}

/// What was found at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// As the other side calls it.
    pub media_type: Option<String>,
    pub bytes: Bytes,
}

/// What one address answers.
enum Step {
    Found(Picture),
    Elsewhere(String),
}

impl Pictures {
    pub fn new(setup: &Setup) -> Self {
        Self::within(Reach::Public, setup)
    }

    pub(super) fn within(reach: Reach, setup: &Setup) -> Self {
        let shelf = Rc::new(Shelf::new(Duration::ZERO));
        let connector = Connector::for_pictures(setup, shelf, reach);
        Self {
            client: awc_client(connector, &setup.settings),
            setup: setup.clone(),
        }
    }

    /// The picture at this address, or why there is none.
    pub async fn fetch(&self, url: &str) -> Result<Picture, String> {
        let fetched = tokio::time::timeout(PATIENCE, self.follow(url)).await;
        fetched.unwrap_or_else(|_| Err(format!("it took longer than {} s", PATIENCE.as_secs())))
    }

    async fn follow(&self, url: &str) -> Result<Picture, String> {
        let mut url = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            match self.step(&url).await? {
                Step::Found(picture) => return Ok(picture),
                Step::Elsewhere(next) => url = next,
            }
        }
        Err(format!("it is redirected more than {MOST_REDIRECTS} times"))
    }

    async fn step(&self, url: &str) -> Result<Step, String> {
        let target = Target::parse(url)
            .ok()
            .filter(|target| target.secure && !url.contains('@'));
        let target = target.ok_or("only https addresses are fetched")?;
        let sent = self
            .client
            .get(&target.dial)
            .insert_header((header::HOST, target.host.as_str()))
            .insert_header((header::ACCEPT, ACCEPT))
            .insert_header((header::USER_AGENT, AGENT))
            .send();
        let response = sent
            .await
            .map_err(|error| why(&in_our_words(error, &self.setup.settings)))?;
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let status = response.status().as_u16();
        if let (301 | 302 | 303 | 307 | 308, Some(next)) = (status, text(header::LOCATION)) {
            return elsewhere(url, next).map(Step::Elsewhere);
        }
        if status != 200 {
            return Err(format!("its server answered {status}"));
        }
        let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
        if length.is_some_and(|length| length > MOST_BYTES) {
            return Err(why(&Error::TooLarge { limit: MOST_BYTES }));
        }
        let media_type =
            text(header::CONTENT_TYPE).map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned());
        let answer = Answer {
            status,
            headers: Vec::new(),
            body: Body::new(response, PATIENCE),
        };
        let bytes = answer.whole(MOST_BYTES).await.map_err(|error| why(&error))?;
        Ok(Step::Found(Picture { media_type, bytes }))
    }
}

/// Where a redirect leads.
fn elsewhere(from: &str, to: &str) -> Result<String, String> {
    let cannot = || "it is redirected to something that is no address".to_owned();
    if !to.starts_with('/') {
        return Ok(to.to_owned());
    }
    let from: Uri = from.parse().map_err(|_| cannot())?;
    match (to.starts_with("//"), from.authority()) {
        (true, _) => Ok(format!("https:{to}")),
        (false, Some(authority)) => Ok(format!("https://{authority}{to}")),
        (false, None) => Err(cannot()),
    }
}

/// The trouble as the client hears of it. Whether a name exists inside this network is nobody's business.
fn why(error: &Error) -> String {
    log::info!("cannot fetch an image: {error}");
    match error {
        Error::TooLarge { .. } => format!("it is larger than {} MiB", MOST_BYTES >> 20),
        Error::Crowded => "too many large answers are being read at once".into(),
        Error::Dns { .. } | Error::NotPublic => Error::NotPublic.to_string(),
        _ => "its server could not be reached, or broke off".into(),
    }
}

/// Whether an address belongs to the public network, where nothing of ours and of our network is.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Shared by a provider's customers, protocol assignments, 6to4's relays, benchmarks.
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && (18..20).contains(&b)))
}

/// Of what is given out, what does not stand for an address of version 4, nor for an example.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let is_given_out = first & 0xe000 == 0x2000;
    let is_special = first == 0x2001 && (second < 0x200 || second == 0xdb8) || first == 0x2002 || first == 0x3fff;
    is_given_out && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_network_is_public() {
        for public in [
            "1.1.1.1",
            "11.22.33.44",
            "192.0.1.1",
            "100.63.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "192.0.0.8",
            "192.88.99.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "fec0::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_redirect_is_an_address_of_its_own() {
        let from = "https://a.example:444/x/y?z";
        assert_eq!(elsewhere(from, "/b").unwrap(), "https://a.example:444/b");
        assert_eq!(elsewhere(from, "//b.example/c").unwrap(), "https://b.example/c");
        assert_eq!(elsewhere(from, "http://b.example/c").unwrap(), "http://b.example/c");
    }
}
