//! The client's own name for its conversation, and what of it upstream is told.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::field;
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::translate::ids::hex;
use crate::translate::{Hints, Object};

/// The longest cache key that upstream takes.
const LONGEST_KEY: usize = 64;

/// The conversation's name: from the body, else from a header.
pub fn name(client: Protocol, body: &Object, hints: &Hints) -> Option<String> {
    let in_body = match client {
        Protocol::Messages => field(body, "metadata")["user_id"].as_str().and_then(of_user_id),
        Protocol::Chat | Protocol::Responses => None,
    };
    let key = || field(body, "prompt_cache_key").as_str().map(str::to_owned);
    in_body
        .or_else(|| hints.session.clone())
        .or_else(key)
        .filter(|name| !name.is_empty())
}

/// Claude Code writes `user_<hash>_account_<id>_session_<uuid>`, or a JSON object in a string.
fn of_user_id(id: &str) -> Option<String> {
    if let Ok(Value::Object(parts)) = serde_json::from_str(id) {
        return field(&parts, "session_id").as_str().map(str::to_owned);
    }
    id.rsplit_once("_session_").map(|(_, session)| session.to_owned())
}

/// The cache key of a Responses request: the client's own, else its conversation's name beside the model's family.
pub fn cache_key(client: Protocol, body: &Object, hints: &Hints, model: &Model) -> Option<String> {
    let own = field(body, "prompt_cache_key")
        .as_str()
        .filter(|key| !key.is_empty())
        .map(str::to_owned);
    let key = own.or_else(|| name(client, body, hints).map(|name| format!("{name}:{}", model.family)))?;
    Some(fit_key(&key))
}

/// The id under which upstream sees one conversation's requests: the name's hash in the form of a UUID, so that the name
/// itself stays here.
pub fn interaction_id(client: Protocol, body: &Object, hints: &Hints) -> Option<String> {
    let digest = hashed(&name(client, body, hints)?);
    let part = |range| digest.get(range).unwrap_or_default();
    Some(format!(
        "{}-{}-4{}-8{}-{}",
        part(0..8),
        part(8..12),
        part(13..16),
        part(17..20),
        part(20..32)
    ))
}

/// A key that upstream takes: itself, or its hash.
pub fn fit_key(key: &str) -> String {
    if key.len() <= LONGEST_KEY {
        key.to_owned()
    } else {
        hashed(key)
    }
}

/// The user of a Messages request as Chat is told of it: a hash, since the original may name accounts.
pub fn hashed_user(body: &Object) -> Option<String> {
    field(body, "metadata")["user_id"]
        .as_str()
        .filter(|id| !id.is_empty())
        .map(hashed)
}

/// The user of a Chat request as Messages may be told of it: no address, nothing long.
pub fn plain_user(body: &Object) -> Option<&str> {
    let user = field(body, "user").as_str()?;
    (!user.is_empty() && user.chars().count() <= 256 && !user.contains('@')).then_some(user)
}

fn hashed(text: &str) -> String {
    hex("", &Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_interaction_has_the_form_of_a_uuid_and_not_the_name() {
        let hints = Hints {
            session: Some("mine".into()),
            ..Hints::default()
        };
        let id = interaction_id(Protocol::Chat, &Object::new(), &hints).unwrap();
        assert!(uuid::Uuid::parse_str(&id).is_ok() && !id.contains("mine"));
        assert_eq!(interaction_id(Protocol::Chat, &Object::new(), &hints), Some(id));
        assert_eq!(interaction_id(Protocol::Chat, &Object::new(), &Hints::default()), None);
    }

    use serde_json::json;

    use super::*;
    use crate::translate::rules::model;

    #[test]
    fn k054_the_session_is_found_in_both_forms() {
        let name_of = |id: &str| {
            let body = json!({"metadata": {"user_id": id}});
            name(Protocol::Messages, body.as_object().unwrap(), &Hints::default())
        };
        assert_eq!(name_of("user_a_account_b_session_c-d").as_deref(), Some("c-d"));
        assert_eq!(name_of(r#"{"device_id":"x","session_id":"S"}"#).as_deref(), Some("S"));
        assert_eq!(name_of("somebody"), None);
    }

    #[test]
    fn k054_responses_gets_a_key_and_chat_a_hash() {
        let body = json!({"metadata": {"user_id": r#"{"session_id":"S"}"#}});
        let body = body.as_object().unwrap();
        let gpt = model(json!({"id": "gpt-5.4"}));
        let key = cache_key(Protocol::Messages, body, &Hints::default(), &gpt);
        assert_eq!(key.as_deref(), Some("S:gpt-5.4"));
        let user = hashed_user(body).unwrap();
        assert!(
            user.len() == 64
                && user
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
        );
        assert_eq!(fit_key(&"k".repeat(65)).len(), 64);
    }

    #[test]
    fn an_address_is_no_user() {
        for (user, expected) in [("u1", Some("u1")), ("a@b.c", None), ("", None)] {
            assert_eq!(plain_user(json!({"user": user}).as_object().unwrap()), expected);
        }
    }
}
