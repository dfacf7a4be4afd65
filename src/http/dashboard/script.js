// The dashboard: asks the admin API, shows what it says. Everything shown is text; nothing is ever parsed as HTML.

const find = (id) => document.getElementById(id);
const endpoint = new URLSearchParams(location.search).get("endpoint")?.trim() ?? "";
const LIVE_MS = 2000;
/** After so many live refreshes everything is asked for anew; sooner while the proxy is not ready. */
const ALL_AFTER = 15;
const ALL_AFTER_WHEN_NOT_READY = 2;
const KEPT = 200;
/** Of the requests, so many are shown until somebody wants them all. */
const SHOWN = 25;

/** An element with attributes and children; an attribute that is false or missing is left out. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Asking.

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
    throw new Refused(0, url.startsWith("/") ? "The proxy does not answer. Is it running?" : `${url} does not answer this page.`);
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, body?.error?.message ?? `${url} answered ${response.status}.`);
  if (body === null) throw new Refused(response.status, `${url} did not answer in JSON.`);
  return body;
}

const post = (url, body) =>
  ask(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

/** A decision that failed: said until the next one. */
let undecided = null;

/** Shows an error, or takes the last one away; the missing key has a form of its own. */
function complain(told) {
  const error = told ?? undecided;
  const locked = error?.status === 401;
  find("alert").hidden = !error || locked;
  find("alert").textContent = error?.message ?? "";
  if (locked && find("login").hidden) {
    find("login").hidden = false;
    find("key").focus();
  } else if (!locked) {
    find("login").hidden = true;
  }
  find("content").hidden = locked;
  if (locked) showState("locked", "warn");
  else if (error?.status === 0) showState("not reachable", "bad");
}

function showState(text, kind) {
  find("state").className = `pill ${kind}`;
  if (find("state").textContent !== text) find("state").textContent = text;
}

// Numbers and times in words.

const isNothing = (value) => value === null || value === undefined;
const count = (value) => (isNothing(value) ? "–" : Number(value).toLocaleString("en"));
const rounded = (value) => count(Math.round(Number(value) * 10) / 10);
const clock = (unixMillis) => new Date(unixMillis).toLocaleTimeString();
/** AI credits, with as many decimals each time, so that they stand below one another. */
const credits = (nano) =>
  (isNothing(nano) ? "–" : (nano / 1e9).toLocaleString("en", { minimumFractionDigits: 3, maximumFractionDigits: 3 }));

/** The time of day; of another day, its date, too. */
function moment(unixMillis) {
  const time = new Date(unixMillis);
  if (time.toDateString() === new Date().toDateString()) return clock(unixMillis);
  return time.toLocaleString(undefined, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });
}

function span(seconds) {
  if (isNothing(seconds)) return "–";
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [size, unit] of units) if (seconds >= 1.5 * size) return `${Math.round(seconds / size)} ${unit}`;
  return `${Math.round(seconds)} s`;
}

function millis(value) {
  if (isNothing(value)) return "–";
  if (value < 1000) return `${Math.round(value)} ms`;
  return value < 100_000 ? `${(value / 1000).toFixed(1)} s` : minutes(value / 1000);
}

/** 106 → 1:46 */
const minutes = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** 128000 → 128k: sizes of windows are round numbers. */
function size(tokens) {
  if (isNothing(tokens)) return "–";
  if (tokens >= 1e6) return `${(tokens / 1e6).toLocaleString("en", { maximumFractionDigits: 2 })}M`;
  return tokens >= 1000 ? `${Math.round(tokens / 1000)}k` : String(tokens);
}

/** A date with its distance from today; GitHub writes it as a day, as an instant, or as seconds. */
function day(told) {
  const time = new Date(typeof told === "number" ? told * 1000 : told);
  if (Number.isNaN(time.getTime())) return String(told);
  const text = time.toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric", timeZone: "UTC" });
  const left = (time - Date.now()) / 1000;
  return left > 0 ? `${text}, in ${span(left)}` : text;
}

// Quota.

const NAMES = { chat: "Chat", completions: "Completions", premium_interactions: "Premium requests" };

/** What a plan is measured by comes first. */
const RANK = ["premium_interactions", "chat", "completions"];
const rank = (id) => (RANK.includes(id) ? RANK.indexOf(id) : RANK.length);

