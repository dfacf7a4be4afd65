//! Asking a person at the terminal about each request. Knows keys and lines; not who waits, nor why.
//!
//! ```text
//! idle ─ show ─→ asking ─ y or n ────────→ idle, the answer is on its way to the ApprovalActor
//!                       ─ withdrawn ─────→ idle
//!                       ─ another shown ─→ asking
//! ```
//!
//! Keys count without Enter, so while a question is on the terminal its line editing and its echo are off. They are back
//! on as soon as it is settled, and whenever the process is told to stop.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::server::MakeAsker;

/// Whoever reads keys holds it: a question must not take those meant for a list.
static KEYBOARD: Mutex<()> = Mutex::new(());

pub fn keyboard() -> MutexGuard<'static, ()> {
    KEYBOARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who asks at this terminal; `None` where there is none, or none whose keys can be read one by one.
pub fn asker() -> Option<MakeAsker> {
    #[cfg(unix)]
    return unix::asker();
    #[cfg(not(unix))]
    None
}

/// Notes how the terminal is, for whoever is about to change it.
pub fn remember() {
    #[cfg(unix)]
    unix::remember();
}

/// Gives the terminal back as it was found.
pub fn restore() {
    #[cfg(unix)]
    unix::restore();
}

#[cfg(unix)]
mod unix {
    use std::io::{IsTerminal, stdin};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use actix::Addr;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};

    use super::keyboard;
    use crate::actors::approval::{ApprovalActor, Asker, Decide, Pending};
    use crate::cli::tell;
    use crate::server::{MakeAsker, Signals};
    use crate::telemetry;

    /// How the terminal was before its keys were read one by one.
    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
    /// The process has been told to stop: the terminal stays as it was found.
    static STOPPING: AtomicBool = AtomicBool::new(false);

    /// How often a question looks for a key, and for being withdrawn.
    const LOOK: Duration = Duration::from_millis(100);

    pub fn asker() -> Option<MakeAsker> {
        if !(stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return None;
        }
        Some(Box::new(|actor| Box::new(Terminal::start(actor)) as _))
    }

    enum Word {
        Show(Pending),
        Withdraw,
    }

    /// Passes questions on to a thread of their own, since reading keys blocks.
    struct Terminal {
        words: Sender<Word>,
    }

    impl Terminal {
        fn start(actor: Addr<ApprovalActor>) -> Self {
            let (words, listener) = channel();
            std::thread::spawn(move || converse(&listener, &actor));
            actix_web::rt::spawn(restore_on_signals());
            Self { words }
        }
    }

    impl Asker for Terminal {
        fn show(&mut self, question: &Pending) {
            let _ = self.words.send(Word::Show(question.clone()));
        }

        fn withdraw(&mut self) {
            let _ = self.words.send(Word::Withdraw);
        }
    }

    /// Asks one question after the other until the actor or the terminal is gone.
    fn converse(words: &Receiver<Word>, actor: &Addr<ApprovalActor>) {
        while let Ok(word) = words.recv() {
            let mut next = Some(word);
            while let Some(Word::Show(pending)) = next {
                next = match ask(&pending, words) {
                    Told::Answer(approve) => {
                        actor.do_send(Decide {
                            id: pending.id,
                            approve,
                        });
                        None
                    }
                    Told::Another(word) => Some(word),
                    Told::Gone => {
                        telemetry::end_prompt("");
                        return;
                    }
                };
            }
        }
    }

    enum Told {
        Answer(bool),
        /// The question is settled; this came in its place.
        Another(Word),
        Gone,
    }

    fn ask(pending: &Pending, words: &Receiver<Word>) -> Told {
        let asked = Instant::now();
        let _alone = keyboard();
        let _raw = SingleKeys::start();
        // A key pressed before the question was there cannot have been its answer.
        let _ = tcflush(stdin(), QueueSelector::IFlush);
        tell(&question(pending));
        let mut shown = None;
        loop {
            let left = pending.expires_in_secs.saturating_sub(asked.elapsed().as_secs());
            if shown != Some(left) {
                telemetry::prompt(&prompt(left));
                shown = Some(left);
            }
            match words.recv_timeout(Duration::ZERO) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Told::Gone,
                Ok(word) => {
                    telemetry::end_prompt("  settled elsewhere, or too late");
                    return Told::Another(word);
                }
            }
            match key() {
                Key::None => {}
                Key::Pressed(key) => {
                    if let Some(approve) = answer(key) {
                        telemetry::end_prompt(if approve { "  sent" } else { "  refused" });
                        return Told::Answer(approve);
                    }
                }
                Key::Gone => return Told::Gone,
            }
        }
    }

    enum Key {
        None,
        Pressed(u8),
        /// There is no terminal any more.
        Gone,
    }

    /// Waits a little for one key.
    fn key() -> Key {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(LOOK.subsec_nanos()),
        };
        let keys = stdin();
        let mut ready = [PollFd::new(&keys, PollFlags::IN)];
        match poll(&mut ready, Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Key::None,
            Ok(_) => {}
            Err(_) => return Key::Gone,
        }
        let mut byte = [0];
        match rustix::io::read(keys, &mut byte) {
            Ok(1) => Key::Pressed(byte[0]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Key::None,
            Ok(_) | Err(_) => Key::Gone,
        }
    }

    /// While it lives, keys come one by one and are not echoed. Ctrl-C stays a signal.
    struct SingleKeys;

    impl SingleKeys {
        fn start() -> Self {
            let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(found) = tcgetattr(stdin())
                && !STOPPING.load(Ordering::Relaxed)
            {
                let mut single = found.clone();
                single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
                if tcsetattr(stdin(), OptionalActions::Now, &single).is_ok() {
                    before.get_or_insert(found);
                }
            }
            Self
        }
    }

    impl Drop for SingleKeys {
        fn drop(&mut self) {
            restore();
        }
    }

    pub fn remember() {
        if let Ok(found) = tcgetattr(stdin()) {
            BEFORE
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(found);
        }
    }

    pub fn restore() {
        let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = before.take() {
            let _ = tcsetattr(stdin(), OptionalActions::Now, &found);
        }
    }

    /// A process that is told to stop may end at any moment and must not leave a terminal without echo. From then on
    /// answers want Enter.
    async fn restore_on_signals() {
        let Ok(mut signals) = Signals::listen() else { return };
        signals.stop().await;
        STOPPING.store(true, Ordering::Relaxed);
        restore();
    }

    fn question(pending: &Pending) -> String {
        format!(
            "\nMay this request be sent?\n  model   {}\n  client  {}\n  size    {}, about {} tokens",
            pending.model,
            pending.client,
            size(pending.bytes),
            pending.estimated_tokens,
        )
    }

    fn size(bytes: usize) -> String {
        match bytes {
            0..1024 => format!("{bytes} bytes"),
            1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
            _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        }
    }

    fn prompt(seconds_left: u64) -> String {
        format!("  y: send it   n: refuse it   ({seconds_left} s left) ")
    }

    /// What a key means; Enter and everything else mean nothing.
    fn answer(key: u8) -> Option<bool> {
        match key {
            b'y' | b'Y' => Some(true),
            b'n' | b'N' => Some(false),
            _ => None,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_y_and_n_are_answers() {
            assert_eq!(
                (answer(b'y'), answer(b'Y'), answer(b'n'), answer(b'N')),
                (Some(true), Some(true), Some(false), Some(false))
            );
            for key in [b'\n', b'\r', b' ', b'q', 0x1b, 0xc3] {
                assert_eq!(answer(key), None);
            }
        }

        #[test]
        fn a_question_names_everything_but_the_prompt() {
            let pending = Pending {
                id: 1,
                model: "gpt-5-mini".into(),
                client: "claude-cli/2.1".into(),
                bytes: 86_016,
                estimated_tokens: 21_000,
                age_secs: 0,
                expires_in_secs: 120,
            };
            let text = question(&pending) + &prompt(pending.expires_in_secs);
            for word in ["gpt-5-mini", "claude-cli/2.1", "84.0 KiB", "21000 tokens", "120 s left"] {
                assert!(text.contains(word), "{text}");
            }
            assert_eq!((size(12), size(3 << 20)), ("12 bytes".into(), "3.0 MiB".into()));
        }
    }
}
