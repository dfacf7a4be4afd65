//! `debug`: what this program is, where its things are, whether it is signed in, and each setting with its origin.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::args::Debug;
use super::{Error, Outcome, Surroundings, health, print};
use crate::config::{self, Environment, Origins};
use crate::upstream::github::unusable_token;

pub fn run(debug: &Debug, environment: Environment) -> Outcome {
    let surroundings = Surroundings::new(&debug.place, debug.flags(), environment)?;
    let report = report(&surroundings)?;
    match debug.json {
        true => print(&format!("{report:#}\n")),
        false => print(&as_text(&report)),
    }
}

/// Everything, as one object. Settings that would not do are shown all the same, with the reason beside them.
fn report(surroundings: &Surroundings) -> Result<Value, Error> {
    let merged = surroundings.merge()?;
    let problem = config::load(&surroundings.sources).err().map(|error| error.to_string());
    let file = merged.file.as_ref().map(|file| file.display().to_string());
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "runtime": {
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "compiler": format!("rustc {}", rustc_version_runtime::version()),
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "cores": std::thread::available_parallelism().map_or(1, usize::from),
        },
        "paths": {
            "data_dir": {"value": surroundings.data_dir.path.display().to_string(), "origin": surroundings.data_dir.origin},
            "config_file": file,
            "token_file": surroundings.vault().path().display().to_string(),
        },
        "login": login(surroundings, &merged.origins),
        "settings": settings(&merged.origins),
        "learned": learned(surroundings),
        "warnings": merged.warnings,
        "problem": problem,
    }))
}

/// What the proxy that runs under these settings has learned of its models from refusals; null where none runs.
fn learned(surroundings: &Surroundings) -> Value {
    let asked = || {
        let settings = config::load_without_listening(&surroundings.sources).ok()?.settings;
        let server = settings.server;
        let address = format!("{}:{}", health::reachable(&server.host), server.port);
        let (_, body) = health::ask(&address, "/admin/status", settings.http.api_key.as_ref()).ok()?;
        let mut status: Value = serde_json::from_str(&body).ok()?;
        Some(status["learned"].take())
    };
    asked().unwrap_or_default()
}

/// Whether there is a token, and whose word it is; never the token itself, and no question to GitHub.
fn login(surroundings: &Surroundings, origins: &Origins) -> Value {
    let given = origins
        .get("github.token")
        .filter(|entry| entry.value.as_str().is_some_and(|token| !token.is_empty()));
    let of = |token: &str, source: String| match unusable_token(token) {
        Some(why) => json!({"state": "refused", "source": source, "problem": why}),
        None => json!({"state": "token present", "source": source}),
    };
    if let Some(given) = given {
        return of(given.value.as_str().unwrap_or_default(), given.origin.to_string());
    }
    match surroundings.vault().read() {
        Ok(Some(token)) => of(token.expose(), surroundings.vault().path().display().to_string()),
        Ok(None) => json!({"state": "signed out"}),
        Err(error) => json!({"state": "unreadable", "problem": error.to_string()}),
    }
}

fn settings(origins: &Origins) -> Map<String, Value> {
    let shown = origins.iter().map(|(key, entry)| {
        (
            key.to_string(),
            json!({"value": origins.shown(key), "origin": entry.origin.to_string()}),
        )
    });
    shown.collect()
}

