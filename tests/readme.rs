//! README and the examples in `config/`, held to the program: every command, flag, setting, marker and code they name is
//! there, and every block parses. The lines for clients are tried with the real clients by `tests/clients/run`.

use std::collections::BTreeSet;
use std::path::Path;

use assert_cmd::Command as Program;
use clap::{Command, CommandFactory};
use config::FileFormat;
use copilot_proxy::cli::args::Arguments;
use copilot_proxy::config::Reference;

fn text(path: &str) -> String {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&whole).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks, each with its language.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

/// What stands between single backticks, outside of blocks.
fn spans(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2)).collect()
}

/// The section under a heading.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let rest = text.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading:?}"));
    rest.split("\n## ").next().unwrap()
}

/// What a shell would be given, comments and continued lines undone.
fn shell_lines(text: &str) -> Vec<String> {
    let scripts = blocks(text).into_iter().filter(|(language, _)| *language == "sh");
    let lines = scripts.flat_map(|(_, script)| {
        let joined = script.replace("\\\n", " ");
        joined.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let without_comments = lines.map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
    without_comments.filter(|line| !line.is_empty()).collect()
}

/// What is given to our program by a line: what follows its name, its image, or cargo's `--`.
fn arguments(line: &str) -> Option<Vec<&str>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ours = match *words.first()? {
        "copilot-proxy" => &words[1..],
        "cargo" => &words[words.iter().position(|word| *word == "--")? + 1..],
        "docker" if words.contains(&"run") => &words[words.iter().rposition(|word| *word == "copilot-proxy")? + 1..],
        _ => return None,
    };
    Some(ours.to_vec())
}

/// Panics unless the program has such a command with such flags.
#[track_caller]
fn assert_taken(arguments: &[&str]) {
    let mut command = Arguments::command();
    command.build();
    let mut at = &command;
    for word in arguments.iter().take_while(|word| !word.starts_with('-')) {
        match at.find_subcommand(word) {
            Some(below) => at = below,
            None => {
                let takes_more = at.get_positionals().next().is_some();
                assert!(takes_more, "no command {word:?} in {arguments:?}");
            }
        }
    }
    for flag in arguments.iter().filter(|word| word.starts_with('-')) {
        assert!(has_flag(at, flag), "{} has no {flag}", at.get_name());
    }
}

fn has_flag(command: &Command, flag: &str) -> bool {
    let name = flag.trim_start_matches('-');
    command.get_arguments().any(|argument| {
        let short = argument.get_short().is_some_and(|short| flag == format!("-{short}"));
        short || (flag.starts_with("--") && argument.get_long() == Some(name))
    })
}

#[test]
fn commands_and_flags_exist() {
    let readme = text("README.md");
    let mut seen = 0;
    let lines = shell_lines(&readme);
    let spans = spans(&readme);
    for line in lines.iter().map(String::as_str).chain(spans.iter().copied()) {
        if let Some(arguments) = arguments(line) {
            assert_taken(&arguments);
            seen += 1;
        }
    }
    assert!(seen > 7, "only {seen} found");

    // A flag by itself: some command has it.
    let all = Arguments::command();
    for span in spans.iter().filter(|span| span.starts_with("--")) {
        for flag in span.split_whitespace().filter(|word| word.starts_with("--")) {
            let known = flag == "--help" || all.get_subcommands().any(|command| has_flag(command, flag));
            assert!(known, "no command has {flag}");
        }
    }
}

#[test]
fn the_table_of_commands_is_whole() {
    let readme = text("README.md");
    let rows = section(&readme, "## Commands").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeSet<&str> = rows.filter_map(|row| row.split(['`', ' ']).next()).collect();
    let command = Arguments::command();
    let real: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
    assert_eq!(told, real);
}

#[test]
fn settings_exist() {
    let reference = Reference::read().unwrap();
    let defaults = text("config/default.toml");
    let is_section =
        |name: &str| defaults.contains(&format!("\n[{name}]\n")) || defaults.contains(&format!("\n[{name}."));
    let readme = text("README.md");
    let mut seen = 0;
    for span in spans(&readme) {
        let name = span.split(" = ").next().unwrap_or_default();
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'));
        if let Some((section, _)) = name.split_once('.')
            && is_name
            && is_section(section)
        {
            assert!(reference.shape(name).is_some(), "no setting {name}");
            seen += 1;
        }
        if let Some(section) = span.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            && !section.starts_with('[')
        {
            assert!(is_section(section), "no section {section}");
        }
    }
    assert!(seen > 4, "only {seen} found");
    assert_variables_are_settings(&readme);
}

/// Panics unless every variable named in a text is the twin of a setting.
#[track_caller]
fn assert_variables_are_settings(text: &str) {
    let reference = Reference::read().unwrap();
    for word in text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
        if let Some(name) = word.strip_prefix("COPILOT_PROXY_")
            && name.contains("__")
        {
            let name = name.to_ascii_lowercase().replace("__", ".");
            assert!(reference.shape(&name).is_some(), "{word} is no setting");
        }
    }
}

