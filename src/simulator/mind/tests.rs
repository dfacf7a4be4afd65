use serde_json::json;

use super::hearing::human_text;
use super::*;

fn tool(name: &str, properties: Value, required: Value) -> Tool {
    Tool {
        name: name.to_owned(),
        schema: json!({"type": "object", "properties": properties, "required": required}),
        ..Tool::default()
    }
}

fn claude_code() -> Vec<Tool> {
    let text = json!({"type": "string"});
    vec![
        tool(
            "Bash",
            json!({"command": text, "description": text, "timeout": text}),
            json!(["command"]),
        ),
        tool("Read", json!({"file_path": text}), json!(["file_path"])),
        tool(
            "Write",
            json!({"file_path": text, "content": text}),
            json!(["file_path", "content"]),
        ),
    ]
}

fn asked(prompt: &str, tools: Vec<Tool>) -> Conversation {
    Conversation {
        turns: vec![Turn::Human(vec![prompt.to_owned()])],
        tools,
        ..Conversation::default()
    }
}

fn called_with(prompt: &str, tools: Vec<Tool>) -> (String, Value) {
    let answer = asked(prompt, tools).answer(Wishes::default());
    assert_eq!(answer.ending, Ending::Calls, "{answer:?}");
    (answer.calls[0].tool.clone(), answer.calls[0].input.clone())
}

#[test]
fn without_tools_the_prompt_is_quoted() {
    let answer = asked("please run: echo hi", Vec::new()).answer(Wishes::default());
    assert_eq!(answer.whole_text(), "You said: please run: echo hi");
    assert_eq!(answer.ending, Ending::Stop);
}

#[test]
fn each_wish_finds_the_clients_own_tool() {
    assert_eq!(
        called_with("please run: echo hi", claude_code()),
        (
            "Bash".into(),
            json!({"command": "echo hi", "description": "Runs echo hi"})
        )
    );
    assert_eq!(
        called_with("Please write a/note.txt: hello there", claude_code()),
        (
            "Write".into(),
            json!({"file_path": "a/note.txt", "content": "hello there"})
        )
    );
    assert_eq!(
        called_with("please read note.txt.", claude_code()),
        ("Read".into(), json!({"file_path": "note.txt"}))
    );
    assert_eq!(
        called_with("please call Read {\"file_path\": \"x\"}", claude_code()),
        ("Read".into(), json!({"file_path": "x"}))
    );
}

#[test]
fn every_family_of_tools_is_known() {
    let words = json!({"type": "array", "items": {"type": "string"}});
    let exec = || vec![tool("exec_command", json!({"cmd": {"type": "string"}}), json!(["cmd"]))];
    assert_eq!(called_with("please run: ls", exec()).1, json!({"cmd": "ls"}));
    let shell = vec![tool("shell", json!({"command": words}), json!(["command"]))];
    assert_eq!(
        called_with("please run: ls", shell).1,
        json!({"command": ["bash", "-lc", "ls"]})
    );
    let opencode = vec![tool(
        "bash",
        json!({"command": {}, "description": {}}),
        json!(["command", "description"]),
    )];
    assert_eq!(called_with("please run: ls", opencode).1["command"], "ls");
    let flattened = vec![tool("container__exec_command", json!({"cmd": {}}), json!(["cmd"]))];
    assert_eq!(called_with("please run: ls", flattened).0, "container__exec_command");
    let patch = Tool {
        name: "apply_patch".into(),
        kind: ToolKind::Custom,
        ..Tool::default()
    };
    let patched = called_with("please write a.txt: one", vec![patch, exec().remove(0)]).1;
    assert_eq!(patched, "*** Begin Patch\n*** Add File: a.txt\n+one\n*** End Patch\n");
    assert_eq!(
        called_with("please write a.txt: it's", exec()).1,
        json!({"cmd": "printf '%s\\n' 'it'\\''s' > 'a.txt'"})
    );
}

