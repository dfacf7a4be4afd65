//! `start --claude-code`: which models, and the one command that starts Claude Code with them.

use dialoguer::FuzzySelect;
use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};

use super::args::Start;
use super::banner::{NO_KEY, likely};
use super::shell::Shell;
use super::{Error, clipboard, print, tell};
use crate::config::Environment;
use crate::secret::Secret;

/// Models named on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub main: Option<String>,
    pub small: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub main: String,
    pub small: String,
}

/// The command is out; the clipboard's owner, if it needs one, lives as long as this.
pub struct HandedOut {
    _clipboard: Option<clipboard::Copied>,
}

/// Without a terminal nobody can be asked: then both models must have been named.
pub fn refuse_without_answers(start: &Start, interactive: bool) -> Result<(), Error> {
    let missing: Vec<&str> = [("--model", &start.model), ("--small-model", &start.small_model)]
        .into_iter()
        .filter(|(_, given)| given.is_none())
        .map(|(flag, _)| flag)
        .collect();
    if !start.claude_code || interactive || missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "without a terminal, --claude-code needs {}",
        missing.join(" and ")
    ))
    .hint("name a model for each, or leave out --claude-code"))
}

/// Asks for what was not named. `None`: the person pressed Esc or Ctrl-C.
pub fn choose(wishes: Wishes, models: &[String]) -> Result<Option<Chosen>, Error> {
    if models.is_empty() && (wishes.main.is_none() || wishes.small.is_none()) {
        return Err(Error::new("there is no list of models to choose from yet")
            .hint("try again once Copilot can be reached, or name --model and --small-model"));
    }
    for wish in [&wishes.main, &wishes.small].into_iter().flatten() {
        if !models.is_empty() && !models.contains(wish) {
            tell(&unlisted(wish, models));
        }
    }
    let answer = |wish: Option<String>, question: &str, parts: &[&str]| match wish {
        Some(model) => Ok(Some(model)),
        None => ask(question, models, parts),
    };
    let Some(main) = answer(wishes.main, "Main model", &["claude-sonnet", "claude-opus", "claude"])? else {
        return Ok(None);
    };
    let Some(small) = answer(
        wishes.small,
        "Small model, for side tasks",
        &["gpt-5-mini", "haiku", "mini"],
    )?
    else {
        return Ok(None);
    };
    Ok(Some(Chosen { main, small }))
}

/// An alias or a dated name may mean a model that is listed under another.
fn unlisted(wish: &str, models: &[String]) -> String {
    let likeness = |model: &&String| strsim::normalized_damerau_levenshtein(wish, model);
    match models.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))) {
        Some(nearest) => format!("note: {wish} is not on the list of models; did you mean {nearest}?"),
        None => format!("note: {wish} is not on the list of models"),
    }
}

fn ask(question: &str, models: &[String], parts: &[&str]) -> Result<Option<String>, Error> {
    let plain = SimpleTheme;
    let colourful = ColorfulTheme::default();
    let theme: &dyn Theme = if dialoguer::console::colors_enabled_stderr() {
        &colourful
    } else {
        &plain
    };
    let answer = FuzzySelect::with_theme(theme)
        .with_prompt(format!("{question} (type to search, arrows, Enter)"))
        .items(models)
        .default(start_at(models, parts))
        .max_length(12)
        .interact_opt();
    match answer {
        Ok(at) => Ok(at.and_then(|at| models.get(at).cloned())),
        Err(dialoguer::Error::IO(error)) if error.kind() == std::io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(Error::new("cannot show the list of models").because(&error)),
    }
}

/// Where the list opens.
fn start_at(models: &[String], parts: &[&str]) -> usize {
    let likely = likely(models, parts);
    models.iter().position(|model| Some(model) == likely).unwrap_or(0)
}

/// A list that is left hides the cursor for good, and ends in the middle of a line.
pub fn clear_up() {
    let _ = dialoguer::console::Term::stderr().show_cursor();
    tell("");
}

/// Prints the command, and copies it where there is a clipboard to copy to.
pub fn hand_out(
    url: &str,
    key: Option<&Secret>,
    chosen: &Chosen,
    environment: &Environment,
) -> Result<HandedOut, Error> {
    let shell = Shell::of_user(environment);
    let command = shell.command(&variables(url, key, chosen), "claude");
    let copied = clipboard::copy(&command, environment);
    let how = if copied.is_some() {
        "copied to the clipboard; paste it"
    } else {
        "run this"
    };
    tell(&format!(
        "\nClaude Code with {} and {}: {how} in another {} window:\n",
        chosen.main,
        chosen.small,
        shell.name()
    ));
    print(&format!("{command}\n"))?;
    Ok(HandedOut { _clipboard: copied })
}

