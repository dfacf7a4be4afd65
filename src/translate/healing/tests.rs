use super::*;

/// Heals once; the changed body and what was learned.
fn once(way: Protocol, message: &str, body: Value) -> Option<(Value, Option<(String, Value)>)> {
    let mut request = outgoing(body);
    let refusal = Failure::new(Kind::BadRequest, message);
    let healed = heal(way, &refusal, &mut request, &Facts::new(), false, &[])?;
    Some((Value::Object(request.body), healed.learned))
}

fn outgoing(body: Value) -> Outgoing {
    Outgoing {
        body: body.as_object().unwrap().clone(),
        ..Outgoing::default()
    }
}

#[test]
fn k023_an_extra_input_goes_and_is_remembered() {
    let body = json!({"model": "m", "context_management": {"edits": []}});
    let (body, learned) = once(
        Protocol::Messages,
        "context_management: Extra inputs are not permitted",
        body,
    )
    .unwrap();
    assert_eq!(body, json!({"model": "m"}));
    assert_eq!(
        learned,
        Some(("messages.rejected".into(), json!(["context_management"])))
    );
    let mut next = outgoing(json!({"model": "m", "context_management": {}}));
    apply(Protocol::Messages, &[learned.unwrap()].into(), &mut next);
    assert_eq!(Value::Object(next.body), json!({"model": "m"}));
}

#[test]
fn the_form_of_an_answer_is_given_up_only_where_the_settings_say_so() {
    let format = json!({"type": "json_schema", "schema": {}});
    for path in ["output_config.format", "output_config"] {
        let refusal = Failure::new(Kind::BadRequest, format!("{path}: Extra inputs are not permitted"));
        let heal = |best_effort, config: Value| {
            let mut request = outgoing(json!({"model": "m", "output_config": config}));
            let healed = heal(
                Protocol::Messages,
                &refusal,
                &mut request,
                &Facts::new(),
                best_effort,
                &[],
            );
            (healed.is_some(), Value::Object(request.body))
        };
        let asked = json!({"format": format});
        assert!(!heal(false, asked.clone()).0, "{path}");
        let (healed, body) = heal(true, asked);
        assert!(
            healed && body.get("output_config").is_none(),
            "nothing empty stays: {body}"
        );
        assert!(
            body["system"].to_string().contains("JSON schema"),
            "it is asked for in words: {body}"
        );
    }
    let message = "output_config: Extra inputs are not permitted";
    let (body, _) = once(Protocol::Messages, message, json!({"output_config": {"effort": "low"}})).unwrap();
    assert_eq!(body, json!({}));
    let body = json!({"response_format": {"type": "json_object"}});
    assert_eq!(
        once(Protocol::Chat, "Unsupported parameter: 'response_format'", body),
        None
    );
}

