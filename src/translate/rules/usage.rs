//! What an answer cost: each protocol's count of tokens, read into [`Usage`] and written from it. Counts are what
//! upstream says; nothing here overflows or goes below zero.

use serde_json::{Value, json};

use crate::protocol::Protocol;
use crate::translate::turn::Usage;

/// Reads a `usage` object. What it does not name stays unknown.
pub fn read(protocol: Protocol, usage: &Value) -> Usage {
    match protocol {
        Protocol::Messages => of_messages(usage),
        Protocol::Chat => of_chat(usage),
        Protocol::Responses => of_responses(usage),
    }
}

fn of_messages(usage: &Value) -> Usage {
    let cached = usage["cache_read_input_tokens"].as_u64();
    let cache_write = usage["cache_creation_input_tokens"].as_u64();
    let fresh = usage["input_tokens"].as_u64();
    let cache = cached.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
    Usage {
        input: fresh.map(|fresh| fresh.saturating_add(cache)),
        cached,
        cache_write,
        output: usage["output_tokens"].as_u64(),
        reasoning: usage["output_tokens_details"]["thinking_tokens"].as_u64(),
        searches: usage["server_tool_use"]["web_search_requests"].as_u64(),
    }
}

fn of_chat(usage: &Value) -> Usage {
    let prompt = &usage["prompt_tokens_details"];
    let written = [&prompt["cache_creation_tokens"], &prompt["cache_write_tokens"]];
    let (input, answered) = (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64());
    let nested = usage["completion_tokens_details"]["reasoning_tokens"].as_u64();
    let reasoning = nested.or_else(|| usage["reasoning_tokens"].as_u64());
    Usage {
        input,
        cached: prompt["cached_tokens"].as_u64(),
        cache_write: written.into_iter().find_map(Value::as_u64),
        output: answered.map(|answered| {
            // Some backends count reasoning beside the answer, and only the total tells.
            let sum = input.unwrap_or(0).saturating_add(answered);
            let with_reasoning = sum.saturating_add(reasoning.unwrap_or(0));
            let total = usage["total_tokens"].as_u64();
            let is_beside = total == Some(with_reasoning) && total != Some(sum);
            if is_beside {
                answered.saturating_add(reasoning.unwrap_or(0))
            } else {
                answered
            }
        }),
        reasoning,
        searches: None,
    }
}

fn of_responses(usage: &Value) -> Usage {
    let prompt = &usage["input_tokens_details"];
    Usage {
        input: usage["input_tokens"].as_u64(),
        cached: prompt["cached_tokens"].as_u64(),
        cache_write: prompt["cache_write_tokens"].as_u64(),
        output: usage["output_tokens"].as_u64(),
        reasoning: usage["output_tokens_details"]["reasoning_tokens"].as_u64(),
        searches: None,
    }
}

/// Takes over what a later part of a Messages stream says: counts are cumulative, and what it leaves out stays. The
/// prompt's size is a sum there, so its parts are joined before they are summed.
pub fn update_messages(known: &mut Usage, usage: &Value) {
    let fresh = |usage: &Usage| {
        let cache = usage.cached.unwrap_or(0).saturating_add(usage.cache_write.unwrap_or(0));
        usage.input.map(|input| input.saturating_sub(cache))
    };
    let newer = of_messages(usage);
    let fresh = usage["input_tokens"].as_u64().or_else(|| fresh(known));
    known.update(&newer);
    let cache = known.cached.unwrap_or(0).saturating_add(known.cache_write.unwrap_or(0));
    known.input = fresh.map(|fresh| fresh.saturating_add(cache)).or(known.input);
}

/// Writes a `usage` object. What is unknown is 0, since clients require each count.
pub fn write(protocol: Protocol, usage: &Usage) -> Value {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    let (cached, written) = (usage.cached.unwrap_or(0), usage.cache_write.unwrap_or(0));
    let reasoning = usage.reasoning.unwrap_or(0);
    let total = input.saturating_add(output);
    match protocol {
        Protocol::Messages => {
            let mut made = json!({
                "input_tokens": input.saturating_sub(cached).saturating_sub(written),
                "cache_creation_input_tokens": written,
                "cache_read_input_tokens": cached,
                "output_tokens": output,
            });
            if let Some(searches) = usage.searches {
                made["server_tool_use"] = json!({"web_search_requests": searches});
            }
            made
        }
        Protocol::Chat => {
            let mut prompt = json!({"cached_tokens": cached});
            if let Some(written) = usage.cache_write {
                prompt["cache_write_tokens"] = json!(written);
            }
            json!({
                "prompt_tokens": input,
                "completion_tokens": output,
                "total_tokens": total,
                "prompt_tokens_details": prompt,
                "completion_tokens_details": {"reasoning_tokens": reasoning},
            })
        }
        Protocol::Responses => json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": total,
        }),
    }
}

