// The OpenAI and Anthropic SDKs for Node, each call as an ordinary program makes it. One case a run.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const url = process.env.URL;
const [CLAUDE, CHAT, CODEX] = ["claude-sonnet-4.5", "gpt-4.1", "gpt-5.3-codex"];
const weather = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const gpt = () => new OpenAI({ baseURL: `${url}/v1`, apiKey: "dummy" });
const claude = () => new Anthropic({ baseURL: url, apiKey: "dummy" });
const user = (content) => [{ role: "user", content }];

const cases = {
  async "openai-chat"() {
    const answer = await gpt().chat.completions.create({ model: CHAT, messages: user("hello proxy") });
    assert.match(answer.choices[0].message.content, /hello proxy/);
  },
  async "openai-chat-stream"() {
    const stream = gpt().chat.completions.stream({ model: CHAT, messages: user("hello stream") });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
    assert.match(text, /hello stream/);
    assert.equal((await stream.finalChatCompletion()).choices[0].finish_reason, "stop");
  },
  async "openai-tools"() {
    for (const model of [CHAT, CLAUDE, CODEX]) {
      const tools = [{ type: "function", function: { name: "weather", parameters: weather } }];
      const stream = gpt().chat.completions.stream({ model, messages: user('please call weather {"city": "Oslo"}'), tools });
      const answer = await stream.finalChatCompletion();
      assert.deepEqual(JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments), { city: "Oslo" }, model);
    }
  },
  async "openai-responses"() {
    for (const model of [CODEX, CLAUDE, CHAT]) {
      const answer = await gpt().responses.create({ model, input: "hello responses" });
      assert.match(answer.output_text, /hello responses/, model);
    }
  },
  async "openai-responses-tools"() {
    for (const model of [CODEX, CLAUDE, CHAT]) {
      const tools = [{ type: "function", name: "weather", parameters: weather, strict: false }];
      const input = user('please call weather {"city": "Oslo"}');
      const stream = gpt().responses.stream({ model, input, tools });
      const answer = await stream.finalResponse();
      const call = answer.output.find((item) => item.type === "function_call");
      assert.deepEqual(JSON.parse(call.arguments), { city: "Oslo" }, model);
      const output = { type: "function_call_output", call_id: call.call_id, output: "4 degrees" };
      const next = await gpt().responses.create({ model, input: [...input, ...answer.output, output], tools });
      assert.match(next.output_text, /4 degrees/, model);
    }
  },
  async "openai-embeddings"() {
    // The SDK asks for base64 by itself and decodes whatever comes.
    const answer = await gpt().embeddings.create({ model: "text-embedding-3-small", input: "one text" });
    const vector = answer.data[0].embedding;
    const length = Math.hypot(...vector);
    assert.ok(vector.length === 1536 && Math.abs(length - 1) < 0.01, `${vector.length} numbers of length ${length}`);
  },
  async "openai-models"() {
    const ids = [];
    for await (const model of gpt().models.list()) ids.push(model.id);
    assert.ok(ids.includes(CHAT) && ids.includes(CLAUDE), ids.join(" "));
  },
  async "anthropic-messages"() {
    for (const model of [CLAUDE, CHAT, CODEX]) {
      const answer = await claude().messages.create({ model, max_tokens: 200, messages: user("hello messages") });
      assert.match(answer.content[0].text, /hello messages/, model);
    }
  },
  async "anthropic-stream"() {
    for (const model of [CLAUDE, CHAT, CODEX]) {
      const stream = claude().messages.stream({ model, max_tokens: 200, messages: user("hello helper") });
      const answer = await stream.finalMessage();
      assert.match(answer.content[0].text, /hello helper/, model);
    }
  },
  async "anthropic-tools"() {
    for (const model of [CLAUDE, CHAT, CODEX]) {
      const tools = [{ name: "weather", input_schema: weather }];
      const messages = user('please call weather {"city": "Oslo"}');
      const answer = await claude().messages.stream({ model, max_tokens: 500, messages, tools }).finalMessage();
      const call = answer.content.find((block) => block.type === "tool_use");
      assert.deepEqual(call.input, { city: "Oslo" }, model);
      const result = [{ type: "tool_result", tool_use_id: call.id, content: "4 degrees" }];
      const history = [...messages, { role: "assistant", content: answer.content }, { role: "user", content: result }];
      const next = await claude().messages.create({ model, max_tokens: 500, messages: history, tools });
      assert.match(next.content.at(-1).text, /4 degrees/, model);
    }
  },
  async "anthropic-search-beside-a-tool"() {
    const tools = [{ type: "web_search_20250305", name: "web_search" }, { name: "weather", input_schema: weather }];
    for (const model of [CHAT, CLAUDE, CODEX]) {
      const messages = user("please search: tall towers");
      const answer = await claude().messages.stream({ model, max_tokens: 2000, messages, tools }).finalMessage();
      const kinds = answer.content.map((block) => block.type).slice(-3);
      assert.deepEqual(kinds, ["server_tool_use", "web_search_tool_result", "text"], model);
      assert.match(answer.content.at(-1).text, /tall towers/, model);
      assert.equal(answer.usage.server_tool_use.web_search_requests, 1, model);
    }
  },
  async "anthropic-thinking"() {
    const thinking = { type: "enabled", budget_tokens: 2000 };
    const stream = claude().messages.stream({ model: CLAUDE, max_tokens: 4000, thinking, messages: user("hello thinker") });
    const answer = await stream.finalMessage();
    assert.deepEqual(answer.content.map((block) => block.type), ["thinking", "text"]);
    assert.ok(answer.content[0].signature.length > 0, "a signature");
  },
  async "anthropic-count-tokens"() {
    const count = await claude().messages.countTokens({ model: CLAUDE, messages: user("hello ".repeat(50)) });
    assert.ok(count.input_tokens > 40 && count.input_tokens < 200, `${count.input_tokens} tokens`);
  },
};

if (process.argv[2] === "--list") console.log(Object.keys(cases).join("\n"));
else await cases[process.argv[2]]();