function quotaName(id, inCredits) {
  if (id === "premium_interactions" && inCredits) return "AI credits";
  const words = id.replaceAll("_", " ");
  return NAMES[id] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/** What is told of one quota, made plain. */
function readSnapshot(id, snapshot, usage) {
  const over = Number(snapshot.overage_count ?? 0);
  const notes = [];
  if (over > 0) notes.push(`${rounded(over)} over the quota`);
  if (snapshot.has_quota === false) notes.push("used up: Copilot refuses further calls");
  else if (!snapshot.unlimited && snapshot.overage_permitted) notes.push("more is allowed, at extra cost");
  return {
    name: quotaName(id, snapshot.token_based_billing ?? usage.token_based_billing),
    unlimited: snapshot.unlimited === true,
    left: snapshot.quota_remaining ?? snapshot.remaining ?? 0,
    all: snapshot.entitlement ?? 0,
    percent: Number(snapshot.percent_remaining ?? 0),
    reset: snapshot.quota_reset_at || snapshot.reset_date || usage.quota_reset_date_utc || usage.quota_reset_date,
    notes,
    blocked: snapshot.has_quota === false || (over > 0 && !snapshot.overage_permitted),
  };
}

function readQuotas(usage) {
  const snapshots = Object.entries(usage.quota_snapshots ?? {}).filter(([, snapshot]) => snapshot);
  const quotas = snapshots.map(([id, snapshot]) => ({ id, ...readSnapshot(id, snapshot, usage) }));
  for (const [id, left] of Object.entries(usage.limited_user_quotas ?? {})) {
    if (usage.quota_snapshots?.[id]) continue;
    const all = usage.monthly_quotas?.[id] ?? left;
    const percent = all > 0 ? (100 * left) / all : 0;
    quotas.push({ id, name: quotaName(id), left, all, percent, reset: usage.limited_user_reset_date, notes: [] });
  }
  return quotas.sort((one, two) => rank(one.id) - rank(two.id));
}

function quotaRow({ name, unlimited, left, all, percent, reset, notes, blocked }) {
  const words = unlimited ? "unlimited" : `${rounded(Math.max(0, left))} of ${rounded(all)} left`;
  const level = unlimited ? "unlimited" : blocked || percent <= 10 ? "bad" : percent <= 30 ? "warn" : "";
  const value = unlimited ? 100 : Math.max(0, Math.min(100, percent));
  const under = [...notes, reset && !unlimited ? `resets ${day(reset)}` : null].filter(Boolean).join(" · ");
  return el("div", { class: "quota" },
    el("p", {}, el("strong", {}, name), el("span", {}, unlimited ? words : `${words} · ${rounded(percent)} %`)),
    el("progress", { max: 100, value, class: level, "aria-label": `${name}: ${words}` }),
    under ? el("p", { class: `note ${blocked ? "bad" : ""}` }, under) : null);
}

function showUsage(usage) {
  const rows = readQuotas(usage).map(quotaRow);
  find("quotas").replaceChildren(...(rows.length ? rows : [el("p", { class: "muted" }, "GitHub names no quota for this seat.")]));
  find("fetched").textContent = `Fetched ${clock(Date.now())}${endpoint ? ` from ${endpoint}` : ""}`;
  find("raw").textContent = JSON.stringify(usage, null, 2);
}

function showNoUsage(error, why) {
  find("quotas").replaceChildren(
    el("p", { class: "bad" }, error.message),
    why ? el("p", { class: "note" }, why) : "");
  find("fetched").textContent = `Tried ${clock(Date.now())}${endpoint ? ` at ${endpoint}` : ""}`;
  find("raw").textContent = "not available";
}

// Account and readiness.

function planOf(usage) {
  const names = [usage?.copilot_plan, usage?.access_type_sku];
  return names.filter(Boolean).map((name) => name.replaceAll("_", " ")).join(" · ") || "–";
}

function credentialOf(token) {
  if (isNothing(token.expires_in_secs)) return token.state.replaceAll("_", " ");
  return `${token.state}, ${span(token.age_secs)} old, good for ${span(token.expires_in_secs)}`;
}

let uptime = 0;
let ready = false;
function showStatus(status, usage) {
  // A proxy that was started anew counts its revisions from the beginning.
  if (status.uptime_secs < uptime) revision = 0;
  uptime = status.uptime_secs;
  ready = status.ready;
  const calls = `${count(status.calls.running)} running, ${count(status.calls.waiting)} waiting, ${count(status.calls.refused)} refused`;
  const pairs = [
    ["Login", usage?.login ?? "–"],
    ["Plan", planOf(usage)],
    ["Billing", usage ? (usage.token_based_billing ? "AI credits" : "premium requests") : "–"],
    status.ready ? ["Ready", "yes", "good"] : ["Not ready", status.reason, "bad"],
    ["Credential", credentialOf(status.token)],
    ["Trouble", status.ready ? (status.token.last_error ?? status.models.last_error) : null, "bad"],
    ["Calls", calls],
    ["Running for", span(status.uptime_secs)],
  ].filter(([, value]) => !isNothing(value));
  find("account").replaceChildren(
    ...pairs.flatMap(([name, value, kind]) => [el("dt", {}, name), el("dd", { class: kind }, value)]));
  showState(status.ready ? "ready" : "not ready", status.ready ? "good" : "bad");
  find("version").textContent = `copilot-proxy ${status.version}`;
  const key = status.keyed ? "YOUR_KEY" : "dummy";
  find("connect").replaceChildren(
    "Claude Code: ", el("code", {}, `ANTHROPIC_BASE_URL=${location.origin} ANTHROPIC_AUTH_TOKEN=${key} claude`));
}

// Tables.

/** Puts elements in order under their parent, and touches none that is there already: nothing flickers or loses focus. */
function arrange(parent, wanted) {
  wanted.forEach((element, at) => {
    if (parent.children[at] !== element) parent.insertBefore(element, parent.children[at] ?? null);
  });
  while (parent.children.length > wanted.length) parent.lastChild.remove();
}

/** Shows rows under their headings, each [name, class]; or, where there is none, some words. */
function table(target, columns, rows, empty) {
  if (!rows.length) {
    target.removeAttribute("role");
    target.replaceChildren(...(empty ? [el("caption", {}, empty)] : []));
    return;
  }
  if (!target.tBodies.length) {
    const cells = columns.map(([name, kind]) => el("th", { scope: "col", role: "columnheader", class: kind }, name));
    target.replaceChildren(
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...cells)), el("tbody", { role: "rowgroup" }));
    // On a narrow screen the rows are blocks, which would be no table any more to a screen reader.
    target.setAttribute("role", "table");
  }
  arrange(target.tBodies[0], rows);
}

