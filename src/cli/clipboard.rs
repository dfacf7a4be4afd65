//! Putting a text where a person can paste it from. Knows displays and terminals; not what the text is.

use std::io::{IsTerminal, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::config::Environment;

/// The way to the clipboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// That of this machine's own display.
    Display,
    /// By an escape sequence that the terminal at the other end understands.
    Terminal,
    None,
}

/// Holds the text for whoever pastes it: some displays ask its owner each time.
pub struct Copied {
    _owner: Option<arboard::Clipboard>,
}

/// Copies a text; `None` where there is no way.
pub fn copy(text: &str, environment: &Environment) -> Option<Copied> {
    match way(environment, std::io::stderr().is_terminal()) {
        Way::None => None,
        Way::Terminal => {
            let mut terminal = std::io::stderr();
            let sent = terminal
                .write_all(osc52(text).as_bytes())
                .and_then(|()| terminal.flush());
            sent.ok().map(|()| Copied { _owner: None })
        }
        Way::Display => {
            let mut owner = arboard::Clipboard::new().ok()?;
            owner.set_text(text).ok().map(|()| Copied { _owner: Some(owner) })
        }
    }
}

/// Over ssh the display is not the person's own. Without a terminal nobody is there to paste.
fn way(environment: &Environment, terminal: bool) -> Way {
    let has = |names: &[&str]| names.iter().any(|name| environment.get(name).is_some());
    if !terminal {
        Way::None
    } else if has(&["SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"]) {
        Way::Terminal
    } else if cfg!(any(windows, target_os = "macos")) || has(&["DISPLAY", "WAYLAND_DISPLAY"]) {
        Way::Display
    } else {
        Way::None
    }
}

fn osc52(text: &str) -> String {
    format!("\x1b]52;c;{}\x07", BASE64_STANDARD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_depends_on_where_the_person_sits() {
        let way = |variables: &[(&str, &str)], terminal| way(&variables.iter().copied().collect(), terminal);
        let ssh = [("SSH_CONNECTION", "a 1 b 2"), ("DISPLAY", ":10")];
        assert_eq!(way(&ssh, true), Way::Terminal);
        assert_eq!(way(&ssh, false), Way::None);
        assert_eq!(way(&[("DISPLAY", ":0")], true), Way::Display);
        assert_eq!(way(&[("DISPLAY", ":0")], false), Way::None);
    }

    #[test]
    fn the_sequence_carries_base64() {
        assert_eq!(osc52("claude é"), "\x1b]52;c;Y2xhdWRlIMOp\x07");
    }
}