#[test]
fn a_path_widens_to_its_column_and_passes_over_variant_names() {
    let body = json!({"tools": [{"name": "a", "x": 1}, {"name": "b", "x": 2}],
        "messages": [{"role": "user", "content": [{"type": "text", "cache_control": {"type": "ephemeral", "scope": "g"}}]}]});
    let message = "tools.0.custom.x: Extra inputs are not permitted, \
        messages.0.content.0.cache_control.ephemeral.scope: Extra inputs are not permitted";
    let (body, learned) = once(Protocol::Messages, message, body).unwrap();
    assert_eq!(body["tools"], json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(
        body["messages"][0]["content"][0]["cache_control"],
        json!({"type": "ephemeral"})
    );
    assert_eq!(learned.unwrap().1.as_array().unwrap().len(), 2);
}

#[test]
fn a_request_to_compact_is_not_answered_without_its_trigger() {
    let body = json!({"input": [{"type": "message"}, {"type": "compaction_trigger"}]});
    assert!(
        once(
            Protocol::Responses,
            "Invalid value: 'compaction_trigger'. input[1].type",
            body
        )
        .is_none()
    );
}

#[test]
fn the_form_of_an_answer_goes_only_where_words_may_ask_for_it() {
    let body =
        json!({"system": "S", "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}});
    let message = "output_config.format: Extra inputs are not permitted";
    assert!(once(Protocol::Messages, message, body.clone()).is_none());
    let refusal = Failure::new(Kind::BadRequest, message);
    let mut request = outgoing(body.clone());
    let healed = heal(Protocol::Messages, &refusal, &mut request, &Facts::new(), true, &[]).unwrap();
    let mut next = outgoing(body);
    apply(Protocol::Messages, &[healed.learned.unwrap()].into(), &mut next);
    for request in [request, next] {
        assert!(!request.body.contains_key("output_config"));
        let system = request.body["system"].to_string();
        assert!(system.contains("S") && system.contains("JSON schema"), "{system}");
    }
}

#[test]
fn an_id_of_another_connection_goes_for_good_and_the_reasoning_under_it_stays() {
    let message = "input item ID does not belong to this connection";
    let body = json!({"input": [{"type": "reasoning", "id": "x", "summary": [], "encrypted_content": "e"}]});
    let (bare, learned) = once(Protocol::Responses, message, body.clone()).unwrap();
    let expected = json!({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "e"}]});
    assert_eq!(bare, expected);
    let mut next = outgoing(body);
    apply(Protocol::Responses, &[learned.unwrap()].into(), &mut next);
    assert_eq!(Value::Object(next.body), expected);
    // Where no id is left to blame, it is the reasoning.
    assert_eq!(
        once(Protocol::Responses, message, bare),
        Some((json!({"input": []}), None))
    );
}

#[test]
fn vital_fields_stay() {
    for path in [
        "messages",
        "tools.0.name",
        "messages.1.content",
        "messages.0.content.0.tool_use.id",
    ] {
        let body = json!({"tools": [{"name": "a"}], "messages": [{"role": "user", "content": [{"id": "x"}]}]});
        assert_eq!(
            once(
                Protocol::Messages,
                &format!("{path}: Extra inputs are not permitted"),
                body
            ),
            None,
            "{path}"
        );
    }
}

#[test]
fn what_a_conversation_says_is_never_forgotten_for_one_misplaced_field() {
    let body = json!({"input": [
        {"type": "message", "role": "user", "content": "hi", "output": "misplaced", "status": "completed"},
        {"type": "function_call_output", "call_id": "call_1", "output": "the result"},
    ]});
    let refusal = |name: &str| format!("Unknown parameter: 'input[0].{name}'.");
    assert_eq!(once(Protocol::Responses, &refusal("output"), body.clone()), None);
    let (body, learned) = once(Protocol::Responses, &refusal("status"), body).unwrap();
    assert_eq!(body["input"][1]["output"], "the result");
    assert_eq!(learned.unwrap().1, json!(["input.*.status"]));
}

#[test]
fn names_that_clients_made_up_fill_no_memory() {
    let mut facts = Facts::new();
    let long = "y".repeat(10_000);
    for name in (0..200).map(|number| format!("x{number}")).chain([long]) {
        let mut request = outgoing(json!({"model": "m", (name.clone()): 1}));
        let message = format!("Unknown parameter: '{name}'.");
        let refusal = Failure::new(Kind::BadRequest, message);
        let healed = heal(Protocol::Responses, &refusal, &mut request, &facts, false, &[]).unwrap();
        assert_eq!(Value::Object(request.body), json!({"model": "m"}));
        facts.extend(healed.learned);
    }
    assert_eq!(facts["responses.rejected"].as_array().unwrap().len(), MAX_ENTRIES);
}

#[test]
fn k169_unsupported_betas_go_for_good() {
    let mut request = outgoing(json!({}));
    request.betas = vec!["x-2026-01-01".into(), "interleaved-thinking-2025-05-14".into()];
    let refusal = Failure::new(Kind::BadRequest, "unsupported beta header(s): x-2026-01-01");
    let healed = heal(Protocol::Messages, &refusal, &mut request, &Facts::new(), false, &[]).unwrap();
    assert_eq!(request.betas, ["interleaved-thinking-2025-05-14"]);
    assert_eq!(healed.learned, Some(("messages.betas".into(), json!(["x-2026-01-01"]))));
}

#[test]
fn k032_stale_thinking_goes_once() {
    let body = json!({"messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "x"}]},
        {"role": "user", "content": "b"},
    ]});
    let message = "messages.1.content.0: Invalid `signature` in `thinking` block";
    let (healed, learned) = once(Protocol::Messages, message, body.clone()).unwrap();
    assert_eq!(healed["messages"].as_array().unwrap().len(), 1, "{healed}");
    assert_eq!(learned, None);
    let refusal = Failure::new(Kind::BadRequest, message);
    assert_eq!(
        heal(
            Protocol::Messages,
            &refusal,
            &mut outgoing(body),
            &Facts::new(),
            false,
            &["stale thinking"]
        ),
        None
    );
}

