//! Images and documents in a request: what is allowed, what a model cannot see, and each in the three protocols' shapes.
//!
//! [`admit`] goes over a client's body in place, before any translation: afterwards every image is base64 of an allowed
//! type, none is too many, and a model that cannot see gets words. Then [`parts`] reads a content into neutral pieces,
//! and [`to_messages`], [`to_chat`] and [`to_responses`] write them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{field, list, peek, peek_mut};
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::protocol::failure::Failure;
use crate::translate::Object;

/// One piece of a content.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Text(String),
    Refusal(String),
    Image(Image),
    File(File),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub media_type: String,
    /// Base64.
    pub data: String,
    pub detail: Option<String>,
}

/// A document that is more than text.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub name: Option<String>,
    pub media_type: String,
    /// Base64.
    pub data: String,
}

const ALLOWED: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";
const UNSEEN: &str = "[image omitted: model has no vision]";
const TOO_MANY: &str = "[image omitted: the prompt holds too many]";
const EXTERNAL: &str = "External image URLs are not supported; send base64 data";

/// Whether an image is inside, at any depth: in a message, in a tool's result, in a document.
pub fn has_image(protocol: Protocol, body: &Object) -> bool {
    let history = list(field(body, history_key(protocol)));
    history.iter().any(holds_image)
}

fn holds_image(value: &Value) -> bool {
    match value {
        Value::Array(parts) => parts.iter().any(holds_image),
        Value::Object(part) => {
            let is_inside = |name: &str| matches!(name, "content" | "output" | "source");
            is_image(value) || part.iter().any(|(name, inner)| is_inside(name) && holds_image(inner))
        }
        _ => false,
    }
}

fn is_image(part: &Value) -> bool {
    matches!(
        peek(part, "type").as_str(),
        Some("image" | "image_url" | "input_image" | "computer_screenshot")
    )
}

fn history_key(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Responses => "input",
        Protocol::Chat | Protocol::Messages => "messages",
    }
}

/// Makes the images and documents of a client's body fit for this model: base64 cleaned, types told by their bytes,
/// what the model cannot see replaced by words. Refuses what nobody can serve, with the path to it.
pub fn admit(client: Protocol, body: &mut Object, model: &Model) -> Result<(), Failure> {
    let Some(history) = body.get_mut(history_key(client)).and_then(Value::as_array_mut) else {
        return Ok(());
    };
    let mut images = 0_u64;
    visit(client, history, &mut |part, path| {
        images += u64::from(is_image(part));
        check(client, part, path)
    })?;
    if images == 0 {
        return Ok(());
    }
    if !sees(model) {
        let asked = last_of_person(history);
        return visit(client, history, &mut |part, path| {
            if !is_image(part) {
                return Ok(());
            }
            if Some(path.message) == asked && !path.in_result {
                let message = format!("model {} cannot read images", model.id);
                return Err(refuse(client, path, &message).with_code("unsupported_image"));
            }
            *part = text_part(client, UNSEEN);
            Ok(())
        });
    }
    let mut surplus = model.limits.images.map_or(0, |most| images.saturating_sub(most));
    visit(client, history, &mut |part, _| {
        if surplus > 0 && is_image(part) {
            surplus -= 1;
            *part = text_part(client, TOO_MANY);
        }
        Ok(())
    })
}

/// An image that stands elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct External {
    client: Protocol,
    path: String,
    pub url: String,
}

/// The images of a client's body that are named by an address.
pub fn external(client: Protocol, body: &mut Object) -> Vec<External> {
    let mut found = Vec::new();
    let history = body.get_mut(history_key(client)).and_then(Value::as_array_mut);
    for_each_url(client, history, &mut |url, path| {
        if !url.starts_with("data:") {
            found.push(External {
                client,
                path: path.text.to_string(),
                url: url.clone(),
            });
        }
    });
    found
}

/// Puts data URLs in the place of these addresses.
pub fn inline(client: Protocol, body: &mut Object, data: &HashMap<String, String>) {
    let history = body.get_mut(history_key(client)).and_then(Value::as_array_mut);
    for_each_url(client, history, &mut |url, _| {
        if let Some(data) = data.get(url) {
            url.clone_from(data);
        }
    });
}

/// Says of an external image why it is refused.
pub fn refused(external: &External, message: &str) -> Failure {
    let External { client, path, .. } = external;
    let path = Path {
        message: 0,
        text: path,
        in_result: false,
    };
    refuse(*client, &path, message)
}

