// The dashboard: asks the admin API, shows what it says. Everything shown is text; nothing is ever parsed as HTML.

const find = (id) => document.getElementById(id);
const endpoint = new URLSearchParams(location.search).get("endpoint") ?? "";
let revision = 0;
let requests = new Map();

/** An element with attributes and children. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child));
  return element;
}

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Asks for JSON; a refusal becomes an error with the server's own sentence. */
async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { cache: "no-store", ...options });
  } catch {
    throw new Refused(0, `${url} does not answer`);
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, body?.error?.message ?? `${url} answered ${response.status}`);
  if (body === null) throw new Refused(response.status, `${url} did not answer in JSON`);
  return body;
}

const post = (url, body) =>
  ask(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

function complain(error) {
  const alert = find("alert");
  alert.hidden = !error || error.status === 401;
  alert.textContent = error?.message ?? "";
  find("login").hidden = error?.status !== 401;
  if (error?.status === 401 && document.activeElement?.id !== "key") find("key").focus();
}

// Numbers and times in words.

const count = (value) => (value ?? null) === null ? "–" : Number(value).toLocaleString("en");
const rounded = (value) => count(Math.round(Number(value) * 10) / 10);

function span(seconds) {
  if ((seconds ?? null) === null) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

const millis = (value) => (value ?? null) === null ? "–" : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
const clock = (unixMillis) => new Date(unixMillis).toLocaleTimeString();
const credits = (nano) => (nano ?? null) === null ? "–" : `${(nano / 1e9).toFixed(3)} cr`;

// Quota and account.

const NAMES = { chat: "Chat", completions: "Completions", premium_interactions: "Premium requests" };

function quotaName(id, snapshot) {
  if (id === "premium_interactions" && snapshot.token_based_billing) return "AI credits";
  return NAMES[id] ?? id.replaceAll("_", " ");
}

function quotaRow(name, { unlimited, remaining, entitlement, percent, note }) {
  const words = unlimited ? "unlimited" : `${rounded(remaining)} of ${rounded(entitlement)} left`;
  const level = percent <= 10 ? "bad" : percent <= 30 ? "warn" : "";
  const bar = el("progress", {
    max: 100, value: unlimited ? 100 : Math.max(0, Math.min(100, percent)), class: level,
    "aria-label": `${name}: ${words}`,
  });
  const detail = unlimited ? words : `${words} (${rounded(percent)} %)`;
  return el("div", { class: "quota" }, el("p", {}, el("strong", {}, name), el("span", {}, detail)), bar,
    note ? el("p", { class: "muted" }, note) : null);
}

function quotaRows(usage) {
  const rows = [];
  for (const [id, snapshot] of Object.entries(usage.quota_snapshots ?? {})) {
    if (!snapshot) continue;
    const billing = { token_based_billing: usage.token_based_billing, ...snapshot };
    const over = Number(snapshot.overage_count ?? 0);
    rows.push(quotaRow(quotaName(id, billing), {
      unlimited: snapshot.unlimited,
      remaining: snapshot.quota_remaining ?? snapshot.remaining ?? 0,
      entitlement: snapshot.entitlement ?? 0,
      percent: Number(snapshot.percent_remaining ?? 0),
      note: over > 0 ? `${rounded(over)} over the quota${snapshot.overage_permitted ? "" : ", which is not permitted"}` : null,
    }));
  }
  for (const [id, left] of Object.entries(usage.limited_user_quotas ?? {})) {
    const all = usage.monthly_quotas?.[id] ?? left;
    rows.push(quotaRow(NAMES[id] ?? id, { remaining: left, entitlement: all, percent: all > 0 ? (100 * left) / all : 0 }));
  }
  return rows;
}

function showUsage(usage) {
  const rows = quotaRows(usage);
  const reset = usage.quota_reset_date ?? usage.limited_user_reset_date;
  if (reset) rows.push(el("p", { class: "muted" }, `Resets on ${reset}`));
  find("quotas").replaceChildren(...(rows.length ? rows : [el("p", { class: "muted" }, "GitHub names no quota for this seat.")]));
  find("raw").textContent = JSON.stringify(usage, null, 2);
}

function showStatus(status, usage) {
  const pairs = [
    ["Login", usage?.login ?? status.login ?? "–"],
    ["Plan", usage?.copilot_plan ? `${usage.copilot_plan} (${usage.access_type_sku ?? "?"})` : "–"],
    ["Billing", usage ? (usage.token_based_billing ? "AI credits" : "premium requests") : "–"],
    ["Ready", status.ready ? "yes" : `no: ${status.reason}`],
    ["Credential", `${status.token.state}, ${span(status.token.age_secs)} old, good for ${span(status.token.expires_in_secs)}`],
    ["Running for", span(status.uptime_secs)],
  ];
  find("account").replaceChildren(...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  const state = find("state");
  state.textContent = status.ready ? "ready" : "not ready";
  state.className = `state ${status.ready ? "good" : "bad"}`;
  find("version").textContent = `copilot-proxy ${status.version}`;
}

// Tables.

function table(target, headings, rows, empty) {
  if (!rows.length) {
    target.replaceChildren(el("caption", {}, empty));
    return;
  }
  const head = el("tr", {}, ...headings.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)));
  target.replaceChildren(el("thead", {}, head), el("tbody", {}, ...rows));
}

const REQUEST_HEADINGS = [
  ["Time"], ["Client"], ["Asked for"], ["Ran"], ["Route"], ["Status"], ["Took", "number"], ["First token", "number"],
  ["In", "number"], ["Cached", "number"], ["Out", "number"], ["Cost", "number"], ["Error"],
];

function requestRow(request) {
  const status = request.status ?? "running";
  const good = request.status === null || request.status === undefined ? "warn" : request.error ? "bad" : "good";
  const cell = (value, kind) => el("td", { class: kind }, String(value ?? "–"));
  return el("tr", { "aria-label": `request ${request.id}` },
    cell(clock(request.started_unix_ms)), cell(request.client), cell(request.model_asked), cell(request.model_run),
    cell(request.route), cell(status, good), cell(millis(request.duration_ms), "number"),
    cell(millis(request.first_byte_ms), "number"), cell(count(request.tokens_in), "number"),
    cell(count(request.tokens_cached), "number"), cell(count(request.tokens_out), "number"),
    cell(credits(request.nano_aiu), "number"), cell(request.error ?? "", "wide"));
}

function showRequests(news) {
  if (news.reset) requests = new Map();
  for (const request of news.requests) requests.set(request.id, request);
  revision = news.revision;
  const newest = [...requests.values()].sort((one, two) => two.started_unix_ms - one.started_unix_ms).slice(0, 200);
  requests = new Map(newest.map((request) => [request.id, request]));
  table(find("requests"), REQUEST_HEADINGS, newest.map(requestRow), "No request yet. Connect a client and it shows here.");
  const totals = news.totals;
  find("totals").textContent = `Since the start: ${count(totals.requests)} requests, ${count(totals.errors)} failed, `
    + `${count(totals.tokens_in)} tokens in, ${count(totals.tokens_out)} out`
    + (totals.nano_aiu ? `, ${credits(totals.nano_aiu)}` : "");
}

const MODEL_HEADINGS = [
  ["Model"], ["Vendor"], ["Prompt", "number"], ["Output", "number"], ["Price"], ["From Claude Code"], ["From chat"], ["From Codex"],
];

function priceOf(model) {
  const parts = [];
  if (model.multiplier !== null && model.multiplier !== undefined) parts.push(`×${model.multiplier}`);
  const prices = model.token_prices;
  if (prices) parts.push(`${prices.input_price} in, ${prices.output_price} out per M`);
  return parts.join(" · ") || "–";
}

function showModels(models) {
  const rows = models.map((model) => {
    const cell = (value, kind) => el("td", { class: kind }, String(value ?? "–"));
    return el("tr", { "aria-label": model.id }, el("th", { scope: "row" }, model.id), cell(model.vendor),
      cell(count(model.max_prompt_tokens), "number"), cell(count(model.max_output_tokens), "number"), cell(priceOf(model)),
      cell(model.routes.messages), cell(model.routes.chat), cell(model.routes.responses));
  });
  table(find("models"), MODEL_HEADINGS, rows, "No model list yet.");
}

// Approvals.

async function decide(id, decision, buttons) {
  for (const button of buttons) button.disabled = true;
  try {
    await post(`/admin/approvals/${encodeURIComponent(id)}`, { decision });
  } catch (error) {
    complain(error);
  }
  await refreshLive();
}

function approvalRow(one) {
  const what = `${one.client || "a client"} asks for ${one.model}: ${count(one.bytes)} bytes, about ${count(one.estimated_tokens)} tokens`;
  const buttons = [];
  const button = (label, decision, kind) => {
    const made = el("button", {
      type: "button", class: kind, "aria-label": `${label} request ${one.id} for ${one.model}`,
      onclick: () => decide(one.id, decision, buttons),
    }, label);
    buttons.push(made);
    return made;
  };
  return el("li", {}, el("span", { class: "what" }, what), el("span", { class: "muted" }, `waiting ${span(one.age_secs)}`),
    button("Approve", "approve"), button("Deny", "deny", "quiet"));
}

let shownApprovals = "";
function showApprovals(pending) {
  find("approvals").hidden = pending.length === 0;
  // Rebuilding a list under somebody's finger loses the focus: only a changed list is rebuilt.
  const ids = pending.map((one) => one.id).join();
  if (ids === shownApprovals) return;
  shownApprovals = ids;
  find("approval-list").replaceChildren(...pending.map(approvalRow));
}

// Refreshing.

async function refreshLive() {
  const [news, pending] = await Promise.all([ask(`/admin/requests?after=${revision}`), ask("/admin/approvals")]);
  showRequests(news);
  showApprovals(pending);
}

async function refreshAll() {
  const usageUrl = endpoint || "/usage";
  const [status, models] = await Promise.all([ask("/admin/status"), ask("/admin/models")]);
  showModels(models);
  await refreshLive();
  const usage = await ask(usageUrl).catch((error) => error);
  const failed = usage instanceof Error;
  showStatus(status, failed ? null : usage);
  if (failed) {
    find("quotas").replaceChildren(el("p", { class: "bad" }, usage.message));
    throw usage;
  }
  showUsage(usage);
}

let busy = false;
async function run(task) {
  if (busy) return;
  busy = true;
  try {
    await task();
    complain(null);
  } catch (error) {
    complain(error);
  } finally {
    busy = false;
  }
}

find("endpoint").value = endpoint;
find("source").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = find("endpoint").value.trim();
  if (wanted === endpoint) run(refreshAll);
  else location.search = wanted ? `?endpoint=${encodeURIComponent(wanted)}` : "";
});
find("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("/admin/session", { key: find("key").value });
    find("key").value = "";
    complain(null);
    await run(refreshAll);
  } catch (error) {
    find("alert").hidden = false;
    find("alert").textContent = error.status === 401 ? "That is not this proxy's key." : error.message;
  }
});

let ticks = 0;
setInterval(() => {
  if (!find("live").checked || document.hidden || !find("login").hidden) return;
  ticks += 1;
  run(ticks % 15 === 0 ? refreshAll : refreshLive);
}, 2000);
run(refreshAll);
