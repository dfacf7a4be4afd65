//! From values to settings: ranges, words, addresses, and what must not stand together. Each complaint names the setting
//! and where its value came from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{Environment, Error, GivenToken, Key, Models, Origin, Origins, Server, Settings};
use crate::actors::{approval, rate_limiter};
use crate::protocol::catalog::Endpoints;
use crate::relay::{OverflowAsStream, WebSearch};
use crate::routing::names::Fallback;
use crate::secret::Secret;
use crate::telemetry::Format;
use crate::translate::Tuning;
use crate::translate::estimate::Multipliers;
use crate::{http, relay, simulator, telemetry, upstream};

/// Longer times than a year are slips of the keyboard.
const LONGEST_SECS: f64 = 31_536_000.0;

pub fn settings(origins: &Origins, environment: &Environment) -> Result<Settings, Error> {
    let read = Read(origins);
    let host = read.required("server.host")?;
    let loopback = is_loopback(&host);
    let api_key = read.api_key()?;
    Ok(Settings {
        server: Server {
            host,
            port: read.whole("server.port", 0, u16::MAX)?,
            workers: Some(read.whole("server.workers", 0, 1024)?).filter(|&workers| workers > 0),
            shutdown_grace: read.seconds_or_none("server.shutdown_grace_secs")?,
        },
        http: http::Settings {
            api_key,
            loopback,
            allowed_hosts: read.list("server.allowed_hosts"),
            allowed_origins: read.list("server.allowed_origins"),
            max_body_bytes: read.whole("server.max_body_bytes", 1024, usize::MAX)?,
            token_endpoint: read.switch("server.token_endpoint"),
            list_all_models: read.switch("models.list_all"),
            websocket: read.switch("server.websocket"),
        },
        relay: relay_settings(&read)?,
        upstream: upstream_settings(&read, environment)?,
        rate_limit: rate_limiter::Settings {
            gap: read.seconds_or_none("rate_limit.seconds")?,
            max_concurrent: read.whole("rate_limit.max_concurrent", 0, usize::MAX)?,
            wait: read.switch("rate_limit.wait"),
            max_queue: read.whole("rate_limit.max_queue", 0, 100_000)?,
        },
        approval: approval::Settings {
            on: read.switch("approval.manual"),
            timeout: read.seconds("approval.timeout_secs")?,
        },
        keeps_responses: read.word("responses.store", [("none", false), ("memory", true)])?,
        models: Models {
            refresh: read.seconds("models.refresh_secs")?,
            overrides: read.overrides()?,
        },
        log: telemetry::Settings {
            format: read.word("log.format", [("text", Format::Text), ("json", Format::Json)])?,
            verbose: read.switch("log.verbose"),
        },
        simulator: simulator_settings(&read)?,
        github_token: read.text("github.token").map(|token| GivenToken {
            token: Secret::new(token),
            origin: read.origin("github.token"),
        }),
    })
}

/// Refuses to listen where strangers may call, unless they must show a key or everybody is welcome.
pub fn refuse_strangers(origins: &Origins, settings: &Settings) -> Result<(), Error> {
    let guarded = settings.http.loopback || settings.http.api_key.is_some();
    if guarded || Read(origins).switch("server.allow_unauthenticated") {
        return Ok(());
    }
    Err(Error::Open {
        host: settings.server.host.clone(),
    })
}