/// An image as its own address.
pub fn data_url(media_type: Option<&str>, bytes: &[u8]) -> String {
    format!(
        "data:{};base64,{}",
        media_type.unwrap_or_default(),
        STANDARD.encode(bytes)
    )
}

/// Calls `f` for the address of each image that has one.
fn for_each_url(client: Protocol, history: Option<&mut Vec<Value>>, f: &mut dyn FnMut(&mut String, &Path)) {
    let Some(history) = history else { return };
    // Nothing here refuses.
    let _ = visit(client, history, &mut |part, path| {
        let holder = match peek(part, "type").as_str() {
            Some("image") => part.get_mut("source"),
            Some("image_url" | "input_image") => part.get_mut("image_url"),
            _ => None,
        };
        match holder {
            Some(Value::String(url)) => f(url, path),
            Some(Value::Object(holder)) => {
                if let Some(Value::String(url)) = holder.get_mut("url") {
                    f(url, path);
                }
            }
            _ => {}
        }
        Ok(())
    });
}

/// Whether the model reads images; a catalogue entry that says nothing of its abilities is given the benefit of the doubt.
pub fn sees(model: &Model) -> bool {
    model.supports.vision || model.limits.images.is_some() || !model.raw["capabilities"]["supports"].is_object()
}

/// Where the last message of a person is, if no answer came after it.
fn last_of_person(history: &[Value]) -> Option<usize> {
    let last = history.iter().rposition(|message| message["role"] == "user")?;
    let answered = history[last..].iter().any(|message| message["role"] == "assistant");
    (!answered).then_some(last)
}

/// Where a part is. Only a refusal spells it out.
struct Path<'a> {
    message: usize,
    text: &'a dyn Display,
    in_result: bool,
}

type Visit<'a> = dyn FnMut(&mut Value, &Path) -> Result<(), Failure> + 'a;

/// Calls `f` for each part of each content, in order, those inside tool results and documents included.
fn visit(client: Protocol, history: &mut [Value], f: &mut Visit) -> Result<(), Failure> {
    for (message, entry) in history.iter_mut().enumerate() {
        for key in ["content", "output"] {
            if let Some(content) = peek_mut(entry, key) {
                let (open, close) = brackets(client);
                let path = Path {
                    message,
                    text: &format_args!("{}{open}{message}{close}.{key}", history_key(client)),
                    in_result: key == "output",
                };
                visit_parts(client, content, &path, f)?;
            }
        }
    }
    Ok(())
}

fn visit_parts(client: Protocol, content: &mut Value, holder: &Path, f: &mut Visit) -> Result<(), Failure> {
    let (open, close) = brackets(client);
    for (at, part) in content.as_array_mut().into_iter().flatten().enumerate() {
        if !part.is_object() {
            continue;
        }
        let base = holder.text;
        let path = Path {
            message: holder.message,
            text: &format_args!("{base}{open}{at}{close}"),
            in_result: holder.in_result || peek(part, "type") == "tool_result",
        };
        if let Some(inner) = peek_mut(part, "content") {
            let text = &format_args!("{}.content", path.text);
            visit_parts(client, inner, &Path { text, ..path }, f)?;
        }
        if let Some(inner) = peek_mut(part, "source").and_then(|source| source.get_mut("content")) {
            let text = &format_args!("{}.source.content", path.text);
            visit_parts(client, inner, &Path { text, ..path }, f)?;
        }
        f(part, &path)?;
    }
    Ok(())
}

/// What stands before and after an index in a path.
fn brackets(client: Protocol) -> (&'static str, &'static str) {
    match client {
        Protocol::Messages => (".", ""),
        Protocol::Chat | Protocol::Responses => ("[", "]"),
    }
}

/// Messages' errors have no field for the path: there it opens the sentence.
fn refuse(client: Protocol, path: &Path, message: &str) -> Failure {
    let path = path.text.to_string();
    match client {
        Protocol::Messages => Failure::bad(&path, format!("{path}: {message}")),
        Protocol::Chat | Protocol::Responses => Failure::bad(path, message),
    }
}

fn text_part(client: Protocol, text: &str) -> Value {
    let kind = if client == Protocol::Responses {
        "input_text"
    } else {
        "text"
    };
    json!({"type": kind, "text": text})
}