#[test]
fn blocks_parse() {
    for (language, block) in blocks(&text("README.md")) {
        match language {
            "json" => drop(serde_json::from_str::<serde_json::Value>(block).expect(block)),
            "toml" => {
                let source = config::File::from_str(block, FileFormat::Toml);
                config::Config::builder().add_source(source).build().expect(block);
            }
            "sh" => {}
            other => panic!("nobody checks a block of {other:?}"),
        }
    }
}

#[test]
fn markers_of_the_simulator_are_all_told() {
    let readme = text("README.md");
    let told = section(&readme, "## The simulator");
    let told: BTreeSet<&str> = spans(told)
        .into_iter()
        .filter_map(|span| span.split(' ').next())
        .collect();
    let faults = text("src/simulator/faults.rs");
    let mut seen = 0;
    for row in faults.lines().filter_map(|line| line.strip_prefix("//! | `")) {
        let names = row.split(" | ").next().unwrap();
        for name in names.split('`').step_by(2).filter_map(|name| name.split(' ').next()) {
            assert!(name.is_empty() || told.contains(name), "the marker {name} is not told");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} found");
    let control = text("src/simulator/mod.rs");
    for span in spans(&readme).iter().filter(|span| span.contains("/_sim/")) {
        assert!(
            control.contains(&format!("`{span}`")) || control.contains(&format!("`{span}?")),
            "{span}"
        );
    }
}

#[test]
fn error_codes_and_paths_are_real() {
    let readme = text("README.md");
    let said = ["src/protocol/failure.rs", "src/http/status.rs", "src/http/mod.rs"]
        .map(text)
        .concat();
    let rows = section(&readme, "## When something fails").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("| `"));
    for code in rows.filter_map(|row| row.split('`').next()) {
        assert!(said.contains(&format!("{code}\"")), "nothing says {code}");
    }
    let doors = ["src/http/mod.rs", "src/http/admin.rs", "src/http/dashboard.rs"]
        .map(text)
        .concat();
    for span in spans(section(&readme, "## What it speaks")) {
        let path = span.rsplit(' ').next().unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/admin").unwrap_or(path);
        let path = path.split("{id}").next().unwrap_or_default().trim_end_matches('/');
        if path.len() > 1 && path.starts_with('/') && path != "/v1" {
            let is_there = ["\"", "/{"].iter().any(|end| doors.contains(&format!("\"{path}{end}")));
            assert!(is_there, "no door {path}");
        }
    }
}

#[test]
fn what_is_linked_is_there() {
    let readme = text("README.md");
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let headings = readme.lines().filter_map(|line| line.strip_prefix("## "));
    let anchors: Vec<String> = headings
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    for link in links.filter(|link| !link.contains("://")) {
        match link.strip_prefix('#') {
            Some(anchor) => assert!(anchors.iter().any(|known| known == anchor), "no heading for #{anchor}"),
            None => assert!(!text(link).is_empty()),
        }
    }
}

#[test]
fn examples_are_taken() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let mut check = Program::cargo_bin("copilot-proxy").unwrap();
            check.args(["config", "check"]).arg(&path).assert().success();
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

/// The variables are settings, and what compose asks of the image is what the `Dockerfile` makes.
#[test]
fn the_container_speaks_of_real_settings() {
    let (compose, image) = (text("config/docker-compose.yml"), text("Dockerfile"));
    assert_variables_are_settings(&compose);
    assert_variables_are_settings(&image);
    for place in ["/data", "4399", "\"copilot-proxy\", \"health\""] {
        assert!(compose.contains(place) && image.contains(place), "{place}");
    }
    assert!(!image.lines().any(|line| line.starts_with("ARG ")));
}