fn relay_settings(read: &Read) -> Result<relay::Settings, Error> {
    let web_search = read.word("web_search.mode", [("off", false), ("via_responses", true)])?;
    let small_model = read.text("small_model.id");
    let warmup = read.switch("small_model.warmup");
    if warmup && small_model.is_none() {
        return Err(read.wrong("small_model.warmup", "needs small_model.id"));
    }
    let search_model = read.text("web_search.model");
    Ok(relay::Settings {
        heartbeat: read.seconds("stream.heartbeat_secs")?,
        manual_approval: read.switch("approval.manual"),
        max_answer_bytes: read.whole("upstream.max_answer_bytes", 1024, usize::MAX)?,
        aliases: read.aliases(),
        fallback: read.word(
            "models.fallback",
            [
                ("off", Fallback::Off),
                ("claude-family", Fallback::ClaudeFamily),
                ("family", Fallback::Family),
            ],
        )?,
        warmup_model: small_model.filter(|_| warmup),
        tuning: Tuning {
            strip_attribution: read.switch("strip_attribution"),
            keep_cache_ttl: read.switch("messages.keep_cache_ttl"),
            structured_best_effort: read.switch("structured.best_effort"),
            stop_emulation: read.switch("stop_emulation"),
            reasoning_alias: read.switch("chat.reasoning_alias"),
            show_reasoning: read.switch("chat.show_reasoning"),
            min_output_tokens: read.whole("responses.min_output_tokens", 1, 1_000_000u64)?,
            drop_item_references: read.switch("responses.drop_item_references"),
            raw_encrypted: read.switch("responses.raw_encrypted"),
            trim_before_compaction: read.switch("responses.trim_before_compaction"),
        },
        compaction_is_agent: read.switch("initiator.compaction_is_agent"),
        trust_client: read.switch("initiator.trust_client"),
        overflow_as_stream: read.word(
            "responses.overflow_as_stream",
            [
                ("auto", OverflowAsStream::Auto),
                ("always", OverflowAsStream::Always),
                ("never", OverflowAsStream::Never),
            ],
        )?,
        aggregate: read.switch("aggregate_nonstream"),
        multipliers: read.multipliers()?,
        web_search: match (web_search, search_model) {
            (false, _) => None,
            (true, Some(model)) => Some(WebSearch {
                model,
                max_uses: read.whole("web_search.max_uses", 1, 100)?,
            }),
            (true, None) => return Err(read.wrong("web_search.mode", "needs web_search.model")),
        },
        fetch_images: read.fetch_images()?,
        retries: read.whole("upstream.retry_5xx", 0, 3)?,
        websocket: read.switch("upstream.websocket"),
    })
}

fn upstream_settings(read: &Read, environment: &Environment) -> Result<upstream::Settings, Error> {
    let accounts = ["individual", "business", "enterprise"].map(|name| (name, name));
    Ok(upstream::Settings {
        github_url: read.address("upstream.github_url")?,
        github_api_url: read.address("upstream.github_api_url")?,
        copilot_url: read.address_or_none("upstream.copilot_url")?,
        account_type: read.word("upstream.account_type", accounts)?.to_owned(),
        connect: read.seconds("upstream.connect_secs")?,
        first_byte: read.seconds("upstream.first_byte_secs")?,
        silence: read.seconds("upstream.silence_secs")?,
        max_answer_bytes: read.whole("upstream.max_answer_bytes", 1024, usize::MAX)?,
        proxy: read.switch("upstream.proxy_env").then(|| environment.proxies()),
        extra_ca_file: read.text("upstream.extra_ca_file").map(PathBuf::from),
        editor_version: read.header("upstream.editor_version")?,
        plugin_version: read.header("upstream.plugin_version")?,
        api_version: read.header("upstream.api_version")?,
        integration_id: read.header("upstream.integration_id")?,
        client_id: read.header("upstream.client_id")?,
    })
}

fn simulator_settings(read: &Read) -> Result<simulator::Settings, Error> {
    Ok(simulator::Settings {
        workers: read.whole("simulator.workers", 1, 64)?,
        public_url: read.address_or_none("simulator.public_url")?,
        token_lifetime: read.seconds("simulator.token_lifetime_secs")?,
        refresh_in: read.seconds("simulator.refresh_in_secs")?,
        approve_after_polls: read.whole("simulator.approve_after_polls", 0, 1000)?,
        device_interval: read.seconds_or_none("simulator.device_interval_secs")?,
        event_delay: read.seconds_or_none("simulator.event_delay_secs")?,
        socket_lifetime: read.seconds("simulator.socket_lifetime_secs")?,
        plan: read.required("simulator.plan")?,
        strict_ids: read.switch("simulator.strict_ids"),
        ..simulator::Settings::default()
    })
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Values by the setting's name. Their kinds are known to be right.
struct Read<'a>(&'a Origins);

