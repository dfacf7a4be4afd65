//! `simulator`: GitHub and Copilot played on one port; and the same inside `start --simulator`.

use std::process::ExitCode;

use super::args::Simulator;
use super::{Error, Outcome, Surroundings, block_on, listen, print};
use crate::config::{Environment, Settings};
use crate::secret::Secret;
use crate::simulator::{self, DEMO_GITHUB_TOKEN};

const PORT: u16 = 4400;

pub fn run(arguments: &Simulator, environment: Environment) -> Outcome {
    let surroundings = Surroundings::new(&arguments.place, arguments.flags(), environment)?;
    let settings = surroundings.load_without_listening()?.settings;
    let host = arguments.host.clone().unwrap_or_else(|| "127.0.0.1".into());
    block_on(async {
        let mut signals = listen()?;
        let url = play(&settings, host, arguments.port.unwrap_or(PORT)).await?;
        print(&instructions(&url))?;
        signals.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Starts the simulator; comes back with the address at which it plays all three of GitHub, its API and Copilot.
async fn play(settings: &Settings, host: String, port: u16) -> Result<String, Error> {
    let place = format!("{host}:{port}");
    let options = simulator::Settings {
        host,
        port,
        ..settings.simulator.clone()
    };
    match simulator::start(options).await {
        Ok(running) => Ok(running.url),
        Err(error) => Err(Error::new(format!("the simulator cannot listen on {place}"))
            .because(&error)
            .hint("another program may use that port; choose one with --port")),
    }
}

/// Makes settings speak to a simulator of their own, and to nobody else. Comes back with the token it takes.
pub async fn take_over(settings: &mut Settings) -> Result<Secret, Error> {
    let url = play(settings, "127.0.0.1".into(), 0).await?;
    let upstream = &mut settings.upstream;
    upstream.github_url = url.clone();
    upstream.github_api_url = url.clone();
    upstream.copilot_url = Some(url);
    upstream.proxy = None;
    upstream.extra_ca_file = None;
    Ok(Secret::new(DEMO_GITHUB_TOKEN))
}

fn instructions(url: &str) -> String {
    format!(
        "The simulator plays GitHub, its API and Copilot on {url}\n\n\
         A client's own settings should name that address for all three. For copilot-proxy:\n\
         \x20 COPILOT_PROXY_UPSTREAM__GITHUB_URL={url} \\\n\
         \x20 COPILOT_PROXY_UPSTREAM__GITHUB_API_URL={url} \\\n\
         \x20 COPILOT_PROXY_UPSTREAM__COPILOT_URL={url} \\\n\
         \x20 GH_TOKEN={DEMO_GITHUB_TOKEN} copilot-proxy start\n\n\
         A device login is confirmed by itself after a few polls. Ctrl-C stops.\n"
    )
}
