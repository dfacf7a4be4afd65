//! The rules of a socket, one by one.

use super::*;

fn session() -> Session {
    Session::new(32 << 20, false)
}

fn ids() -> Ids {
    Ids::new("req_1", 7)
}

fn create(fields: Value) -> String {
    let mut frame = json!({"type": "response.create"});
    frame
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    frame.to_string()
}

fn user(text: &str) -> Value {
    said_by_user(text.into())
}

/// Asks, and gives the request that goes to the model.
fn called(session: &mut Session, frame: &str) -> Object {
    assert_eq!(session.receive(frame), Ok(Asked::Turn));
    match session.begin(ids()) {
        Some(Begun::Call { body, .. }) => body,
        other => panic!("{other:?}"),
    }
}

/// Asks, and gives what is answered at once.
fn answered(session: &mut Session, frame: &str) -> Vec<Value> {
    assert_eq!(session.receive(frame), Ok(Asked::Turn));
    match session.begin(ids()) {
        Some(Begun::Answered(frames)) => frames
            .iter()
            .map(|frame| serde_json::from_str(frame).unwrap())
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn complete(session: &mut Session, id: &str, output: Value) {
    let created = json!({"type": "response.created", "response": {"id": id, "status": "in_progress"}});
    let completed = json!({"type": "response.completed", "response": {"id": id, "output": output}});
    session.hear(&Frame::named("response.created", created.to_string()));
    session.hear(&Frame::named("response.completed", completed.to_string()));
    session.end();
}

#[test]
fn k134_what_a_socket_cannot_do_is_said_and_the_socket_stays() {
    let mut session = session();
    let mut refused = |frame: &str| {
        let failure = session.receive(frame).unwrap_err();
        (failure.openai_code().map(str::to_owned), failure.param)
    };
    let code = |code: &str, param: &str| (Some(code.to_owned()), Some(param.to_owned()));
    assert_eq!(refused("{"), (None, None));
    assert_eq!(refused("[]"), (None, None));
    assert_eq!(refused(r#"{"model":"m"}"#), code("unsupported_event", "type"));
    assert_eq!(
        refused(r#"{"type":"session.update"}"#),
        code("unsupported_event", "type")
    );
    assert_eq!(
        refused(r#"{"type":"response.cancel"}"#).0.as_deref(),
        Some("response_not_active")
    );
    assert_eq!(
        refused(&create(json!({"model": "m", "stream": false}))),
        code("unsupported_parameter", "stream")
    );
    assert_eq!(
        refused(&create(json!({"model": "m", "background": true}))),
        code("unsupported_parameter", "background")
    );
    assert_eq!(refused(&create(json!({"input": "x"}))).1.as_deref(), Some("model"));
    let body = called(
        &mut session,
        &create(json!({"model": "m", "input": "x", "stream": null})),
    );
    assert_eq!(body["stream"], true);
    assert_eq!(body["input"], json!([user("x")]));
    assert_eq!(body.get("type"), None);
}

#[test]
fn a_request_may_be_nested_and_the_model_is_remembered() {
    let mut session = session();
    let nested = json!({"type": "response.create", "response": {"model": "m", "input": "x", "tools": []}});
    let body = called(&mut session, &nested.to_string());
    assert_eq!((&body["model"], &body["tools"]), (&json!("m"), &json!([])));
    session.end();
    let body = called(&mut session, &create(json!({"input": "y"})));
    assert_eq!(body["model"], "m");
}

#[test]
fn k135_a_response_is_continued_with_all_that_came_before() {
    let mut session = session();
    called(
        &mut session,
        &create(json!({"model": "m", "input": [user("a")], "instructions": "i"})),
    );
    complete(
        &mut session,
        "resp_1",
        json!([{"type": "function_call", "call_id": "c"}]),
    );
    let output = json!({"type": "function_call_output", "call_id": "c", "output": "o"});
    let body = called(
        &mut session,
        &create(json!({"input": [output], "previous_response_id": "resp_1"})),
    );
    let call = json!({"type": "function_call", "call_id": "c"});
    assert_eq!(body["input"], json!([user("a"), call, output]));
    assert_eq!(body.get("previous_response_id"), None);
    assert_eq!(body.get("instructions"), None, "instructions are not inherited");
    complete(&mut session, "resp_2", json!([]));
    // A response can be continued twice.
    let body = called(
        &mut session,
        &create(json!({"input": "b", "previous_response_id": "resp_1"})),
    );
    assert_eq!(body["input"], json!([user("a"), call, user("b")]));
}

#[test]
fn only_what_is_new_is_its_clients_doing() {
    let mut session = session();
    called(&mut session, &create(json!({"model": "m", "input": [user("a")]})));
    complete(
        &mut session,
        "resp_1",
        json!([{"type": "message", "role": "assistant"}]),
    );
    session
        .receive(&create(json!({"input": [user("b")], "previous_response_id": "resp_1"})))
        .unwrap();
    let Some(Begun::Call { earlier, .. }) = session.begin(ids()) else {
        panic!("a turn begins")
    };
    let response = json!("resp_1");
    assert_eq!(earlier, Some(Earlier { response, items: 2 }));
}

#[test]
fn k135_another_sockets_response_is_not_known() {
    let mut session = session();
    let frame = create(json!({"model": "m", "input": "x", "previous_response_id": "resp_9"}));
    let error = answered(&mut session, &frame).remove(0);
    assert_eq!(
        error,
        json!({
            "type": "error",
            "code": "previous_response_not_found",
            "message": "Previous response with id 'resp_9' not found.",
            "param": "previous_response_id",
            "status": 400,
            "error_type": "invalid_request_error",
            "error": {
                "type": "invalid_request_error",
                "code": "previous_response_not_found",
                "message": "Previous response with id 'resp_9' not found.",
                "param": "previous_response_id",
            },
            "sequence_number": 0,
        })
    );
    assert!(!session.is_active());
}

#[test]
fn an_append_continues_the_latest_response() {
    let mut session = session();
    called(&mut session, &create(json!({"model": "m", "input": "a"})));
    complete(&mut session, "resp_1", json!([]));
    let body = called(&mut session, r#"{"type":"response.append","input":"b"}"#);
    assert_eq!(body["input"], json!([user("a"), user("b")]));
}

#[test]
fn k136_a_warm_up_is_answered_here_and_can_be_continued() {
    let mut session = session();
    let frame = create(json!({"model": "m", "input": "a", "generate": false, "instructions": "i"}));
    let frames = answered(&mut session, &frame);
    assert_eq!(
        (&frames[0]["type"], &frames[1]["type"]),
        (&json!("response.created"), &json!("response.completed"))
    );
    assert_eq!(
        (&frames[0]["sequence_number"], &frames[1]["sequence_number"]),
        (&json!(0), &json!(1))
    );
    let response = &frames[1]["response"];
    assert_eq!(
        (&response["output"], &response["instructions"]),
        (&json!([]), &json!("i"))
    );
    assert_eq!(response["usage"]["total_tokens"], 0);
    let id = response["id"].as_str().unwrap();
    let body = called(&mut session, &create(json!({"input": "b", "previous_response_id": id})));
    assert_eq!(body["input"], json!([user("a"), user("b")]));
    assert_eq!(body.get("generate"), None);
}

#[test]
fn turns_wait_in_line_and_the_line_is_bounded() {
    let mut session = session();
    called(&mut session, &create(json!({"model": "m", "input": "0"})));
    for number in 1..=MAX_WAITING {
        assert_eq!(
            session.receive(&create(json!({"input": number.to_string()}))),
            Ok(Asked::Turn)
        );
    }
    let failure = session.receive(&create(json!({"input": "9"}))).unwrap_err();
    assert_eq!(
        (failure.openai_code(), failure.kind),
        (Some("too_many_requests"), Kind::RateLimited)
    );
    assert_eq!(session.begin(ids()), None, "one at a time");
    session.end();
    match session.begin(ids()) {
        Some(Begun::Call { body, .. }) => assert_eq!(body["input"], json!([user("1")])),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_long_line_is_bounded_in_bytes_too() {
    let mut session = session();
    let long = "x".repeat(15 << 20);
    called(&mut session, &create(json!({"model": "m", "input": "0"})));
    assert!(session.receive(&create(json!({"input": long}))).is_ok());
    assert!(session.receive(&create(json!({"input": long}))).is_ok());
    assert!(session.receive(&create(json!({"input": long}))).is_err());
}

#[test]
fn only_the_latest_responses_are_kept() {
    let mut session = session();
    for number in 0..=KEPT {
        called(&mut session, &create(json!({"model": "m", "input": "x"})));
        complete(&mut session, &format!("resp_{number}"), json!([]));
    }
    let known = |id: &str| json!({"input": "x", "previous_response_id": id});
    let error = answered(&mut session, &create(known("resp_0"))).remove(0);
    assert_eq!(error["code"], "previous_response_not_found");
    called(&mut session, &create(known("resp_1")));
}

#[test]
fn a_history_that_has_grown_too_long_is_refused() {
    let mut session = Session::new(1000, false);
    called(&mut session, &create(json!({"model": "m", "input": "x".repeat(600)})));
    complete(&mut session, "resp_1", json!([{"text": "y".repeat(200)}]));
    let frame = create(json!({"input": "z".repeat(200), "previous_response_id": "resp_1"}));
    assert_eq!(answered(&mut session, &frame).remove(0)["status"], 413);
}

#[test]
fn a_failed_response_cannot_be_continued() {
    let mut session = session();
    called(&mut session, &create(json!({"model": "m", "input": "x"})));
    let failed = json!({"type": "response.failed", "response": {"id": "resp_1", "output": []}});
    assert_eq!(
        session.hear(&Frame::named("response.failed", failed.to_string())),
        Some(failed.to_string())
    );
    session.end();
    let frame = create(json!({"input": "x", "previous_response_id": "resp_1"}));
    assert_eq!(
        answered(&mut session, &frame).remove(0)["code"],
        "previous_response_not_found"
    );
}

#[test]
fn a_response_that_upstream_has_left_is_an_error_and_one_that_it_has_failed_is_not() {
    let mut session = session();
    called(&mut session, &create(json!({"model": "m", "input": [user("a")]})));
    let mut heard = |failure: &Failure| {
        let error = json!({"code": failure.openai_code(), "message": failure.message});
        let failed = json!({"type": "response.failed", "response": {"id": "resp_1", "error": error}});
        let frame = session
            .hear(&Frame::named("response.failed", failed.to_string()))
            .unwrap();
        serde_json::from_str::<Value>(&frame).unwrap()
    };
    for (failure, status) in [
        (Failure::truncated(), 502),
        (Failure::new(Kind::UpstreamUnreachable, "reset"), 502),
        (Failure::new(Kind::UpstreamTimeout, "silence"), 504),
    ] {
        let frame = heard(&failure);
        assert_eq!((&frame["type"], &frame["status"]), (&json!("error"), &json!(status)));
        assert_eq!(frame["error"]["message"], failure.message);
    }
    for failure in [
        Failure::new(Kind::Stream, "the model failed"),
        Failure::new(Kind::RateLimited, "slow down"),
    ] {
        assert_eq!(heard(&failure)["type"], "response.failed");
    }
}

#[test]
fn a_cancelled_turn_says_so_under_its_own_id() {
    let mut session = session();
    called(&mut session, &create(json!({"model": "m", "input": "x"})));
    assert_eq!(session.receive(r#"{"type":"response.cancel"}"#), Ok(Asked::Cancel));
    let early: Value = serde_json::from_str(&session.cancel().unwrap()).unwrap();
    assert_eq!(
        (&early["type"], &early["response"]["model"]),
        (&json!("response.failed"), &json!("m"))
    );
    called(&mut session, &create(json!({"input": "x"})));
    let created = json!({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}});
    session.hear(&Frame::named("response.created", created.to_string()));
    let late: Value = serde_json::from_str(&session.cancel().unwrap()).unwrap();
    assert_eq!(
        (&late["response"]["id"], &late["sequence_number"]),
        (&json!("resp_1"), &json!(1))
    );
    assert_eq!(
        (&late["response"]["status"], &late["response"]["error"]["code"]),
        (&json!("failed"), &json!("cancelled"))
    );
    assert_eq!(session.cancel(), None);
}

#[test]
fn errors_of_either_form_leave_in_both() {
    let mut session = session();
    called(&mut session, &create(json!({"model": "m", "input": "x"})));
    let nested = json!({"type": "error", "error": {"code": "user_model_rate_limited", "message": "slow down"}});
    let flat =
        json!({"type": "error", "code": "server_error", "message": "broken", "param": null, "sequence_number": 3});
    let mut said = |event: Value| -> Value {
        let frame = session.hear(&Frame::named("error", event.to_string())).unwrap();
        serde_json::from_str(&frame).unwrap()
    };
    let (nested, flat) = (said(nested), said(flat));
    assert_eq!(
        (&nested["status"], &nested["error"]["message"]),
        (&json!(429), &json!("slow down"))
    );
    assert_eq!(nested["code"], nested["error"]["code"]);
    assert_eq!(
        (&flat["status"], &flat["error"]["code"]),
        (&json!(502), &json!("server_error"))
    );
}

#[test]
fn an_error_frame_carries_when_to_come_back() {
    let failure = Failure {
        retry_after: Some("5".into()),
        ..Failure::new(Kind::RateLimited, "slow down")
    };
    let headers = [("x-github-request-id".to_owned(), "G".to_owned())];
    let frame: Value = serde_json::from_str(&session().error_frame(&failure, &headers)).unwrap();
    assert_eq!(
        frame["headers"],
        json!({"x-github-request-id": "G", "retry-after": "5"})
    );
    assert_eq!(
        (&frame["status"], &frame["error_type"]),
        (&json!(429), &json!("rate_limit_error"))
    );
}
