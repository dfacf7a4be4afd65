"""What people build with: LangChain and OpenAI's Agents SDK. One case a run."""

import asyncio
import os
import sys

URL = os.environ.get("URL", "")
CLAUDE, CHAT, CODEX = "claude-sonnet-4.5", "gpt-4.1", "gpt-5.3-codex"
TWO_CALLS = 'please call weather {"city": "Oslo"} then call weather {"city": "Rome"}'
CASES = {}


def case(function):
    CASES[function.__name__.replace("_", "-")] = function
    return function


def weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"4 degrees in {city}"


def langchain_works(chat):
    """A stream, a turn of two tools, and an answer of a given form."""
    from langchain_core.messages import HumanMessage, ToolMessage

    chunks = list(chat.stream("hello chain"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert "hello chain" in whole.text, whole
    assert whole.usage_metadata["input_tokens"] > 0 and whole.usage_metadata["output_tokens"] > 0, whole
    said = [HumanMessage(TWO_CALLS)]
    able = chat.bind_tools([weather])
    for city in ("Oslo", "Rome"):
        said.append(able.invoke(said))
        (call,) = said[-1].tool_calls
        assert call["args"] == {"city": city}, said
        said.append(ToolMessage(weather(**call["args"]), tool_call_id=call["id"]))
    assert "4 degrees in Rome" in able.invoke(said).text, said


@case
def langchain_openai_chat():
    from langchain_openai import ChatOpenAI

    for model in (CHAT, CLAUDE, CODEX):
        langchain_works(ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key="dummy", stream_usage=True))


@case
def langchain_openai_responses():
    from langchain_openai import ChatOpenAI

    for model in (CODEX, CLAUDE, CHAT):
        langchain_works(ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key="dummy", use_responses_api=True))


@case
def langchain_anthropic():
    from langchain_anthropic import ChatAnthropic

    for model in (CLAUDE, CHAT, CODEX):
        langchain_works(ChatAnthropic(model=model, base_url=URL, api_key="dummy", max_tokens=2000))


@case
def langchain_thinks_between_tools():
    from langchain_anthropic import ChatAnthropic

    thinking = {"type": "enabled", "budget_tokens": 2000}
    for model in (CLAUDE, CODEX):
        langchain_works(ChatAnthropic(model=model, base_url=URL, api_key="dummy", max_tokens=8000, thinking=thinking))


@case
def langchain_embeddings():
    from langchain_openai import OpenAIEmbeddings

    model = OpenAIEmbeddings(
        model="text-embedding-3-small", base_url=f"{URL}/v1", api_key="dummy", check_embedding_ctx_length=False
    )
    vectors = model.embed_documents(["one text", "another"])
    assert [len(vector) for vector in vectors] == [1536, 1536] and vectors[0] != vectors[1]


def agents_work(kind):
    from agents import Agent, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{URL}/v1", api_key="dummy")

    async def work(model):
        agent = Agent(name="helper", model=kind(model=model, openai_client=client), tools=[function_tool(weather)])
        answer = await Runner.run(agent, TWO_CALLS)
        assert "4 degrees in Rome" in answer.final_output, (model, answer.final_output)
        assert answer.context_wrapper.usage.requests == 3, (model, answer.context_wrapper.usage)
        # A second turn with all that was said, thought and called before.
        more = answer.to_input_list() + [{"role": "user", "content": "and thanks"}]
        stream = Runner.run_streamed(agent, more)
        async for _ in stream.stream_events():
            pass
        assert "and thanks" in stream.final_output, (model, stream.final_output)

    async def all_models():
        for model in (CODEX, CLAUDE, CHAT):
            await work(model)

    asyncio.run(all_models())


@case
def agents_sdk_responses():
    from agents import OpenAIResponsesModel

    agents_work(OpenAIResponsesModel)


@case
def agents_sdk_chat():
    from agents import OpenAIChatCompletionsModel

    agents_work(OpenAIChatCompletionsModel)


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        print("\n".join(CASES))
    else:
        CASES[sys.argv[1]]()
