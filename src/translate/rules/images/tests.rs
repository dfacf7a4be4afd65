use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::translate::rules::{any_json, model};
use Protocol::{Chat, Messages, Responses};

const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAC0lEQVR4nGNgAAIAAAUAAXpeqz8AAAAASUVORK5CYII=";
const JPEG: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBD";

fn seeing(most: u64) -> Arc<Model> {
    let vision = json!({"max_prompt_images": most});
    model(json!({"id": "m", "capabilities": {"limits": {"vision": vision}, "supports": {"vision": true}}}))
}

fn blind() -> Arc<Model> {
    model(json!({"id": "m", "capabilities": {"supports": {"tool_calls": true}}}))
}

fn image(media_type: &str, data: &str) -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}})
}

fn admitted(client: Protocol, mut body: Value, model: &Model) -> Result<Value, Failure> {
    admit(client, body.as_object_mut().unwrap(), model)?;
    Ok(body)
}

fn of_user(block: Value) -> Value {
    json!({"messages": [{"role": "user", "content": [block]}]})
}

#[test]
fn k040_an_external_image_is_refused_with_its_path() {
    let block = json!({"type": "image", "source": {"type": "url", "url": "https://a.b/c.png"}});
    let failure = admitted(Messages, of_user(block), &seeing(5)).unwrap_err();
    assert_eq!(failure.message, format!("messages.0.content.0: {EXTERNAL}"));
    let part = json!({"type": "image_url", "image_url": {"url": "https://a.b/c.png"}});
    let failure = admitted(Chat, of_user(part), &seeing(5)).unwrap_err();
    assert_eq!(
        (failure.param.as_deref(), failure.message.as_str()),
        (Some("messages[0].content[0]"), EXTERNAL)
    );
}

#[test]
fn k040_image_jpg_is_jpeg() {
    let url = format!("data:image/jpg;base64,{JPEG}");
    let part = json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}});
    let body = admitted(Chat, of_user(part), &seeing(5)).unwrap();
    let expected = json!({"url": format!("data:image/jpeg;base64,{JPEG}"), "detail": "low"});
    assert_eq!(body["messages"][0]["content"][0]["image_url"], expected);
}

#[test]
fn k041_the_bytes_know_better_than_the_label() {
    let body = admitted(Messages, of_user(image("image/jpeg", PNG)), &seeing(5)).unwrap();
    assert_eq!(body, of_user(image("image/png", PNG)));
    let spaced = format!("{}\n {}", &PNG[..20], &PNG[20..]);
    assert_eq!(
        admitted(Messages, of_user(image("", &spaced)), &seeing(5)).unwrap(),
        of_user(image("image/png", PNG))
    );
    let failure = admitted(Messages, of_user(image("image/tiff", "AAAA")), &seeing(5)).unwrap_err();
    assert_eq!(failure.code.as_deref(), Some("unsupported_image"));
}

#[test]
fn k042_a_pdf_is_a_file_or_words() {
    let source = json!({"type": "base64", "media_type": PDF, "data": "JVBERi0="});
    let document = json!({"type": "document", "title": "T", "source": source});
    let chat = to_chat(parts_of(&document), &seeing(5));
    assert_eq!(
        chat[0]["text"],
        "[document: T (application/pdf) omitted: model cannot read PDF]"
    );
    let reads = json!({"supported_media_types": [PDF]});
    let reader = model(json!({"id": "m", "capabilities": {"limits": {"vision": reads}}}));
    let file = json!({"filename": "T", "file_data": "data:application/pdf;base64,JVBERi0="});
    assert_eq!(
        to_chat(parts_of(&document), &reader),
        [json!({"type": "file", "file": file})]
    );
    let file = json!({"type": "input_file", "filename": "T", "file_data": "data:application/pdf;base64,JVBERi0="});
    assert_eq!(json!(to_responses(parts_of(&document), false)), json!([file]));
    assert_eq!(to_messages(parts_of(&file)), [document_in_order("T", &source)]);
}

fn document_in_order(title: &str, source: &Value) -> Value {
    json!({"type": "document", "source": source, "title": title})
}

#[test]
fn an_image_is_said_in_every_protocol() {
    let block = image("image/png", PNG);
    let url = format!("data:image/png;base64,{PNG}");
    let chat = json!({"type": "image_url", "image_url": {"url": url}});
    let responses = json!({"type": "input_image", "image_url": url, "detail": "auto"});
    for one in [&block, &chat, &responses] {
        assert_eq!(json!(to_messages(parts_of(one))), json!([block]));
        assert_eq!(json!(to_chat(parts_of(one), &seeing(5))), json!([chat]));
        assert_eq!(json!(to_responses(parts_of(one), false)), json!([responses]));
    }
}

