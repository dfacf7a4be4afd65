//! The layers together, and what the settings refuse.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

/// Settings from a file's text, variables and flags; nothing of this machine.
struct Case {
    dir: tempfile::TempDir,
    sources: Sources,
}

fn case() -> Case {
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources {
        data_dir: dir.path().to_owned(),
        ..Sources::default()
    };
    Case { dir, sources }
}

impl Case {
    fn file(mut self, text: &str) -> Self {
        let path = self.dir.path().join("team.toml");
        std::fs::write(&path, text).unwrap();
        self.sources.file = Some(path);
        self
    }

    fn variables(mut self, variables: &[(&str, &str)]) -> Self {
        self.sources.environment = variables.iter().copied().collect();
        self
    }

    fn flag(mut self, name: &'static str, setting: &'static str, value: Value) -> Self {
        self.sources.flags.push(Flag { name, setting, value });
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap()
    }

    fn error(&self) -> (String, Option<String>) {
        let error = load(&self.sources).unwrap_err();
        let text = error
            .to_string()
            .replace(&format!("{}/", self.dir.path().display()), "");
        (text, error.hint())
    }
}

#[test]
fn the_defaults_are_those_of_each_floor() {
    let settings = case().load().settings;
    assert_eq!(
        (
            settings.server.host.as_str(),
            settings.server.port,
            settings.server.workers
        ),
        ("127.0.0.1", 4399, None)
    );
    assert_eq!(
        format!("{:?}", settings.http),
        format!("{:?}", crate::http::Settings::default())
    );
    assert_eq!(
        format!("{:?}", settings.relay),
        format!("{:?}", crate::relay::Settings::default())
    );
    assert_eq!(
        format!("{:?}", settings.upstream),
        format!("{:?}", crate::upstream::Settings::default())
    );
    assert_eq!(settings.simulator, crate::simulator::Settings::default());
    assert_eq!(settings.rate_limit, crate::actors::rate_limiter::Settings::default());
    assert!(settings.github_token.is_none() && !settings.approval.on);
}

#[test]
fn later_layers_win_and_each_value_knows_its_layer() {
    let text = "[server]\nport = 1\nhost = \"localhost\"\nworkers = 3\n[log]\nverbose = true\n";
    let loaded = case()
        .file(text)
        .variables(&[
            ("COPILOT_PROXY_SERVER__PORT", "2"),
            ("COPILOT_PROXY_SERVER__HOST", "::1"),
        ])
        .flag("--port", "server.port", json!(3))
        .load();
    assert_eq!(
        (loaded.settings.server.port, loaded.settings.server.host.as_str()),
        (3, "::1")
    );
    let origin = |setting| loaded.origins.get(setting).unwrap().origin.to_string();
    assert_eq!(origin("server.port"), "--port");
    assert_eq!(origin("server.host"), "COPILOT_PROXY_SERVER__HOST");
    assert!(origin("server.workers").ends_with("team.toml"));
    assert_eq!(origin("stream.heartbeat_secs"), "default");
}

#[test]
fn the_data_dir_may_hold_a_file() {
    let case = case();
    std::fs::write(case.dir.path().join("config.toml"), "[server]\nport = 7\n").unwrap();
    assert_eq!(case.load().settings.server.port, 7);
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let mut case = case();
    case.sources.file = Some(case.dir.path().join("none.toml"));
    assert_eq!(case.error().0, "cannot read none.toml");
}

#[test]
fn an_unknown_key_names_place_and_neighbour() {
    let (error, hint) = case().file("[server]\nhost = \"::1\"\nprot = 1\n").error();
    assert_eq!(error, "unknown setting server.prot in team.toml, line 3");
    assert_eq!(hint.as_deref(), Some("did you mean server.port?"));
    let (error, hint) = case().file("[sever]\nport = 1\n").error();
    assert_eq!(error, "unknown setting sever.port in team.toml, line 2");
    assert_eq!(hint.as_deref(), Some("did you mean server.port?"));
    assert_eq!(
        case().file("server = 3\n").error().0,
        "server in team.toml, line 1 must be a section of settings, not a number"
    );
    assert_eq!(
        case().file("[server.port]\nx = 1\n").error().0,
        "server.port in team.toml, line 1 must be a number, not a table"
    );
}

