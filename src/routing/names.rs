//! From the name a client writes to a model of the catalogue: aliases, prefixes, dates, Claude's many spellings.
//! Knows nothing of endpoints.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::catalog::{Catalog, Model};
use crate::protocol::effort::Effort;
use crate::protocol::failure::{Failure, Kind};

/// What to do with a name that no rule explains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Refuse it.
    Off,
    /// A Claude name may fall back to the newest model of its own family.
    #[default]
    ClaudeFamily,
    /// Any name may.
    Family,
}

/// A name explained.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    pub model: Arc<Model>,
    /// From a modifier such as `-high` that named no model of its own.
    pub effort: Option<Effort>,
    /// From the modifier `-thinking`.
    pub thinking: bool,
    /// The name itself is unknown; this is the newest of its family.
    pub fell_back: bool,
}

/// Explains names against one catalogue and the user's aliases.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub catalog: &'a Catalog,
    pub aliases: &'a BTreeMap<String, String>,
    pub fallback: Fallback,
}

/// What has been read off the name so far.
#[derive(Clone, Debug, Default)]
struct Read {
    long_context: bool,
    thinking: bool,
    effort: Option<Effort>,
}

/// Longer names are not searched for.
const MAX_NAME: usize = 256;
const MAX_ALIASES: usize = 8;
const EFFORTS: [(&str, Effort); 5] = [
    ("-low", Effort::Low),
    ("-medium", Effort::Medium),
    ("-high", Effort::High),
    ("-xhigh", Effort::Xhigh),
    ("-max", Effort::Max),
];

