// What a person does with the dashboard, done by a browser. Each case has a page of its own, which may ask nobody but its
// proxy, may load nothing that its policy forbids, and may not fail in its script.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const { COPILOT_PROXY_URL: URL_, LOCKED_URL, LEGACY_URL, CUT_OFF_URL, KEY, SHOTS, CHROMIUM } = process.env;
const only = process.argv[2] ?? "";
const SOON = 8000;

const ask = (text, model = "gpt-4.1", more = {}) =>
  fetch(`${URL_}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "user-agent": "browser-test/1.0" },
    body: JSON.stringify({ model, messages: [{ role: "user", content: text }], ...more }),
  });

const visible = (locator) => locator.waitFor({ state: "visible", timeout: SOON });
const gone = (locator) => locator.waitFor({ state: "hidden", timeout: SOON });
const shot = (page, name) => page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage: true });

async function open(page, path = "/dashboard") {
  await page.goto(URL_ + path);
  await visible(page.locator("#models tbody tr").first());
}

/** Whether the page can be scrolled sideways. */
const overflows = (page) => page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);

/** How much lighter the ink is than the ground, on a scale of 0 to 255. */
const contrast = (page) => page.evaluate(() => {
  const light = (colour) => colour.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
  const style = getComputedStyle(document.body);
  return light(style.color) - light(style.backgroundColor);
});

/** What keeps somebody with a screen reader, a keyboard or weak eyes from using the page, by the rules of WCAG 2.2 AA. */
async function barriers(page) {
  if (!await page.evaluate(() => "axe" in window)) await page.evaluate(readFileSync(AXE, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}

const PHONE = { viewport: { width: 375, height: 812 }, hasTouch: true, isMobile: true };

const cases = [
  ["a browser at / is led to the dashboard", {}, async (page) => {
    await page.goto(`${URL_}/`);
    assert.equal(new URL(page.url()).pathname, "/dashboard");
    assert.equal(await (await fetch(`${URL_}/`)).text(), "Server running");
  }],

  ["light theme", { colorScheme: "light" }, async (page) => {
    await open(page);
    assert.ok(await contrast(page) < -100);
    assert.deepEqual(await barriers(page), []);
    await shot(page, "light");
  }],

  ["dark theme", { colorScheme: "dark" }, async (page) => {
    await open(page);
    assert.ok(await contrast(page) > 100);
    assert.deepEqual(await barriers(page), []);
    await shot(page, "dark");
  }],

  ["phone width has no sideways scroll", PHONE, async (page) => {
    await open(page);
    assert.equal(await overflows(page), false);
    assert.deepEqual(await barriers(page), []);
    await shot(page, "phone");
  }],

  ["its policy allows nothing foreign", {}, async (page) => {
    const answer = await page.goto(`${URL_}/dashboard`);
    const policy = answer.headers()["content-security-policy"].split("; ");
    assert.deepEqual(policy.slice(0, 5), [
      "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src data:", "connect-src 'self'",
    ]);
    const loads = page.evaluate(() => fetch("http://localhost:9/").then(() => "loaded", () => "refused"));
    assert.equal(await loads, "refused");
  }, { mayFailToLoad: true, mayTryForeign: true }],

  ["while it loads, it says so", {}, async (page) => {
    let release;
    const held = new Promise((resolve) => { release = resolve; });
    await page.route(/\/(admin\/|usage)/, async (route) => { await held; await route.continue(); });
    await page.goto(`${URL_}/dashboard`);
    assert.equal(await page.locator("#state").innerText(), "loading…");
    assert.equal(await page.getByText("loading…").count(), 5);
    await shot(page, "loading");
    release();
    await visible(page.locator("#state.good"));
    await visible(page.locator("#models tbody tr").first());
    await gone(page.getByText("loading…").first());
  }],

  ["no request yet is said", {}, async (page) => {
    await page.goto(`${LEGACY_URL}/dashboard`);
    await visible(page.getByText("No request yet."));
  }, { needs: LEGACY_URL }],

  ["premium requests, where the plan is billed so", {}, async (page) => {
    await page.goto(`${LEGACY_URL}/dashboard`);
    await visible(page.getByRole("progressbar", { name: /^Premium requests: / }));
    assert.match(await page.locator("#account").innerText(), /Billing\s+premium requests/);
  }, { needs: LEGACY_URL }],

  ["a proxy that cannot reach GitHub says why", {}, async (page) => {
    await page.goto(`${CUT_OFF_URL}/dashboard`);
    await visible(page.locator("#state.bad"));
    assert.match(await page.locator("#account").innerText(), /Not ready\s+no copilot credential: .*refused/);
    await visible(page.locator("#quotas .bad"));
    assert.match(await page.locator("#quotas .note").innerText(), /refused/);
    await visible(page.locator("#models").getByText("no model list yet"));
    assert.deepEqual(await barriers(page), []);
    await shot(page, "cut-off");
  }, { mayFailToLoad: true, needs: CUT_OFF_URL }],

  ["quota, plan, login and readiness", {}, async (page) => {
    await open(page);
    await visible(page.locator("#state.good"));
    const bars = page.getByRole("progressbar");
    assert.ok(await bars.count() >= 1);
    for (const bar of await bars.all()) assert.match(await bar.getAttribute("aria-label"), /: (unlimited|.* left)$/);
    assert.match(await page.locator("#quotas").innerText(), /resets /);
    const account = await page.locator("#account").innerText();
    for (const word of ["Login", "Plan", "Billing", "Credential"]) assert.ok(account.includes(word), account);
    assert.match(account, /old, good for/);
  }],

  ["models with limits and routes; the filter", {}, async (page) => {
    await open(page);
    const row = page.getByRole("row", { name: "claude-sonnet-4.5", exact: true });
    assert.match(await row.innerText(), /native/);
    await page.getByLabel("Filter models").fill("no such model");
    await visible(page.getByText("No model has this in its name."));
    await page.getByLabel("Filter models").fill("sonnet-4.5");
    await visible(row);
  }],

  ["the whole usage can be unfolded", {}, async (page) => {
    await open(page);
    await page.getByText("Usage as GitHub tells it").click();
    const usage = JSON.parse(await page.locator("#raw").innerText());
    assert.deepEqual(usage, await (await fetch(`${URL_}/usage`)).json());
  }],

  ["another proxy's usage by ?endpoint=", {}, async (page) => {
    const other = `${URL_.replace("127.0.0.1", "localhost")}/usage`;
    await page.goto(`${URL_}/?endpoint=${encodeURIComponent(other)}`);
    await visible(page.getByText(`from ${other}`));
    assert.ok(await page.getByRole("progressbar").count() >= 1);
    assert.equal(await page.locator("#endpoint").inputValue(), other);
  }],

  ["an endpoint that does not answer is said", {}, async (page) => {
    await page.goto(`${URL_}/dashboard?endpoint=${encodeURIComponent("http://127.0.0.1:9/usage")}`);
    await visible(page.locator("#quotas .bad"));
    await visible(page.locator("#models tbody tr").first());
  }, { mayFailToLoad: true }],

  ["a waiting request is approved by a click", {}, async (page) => {
    await open(page);
    const answer = ask("a secret of the prompt");
    const approve = page.getByRole("button", { name: /^Approve request \d+ for gpt-4.1$/ });
    await visible(approve);
    assert.match(await page.locator("#approvals").innerText(), /browser-test\/1\.0.*tokens/s);
    assert.equal((await page.content()).includes("a secret of the prompt"), false);
    await shot(page, "approval");
    await approve.click();
    assert.equal((await answer).status, 200);
    await gone(page.locator("#approvals"));
    const row = page.getByRole("row", { name: "gpt-4.1 for browser-test/1.0, 200" }).first();
    await visible(row);
    await page.getByText("Usage as GitHub tells it").click();
    assert.equal((await page.content()).includes("a secret of the prompt"), false);
    await shot(page, "answered");
  }],

  ["a streamed request shows live, with model asked and run, times, tokens and cost", {}, async (page) => {
    await open(page);
    const answer = ask("[[sim:trickle ms=600]] tell me", "claude-sonnet-4-5", { stream: true });
    await visible(page.getByRole("row", { name: "claude-sonnet-4-5 for browser-test/1.0, needs approval" }));
    await visible(page.getByText("1 running"));
    await page.getByRole("button", { name: /^Approve/ }).click();
    await visible(page.getByRole("row", { name: "claude-sonnet-4-5 for browser-test/1.0, streaming" }));
    await (await answer).text();
    const row = page.getByRole("row", { name: "claude-sonnet-4-5 for browser-test/1.0, 200" }).first();
    await visible(row);
    const cells = await row.getByRole("cell").allInnerTexts();
    const [time, client, model, route, status, took, first, tokensIn, cached, tokensOut, cost] = cells;
    assert.match(time, /\d+:\d\d/);
    assert.equal(client, "browser-test/1.0");
    assert.match(model, /claude-sonnet-4-5\s+ran claude-sonnet-4\.5/);
    assert.equal(route, "chat, native");
    assert.equal(status, "200");
    assert.match(took, /^\d+\.\d s$/);
    assert.match(first, /^(\d+ ms|\d+\.\d s)$/);
    for (const number of [tokensIn, cached, tokensOut]) assert.match(number, /^[\d,]+$/);
    assert.match(cost, /^\d+\.\d{3}$/);
  }],

  ["a failed request shows its status and reason", {}, async (page) => {
    await open(page);
    const answer = ask("[[sim:500]]", "gpt-4.1");
    await page.getByRole("button", { name: /^Approve/ }).click();
    const { status } = await answer;
    assert.ok(status >= 500);
    const row = page.getByRole("row", { name: `gpt-4.1 for browser-test/1.0, ${status}` }).first();
    await visible(row.locator("small.bad"));
  }],

  ["a refresh moves no column and rebuilds no row", {}, async (page) => {
    const send = () => fetch(`${LEGACY_URL}/v1/chat/completions`, {
      method: "POST", headers: { "content-type": "application/json", "user-agent": "a-client-with-a-rather-long-name/1.0" },
      body: JSON.stringify({ model: "gpt-4.1", messages: [{ role: "user", content: "hello" }] }),
    }).then((answer) => answer.text());
    await send();
    await page.goto(`${LEGACY_URL}/dashboard`);
    const rows = page.locator("#requests tbody tr");
    await visible(rows.first());
    const edges = () => page.evaluate(() => [...document.querySelectorAll("#requests th")].map((th) => th.getBoundingClientRect().x));
    const before = [await edges(), await rows.count()];
    await page.evaluate(() => { document.querySelector("#requests tbody tr").marked = true; });
    await Promise.all([send(), send(), send()]);
    await visible(rows.nth(before[1] + 2));
    assert.deepEqual(await edges(), before[0]);
    assert.equal(await page.evaluate(() => [...document.querySelectorAll("#requests tbody tr")].filter((tr) => tr.marked).length), 1);
  }, { needs: LEGACY_URL }],

  ["many requests are shown when somebody wants them", {}, async (page) => {
    const known = Array.from({ length: 120 }, (_, at) => ({
      id: `r${at}`, started_unix_ms: Date.now() - at * 1000, client: "c/1", model_asked: "m", model_run: "m", route: "chat → chat",
      phase: at < 100 ? "upstream" : "ended", status: at < 100 ? null : 200, healed: [],
    }));
    const totals = { requests: 20, errors: 0, tokens_in: 0, tokens_cached: 0, tokens_out: 0, nano_aiu: 0 };
    const json = { revision: 1, now_unix_ms: Date.now(), reset: true, requests: known, totals };
    await page.route("**/admin/requests*", (route) => route.fulfill({ json }));
    await open(page);
    await visible(page.getByText("100 running"));
    const rows = page.locator("#requests tbody tr");
    assert.equal(await rows.count(), 25);
    await page.getByRole("button", { name: "Show all 120" }).click();
    assert.equal(await rows.count(), 120);
    assert.deepEqual(await barriers(page), []);
    await page.getByRole("button", { name: "Show fewer" }).click();
    assert.equal(await rows.count(), 25);
  }],

  ["a request is approved by a tap on a phone", PHONE, async (page) => {
    await open(page);
    const answer = ask("hello", "gpt-4o");
    const approve = page.getByRole("button", { name: /^Approve/ });
    await visible(approve);
    assert.equal(await overflows(page), false);
    assert.deepEqual(await barriers(page), []);
    await shot(page, "phone-approval");
    await approve.tap();
    assert.equal((await answer).status, 200);
    await visible(page.getByRole("row", { name: "gpt-4o for browser-test/1.0, 200" }).first());
    assert.equal(await overflows(page), false);
    await shot(page, "phone-answered");
  }],

  ["somebody else's decision takes the question away", {}, async (page) => {
    await open(page);
    const answer = ask("hello");
    await visible(page.getByRole("button", { name: /^Approve/ }));
    const [{ id }] = await (await fetch(`${URL_}/admin/approvals`)).json();
    const decide = (headers) => fetch(`${URL_}/admin/approvals/${id}`, {
      method: "POST", headers: { "content-type": "application/json", ...headers }, body: '{"decision":"deny"}',
    });
    assert.equal((await decide({ origin: "http://elsewhere.example" })).status, 403);
    assert.equal((await decide({ origin: "null" })).status, 403);
    assert.equal((await decide({})).status, 200);
    assert.equal((await answer).status, 403);
    await gone(page.locator("#approvals"));
  }],

  ["it refreshes by itself until told not to; Fetch does it once", {}, async (page) => {
    await open(page);
    let asked = 0;
    page.on("request", (request) => { if (request.url().includes("/admin/")) asked += 1; });
    await page.waitForTimeout(2600);
    assert.ok(asked > 0);
    await page.getByLabel("refresh by itself").uncheck();
    await page.waitForTimeout(300);
    asked = 0;
    await page.waitForTimeout(2600);
    assert.equal(asked, 0);
    const fetched = page.waitForRequest(/\/admin\/status/, { timeout: SOON });
    await page.getByRole("button", { name: "Fetch" }).click();
    await fetched;
  }],

  ["a waiting request is denied with the keyboard", {}, async (page) => {
    await open(page);
    const answer = ask("hello");
    const deny = page.getByRole("button", { name: /^Deny request \d+ for gpt-4.1$/ });
    await visible(deny);
    await deny.focus();
    await page.keyboard.press("Enter");
    assert.equal((await answer).status, 403);
    await gone(page.locator("#approvals"));
  }],

  ["Tab reaches the skip link, the fields and the buttons", {}, async (page) => {
    await open(page);
    const reached = [];
    for (let step = 0; step < 12; step += 1) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim()));
    }
    for (const name of ["Skip to content", "endpoint", "Fetch", "live", "filter"]) assert.ok(reached.includes(name), reached.join());
  }],

  ["it recovers by itself from an outage", {}, async (page) => {
    await open(page);
    await page.route("**/admin/**", (route) => route.abort());
    await visible(page.locator("#alert"));
    await page.unroute("**/admin/**");
    await gone(page.locator("#alert"));
    await visible(page.locator("#state.good"));
  }, { mayFailToLoad: true }],

  ["the key is asked for once", {}, async (page, context) => {
    await page.goto(`${LOCKED_URL}/dashboard`);
    await visible(page.locator("#login"));
    assert.equal((await page.request.get(`${LOCKED_URL}/admin/status`)).status(), 401);
    assert.deepEqual(await barriers(page), []);
    await shot(page, "login");
    await page.getByLabel(/^Key/).fill("wrong");
    await page.getByRole("button", { name: "Open the dashboard" }).click();
    await visible(page.getByText("That is not this proxy's key."));
    await page.getByLabel(/^Key/).fill(KEY);
    await page.keyboard.press("Enter");
    await visible(page.locator("#models tbody tr").first());
    const cookie = (await context.cookies()).find(({ name }) => name.startsWith("copilot_proxy"));
    assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.value.includes(KEY)], [true, "Strict", false]);
    await page.reload();
    await visible(page.locator("#models tbody tr").first());
    await gone(page.locator("#login"));
  }, { mayFailToLoad: true, needs: LOCKED_URL }],
];

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
let passed = 0;
let failed = 0;
for (const [name, options, run, { mayFailToLoad = false, mayTryForeign = false, needs = true } = {}] of cases) {
  if (!name.includes(only) || !needs) continue;
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const troubles = [];
  page.on("pageerror", (error) => troubles.push(error.message));
  page.on("console", (message) => {
    if (message.type() !== "error") return;
    if (!mayFailToLoad || (!mayTryForeign && /Content Security Policy/.test(message.text()))) troubles.push(message.text());
  });
  page.on("request", (request) => {
    const own = [URL_, LOCKED_URL, LEGACY_URL, CUT_OFF_URL, "data:"].some((start) => start && request.url().startsWith(start));
    const asked = new URL(page.url()).searchParams?.get("endpoint");
    if (!own && !mayTryForeign && request.url() !== asked) troubles.push(`asked ${request.url()}`);
  });
  try {
    await run(page, context);
    assert.deepEqual(troubles, []);
    passed += 1;
    console.log(`PASS ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n     ${String(error.stack).split("\n").slice(0, 8).join("\n     ")}`);
    await shot(page, `failed-${name.replaceAll(/[^a-z0-9]+/gi, "-")}`).catch(() => {});
  }
  await context.close();
}
await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
