//! `start`: settings, a token, the server, and what a person needs to know once it is ready.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::oneshot;

use super::args::Start;
use super::banner::Banner;
use super::claude_code::{Chosen, Wishes};
use super::health::reachable;
use super::shell::Shell;
use super::{
    Error, INTERRUPTED, Outcome, Surroundings, block_on, claude_code, listen, print, sign_in, simulator, tell, terminal,
};
use crate::actors::catalog::GetCatalog;
use crate::actors::token::GetCredential;
use crate::config::{Environment, Settings};
use crate::protocol::catalog::Kind;
use crate::server::{self, Ending, Options, Report, Running, Signals};
use crate::upstream::{GitHub, Setup};

/// The longest wait for account and models before the proxy is announced without them.
const PATIENCE: Duration = Duration::from_secs(15);

pub fn run(start: &Start, environment: Environment) -> Outcome {
    let surroundings = Surroundings::new(&start.place, start.flags(), environment)?;
    let settings = surroundings.load()?.settings;
    claude_code::refuse_without_answers(start, is_interactive())?;
    block_on(serve(start, &surroundings, settings))
}

fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

async fn serve(start: &Start, surroundings: &Surroundings, mut settings: Settings) -> Outcome {
    server::check_address(&settings.server)?;
    // Looking for a token may ask a question, which Ctrl-C must still end: signals are listened to only afterwards.
    let known = match start.simulator {
        true => None,
        false => sign_in::existing(surroundings, settings.github_token.as_ref())?,
    };
    let mut signals = listen()?;
    let github_token = match (known, start.simulator) {
        (Some(token), _) => token,
        (None, true) => simulator::take_over(&mut settings).await?,
        (None, false) => {
            let github = GitHub::new(&Setup::new(settings.upstream.clone())?);
            tokio::select! {
                token = sign_in::sign_in(surroundings, &github) => token?,
                () = signals.stop() => {
                    tell("given up");
                    return Ok(ExitCode::from(INTERRUPTED));
                }
            }
        }
    };
    if start.show_token {
        tell(&format!("GitHub token: {}", github_token.expose()));
    }
    let key = settings.http.api_key.clone();
    let host = reachable(&settings.server.host);
    let asker = settings.approval.on.then(terminal::asker).flatten();
    let running = server::start(Options {
        settings,
        github_token,
        asker,
    })
    .await?;
    let url = format!("http://{host}:{}", running.address.port());
    let report = tokio::select! {
        report = running.ready(PATIENCE) => report,
        () = signals.stop() => return ended(running.finish(signals).await),
    };
    if let (true, Some(why)) = (report.refused, &report.problem) {
        terminal::restore();
        return Err(Error::new(why).hint("sign in again with `copilot-proxy auth`"));
    }
    let banner = Banner {
        url: &url,
        report: &report,
        keyed: key.is_some(),
        simulated: start.simulator,
        shell: Shell::of_user(&surroundings.environment),
    };
    print(&banner.text())?;
    if start.show_token {
        show_credential(&running).await;
    }
    let _clipboard = if start.claude_code {
        let models = talkers(&running, report).await;
        let Some(chosen) = choose_models(start, models, &mut signals).await? else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        Some(claude_code::hand_out(
            &url,
            key.as_ref(),
            &chosen,
            &surroundings.environment,
        )?)
    } else {
        None
    };
    ended(running.wait(signals).await)
}

fn ended(how: std::io::Result<Ending>) -> Outcome {
    terminal::restore();
    match how {
        Ok(Ending::Drained) => Ok(ExitCode::SUCCESS),
        Ok(Ending::Cut) => Ok(ExitCode::from(INTERRUPTED)),
        Err(error) => Err(Error::new("the server broke off").because(&error)),
    }
}

async fn show_credential(running: &Running) {
    match running.actors.token.send(GetCredential).await {
        Ok(Ok(credential)) => tell(&format!("Copilot token: {}", credential.token.expose())),
        Ok(Err(error)) => tell(&format!("Copilot token: none yet ({error})")),
        Err(_) => {}
    }
}

/// The models on offer that one can talk to.
async fn talkers(running: &Running, report: Report) -> Vec<String> {
    match running.actors.catalog.send(GetCatalog).await {
        Ok(Ok(catalog)) => {
            let talks = |id: &String| catalog.get(id).is_none_or(|model| model.kind == Kind::Chat);
            report.models.into_iter().filter(talks).collect()
        }
        _ => report.models,
    }
}

/// Asks for models beside the running server. `None`: the person left.
async fn choose_models(start: &Start, models: Vec<String>, signals: &mut Signals) -> Result<Option<Chosen>, Error> {
    let wishes = Wishes {
        main: start.model.clone(),
        small: start.small_model.clone(),
    };
    let (answer, chosen) = oneshot::channel();
    // The list waits for keys, which must not keep the actors of this thread waiting; nor must it keep the process from
    // ending, as a thread of the runtime's own would.
    std::thread::spawn(move || {
        let _alone = terminal::keyboard();
        terminal::remember();
        let _ = answer.send(claude_code::choose(wishes, &models));
    });
    let chosen = tokio::select! {
        chosen = chosen => chosen.map_err(|error| Error::new("the list of models broke").because(&error))??,
        () = signals.stop() => None,
    };
    terminal::restore();
    if chosen.is_none() {
        claude_code::clear_up();
    }
    Ok(chosen)
}