/// Cleans one part in place, or refuses it.
fn check(client: Protocol, part: &mut Value, path: &Path) -> Result<(), Failure> {
    match peek(part, "type").as_str() {
        Some("image") if client == Protocol::Messages => check_source(client, part, path),
        Some("document") => check_document(client, part, path),
        Some("image_url") => {
            let holder = &part["image_url"];
            let url = holder.as_str().or_else(|| holder["url"].as_str()).unwrap_or_default();
            let url = clean_url(client, url, path)?;
            match part["image_url"].as_object_mut() {
                Some(holder) => drop(holder.insert("url".into(), json!(url))),
                None => part["image_url"] = json!({"url": url}),
            }
            Ok(())
        }
        Some("input_image") => {
            refuse_file_id(client, part, path)?;
            let holder = &part["image_url"];
            let url = holder.as_str().or_else(|| holder["url"].as_str()).unwrap_or_default();
            part["image_url"] = json!(clean_url(client, url, path)?);
            Ok(())
        }
        Some("input_file") => {
            refuse_file_id(client, part, path)?;
            if part["file_url"].is_string() {
                return Err(refuse(
                    client,
                    path,
                    "External file URLs are not supported; send base64 data",
                ));
            }
            Ok(())
        }
        Some("file") => refuse_file_id(client, &part["file"], path),
        Some("input_audio") => Err(refuse(client, path, "audio input is not supported")),
        _ => Ok(()),
    }
}

fn refuse_file_id(client: Protocol, holder: &Value, path: &Path) -> Result<(), Failure> {
    if holder["file_id"].is_string() {
        return Err(refuse(client, path, "Files by id are not supported; send base64 data"));
    }
    Ok(())
}

fn check_source(client: Protocol, part: &mut Value, path: &Path) -> Result<(), Failure> {
    let source = &part["source"];
    match source["type"].as_str() {
        Some("url") => match source["url"].as_str() {
            Some(url) if url.starts_with("data:") => {
                let image = read_url(url).map_err(|why| unsupported(client, path, &why))?;
                part["source"] = base64_source(&image.media_type, &image.data);
                Ok(())
            }
            _ => Err(refuse(client, path, EXTERNAL)),
        },
        Some("file") => Err(refuse(client, path, "Files by id are not supported; send base64 data")),
        _ => {
            let data = source["data"].as_str().unwrap_or_default();
            let image =
                read_image(source["media_type"].as_str(), data).map_err(|why| unsupported(client, path, &why))?;
            if let Some(source) = part["source"].as_object_mut() {
                source.insert("media_type".into(), json!(image.media_type));
                source.insert("data".into(), json!(image.data));
            }
            Ok(())
        }
    }
}

fn check_document(client: Protocol, part: &mut Value, path: &Path) -> Result<(), Failure> {
    let source = &part["source"];
    match source["type"].as_str() {
        Some("url") => Err(refuse(
            client,
            path,
            "External document URLs are not supported; send base64 data",
        )),
        Some("file") => Err(refuse(client, path, "Files by id are not supported; send base64 data")),
        Some("base64") => {
            let data = clean_base64(source["data"].as_str().unwrap_or_default()).into_owned();
            part["source"]["data"] = json!(data);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn unsupported(client: Protocol, path: &Path, why: &str) -> Failure {
    refuse(client, path, why).with_code("unsupported_image")
}

fn clean_url(client: Protocol, url: &str, path: &Path) -> Result<String, Failure> {
    if !url.starts_with("data:") {
        return Err(refuse(client, path, EXTERNAL));
    }
    let image = read_url(url).map_err(|why| unsupported(client, path, &why))?;
    Ok(image.url())
}

/// Reads `data:<type>[;…];base64,<data>` as an image.
fn read_url(url: &str) -> Result<Image, String> {
    let (declared, data) = split_url(url).ok_or("image is not a base64 data URL")?;
    read_image(Some(declared), data)
}

/// The declared type and the base64 of a data URL.
fn split_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let is_base64 = head
        .split(';')
        .skip(1)
        .any(|part| part.trim().eq_ignore_ascii_case("base64"));
    is_base64.then(|| (head.split(';').next().unwrap_or_default().trim(), data))
}

/// An image of an allowed type; its bytes know better than its label.
fn read_image(declared: Option<&str>, data: &str) -> Result<Image, String> {
    let data = clean_base64(data);
    let declared = declared.unwrap_or_default().to_ascii_lowercase();
    let declared = if declared == "image/jpg" {
        "image/jpeg"
    } else {
        declared.as_str()
    };
    let media_type = sniff(&data).unwrap_or(declared);
    if data.is_empty() {
        return Err("image without data".into());
    }
    if !ALLOWED.contains(&media_type) {
        return Err(format!(
            "unsupported image type '{media_type}'; use png, jpeg, gif or webp"
        ));
    }
    Ok(Image {
        media_type: media_type.to_owned(),
        data: data.into_owned(),
        detail: None,
    })
}

fn clean_base64(data: &str) -> Cow<'_, str> {
    if data.bytes().any(|byte| byte.is_ascii_whitespace()) {
        Cow::Owned(data.chars().filter(|letter| !letter.is_ascii_whitespace()).collect())
    } else {
        Cow::Borrowed(data)
    }
}

/// The type that the first bytes tell.
fn sniff(data: &str) -> Option<&'static str> {
    let head = STANDARD.decode(data.as_bytes().get(..16)?).ok()?;
    match head.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => Some("image/webp"),
        _ => None,
    }
}

