//! The binary as people meet it: output, exit codes, what it says when something is wrong. GitHub is a small fake of this
//! file's own, so that nothing here needs a network.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use serde_json::{Value, json};

/// The binary in an environment of its own: nothing of this machine but an empty home.
struct Program {
    home: tempfile::TempDir,
}

impl Program {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("copilot-proxy").unwrap();
        command
            .env_clear()
            .env("HOME", self.home.path())
            .args(arguments)
            .timeout(std::time::Duration::from_secs(30));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn token_file(&self) -> std::path::PathBuf {
        self.home.path().join(".local/share/copilot-proxy/github_token")
    }
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// An error as it should be: exit code 1, one line of what, and a hint.
    #[track_caller]
    fn fails(&self, what: &str, hint: &str) {
        assert_eq!(self.code, Some(1), "{}", self.err);
        let line = |start: &str| {
            self.err
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_default()
        };
        assert!(line("error: ").contains(what), "{}", self.err);
        assert!(line("hint: ").contains(hint), "{}", self.err);
    }
}

/// A GitHub that answers each path with what it was given, in turn; the last answer stays.
struct FakeGitHub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeGitHub {
    fn new(answers: &[(&str, &[Value])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut answers: Vec<(String, Vec<Value>)> = answers
            .iter()
            .map(|(path, answers)| (path.to_string(), answers.to_vec()))
            .collect();
        let heard = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let path = read_request(&mut stream);
                let known = answers
                    .iter_mut()
                    .find(|(known, _)| *known == path)
                    .map(|(_, answers)| answers);
                let (status, body) = match known {
                    Some(left) if left.len() > 1 => (200, left.remove(0)),
                    Some(left) => (200, left[0].clone()),
                    None => (404, json!({"message": "Not Found"})),
                };
                heard.lock().unwrap().push(path);
                let body = body.to_string();
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Self { url, asked }
    }

    fn on<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("COPILOT_PROXY_UPSTREAM__GITHUB_URL", &self.url)
            .env("COPILOT_PROXY_UPSTREAM__GITHUB_API_URL", &self.url)
    }
}

/// Reads a request to its end; comes back with its path.
fn read_request(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap_or("0");
            if body.len() >= length.parse().unwrap() {
                return text.split(' ').nth(1).unwrap().to_owned();
            }
        }
        if read == 0 {
            return String::new();
        }
    }
}

fn device_start() -> Value {
    json!({
        "device_code": "D", "user_code": "ABCD-1234", "verification_uri": "https://github.com/login/device",
        "expires_in": 899, "interval": 0
    })
}

fn copilot_token() -> Value {
    json!({"token": "tid=hush", "expires_at": 1_893_457_800, "refresh_in": 1500})
}

#[test]
fn help_names_every_command_and_flag() {
    let program = Program::new();
    let help = program.run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for word in [
        "start",
        "auth",
        "check-usage",
        "debug",
        "simulator",
        "config",
        "health",
        "completions",
        "Examples:",
    ] {
        assert!(help.out.contains(word), "{word}");
    }
    let start = program.run(&["start", "--help"]);
    for flag in [
        "-p, --port",
        "--host",
        "-v, --verbose",
        "-a, --account-type",
        "--manual",
        "-r, --rate-limit",
        "-w, --wait",
        "-g, --github-token",
        "--show-token",
        "--config",
        "--data-dir",
        "--simulator",
        "--log-format",
        "-c, --claude-code",
        "--model",
        "--small-model",
        "--proxy-env",
        "--allow-unauthenticated",
        "[default: 4399]",
        "[default: 127.0.0.1]",
        "Limits:",
        "Account:",
    ] {
        assert!(start.out.contains(flag), "{flag}\n{}", start.out);
    }
    for flag in ["--verbose", "--show-token", "--token-stdin", "--proxy-env"] {
        assert!(program.run(&["auth", "--help"]).out.contains(flag), "{flag}");
    }
    assert!(program.run(&["check-usage", "--help"]).out.contains("--proxy-env"));
    assert!(program.run(&["--version"]).out.starts_with("copilot-proxy "));
}