#[test]
fn a_wrong_kind_names_place_and_kind() {
    let (error, _) = case().file("[server]\nport = \"high\"\n").error();
    assert_eq!(error, "server.port in team.toml, line 2 must be a number, not a text");
    let (error, _) = case().variables(&[("COPILOT_PROXY_APPROVAL__MANUAL", "maybe")]).error();
    assert_eq!(
        error,
        "approval.manual in COPILOT_PROXY_APPROVAL__MANUAL must be true or false, not \"maybe\""
    );
    let (error, _) = case().file("[models]\naliases = 1\n").error();
    assert_eq!(
        error,
        "models.aliases in team.toml, line 2 must be a table, not a number"
    );
    let (error, _) = case().file("[server]\nallowed_hosts = [1]\n").error();
    assert_eq!(
        error,
        "server.allowed_hosts in team.toml, line 2 must be a list of texts, not a list"
    );
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    let (error, _) = case().file("[server]\nport\n").error();
    assert!(
        error.starts_with("team.toml is not valid TOML: at line 2, column"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn values_out_of_range_name_their_origin() {
    let (error, _) = case().flag("--port", "server.port", json!(70000)).error();
    assert_eq!(
        error,
        "server.port is 70000, but must be a whole number from 0 to 65535 (from --port)"
    );
    let (error, _) = case()
        .variables(&[("COPILOT_PROXY_STREAM__HEARTBEAT_SECS", "0")])
        .error();
    assert!(
        error.starts_with("stream.heartbeat_secs is 0, but must be a number of seconds above 0"),
        "{error}"
    );
    let (error, _) = case().file("[upstream]\naccount_type = \"premium\"\n").error();
    assert_eq!(
        error,
        "upstream.account_type is \"premium\", but must be one of: individual, business, enterprise (from team.toml)"
    );
    for address in ["ftp://x", "github.com", "https://", "http://x?y=1"] {
        let (error, _) = case()
            .variables(&[("COPILOT_PROXY_UPSTREAM__GITHUB_URL", address)])
            .error();
        assert!(
            error.starts_with("upstream.github_url must be an http or https address"),
            "{address}: {error}"
        );
    }
    assert!(
        case()
            .file("[rate_limit]\nseconds = -1\n")
            .error()
            .0
            .contains("at least 0")
    );
    assert!(
        case()
            .file("[rate_limit]\nseconds = nan\n")
            .error()
            .0
            .contains("must be a number, not a number")
    );
    assert!(
        case()
            .file("[small_model]\nwarmup = true\n")
            .error()
            .0
            .contains("needs small_model.id")
    );
}

#[test]
fn a_stray_variable_is_a_warning() {
    let loaded = case()
        .variables(&[
            ("COPILOT_PROXY_SERVER__PROT", "1"),
            ("COPILOT_PROXY_HOME", "/x"),
            ("COPILOT_PROXY_DATA_DIR", "/data"),
            ("COPILOT_PROXYING", "1"),
            ("OTHER", "1"),
        ])
        .load();
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert_eq!(loaded.warnings[0], "COPILOT_PROXY_HOME is no setting and is ignored");
    assert_eq!(
        loaded.warnings[1],
        "COPILOT_PROXY_SERVER__PROT is no setting and is ignored; did you mean COPILOT_PROXY_SERVER__PORT?"
    );
}

#[test]
fn lists_and_tables_have_a_form_for_the_environment() {
    let settings = case()
        .file("[models.aliases]\n\"GPT-4.1\" = \"gpt-4.1\"\nfast = \"slow\"\n")
        .variables(&[
            ("COPILOT_PROXY_SERVER__ALLOWED_HOSTS", "a.example, b.example,"),
            ("COPILOT_PROXY_MODELS__ALIASES__FAST", "gpt-5-mini"),
            ("COPILOT_PROXY_MODELS__OVERRIDES", "{ \"gpt-5.4\" = [\"/responses\"] }"),
            ("COPILOT_PROXY_COUNT__MULTIPLIERS__CLAUDE", "1.5"),
            ("COPILOT_PROXY_UPSTREAM__CONNECT_SECS", "0.5"),
        ])
        .load()
        .settings;
    assert_eq!(settings.http.allowed_hosts, ["a.example", "b.example"]);
    assert_eq!(settings.relay.aliases["fast"], "gpt-5-mini");
    assert_eq!(settings.relay.aliases["GPT-4.1"], "gpt-4.1");
    assert!(settings.models.overrides["gpt-5.4"].responses && !settings.models.overrides["gpt-5.4"].chat);
    assert_eq!(
        (settings.relay.multipliers["claude"], settings.relay.multipliers["grok"]),
        (1.5, 1.05)
    );
    assert_eq!(settings.upstream.connect, std::time::Duration::from_millis(500));
}

#[test]
fn beyond_loopback_a_key_is_needed() {
    for host in ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"] {
        case().flag("--host", "server.host", json!(host)).load();
    }
    for host in ["0.0.0.0", "::", "192.168.1.2", "box.example"] {
        let open = || case().flag("--host", "server.host", json!(host));
        let (error, hint) = open().error();
        assert!(
            error.starts_with(&format!("refusing to listen on {host} without a key")),
            "{error}"
        );
        let hint = hint.unwrap();
        assert!(
            hint.contains("server.api_key") && hint.contains("--allow-unauthenticated"),
            "{hint}"
        );
        assert!(
            !open()
                .variables(&[("COPILOT_PROXY_SERVER__API_KEY", "k")])
                .load()
                .settings
                .http
                .loopback
        );
        open()
            .flag("--allow-unauthenticated", "server.allow_unauthenticated", json!(true))
            .load();
    }
}

#[test]
fn images_are_not_fetched_behind_an_outbound_proxy() {
    let on = |more: &str| case().file(&format!("[images]\nfetch = true\n{more}"));
    assert!(on("").load().settings.relay.fetch_images);
    let (error, _) = on("[upstream]\nproxy_env = true\n").error();
    assert!(
        error.contains("images.fetch") && error.contains("upstream.proxy_env"),
        "{error}"
    );
}

#[test]
fn a_key_comes_by_itself_or_in_a_file() {
    let key = |case: &Case| case.load().settings.http.api_key.map(|key| key.expose().to_owned());
    assert_eq!(key(&case().file("[server]\napi_key = \"\"\n")), None);
    assert_eq!(
        key(&case().file("[server]\napi_key = \"one\"\n")).as_deref(),
        Some("one")
    );

    let by_file = |text: Option<&str>| {
        let case = case();
        let path = case.dir.path().join("key");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let path = path.display().to_string();
        case.variables(&[("COPILOT_PROXY_SERVER__API_KEY_FILE", &path)])
    };
    assert_eq!(key(&by_file(Some("two\r\n"))).as_deref(), Some("two"));
    assert!(by_file(None).error().0.contains("COPILOT_PROXY_SERVER__API_KEY_FILE"));
    assert!(by_file(Some("\n")).error().0.ends_with("it is empty"));
    assert!(by_file(Some("a b")).error().0.contains("one word"));
    assert_eq!(
        key(&by_file(Some("two")).file("[server]\napi_key = \"one\"\n")).as_deref(),
        Some("two")
    );
    let both = case().file("[server]\napi_key = \"one\"\napi_key_file = \"/none\"\n");
    assert!(
        both.error()
            .0
            .starts_with("server.api_key_file cannot stand beside server.api_key")
    );
}

#[test]
fn the_github_token_has_an_order_and_no_place_in_a_file() {
    let given = |case: Case| {
        case.load()
            .settings
            .github_token
            .map(|given| (given.token.expose().to_owned(), given.origin.to_string()))
    };
    let variables = [
        ("GH_TOKEN", "ghu_2"),
        ("GITHUB_TOKEN", "ghu_3"),
        ("COPILOT_PROXY_GITHUB__TOKEN", "ghu_1"),
    ];
    let flagged = case()
        .variables(&variables)
        .flag("--github-token", "github.token", json!("ghu_0"));
    assert_eq!(given(flagged), Some(("ghu_0".into(), "--github-token".into())));
    assert_eq!(
        given(case().variables(&variables)),
        Some(("ghu_1".into(), "COPILOT_PROXY_GITHUB__TOKEN".into()))
    );
    assert_eq!(
        given(case().variables(&variables[..2])),
        Some(("ghu_2".into(), "GH_TOKEN".into()))
    );
    assert_eq!(
        given(case().variables(&[("GH_TOKEN", ""), variables[1]])),
        Some(("ghu_3".into(), "GITHUB_TOKEN".into()))
    );
    assert!(
        case()
            .file("[github]\ntoken = \"ghu_1\"\n")
            .error()
            .0
            .contains("GH_TOKEN")
    );

    let personal = case()
        .variables(&[("GH_TOKEN", "ghp_1")])
        .load()
        .settings
        .github_token
        .unwrap();
    let error = personal.usable().unwrap_err().to_string();
    assert!(
        error.contains("GH_TOKEN") && error.contains("personal access token") && !error.contains("ghp_1"),
        "{error}"
    );
}

#[test]
fn proxies_count_only_when_asked_for() {
    let variables = [("HTTPS_PROXY", "http://proxy:3128")];
    assert!(case().variables(&variables).load().settings.upstream.proxy.is_none());
    let asked = case()
        .variables(&variables)
        .flag("--proxy-env", "upstream.proxy_env", json!(true))
        .load();
    assert_eq!(
        asked.settings.upstream.proxy.unwrap().https.as_deref(),
        Some("http://proxy:3128")
    );
}

#[test]
fn secrets_are_not_shown() {
    let loaded = case()
        .variables(&[
            ("COPILOT_PROXY_SERVER__API_KEY", "hush1"),
            ("GH_TOKEN", "hush2"),
            ("COPILOT_PROXY_UPSTREAM__COPILOT_URL", "http://u:hush3@host/x"),
        ])
        .load();
    assert_eq!(
        loaded.origins.shown(&Key::one("upstream.copilot_url")),
        json!("http://[redacted]@host/x")
    );
    assert_eq!(loaded.origins.shown(&Key::one("server.api_key")), json!("[redacted]"));
    let shown = format!("{:?} {:?}", loaded.origins, loaded.settings.http);
    assert!(!shown.contains("hush"), "{shown}");
}

/// No setting is there for show: each of them, changed, changes the settings that come out.
#[test]
fn every_setting_has_an_effect() {
    let before = format!("{:?}", case().load().settings);
    let reference = Reference::read().unwrap();
    let mut without_effect: BTreeSet<&str> = BTreeSet::new();
    for setting in reference.settings() {
        let variable = format!("COPILOT_PROXY_{}", setting.to_uppercase().replace('.', "__"));
        let default = merge(&case().sources)
            .unwrap()
            .origins
            .get(setting)
            .map(|entry| entry.value.clone());
        let key_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key_file.path(), "key").unwrap();
        let key_file = key_file.path().display().to_string();
        let changed = match (setting, &default) {
            ("server.api_key_file", _) => key_file,
            ("server.host", _) => "::1".into(),
            ("upstream.account_type", _) => "business".into(),
            ("models.fallback", _) => "off".into(),
            ("responses.overflow_as_stream", _) => "never".into(),
            ("responses.store", _) => "memory".into(),
            ("log.format", _) => "json".into(),
            ("web_search.mode", _) => "via_responses".into(),
            ("models.aliases", _) => "{ a = \"b\" }".into(),
            ("models.overrides", _) => "{ a = [\"/responses\"] }".into(),
            ("count.multipliers", _) => "{ a = 2.0 }".into(),
            (_, Some(Value::Bool(switch))) => (!switch).to_string(),
            (_, Some(Value::Number(number))) => (number.as_u64().unwrap() + 1).to_string(),
            (name, Some(Value::String(_))) if name.ends_with("_url") => "http://other".into(),
            _ => "other".into(),
        };
        // What some settings mean shows only beside others.
        let mut variables = vec![(variable.as_str(), changed.as_str())];
        let mut before = before.clone();
        let beside: &[(&str, &str)] = match setting {
            "small_model.warmup" => &[("COPILOT_PROXY_SMALL_MODEL__ID", "m")],
            "small_model.id" => &[],
            "web_search.mode" => &[("COPILOT_PROXY_WEB_SEARCH__MODEL", "m")],
            "web_search.model" | "web_search.max_uses" => &[
                ("COPILOT_PROXY_WEB_SEARCH__MODE", "via_responses"),
                ("COPILOT_PROXY_WEB_SEARCH__MODEL", "m"),
            ],
            "server.allow_unauthenticated" => continue,
            _ => &[],
        };
        if !beside.is_empty() {
            before = format!("{:?}", case().variables(beside).load().settings);
            variables.splice(0..0, beside.iter().copied());
        }
        let after = format!("{:?}", case().variables(&variables).load().settings);
        if before == after {
            without_effect.insert(setting);
        }
    }
    // The small model alone does nothing: it is what `small_model.warmup` names.
    assert_eq!(without_effect, BTreeSet::from(["small_model.id"]));
}

#[test]
fn the_worked_examples_are_valid() {
    for (name, needs_key) in [("default.toml", false), ("team.toml", true), ("simulator.toml", false)] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        assert_eq!(check(&path).unwrap().is_some(), needs_key, "{name}");
        let mut sources = case().variables(&[("COPILOT_PROXY_SERVER__API_KEY", "key")]).sources;
        sources.file = Some(path);
        load(&sources).unwrap();
    }
}

#[test]
fn a_file_without_a_key_is_still_examined_to_its_end() {
    let case = case().file("[server]\nhost = \"0.0.0.0\"\n[log]\nformat = \"xml\"\n");
    let error = check(case.sources.file.as_deref().unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("log.format is \"xml\""), "{error}");
}
