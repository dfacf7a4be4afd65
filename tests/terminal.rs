//! The binary on a terminal: questions that only a person is asked, and what is left of the terminal afterwards.
#![cfg(unix)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::LocalModes;

/// What takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with the binary at its other end.
struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    seen: String,
    program: Child,
}

impl Terminal {
    fn run(home: &std::path::Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = PathBuf::from(ptsname(&ours, Vec::new()).unwrap().into_string().unwrap());
        let theirs = || {
            Stdio::from(OwnedFd::from(
                File::options().read(true).write(true).open(&name).unwrap(),
            ))
        };
        let program = Command::new(env!("CARGO_BIN_EXE_copilot-proxy"))
            .args(arguments)
            .env_clear()
            .env("HOME", home)
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .stdin(theirs())
            .stdout(theirs())
            .stderr(theirs())
            .spawn()
            .unwrap();
        let keys = File::from(ours);
        let mut screen = keys.try_clone().unwrap();
        let (show, shown) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // An error is how a terminal tells that nobody is left at its other end.
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                if show.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            keys,
            shown,
            seen: String::new(),
            program,
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the words are on the screen.
    #[track_caller]
    fn sees(&mut self, words: &str) {
        let patience = Instant::now() + PATIENCE;
        while !self.seen.contains(words) {
            match self
                .shown
                .recv_timeout(patience.saturating_duration_since(Instant::now()))
            {
                Ok(piece) => self.seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(_) => panic!("{words:?} does not come:\n{}", self.seen),
            }
        }
    }

    /// Forgets what was on the screen so far.
    fn clear(&mut self) {
        self.seen.clear();
    }

    /// The port that the banner names.
    #[track_caller]
    fn port(&mut self) -> u16 {
        self.sees("is ready on http://127.0.0.1:");
        self.sees("curl http");
        let named = self.seen.split("is ready on http://127.0.0.1:").nth(1).unwrap();
        named
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Whether line editing and echo are on.
    fn is_usual(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.keys).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn tell(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// Waits until the binary reads keys one by one.
    #[track_caller]
    fn reads_keys(&self) {
        self.waits_until(|terminal| !terminal.is_usual());
    }

    #[track_caller]
    fn waits_until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let patience = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < patience, "it does not come to that:\n{}", self.seen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn code(&mut self) -> Option<i32> {
        let patience = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < patience, "it does not end:\n{}", self.seen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// A home in which only copilot-api is signed in.
fn home_of_another_program() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join(".local/share/copilot-api");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("github_token"), "ghu_theirs").unwrap();
    home
}

/// Nobody listens there: whatever comes after the question fails at once.
const NO_GITHUB: [(&str, &str); 1] = [("COPILOT_PROXY_UPSTREAM__GITHUB_API_URL", "http://127.0.0.1:9")];

#[test]
fn another_programs_token_is_copied_when_a_person_says_so() {
    let home = home_of_another_program();
    let mut terminal = Terminal::run(home.path(), &["check-usage"], &NO_GITHUB);
    terminal.sees("Copy its GitHub token and use it here, too? [y/N]");
    terminal.press("y\n");
    terminal.sees("refused the connection");
    assert_eq!(terminal.code(), Some(1));
    let read =
        |program: &str| std::fs::read_to_string(home.path().join(".local/share").join(program).join("github_token"));
    assert_eq!(read("copilot-proxy").unwrap().trim(), "ghu_theirs");
    assert_eq!(read("copilot-api").unwrap(), "ghu_theirs");
}

#[test]
fn another_programs_token_stays_where_it_is_otherwise() {
    let home = home_of_another_program();
    let mut terminal = Terminal::run(home.path(), &["check-usage"], &NO_GITHUB);
    terminal.sees("[y/N]");
    terminal.press("\n");
    terminal.sees("not signed in");
    assert_eq!(terminal.code(), Some(1));
    assert!(!home.path().join(".local/share/copilot-proxy/github_token").exists());
}

/// Asks a model through the proxy; comes back with the status of the answer.
fn ask(port: u16) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let body = r#"{"model":"claude-sonnet-4.5","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nuser-agent: some-client\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    })
}

const SIMULATED: [&str; 4] = ["start", "--simulator", "--port", "0"];

#[test]
fn a_person_decides_with_one_key() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::run(home.path(), &[&SIMULATED[..], &["--manual"]].concat(), &[]);
    let port = terminal.port();
    for (keys, said, status) in [("y", "sent", "200"), ("n\n", "refused", "403"), ("xY", "sent", "200")] {
        terminal.clear();
        let answer = ask(port);
        terminal.sees("y: send it");
        for words in ["claude-sonnet-4.5", "some-client", "bytes"] {
            terminal.sees(words);
        }
        assert!(!terminal.is_usual());
        terminal.press(keys);
        terminal.sees(said);
        assert_eq!(answer.join().unwrap(), status);
        terminal.waits_until(Terminal::is_usual);
    }
    terminal.tell(Signal::TERM);
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn a_question_answered_elsewhere_leaves_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::run(home.path(), &[&SIMULATED[..], &["--manual"]].concat(), &[]);
    let port = terminal.port();
    let answer = ask(port);
    terminal.sees("y: send it");
    let body = r#"{"decision":"approve"}"#;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    write!(stream, "POST /admin/approvals/1 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .unwrap();
    terminal.sees("settled elsewhere");
    assert_eq!(answer.join().unwrap(), "200");
    terminal.waits_until(Terminal::is_usual);
}

#[test]
fn a_stopped_proxy_leaves_the_terminal_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::run(home.path(), &[&SIMULATED[..], &["--manual"]].concat(), &[]);
    let answer = ask(terminal.port());
    terminal.sees("y: send it");
    assert!(!terminal.is_usual());
    terminal.tell(Signal::INT);
    terminal.sees("shutting down");
    // What is logged stands above the question, which comes back below it.
    terminal.sees("have 30 s\r\n  y: send it");
    let before = terminal.seen.split("shutting down").next().unwrap();
    let line = before.rsplit("\r\n").next().unwrap();
    assert!(line.contains("s left) \r\x1b[K"), "{line:?}");
    terminal.tell(Signal::INT);
    assert_eq!(terminal.code(), Some(130), "the answer under way was cut");
    assert!(terminal.is_usual());
    answer.join().unwrap();
}

