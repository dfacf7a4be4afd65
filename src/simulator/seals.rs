//! What the simulator issues and later knows again: signatures of thinking, encrypted reasoning, item ids. Each carries
//! a digest of what it belongs to, so nothing has to be remembered, and nothing that was changed passes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// Bytes of an item id; real ones are about 400 characters long.
const ID_BYTES: usize = 300;

/// A number nobody has had before in this process, well mixed.
pub fn fresh() -> u64 {
    static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    mix(SEED.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// A fresh name of `letters` hexadecimal digits, for ids that carry no meaning.
pub fn fresh_hex(letters: usize) -> String {
    let mut text = String::with_capacity(letters + 16);
    while text.len() < letters {
        text.push_str(&format!("{:016x}", fresh()));
    }
    text.truncate(letters);
    text
}

/// One opaque text that belongs to `owner`: the thinking it signs, or the family that made it.
pub fn seal(kind: &str, owner: &str) -> String {
    let nonce = fresh().to_le_bytes();
    let mut bytes = nonce.to_vec();
    for round in 0..4u8 {
        bytes.extend_from_slice(&digest(kind, owner, &nonce, round));
    }
    STANDARD.encode(bytes)
}

/// Whether `text` is what [`seal`] once gave for this owner.
pub fn is_seal(text: &str, kind: &str, owner: &str) -> bool {
    let Ok(bytes) = STANDARD.decode(text) else {
        return false;
    };
    let Some((nonce, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    let whole: Vec<u8> = (0..4u8).flat_map(|round| digest(kind, owner, nonce, round)).collect();
    rest == whole
}

fn digest(kind: &str, owner: &str, nonce: &[u8; 8], round: u8) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([round]);
    hash.update(nonce);
    hash.update(kind.as_bytes());
    hash.update([0]);
    hash.update(owner.as_bytes());
    hash.finalize().into()
}

/// The id of an item, as one connection sees it: another text at each call.
pub fn item_id(connection: u64) -> String {
    let nonce = fresh();
    let mut bytes = [0u8; ID_BYTES];
    let mut state = nonce;
    for chunk in bytes.chunks_mut(8) {
        state = mix(state);
        let word = state.to_le_bytes();
        chunk.copy_from_slice(word.get(..chunk.len()).unwrap_or(&[]));
    }
    let mark = mix(nonce ^ connection);
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    bytes[8..16].copy_from_slice(&mark.to_le_bytes());
    bytes[16..24].copy_from_slice(&mix(mark).to_le_bytes());
    STANDARD_NO_PAD.encode(bytes)
}

/// What an id tells of where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Issued on the connection that asks.
    Here,
    /// Issued by the simulator on another connection.
    Elsewhere,
    /// Not one of the simulator's.
    Foreign,
}

/// Where an item id comes from.
pub fn origin(id: &str, connection: u64) -> Origin {
    let Some(bytes) = STANDARD_NO_PAD.decode(id).ok().filter(|bytes| bytes.len() == ID_BYTES) else {
        return Origin::Foreign;
    };
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_le_bytes).unwrap_or_default()
    };
    let (nonce, mark) = (word(0), word(8));
    if mix(mark) != word(16) {
        Origin::Foreign
    } else if mix(nonce ^ connection) == mark {
        Origin::Here
    } else {
        Origin::Elsewhere
    }
}

/// The finaliser of SplitMix64.
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_holds_only_for_what_it_was_made_for() {
        let text = seal("thinking", "two and two");
        assert!(is_seal(&text, "thinking", "two and two"));
        assert!(!is_seal(&text, "thinking", "two and three"));
        assert!(!is_seal(&text, "opaque", "two and two"));
        assert!(!is_seal("", "thinking", "") && !is_seal("cpx1.n.e30.", "thinking", ""));
        assert_ne!(text, seal("thinking", "two and two"), "each is made anew");
    }

    #[test]
    fn an_id_knows_its_connection() {
        let (first, second) = (item_id(7), item_id(7));
        assert_ne!(first, second);
        assert_eq!(first.len(), 400);
        assert_eq!(origin(&first, 7), Origin::Here);
        assert_eq!(origin(&first, 8), Origin::Elsewhere);
        assert_eq!(origin("rs_0123456789abcdef", 7), Origin::Foreign);
    }
}
