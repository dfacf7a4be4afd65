//! What the simulator remembers: seats with their quota, tokens, device codes, planned faults, prefixes seen. Plain
//! data and methods; time is an argument where it decides. Knows no HTTP.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Settings;
use super::faults::{Planned, What};
use super::models::Models;
use super::plans::{self, Counter, Plan};
use super::recorder::Recorder;
use super::seals;

/// Shared by every handler.
pub struct State {
    url: OnceLock<String>,
    /// As they were at the start.
    settings: Settings,
    memory: Mutex<Memory>,
    pub recorder: Mutex<Recorder>,
    open: Arc<AtomicUsize>,
    pub requests: AtomicU64,
}

/// All that changes.
pub struct Memory {
    pub settings: Settings,
    pub plan: Plan,
    pub models: Models,
    pub seats: Vec<Seat>,
    pub devices: HashMap<String, Device>,
    pub outcome: Outcome,
    /// An error of the token exchange that all seats get.
    pub exchange_error: Option<String>,
    /// Every GitHub token is refused.
    pub revoked: bool,
    pub exchanges: u64,
    pub polls: u64,
    /// The host that CAPI must be called by, if it matters.
    pub host: Option<String>,
    /// The quota that a new seat starts with.
    fresh_quota: (Counter, Counter),
    tokens: HashMap<String, Issued>,
    faults: Vec<Planned>,
    happened: HashSet<u64>,
    prefixes: Prefixes,
}

/// One GitHub account.
#[derive(Clone, Debug)]
pub struct Seat {
    token: String,
    pub login: String,
    pub id: u64,
    /// Free plans count chats.
    pub chat: Counter,
    pub premium: Counter,
}

#[derive(Clone, Debug)]
struct Issued {
    seat: usize,
    expires: Instant,
}

/// A device code on its way to a token.
#[derive(Clone, Debug)]
pub struct Device {
    pub client: String,
    pub polls: u32,
    pub last_poll: Option<Instant>,
    pub interval: Duration,
    pub expires: Instant,
    pub used: bool,
}

/// What becomes of device codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Approved after a few polls.
    #[default]
    Approve,
    Deny,
    Expire,
    /// Nobody ever enters the code.
    Pending,
}

impl Outcome {
    pub fn read(name: &str) -> Option<Self> {
        Some(match name {
            "approve" => Self::Approve,
            "deny" => Self::Deny,
            "expire" => Self::Expire,
            "pending" => Self::Pending,
            _ => return None,
        })
    }
}

/// What a bearer of CAPI is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// An exchanged token.
    Exchanged(usize),
    /// A GitHub token used directly.
    Direct(usize),
    Expired,
    /// A personal access token.
    Personal,
    Unknown,
}

/// Tokens of a prompt that were seen before, and that are new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub cached: u64,
    pub new: u64,
}

impl State {
    pub fn new(settings: Settings) -> Self {
        Self {
            url: OnceLock::new(),
            memory: Mutex::new(Memory::new(settings.clone())),
            settings,
            recorder: Mutex::default(),
            open: Arc::default(),
            requests: AtomicU64::new(0),
        }
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the simulator is reached.
    pub fn url(&self) -> &str {
        self.url.get().map_or("", String::as_str)
    }

    /// Said once, when the port is known.
    pub fn set_url(&self, url: String) {
        self.url.get_or_init(|| url);
    }

    /// What GitHub says of a seat's plan and quota.
    pub fn account(&self, seat: usize) -> Value {
        let memory = self.memory();
        let seat = memory.seats.get(seat);
        seat.map_or(Value::Null, |seat| {
            memory.plan.account(&seat.login, &seat.chat, &seat.premium, self.url())
        })
    }

    /// What GitHub says of a seat's person.
    pub fn github_user(&self, seat: usize) -> Value {
        let memory = self.memory();
        let seat = memory.seats.get(seat);
        seat.map_or(Value::Null, |seat| plans::github_user(&seat.login, seat.id))
    }

    /// Counts an answer under way until the guard is dropped.
    pub fn open_stream(&self) -> OpenStream {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.open.clone())
    }

