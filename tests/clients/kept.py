"""Responses that the proxy keeps (`responses.store`), as the OpenAI SDK asks for them."""

import os

import openai

client = openai.OpenAI(base_url=f"{os.environ['URL']}/v1", api_key="dummy")
TOOLS = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": False}]

for model in ("gpt-5.3-codex", "claude-sonnet-4.5", "gpt-4.1"):
    first = client.responses.create(model=model, input="please call look {}", tools=TOOLS)
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "a lighthouse"}
    with client.responses.stream(model=model, previous_response_id=first.id, input=[result], tools=TOOLS) as stream:
        for event in stream:
            pass
        second = stream.get_final_response()
    assert "a lighthouse" in second.output_text, (model, second)
    assert second.previous_response_id == first.id

    assert client.responses.retrieve(second.id).output_text == second.output_text
    items = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    assert [item.type for item in items][-1] == "function_call_output", items
    client.responses.delete(second.id)
    for gone in (lambda: client.responses.retrieve(second.id), lambda: client.responses.delete(second.id)):
        try:
            gone()
            raise SystemExit("a response that was deleted is still there")
        except openai.NotFoundError as error:
            assert error.code == "response_not_found", error