/// What Claude Code is told, in its own words.
pub fn variables(url: &str, key: Option<&Secret>, chosen: &Chosen) -> Vec<(&'static str, String)> {
    let (main, small) = (&chosen.main, &chosen.small);
    vec![
        ("ANTHROPIC_BASE_URL", url.to_owned()),
        ("ANTHROPIC_AUTH_TOKEN", key.map_or(NO_KEY, Secret::expose).to_owned()),
        ("ANTHROPIC_MODEL", main.clone()),
        ("ANTHROPIC_DEFAULT_SONNET_MODEL", main.clone()),
        ("ANTHROPIC_DEFAULT_OPUS_MODEL", main.clone()),
        ("ANTHROPIC_SMALL_FAST_MODEL", small.clone()),
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", small.clone()),
        // Calls that only cost, such as tips and telemetry.
        ("DISABLE_NON_ESSENTIAL_MODEL_CALLS", "1".into()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
        // A line that changes with each call and so defeats the prompt cache.
        ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0".into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Vec<String> {
        ["gpt-5.2", "claude-opus-4.8", "claude-sonnet-4.5", "gpt-5-mini"]
            .map(String::from)
            .to_vec()
    }

    #[test]
    fn without_a_terminal_the_missing_flags_are_named() {
        let start = |model: Option<&str>, small: Option<&str>| Start {
            claude_code: true,
            model: model.map(str::to_owned),
            small_model: small.map(str::to_owned),
            ..Start::default()
        };
        let error = refuse_without_answers(&start(None, None), false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("needs --model and --small-model"), "{error}");
        let error = refuse_without_answers(&start(Some("m"), None), false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("needs --small-model\n"), "{error}");
        assert!(refuse_without_answers(&start(Some("m"), Some("s")), false).is_ok());
        assert!(refuse_without_answers(&start(None, None), true).is_ok());
        assert!(refuse_without_answers(&Start::default(), false).is_ok());
    }

    #[test]
    fn named_models_are_not_asked_for() {
        let wishes = Wishes {
            main: Some("claude-sonnet-4-5".into()),
            small: Some("gpt-5-mini".into()),
        };
        let chosen = Chosen {
            main: "claude-sonnet-4-5".into(),
            small: "gpt-5-mini".into(),
        };
        assert_eq!(choose(wishes.clone(), &models()).unwrap(), Some(chosen.clone()));
        assert_eq!(choose(wishes, &[]).unwrap(), Some(chosen));
        assert!(choose(Wishes::default(), &[]).is_err());
        assert_eq!(
            unlisted("claude-sonnet-4-5", &models()),
            "note: claude-sonnet-4-5 is not on the list of models; did you mean claude-sonnet-4.5?"
        );
    }

    #[test]
    fn the_list_opens_at_a_likely_model() {
        assert_eq!(start_at(&models(), &["claude-sonnet", "claude"]), 2);
        assert_eq!(start_at(&models(), &["haiku", "mini"]), 3);
        assert_eq!(start_at(&models(), &["grok"]), 0);
    }

    #[test]
    fn the_command_carries_every_variable_and_the_real_key() {
        let chosen = Chosen {
            main: "claude-sonnet-4.5".into(),
            small: "gpt-5-mini".into(),
        };
        let command =
            |key: Option<&Secret>| Shell::Bash.command(&variables("http://127.0.0.1:4399", key, &chosen), "claude");
        assert_eq!(
            command(None),
            "ANTHROPIC_BASE_URL=http://127.0.0.1:4399 ANTHROPIC_AUTH_TOKEN=dummy \
             ANTHROPIC_MODEL=claude-sonnet-4.5 ANTHROPIC_DEFAULT_SONNET_MODEL=claude-sonnet-4.5 \
             ANTHROPIC_DEFAULT_OPUS_MODEL=claude-sonnet-4.5 ANTHROPIC_SMALL_FAST_MODEL=gpt-5-mini \
             ANTHROPIC_DEFAULT_HAIKU_MODEL=gpt-5-mini DISABLE_NON_ESSENTIAL_MODEL_CALLS=1 \
             CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 CLAUDE_CODE_ATTRIBUTION_HEADER=0 claude"
        );
        assert!(command(Some(&Secret::new("it's"))).contains(r"ANTHROPIC_AUTH_TOKEN='it'\''s' "));
    }
}