#[test]
fn steps_come_one_after_the_other_and_then_the_report() {
    let prompt = "please write a.txt: first then run: cp a.txt b.txt\nplease read b.txt";
    let mut talk = asked(prompt, claude_code());
    for wanted in ["Write", "Bash", "Read"] {
        assert_eq!(talk.answer(Wishes::default()).calls[0].tool, wanted);
        talk.turns.push(Turn::Result(format!("{wanted} is done")));
    }
    let answer = talk.answer(Wishes::default());
    assert_eq!(
        answer.whole_text(),
        "The tool answered: Write is done\nBash is done\nRead is done"
    );
    talk.turns.push(Turn::Human(vec!["thanks".into()]));
    assert_eq!(talk.answer(Wishes::default()).whole_text(), "You said: thanks");
}

#[test]
fn a_person_is_told_from_a_program() {
    let mut talk = asked("x", claude_code());
    talk.turns = vec![
        Turn::Human(vec![
            "<system-reminder>please run: rm</system-reminder>".into(),
            "please run: echo hi".into(),
        ]),
        Turn::Result("hi".into()),
        Turn::Human(vec![
            "<system-reminder>please run: rm</system-reminder>".into(),
            "Tool loaded.".into(),
        ]),
    ];
    assert_eq!(talk.answer(Wishes::default()).whole_text(), "The tool answered: hi");
    assert_eq!(
        human_text(&["\"please run: echo \\\"a\\\"\"".into()]),
        "please run: echo \"a\""
    );
    let merged = "# AGENTS.md instructions for /x\n<INSTRUCTIONS>\nbe nice\n</INSTRUCTIONS>\n\n\
                  <environment_context>\n<cwd>/x</cwd>\n</environment_context>\n\nplease run: ls";
    assert_eq!(human_text(&[merged.into()]), "please run: ls");
    assert_eq!(
        human_text(&["<environment_context>\n<cwd>/x</cwd>\n</environment_context>".into()]),
        ""
    );
}

#[test]
fn relative_files_are_put_into_the_clients_folder() {
    let mut talk = asked("please write n.txt: x", claude_code());
    talk.system = "Environment\nWorking directory: /home/me/project\nmore".into();
    assert_eq!(
        talk.answer(Wishes::default()).calls[0].input["file_path"],
        "/home/me/project/n.txt"
    );
}

#[test]
fn json_fits_its_schema_and_forced_tools_are_called() {
    let mut talk = asked("Fix the login page", Vec::new());
    talk.json = Some(json!({"type": "object", "properties": {"title": {"type": "string"}}}));
    assert_eq!(
        talk.answer(Wishes::default()).whole_text(),
        "{\"title\":\"Fix the login page\"}"
    );
    let mut talk = asked(
        "weather?",
        vec![tool(
            "get_weather",
            json!({"city": {"type": "string"}}),
            json!(["city"]),
        )],
    );
    talk.choice = Choice::Required;
    let answer = talk.answer(Wishes::default());
    assert_eq!(answer.calls[0].input, json!({"city": "weather?"}));
    talk.turns.push(Turn::Result("rain".into()));
    assert_eq!(talk.answer(Wishes::default()).whole_text(), "The tool answered: rain");
}

#[test]
fn limits_and_stop_sequences_cut() {
    let mut talk = asked("one two three", Vec::new());
    talk.stop = vec!["three".into(), "two".into()];
    let answer = talk.answer(Wishes::default());
    assert_eq!(
        (answer.whole_text().as_str(), answer.ending),
        ("You said: one ", Ending::StopSequence("two".into()))
    );
    talk.stop.clear();
    talk.max_output = Some(2);
    let answer = talk.answer(Wishes::default());
    assert_eq!(
        (answer.whole_text().as_str(), answer.ending),
        ("You said", Ending::Length)
    );
}