#[test]
fn k156_an_image_is_seen_at_any_depth() {
    let inside = |block: Value| json!({"type": "tool_result", "content": [block]});
    let has = |protocol, body: Value| has_image(protocol, body.as_object().unwrap());
    assert!(has(Messages, of_user(inside(image("image/png", PNG)))));
    let document = json!({"type": "document", "source": {"type": "content", "content": [image("image/png", PNG)]}});
    assert!(has(Messages, of_user(inside(document))));
    assert!(!has(
        Messages,
        of_user(inside(json!({"type": "text", "text": "image"})))
    ));
    assert!(!has(
        Messages,
        of_user(json!({"type": "tool_use", "input": {"content": [image("x", PNG)]}}))
    ));
    assert!(has(
        Responses,
        json!({"input": [{"type": "function_call_output", "output": [{"type": "input_image"}]}]})
    ));
    assert!(has(Chat, of_user(json!({"type": "image_url"}))));
}

#[test]
fn a_model_without_vision_is_told_in_words() {
    let body = json!({"messages": [
        {"role": "user", "content": [image("image/png", PNG)]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [image("image/png", PNG)]}]}]});
    let body = admitted(Messages, body, &blind()).unwrap();
    assert_eq!(body["messages"][0]["content"][0]["text"], UNSEEN);
    assert_eq!(body["messages"][2]["content"][0]["content"][0]["text"], UNSEEN);
    let failure = admitted(Messages, of_user(image("image/png", PNG)), &blind()).unwrap_err();
    assert!(failure.message.starts_with("messages.0.content.0: "));
}

#[test]
fn of_too_many_images_the_newest_stay() {
    let content: Vec<Value> = (0..3).map(|_| image("image/png", PNG)).collect();
    let body = admitted(
        Messages,
        json!({"messages": [{"role": "user", "content": content}]}),
        &seeing(2),
    )
    .unwrap();
    let types: Vec<&Value> = list(&body["messages"][0]["content"])
        .iter()
        .map(|block| &block["type"])
        .collect();
    assert_eq!(json!(types), json!(["text", "image", "image"]));
}

#[test]
fn what_nobody_can_read_is_refused() {
    for (client, part) in [
        (
            Messages,
            json!({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        ),
        (
            Messages,
            json!({"type": "document", "source": {"type": "url", "url": "https://a"}}),
        ),
        (Chat, json!({"type": "input_audio"})),
        (Chat, json!({"type": "file", "file": {"file_id": "f"}})),
    ] {
        assert!(admitted(client, of_user(part), &seeing(5)).is_err());
    }
    for part in [
        json!({"type": "input_image", "file_id": "f"}),
        json!({"type": "input_file", "file_url": "https://a"}),
    ] {
        let body = json!({"input": [{"role": "user", "content": [part]}]});
        let failure = admitted(Responses, body, &seeing(5)).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("input[0].content[0]"));
    }
}

#[test]
fn texts_of_every_kind_are_joined() {
    let content = json!([
        {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "D"}},
        {"type": "search_result", "title": "S", "source": "u", "content": [{"type": "text", "text": "x"}]},
        {"type": "tool_reference", "tool_name": "f"},
        {"type": "text", "text": ""},
        {"type": "input_file", "filename": "n", "file_data": "data:text/plain;base64,aGk="},
    ]);
    assert_eq!(texts(&parts(&content)), "T\nC\n\nD\n\nS\nu\nx\n\nf\n\nn\n\nhi");
}

proptest! {
    #[test]
    fn nonsense_harms_nobody(value in any_json(), items in prop::collection::vec(any_json(), 0..4)) {
        for client in Protocol::ALL {
            for model in [seeing(1), blind()] {
                let body = json!({"messages": items, "input": items});
                has_image(client, body.as_object().unwrap());
                let _ = admitted(client, body, &model);
                let body = json!({"messages": [{"role": "user", "content": value}]});
                let _ = admitted(client, body, &model);
            }
        }
        let read = parts(&value);
        texts(&read);
        to_messages(read.clone());
        to_chat(read.clone(), &blind());
        to_responses(read, true);
    }

    #[test]
    fn any_data_url_is_read_or_refused(url in "data:[a-z/;,=]{0,12}\\PC{0,24}") {
        let _ = read_url(&url);
    }
}

#[test]
fn images_that_stand_elsewhere_are_found_and_put_in() {
    let url = "https://a.example/cat.png";
    let cat = HashMap::from([(url.to_owned(), data_url(Some("image/png"), b"\x89PNG\r\n\x1a\n"))]);
    let bodies = [
        (
            Protocol::Messages,
            json!({"messages": [{"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "url", "url": url}}]},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]}]}),
            "messages.0.content.0.content.0",
        ),
        (
            Protocol::Chat,
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}),
            "messages[0].content[0]",
        ),
        (
            Protocol::Responses,
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}),
            "input[0].content[0]",
        ),
    ];
    for (client, body, path) in bodies {
        let mut body = body.as_object().unwrap().clone();
        let found = external(client, &mut body);
        assert_eq!((found.len(), found[0].url.as_str()), (1, url), "{client:?}");
        assert_eq!(refused(&found[0], "no").param.as_deref(), Some(path));
        inline(client, &mut body, &cat);
        assert!(external(client, &mut body).is_empty(), "{body:?}");
        admit(client, &mut body, &seeing(5)).unwrap();
        assert!(!Value::Object(body).to_string().contains(url));
    }
}