#[test]
fn k048_unverifiable_reasoning_goes() {
    let body = json!({"input": [{"type": "reasoning", "encrypted_content": "x"}, {"type": "message", "role": "user"}]});
    let message = "The encrypted content for item rs_1 could not be verified.";
    let (body, _) = once(Protocol::Responses, message, body).unwrap();
    assert_eq!(body["input"], json!([{"type": "message", "role": "user"}]));
}

#[test]
fn names_and_efforts_are_corrected() {
    let message =
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    let (body, learned) = once(Protocol::Chat, message, json!({"max_tokens": 5})).unwrap();
    assert_eq!(body, json!({"max_completion_tokens": 5}));
    assert_eq!(
        learned,
        Some(("chat.max_tokens".into(), json!("max_completion_tokens")))
    );

    let message = "Unsupported value: 'minimal' is not supported for reasoning.effort. Supported values are: 'low', 'medium', and 'high'.";
    let (body, learned) = once(
        Protocol::Responses,
        message,
        json!({"reasoning": {"effort": "minimal"}}),
    )
    .unwrap();
    assert_eq!(body["reasoning"]["effort"], "low");
    assert_eq!(
        learned,
        Some(("responses.efforts".into(), json!(["low", "medium", "high"])))
    );

    let refusal = Failure {
        param: Some("reasoning.effort".into()),
        ..Failure::new(
            Kind::BadRequest,
            "Unsupported value: 'xhigh' is not supported with this model. Supported values are: 'low' and 'high'.",
        )
    };
    let mut request = outgoing(json!({"reasoning": {"effort": "xhigh"}}));
    heal(Protocol::Responses, &refusal, &mut request, &Facts::new(), false, &[]).unwrap();
    assert_eq!(request.body["reasoning"]["effort"], "high");

    let (body, _) = once(
        Protocol::Chat,
        "Unsupported parameter: 'temperature'",
        json!({"temperature": 1, "n": 1}),
    )
    .unwrap();
    assert_eq!(body, json!({"n": 1}));
}

#[test]
fn thinking_changes_its_form() {
    let body = json!({"max_tokens": 9000, "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}});
    let (body, _) = once(
        Protocol::Messages,
        "adaptive thinking is not supported on this model",
        body,
    )
    .unwrap();
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 8999}));
    let body = json!({"thinking": {"type": "enabled", "budget_tokens": 31999}});
    let (body, _) = once(
        Protocol::Messages,
        "thinking.type.enabled is not supported for this model",
        body,
    )
    .unwrap();
    assert_eq!(
        (&body["thinking"], &body["output_config"]),
        (&json!({"type": "adaptive"}), &json!({"effort": "high"}))
    );
}