/** One row; each cell is its content, or an array of pieces, under the heading at its place. */
function row(columns, label, cells) {
  const made = cells.map((content, at) => {
    const [name, kind] = columns[at];
    const pieces = Array.isArray(content) ? content : [isNothing(content) ? "–" : content];
    const classes = [kind, pieces[0] === "–" ? "none" : null].filter(Boolean).join(" ");
    return el("td", { role: "cell", class: classes || null, "data-label": name }, ...pieces);
  });
  return el("tr", { role: "row", "aria-label": label }, ...made);
}

const small = (text, kind) => (text ? el("small", { class: kind }, text) : null);

// Requests.

let revision = 0;
/** By id, newest first: what is known of each, and its row once it is shown. */
let requests = new Map();
let showsAll = false;
/** How far the proxy's clock is ahead of ours. */
let ahead = 0;

const REQUEST_COLUMNS = [
  ["Time", "time"], ["Client", "client"], ["Model", "lead"], ["Route", "route"], ["Status", "end"],
  ["Took", "number"], ["First token", "number"], ["In", "number"], ["Cached", "number"], ["Out", "number"],
  ["Credits", "number"],
];
const TOOK = REQUEST_COLUMNS.findIndex(([name]) => name === "Took");

const PHASES = {
  waiting_for_approval: ["needs approval", "warn"], queued: ["queued", "warn"], upstream: ["upstream", "busy"],
  streaming: ["streaming", "busy"],
};
const isRunning = ({ status }) => isNothing(status);

function stateOf(request) {
  if (isRunning(request)) return PHASES[request.phase] ?? ["running", "busy"];
  const failed = request.error || request.status >= 400;
  return [request.status === 499 ? "client left" : String(request.status), failed ? "bad" : "good"];
}

/** Its own protocol, or the one it is translated to. */
function routeTaken(route) {
  const [from, to] = (route || "–").split(" → ");
  return to && from === to ? [el("span", { class: "native" }, `${from}, native`)] : route || "–";
}

function requestRow(request) {
  const ran = request.model_run && request.model_run !== request.model_asked ? `ran ${request.model_run}` : null;
  const agent = request.client || "unnamed";
  const healed = request.healed?.length ? `mended: ${request.healed.join(", ")}` : null;
  const [state, kind] = stateOf(request);
  const started = new Date(request.started_unix_ms);
  return row(REQUEST_COLUMNS, `${request.model_asked || "a model"} for ${agent}, ${state}`, [
    [el("time", { datetime: started.toISOString(), title: started.toLocaleString() }, moment(request.started_unix_ms))],
    [el("span", { class: "cut", title: agent }, agent.split(" ")[0])],
    [request.model_asked || "–", small(ran), small(healed), small(request.error, "bad")],
    routeTaken(request.route),
    [el("span", { class: `pill ${kind}` }, state)],
    millis(request.duration_ms),
    millis(request.first_byte_ms),
    count(request.tokens_in),
    count(request.tokens_cached),
    count(request.tokens_out),
    credits(request.nano_aiu),
  ]);
}

