//! Outbound proxies: which one a host is reached by, and the few words to say to it. The choice is plain data; no value
//! comes from the environment, and no password leaves but to its proxy.

use std::{fmt, net::IpAddr};

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_socks::tcp::Socks5Stream;

use super::{Error, ProxySettings};
use crate::secret::Secret;

/// The head of a proxy's answer may be this long.
const LONGEST_HEAD: usize = 16 * 1024;

/// What a proxy says by refusing, with and without a user named to it.
const NOT_ACCEPTED: &str = "did not accept the user name and password";
const ASKS: &str = "asks for a user name and password";

/// The user's proxies, and the hosts that need none.
#[derive(Debug)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Exception>,
}

impl Proxies {
    pub fn new(settings: &ProxySettings) -> Result<Self, Error> {
        let all = parse("ALL_PROXY", settings.all.as_deref())?;
        Ok(Self {
            http: parse("HTTP_PROXY", settings.http.as_deref())?.or_else(|| all.clone()),
            https: parse("HTTPS_PROXY", settings.https.as_deref())?.or(all),
            direct: settings
                .no
                .as_deref()
                .unwrap_or_default()
                .split([',', ' ', '\t'])
                .filter_map(Exception::parse)
                .collect(),
        })
    }

    /// The proxy on the way to a host, if there is one.
    pub fn for_host(&self, secure: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if secure { &self.https } else { &self.http };
        proxy
            .as_ref()
            .filter(|_| !self.direct.iter().any(|exception| exception.covers(host, port)))
    }
}

fn parse(name: &str, value: Option<&str>) -> Result<Option<Proxy>, Error> {
    match value.map(str::trim).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => match Proxy::parse(value) {
            Ok(proxy) => Ok(Some(proxy)),
            Err(what) => Err(Error::Setting(format!(
                "cannot use the outbound proxy in {name}: {what}"
            ))),
        },
    }
}

/// One proxy.
#[derive(Clone)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    user: Option<User>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Socks,
}

#[derive(Clone)]
struct User {
    name: String,
    password: Secret,
}

