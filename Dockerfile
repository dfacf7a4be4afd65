# Builds copilot-proxy and puts it alone, as a user without rights, on a small base. No secret is ever an argument of the
# build: arguments stay readable in the image's history. Sign in at run time, by GH_TOKEN or in the volume.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
# The dependencies first, behind an empty program without benches: they are built again only when their list changes.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^\[\[bench/,/^harness/d' Cargo.toml \
    && mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked \
    && rm -r src
COPY . .
# The copy may be older than the empty program's build.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:12.12-slim
# Certificates for GitHub are compiled in; those of the system are read where a company adds its own.
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin copilot-proxy \
    && install -d -o copilot-proxy -g copilot-proxy -m 700 /data
COPY --from=build /src/target/release/copilot-proxy /usr/local/bin/copilot-proxy
USER 10001:10001
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
