//! Shells: which one a person uses, and how a command with variables is written in it. Pure but for the look at the
//! parent process.

use crate::config::Environment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
    Pwsh,
    Cmd,
}

impl Shell {
    /// The shell that started us, else the one the environment names.
    pub fn of_user(environment: &Environment) -> Self {
        parent()
            .as_deref()
            .and_then(Self::named)
            .unwrap_or_else(|| Self::by_environment(environment, cfg!(windows)))
    }

    fn by_environment(environment: &Environment, windows: bool) -> Self {
        let named = environment.get("SHELL").and_then(Self::named);
        match named {
            Some(shell) => shell,
            None if !windows => Self::Bash,
            // cmd has a prompt of its own; PowerShell inherits none.
            None if environment.get("PROMPT").is_some() => Self::Cmd,
            None => Self::Pwsh,
        }
    }

    fn named(path: &str) -> Option<Self> {
        let name = path
            .trim()
            .rsplit(['/', '\\'])
            .next()
            .unwrap_or_default()
            .trim_start_matches('-');
        match name.strip_suffix(".exe").unwrap_or(name) {
            "bash" | "sh" | "dash" | "ash" | "ksh" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            "pwsh" | "powershell" => Some(Self::Pwsh),
            "cmd" => Some(Self::Cmd),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Pwsh => "PowerShell",
            Self::Cmd => "cmd",
        }
    }

    /// One line that runs a program with these variables. Names are plain words; values may be anything on one line.
    pub fn command(self, variables: &[(&str, String)], program: &str) -> String {
        let each = |write: &dyn Fn(&str, &str) -> String| -> String {
            variables.iter().map(|(name, value)| write(name, value)).collect()
        };
        match self {
            Self::Bash | Self::Zsh => each(&|name, value| format!("{name}={} ", self.quote(value))) + program,
            // `env` also serves the fish of old, which knows no variables before a command.
            Self::Fish => format!(
                "env {}{program}",
                each(&|name, value| format!("{name}={} ", self.quote(value)))
            ),
            Self::Pwsh => each(&|name, value| format!("$env:{name} = {}; ", self.quote(value))) + program,
            Self::Cmd => each(&|name, value| set_in_cmd(name, value)) + program,
        }
    }

    /// One command, over several lines where they can be pasted safely.
    pub fn continued(self, parts: &[String]) -> String {
        match self {
            Self::Bash | Self::Zsh | Self::Fish => parts.join(" \\\n    "),
            Self::Pwsh | Self::Cmd => parts.join(" "),
        }
    }

    /// A value as one word of the shell.
    pub fn quote(self, value: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+:,./-".contains(c);
        let is_plain = !value.is_empty() && value.chars().all(plain);
        match self {
            Self::Bash | Self::Zsh if is_plain => value.to_owned(),
            Self::Fish if is_plain && !value.contains('%') => value.to_owned(),
            Self::Bash | Self::Zsh => format!("'{}'", value.replace('\'', r"'\''")),
            Self::Fish => format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")),
            Self::Pwsh => {
                // PowerShell takes typographic quotes for quotes, too; each is doubled.
                let doubled = value.chars().flat_map(|c| {
                    let times = if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
                        2
                    } else {
                        1
                    };
                    std::iter::repeat_n(c, times)
                });
                format!("'{}'", doubled.collect::<String>())
            }
            Self::Cmd => carets(value),
        }
    }
}

/// `set` for cmd, which knows two ways: quotes keep everything but `"` and `%`, carets keep each single character. No
/// blank may stand before `&&` in the second: it would belong to the value.
fn set_in_cmd(name: &str, value: &str) -> String {
    if value.contains(['"', '%', '^']) {
        format!("set {name}={}&& ", carets(value))
    } else {
        format!("set \"{name}={value}\" && ")
    }
}