    pub fn open_streams(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Back to how everything was at the start.
    pub fn reset(&self) {
        *self.memory() = Memory::new(self.settings.clone());
        self.recorder().clear();
        self.requests.store(0, Ordering::Relaxed);
    }
}

/// One answer under way.
#[derive(Debug)]
pub struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Memory {
    fn new(settings: Settings) -> Self {
        let plan = Plan::named(&settings.plan).unwrap_or_default();
        Self {
            fresh_quota: plan.quota(),
            plan,
            settings,
            models: Models::default(),
            seats: Vec::new(),
            devices: HashMap::new(),
            outcome: Outcome::Approve,
            exchange_error: None,
            revoked: false,
            exchanges: 0,
            polls: 0,
            host: None,
            tokens: HashMap::new(),
            faults: Vec::new(),
            happened: HashSet::new(),
            prefixes: Prefixes::default(),
        }
    }

    /// Moves every seat to another plan, with its quota.
    pub fn set_plan(&mut self, plan: Plan) {
        self.fresh_quota = plan.quota();
        for seat in &mut self.seats {
            (seat.chat, seat.premium) = self.fresh_quota.clone();
        }
        self.plan = plan;
    }

    /// Changes the premium requests of every seat, also of those that come later.
    pub fn set_premium(&mut self, change: impl Fn(&mut Counter)) {
        change(&mut self.fresh_quota.1);
        self.seats.iter_mut().for_each(|seat| change(&mut seat.premium));
    }

    /// The seat of a GitHub token that this simulator would have issued.
    pub fn seat_of(&mut self, token: &str) -> Option<usize> {
        if self.revoked || !is_issued(token) {
            return None;
        }
        if let Some(at) = self.seats.iter().position(|seat| seat.token == token) {
            return Some(at);
        }
        let at = self.seats.len();
        let login = self.plan.login();
        let (chat, premium) = self.fresh_quota.clone();
        self.seats.push(Seat {
            token: token.to_owned(),
            login: if at == 0 {
                login.to_owned()
            } else {
                format!("{login}-{}", at + 1)
            },
            id: 1_000_001 + at as u64,
            chat,
            premium,
        });
        Some(at)
    }

    /// Issues a Copilot token: the answer of the exchange.
    pub fn exchange(&mut self, seat: usize, url: &str, unix_now: u64, now: Instant) -> Value {
        self.exchanges += 1;
        let lifetime = self.settings.token_lifetime;
        let expires_at = unix_now + lifetime.as_secs();
        let token = self.plan.token(expires_at);
        self.tokens
            .retain(|_, issued| now < issued.expires + Duration::from_secs(3600));
        self.tokens.insert(
            token.clone(),
            Issued {
                seat,
                expires: now + lifetime,
            },
        );
        self.plan
            .exchanged(&token, expires_at, self.settings.refresh_in.as_secs(), url)
    }

    /// Ends every Copilot token now.
    pub fn expire_tokens(&mut self, now: Instant) {
        for issued in self.tokens.values_mut() {
            issued.expires = issued.expires.min(now);
        }
    }

    pub fn bearer(&mut self, token: &str, now: Instant) -> Bearer {
        if let Some(issued) = self.tokens.get(token) {
            return if now < issued.expires {
                Bearer::Exchanged(issued.seat)
            } else {
                Bearer::Expired
            };
        }
        if token.starts_with("ghp_") || token.starts_with("github_pat_") {
            return Bearer::Personal;
        }
        self.seat_of(token).map_or(Bearer::Unknown, Bearer::Direct)
    }

    /// The next planned fault for an endpoint, one use of it spent.
    pub fn planned(&mut self, endpoint: &str) -> Option<What> {
        let at = self
            .faults
            .iter()
            .position(|fault| fault.endpoint == endpoint || fault.endpoint == "*")?;
        let fault = self.faults.get_mut(at)?;
        let what = fault.what.clone();
        fault.times = fault.times.saturating_sub(1);
        if fault.times == 0 {
            self.faults.remove(at);
        }
        Some(what)
    }

    pub fn plan_fault(&mut self, fault: Planned) {
        if fault.times > 0 {
            self.faults.push(fault);
        }
    }

    /// Whether this is the first time that something with this mark happens.
    pub fn first_time(&mut self, mark: u64) -> bool {
        self.happened.insert(mark)
    }

    /// How much of a prompt, given as the sizes and marks of its parts, was seen before.
    pub fn seen(&mut self, parts: &[(u64, u64)]) -> Seen {
        self.prefixes.look_up(parts)
    }
}

/// Whether a GitHub token is one of the simulator's own.
fn is_issued(token: &str) -> bool {
    token.starts_with("ghu_simulator") || token.starts_with("gho_simulator")
}

/// A GitHub token for the client that asks.
pub fn issue_github_token(client: &str) -> String {
    let kind = if client.starts_with("Iv") { "ghu" } else { "gho" };
    let app = if client == OPENCODE { "Opencode" } else { "" };
    format!("{kind}_simulator{app}{}", seals::fresh_hex(24))
}

/// opencode's client id: its tokens are no good for the exchange.
pub const OPENCODE: &str = "Ov23li8tweQw6odWQebz";

/// Whether a token may be exchanged for a Copilot token.
pub fn may_exchange(token: &str) -> bool {
    !token.starts_with("gho_simulatorOpencode")
}

/// Prefixes of prompts seen lately, by mark.
#[derive(Default)]
struct Prefixes {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Prefixes {
    const KEPT: usize = 20_000;