#[test]
fn models_are_chosen_from_a_list() {
    let home = tempfile::tempdir().unwrap();
    let variables = [("SHELL", "/bin/bash"), ("SSH_TTY", "/dev/pts/0")];
    let mut terminal = Terminal::run(home.path(), &[&SIMULATED[..], &["--claude-code"]].concat(), &variables);
    let port = terminal.port();
    terminal.sees("Main model");
    terminal.reads_keys();
    terminal.press("opus\r");
    terminal.sees("Small model");
    terminal.reads_keys();
    terminal.press("\r");
    terminal.sees(&format!(
        "ANTHROPIC_BASE_URL=http://127.0.0.1:{port} ANTHROPIC_AUTH_TOKEN=dummy ANTHROPIC_MODEL=claude-opus-"
    ));
    terminal.sees("ANTHROPIC_DEFAULT_HAIKU_MODEL=gpt-5-mini");
    terminal.sees("CLAUDE_CODE_ATTRIBUTION_HEADER=0 claude");
    assert!(
        terminal.seen.contains("\x1b]52;c;"),
        "over ssh the terminal is asked to copy"
    );
    terminal.tell(Signal::TERM);
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn a_list_that_is_left_is_no_success() {
    let home = tempfile::tempdir().unwrap();
    for by_key in [true, false] {
        let mut terminal = Terminal::run(home.path(), &[&SIMULATED[..], &["--claude-code"]].concat(), &[]);
        terminal.sees("Main model");
        terminal.reads_keys();
        match by_key {
            true => terminal.press("\x03"),
            false => terminal.tell(Signal::INT),
        }
        assert_eq!(terminal.code(), Some(130));
        assert!(terminal.is_usual());
        // The cursor is back.
        terminal.sees("\x1b[?25h");
    }
}
