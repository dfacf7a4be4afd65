//! Settings in, running proxy out.
