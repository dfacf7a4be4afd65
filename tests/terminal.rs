//! The binary on a terminal: questions that only a person is asked, and what is left of the terminal afterwards.
#![cfg(unix)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

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
        let patience = Instant::now() + Duration::from_secs(20);
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

    fn code(&mut self) -> Option<i32> {
        self.program.wait().unwrap().code()
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
