# Builds copilot-proxy and puts it alone, as a user without rights, on a small base. No secret is ever an argument of the
# build: arguments stay readable in the image's history. Sign in at run time, by GH_TOKEN or in the volume.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
# The dependencies first, behind an empty program: they are built again only when their list changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/relay \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && for bench in translate.rs sse.rs relay/main.rs; do echo 'fn main() {}' > "benches/$bench"; done \
    && cargo build --release --locked \
    && rm -r src benches
COPY . .
# The copy may be older than the empty program's build.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:12.12-slim
# Certificates for GitHub are compiled in; those of the system are read where a company adds its own.
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin proxy \
    && install -d -o proxy -g proxy -m 700 /data
COPY --from=build /src/target/release/copilot-proxy /usr/local/bin/copilot-proxy
USER 10001
ENV COPILOT_PROXY_DATA_DIR=/data \
    COPILOT_PROXY_SERVER__HOST=0.0.0.0 \
    COPILOT_PROXY_SERVER__PORT=4399
VOLUME /data
EXPOSE 4399
# Asks the address of the same settings that the server reads.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["copilot-proxy", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["copilot-proxy"]
CMD ["start"]
