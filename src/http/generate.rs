//! The doors to a model: parse, call the relay, render. No more.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use futures_util::{FutureExt, stream};

use super::sse::Pen;
use super::{Doors, body, error, identity};
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::{Dialect, Protocol};
use crate::relay::{self, Answer, Call, Client};

pub async fn chat(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let relay = doors.relay.clone();
    serve(Protocol::Chat, request, payload, doors, async move |call| {
        relay.generate(call).await
    })
    .await
}

pub async fn responses(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let relay = doors.relay.clone();
    serve(Protocol::Responses, request, payload, doors, async move |call| {
        relay.generate(call).await
    })
    .await
}

pub async fn messages(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let relay = doors.relay.clone();
    serve(Protocol::Messages, request, payload, doors, async move |call| {
        relay.generate(call).await
    })
    .await
}

pub async fn compact(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let relay = doors.relay.clone();
    serve(Protocol::Responses, request, payload, doors, async move |call| {
        relay.compact(call).await
    })
    .await
}

pub async fn embeddings(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let relay = doors.relay.clone();
    serve(Protocol::Chat, request, payload, doors, async move |call| {
        relay.embed(call).await
    })
    .await
}

/// Text completions are older than chat; nothing upstream serves them.
pub async fn legacy_completions(request: HttpRequest) -> HttpResponse {
    let sentence = "text completions are not served; use /chat/completions";
    error::refuse(
        &request,
        &Failure::new(Kind::NotFound, sentence).with_code("unsupported_endpoint"),
    )
}

/// Reads the request, asks, and writes the answer as this client reads it.
pub(super) async fn serve(
    pen: impl Into<Pen>,
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
    ask: impl AsyncFnOnce(Call) -> Result<Answer, relay::Error>,
) -> HttpResponse {
    let pen = pen.into();
    let client = pen.client;
    let answered = async {
        let sent = body::object(request.headers(), payload.into_inner(), doors.settings.max_body_bytes).await?;
        let answered = ask(Call {
            client: client_of(&request, client),
            body: sent.object,
            text: sent.text,
            earlier: None,
            kept: false,
        })
        .await;
        drop(sent.share);
        answered
    };
    match contained(answered).await {
        Ok(answer) => render(pen, answer),
        Err(refused) => {
            let mut response = error::response(&request, client, &refused.failure);
            for (name, value) in pairs(&refused.headers) {
                if !response.headers().contains_key(&name) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
    }
}

/// A bug of ours is this request's misfortune and no other's.
pub(super) async fn contained(
    answer: impl Future<Output = Result<Answer, relay::Error>>,
) -> Result<Answer, relay::Error> {
    let answered = AssertUnwindSafe(answer).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        let sentence = "the proxy failed on this request; its log says where";
        Err(Failure::new(Kind::Internal, sentence).into())
    })
}

fn render(pen: Pen, answer: Answer) -> HttpResponse {
    match answer {
        Answer::Whole { headers, body } => head(&headers).content_type("application/json").body(body),
        Answer::Stream { headers, stream } => {
            let kind = pen.content_type();
            let pieces = stream::unfold((stream, pen), |(mut stream, mut pen)| async move {
                let bytes = match stream.next().await {
                    Some(piece) => pen.write(&piece),
                    None => pen.end()?,
                };
                Some((Ok::<_, Infallible>(bytes), (stream, pen)))
            });
            head(&headers)
                .content_type(kind)
                .insert_header((header::CACHE_CONTROL, "no-cache"))
                .insert_header(("x-accel-buffering", "no"))
                .streaming(Box::pin(pieces))
        }
    }
}

fn head(headers: &[(String, String)]) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    for pair in pairs(headers) {
        response.insert_header(pair);
    }
    response
}

fn pairs(headers: &[(String, String)]) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    headers.iter().filter_map(|(name, value)| {
        Some((
            HeaderName::from_bytes(name.as_bytes()).ok()?,
            HeaderValue::from_str(value).ok()?,
        ))
    })
}