#[test]
fn tools_with_reasoning_go_by_responses() {
    let refusal = Failure::new(
        Kind::BadRequest,
        "Function tools with reasoning_effort are not supported for m in /v1/chat/completions. Please use /v1/responses instead.",
    );
    let healed = heal(
        Protocol::Chat,
        &refusal,
        &mut outgoing(json!({})),
        &Facts::new(),
        false,
        &[],
    )
    .unwrap();
    assert_eq!(healed.reroute, Some(Protocol::Responses));
    assert_eq!(healed.learned, Some(("chat.tools_need_responses".into(), json!(true))));
}

#[test]
fn a_refused_search_tool_is_left_out() {
    let body = json!({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}});
    let (body, learned) = once(Protocol::Responses, "Invalid value: 'web_search'", body).unwrap();
    assert_eq!(body, json!({}));
    assert_eq!(learned, Some(("responses.tools".into(), json!(["web_search"]))));
}

#[test]
fn what_was_asked_for_is_not_left_out() {
    let body = json!({"input": [{"role": "user", "content": "x"}, {"type": "compaction_trigger"}]});
    assert_eq!(
        once(
            Protocol::Responses,
            "Invalid value: 'compaction_trigger'. input[1].type",
            body
        ),
        None
    );
}

#[test]
fn refusals_are_understood_in_anthropics_words_and_in_openais() {
    let sampled = || json!({"model": "m", "temperature": 0.2, "messages": []});
    for (way, message) in [
        (Protocol::Messages, "`temperature` is deprecated for this model."),
        (
            Protocol::Chat,
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.",
        ),
        (
            Protocol::Responses,
            "Unsupported parameter: 'temperature' is not supported with this model.",
        ),
        (Protocol::Chat, "Unrecognized request argument supplied: temperature"),
    ] {
        let (body, learned) = once(way, message, sampled()).unwrap_or_else(|| panic!("{message}"));
        assert_eq!(body, json!({"model": "m", "messages": []}), "{message}");
        let key = format!("{}.rejected", way.name());
        assert_eq!(learned, Some((key, json!(["temperature"]))));
    }

    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 9000});
    let message = "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
        \"output_config.effort\" to control thinking behavior.";
    let (body, _) = once(Protocol::Messages, message, thinking).unwrap();
    assert_eq!(body["thinking"], json!({"type": "adaptive"}));

    let effort = json!({"output_config": {"effort": "max"}});
    let message = "output_config.effort: Input should be 'low', 'medium' or 'high'";
    let (body, learned) = once(Protocol::Messages, message, effort).unwrap();
    assert_eq!(body["output_config"]["effort"], "high");
    assert_eq!(
        learned,
        Some(("messages.efforts".into(), json!(["low", "medium", "high"])))
    );

    for message in [
        "unsupported beta header(s): a-2026-01-01,b.",
        "Unexpected value(s) `a-2026-01-01`, `b` for the `anthropic-beta` header. Please consult our documentation.",
    ] {
        let mut request = outgoing(json!({}));
        request.betas = vec!["a-2026-01-01".into(), "c".into()];
        let refusal = Failure::new(Kind::BadRequest, message);
        heal(Protocol::Messages, &refusal, &mut request, &Facts::new(), false, &[]).unwrap();
        assert_eq!(request.betas, ["c"], "{message}");
    }
}

#[test]
fn every_wording_of_a_search_that_is_not_to_be_had_is_understood() {
    let dated = json!({"tools": [{"type": "web_search_2025_08_26"}, {"type": "function", "name": "f"}]});
    for message in [
        "Invalid value: 'web_search_2025_08_26'. Supported values are: 'function' and 'custom'.",
        "Hosted tool 'web_search_2025_08_26' is not supported with gpt-5-mini.",
        "The web_search_2025_08_26 tool is not enabled for this organization.",
        "constraint constraints/x violated: disallowed feature web_search",
    ] {
        let (body, learned) = once(Protocol::Responses, message, dated.clone()).unwrap_or_else(|| panic!("{message}"));
        assert_eq!(body["tools"], json!([{"type": "function", "name": "f"}]), "{message}");
        assert_eq!(
            learned,
            Some(("responses.tools".into(), json!(["web_search_2025_08_26"])))
        );
    }
    let other = "Invalid value: 'custom'. Supported values are: 'function' and 'web_search_2025_08_26'.";
    assert_eq!(once(Protocol::Responses, other, dated), None);
}

