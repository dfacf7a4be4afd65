//! The log: where it goes, what a line looks like, how much is told, and that it does not run into a question on the same
//! terminal. Knows no event.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use env_logger::{Builder, Target, WriteStyle};
use log::kv::{Error, Key, Source, Value, VisitSource, VisitValue};
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::Map;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub format: Format,
    /// Tell more about what this program does.
    pub verbose: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Libraries whose finer words could show a request's headers.
const CAPPED: [&str; 6] = ["awc", "h2", "rustls", "actix_http", "actix_server", "actix_web"];

/// Sends the log to stderr. A second call changes nothing.
///
/// `filter` is the value of `RUST_LOG`: whoever sets it decides alone.
pub fn start(settings: Settings, filter: Option<&str>) {
    let mut builder = Builder::new();
    match filter {
        Some(filter) => {
            builder.parse_filters(filter);
        }
        None => {
            let level = if settings.verbose {
                LevelFilter::Debug
            } else {
                LevelFilter::Info
            };
            builder
                .filter_level(LevelFilter::Info)
                .filter_module("copilot_proxy", level);
            for library in CAPPED {
                builder.filter_module(library, LevelFilter::Warn);
            }
        }
    }
    builder.target(Target::Stderr);
    builder.format_key_values(|out, pairs| write_id(out, pairs));
    match settings.format {
        Format::Text if std::io::stderr().is_terminal() => builder.write_style(WriteStyle::Auto),
        Format::Text => builder.write_style(WriteStyle::Never),
        Format::Json => builder.format(|out, record| writeln!(out, "{}", json_line(record, jiff::Timestamp::now()))),
    };
    let logger = builder.build();
    let most = logger.filter();
    if log::set_boxed_logger(Box::new(AbovePrompt(logger))).is_ok() {
        log::set_max_level(most);
    }
}

/// The question under way on the terminal, which has no end of line yet.
static PROMPT: Mutex<Option<String>> = Mutex::new(None);

/// Takes the terminal's last line back, so that something else may stand there.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Shows a question in place of the last one. It stays below whatever is logged, until [`end_prompt`].
pub fn prompt(question: &str) {
    let mut shown = PROMPT.lock().unwrap_or_else(PoisonError::into_inner);
    say(&format!("{CLEAR_LINE}{question}"));
    *shown = Some(question.to_owned());
}

/// Puts the outcome of the question in its place.
pub fn end_prompt(outcome: &str) {
    let mut shown = PROMPT.lock().unwrap_or_else(PoisonError::into_inner);
    if shown.take().is_some() {
        say(&format!("{CLEAR_LINE}{outcome}\n"));
    }
}

fn say(text: &str) {
    let mut terminal = std::io::stderr().lock();
    // Where nobody reads, nobody is told.
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

/// Logs above the question that may stand on the terminal.
struct AbovePrompt(env_logger::Logger);

impl Log for AbovePrompt {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.0.matches(record) {
            return;
        }
        let shown = PROMPT.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shown {
            None => self.0.log(record),
            Some(question) => {
                say(CLEAR_LINE);
                self.0.log(record);
                say(question);
            }
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// A line of text carries of its pairs only the request's id: the message has told the rest.
fn write_id(out: &mut dyn Write, pairs: &dyn Source) -> std::io::Result<()> {
    match pairs.get(Key::from("id")) {
        Some(id) => write!(out, " [{id}]"),
        None => Ok(()),
    }
}

/// One event as an object; its own pairs come after the usual ones.
fn json_line(record: &Record, now: jiff::Timestamp) -> serde_json::Value {
    let mut line = Map::new();
    line.insert("time".into(), format!("{now:.3}").into());
    line.insert("level".into(), record.level().as_str().to_ascii_lowercase().into());
    line.insert("target".into(), record.target().into());
    line.insert("message".into(), record.args().to_string().into());
    let mut pairs = Pairs(&mut line);
    // Our own visitor never fails.
    let _ = record.key_values().visit(&mut pairs);
    line.into()
}

struct Pairs<'a>(&'a mut Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut json = serde_json::Value::Null;
        value.visit(AsJson(&mut json))?;
        self.0.insert(key.to_string(), json);
        Ok(())
    }
}

/// Where one value goes; what is not there stays `null`.
struct AsJson<'a>(&'a mut serde_json::Value);

impl<'v> VisitValue<'v> for AsJson<'_> {
    fn visit_any(&mut self, value: Value) -> Result<(), Error> {
        *self.0 = value.to_string().into();
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        *self.0 = value.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use log::kv::ToValue;

    use super::*;

    #[test]
    fn a_line_of_text_names_its_request_and_repeats_nothing() {
        let text = |pairs: &[(&str, u64)]| {
            let mut out = Vec::new();
            write_id(&mut out, &pairs).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&[("status", 200), ("id", 7)]), " [7]");
        assert_eq!(text(&[("status", 200)]), "");
    }

    #[test]
    fn a_json_line_carries_its_pairs() {
        let pairs = [
            ("id", log::kv::Value::from("r1")),
            ("status", 200.into()),
            ("share", 0.5.into()),
            ("ok", true.into()),
            ("tokens", None::<u64>.to_value()),
        ];
        let record = Record::builder()
            .level(log::Level::Warn)
            .target("copilot_proxy::relay")
            .args(format_args!("slow \"answer\""))
            .key_values(&pairs)
            .build();
        let line = json_line(&record, jiff::Timestamp::UNIX_EPOCH).to_string();
        assert_eq!(
            line,
            r#"{"time":"1970-01-01T00:00:00.000Z","level":"warn","target":"copilot_proxy::relay","#.to_owned()
                + r#""message":"slow \"answer\"","id":"r1","status":200,"share":0.5,"ok":true,"tokens":null}"#
        );
    }
}
