//! Layers of settings into `Settings`, and where each value came from.