#[test]
fn a_tool_that_anthropics_servers_run_is_asked_for_no_more_where_it_is_refused() {
    let tools =
        json!([{"type": "web_search_20250305", "name": "web_search"}, {"type": "bash_20250124", "name": "bash"}]);
    let refused = |message: &str| {
        let refusal = Failure::new(Kind::BadRequest, message);
        let mut request = outgoing(json!({"tools": tools}));
        heal(Protocol::Messages, &refusal, &mut request, &Facts::new(), false, &[])
    };
    for message in [
        "tools.0: Input tag 'web_search_20250305' found using 'type' does not match any of the expected tags: \
         'bash_20250124', 'custom', 'text_editor_20250124'",
        "tools.0.type: web_search is not supported on this platform",
        "'claude-haiku-4.5' does not support tool types: web_search_20250305",
        "organization policy constraint: disallowed feature web_search",
    ] {
        let healed = refused(message).unwrap_or_else(|| panic!("{message}"));
        assert_eq!(healed.reroute, Some(Protocol::Messages), "translated anew");
        assert_eq!(
            healed.learned,
            Some(("messages.tools".into(), json!(["web_search_20250305"])))
        );
    }
    assert_eq!(refused("tools.1: Input tag 'bash_20250124' found using 'type'"), None);
    assert_eq!(refused("messages: at least one message is required"), None);
    let mistake = "tools.0.web_search_20250305.allowed_domains: Input should be a valid list";
    assert_eq!(refused(mistake), None, "the client's mistake says nothing of the model");
}

