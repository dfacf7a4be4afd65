//! A call on its way back: the arguments of a function that stood for another kind of tool, in the shape the client
//! declared. Models do not always keep to the schema, so each shape forgives what can be understood.

use serde_json::{Value, json};

use crate::translate::{ClientTool, ToolShape};

/// The input of a freeform tool: the string inside the arguments, or the arguments themselves.
pub fn custom_input(arguments: &str) -> String {
    match serde_json::from_str(arguments) {
        Ok(Value::Object(object)) => {
            let strings: Vec<&str> = object.values().filter_map(Value::as_str).collect();
            match (object.get("input").and_then(Value::as_str), strings.as_slice()) {
                (Some(input), _) => input.to_owned(),
                (None, [only]) => (*only).to_owned(),
                (None, _) => arguments.to_owned(),
            }
        }
        Ok(Value::String(input)) => input,
        _ => arguments.to_owned(),
    }
}

/// The action of a `local_shell_call`.
pub fn local_shell_action(arguments: &str) -> Value {
    let asked = object(arguments);
    let command = match &asked["command"] {
        Value::Array(words) => json!(words.iter().map(word).collect::<Vec<_>>()),
        Value::String(line) => json!(["bash", "-lc", line]),
        _ => json!(["bash", "-lc", arguments]),
    };
    let mut action = json!({"type": "exec", "command": command, "env": {}});
    let directory = [&asked["workdir"], &asked["working_directory"]]
        .into_iter()
        .find(|one| one.is_string());
    if let Some(directory) = directory {
        action["working_directory"] = directory.clone();
    }
    if let Some(limit) = whole(&asked["timeout_ms"]) {
        action["timeout_ms"] = json!(limit);
    }
    action
}

/// The action of a `shell_call`.
pub fn shell_action(arguments: &str) -> Value {
    let asked = object(arguments);
    let commands = match (&asked["commands"], &asked["command"]) {
        (Value::Array(lines), _) => json!(lines.iter().map(word).collect::<Vec<_>>()),
        (Value::String(line), _) | (_, Value::String(line)) => json!([line]),
        _ => json!([arguments]),
    };
    json!({"commands": commands, "timeout_ms": whole(&asked["timeout_ms"]),
        "max_output_length": whole(&asked["max_output_length"])})
}

/// The operation of an `apply_patch_call`.
pub fn patch_operation(arguments: &str) -> Value {
    let mut asked = object(arguments);
    match asked["operation"].take() {
        Value::Object(operation) => Value::Object(operation),
        _ if asked["path"].is_string() => asked,
        _ => json!({"type": "update_file", "path": "", "diff": arguments}),
    }
}

fn object(arguments: &str) -> Value {
    serde_json::from_str(arguments)
        .ok()
        .filter(Value::is_object)
        .unwrap_or_else(|| json!({}))
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|number| *number >= 0.0)
            .map(|number| number as u64)
    })
}

/// The Responses item that a finished call is for its client. `tool` is what the client calls the tool, absent where
/// upstream's name is the client's; `item` is the item's own id.
pub fn item(tool: Option<&ClientTool>, name: &str, item: &str, call: &str, arguments: &str, status: &str) -> Value {
    let shape = tool.map_or(ToolShape::Function, |tool| tool.shape);
    let name = tool.map_or(name, |tool| tool.name.as_str());
    let mut made = match shape {
        ToolShape::Function => json!({"id": item, "type": "function_call", "status": status, "call_id": call,
            "name": name, "arguments": arguments}),
        ToolShape::Custom => json!({"id": item, "type": "custom_tool_call", "status": status, "call_id": call,
            "name": name, "input": custom_input(arguments)}),
        ToolShape::LocalShell => json!({"id": item, "type": "local_shell_call", "status": status, "call_id": call,
            "action": local_shell_action(arguments)}),
        ToolShape::Shell => json!({"id": item, "type": "shell_call", "status": status, "call_id": call,
            "action": shell_action(arguments)}),
        ToolShape::ApplyPatch => json!({"id": item, "type": "apply_patch_call", "status": status, "call_id": call,
            "operation": patch_operation(arguments)}),
    };
    let spoken = matches!(shape, ToolShape::Function | ToolShape::Custom);
    if let Some(namespace) = tool.and_then(|tool| tool.namespace.as_deref()).filter(|_| spoken) {
        made["namespace"] = json!(namespace);
    }
    made
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn k116_the_input_of_a_freeform_tool_is_found() {
        for (arguments, input) in [
            (r#"{"input":"*** Begin\n"}"#, "*** Begin\n"),
            (r#"{"patch":"p"}"#, "p"),
            ("*** Begin Patch\n*** End Patch", "*** Begin Patch\n*** End Patch"),
            (r#""quoted""#, "quoted"),
            (r#"{"a":"1","b":"2"}"#, r#"{"a":"1","b":"2"}"#),
            ("{}", "{}"),
        ] {
            assert_eq!(custom_input(arguments), input);
        }
    }

    #[test]
    fn k117_a_shell_command_may_be_one_line() {
        let action = local_shell_action(r#"{"command":"ls -l","workdir":"/tmp","timeout_ms":1000}"#);
        let expected = json!({"type": "exec", "command": ["bash", "-lc", "ls -l"], "env": {},
            "working_directory": "/tmp", "timeout_ms": 1000});
        assert_eq!(action, expected);
        assert_eq!(local_shell_action(r#"{"command":["ls"]}"#)["command"], json!(["ls"]));
        assert_eq!(shell_action(r#"{"commands":["a","b"]}"#)["commands"], json!(["a", "b"]));
        assert_eq!(
            patch_operation(r#"{"operation":{"type":"delete_file","path":"x"}}"#)["path"],
            "x"
        );
    }

    #[test]
    fn a_call_comes_back_in_its_clients_shape() {
        let tool = |shape, namespace: Option<&str>| ClientTool {
            name: "n".into(),
            namespace: namespace.map(str::to_owned),
            shape,
        };
        let custom = item(
            Some(&tool(ToolShape::Custom, None)),
            "x",
            "ctc_1",
            "c",
            r#"{"input":"i"}"#,
            "completed",
        );
        let expected = json!({"id": "ctc_1", "type": "custom_tool_call", "status": "completed", "call_id": "c",
            "name": "n", "input": "i"});
        assert_eq!(custom, expected);
        let inner = item(
            Some(&tool(ToolShape::Function, Some("ns"))),
            "ns__n",
            "fc_1",
            "c",
            "{}",
            "completed",
        );
        assert_eq!((&inner["name"], &inner["namespace"]), (&json!("n"), &json!("ns")));
        assert_eq!(item(None, "f", "fc_1", "c", "{}", "completed")["name"], "f");
    }

    proptest! {
        #[test]
        fn nothing_a_model_writes_harms(arguments in "\\PC{0,40}") {
            for shape in [ToolShape::Custom, ToolShape::LocalShell, ToolShape::Shell, ToolShape::ApplyPatch] {
                let tool = ClientTool { name: "n".into(), namespace: None, shape };
                item(Some(&tool), "n", "i", "c", &arguments, "completed");
            }
        }
    }
}
