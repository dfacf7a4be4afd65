//! `start`: settings, a token, the server, and what a person needs to know once it is ready.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::oneshot;

use super::args::Start;
use super::banner::Banner;
use super::health::reachable;
use super::{
    Error, INTERRUPTED, Outcome, Surroundings, block_on, claude_code, print, sign_in, simulator, tell, terminal,
    told_to_stop,
};
use crate::actors::catalog::GetCatalog;
use crate::actors::token::GetCredential;
use crate::config::{Environment, Settings};
use crate::protocol::catalog::Kind;
use crate::secret::Secret;
use crate::server::{self, Options, Report, Running};
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
    let signing_in = token(start, surroundings, &mut settings);
    let github_token = tokio::select! {
        // Signing in may begin with a question, which Ctrl-C must still end: signals are listened to only afterwards.
        biased;
        token = signing_in => token?,
        () = told_to_stop() => {
            tell("given up");
            return Ok(ExitCode::from(INTERRUPTED));
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
        () = told_to_stop() => {
            actix_web::rt::spawn(running.handle().stop(true));
            return leave(running).await;
        }
    };
    let banner = Banner {
        url: &url,
        report: &report,
        keyed: key.is_some(),
        simulated: start.simulator,
    };
    print(&banner.text())?;
    if start.show_token {
        show_credential(&running).await;
    }
    let _copied = if start.claude_code {
        let models = talkers(&running, report).await;
        let Some(copied) = set_up_claude_code(start, surroundings, &url, key.as_ref(), models).await? else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        Some(copied)
    } else {
        None
    };
    leave(running).await
}

/// Serves until the process is told to stop, and what was begun is finished.
async fn leave(running: Running) -> Outcome {
    let ended = running.wait().await;
    terminal::restore();
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Error::new("the server broke off").because(&error)),
    }
}

/// The token to run with. With `--simulator` neither the network nor a stored token is touched.
async fn token(start: &Start, surroundings: &Surroundings, settings: &mut Settings) -> Result<Secret, Error> {
    if start.simulator {
        return simulator::take_over(settings).await;
    }
    let github = GitHub::new(&Setup::new(settings.upstream.clone())?);
    sign_in::any(surroundings, settings.github_token.as_ref(), &github).await
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

/// Asks for models beside the running server, and hands out the command. `None`: the person left.
async fn set_up_claude_code(
    start: &Start,
    surroundings: &Surroundings,
    url: &str,
    key: Option<&Secret>,
    models: Vec<String>,
) -> Result<Option<claude_code::HandedOut>, Error> {
    let wishes = claude_code::Wishes {
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
        // Listening comes first: unheard, a signal would end the process with the terminal as the list has it.
        biased;
        () = told_to_stop() => None,
        chosen = chosen => chosen.map_err(|error| Error::new("the list of models broke").because(&error))??,
    };
    terminal::restore();
    match chosen {
        Some(chosen) => claude_code::hand_out(url, key, &chosen, &surroundings.environment).map(Some),
        None => {
            claude_code::clear_up();
            Ok(None)
        }
    }
}
