//! `auth`: sign in, or take a token from standard input, and store it.

use std::io::Read;
use std::process::ExitCode;

use super::args::Auth;
use super::{Error, INTERRUPTED, Outcome, Surroundings, block_on, listen, print, sign_in, tell};
use crate::config::Environment;
use crate::secret::Secret;
use crate::upstream::github::unusable_token;
use crate::upstream::{GitHub, Setup};

pub fn run(auth: &Auth, environment: Environment) -> Outcome {
    let surroundings = Surroundings::new(&auth.place, auth.flags(), environment)?;
    let settings = surroundings.load_without_listening()?.settings;
    let given = if auth.token_stdin {
        Some(token_from(std::io::stdin())?)
    } else {
        None
    };
    let setup = Setup::new(settings.upstream)?;
    block_on(async {
        let mut signals = listen()?;
        let github = GitHub::new(&setup);
        let work = async {
            match given {
                Some(token) => store(&surroundings, &github, token).await,
                None => {
                    let token = sign_in::sign_in(&surroundings, &github).await?;
                    let login = sign_in::examine(&github, &token).await?;
                    Ok((token, login))
                }
            }
        };
        tokio::select! {
            done = work => {
                let (token, login) = done?;
                tell(&format!("signed in as {login}; the token is in {}", surroundings.vault().path().display()));
                if auth.show_token { print(&format!("{}\n", token.expose())) } else { Ok(ExitCode::SUCCESS) }
            }
            () = signals.stop() => {
                tell("given up");
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    })
}

async fn store(surroundings: &Surroundings, github: &GitHub, token: Secret) -> Result<(Secret, String), Error> {
    surroundings.vault().prepare()?;
    let login = sign_in::examine(github, &token).await?;
    surroundings.vault().write(&token)?;
    Ok((token, login))
}

/// A token is one short line; more than that is some other file.
fn token_from(input: impl Read) -> Result<Secret, Error> {
    let mut text = String::new();
    if let Err(error) = input.take(64 * 1024).read_to_string(&mut text) {
        return Err(Error::new("cannot read a token from standard input").because(&error));
    }
    let token = text.trim();
    if token.is_empty() {
        return Err(Error::new("no token came by standard input")
            .hint("pipe one in, as in `copilot-proxy auth --token-stdin < FILE`"));
    }
    if !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(
            Error::new("what came by standard input is no GitHub token").hint("it must be one word, such as ghu_…")
        );
    }
    match unusable_token(token) {
        Some(why) => Err(Error::new(format!("the token from standard input is refused: {why}"))
            .hint("run `copilot-proxy auth` to sign in and get a token that works")),
        None => Ok(Secret::new(token)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_trimmed() {
        assert_eq!(token_from(&b" ghu_1\r\n"[..]).unwrap().expose(), "ghu_1");
    }

    #[test]
    fn what_is_no_token_is_said_without_repeating_it() {
        for (input, why) in [
            (&b"\n"[..], "no token came"),
            (b"two words", "is no GitHub token"),
            (b"\xff", "cannot read a token"),
            (b"ghp_secret", "classic personal access token"),
            (b"github_pat_secret", "fine-grained personal access token"),
        ] {
            let error = token_from(input).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
    }
}