fn as_text(report: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let runtime = &report["runtime"];
    line("version", format!("copilot-proxy {}", plain(&report["version"])));
    line(
        "runtime",
        format!(
            "{} {}, {} cores",
            plain(&runtime["os"]),
            plain(&runtime["arch"]),
            runtime["cores"]
        ),
    );
    line(
        "built",
        format!("{}, by {}", plain(&runtime["build"]), plain(&runtime["compiler"])),
    );
    let data_dir = &report["paths"]["data_dir"];
    line(
        "data dir",
        format!("{} ({})", plain(&data_dir["value"]), plain(&data_dir["origin"])),
    );
    line(
        "config file",
        report["paths"]["config_file"].as_str().unwrap_or("none").to_owned(),
    );
    line("token file", plain(&report["paths"]["token_file"]));
    let login = &report["login"];
    let about = ["source", "problem"]
        .iter()
        .filter_map(|name| login[name].as_str())
        .collect::<Vec<_>>()
        .join(": ");
    line(
        "login",
        if about.is_empty() {
            plain(&login["state"])
        } else {
            format!("{} ({about})", plain(&login["state"]))
        },
    );
    for (model, facts) in report["learned"].as_object().into_iter().flatten() {
        for (name, value) in facts.as_object().into_iter().flatten() {
            line("learned", format!("{model}: {name} = {value}"));
        }
    }
    if let Some(problem) = report["problem"].as_str() {
        line("problem", problem.to_owned());
    }
    for warning in report["warnings"].as_array().into_iter().flatten() {
        line("warning", plain(warning));
    }
    let rows: Vec<(&String, String, String)> = report["settings"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, entry)| (key, entry["value"].to_string(), plain(&entry["origin"])))
        .collect();
    let widest = |width: &dyn Fn(&(&String, String, String)) -> usize| rows.iter().map(width).max().unwrap_or(0);
    let (keys, values) = (widest(&|row| row.0.len()), widest(&|row| row.1.chars().count()).min(40));
    let _ = writeln!(text, "\nsettings");
    for (key, value, origin) in &rows {
        let _ = writeln!(text, "  {key:<keys$}  {value:<values$}  {origin}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Place;
    use crate::config::Flag;

    fn surroundings(dir: &std::path::Path, variables: &[(&str, &str)], flags: Vec<Flag>) -> Surroundings {
        let place = Place {
            config: None,
            data_dir: Some(dir.to_owned()),
        };
        Surroundings::new(&place, flags, variables.iter().copied().collect()).unwrap()
    }

    #[test]
    fn each_value_stands_beside_its_origin() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), "[stream]\nheartbeat_secs = 7\n").unwrap();
        let variables = [
            ("COPILOT_PROXY_LOG__FORMAT", "json"),
            ("GH_TOKEN", "ghu_hush"),
            ("COPILOT_PROXY_SERVER__API_KEY", "hush"),
        ];
        let port = Flag {
            name: "--port",
            setting: "server.port",
            value: 5.into(),
        };
        let report = report(&surroundings(dir.path(), &variables, vec![port])).unwrap();
        let setting = |name: &str| report["settings"][name].clone();
        assert_eq!(setting("server.port"), json!({"value": 5, "origin": "--port"}));
        assert_eq!(
            setting("log.format"),
            json!({"value": "json", "origin": "COPILOT_PROXY_LOG__FORMAT"})
        );
        assert_eq!(
            setting("server.host"),
            json!({"value": "127.0.0.1", "origin": "default"})
        );
        let file = dir.path().join("config.toml").display().to_string();
        assert_eq!(setting("stream.heartbeat_secs"), json!({"value": 7, "origin": file}));
        assert_eq!(report["login"], json!({"state": "token present", "source": "GH_TOKEN"}));
        assert_eq!(report["problem"], Value::Null);
        assert!(
            report["runtime"]["compiler"].as_str().unwrap().starts_with("rustc "),
            "{}",
            report["runtime"]
        );
        let text = format!("{report}{}", as_text(&report));
        assert!(!text.contains("hush"), "{text}");
        assert!(text.contains("server.port"));
    }

    #[test]
    fn what_a_running_proxy_has_learned_is_shown() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let read = stream.read(&mut asked).unwrap();
            let asked = String::from_utf8_lossy(&asked[..read]);
            assert!(asked.starts_with("GET /admin/status ") && asked.contains("x-api-key: a-key\r\n"));
            let body = json!({"learned": {"gpt-4.1": {"chat.max_tokens": "max_tokens"}}});
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n{body}").unwrap();
        });
        let dir = tempfile::tempdir().unwrap();
        let port = port.to_string();
        let variables = [
            ("COPILOT_PROXY_SERVER__PORT", port.as_str()),
            ("COPILOT_PROXY_SERVER__API_KEY", "a-key"),
        ];
        let report = report(&surroundings(dir.path(), &variables, Vec::new())).unwrap();
        assert_eq!(report["learned"], json!({"gpt-4.1": {"chat.max_tokens": "max_tokens"}}));
        assert!(as_text(&report).contains("gpt-4.1: chat.max_tokens = \"max_tokens\""));
    }

    #[test]
    fn settings_that_will_not_do_are_shown_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let host = [("COPILOT_PROXY_SERVER__HOST", "0.0.0.0")];
        let report = report(&surroundings(dir.path(), &host, Vec::new())).unwrap();
        assert!(report["problem"].as_str().unwrap().contains("0.0.0.0"));
        assert_eq!(report["login"]["state"], "signed out");
        assert!(as_text(&report).contains("refusing to listen on 0.0.0.0"));
    }
}