#[test]
fn a_refused_freeform_tool_becomes_a_function_for_good() {
    let body = json!({"tools": [{"type": "custom", "name": "p"}, {"type": "web_search"}],
        "input": [{"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "x"}]});
    let mut request = outgoing(body.clone());
    let message = "Invalid value: 'custom'. Supported values are: 'function' and 'web_search'.";
    let refusal = Failure::new(Kind::BadRequest, message);
    let healed = heal(Protocol::Responses, &refusal, &mut request, &Facts::new(), false, &[]).unwrap();
    assert_eq!(healed.learned, Some(("responses.tools".into(), json!(["custom"]))));
    let mut next = outgoing(body);
    apply(Protocol::Responses, &[healed.learned.unwrap()].into(), &mut next);
    for request in [request, next] {
        assert_eq!(request.body["tools"][0]["type"], "function");
        assert_eq!(request.body["tools"][1]["type"], "web_search");
        assert_eq!(request.body["input"][0]["type"], "function_call");
        assert_eq!(request.reply.tools["p"].shape, crate::translate::ToolShape::Custom);
    }
}

#[test]
fn a_compaction_goes_only_after_the_reasoning() {
    let items = json!({"input": [{"type": "compaction"}, {"type": "reasoning"}, {"type": "message"}]});
    let refusal = Failure::new(Kind::BadRequest, "encrypted content could not be verified");
    let mut request = outgoing(items);
    let first = heal(Protocol::Responses, &refusal, &mut request, &Facts::new(), false, &[]).unwrap();
    assert_eq!(
        request.body["input"],
        json!([{"type": "compaction"}, {"type": "message"}])
    );
    heal(
        Protocol::Responses,
        &refusal,
        &mut request,
        &Facts::new(),
        false,
        &[first.rule],
    )
    .unwrap();
    assert_eq!(request.body["input"], json!([{"type": "message"}]));
}

#[test]
fn an_item_of_an_unknown_kind_goes() {
    let body = json!({"input": [{"type": "message"}, {"type": "ghost"}]});
    let message = "Invalid value: 'ghost'. Supported values are: 'message'. (param: input[1].type)";
    let (body, learned) = once(Protocol::Responses, message, body).unwrap();
    assert_eq!((&body["input"], learned), (&json!([{"type": "message"}]), None));
}

#[test]
fn thinking_that_cannot_be_turned_off_stays_on_next_time() {
    let body = json!({"thinking": {"type": "disabled"}, "tool_choice": {"type": "any"}});
    let message = "thinking.type: disabled is not supported for this model";
    let (healed, learned) = once(Protocol::Messages, message, body.clone()).unwrap();
    assert_eq!(healed, json!({"tool_choice": {"type": "auto"}}));
    let mut next = outgoing(body);
    apply(Protocol::Messages, &[learned.unwrap()].into(), &mut next);
    assert_eq!(Value::Object(next.body), healed);
}

#[test]
fn the_parameter_may_stand_beside_the_words() {
    let refusal = Failure {
        param: Some("text.verbosity".into()),
        ..Failure::new(Kind::BadRequest, "no")
    };
    let refusal = refusal.with_code("unsupported_value");
    let mut request = outgoing(json!({"text": {"verbosity": "low"}}));
    heal(Protocol::Responses, &refusal, &mut request, &Facts::new(), false, &[]).unwrap();
    assert_eq!(Value::Object(request.body), json!({"text": {}}));
    let message = "Unknown parameter: 'input[0].phase'";
    let (body, learned) = once(
        Protocol::Responses,
        message,
        json!({"input": [{"phase": 1}, {"phase": 2}]}),
    )
    .unwrap();
    assert_eq!(body, json!({"input": [{}, {}]}));
    assert_eq!(learned, Some(("responses.rejected".into(), json!(["input.*.phase"]))));
}

proptest::proptest! {
    #[test]
    fn nonsense_is_healed_without_harm(
        body in crate::translate::rules::any_json(),
        at in 0..16_usize,
        path in "[a-z_.0-9\\[\\]*]{0,20}",
    ) {
        let texts = [
            format!("{path}: Extra inputs are not permitted"), format!("Unknown parameter: '{path}'"),
            "Invalid value: 'custom'".into(), "Invalid value: input[0]".into(), "signature in thinking".into(),
            "messages: role system".into(), "adaptive thinking is not supported".into(), "thinking disabled".into(),
        ];
        let way = Protocol::ALL[at % 3];
        let wrapped = json!({"messages": [body], "input": [body], "tools": [body], "thinking": body});
        let refusal = Failure::new(Kind::BadRequest, texts[at % texts.len()].clone());
        let mut request = outgoing(wrapped);
        if let Some(Healed { learned: Some(fact), .. }) = heal(way, &refusal, &mut request, &Facts::new(), true, &[]) {
            apply(way, &[fact].into(), &mut request);
        }
    }
}

#[test]
fn other_refusals_are_not_touched() {
    assert_eq!(
        once(
            Protocol::Messages,
            "messages: at least one message is required",
            json!({"messages": []})
        ),
        None
    );
    let failure = Failure::new(Kind::RateLimited, "x: Extra inputs are not permitted");
    assert_eq!(
        heal(
            Protocol::Messages,
            &failure,
            &mut outgoing(json!({"x": 1})),
            &Facts::new(),
            false,
            &[]
        ),
        None
    );
    let done = ["a", "b", "c"];
    let failure = Failure::new(Kind::BadRequest, "x: Extra inputs are not permitted");
    assert_eq!(
        heal(
            Protocol::Messages,
            &failure,
            &mut outgoing(json!({"x": 1})),
            &Facts::new(),
            false,
            &done
        ),
        None
    );
}
