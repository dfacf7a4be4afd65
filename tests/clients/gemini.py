"""Google's own SDK for Python, each call as an ordinary program makes it, by a model of each kind. One case a run."""

import os
import pathlib
import sys

from google import genai
from google.genai import errors, types
from pydantic import BaseModel

# Reached by Chat, by Messages and by Responses.
MODELS = ["gemini-2.5-pro", "claude-opus-4.6", "gpt-5.4"]
CASES = {}
client = genai.Client(api_key="dummy", http_options=types.HttpOptions(base_url=os.environ["URL"]))


def case(function):
    CASES[function.__name__.replace("_", "-")] = function
    return function


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


@case
def genai_text(model):
    answer = client.models.generate_content(model=model, contents="hello there")
    assert "You said: hello there" in answer.text, answer
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert answer.usage_metadata.prompt_token_count > 0
    assert answer.model_version == model


@case
def genai_stream(model):
    chunks = list(client.models.generate_content_stream(model=model, contents="hello there"))
    assert "You said: hello there" in "".join(chunk.text for chunk in chunks), chunks
    assert chunks[-1].usage_metadata.total_token_count > 0


@case
def genai_tools(model):
    """The SDK calls the function itself, until the model is content."""
    chat = client.chats.create(model=model, config=types.GenerateContentConfig(tools=[get_weather]))
    answer = chat.send_message('please call get_weather {"city":"Oslo"} then call get_weather {"city":"Rome"}')
    assert "rain in Rome" in answer.text, answer
    calls = [part.function_call.args["city"] for turn in chat.get_history() for part in turn.parts if part.function_call]
    assert calls == ["Oslo", "Rome"], calls
    again = "".join(chunk.text or "" for chunk in chat.send_message_stream("and now hello"))
    assert "and now hello" in again, again


@case
def genai_image(model):
    pixel = pathlib.Path(__file__).with_name("pixel.png").read_bytes()
    contents = ["what is this", types.Part.from_bytes(data=pixel, mime_type="image/png")]
    answer = client.models.generate_content(model=model, contents=contents)
    assert "I see 1 image" in answer.text, answer


@case
def genai_thinking(model):
    """Signatures are bytes here, and travel in another alphabet than they came in."""
    config = types.GenerateContentConfig(
        tools=[get_weather],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=4000),
    )
    asked = types.UserContent('please call get_weather {"city":"Oslo"}')
    answer = client.models.generate_content(model=model, contents=[asked], config=config)
    said = answer.candidates[0].content
    assert any(part.thought and "The user wants" in part.text for part in said.parts), said
    call = next(part for part in said.parts if part.function_call)
    assert call.thought_signature, said
    result = types.Part(function_response=types.FunctionResponse(
        id=call.function_call.id, name="get_weather", response={"result": "rain"}))
    contents = [asked, said, types.UserContent(result)]
    answer = client.models.generate_content(model=model, contents=contents, config=config)
    assert "rain" in answer.text, answer


@case
def genai_json(model):
    class City(BaseModel):
        city: str
        people: int | None = None

    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    answer = client.models.generate_content(model=model, contents="a city", config=config)
    assert isinstance(answer.parsed, City), answer


@case
def genai_count(model):
    assert 3 < client.models.count_tokens(model=model, contents="hello there").total_tokens < 100


@case
def genai_embed(_):
    answer = client.models.embed_content(model="text-embedding-3-small", contents=["one", "two"])
    assert [len(one.values) for one in answer.embeddings] == [1536, 1536]


@case
def genai_models(model):
    assert f"models/{model}" in [one.name for one in client.models.list()]
    assert client.models.get(model=model).input_token_limit > 1000


@case
def genai_error(model):
    for asked, code, status in [("nonesuch", 404, "NOT_FOUND"), (model, 400, "INVALID_ARGUMENT")]:
        config = types.GenerateContentConfig(candidate_count=2)
        try:
            client.models.generate_content(model=asked, contents="a", config=config if asked == model else None)
        except errors.ClientError as refused:
            assert (refused.code, refused.status) == (code, status), refused
        else:
            raise AssertionError("not refused")
    try:
        list(client.models.generate_content_stream(model=model, contents="[[sim:cut after=8]] one two three four five six seven eight nine"))
    except errors.APIError as cut:
        assert cut.code == 502, cut
    else:
        raise AssertionError("nobody was told that the stream was cut")


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        print("\n".join(CASES))
    else:
        for one in MODELS:
            CASES[sys.argv[1]](one)
