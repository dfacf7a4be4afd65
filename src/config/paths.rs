//! Where this program keeps its files, on each platform. Reads and writes none of them.

use std::path::PathBuf;

use super::{Environment, Error};

/// The directory of this program's data, and who chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    pub path: PathBuf,
    pub origin: &'static str,
}

impl DataDir {
    /// `--data-dir`, else `COPILOT_PROXY_DATA_DIR`, else `$XDG_DATA_HOME/copilot-proxy`, else `~/.local/share/copilot-proxy`.
    pub fn choose(flag: Option<PathBuf>, environment: &Environment) -> Result<Self, Error> {
        if let Some(path) = flag.filter(|path| !path.as_os_str().is_empty()) {
            return Ok(Self {
                path,
                origin: "--data-dir",
            });
        }
        if let Some(path) = environment.get("COPILOT_PROXY_DATA_DIR") {
            return Ok(Self {
                path: path.into(),
                origin: "COPILOT_PROXY_DATA_DIR",
            });
        }
        let base = |path: PathBuf| path.join("copilot-proxy");
        match environment
            .get("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
        {
            Some(xdg) => Ok(Self {
                path: base(xdg),
                origin: "XDG_DATA_HOME",
            }),
            None => Ok(Self {
                path: base(share(environment).ok_or(Error::NoHome)?),
                origin: "default",
            }),
        }
    }
}

/// Where copilot-api, whose users may come over, keeps its GitHub token.
pub fn seed_token_file(environment: &Environment) -> Option<PathBuf> {
    Some(share(environment)?.join("copilot-api").join("github_token"))
}

/// The same place under the home directory on every platform, so that instructions hold everywhere.
fn share(environment: &Environment) -> Option<PathBuf> {
    Some(home(environment)?.join(".local").join("share"))
}

fn home(environment: &Environment) -> Option<PathBuf> {
    let named = ["HOME", "USERPROFILE"]
        .into_iter()
        .find_map(|name| environment.get(name))
        .map(PathBuf::from);
    named.or_else(|| etcetera::home_dir().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(flag: Option<&str>, variables: &[(&str, &str)]) -> (String, &'static str) {
        let dir = DataDir::choose(flag.map(PathBuf::from), &variables.iter().copied().collect()).unwrap();
        (dir.path.display().to_string().replace('\\', "/"), dir.origin)
    }

    #[test]
    fn the_data_dir_is_chosen_in_order() {
        let all = [
            ("COPILOT_PROXY_DATA_DIR", "/own"),
            ("XDG_DATA_HOME", "/xdg"),
            ("HOME", "/home/me"),
        ];
        assert_eq!(chosen(Some("/flag"), &all), ("/flag".into(), "--data-dir"));
        assert_eq!(chosen(None, &all), ("/own".into(), "COPILOT_PROXY_DATA_DIR"));
        assert_eq!(chosen(None, &all[1..]), ("/xdg/copilot-proxy".into(), "XDG_DATA_HOME"));
        let home = ("/home/me/.local/share/copilot-proxy".into(), "default");
        assert_eq!(chosen(None, &all[2..]), home);
        let empty = [
            ("COPILOT_PROXY_DATA_DIR", ""),
            ("XDG_DATA_HOME", "relative"),
            ("HOME", "/home/me"),
        ];
        assert_eq!(chosen(None, &empty), home);
    }
}
