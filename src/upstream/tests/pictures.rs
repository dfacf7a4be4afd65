//! Pictures by their addresses: what is followed, what is refused, and what goes along.

use super::fake::{Authority, Fake, Peer, serve_tls, settings};
use crate::upstream::connector::Reach;
use crate::upstream::pictures::Pictures;
use crate::upstream::{Settings, Setup};

fn pictures(authority: &Authority, reach: Reach) -> Pictures {
    let file = authority.file();
    let settings = Settings {
        extra_ca_file: Some(file.path().into()),
        ..settings()
    };
    Pictures::within(reach, &Setup::new(settings).unwrap())
}

fn url(fake: &Fake, path: &str) -> String {
    format!("https://localhost:{}{path}", fake.address.port())
}

async fn gallery(mut peer: Peer) {
    while let Some(request) = peer.request().await {
        let path = request.split(' ').nth(1).unwrap().to_owned();
        let head = request.to_ascii_lowercase();
        assert!(!head.contains("authorization") && !head.contains("cookie"), "{head}");
        let redirect = |to: &str| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        let answer = match path.as_str() {
            "/picture" => "HTTP/1.1 200 OK\r\ncontent-type: image/png; a=b\r\ncontent-length: 3\r\n\r\npng".into(),
            "/once" => redirect("/picture"),
            "/round" => redirect("/round"),
            "/plain" => redirect("http://localhost/picture"),
            "/inside" => redirect("https://user@localhost/picture"),
            "/large" => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 11 << 20),
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into(),
        };
        peer.say(answer).await;
    }
}

#[actix_web::test]
async fn a_picture_is_followed_so_far_and_no_further() {
    let authority = Authority::new();
    let fake = serve_tls(&authority, "localhost", gallery).await;
    let pictures = pictures(&authority, Reach::Anywhere);
    for path in ["/picture", "/once"] {
        let picture = pictures.fetch(&url(&fake, path)).await.unwrap();
        assert_eq!(
            (picture.media_type.as_deref(), &*picture.bytes),
            (Some("image/png"), &b"png"[..])
        );
    }
    for (path, why) in [
        ("/round", "it is redirected more than 3 times"),
        ("/plain", "only https addresses are fetched"),
        ("/inside", "only https addresses are fetched"),
        ("/large", "it is larger than 10 MiB"),
        ("/nothing", "its server answered 404"),
    ] {
        assert_eq!(pictures.fetch(&url(&fake, path)).await, Err(why.into()), "{path}");
    }
    for other in [
        "http://localhost/",
        "file:///etc/passwd",
        "ftp://localhost/",
        "nonsense",
    ] {
        assert_eq!(
            pictures.fetch(other).await,
            Err("only https addresses are fetched".into()),
            "{other}"
        );
    }
}

#[actix_web::test]
async fn nothing_is_fetched_from_this_network() {
    let authority = Authority::new();
    let fake = serve_tls(&authority, "localhost", gallery).await;
    let pictures = pictures(&authority, Reach::Public);
    let port = fake.address.port();
    for host in [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "2130706433",
        "nobody.invalid",
    ] {
        let fetched = pictures.fetch(&format!("https://{host}:{port}/picture")).await;
        assert_eq!(fetched, Err("its host has no public address".into()), "{host}");
    }
}
