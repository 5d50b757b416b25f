# Posthorn's image: one static binary, a user without rights, and nothing else.
#
#     docker build --build-arg VERSION="$(git describe --tags --always --dirty)" --tag posthorn/posthorn .
#
# docs/container.md tells how to run it and where plugins go.
ARG GO_IMAGE=golang:1.26
# Another base keeps its own authorities and files.
ARG BASE_IMAGE=nothing

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
# The compiler's cache goes with the step: no later one needs it.
RUN CGO_ENABLED=0 GOCACHE=/tmp/go-build go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" \
        -o /posthorn ./cmd/posthorn && \
    rm -rf /tmp/go-build && \
    mkdir -p /nothing/etc/ssl/certs && \
    cp /etc/ssl/certs/ca-certificates.crt /nothing/etc/ssl/certs/ && \
    mkdir -m 1777 /nothing/tmp

FROM scratch AS nothing
COPY --from=build /nothing/ /

FROM ${BASE_IMAGE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Posthorn" \
      org.opencontainers.image.description="Transactional-outbox relay for Postgres: signed webhooks, exactly when the transaction commits" \
      org.opencontainers.image.source="https://github.com/posthorn/posthorn" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /posthorn /usr/local/bin/posthorn
COPY LICENSE /licenses/posthorn/LICENSE
# Plugins are put here.
WORKDIR /plugins
# posthorn.yaml is looked for here.
WORKDIR /etc/posthorn
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080
# A relay that waits for Postgres or for the slot is healthy.
HEALTHCHECK --interval=5s --timeout=4s --start-period=5s CMD ["/usr/local/bin/posthorn", "health"]
ENTRYPOINT ["/usr/local/bin/posthorn"]
CMD ["run"]