impl Image {
    pub fn url(&self) -> String {
        format!("data:{};base64,{}", self.media_type, self.data)
    }
}

impl File {
    fn url(&self) -> String {
        format!("data:{};base64,{}", self.media_type, self.data)
    }

    fn omitted(&self) -> String {
        let name = self.name.as_deref().unwrap_or("document");
        let kind = if self.media_type == PDF {
            "PDF"
        } else {
            &self.media_type
        };
        format!(
            "[document: {name} ({}) omitted: model cannot read {kind}]",
            self.media_type
        )
    }
}

/// The pieces of a content: of a message, or of a tool's result. A text is one piece. What is neither text nor image
/// nor document is left to the pair that knows it, and absent here.
pub fn parts(content: &Value) -> Vec<Part> {
    match content {
        Value::String(text) => vec![Part::Text(text.clone())],
        Value::Array(parts) => parts.iter().flat_map(parts_of).collect(),
        Value::Object(_) => parts_of(content),
        _ => Vec::new(),
    }
}

/// The pieces that one part of any protocol amounts to; a document may be several.
pub fn parts_of(part: &Value) -> Vec<Part> {
    let text = |text: &Value| text.as_str().map(|text| Part::Text(text.to_owned()));
    let one = match part["type"].as_str() {
        Some("text" | "input_text" | "output_text" | "summary_text") => text(&part["text"]),
        Some("refusal") => part["refusal"].as_str().map(|text| Part::Refusal(text.to_owned())),
        Some("image") => {
            let source = &part["source"];
            let read = match source["url"].as_str() {
                Some(url) => read_url(url),
                None => read_image(
                    source["media_type"].as_str(),
                    source["data"].as_str().unwrap_or_default(),
                ),
            };
            read.ok().map(Part::Image)
        }
        Some("image_url" | "input_image") => {
            let holder = &part["image_url"];
            let url = holder.as_str().or_else(|| holder["url"].as_str()).unwrap_or_default();
            let detail = part["detail"].as_str().or_else(|| holder["detail"].as_str());
            read_url(url).ok().map(|image| {
                Part::Image(Image {
                    detail: detail.map(str::to_owned),
                    ..image
                })
            })
        }
        Some("document") => return document(part),
        Some("search_result") => Some(Part::Text(search_result(part))),
        Some("tool_reference") => text(&part["tool_name"]),
        Some("file") => return file(&part["file"]),
        Some("input_file") => return file(part),
        None => text(&part["text"]),
        Some(_) => None,
    };
    one.into_iter().collect()
}

/// A Messages document: a file, or the texts and images it holds under its title.
fn document(part: &Value) -> Vec<Part> {
    let source = &part["source"];
    let title = part["title"].as_str().map(str::to_owned);
    let mut inside = match source["type"].as_str() {
        Some("base64") => {
            let media_type = source["media_type"].as_str().unwrap_or(PDF).to_owned();
            let data = clean_base64(source["data"].as_str().unwrap_or_default()).into_owned();
            return readable(File {
                name: title,
                media_type,
                data,
            });
        }
        Some("content") => parts(&source["content"]),
        _ => parts(&source["data"]),
    };
    let heads = [title, part["context"].as_str().map(str::to_owned)];
    let head: Vec<String> = heads.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    if !head.is_empty() {
        inside.insert(0, Part::Text(head.join("\n")));
    }
    inside
}

fn search_result(part: &Value) -> String {
    let heads = [&part["title"], &part["source"]];
    let texts = list(&part["content"]).iter().map(|block| &block["text"]);
    let lines: Vec<&str> = heads.into_iter().chain(texts).filter_map(Value::as_str).collect();
    lines.join("\n")
}