function showTotals(totals) {
  const sums = [
    ["requests", count(totals.requests)], ["failed", count(totals.errors)], ["tokens in", count(totals.tokens_in)],
    ["of them cached", count(totals.tokens_cached)], ["tokens out", count(totals.tokens_out)],
  ];
  if (totals.nano_aiu) sums.push(["AI credits", credits(totals.nano_aiu)]);
  find("totals").replaceChildren(...sums.map(([name, sum]) => el("div", {}, el("dt", {}, name), el("dd", {}, sum))));
  find("totals").hidden = false;
}

function showRequests(news) {
  ahead = news.now_unix_ms - Date.now();
  if (news.reset) requests = new Map();
  for (const request of news.requests) requests.set(request.id, { request, row: null });
  revision = news.revision;
  if (news.requests.length) {
    const newest = [...requests.entries()].sort(([, one], [, two]) => two.request.started_unix_ms - one.request.started_unix_ms);
    requests = new Map(newest.slice(0, KEPT));
    showTotals(news.totals);
  }
  arrangeRequests();
}

function arrangeRequests() {
  const known = [...requests.values()];
  const shown = showsAll ? known : known.slice(0, SHOWN);
  for (const entry of shown) {
    entry.row ??= requestRow(entry.request);
    if (!isRunning(entry.request)) continue;
    const took = entry.row.cells[TOOK];
    took.textContent = millis(Math.max(0, Date.now() + ahead - entry.request.started_unix_ms));
    took.classList.remove("none");
  }
  table(find("requests"), REQUEST_COLUMNS, shown.map((entry) => entry.row), "");
  find("first").hidden = known.length > 0;
  find("totals").hidden = known.length === 0;
  find("more").hidden = known.length <= SHOWN;
  find("more").textContent = showsAll ? "Show fewer" : `Show all ${known.length}`;
  const running = known.filter(({ request }) => isRunning(request)).length;
  find("running").hidden = running === 0;
  find("running").textContent = `${running} running`;
}

// Models.

let models = [];
/** Why there is no list. */
let modelsMissing = null;

const MODEL_COLUMNS = [
  ["Model", "lead"], ["Vendor"], ["Context", "number"], ["Prompt", "number"], ["Output", "number"],
  ["Multiplier", "number"], ["Credits/M in", "number"], ["Credits/M out", "number"],
  ["Claude Code", "way"], ["Chat", "way"], ["Codex", "way"],
];

/** The way a client takes: its own protocol, or the one it is translated to. */
function routeOf(client, way) {
  if (isNothing(way)) return "–";
  return way === client ? [el("span", { class: "native" }, "native")] : `→ ${way}`;
}

/** A name that tells more than the id. */
function nameBeside({ id, name }) {
  const plain = (text) => (text ?? "").toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  return plain(id) === plain(name) ? null : name;
}

function modelRow(model) {
  const marks = [nameBeside(model), model.preview ? "preview" : null,
    model.policy === "enabled" ? null : `policy: ${model.policy}`].filter(Boolean);
  return row(MODEL_COLUMNS, model.id, [
    [el("span", { class: "id" }, model.id), small(marks.join(" · "))],
    model.vendor || "–",
    size(model.context_window),
    size(model.max_prompt_tokens),
    size(model.max_output_tokens),
    isNothing(model.multiplier) ? "–" : `×${model.multiplier}`,
    count(model.token_prices?.input),
    count(model.token_prices?.output),
    routeOf("messages", model.routes.messages),
    routeOf("chat", model.routes.chat),
    routeOf("responses", model.routes.responses),
  ]);
}

function showModels() {
  const wanted = find("filter").value.trim().toLowerCase();
  const shown = models.filter(({ id, name, vendor }) => `${id} ${name} ${vendor}`.toLowerCase().includes(wanted));
  const empty = models.length ? "No model has this in its name." : modelsMissing ?? "No model is listed.";
  table(find("models"), MODEL_COLUMNS, shown.map(modelRow), empty);
  find("model-count").textContent = models.length ? String(models.length) : "";
}

// Approvals.

