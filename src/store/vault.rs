//! The GitHub token on disk: one private file of bare text. Knows files and their modes; not whose token it is, nor
//! whether it works.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// Longer texts are no token.
const LONGEST: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the GitHub token in {path}")]
    Read { path: String, source: io::Error },
    #[error("the GitHub token in {path} is damaged: {why}")]
    Damaged { path: String, why: &'static str },
    #[error("a directory stands in place of the GitHub token {path}")]
    Directory { path: String },
    #[error("cannot write into the data directory {path}")]
    Write { path: String, source: io::Error },
}

impl Error {
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "make the file readable, or choose another --data-dir".into(),
            Self::Damaged { .. } => "sign in again with `copilot-proxy auth`".into(),
            Self::Directory { .. } => "remove it, or choose another --data-dir".into(),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room on its disk, or choose another with --data-dir or COPILOT_PROXY_DATA_DIR".into()
            }
            Self::Write { .. } => {
                "make it writable, or choose another with --data-dir or COPILOT_PROXY_DATA_DIR".into()
            }
        }
    }
}

/// One directory that holds one token.
#[derive(Clone, Debug)]
pub struct Vault {
    dir: PathBuf,
}

impl Vault {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join("github_token")
    }

    /// The stored token, if there is one.
    pub fn read(&self) -> Result<Option<Secret>, Error> {
        read(&self.path())
    }

    /// Makes sure that a token could be stored, so that nobody signs in for nothing.
    pub fn prepare(&self) -> Result<(), Error> {
        if self.path().is_dir() {
            return Err(directory(&self.path()));
        }
        // A full disk still takes an empty file.
        let stored = || self.draft()?.write_all(&[b' '; LONGEST]);
        stored().map_err(|source| self.cannot_write(source))
    }

    /// Stores a token in place of the one before. Whoever reads meanwhile finds the old or the new, never half of one.
    pub fn write(&self, token: &Secret) -> Result<(), Error> {
        let stored = || -> io::Result<()> {
            let mut draft = self.draft()?;
            writeln!(draft, "{}", token.expose())?;
            draft.as_file().sync_all()?;
            draft.persist(self.path())?;
            sync_dir(&self.dir)
        };
        stored().map_err(|source| self.cannot_write(source))
    }

    /// An empty private file beside the real one; it vanishes unless it is persisted.
    fn draft(&self) -> io::Result<tempfile::NamedTempFile> {
        create_private_dir(&self.dir)?;
        // Readable by its owner alone from the first byte on.
        tempfile::Builder::new().prefix(".github_token-").tempfile_in(&self.dir)
    }

    fn cannot_write(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.dir.display().to_string(),
            source,
        }
    }
}

/// Reads the token in any file of the same form.
pub fn read(path: &Path) -> Result<Option<Secret>, Error> {
    let shown = || path.display().to_string();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) if path.is_dir() => return Err(directory(path)),
        Err(source) => return Err(Error::Read { path: shown(), source }),
    };
    let damaged = |why| Err(Error::Damaged { path: shown(), why });
    match std::str::from_utf8(&bytes).map(str::trim) {
        Ok("") => damaged("it is empty"),
        Ok(token) if token.len() <= LONGEST && token.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(Some(Secret::new(token)))
        }
        _ => damaged("it holds something else"),
    }
}

fn directory(path: &Path) -> Error {
    Error::Directory {
        path: path.display().to_string(),
    }
}

fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Makes a rename last through a power cut.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(dir: &Path) -> Vec<String> {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path().join("a/b"));
        assert!(vault.read().unwrap().is_none());
        vault.prepare().unwrap();
        for token in ["ghu_1", "ghu_2"] {
            vault.write(&Secret::new(token)).unwrap();
            assert_eq!(vault.read().unwrap().unwrap().expose(), token);
        }
        assert_eq!(names_in(&dir.path().join("a/b")), ["github_token"]);
        assert_eq!(fs::read_to_string(vault.path()).unwrap(), "ghu_2\n");
    }

    #[cfg(unix)]
    #[test]
    fn file_and_directory_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path().join("data"));
        vault.write(&Secret::new("ghu_1")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&vault.path()), mode(&dir.path().join("data"))), (0o600, 0o700));
    }

    #[test]
    fn a_damaged_file_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path());
        for text in [&b"\n"[..], b"{\"token\": 1}", b"two words", b"\xff\xfe", &[b'x'; 5000]] {
            fs::write(vault.path(), text).unwrap();
            let error = vault.read().unwrap_err();
            assert!(error.to_string().contains("github_token is damaged"), "{error}");
            assert!(error.hint().contains("copilot-proxy auth"));
        }
        fs::write(vault.path(), "  ghu_1\r\n").unwrap();
        assert_eq!(vault.read().unwrap().unwrap().expose(), "ghu_1");
    }

    #[test]
    fn a_directory_in_place_of_the_file_is_said_before_anybody_signs_in() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path());
        fs::create_dir(vault.path()).unwrap();
        for error in [vault.prepare().unwrap_err(), vault.read().unwrap_err()] {
            assert!(error.to_string().starts_with("a directory stands in place"), "{error}");
            assert!(error.hint().starts_with("remove it"));
        }
    }

    #[test]
    fn a_directory_that_cannot_be_is_an_error_with_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Vault::new(file.path().join("data")).prepare().unwrap_err();
        assert!(
            error.to_string().starts_with("cannot write into the data directory /"),
            "{error}"
        );
        assert!(error.hint().contains("--data-dir"));
    }

    #[test]
    fn a_full_disk_wants_room() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(Vault::new("data").cannot_write(full).hint().starts_with("make room"));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(
            Vault::new("data")
                .cannot_write(denied)
                .hint()
                .starts_with("make it writable")
        );
    }
}