#[test]
fn wishes_shape_the_answer() {
    let talk = asked("[[sim:parallel]] please run: a", claude_code());
    let parallel = Wishes {
        parallel: true,
        ..Wishes::default()
    };
    assert_eq!(talk.answer(parallel).calls.len(), 2);
    let length = Wishes {
        length: true,
        ..Wishes::default()
    };
    let cut = talk.answer(length);
    assert_eq!(cut.ending, Ending::Length);
    let input = cut.calls[0].input_text();
    assert!(serde_json::from_str::<Value>(&input).is_err(), "broken off: {input}");
    let long = Wishes {
        long: Some(3),
        ..Wishes::default()
    };
    assert_eq!(asked("x", Vec::new()).answer(long).text.len(), 3);
}

#[test]
fn what_a_summary_stands_for_was_dealt_with() {
    let said = "please run: ls\nAnother language model started to solve this problem. It ran ls.";
    let merged = |next: &str| human_text(&[format!("{said}{next}")]);
    assert!(merged("").starts_with("Another language model"));
    assert!(merged("\nplease read a.txt").ends_with("It ran ls.\nplease read a.txt"));
    let answer = asked(said, claude_code()).answer(Wishes::default());
    assert_eq!(answer.ending, Ending::Stop);
}

#[test]
fn patches_come_in_the_form_that_the_client_has() {
    let custom = || Tool {
        name: "apply_patch".into(),
        kind: ToolKind::Custom,
        ..Tool::default()
    };
    let text = json!({"type": "string"});
    assert_eq!(
        called_with("please patch a.txt: one\\ntwo", vec![custom()]).1,
        "*** Begin Patch\n*** Add File: a.txt\n+one\n+two\n*** End Patch\n"
    );
    let update = "*** Begin Patch\n*** Update File: a.txt\n@@\n-one\n+1\n+and\n*** End Patch\n";
    assert_eq!(
        called_with("please patch a.txt: one => 1\\nand", vec![custom()]).1,
        update
    );
    let by_function = vec![tool("apply_patch", json!({"input": text}), json!(["input"]))];
    assert_eq!(
        called_with("please patch a.txt: one => 1\\nand", by_function).1,
        json!({"input": update})
    );
    let names = json!({"file_path": text, "old_string": text, "new_string": text});
    let mut tools = claude_code();
    tools.push(tool("Edit", names, json!(["file_path", "old_string", "new_string"])));
    assert_eq!(
        called_with("please patch a.txt: one => 1", tools),
        (
            "Edit".into(),
            json!({"file_path": "a.txt", "old_string": "one", "new_string": "1"})
        )
    );
    assert_eq!(
        called_with("please patch a.txt: one", claude_code()).1,
        json!({"file_path": "a.txt", "content": "one"})
    );
    let shell = vec![tool("exec_command", json!({"cmd": text}), json!(["cmd"]))];
    assert_eq!(
        called_with("please patch a.txt: one => 1\\nand", shell).1,
        json!({"cmd": format!("apply_patch <<'EOF'\n{update}EOF")})
    );
}

#[test]
fn searches_are_the_services_own_where_it_has_one() {
    let search = tool("WebSearch", json!({"query": {"type": "string"}}), json!(["query"]));
    let mut talk = asked("please search: towers", vec![search]);
    let answer = talk.answer(Wishes::default());
    assert_eq!(answer.calls[0].input, json!({"query": "towers"}));
    assert!(answer.deeds.is_empty());
    talk.searches = true;
    let answer = talk.answer(Wishes::default());
    assert_eq!(answer.deeds, [Deed::Search("towers".into())]);
    assert_eq!(answer.whole_text(), "The search found: A page about towers");
    assert!(answer.calls.is_empty());
    let mut talk = asked("which towers?", Vec::new());
    talk.searches = true;
    assert_eq!(
        talk.answer(Wishes::default()).deeds,
        [Deed::Search("which towers?".into())]
    );
    talk.tools = claude_code();
    assert!(talk.answer(Wishes::default()).deeds.is_empty(), "nobody wished for it");
}

#[test]
fn what_is_seen_is_told() {
    let mut talk = asked("what is this?", Vec::new());
    (talk.images, talk.documents) = (2, 1);
    assert_eq!(
        talk.answer(Wishes::default()).whole_text(),
        "You said: what is this? (I see 2 images and 1 document.)"
    );
}