impl Read<'_> {
    fn value(&self, setting: &str) -> &Value {
        self.0.get(setting).map_or(&Value::Null, |entry| &entry.value)
    }

    fn origin(&self, setting: &str) -> Origin {
        self.0
            .get(setting)
            .map_or(Origin::Default, |entry| entry.origin.clone())
    }

    fn wrong(&self, setting: &str, why: impl Into<String>) -> Error {
        Error::Value {
            key: setting.into(),
            origin: self.origin(setting).to_string(),
            why: why.into(),
        }
    }

    /// Behind an outbound proxy it would be the proxy's network that images come from, and nobody looks at that.
    fn fetch_images(&self) -> Result<bool, Error> {
        let on = self.switch("images.fetch");
        if on && self.switch("upstream.proxy_env") {
            return Err(self.wrong("images.fetch", "cannot stand beside upstream.proxy_env"));
        }
        Ok(on)
    }

    fn switch(&self, setting: &str) -> bool {
        self.value(setting).as_bool().unwrap_or_default()
    }

    /// An empty text is none.
    fn text(&self, setting: &str) -> Option<String> {
        self.value(setting)
            .as_str()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    }

    fn required(&self, setting: &str) -> Result<String, Error> {
        self.text(setting)
            .ok_or_else(|| self.wrong(setting, "must not be empty"))
    }

    /// A text that is sent in a header.
    fn header(&self, setting: &str) -> Result<String, Error> {
        let text = self.required(setting)?;
        if text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            Ok(text)
        } else {
            Err(self.wrong(setting, "must be plain ASCII on one line"))
        }
    }

    fn list(&self, setting: &str) -> Vec<String> {
        texts(self.value(setting))
    }

    fn word<T: Copy, const N: usize>(&self, setting: &str, words: [(&str, T); N]) -> Result<T, Error> {
        let word = self.text(setting).unwrap_or_default();
        words
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| {
                let names = words.map(|(name, _)| name).join(", ");
                self.wrong(setting, format!("is {word:?}, but must be one of: {names}"))
            })
    }

    fn whole<T: TryFrom<u64> + TryInto<u64>>(&self, setting: &str, least: u64, most: T) -> Result<T, Error> {
        let most = most.try_into().unwrap_or(u64::MAX);
        let number = self
            .value(setting)
            .as_u64()
            .filter(|number| (least..=most).contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            let range = match (least, most) {
                (least, u64::MAX) => format!("must be a whole number, at least {least}"),
                (least, most) => format!("must be a whole number from {least} to {most}"),
            };
            self.wrong(setting, format!("is {}, but {range}", self.value(setting)))
        })
    }

    /// A time that may be zero.
    fn seconds_or_none(&self, setting: &str) -> Result<Duration, Error> {
        let number = self
            .value(setting)
            .as_f64()
            .filter(|seconds| (0.0..=LONGEST_SECS).contains(seconds));
        number.map(Duration::from_secs_f64).ok_or_else(|| {
            self.wrong(
                setting,
                format!(
                    "is {}, but must be a number of seconds, at least 0",
                    self.value(setting)
                ),
            )
        })
    }

    fn seconds(&self, setting: &str) -> Result<Duration, Error> {
        self.seconds_or_none(setting)
            .ok()
            .filter(|time| !time.is_zero())
            .ok_or_else(|| {
                self.wrong(
                    setting,
                    format!("is {}, but must be a number of seconds above 0", self.value(setting)),
                )
            })
    }

    fn address(&self, setting: &str) -> Result<String, Error> {
        let text = self.required(setting)?;
        let uri = text.parse::<::http::Uri>().ok();
        let whole = uri.filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
        });
        match whole {
            Some(_) => Ok(text.trim_end_matches('/').to_owned()),
            None => Err(self.wrong(setting, "must be an http or https address, such as https://example.com")),
        }
    }

    fn address_or_none(&self, setting: &str) -> Result<Option<String>, Error> {
        self.text(setting).map(|_| self.address(setting)).transpose()
    }

    /// The key clients must present: given itself, or in a file. Of two, the one from the later layer counts.
    fn api_key(&self) -> Result<Option<Secret>, Error> {
        let (key, file) = (self.text("server.api_key"), self.text("server.api_key_file"));
        let (key_origin, file_origin) = (self.origin("server.api_key"), self.origin("server.api_key_file"));
        let key = match (key, file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) if std::mem::discriminant(&key_origin) == std::mem::discriminant(&file_origin) => {
                return Err(self.wrong("server.api_key_file", "cannot stand beside server.api_key"));
            }
            (Some(key), None) => key,
            (Some(key), Some(_)) if key_origin > file_origin => key,
            (_, Some(path)) => return key_in_file(&path, &file_origin).map(Some),
        };
        match unfit_key(&key) {
            Some(why) => Err(self.wrong("server.api_key", why)),
            None => Ok(Some(Secret::new(key))),
        }
    }

    fn aliases(&self) -> BTreeMap<String, String> {
        let entries = self.0.table("models.aliases");
        let aliases = entries.filter_map(|(name, entry)| Some((name.to_owned(), entry.value.as_str()?.to_owned())));
        aliases.filter(|(_, model)| !model.is_empty()).collect()
    }

    fn multipliers(&self) -> Result<Multipliers, Error> {
        let entries = self.0.table("count.multipliers");
        entries
            .map(
                |(name, entry)| match entry.value.as_f64().filter(|factor| *factor > 0.0 && *factor <= 100.0) {
                    Some(factor) => Ok((name.to_owned(), factor)),
                    None => Err(Error::Value {
                        key: Key::entry("count.multipliers", name).to_string(),
                        origin: entry.origin.to_string(),
                        why: format!("is {}, but must be above 0 and at most 100", entry.value),
                    }),
                },
            )
            .collect()
    }

    fn overrides(&self) -> Result<BTreeMap<String, Endpoints>, Error> {
        let entries = self.0.table("models.overrides");
        entries
            .map(|(name, entry)| match endpoints(&texts(&entry.value)) {
                Ok(endpoints) => Ok((name.to_owned(), endpoints)),
                Err(why) => Err(Error::Value {
                    key: Key::entry("models.overrides", name).to_string(),
                    origin: entry.origin.to_string(),
                    why,
                }),
            })
            .collect()
    }
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(Value::as_str)
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn key_in_file(path: &str, origin: &Origin) -> Result<Secret, Error> {
    let unfit = |why: String| Error::KeyFile {
        path: path.into(),
        origin: origin.to_string(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| unfit(error.to_string()))?;
    let key = text.trim_end_matches(['\r', '\n']);
    if key.trim().is_empty() {
        return Err(unfit("it is empty".into()));
    }
    match unfit_key(key) {
        Some(why) => Err(unfit(format!("it {why}"))),
        None => Ok(Secret::new(key)),
    }
}

/// Why no client could present a key.
fn unfit_key(key: &str) -> Option<&'static str> {
    let fits = key.chars().all(|c| c.is_ascii_graphic());
    (!fits).then_some("must be one word of plain ASCII, since it travels in a header")
}

fn endpoints(names: &[String]) -> Result<Endpoints, String> {
    let mut endpoints = Endpoints::default();
    for name in names {
        let place = match name.trim_start_matches("/v1").trim_start_matches('/') {
            "chat/completions" => &mut endpoints.chat,
            "responses" => &mut endpoints.responses,
            "ws:/responses" => &mut endpoints.websocket,
            "messages" => &mut endpoints.messages,
            "embeddings" => &mut endpoints.embeddings,
            _ => {
                return Err(format!(
                    "names {name:?}, but endpoints are: /chat/completions, /responses, ws:/responses, \
                     /v1/messages, /embeddings"
                ));
            }
        };
        *place = true;
    }
    Ok(endpoints)
}
