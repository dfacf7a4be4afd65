// Conversations of the Vercel AI SDK over Responses, which refers to what the proxy has kept (`responses.store`).
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, tool } from "ai";

const provider = createOpenAI({ baseURL: `${process.env.URL}/v1`, apiKey: "dummy" });
const city = jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] });
const tools = { weather: tool({ description: "weather", inputSchema: city, execute: async ({ city }) => `4 degrees in ${city}` }) };
const options = { tools, stopWhen: stepCountIs(5), providerOptions: { openai: { reasoningSummary: "auto" } } };

for (const name of ["gpt-5.4", "claude-sonnet-4.6", "gpt-4.1"]) {
  const messages = [{ role: "user", content: 'please call weather {"city": "Oslo"}' }];
  let sent = "";
  for (const next of ["hello again", "and once more", null]) {
    const answer = await generateText({ model: provider.responses(name), messages, ...options });
    sent = JSON.stringify(answer.request.body);
    assert.match(answer.text, messages.length === 1 ? /4 degrees in Oslo/ : /again|once more/, name);
    messages.push(...answer.response.messages, { role: "user", content: next });
  }
  assert.match(sent, /item_reference/, `${name}: nothing was referred to`);
}