/// What the request's headers say of its client.
pub fn client_of(request: &HttpRequest, dialect: impl Into<Dialect>) -> Client {
    let dialect = dialect.into();
    let headers = request.headers();
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let session = ["x-session-id", "session-id", "session_id", "conversation_id"];
    Client {
        dialect,
        protocol: dialect.travels_as(),
        request_id: identity::of(request),
        // A name that is no ASCII is still a name: whoever decides about a request should see it.
        agent: headers
            .get("user-agent")
            .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned())
            .unwrap_or_default(),
        originator: text("originator"),
        betas: betas(headers),
        session: session.into_iter().find_map(text),
        says_user: headers.get("x-initiator").is_some_and(|value| value == "user"),
    }
}

/// The tokens of every `anthropic-beta` header.
fn betas(headers: &HeaderMap) -> Vec<String> {
    let lists = headers
        .get_all("anthropic-beta")
        .filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|beta| !beta.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use actix::Actor;
    use actix_web::test::TestRequest;
    use actix_web::{App, HttpServer};
    use tokio::sync::Notify;

    use super::*;
    use crate::actors::rate_limiter::{self, GetSnapshot, RateLimiterActor};
    use crate::actors::{Actors, Published};
    use crate::http::tests::Proxy;
    use crate::relay::stream::tests::with_a_bug;

    #[test]
    fn a_client_hides_behind_no_odd_letters() {
        let agent = HeaderValue::from_bytes(b"evil\xe2\x80\xae\xff").unwrap();
        let request = TestRequest::default()
            .insert_header(("user-agent", agent))
            .to_http_request();
        assert_eq!(client_of(&request, Protocol::Chat).agent, "evil\u{202e}\u{fffd}");
    }
    /// Fails before an answer has begun, with a permit in hand.
    async fn before(actors: web::Data<Actors>) -> HttpResponse {
        let answered = contained(async move {
            let _permit = actors.acquire().await?.expect("a permit");
            panic!("this is the bug")
        });
        match answered.await {
            Ok(_) => HttpResponse::Ok().finish(),
            Err(refused) => HttpResponse::build(refused.failure.status(Protocol::Chat).try_into().unwrap()).finish(),
        }
    }

    /// Fails in the middle of an answer, once its client has heard the beginning.
    async fn within(actors: web::Data<Actors>, heard: web::Data<Notify>) -> HttpResponse {
        let permit = actors.acquire().await.unwrap().expect("a permit");
        let time = async move { heard.notified().await };
        let stream = with_a_bug(Actors::clone(&actors), permit, time).into();
        let headers = Vec::new();
        render(Protocol::Chat.into(), Answer::Stream { headers, stream })
    }

    #[actix_web::test]
    async fn a_bug_takes_neither_the_worker_nor_the_permit_with_it() {
        let settings = rate_limiter::Settings {
            max_concurrent: 1,
            ..rate_limiter::Settings::default()
        };
        let given = Proxy::default().start()().relay.actors().clone();
        let limiter = RateLimiterActor::new(settings);
        let actors = Actors {
            published: Published {
                free: limiter.published(),
                ..given.published.clone()
            },
            rate_limiter: limiter.start(),
            ..given
        };
        let (of_workers, heard) = (web::Data::new(actors.clone()), web::Data::new(Notify::new()));
        let hears = heard.clone();
        let server = HttpServer::new(move || {
            let app = App::new().app_data(of_workers.clone()).app_data(hears.clone());
            app.route("/before", web::get().to(before))
                .route("/within", web::get().to(within))
                .route("/", web::get().to(HttpResponse::Ok))
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        let get = |path: &str| awc::Client::default().get(format!("{url}{path}")).send();
        for _ in 0..3 {
            assert_eq!(get("/before").await.unwrap().status(), 500);
            let mut answer = get("/within").await.unwrap();
            assert_eq!(answer.status(), 200);
            heard.notify_one();
            assert_eq!(answer.body().await.unwrap(), "data: {}\n\n");
            let since = Instant::now();
            while actors.rate_limiter.send(GetSnapshot).await.unwrap().running > 0 {
                assert!(since.elapsed() < Duration::from_secs(5), "the permit is lost");
                actix_rt::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(get("/").await.unwrap().status(), 200);
        }
        handle.stop(false).await;
    }
}