impl Proxy {
    /// Reads `[scheme://][user[:password]@]host[:port]`. What it says of a bad value repeats nothing of it.
    fn parse(value: &str) -> Result<Self, String> {
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        let (kind, usual_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Http, 80),
            // The proxy looks names up in both cases: those it can reach need not be known here.
            "socks5" | "socks5h" | "socks" => (Kind::Socks, 1080),
            "https" => {
                return Err("TLS to the proxy itself (https://) is not supported; use http:// or socks5://".into());
            }
            "socks4" | "socks4a" => return Err("SOCKS 4 is not supported; use socks5://".into()),
            _ => return Err("its scheme is not http or socks5".into()),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(User::parse(user)), place),
            None => (None, rest),
        };
        let (host, port) = split_port(place).ok_or("its port is not a number")?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err("it names no host".into());
        }
        Ok(Self {
            kind,
            host: host.to_string(),
            port: port.unwrap_or(usual_port),
            user,
        })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// For messages: no user, no password.
    pub fn address(&self) -> String {
        authority(&self.host, self.port)
    }

    fn trouble(&self, what: impl Into<String>) -> Error {
        Error::Proxy {
            address: self.address(),
            what: what.into(),
        }
    }

    /// Says of a failed connection that it was the proxy's.
    pub(super) fn unreachable(&self, error: &Error) -> Error {
        self.trouble(match error {
            Error::Refused { .. } => "refused the connection".to_string(),
            Error::Dns { what, .. } => format!("could not be resolved: {what}"),
            Error::Unreachable { what, .. } => format!("could not be reached: {what}"),
            Error::Timeout { after, .. } => format!("could not be reached within {} s", after.as_secs_f64()),
            other => format!("could not be reached: {other}"),
        })
    }

    /// Asks the proxy, over a fresh connection to it, for one to the target.
    pub(super) async fn open(&self, tcp: TcpStream, host: &str, port: u16) -> Result<TcpStream, Error> {
        match self.kind {
            Kind::Http => self.open_http(tcp, &authority(host, port)).await,
            Kind::Socks => {
                let stream = match &self.user {
                    None => Socks5Stream::connect_with_socket(tcp, (host, port)).await,
                    Some(user) => {
                        let (name, password) = (user.name.as_str(), user.password.expose());
                        Socks5Stream::connect_with_password_and_socket(tcp, (host, port), name, password).await
                    }
                };
                stream
                    .map(Socks5Stream::into_inner)
                    .map_err(|error| self.trouble(socks_words(&error)))
            }
        }
    }

    async fn open_http(&self, mut tcp: TcpStream, target: &str) -> Result<TcpStream, Error> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(user) = &self.user {
            let pair = BASE64_STANDARD.encode(format!("{}:{}", user.name, user.password.expose()));
            request.push_str(&format!("Proxy-Authorization: Basic {pair}\r\n"));
        }
        request.push_str("\r\n");
        tcp.write_all(request.as_bytes())
            .await
            .map_err(|error| self.trouble(format!("broke off: {error}")))?;
        let head = self.read_head(&mut tcp).await?;
        let status = head
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split_ascii_whitespace().nth(1));
        match status.and_then(|status| status.parse::<u16>().ok()) {
            Some(200..=299) => Ok(tcp),
            // Some say 401 where 407 is meant.
            Some(status @ (401 | 407)) => Err(self.trouble(match self.user {
                Some(_) => format!("answered {status}: it {NOT_ACCEPTED}"),
                None => format!("answered {status}: it {ASKS}"),
            })),
            Some(status) => Err(self.trouble(format!("answered {status} when asked for a connection to {target}"))),
            None => Err(self.trouble("does not speak HTTP")),
        }
    }

    /// Byte by byte, since the byte after the head belongs to somebody else.
    async fn read_head(&self, tcp: &mut TcpStream) -> Result<String, Error> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() >= LONGEST_HEAD {
                return Err(self.trouble("gave an answer without end"));
            }
            match tcp.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return Err(self.trouble("closed the connection before answering")),
            }
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.kind, self.address())
    }
}

impl User {
    fn parse(text: &str) -> Self {
        let (name, password) = text.split_once(':').unwrap_or((text, ""));
        Self {
            name: unescape(name),
            password: Secret::new(unescape(password)),
        }
    }
}

