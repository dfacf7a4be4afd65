//! The disk: blocking, small, no actors.
