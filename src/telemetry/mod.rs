//! Log setup.
