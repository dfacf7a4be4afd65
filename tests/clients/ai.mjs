// The Vercel AI SDK, by each protocol it has a package for. One case a run.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const base = { baseURL: `${process.env.URL}/v1`, apiKey: "dummy" };
const [CLAUDE, CHAT, CODEX, GEMINI] = ["claude-sonnet-4.6", "gpt-4.1", "gpt-5.4", "gemini-2.5-pro"];
const shape = (name) =>
  jsonSchema({ type: "object", properties: { [name]: { type: "string" } }, required: [name], additionalProperties: false });
const tools = {
  weather: tool({ description: "weather", inputSchema: shape("city"), execute: async ({ city }) => `4 degrees in ${city}` }),
};

// A text, a stream of two tool steps with what came of them, and an object of a given shape.
async function works(provider) {
  for (const name of [CHAT, CLAUDE, CODEX, GEMINI]) {
    const model = provider(name);
    const { text, usage, finishReason } = await generateText({ model, prompt: "hello kit", maxOutputTokens: 2000 });
    assert.match(text, /hello kit/, name);
    assert.ok(usage.inputTokens > 0 && finishReason === "stop", `${name}: ${JSON.stringify(usage)}, ${finishReason}`);

    const prompt = 'please call weather {"city": "Oslo"} then call weather {"city": "Rome"}';
    const errors = [];
    const onError = ({ error }) => errors.push(error);
    const stream = streamText({ model, prompt, tools, stopWhen: stepCountIs(5), maxOutputTokens: 2000, onError });
    let said = "";
    for await (const part of stream.textStream) said += part;
    assert.deepEqual(errors, [], name);
    assert.equal((await stream.steps).length, 3, name);
    assert.match(said, /4 degrees in Rome/, name);
    assert.ok((await stream.totalUsage).outputTokens > 0, name);

    const { object } = await generateObject({ model, schema: shape("title"), prompt: "Fix it", maxOutputTokens: 2000 });
    assert.equal(typeof object.title, "string", name);
  }
}

const cases = {
  "ai-sdk-chat": () =>
    works(createOpenAICompatible({ ...base, name: "copilot", includeUsage: true, supportsStructuredOutputs: true }).chatModel),
  "ai-sdk-openai-chat": () => works(createOpenAI(base).chat),
  "ai-sdk-responses": () => works(createOpenAI(base).responses),
  "ai-sdk-messages": () => works(createAnthropic(base)),
  async "ai-sdk-embeddings"() {
    const { embedding } = await embed({ model: createOpenAI(base).textEmbeddingModel("text-embedding-3-small"), value: "one" });
    assert.equal(embedding.length, 1536);
  },
};

if (process.argv[2] === "--list") console.log(Object.keys(cases).join("\n"));
else await cases[process.argv[2]]();