/// cmd looks for variables before it looks for carets: a caret after each `%` makes every name one that is not set, and
/// what stands between such signs is then left as it is.
fn carets(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut after_percent = false;
    for letter in value.chars() {
        if after_percent || "^&|<>()\"%!".contains(letter) {
            text.push('^');
        }
        text.push(letter);
        after_percent = letter == '%';
    }
    text
}

/// The name of the program that started us.
#[cfg(target_os = "linux")]
fn parent() -> Option<String> {
    std::fs::read_to_string(format!("/proc/{}/comm", std::os::unix::process::parent_id())).ok()
}

#[cfg(not(target_os = "linux"))]
fn parent() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_is_known_by_its_name() {
        for (path, shell) in [
            ("/bin/bash", Some(Shell::Bash)),
            ("-zsh\n", Some(Shell::Zsh)),
            ("/usr/bin/fish", Some(Shell::Fish)),
            (r"C:\Windows\System32\cmd.exe", Some(Shell::Cmd)),
            ("pwsh.exe", Some(Shell::Pwsh)),
            ("cargo", None),
        ] {
            assert_eq!(Shell::named(path), shell, "{path}");
        }
        let by =
            |variables: &[(&str, &str)], windows| Shell::by_environment(&variables.iter().copied().collect(), windows);
        assert_eq!(by(&[("SHELL", "/bin/fish")], false), Shell::Fish);
        assert_eq!(by(&[], false), Shell::Bash);
        assert_eq!(by(&[("PROMPT", "$P$G")], true), Shell::Cmd);
        assert_eq!(by(&[], true), Shell::Pwsh);
    }

    #[test]
    fn each_shell_has_its_own_form() {
        let variables = [("A", "http://x:1".to_owned()), ("B", "it's".to_owned())];
        let form = |shell: Shell| shell.command(&variables, "claude");
        assert_eq!(form(Shell::Bash), r"A=http://x:1 B='it'\''s' claude");
        assert_eq!(form(Shell::Zsh), form(Shell::Bash));
        assert_eq!(form(Shell::Fish), r"env A=http://x:1 B='it\'s' claude");
        assert_eq!(form(Shell::Pwsh), "$env:A = 'http://x:1'; $env:B = 'it''s'; claude");
        assert_eq!(form(Shell::Cmd), r#"set "A=http://x:1" && set "B=it's" && claude"#);
    }

    #[test]
    fn cmd_gets_carets_where_quotes_do_not_help() {
        assert_eq!(
            Shell::Cmd.command(&[("A", "50%\"&b".into())], "c"),
            "set A=50^%^\"^&b&& c"
        );
        assert_eq!(
            Shell::Cmd.command(&[("A", "%PATH:a=b%x".into())], "c"),
            "set A=^%^PATH:a=b^%^x&& c"
        );
    }

    #[test]
    fn powershell_doubles_every_quote_it_knows() {
        assert_eq!(Shell::Pwsh.quote("a'b\u{2019}c$x"), "'a''b\u{2019}\u{2019}c$x'");
    }

    /// The shells of this machine judge for themselves.
    #[test]
    fn odd_values_survive_real_shells() {
        let odd = r#"a b'c"d\e$HOME`x`!~=*?#;&|<>(){}[]%f^é"#;
        for (name, shell) in [
            ("bash", Shell::Bash),
            ("sh", Shell::Bash),
            ("zsh", Shell::Zsh),
            ("fish", Shell::Fish),
        ] {
            for value in [odd, "", "~", "=ls", "-n", "%x"] {
                let line = shell.command(&[("ODD_VALUE", value.into())], "printenv ODD_VALUE");
                match Command::new(name).arg("-c").arg(&line).output() {
                    Ok(output) => assert_eq!(
                        String::from_utf8_lossy(&output.stdout),
                        format!("{value}\n"),
                        "{name}: {line}"
                    ),
                    Err(_) => assert_ne!(name, "sh", "every unix has one"),
                }
            }
        }
    }
}