impl Names<'_> {
    /// The model that `asked` means. `long_context` says that a header asked for the large window.
    pub fn resolve(&self, asked: &str, long_context: bool) -> Result<Resolved, Failure> {
        let mut read = Read {
            long_context,
            ..Read::default()
        };
        let mut fell_back = false;
        let mut found = if asked.len() <= MAX_NAME {
            self.search(asked, &mut read)?
        } else {
            None
        };
        if found.is_none() && asked.len() <= MAX_NAME {
            found = self.family_fallback(asked);
            fell_back = found.is_some();
        }
        let base = found.ok_or_else(|| self.unknown(asked))?;
        let model = if read.long_context {
            self.long_variant(base)
        } else {
            base
        };
        Ok(Resolved {
            model: model.clone(),
            effort: read.effort,
            thinking: read.thinking,
            fell_back,
        })
    }

    /// Tries the name as it stands, then with one decoration less at a time. An id that the user has given to another
    /// model is that model's in every spelling; where an alias led to the spelling, it stands as it is.
    fn search(&self, asked: &str, read: &mut Read) -> Result<Option<&Arc<Model>>, Failure> {
        let mut name = self.follow_aliases(asked)?;
        let mut aliased = name != asked;
        loop {
            if let Some(model) = self.listed(&name) {
                return Ok(Some(model));
            }
            if let Some(model) = self.claude(&name).or_else(|| self.nickname(&name)) {
                let meant = self.follow_aliases(&model.id)?;
                if aliased || meant == model.id {
                    return Ok(Some(model));
                }
                (name, aliased) = (meant, true);
                continue;
            }
            let Some(shorter) = undecorated(&name, read) else {
                return Ok(None);
            };
            name = self.follow_aliases(&shorter)?;
            aliased |= name != shorter;
        }
    }

    fn follow_aliases(&self, name: &str) -> Result<String, Failure> {
        let mut name = name.to_owned();
        for _ in 0..=MAX_ALIASES {
            match self.alias(&name) {
                Some(next) if *next == name => return Ok(name),
                Some(next) => name = next.clone(),
                None => return Ok(name),
            }
        }
        Err(Failure::bad("model", format!("model alias cycle at '{name}'")))
    }

    fn alias(&self, name: &str) -> Option<&String> {
        let exact = self.aliases.get(name);
        exact.or_else(|| {
            self.aliases
                .iter()
                .find(|(alias, _)| alias.eq_ignore_ascii_case(name))
                .map(|(_, to)| to)
        })
    }

    fn listed(&self, name: &str) -> Option<&Arc<Model>> {
        let ignoring_case = || {
            self.catalog
                .models()
                .iter()
                .find(|model| model.id.eq_ignore_ascii_case(name))
        };
        self.catalog.get(name).or_else(ignoring_case)
    }

    /// Claude's spellings: family and version in either order, with dots or dashes, with or without a minor.
    fn claude(&self, name: &str) -> Option<&Arc<Model>> {
        let lower = name.to_ascii_lowercase();
        let (family, version) = claude_parts(&lower)?;
        match version.as_slice() {
            [] => self.newest(|model| claude_family(model) == Some(family)),
            [major] => self.listed(&format!("claude-{family}-{major}")).or_else(|| {
                self.newest(|model| {
                    claude_family(model) == Some(family) && version_of(&model.id).first() == Some(major)
                })
            }),
            [major, minor] => {
                let listed = self.listed(&format!("claude-{family}-{major}.{minor}"));
                listed.or_else(|| self.listed(&format!("claude-{major}.{minor}-{family}")))
            }
            _ => None,
        }
    }

    /// A bare family name, and the words Claude Code uses for "the best there is".
    fn nickname(&self, name: &str) -> Option<&Arc<Model>> {
        let family = |wanted: &str| self.newest(|model| claude_family(model) == Some(wanted));
        match name.to_ascii_lowercase().as_str() {
            "opusplan" | "best" | "default" => family("opus").or_else(|| family("sonnet")),
            word if word.bytes().all(|byte| byte.is_ascii_lowercase()) => family(word),
            _ => None,
        }
    }

    fn family_fallback(&self, asked: &str) -> Option<&Arc<Model>> {
        let mut name = asked.to_ascii_lowercase();
        while let Some(shorter) = undecorated(&name, &mut Read::default()) {
            name = shorter;
        }
        let allowed = match self.fallback {
            Fallback::Off => false,
            Fallback::ClaudeFamily => name.starts_with("claude-"),
            Fallback::Family => true,
        };
        if !allowed {
            return None;
        }
        match claude_parts(&name) {
            Some((family, _)) => self.newest(|model| claude_family(model) == Some(family)),
            None if name.starts_with("claude") => None,
            None => self.newest(|model| words_of(&model.id) == words_of(&name) && !words_of(&name).is_empty()),
        }
    }

    /// The newest of the models that fit: usable first, then version, released before preview, plain before variant.
    fn newest(&self, fits: impl Fn(&Model) -> bool) -> Option<&Arc<Model>> {
        let rank = |model: &Model| {
            let plain = std::cmp::Reverse(words_of(&model.id).len());
            (model.policy != "disabled", version_of(&model.id), !model.preview, plain)
        };
        let fitting = self.catalog.models().iter().filter(|model| fits(model));
        fitting.fold(None, |best: Option<&Arc<Model>>, model| match best {
            Some(best) if rank(best).cmp(&rank(model)) != Ordering::Less => Some(best),
            _ => Some(model),
        })
    }

    fn long_variant<'m>(&'m self, base: &'m Arc<Model>) -> &'m Arc<Model> {
        let variant = |suffix: &str| self.catalog.get(&format!("{}{suffix}", base.id));
        variant("-1m").or_else(|| variant("-1m-internal")).unwrap_or(base)
    }

    fn unknown(&self, asked: &str) -> Failure {
        let shown: String = asked.chars().take(MAX_NAME).collect();
        let mut near: Vec<(f64, &str)> = self
            .catalog
            .models()
            .iter()
            .filter(|model| model.picker)
            .map(|model| (strsim::jaro_winkler(&shown, &model.id), model.id.as_str()))
            .collect();
        near.sort_by(|one, two| two.0.total_cmp(&one.0));
        let near: Vec<&str> = near.into_iter().take(10).map(|(_, id)| id).collect();
        let hint = if near.is_empty() {
            String::new()
        } else {
            format!("; near it: {}", near.join(", "))
        };
        Failure {
            param: Some("model".into()),
            ..Failure::new(
                Kind::ModelNotFound,
                format!("model '{shown}' does not exist or is not available{hint}"),
            )
        }
    }
}

/// The name with its outermost decoration removed, and what that decoration said.
fn undecorated(name: &str, read: &mut Read) -> Option<String> {
    if let Some((_, rest)) = name.rsplit_once('/') {
        return Some(rest.to_owned());
    }
    let lower = name.to_ascii_lowercase();
    let without = |suffix: &str| {
        lower
            .ends_with(suffix)
            .then(|| name[..name.len() - suffix.len()].to_owned())
    };
    if let Some(rest) = without("[1m]")
        .or_else(|| without("-1m-internal"))
        .or_else(|| without("-1m"))
    {
        read.long_context = true;
        return Some(rest);
    }
    if let Some(rest) = without("-latest").or_else(|| without("-fast")) {
        return Some(rest);
    }
    if let Some(rest) = without("-thinking") {
        read.thinking = true;
        return Some(rest);
    }
    for (suffix, effort) in EFFORTS {
        if let Some(rest) = without(suffix) {
            read.effort = read.effort.or(Some(effort));
            return Some(rest);
        }
    }
    undated(name).map(str::to_owned)
}