    fn look_up(&mut self, parts: &[(u64, u64)]) -> Seen {
        let mut seen = Seen::default();
        let mut mark = 0;
        let mut unbroken = true;
        for &(size, part) in parts {
            mark = seals::mix(mark ^ part).wrapping_add(1);
            unbroken &= self.known.contains(&mark);
            if unbroken {
                seen.cached += size;
                continue;
            }
            seen.new += size;
            if self.known.insert(mark) {
                self.order.push_back(mark);
            }
        }
        while self.order.len() > Self::KEPT {
            if let Some(old) = self.order.pop_front() {
                self.known.remove(&old);
            }
        }
        seen
    }
}

impl Memory {
    /// The numbers for `/_sim/stats`.
    pub fn stats(&self) -> Value {
        let quota: Vec<Value> = self
            .seats
            .iter()
            .map(|seat| json!({"login": seat.login, "premium_remaining": seat.premium.remaining}))
            .collect();
        json!({"exchanges": self.exchanges, "polls": self.polls, "seats": quota, "tokens": self.tokens.len()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires() {
        let mut memory = Memory::new(Settings {
            token_lifetime: Duration::from_secs(10),
            ..Settings::default()
        });
        let now = Instant::now();
        let seat = memory.seat_of(super::super::DEMO_GITHUB_TOKEN).unwrap();
        let answer = memory.exchange(seat, "http://sim", 1000, now);
        let token = answer["token"].as_str().unwrap().to_owned();
        assert_eq!(answer["expires_at"], 1010);
        assert_eq!(answer["endpoints"]["api"], "http://sim");
        assert_eq!(memory.bearer(&token, now), Bearer::Exchanged(0));
        assert_eq!(memory.bearer(&token, now + Duration::from_secs(10)), Bearer::Expired);
        memory.expire_tokens(now);
        assert_eq!(memory.bearer(&token, now), Bearer::Expired);
        assert_eq!(memory.bearer("ghp_x", now), Bearer::Personal);
        assert_eq!(memory.bearer("tid=1:2", now), Bearer::Unknown);
    }

    #[test]
    fn a_reset_brings_back_the_first_settings() {
        let state = State::new(Settings::default());
        let first = state.memory().settings.plan.clone();
        state.memory().settings.plan = "free".into();
        state.reset();
        assert_eq!(state.memory().settings.plan, first);
    }

    #[test]
    fn a_planned_fault_is_spent() {
        let mut memory = Memory::new(Settings::default());
        let fault = json!({"endpoint": "chat", "fault": "cut", "times": 2});
        memory.plan_fault(Planned::read(&fault).unwrap());
        assert!(memory.planned("models").is_none());
        assert!(memory.planned("chat").is_some() && memory.planned("chat").is_some());
        assert!(memory.planned("chat").is_none());
    }

    #[test]
    fn a_repeated_prefix_is_cached() {
        let mut prefixes = Prefixes::default();
        assert_eq!(prefixes.look_up(&[(10, 1), (5, 2)]), Seen { cached: 0, new: 15 });
        assert_eq!(
            prefixes.look_up(&[(10, 1), (5, 2), (7, 3)]),
            Seen { cached: 15, new: 7 }
        );
        assert_eq!(prefixes.look_up(&[(11, 9), (5, 2)]), Seen { cached: 0, new: 16 });
    }
}
