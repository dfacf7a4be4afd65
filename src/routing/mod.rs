//! Which way to go. Pure: the catalogue, the request's needs and the user's overrides in, a plan out.