/// Passwords in addresses are percent-encoded where they must be.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |byte: &u8| {
            char::from(*byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                bytes.push(hex(high).unwrap_or(0) * 16 + hex(low).unwrap_or(0));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn socks_words(error: &tokio_socks::Error) -> String {
    use tokio_socks::Error as Socks;
    match error {
        Socks::PasswordAuthFailure(_) => NOT_ACCEPTED.into(),
        Socks::NoAcceptableAuthMethods => ASKS.into(),
        Socks::Io(error) => format!("broke off: {error}"),
        other => format!("could not connect to the target: {other}"),
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` and bare `v6`; `None` if the port is none.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    match place.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((place, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((place, None)),
    }
}

/// One entry of NO_PROXY.
#[derive(Debug, PartialEq, Eq)]
struct Exception {
    what: Direct,
    /// Only this port, if one is given.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Direct {
    Everything,
    /// A name and all names below it.
    Name(String),
    Network(IpAddr, u32),
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(address))?;
            return Some(Self {
                what: Direct::Network(address, bits),
                port: None,
            });
        }
        let (host, port) = split_port(&entry)?;
        let what = match host.parse::<IpAddr>() {
            Ok(address) => Direct::Network(address.to_canonical(), width(address.to_canonical())),
            Err(_) if host == "*" => Direct::Everything,
            Err(_) => {
                let name = host.strip_prefix('*').unwrap_or(host).trim_matches('.');
                if name.is_empty() {
                    return None;
                }
                Direct::Name(name.to_string())
            }
        };
        Some(Self { what, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match &self.what {
            Direct::Everything => true,
            Direct::Name(name) => host
                .strip_suffix(name.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.')),
            Direct::Network(network, bits) => host
                .parse::<IpAddr>()
                .is_ok_and(|address| same_network(address.to_canonical(), *network, *bits)),
        }
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn same_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let shift = |width: u32| width.saturating_sub(bits);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(no: &str, host: &str, port: u16) -> bool {
        let settings = ProxySettings {
            all: Some("proxy:3128".into()),
            no: Some(no.into()),
            ..ProxySettings::default()
        };
        Proxies::new(&settings).unwrap().for_host(true, host, port).is_none()
    }

    #[test]
    fn exceptions_are_names_suffixes_networks_and_ports() {
        let rows = [
            ("example.com", "example.com", true),
            ("example.com", "API.Example.COM.", true),
            ("example.com", "notexample.com", false),
            (".example.com", "api.example.com", true),
            ("*.example.com", "api.example.com", true),
            ("*.example.com", "example.org", false),
            ("a.test, b.test ,,", "b.test", true),
            ("*", "anything", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.0.0.0/33", "10.1.2.3", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe12::1", false),
            ("::1", "::1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.11", false),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("example.com:443", "example.com", true),
            ("example.com:444", "example.com", false),
            ("[::1]:443", "::1", true),
            ("[::1]:444", "::1", false),
            ("example.com:x", "example.com", false),
            (".", "example.com", false),
            ("", "example.com", false),
        ];
        for (no, host, expected) in rows {
            assert_eq!(direct(no, host, 443), expected, "{no:?} and {host}");
        }
    }

    #[test]
    fn each_scheme_has_its_proxy_and_all_fills_the_gaps() {
        let settings = ProxySettings {
            http: Some("http://plain:1".into()),
            all: Some("socks5h://rest".into()),
            https: Some("  ".into()),
            no: None,
        };
        let proxies = Proxies::new(&settings).unwrap();
        assert_eq!(proxies.for_host(false, "h", 80).unwrap().address(), "plain:1");
        assert_eq!(proxies.for_host(true, "h", 443).unwrap().address(), "rest:1080");
        assert!(
            Proxies::new(&ProxySettings::default())
                .unwrap()
                .for_host(true, "h", 443)
                .is_none()
        );
    }

    #[test]
    fn addresses_and_passwords_are_read_but_never_shown() {
        let proxy = Proxy::parse("http://me:p%40ss%3Aword%zz@[::1]:3128/").unwrap();
        assert_eq!(
            (proxy.host(), proxy.port(), proxy.address().as_str()),
            ("::1", 3128, "[::1]:3128")
        );
        let user = proxy.user.as_ref().unwrap();
        assert_eq!((user.name.as_str(), user.password.expose()), ("me", "p@ss:word%zz"));
        assert_eq!(format!("{proxy:?}"), "Http([::1]:3128)");
        assert_eq!(Proxy::parse("10.0.0.1:3128").unwrap().address(), "10.0.0.1:3128");
    }

    #[test]
    fn unusable_proxies_are_named_without_their_password() {
        let rows = [
            "https://me:geheim@proxy:1",
            "ftp://me:geheim@proxy",
            "me:geheim@proxy:x",
            "http://me:geheim@",
            "socks4://x",
        ];
        for value in rows {
            let settings = ProxySettings {
                https: Some(value.into()),
                ..ProxySettings::default()
            };
            let error = Proxies::new(&settings).unwrap_err().to_string();
            assert!(
                error.starts_with("cannot use the outbound proxy in HTTPS_PROXY: "),
                "{error}"
            );
            assert!(!error.contains("geheim"), "{error}");
            assert!(!format!("{settings:?}").contains("geheim"));
        }
    }
}
