# syntax=docker/dockerfile:1
FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake libssl-dev pkg-config && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package suture && cp target/release/suture /suture

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libssl3 && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 suture && useradd --uid 10001 --gid 10001 --home /var/lib/suture --create-home --shell /usr/sbin/nologin suture
COPY --from=build /suture /usr/local/bin/suture
COPY pipelines /etc/suture/pipelines
COPY deploy/compose /etc/suture/compose
# by number, so that a cluster can tell that it is not root; nothing is written but to a state folder that a pipeline names, so
# that the root may be read-only
USER 10001:10001
WORKDIR /var/lib/suture
# SIGTERM finishes the batch, commits and leaves the group
STOPSIGNAL SIGTERM
ENTRYPOINT ["suture"]
CMD ["--help"]
