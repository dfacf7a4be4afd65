//! The road to a host: name, TCP, an outbound proxy where one is set, TLS. Sits under awc, which knows none of these;
//! knows nothing of HTTP itself.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection, Host, rustls_0_23::TlsConnector};
use awc::http::Uri;
use futures_util::future::LocalBoxFuture;
use rustls::ClientConfig;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

use super::{
    Error, Phase, Setup,
    pictures::is_public,
    proxy::{Proxies, Proxy},
    wire::{Shelf, Stream, Wire},
};

/// Opens connections for one awc client, either all with TLS or all without.
///
/// awc could add TLS on top by itself, but then the bytes of the answers could not be watched. So it is only ever given
/// plain addresses, and the road decides.
#[derive(Clone)]
pub(super) struct Connector {
    road: Rc<Road>,
    shelf: Rc<Shelf>,
}

struct Road {
    tls: Option<Arc<ClientConfig>>,
    proxies: Option<Arc<Proxies>>,
    reach: Reach,
    limit: Duration,
}

/// Which addresses are dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Anywhere,
    /// Those of the public network.
    Public,
}

impl Connector {
    pub fn new(setup: &Setup, shelf: Rc<Shelf>, secure: bool) -> Self {
        let tls = secure.then(|| setup.tls.clone());
        let road = Road {
            tls,
            proxies: setup.proxies.clone(),
            reach: Reach::Anywhere,
            limit: setup.settings.connect,
        };
        Self {
            road: Rc::new(road),
            shelf,
        }
    }

    /// Always with TLS, and never by a proxy, whose network would be another one.
    pub fn for_pictures(setup: &Setup, shelf: Rc<Shelf>, reach: Reach) -> Self {
        let road = Road {
            tls: Some(setup.tls.clone()),
            proxies: None,
            reach,
            limit: setup.settings.connect,
        };
        Self {
            road: Rc::new(road),
            shelf,
        }
    }
}

impl Service<ConnectInfo<Uri>> for Connector {
    type Response = Connection<Uri, Wire>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, request: ConnectInfo<Uri>) -> Self::Future {
        let Self { road, shelf } = self.clone();
        let uri = request.request().clone();
        let port = request.port();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
            let stream = road
                .travel(&host, port)
                .await
                .map_err(|error| ConnectError::Io(error.into()))?;
            Ok(Connection::new(uri, Wire::new(stream, shelf)))
        })
    }
}

impl Road {
    async fn travel(&self, host: &str, port: u16) -> Result<Stream, Error> {
        let late = || Error::Timeout {
            phase: Phase::Connect,
            after: self.limit,
        };
        // A limit beyond the clock's reach is no limit worth the name; a day stands for it.
        let until = Instant::now()
            .checked_add(self.limit)
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
        let secure = self.tls.is_some();
        let proxy = self
            .proxies
            .as_ref()
            .and_then(|proxies| proxies.for_host(secure, host, port));
        let tcp = match proxy {
            None => timeout_at(until, dial(host, port, self.reach, self.limit))
                .await
                .map_err(|_| late())??,
            Some(proxy) => match timeout_at(until, through(proxy, host, port, self.limit)).await {
                Ok(outcome) => outcome?,
                Err(_) => {
                    let what = format!("did not open a connection within {} s", self.limit.as_secs_f64());
                    return Err(Error::Proxy {
                        address: proxy.address(),
                        what,
                    });
                }
            },
        };
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(tcp));
        };
        let handshake = TlsConnector::service(tls.clone()).call(Connection::new(ServerName(host.to_string()), tcp));
        match timeout_at(until, handshake).await {
            Ok(Ok(connection)) => Ok(Stream::Secure(Box::new(connection.into_parts().0))),
            Ok(Err(error)) => Err(Error::Tls {
                host: host.to_string(),
                what: error.to_string(),
            }),
            Err(_) => Err(late()),
        }
    }
}

/// The name a certificate is checked against: without the brackets of an IPv6 address.
struct ServerName(String);

impl Host for ServerName {
    fn hostname(&self) -> &str {
        &self.0
    }
}

async fn through(proxy: &Proxy, host: &str, port: u16, limit: Duration) -> Result<TcpStream, Error> {
    let tcp = dial(proxy.host(), proxy.port(), Reach::Anywhere, limit)
        .await
        .map_err(|error| proxy.unreachable(&error))?;
    proxy.open(tcp, host, port).await
}

/// Connects to the first address that answers. An address that does not may use up only its share of the time.
async fn dial(host: &str, port: u16, reach: Reach, limit: Duration) -> Result<TcpStream, Error> {
    let dns = |what: String| Error::Dns {
        host: host.to_string(),
        what,
    };
    let addresses: Vec<SocketAddr> = lookup_host((host, port))
        .await
        .map_err(|error| dns(error.to_string()))?
        .filter(|address| reach == Reach::Anywhere || is_public(address.ip()))
        .collect();
    if addresses.is_empty() && reach == Reach::Public {
        return Err(Error::NotPublic);
    }
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = dns("it has no address".into());
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Events are small; without this each would wait for the one before to be confirmed.
                tcp.set_nodelay(true)
                    .map_err(|error| unreachable(address, &error.to_string()))?;
                return Ok(tcp);
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                failure = Error::Refused {
                    address: address.to_string(),
                };
            }
            Ok(Err(error)) => failure = unreachable(address, &error.to_string()),
            Err(_) => {
                failure = Error::Timeout {
                    phase: Phase::Connect,
                    after: limit,
                }
            }
        }
    }
    Err(failure)
}

fn unreachable(address: SocketAddr, what: &str) -> Error {
    Error::Unreachable {
        address: address.to_string(),
        what: what.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{
        ProxySettings, Settings,
        tests::fake::{Authority, serve, serve_tls, settings},
    };

    #[actix_web::test]
    async fn small_writes_are_not_held_back_on_any_road() {
        let authority = Authority::new();
        let file = authority.file();
        let plain = serve(|mut peer| async move {
            peer.closed().await;
        })
        .await;
        let secure = serve_tls(&authority, "127.0.0.1", |mut peer| async move {
            peer.closed().await;
        })
        .await;
        let proxy = serve(|mut peer| async move {
            peer.request().await;
            peer.say("HTTP/1.1 200 OK\r\n\r\n").await;
            peer.closed().await;
        })
        .await;
        let proxied = ProxySettings {
            http: Some(proxy.url()),
            ..ProxySettings::default()
        };
        for (is_secure, port, proxy) in [
            (false, plain.address.port(), None),
            (true, secure.address.port(), None),
            (false, 1, Some(proxied)),
        ] {
            let settings = Settings {
                extra_ca_file: Some(file.path().into()),
                proxy,
                ..settings()
            };
            let shelf = Rc::new(Shelf::new(Duration::ZERO));
            let connector = Connector::new(&Setup::new(settings).unwrap(), shelf, is_secure);
            let stream = connector.road.travel("127.0.0.1", port).await.unwrap();
            assert!(stream.tcp().nodelay().unwrap());
        }
    }

    #[actix_web::test]
    async fn a_closed_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = dial("127.0.0.1", address.port(), Reach::Anywhere, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(
            error,
            Error::Refused {
                address: address.to_string()
            }
        );
    }
}