/// An OpenAI file: `filename` and `file_data`, a data URL or bare base64.
fn file(holder: &Value) -> Vec<Part> {
    let Some(data) = holder["file_data"].as_str() else {
        return Vec::new();
    };
    let (media_type, data) = split_url(data).unwrap_or((PDF, data));
    readable(File {
        name: holder["filename"].as_str().map(str::to_owned),
        media_type: if media_type.is_empty() { PDF } else { media_type }.to_owned(),
        data: clean_base64(data).into_owned(),
    })
}

/// A file as text, where it is text.
fn readable(file: File) -> Vec<Part> {
    let is_text = file.media_type.starts_with("text/") || file.media_type == "application/json";
    let text = is_text.then(|| {
        STANDARD
            .decode(&file.data)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
    });
    match text.flatten() {
        Some(text) => file.name.into_iter().chain([text]).map(Part::Text).collect(),
        None => vec![Part::File(file)],
    }
}

/// Messages blocks.
pub fn to_messages(parts: Vec<Part>) -> Vec<Value> {
    let block = |part| match part {
        Part::Text(text) | Part::Refusal(text) => json!({"type": "text", "text": text}),
        Part::Image(image) => json!({"type": "image", "source": base64_source(&image.media_type, &image.data)}),
        Part::File(file) if file.media_type == PDF => {
            let mut block = json!({"type": "document", "source": base64_source(PDF, &file.data)});
            if let Some(name) = file.name {
                block["title"] = json!(name);
            }
            block
        }
        Part::File(file) => json!({"type": "text", "text": file.omitted()}),
    };
    parts.into_iter().map(block).collect()
}

fn base64_source(media_type: &str, data: &str) -> Value {
    json!({"type": "base64", "media_type": media_type, "data": data})
}

/// Chat parts, for a person's message. A file stays one only if the model says that it takes its type.
pub fn to_chat(parts: Vec<Part>, model: &Model) -> Vec<Value> {
    let part = |part| match part {
        Part::Text(text) | Part::Refusal(text) => json!({"type": "text", "text": text}),
        Part::Image(image) => {
            let mut url = json!({"url": image.url()});
            if let Some(detail) = image.detail.filter(|detail| detail != "auto") {
                url["detail"] = json!(if detail == "original" { "high" } else { &detail });
            }
            json!({"type": "image_url", "image_url": url})
        }
        Part::File(file) if takes(model, &file.media_type) => {
            let name = file.name.as_deref().unwrap_or("document.pdf");
            json!({"type": "file", "file": {"filename": name, "file_data": file.url()}})
        }
        Part::File(file) => json!({"type": "text", "text": file.omitted()}),
    };
    parts.into_iter().map(part).collect()
}

/// Whether the model lists a type among those it reads.
fn takes(model: &Model, media_type: &str) -> bool {
    let listed = &model.raw["capabilities"]["limits"]["vision"]["supported_media_types"];
    list(listed).iter().any(|one| one == media_type)
}

/// Responses parts of an answer (`output_text`), or of anything else (`input_…`).
pub fn to_responses(parts: Vec<Part>, answer: bool) -> Vec<Value> {
    let kind = if answer { "output_text" } else { "input_text" };
    let part = |part| match part {
        Part::Text(text) => json!({"type": kind, "text": text}),
        Part::Refusal(text) if answer => json!({"type": "refusal", "refusal": text}),
        Part::Refusal(text) => json!({"type": kind, "text": text}),
        Part::Image(_) | Part::File(_) if answer => json!({"type": kind, "text": "[image omitted]"}),
        Part::Image(image) => {
            let detail = match image.detail.as_deref() {
                None => "auto",
                Some("original") => "high",
                Some(detail) => detail,
            };
            json!({"type": "input_image", "image_url": image.url(), "detail": detail})
        }
        Part::File(file) => {
            let name = file.name.as_deref().unwrap_or("document.pdf");
            json!({"type": "input_file", "filename": name, "file_data": file.url()})
        }
    };
    parts.into_iter().map(part).collect()
}

/// The texts of some pieces, one paragraph each; files by their placeholder, images not at all.
pub fn texts(parts: &[Part]) -> String {
    let texts: Vec<Cow<str>> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) | Part::Refusal(text) => Some(Cow::Borrowed(text.as_str())),
            Part::File(file) => Some(Cow::Owned(file.omitted())),
            Part::Image(_) => None,
        })
        .filter(|text| !text.is_empty())
        .collect();
    texts.join("\n\n")
}

#[cfg(test)]
mod tests;
