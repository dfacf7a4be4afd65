//! How much may be held whole at once, by all requests together. Knows nothing of what is held.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for so many bytes.
#[derive(Debug)]
pub struct Room {
    size: usize,
    taken: AtomicUsize,
}

/// What one holder has taken of it; dropping it gives that back.
#[derive(Debug)]
pub struct Share<'a> {
    room: &'a Room,
    held: usize,
}

/// So much needs no room: ordinary requests pass while huge ones stand in each other's way.
const SMALL: usize = 1 << 20;

impl Room {
    pub const fn of(size: usize) -> Self {
        Self {
            size,
            taken: AtomicUsize::new(0),
        }
    }

    pub fn share(&self) -> Share<'_> {
        Share { room: self, held: 0 }
    }
}

impl Share<'_> {
    /// Takes what it lacks to hold so many bytes; false where there is no room. Whoever is alone may hold anything.
    #[must_use]
    pub fn holds(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(SMALL).saturating_sub(self.held);
        if more == 0 {
            return true;
        }
        let take = |taken: usize| {
            let wanted = taken.saturating_add(more);
            (wanted <= self.room.size || taken == self.held).then_some(wanted)
        };
        let took = self.room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if took.is_ok() {
            self.held = self.held.saturating_add(more);
        }
        took.is_ok()
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_shares_and_what_is_small_passes() {
        let room = Room::of(4 * SMALL);
        let (mut one, mut other, mut small) = (room.share(), room.share(), room.share());
        assert!(one.holds(2 * SMALL) && one.holds(4 * SMALL) && one.holds(3 * SMALL));
        assert!(other.holds(2 * SMALL));
        assert!(!other.holds(2 * SMALL + 1) && !one.holds(5 * SMALL));
        assert!(small.holds(SMALL));
        drop(one);
        assert!(other.holds(5 * SMALL));
        assert!(other.holds(usize::MAX / 2), "alone");
        drop(other);
        drop(small);
        assert_eq!(room.taken.into_inner(), 0);
    }
}