#[test]
fn bad_usage_is_2() {
    let program = Program::new();
    for arguments in [
        &[][..],
        &["nonsense"],
        &["start", "--port", "high"],
        &["start", "--port", "70000"],
        &["start", "--nonsense"],
        &["start", "--account-type", "premium"],
        &["start", "--log-format", "xml"],
        &["start", "--rate-limit", "soon"],
        &["start", "--rate-limit", "-1"],
        &["start", "--model", "m"],
        &["config", "check"],
        &["completions", "tcsh"],
    ] {
        assert_eq!(program.run(arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn a_file_of_settings_is_examined() {
    let program = Program::new();
    let good = program.file("good.toml", "[server]\nport = 1\n");
    assert_eq!(program.run(&["config", "check", &good]).code, Some(0));

    let bad = program.file("bad.toml", "[server]\nprot = 1\n");
    program
        .run(&["config", "check", &bad])
        .fails("unknown setting server.prot in", "did you mean server.port?");
    let bad = program.file("kind.toml", "[server]\nport = \"x\"\n");
    let ran = program.run(&["config", "check", &bad]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("server.port in") && ran.err.contains("line 2 must be a number"),
        "{}",
        ran.err
    );
    let ran = program.run(&["config", "check", "/does/not/exist.toml"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err
            .starts_with("error: cannot read /does/not/exist.toml\ncaused by: "),
        "{}",
        ran.err
    );
}

#[test]
fn the_reference_can_be_printed_and_used() {
    let program = Program::new();
    let reference = program.run(&["config", "default"]).out;
    let file = program.file("all.toml", &reference);
    assert_eq!(program.run(&["config", "check", &file]).code, Some(0));
}

#[test]
fn debug_tells_the_origin_of_each_value() {
    let program = Program::new();
    let file = program.file(
        "team.toml",
        "[server]\nhost = \"::1\"\nport = 1\n[stream]\nheartbeat_secs = 7\n",
    );
    let output = program
        .command(&["debug", "--json", "--config", &file, "--port", "5"])
        .env("COPILOT_PROXY_SERVER__HOST", "localhost")
        .env("COPILOT_PROXY_SERVER__API_KEY", "hush-key")
        .env("COPILOT_PROXY_SERVER__PROT", "1")
        .env("GH_TOKEN", "ghu_hush")
        .output()
        .unwrap();
    let ran = Ran::from(output);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let setting = |name: &str| report["settings"][name].clone();
    assert_eq!(setting("server.port"), json!({"value": 5, "origin": "--port"}));
    assert_eq!(
        setting("server.host"),
        json!({"value": "localhost", "origin": "COPILOT_PROXY_SERVER__HOST"})
    );
    assert_eq!(setting("stream.heartbeat_secs"), json!({"value": 7, "origin": file}));
    assert_eq!(
        setting("upstream.connect_secs"),
        json!({"value": 10, "origin": "default"})
    );
    assert_eq!(setting("server.api_key")["value"], "[redacted]");
    assert_eq!(report["login"]["source"], "GH_TOKEN");
    assert!(
        report["warnings"][0]
            .as_str()
            .unwrap()
            .contains("COPILOT_PROXY_SERVER__PORT?")
    );
    assert!(!ran.out.contains("hush"), "{}", ran.out);
    assert!(program.run(&["debug"]).out.contains("signed out"));
}

#[test]
fn a_stray_variable_stops_nothing() {
    let program = Program::new();
    let output = program
        .command(&["check-usage"])
        .env("COPILOT_PROXY_HOME", "/x")
        .output()
        .unwrap();
    let ran = Ran::from(output);
    ran.fails("not signed in", "copilot-proxy auth");
    assert!(
        ran.err.contains("COPILOT_PROXY_HOME is no setting and is ignored"),
        "{}",
        ran.err
    );
}

#[test]
fn a_directory_that_cannot_be_written_is_said_before_anybody_signs_in() {
    let program = Program::new();
    let file = program.file("file", "");
    let github = FakeGitHub::new(&[("/login/device/code", &[device_start()])]);
    let output = github
        .on(&mut program.command(&["auth", "--data-dir", &format!("{file}/data")]))
        .output()
        .unwrap();
    Ran::from(output).fails("cannot write into the data directory", "--data-dir");
    assert!(github.asked.lock().unwrap().is_empty());
}

#[test]
fn a_busy_port_is_said_before_anybody_signs_in() {
    let program = Program::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let github = FakeGitHub::new(&[("/login/device/code", &[device_start()])]);
    let output = github
        .on(&mut program.command(&["start", "--port", &port]))
        .output()
        .unwrap();
    Ran::from(output).fails("cannot listen on 127.0.0.1", "--port");
    assert!(github.asked.lock().unwrap().is_empty());
}

#[test]
fn personal_tokens_are_refused_wherever_they_come_from() {
    let program = Program::new();
    for (token, kind) in [("ghp_hush", "classic"), ("github_pat_hush", "fine-grained")] {
        let output = program
            .command(&["auth", "--token-stdin"])
            .write_stdin(format!("{token}\n"))
            .output()
            .unwrap();
        let ran = Ran::from(output);
        ran.fails(kind, "copilot-proxy auth");
        assert!(!ran.err.contains("hush"));

        let output = program
            .command(&["check-usage"])
            .env("GH_TOKEN", token)
            .output()
            .unwrap();
        Ran::from(output).fails("GH_TOKEN is refused", "copilot-proxy auth");
    }
    program
        .run(&["start", "--github-token", "ghp_x"])
        .fails("--github-token is refused", "copilot-proxy auth");
    assert!(!program.token_file().exists());
}

#[test]
fn a_token_by_standard_input_is_examined_and_stored() {
    let program = Program::new();
    let user = json!({"login": "octocat", "id": 1});
    let github = FakeGitHub::new(&[("/user", &[user]), ("/copilot_internal/v2/token", &[copilot_token()])]);
    let output = github
        .on(&mut program.command(&["auth", "--token-stdin"]))
        .write_stdin(" ghu_hush \n")
        .output()
        .unwrap();
    let ran = Ran::from(output);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("signed in as octocat"), "{}", ran.err);
    assert!(!(ran.out + &ran.err).contains("hush"));
    assert_eq!(
        std::fs::read_to_string(program.token_file()).unwrap().trim(),
        "ghu_hush"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (
                mode(&program.token_file()),
                mode(program.token_file().parent().unwrap())
            ),
            (0o600, 0o700)
        );
    }
}

#[test]
fn a_token_that_copilot_does_not_take_is_not_stored() {
    let program = Program::new();
    let github = FakeGitHub::new(&[("/user", &[json!({"login": "octocat", "id": 1})])]);
    let output = github
        .on(&mut program.command(&["auth", "--token-stdin"]))
        .write_stdin("gho_other")
        .output()
        .unwrap();
    Ran::from(output).fails("gives no access to Copilot", "copilot-proxy auth");
    assert!(!program.token_file().exists());
}

#[test]
fn a_token_that_github_refuses_ends_the_start() {
    let program = Program::new();
    let github = FakeGitHub::new(&[]);
    let output = github
        .on(&mut program.command(&["start", "--port", "0"]))
        .env("GH_TOKEN", "ghu_revoked")
        .output()
        .unwrap();
    let ran = Ran::from(output);
    ran.fails("gives no access to Copilot", "copilot-proxy auth");
    assert!(!ran.err.contains("ghu_revoked") && !ran.out.contains("is ready on"));
}

#[test]
fn a_person_signs_in_with_a_code() {
    let program = Program::new();
    let polls = [
        json!({"error": "authorization_pending"}),
        json!({"access_token": "ghu_new", "token_type": "bearer"}),
    ];
    let github = FakeGitHub::new(&[
        ("/login/device/code", &[device_start()]),
        ("/login/oauth/access_token", &polls),
        ("/user", &[json!({"login": "octocat", "id": 1})]),
        ("/copilot_internal/v2/token", &[copilot_token()]),
    ]);
    let ran = Ran::from(
        github
            .on(&mut program.command(&["auth", "--show-token"]))
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for word in ["https://github.com/login/device", "ABCD-1234", "signed in as octocat"] {
        assert!(ran.err.contains(word), "{word}\n{}", ran.err);
    }
    assert_eq!(ran.out, "ghu_new\n");
    assert_eq!(std::fs::read_to_string(program.token_file()).unwrap(), "ghu_new\n");
}

#[test]
fn a_no_stores_nothing() {
    for (answer, what) in [
        ("access_denied", "the sign-in was denied"),
        ("expired_token", "the code expired"),
    ] {
        let program = Program::new();
        let github = FakeGitHub::new(&[
            ("/login/device/code", &[device_start()]),
            ("/login/oauth/access_token", &[json!({"error": answer})]),
        ]);
        Ran::from(github.on(&mut program.command(&["auth"])).output().unwrap()).fails(what, "copilot-proxy auth");
        assert!(!program.token_file().exists());
    }
}

#[test]
fn usage_is_shown_without_a_server() {
    let program = Program::new();
    let usage = json!({
        "login": "octocat", "copilot_plan": "individual", "token_based_billing": false, "quota_reset_date": "2030-01-01",
        "quota_snapshots": {
            "premium_interactions": {"entitlement": 300, "remaining": 75, "percent_remaining": 25.0},
            "chat": {"unlimited": true}
        }
    });
    let github = FakeGitHub::new(&[("/copilot_internal/user", &[usage])]);
    let output = github
        .on(&mut program.command(&["check-usage"]))
        .env("GH_TOKEN", "ghu_1")
        .output()
        .unwrap();
    let ran = Ran::from(output);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for word in [
        "octocat",
        "individual",
        "premium requests",
        "█████░",
        "25.0 % left",
        "75 of 300",
        "unlimited",
        "2030-01-01",
    ] {
        assert!(ran.out.contains(word), "{word}\n{}", ran.out);
    }
    assert!(!ran.out.contains('\x1b'), "no colour where there is no terminal");
}

#[test]
fn a_dead_outbound_proxy_is_named() {
    let program = Program::new();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = program.command(arguments);
        command
            .env("GH_TOKEN", "ghu_1")
            .env("http_proxy", format!("http://me:hush@{dead}"));
        command.env("COPILOT_PROXY_UPSTREAM__GITHUB_API_URL", "http://github.invalid");
        Ran::from(command.output().unwrap())
    };
    let ran = ask(&["check-usage", "--proxy-env"]);
    ran.fails(&format!("the outbound proxy {dead}"), "--proxy-env");
    assert!(!ran.err.contains("hush"));
    assert!(!ask(&["check-usage"]).err.contains("outbound proxy 127"));
}

#[test]
fn a_damaged_token_file_is_said() {
    let program = Program::new();
    program.file(".local/share/copilot-proxy/github_token", "{}\n\n two words");
    program
        .run(&["start"])
        .fails("github_token is damaged", "copilot-proxy auth");
}

#[test]
fn nobody_listens_beyond_loopback_by_mistake() {
    let program = Program::new();
    let ran = program.run(&["start", "--host", "0.0.0.0"]);
    ran.fails("refusing to listen on 0.0.0.0 without a key", "--allow-unauthenticated");
    assert!(ran.err.contains("server.api_key"), "{}", ran.err);
    let output = program
        .command(&["start"])
        .env("COPILOT_PROXY_SERVER__API_KEY_FILE", "/does/not/exist")
        .output()
        .unwrap();
    Ran::from(output).fails("cannot use the key in /does/not/exist", "one line");
}

#[test]
fn without_a_terminal_claude_code_names_its_flags() {
    let ran = Program::new().run(&["start", "--simulator", "--claude-code"]);
    ran.fails("--model and --small-model", "--claude-code");
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = Program::new().run(&["completions", shell]);
        assert_eq!(ran.code, Some(0));
        assert!(
            ran.out.contains("check-usage") && ran.out.contains("claude-code"),
            "{shell}"
        );
    }
}

#[test]
fn health_is_an_exit_code() {
    let program = Program::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for (stream, answer) in listener
            .incoming()
            .zip(["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 Busy\r\n\r\n"])
        {
            let mut stream = stream.unwrap();
            read_request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    assert_eq!(program.run(&["health", "--port", &port]).code, Some(0));
    let sick = program
        .command(&["health", "--ready"])
        .env("COPILOT_PROXY_SERVER__PORT", &port)
        .output()
        .unwrap();
    assert_eq!(sick.status.code(), Some(1));
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    program
        .run(&["health", "--port", &free])
        .fails("no proxy answers on 127.0.0.1:", "--port");
}

/// In a container every command sees the variables of the server, and not its flags.
#[test]
fn commands_that_open_no_door_need_no_key() {
    let program = Program::new();
    let open = |arguments: &[&str]| {
        let output = program
            .command(arguments)
            .env("COPILOT_PROXY_SERVER__HOST", "0.0.0.0")
            .output();
        Ran::from(output.unwrap())
    };
    open(&["start", "--simulator"]).fails("refusing to listen on 0.0.0.0", "--allow-unauthenticated");
    open(&["check-usage"]).fails("not signed in", "copilot-proxy auth");
    open(&["health", "--port", "1"]).fails("no proxy answers on 127.0.0.1:1", "--port");
}

#[test]
fn log_lines_are_text_or_json() {
    let program = Program::new();
    let warning = |format: &str| {
        let mut command = program.command(&["check-usage"]);
        let output = command
            .env("COPILOT_PROXY_HOME", "/x")
            .env("COPILOT_PROXY_LOG__FORMAT", format)
            .output()
            .unwrap();
        String::from_utf8(output.stderr)
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    let line: Value = serde_json::from_str(&warning("json")).unwrap();
    assert_eq!(
        (line["level"].as_str(), line["target"].as_str()),
        (Some("warn"), Some("copilot_proxy::cli"))
    );
    assert!(line["message"].as_str().unwrap().starts_with("COPILOT_PROXY_HOME"));
    let text = warning("text");
    assert!(text.contains("WARN") && !text.contains('\x1b'), "{text}");
}

#[test]
fn without_a_terminal_another_programs_token_is_only_pointed_to() {
    let program = Program::new();
    program.file(".local/share/copilot-api/github_token", "ghu_theirs");
    let ran = program.run(&["check-usage"]);
    ran.fails("not signed in", "copilot-proxy auth");
    assert!(ran.err.contains("copilot-proxy auth --token-stdin < '"), "{}", ran.err);
    assert!(!program.token_file().exists() && !ran.err.contains("ghu_theirs"));
}
