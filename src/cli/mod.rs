//! The commands: one file each. No protocol details.
