//! Getting a GitHub token: the one given, the one stored, or a new one by a code that a person confirms in a browser.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::{Error, Surroundings, tell};
use crate::actors::approval::harmless;
use crate::config::{GivenToken, seed_token_file};
use crate::secret::Secret;
use crate::store::vault;
use crate::upstream::github::{DeviceFlow, DeviceStart, GitHub, Polled, RefusalKind, Step, unusable_token};

/// The token for this run. `None`: there is none yet.
pub fn existing(surroundings: &Surroundings, given: Option<&GivenToken>) -> Result<Option<Secret>, Error> {
    if let Some(given) = given {
        return Ok(Some(given.usable()?.clone()));
    }
    match surroundings.vault().read()? {
        Some(token) => match unusable_token(token.expose()) {
            Some(why) => {
                let what = format!(
                    "the GitHub token in {} is refused: {why}",
                    surroundings.vault().path().display()
                );
                Err(Error::new(what).hint("sign in again with `copilot-proxy auth`"))
            }
            None => Ok(Some(token)),
        },
        None => offer_seed_token(surroundings),
    }
}

/// Signs in and stores the token. Nothing is written before GitHub has given one.
pub async fn sign_in(surroundings: &Surroundings, github: &GitHub) -> Result<Secret, Error> {
    let vault = surroundings.vault();
    vault.prepare()?;
    let started = github.start_device_flow().await?;
    tell(&invitation(&started));
    let token = confirmed(github, &started).await?;
    vault.write(&token)?;
    Ok(token)
}

fn invitation(started: &DeviceStart) -> String {
    format!(
        "\nTo use your Copilot subscription, open\n\n    {}\n\nand enter the code\n\n    {}\n\n\
         Waiting for you to confirm it there (within {} minutes; Ctrl-C gives up)…",
        started.verification_uri,
        started.user_code,
        started.expires_in.div_ceil(60),
    )
}

/// Polls until the person has said yes or no, or the code is too old.
async fn confirmed(github: &GitHub, started: &DeviceStart) -> Result<Secret, Error> {
    let mut flow = DeviceFlow::new(started);
    let began = Instant::now();
    let mut pause = flow.pause();
    loop {
        tokio::time::sleep(pause).await;
        let polled = poll(github, started).await;
        pause = match flow.decide(&polled, began.elapsed()) {
            Step::Wait(pause) => pause,
            Step::SignedIn(token) => return Ok(token),
            Step::Denied => return Err(Error::new("the sign-in was denied at GitHub").hint(AGAIN)),
            Step::Expired => return Err(Error::new("the code expired before it was confirmed").hint(AGAIN)),
            Step::Fatal(why) => return Err(Error::new(why)),
        };
    }
}

const AGAIN: &str = "run `copilot-proxy auth` for a new code";

async fn poll(github: &GitHub, started: &DeviceStart) -> Polled {
    // One poll must not outlast the pace by much.
    match tokio::time::timeout(Duration::from_secs(30), github.poll_device_flow(started)).await {
        Ok(polled) => polled,
        Err(_) => Polled::Nothing,
    }
}

/// Looks a token over before it is stored: whose it is, and whether Copilot takes its kind. What the account may lack is
/// only said, since the account can change and the token stays.
pub async fn examine(github: &GitHub, token: &Secret) -> Result<String, Error> {
    let user = github.user(token).await?;
    if let Err(error) = github.exchange(token).await {
        match error.refusal().map(|refusal| &refusal.kind) {
            Some(RefusalKind::WrongToken | RefusalKind::SignedOut) => return Err(error.into()),
            _ => tell(&format!(
                "warning: Copilot is not usable with it at the moment: {error}"
            )),
        }
    }
    Ok(harmless(&user.login))
}

/// Where only copilot-api has a token, offers to copy it: never silently, and never away from there.
fn offer_seed_token(surroundings: &Surroundings) -> Result<Option<Secret>, Error> {
    let Some(path) = seed_token_file(&surroundings.environment) else {
        return Ok(None);
    };
    // A damaged file of another program is none of our business.
    let Some(token) = vault::read(&path)
        .ok()
        .flatten()
        .filter(|token| unusable_token(token.expose()).is_none())
    else {
        return Ok(None);
    };
    let path = path.display();
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        tell(&format!(
            "note: copilot-api is signed in; to use its token, run: copilot-proxy auth --token-stdin < '{path}'"
        ));
        return Ok(None);
    }
    if !yes(&format!(
        "copilot-api is signed in ({path}). Copy its GitHub token and use it here, too? [y/N] "
    )) {
        return Ok(None);
    }
    surroundings.vault().write(&token)?;
    Ok(Some(token))
}

/// Asks on the terminal; whatever is not a plain yes is a no.
fn yes(question: &str) -> bool {
    let _ = write!(std::io::stderr(), "{question}");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Place;

    fn surroundings(dir: &std::path::Path) -> Surroundings {
        let environment = [("HOME", dir.display().to_string())].into_iter().collect();
        let place = Place {
            config: None,
            data_dir: Some(dir.join("data")),
        };
        Surroundings::new(&place, Vec::new(), environment).unwrap()
    }

    #[test]
    fn the_stored_token_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let surroundings = surroundings(dir.path());
        assert!(existing(&surroundings, None).unwrap().is_none());
        surroundings.vault().write(&Secret::new("ghu_1")).unwrap();
        assert_eq!(existing(&surroundings, None).unwrap().unwrap().expose(), "ghu_1");
    }

    #[test]
    fn a_personal_token_in_the_file_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let surroundings = surroundings(dir.path());
        surroundings.vault().write(&Secret::new("ghp_1")).unwrap();
        let error = existing(&surroundings, None).unwrap_err().to_string();
        assert!(
            error.contains("github_token is refused") && error.contains("personal access token"),
            "{error}"
        );
        assert!(!error.contains("ghp_1"));
    }

    #[test]
    fn code_and_link_stand_on_lines_of_their_own() {
        let started = DeviceStart {
            device_code: Secret::new("d"),
            user_code: "ABCD-1234".into(),
            verification_uri: "https://github.com/login/device".into(),
            expires_in: 899,
            interval: 5,
        };
        let lines: Vec<String> = invitation(&started)
            .lines()
            .map(|line| line.trim().to_owned())
            .collect();
        assert!(lines.contains(&"ABCD-1234".into()) && lines.contains(&"https://github.com/login/device".into()));
    }
}