/// Copilot's own price of a call, from the object that carries `copilot_usage`, beside its usage or inside it.
pub fn nano_aiu(holder: &Value) -> Option<u64> {
    let places = [
        &holder["copilot_usage"],
        &holder["usage"]["copilot_usage"],
        &holder["response"]["copilot_usage"],
    ];
    let inner = &holder["response"]["usage"]["copilot_usage"];
    places.into_iter().chain([inner]).find_map(|place| {
        let total = &place["total_nano_aiu"];
        total
            .as_u64()
            .or_else(|| total.as_f64().filter(|price| *price >= 0.0).map(|price| price as u64))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::translate::rules::any_json;
    use Protocol::{Chat, Messages, Responses};

    #[test]
    fn k074_k077_a_chat_usage_as_messages() {
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107,
            "prompt_tokens_details": {"cached_tokens": 80}});
        let expected = json!({"input_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 80,
            "output_tokens": 7});
        assert_eq!(write(Messages, &read(Chat, &usage)), expected);
    }

    #[test]
    fn k075_more_cached_than_sent_is_nothing_fresh() {
        let usage = json!({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 80}});
        assert_eq!(write(Messages, &read(Chat, &usage))["input_tokens"], 0);
    }

    #[test]
    fn k076_unknown_counts_are_integers() {
        for protocol in Protocol::ALL {
            let written = write(protocol, &Usage::default());
            let counts = written.as_object().unwrap().values().filter(|value| !value.is_object());
            assert!(counts.clone().count() >= 3 && counts.clone().all(Value::is_u64));
        }
    }

    #[test]
    fn k129_a_messages_usage_as_responses() {
        let usage = json!({"input_tokens": 10, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 5,
            "output_tokens": 7});
        let expected = json!({"input_tokens": 105, "input_tokens_details": {"cached_tokens": 90, "cache_write_tokens": 5},
            "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 112});
        assert_eq!(write(Responses, &read(Messages, &usage)), expected);
    }

    #[test]
    fn reasoning_that_was_counted_beside_the_answer_joins_it() {
        let details = json!({"reasoning_tokens": 5});
        let beside = json!({"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 18, "completion_tokens_details": details});
        assert_eq!(read(Chat, &beside).output, Some(8));
        let within = json!({"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18, "completion_tokens_details": details});
        assert_eq!(read(Chat, &within).output, Some(8));
    }

    #[test]
    fn the_end_of_a_messages_stream_corrects_its_beginning() {
        let mut known = read(
            Messages,
            &json!({"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1}),
        );
        update_messages(&mut known, &json!({"output_tokens": 50}));
        assert_eq!(
            (known.input, known.cached, known.output),
            (Some(100), Some(90), Some(50))
        );
        update_messages(&mut known, &json!({"input_tokens": 12, "output_tokens": 60}));
        assert_eq!((known.input, known.output), (Some(102), Some(60)));
        update_messages(&mut known, &json!({"cache_read_input_tokens": 80}));
        assert_eq!(known.input, Some(92));
    }

    #[test]
    fn the_price_is_found_in_both_places() {
        let price = json!({"total_nano_aiu": 8025000});
        assert_eq!(nano_aiu(&json!({"copilot_usage": price})), Some(8_025_000));
        assert_eq!(
            nano_aiu(&json!({"response": {"usage": {"copilot_usage": price}}})),
            Some(8_025_000)
        );
        assert_eq!(nano_aiu(&json!({"usage": {}})), None);
    }

    proptest! {
        #[test]
        fn nothing_overflows(counts in prop::collection::vec(prop::option::of(any::<u64>()), 6), usage in any_json()) {
            let made = Usage { input: counts[0], cached: counts[1], cache_write: counts[2], output: counts[3],
                reasoning: counts[4], searches: counts[5] };
            for protocol in Protocol::ALL {
                let written = write(protocol, &made);
                read(protocol, &written);
                read(protocol, &usage);
            }
            let mut known = made;
            update_messages(&mut known, &write(Messages, &made));
        }
    }
}
