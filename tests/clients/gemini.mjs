// Google's own SDK for JavaScript, each call as an ordinary program makes it, by a model of each kind. One case a run.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { ApiError, FunctionCallingConfigMode, GoogleGenAI, Type } from "@google/genai";

// Reached by Chat, by Messages and by Responses.
const MODELS = ["gemini-2.5-pro", "claude-opus-4.6", "gpt-5.4"];
const ai = new GoogleGenAI({ apiKey: "dummy", httpOptions: { baseUrl: process.env.URL } });
const weather = {
  name: "get_weather",
  description: "The weather in a city",
  parameters: { type: Type.OBJECT, properties: { city: { type: Type.STRING } }, required: ["city"] },
};
const tools = [{ functionDeclarations: [weather] }];
const wish = 'please call get_weather {"city":"Oslo"} then call get_weather {"city":"Rome"}';

async function gathered(stream) {
  const parts = [];
  let last;
  for await (const chunk of stream) {
    parts.push(...(chunk.candidates?.[0]?.content?.parts ?? []));
    last = chunk;
  }
  return { parts, last, text: parts.filter((part) => !part.thought).map((part) => part.text ?? "").join("") };
}

const cases = (model) => ({
  async text() {
    const answer = await ai.models.generateContent({ model, contents: "hello there" });
    assert.match(answer.text, /You said: hello there/);
    assert.equal(answer.candidates[0].finishReason, "STOP");
    assert.ok(answer.usageMetadata.promptTokenCount > 0 && answer.usageMetadata.candidatesTokenCount > 0);
    assert.equal(answer.modelVersion, model);
  },
  async stream() {
    const { text, last } = await gathered(await ai.models.generateContentStream({ model, contents: "hello there" }));
    assert.match(text, /You said: hello there/);
    assert.equal(last.candidates[0].finishReason, "STOP");
    assert.ok(last.usageMetadata.totalTokenCount > 0);
  },
  // A chat keeps the history itself, in the pieces it came in.
  async tools() {
    const chat = ai.chats.create({ model, config: { tools } });
    let { parts } = await gathered(await chat.sendMessageStream({ message: wish }));
    for (const city of ["Oslo", "Rome"]) {
      const { functionCall } = parts.find((part) => part.functionCall);
      assert.deepEqual(functionCall.args, { city });
      const { id, name } = functionCall;
      const message = [{ functionResponse: { id, name, response: { output: `rain in ${city}` } } }];
      ({ parts } = await gathered(await chat.sendMessageStream({ message })));
    }
    assert.match(parts.map((part) => part.text ?? "").join(""), /rain in Rome/);
  },
  async parallel() {
    const asked = { role: "user", parts: [{ text: `[[sim:parallel]] ${wish}` }] };
    const answer = await ai.models.generateContent({ model, contents: [asked], config: { tools } });
    assert.deepEqual(answer.functionCalls.map((call) => call.args.city), ["Oslo", "Rome"]);
    const results = answer.functionCalls.map(({ id, name, args }) => ({
      functionResponse: { id, name, response: { result: `sun in ${args.city}` } },
    }));
    const contents = [asked, answer.candidates[0].content, { role: "user", parts: results.reverse() }];
    const last = await ai.models.generateContent({ model, contents, config: { tools } });
    assert.match(last.text, /sun in Oslo[^]*sun in Rome/);
  },
  async choice() {
    const config = {
      tools,
      toolConfig: { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY, allowedFunctionNames: ["get_weather"] } },
    };
    const answer = await ai.models.generateContent({ model, contents: "hello", config });
    assert.equal(answer.functionCalls[0].name, "get_weather");
  },
  async image() {
    const data = readFileSync(new URL("pixel.png", import.meta.url)).toString("base64");
    const parts = [{ text: "what is this" }, { inlineData: { mimeType: "image/png", data } }];
    const answer = await ai.models.generateContent({ model, contents: [{ role: "user", parts }] });
    assert.match(answer.text, /I see 1 image/);
  },
  // What the model thought goes back with its call: some refuse a call without.
  async thinking() {
    const config = { tools, thinkingConfig: { includeThoughts: true, thinkingBudget: 4000 } };
    const asked = { role: "user", parts: [{ text: 'please call get_weather {"city":"Oslo"}' }] };
    const { parts } = await gathered(await ai.models.generateContentStream({ model, contents: [asked], config }));
    const thoughts = parts.filter((part) => part.thought).map((part) => part.text).join("");
    assert.match(thoughts, /The user wants/);
    const call = parts.find((part) => part.functionCall);
    assert.ok(call.thoughtSignature, JSON.stringify(parts));
    const { id, name } = call.functionCall;
    const result = { role: "user", parts: [{ functionResponse: { id, name, response: { output: "rain" } } }] };
    const contents = [asked, { role: "model", parts }, result];
    const answer = await ai.models.generateContent({ model, contents, config });
    assert.match(answer.text, /rain/);
    assert.ok(answer.usageMetadata.thoughtsTokenCount > 0);
    const quiet = await ai.models.generateContent({ model, contents: "hello", config: { thinkingConfig: { thinkingBudget: 4000 } } });
    assert.ok(!quiet.candidates[0].content.parts.some((part) => part.thought));
  },
  async json() {
    const responseSchema = { type: Type.OBJECT, properties: { city: { type: Type.STRING } }, required: ["city"] };
    const config = { responseMimeType: "application/json", responseSchema };
    const answer = await ai.models.generateContent({ model, contents: "a city", config });
    assert.equal(typeof JSON.parse(answer.text).city, "string");
  },
  async count() {
    const { totalTokens } = await ai.models.countTokens({ model, contents: "hello there" });
    assert.ok(totalTokens > 3 && totalTokens < 100);
  },
  async embed() {
    const { embeddings } = await ai.models.embedContent({ model: "text-embedding-3-small", contents: ["one", "two"] });
    assert.deepEqual(embeddings.map(({ values }) => values.length), [1536, 1536]);
  },
  async models() {
    const names = [];
    for await (const one of await ai.models.list()) names.push(one.name);
    assert.ok(names.includes(`models/${model}`), names.join());
    assert.equal((await ai.models.get({ model })).name, `models/${model}`);
  },
  async error() {
    const refused = (status, code) => (error) => {
      assert.ok(error instanceof ApiError, String(error));
      const { error: told } = JSON.parse(error.message);
      assert.deepEqual([error.status, told.code, told.status], [status, status, code]);
      return true;
    };
    await assert.rejects(ai.models.generateContent({ model: "nonesuch", contents: "a" }), refused(404, "NOT_FOUND"));
    const config = { candidateCount: 2 };
    await assert.rejects(ai.models.generateContent({ model, contents: "a", config }), refused(400, "INVALID_ARGUMENT"));
    const contents = "[[sim:cut after=8]] one two three four five six seven eight nine";
    const cut = async () => gathered(await ai.models.generateContentStream({ model, contents }));
    await assert.rejects(cut(), (error) => error instanceof ApiError && error.status === 502);
  },
});

const name = process.argv[2];
if (name === "--list") console.log(Object.keys(cases()).map((name) => `genai-${name}`).join("\n"));
else for (const model of MODELS) await cases(model)[name.slice("genai-".length)]();
