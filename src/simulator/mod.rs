//! A Copilot of our own: GitHub sign-in, catalogue, quota and models, strict as the real ones. Imports only `protocol`.
