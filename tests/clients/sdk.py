"""The OpenAI and Anthropic SDKs for Python, each call as an ordinary program makes it. One case a run."""

import json
import os
import sys

import anthropic
import openai

URL = os.environ.get("URL", "")
CLAUDE, CHAT, CODEX = "claude-sonnet-4.5", "gpt-4.1", "gpt-5.3-codex"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CASES = {}


def case(function):
    CASES[function.__name__.replace("_", "-")] = function
    return function


def gpt():
    return openai.OpenAI(base_url=f"{URL}/v1", api_key="dummy")


def claude():
    return anthropic.Anthropic(base_url=URL, api_key="dummy")


@case
def openai_chat():
    answer = gpt().chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "hello proxy"}])
    assert "hello proxy" in answer.choices[0].message.content, answer
    assert answer.model == CHAT and answer.usage.total_tokens > 0, answer


@case
def openai_chat_stream():
    stream = gpt().chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "hello stream"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "hello stream" in text, text
    assert chunks[-1].usage.prompt_tokens > 0, chunks[-1]
    assert len({chunk.id for chunk in chunks}) == 1, "one id for the whole stream"


@case
def openai_tools():
    for model in (CHAT, CLAUDE, CODEX):
        tools = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
        messages = [{"role": "user", "content": 'please call weather {"city": "Oslo"}'}]
        answer = gpt().chat.completions.create(model=model, messages=messages, tools=tools)
        call = answer.choices[0].message.tool_calls[0]
        assert json.loads(call.function.arguments) == {"city": "Oslo"}, (model, call)
        assert answer.choices[0].finish_reason == "tool_calls", (model, answer)
        messages += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "4 degrees"}]
        answer = gpt().chat.completions.create(model=model, messages=messages, tools=tools)
        assert "4 degrees" in answer.choices[0].message.content, (model, answer)


@case
def openai_responses():
    for model in (CODEX, CLAUDE, CHAT):
        answer = gpt().responses.create(model=model, input="hello responses")
        assert "hello responses" in answer.output_text, (model, answer)
        assert answer.status == "completed" and answer.usage.input_tokens > 0, (model, answer)


@case
def openai_responses_stream():
    for model in (CODEX, CLAUDE, CHAT):
        with gpt().responses.stream(model=model, input="hello events") as stream:
            kinds = [event.type for event in stream]
            answer = stream.get_final_response()
        assert kinds[0] == "response.created" and kinds[-1] == "response.completed", (model, kinds)
        assert "hello events" in answer.output_text, (model, answer)


@case
def openai_embeddings():
    answer = gpt().embeddings.create(model="text-embedding-3-small", input="one text")
    vector = answer.data[0].embedding
    assert len(vector) == 1536 and abs(sum(x * x for x in vector) - 1) < 0.01, len(vector)
    plain = gpt().embeddings.create(model="text-embedding-3-small", input=["one text"], encoding_format="float")
    assert all(abs(a - b) < 1e-6 for a, b in zip(vector, plain.data[0].embedding)), "base64 and floats agree"


@case
def openai_models():
    ids = [model.id for model in gpt().models.list()]
    assert CHAT in ids and CLAUDE in ids, ids
    assert gpt().models.retrieve(CHAT).id == CHAT


@case
def openai_error():
    try:
        gpt().chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "x"}])
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    else:
        raise AssertionError("an unknown model was accepted")


@case
def anthropic_messages():
    for model in (CLAUDE, CHAT, CODEX):
        answer = claude().messages.create(
            model=model, max_tokens=200, messages=[{"role": "user", "content": "hello messages"}]
        )
        assert "hello messages" in answer.content[0].text and answer.stop_reason == "end_turn", (model, answer)
        assert answer.model == model and answer.usage.input_tokens > 0, (model, answer)


@case
def anthropic_stream():
    for model in (CLAUDE, CHAT, CODEX):
        with claude().messages.stream(
            model=model, max_tokens=200, messages=[{"role": "user", "content": "hello helper"}]
        ) as stream:
            text = "".join(stream.text_stream)
            answer = stream.get_final_message()
        assert "hello helper" in text and answer.usage.output_tokens > 0, (model, answer)


@case
def anthropic_tools():
    for model in (CLAUDE, CHAT, CODEX):
        tools = [{"name": "weather", "input_schema": WEATHER}]
        messages = [{"role": "user", "content": 'please call weather {"city": "Oslo"}'}]
        answer = claude().messages.create(model=model, max_tokens=500, messages=messages, tools=tools)
        call = next(block for block in answer.content if block.type == "tool_use")
        assert call.input == {"city": "Oslo"} and answer.stop_reason == "tool_use", (model, answer)
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "4 degrees"}
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        answer = claude().messages.create(model=model, max_tokens=500, messages=messages, tools=tools)
        assert "4 degrees" in answer.content[-1].text, (model, answer)


@case
def anthropic_search_beside_a_tool():
    tools = [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        {"name": "weather", "input_schema": WEATHER},
    ]
    for model in (CHAT, "gemini-2.5-pro", CODEX, CLAUDE):
        messages = [{"role": "user", "content": "please search: tall towers"}]
        with claude().messages.stream(model=model, max_tokens=2000, messages=messages, tools=tools) as stream:
            answer = stream.get_final_message()
        kinds = [block.type for block in answer.content]
        assert kinds[-3:] == ["server_tool_use", "web_search_tool_result", "text"], (model, kinds)
        assert "tall towers" in answer.content[-1].text and answer.usage.server_tool_use.web_search_requests == 1, answer
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": "and thank you"}]
        again = claude().messages.create(model=model, max_tokens=2000, messages=messages, tools=tools)
        assert again.stop_reason == "end_turn", (model, again)


@case
def anthropic_thinking():
    answer = claude().messages.create(
        model=CLAUDE,
        max_tokens=4000,
        thinking={"type": "enabled", "budget_tokens": 2000},
        messages=[{"role": "user", "content": "hello thinker"}],
    )
    kinds = [block.type for block in answer.content]
    assert kinds == ["thinking", "text"], kinds
    again = claude().messages.create(
        model=CLAUDE,
        max_tokens=4000,
        thinking={"type": "enabled", "budget_tokens": 2000},
        messages=[
            {"role": "user", "content": "hello thinker"},
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": "and again"},
        ],
    )
    assert "and again" in again.content[-1].text, again


@case
def anthropic_count_tokens():
    for model in (CLAUDE, CHAT):
        count = claude().messages.count_tokens(model=model, messages=[{"role": "user", "content": "hello " * 50}])
        assert 40 < count.input_tokens < 200, (model, count)


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        print("\n".join(CASES))
    else:
        CASES[sys.argv[1]]()