async function decide(id, decision) {
  undecided = null;
  const item = approvals.get(id)?.item;
  for (const button of item?.querySelectorAll("button") ?? []) button.disabled = true;
  try {
    await post(`/admin/approvals/${encodeURIComponent(id)}`, { decision }).catch((error) => {
      // Somebody else was quicker: the list shows it.
      if (error.status !== 404 && error.status !== 409) throw error;
    });
    showApprovals(await ask("/admin/approvals"));
    (find("approval-list").querySelector("button") ?? find("main")).focus();
  } catch (error) {
    for (const button of item?.querySelectorAll("button") ?? []) button.disabled = false;
    undecided = error;
    complain(error);
  }
}

/** The requests on show, by id: the list item, and the words in it that change. */
const approvals = new Map();

function approvalItem(one) {
  const waiting = el("small", {});
  const button = (label, decision, kind) => el("button", {
    type: "button", class: kind, "aria-label": `${label} request ${one.id} for ${one.model}`, onclick: () => decide(one.id, decision),
  }, label);
  const what = `${one.client || "A client"}: ${count(one.bytes)} bytes, about ${count(one.estimated_tokens)} tokens`;
  const item = el("li", { "aria-label": `request ${one.id} for ${one.model}` },
    el("div", { class: "what" }, el("strong", {}, one.model), ` for ${what}`, waiting),
    button("Approve", "approve"), button("Deny", "deny", "quiet"));
  return { item, waiting };
}

function showApprovals(pending) {
  const ids = new Set(pending.map(({ id }) => id));
  for (const [id, { item }] of approvals) {
    if (!ids.has(id)) {
      item.remove();
      approvals.delete(id);
    }
  }
  // Rebuilding a list under somebody's finger loses the focus: what stays is only updated.
  for (const one of pending) {
    if (!approvals.has(one.id)) {
      approvals.set(one.id, approvalItem(one));
      find("approval-list").append(approvals.get(one.id).item);
    }
    approvals.get(one.id).waiting.textContent = `waiting ${minutes(one.age_secs)}, refused in ${minutes(one.expires_in_secs)}`;
  }
  const title = `Waiting for approval: ${pending.length}`;
  if (find("approvals-title").textContent !== title) find("approvals-title").textContent = title;
  find("approvals").hidden = pending.length === 0;
  document.title = pending.length ? `(${pending.length}) copilot-proxy` : "copilot-proxy";
}

// Refreshing.

async function refreshLive() {
  const [news, pending] = await Promise.all([ask(`/admin/requests?after=${revision}`), ask("/admin/approvals")]);
  showRequests(news);
  showApprovals(pending);
}

async function refreshModels() {
  modelsMissing = null;
  models = await ask("/admin/models").catch((error) => {
    if (error.status === 401 || error.status === 0) throw error;
    modelsMissing = error.message;
    return [];
  });
  showModels();
}

async function refreshAll() {
  const [status, usage] = await Promise.all([ask("/admin/status"), ask(endpoint || "/usage").catch((error) => error)]);
  const failed = usage instanceof Error;
  showStatus(status, failed ? null : usage);
  if (failed) showNoUsage(usage, endpoint ? null : (await ask("/admin/status")).usage.last_error);
  else showUsage(usage);
  await Promise.all([refreshModels(), refreshLive()]);
}

let busy = false;
let next = null;
/** Runs one task at a time; of those that come meanwhile, the last. */
async function run(task) {
  if (busy) {
    next = task;
    return;
  }
  busy = true;
  try {
    await task();
    complain(null);
  } catch (error) {
    complain(error);
  } finally {
    busy = false;
  }
  const waiting = next;
  next = null;
  if (waiting) await run(waiting);
}

let ticks = 0;
function tick() {
  if (busy || !find("live").checked || document.hidden || !find("login").hidden) return;
  ticks += 1;
  // After an outage everything may have changed.
  const recovers = !find("alert").hidden && !undecided;
  const all = recovers || ticks % (ready ? ALL_AFTER : ALL_AFTER_WHEN_NOT_READY) === 0;
  run(all ? refreshAll : refreshLive);
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
  const problem = find("login-error");
  try {
    await post("/admin/session", { key: find("key").value });
    find("key").value = "";
    problem.hidden = true;
    await run(refreshAll);
    find("main").focus();
  } catch (error) {
    problem.hidden = false;
    problem.textContent = error.status === 401 ? "That is not this proxy's key." : error.message;
  }
});
find("filter").addEventListener("input", showModels);
find("more").addEventListener("click", () => {
  showsAll = !showsAll;
  arrangeRequests();
});
document.addEventListener("visibilitychange", tick);
setInterval(tick, LIVE_MS);
run(refreshAll);
