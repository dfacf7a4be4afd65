//! New ids, in order, from one seed: the same seed gives the same ids. Knows no randomness.

use sha2::{Digest, Sha256};

/// Mints the ids of one answer.
#[derive(Clone, Debug)]
pub struct Ids {
    seed: String,
    minted: u64,
    /// Seconds since the epoch at which the answer began, for `created` fields.
    pub created: u64,
    /// The id of the client's request, for error events.
    pub request: String,
}

impl Ids {
    pub fn new(seed: impl Into<String>, created: u64) -> Self {
        let seed = seed.into();
        Self {
            request: seed.clone(),
            seed,
            minted: 0,
            created,
        }
    }

    /// A new id: the prefix and 32 hex digits.
    pub fn mint(&mut self, prefix: &str) -> String {
        hex(prefix, &self.digest()[..16])
    }

    /// A new id for a call, in the form that model makers give theirs: the prefix and 24 letters and digits.
    pub fn mint_call(&mut self, prefix: &str) -> String {
        const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let letters = self.digest().into_iter().take(24);
        let letters = letters.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
        prefix.chars().chain(letters).collect()
    }

    fn digest(&mut self) -> [u8; 32] {
        self.minted += 1;
        let digest = Sha256::new()
            .chain_update(&self.seed)
            .chain_update(self.minted.to_be_bytes());
        digest.finalize().into()
    }
}

/// A prefix and the hex digits of some bytes.
pub fn hex(prefix: &str, bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(prefix.len() + 2 * bytes.len());
    text.push_str(prefix);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_repeat_with_their_seed() {
        let (mut one, mut two) = (Ids::new("req_1", 0), Ids::new("req_1", 0));
        let first = one.mint("msg_");
        assert_eq!(first, two.mint("msg_"));
        assert_ne!(first, one.mint("msg_"));
        assert_eq!(first.len(), 36);
        let call = one.mint_call("call_");
        assert_eq!(call.len(), 29);
        assert!(
            call["call_".len()..]
                .bytes()
                .all(|letter| letter.is_ascii_alphanumeric())
        );
    }
}
