//! The connections themselves, as the system sees them: both sides of the proxy live in this process.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use crate::support::{CLIENTS, World};

/// The sockets of this process whose other end is at this address.
fn sockets_to(peer: SocketAddr) -> Vec<TcpStream> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    let copied = numbers.filter_map(|number| {
        // SAFETY: the number is used for nothing but one `dup`, which refuses one that has been closed since.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        borrowed.try_clone_to_owned().ok()
    });
    let sockets = copied.map(|copy: OwnedFd| TcpStream::from(copy));
    let ours = sockets.filter(|socket| socket.peer_addr().is_ok_and(|address| address == peer));
    // The copies may be listed, too.
    let ours = ours.map(|socket| (socket.local_addr().unwrap(), socket));
    BTreeMap::from_iter(ours).into_values().collect()
}

#[actix_rt::test]
async fn small_writes_are_not_held_back_on_either_side() {
    let world = World::new().await;
    let upstream: SocketAddr = world.simulator.url.strip_prefix("http://").unwrap().parse().unwrap();
    for client in CLIENTS {
        let body = client.body("gpt-5.4", "[[sim:silence]] hi", true);
        let mut asked = world.ask("POST", client.path()).json(&body).open().await;
        asked.until("\r\n\r\n").await;
        let us = asked.stream.local_addr().unwrap();
        let accepted = sockets_to(us);
        assert_eq!(accepted.len(), 1, "{accepted:?}");
        assert!(accepted[0].nodelay().unwrap(), "{client:?}: the client's side waits");
        let out = sockets_to(upstream);
        assert!(!out.is_empty());
        for socket in out {
            assert!(
                socket.nodelay().unwrap(),
                "{client:?}: upstream's side waits: {socket:?}"
            );
        }
    }
}
