# Posthorn's image: one static binary, a user without rights, and nothing else.
#
#     docker build --build-arg VERSION="$(git describe --tags --always --dirty)" --tag posthorn/posthorn .
#
# It runs on a read-only root file system without capabilities. The configuration
# is /etc/posthorn/posthorn.yaml (or .toml, .json); plugins belong in /plugins and
# need a /tmp that can be written, for their sockets: docs/container.md.
ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=scratch

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
# The compiler's cache goes with the step: no later one needs it.
RUN CGO_ENABLED=0 GOCACHE=/tmp/go-build go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" \
        -o /root-fs/usr/local/bin/posthorn ./cmd/posthorn && \
    rm -rf /tmp/go-build && \
    mkdir -p /root-fs/etc/posthorn /root-fs/etc/ssl/certs /root-fs/plugins && \
    mkdir -m 1777 /root-fs/tmp && \
    cp /etc/ssl/certs/ca-certificates.crt /root-fs/etc/ssl/certs/

FROM ${BASE_IMAGE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Posthorn" \
      org.opencontainers.image.description="Transactional-outbox relay for Postgres: signed webhooks, exactly when the transaction commits" \
      org.opencontainers.image.source="https://github.com/posthorn/posthorn" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /root-fs/ /
COPY LICENSE /licenses/LICENSE
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080
# A relay that waits for Postgres or for the slot is healthy.
HEALTHCHECK --interval=5s --timeout=4s --start-period=5s CMD ["posthorn", "health"]
ENTRYPOINT ["posthorn"]
CMD ["run"]
