//! The floor against small fake upstreams, each scripted byte by byte.