/// Without `-YYYYMMDD`, `@YYYYMMDD` or `-YYYY-MM-DD` at its end.
fn undated(name: &str) -> Option<&str> {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((rest, date)) = name.rsplit_once(['-', '@'])
        && digits(date, 8)
    {
        return Some(rest);
    }
    let mut parts = name.rsplitn(4, '-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let rest = parts.next()?;
    (digits(day, 2) && digits(month, 2) && digits(year, 4)).then_some(rest)
}

/// Family and version of a Claude name in any spelling: `claude-sonnet-4-5`, `claude-4.5-sonnet`, `claude-opus`.
fn claude_parts(name: &str) -> Option<(&str, Vec<u32>)> {
    let mut family = None;
    let mut version = Vec::new();
    for part in name.strip_prefix("claude-")?.split('-') {
        if part.bytes().all(|byte| byte.is_ascii_lowercase()) && !part.is_empty() {
            if family.replace(part).is_some() {
                return None;
            }
        } else {
            for number in part.split('.') {
                let short = !number.is_empty() && number.len() <= 2;
                version.push(number.parse().ok().filter(|_| short)?);
            }
        }
    }
    (version.len() <= 2).then_some((family?, version))
}

/// The family of a Claude model of the catalogue, variants included: `claude-opus-4.6-1m` → `opus`.
fn claude_family(model: &Model) -> Option<&str> {
    let name = model.id.strip_prefix("claude-")?;
    name.split('-')
        .find(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// The first numbers in an id, for comparing: `gpt-5.4-mini` → [5, 4].
fn version_of(id: &str) -> Vec<u32> {
    let numbers = |part: &str| {
        part.split('.')
            .map(|number| number.parse().ok())
            .collect::<Option<Vec<u32>>>()
    };
    id.split('-').find_map(numbers).unwrap_or_default()
}

/// What is left of an id without its numbers: `gpt-5.3-codex` → [gpt, codex].
fn words_of(id: &str) -> Vec<&str> {
    id.split('-')
        .filter(|part| !part.starts_with(|first: char| first.is_ascii_digit()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalog(ids: &[&str]) -> Catalog {
        let entries: Vec<_> = ids
            .iter()
            .map(|id| json!({"id": id, "model_picker_enabled": true}))
            .collect();
        Catalog::read(&json!({ "data": entries }))
    }

    const LIST: &[&str] = &[
        "claude-haiku-4.5",
        "claude-sonnet-4",
        "claude-sonnet-4.5",
        "claude-opus-4.6",
        "claude-opus-4.6-1m",
        "gpt-4.1",
        "gpt-5.1-codex",
        "gpt-5.1-codex-max",
        "gpt-5.3-codex",
        "gemini-2.5-pro",
    ];

    fn resolve_with(asked: &str, aliases: &[(&str, &str)], fallback: Fallback) -> Result<Resolved, Failure> {
        let aliases = aliases
            .iter()
            .map(|(from, to)| (from.to_string(), to.to_string()))
            .collect();
        Names {
            catalog: &catalog(LIST),
            aliases: &aliases,
            fallback,
        }
        .resolve(asked, false)
    }

    fn id_of(asked: &str) -> String {
        let resolved = resolve_with(asked, &[], Fallback::default());
        resolved.map_or_else(|failure| format!("{:?}", failure.kind), |found| found.model.id.clone())
    }

    #[test]
    fn k150_every_spelling_finds_its_model() {
        for asked in [
            "claude-sonnet-4.5",
            "claude-sonnet-4-5",
            "claude-sonnet-4-5-20250929",
            "claude-sonnet-4-5@20250929",
            "claude-sonnet-4.5[1m]",
            "anthropic/claude-sonnet-4.5",
            "models/copilot/claude-sonnet-4-5-latest",
            "claude-4-5-sonnet",
            "claude-4.5-sonnet-20250929",
            "CLAUDE-Sonnet-4.5",
            "claude-sonnet-4-5-thinking",
            "sonnet",
            "claude-sonnet",
        ] {
            assert_eq!(id_of(asked), "claude-sonnet-4.5", "{asked}");
        }
        assert_eq!(id_of("claude-sonnet-4-20250514"), "claude-sonnet-4");
        assert_eq!(id_of("claude-4-sonnet"), "claude-sonnet-4");
        assert_eq!(id_of("claude-opus-4"), "claude-opus-4.6");
        assert_eq!(id_of("opusplan"), "claude-opus-4.6");
        assert_eq!(id_of("gpt-4.1-2025-04-14"), "gpt-4.1");
    }

    #[test]
    fn modifiers_are_models_first_and_efforts_second() {
        assert_eq!(id_of("gpt-5.1-codex-max"), "gpt-5.1-codex-max");
        let resolved = resolve_with("gpt-5.3-codex-high", &[], Fallback::Off).unwrap();
        assert_eq!(
            (resolved.model.id.as_str(), resolved.effort),
            ("gpt-5.3-codex", Some(Effort::High))
        );
        assert!(resolve_with("sonnet-thinking", &[], Fallback::Off).unwrap().thinking);
    }

    #[test]
    fn the_large_window_takes_its_own_model_where_there_is_one() {
        assert_eq!(id_of("claude-opus-4-6[1m]"), "claude-opus-4.6-1m");
        assert_eq!(id_of("opus[1m][1m]"), "claude-opus-4.6-1m");
        assert_eq!(id_of("opus"), "claude-opus-4.6");
        assert_eq!(id_of("haiku[1m]"), "claude-haiku-4.5");
    }

    #[test]
    fn aliases_win_over_models_and_may_chain() {
        let aliases = [
            ("claude-haiku-4.5", "small"),
            ("small", "gpt-4.1"),
            ("GPT-4.1", "gpt-4.1"),
        ];
        let resolved = resolve_with("claude-haiku-4.5", &aliases, Fallback::Off).unwrap();
        assert_eq!(resolved.model.id, "gpt-4.1");
        let resolved = resolve_with("anthropic/Small", &aliases, Fallback::Off).unwrap();
        assert_eq!(resolved.model.id, "gpt-4.1");
        for spelled in ["claude-haiku-4-5-20251001", "claude-4-5-haiku", "haiku"] {
            let resolved = resolve_with(spelled, &aliases, Fallback::Off).unwrap();
            assert_eq!(resolved.model.id, "gpt-4.1", "{spelled}");
        }
        let to_itself = [("claude-haiku-4.5", "haiku"), ("sonnet", "claude-sonnet-4-5")];
        for (asked, id) in [
            ("haiku", "claude-haiku-4.5"),
            ("claude-sonnet-4-5", "claude-sonnet-4.5"),
        ] {
            assert_eq!(resolve_with(asked, &to_itself, Fallback::Off).unwrap().model.id, id);
        }
    }

    #[test]
    fn k151_an_alias_cycle_is_refused() {
        let failure = resolve_with("a", &[("a", "b"), ("b", "a")], Fallback::Off).unwrap_err();
        assert_eq!(failure.kind, Kind::BadRequest);
        assert!(failure.message.contains("alias cycle"));
        assert_eq!(
            resolve_with("gpt-4.1", &[("gpt-4.1", "gpt-4.1")], Fallback::Off)
                .unwrap()
                .model
                .id,
            "gpt-4.1"
        );
    }

    #[test]
    fn an_unknown_name_falls_back_only_as_far_as_allowed() {
        assert_eq!(id_of("claude-sonnet-9-9"), "claude-sonnet-4.5");
        assert_eq!(id_of("claude-poem-1"), "ModelNotFound");
        assert_eq!(id_of("gpt-9-codex"), "ModelNotFound");
        assert!(resolve_with("claude-sonnet-9-9", &[], Fallback::Off).is_err());
        let family = resolve_with("gpt-9-codex", &[], Fallback::Family).unwrap();
        assert_eq!((family.model.id.as_str(), family.fell_back), ("gpt-5.3-codex", true));
    }

    #[test]
    fn an_unknown_name_is_told_its_neighbours() {
        let failure = resolve_with("gemini-2.5-por", &[], Fallback::Off).unwrap_err();
        assert_eq!(
            (failure.kind, failure.param.as_deref()),
            (Kind::ModelNotFound, Some("model"))
        );
        assert!(
            failure.message.contains("near it: gemini-2.5-pro"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn odd_names_are_only_unknown() {
        for asked in [
            "",
            "/",
            "-",
            "claude-",
            "claude--",
            "[1m]",
            "-latest",
            "ß[1m]",
            &"x".repeat(10_000),
        ] {
            assert_eq!(id_of(asked), "ModelNotFound", "{asked}");
        }
    }
}
