# The worker, the API and the migrations: one image, told apart by the command.
# The embedded PostgreSQL and broker are left out; name real ones in RELAY_DATABASE__URL and RELAY_KAFKA__BOOTSTRAP.

FROM python:3.13-slim AS build
WORKDIR /src
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON=/opt/relay/bin/python
COPY requirements.lock requirements-dev.lock ./
# uv is in the lock like everything else, so it is checked by its hash, too.
RUN awk '/^[^ ]/ { in_uv = /^uv==/ } in_uv' requirements-dev.lock > uv.lock \
    && pip install --no-cache-dir --no-deps --require-hashes -r uv.lock \
    && python -m venv --without-pip /opt/relay \
    && uv pip install --compile-bytecode --require-hashes -r requirements.lock
COPY LICENSE README.md pyproject.toml ./
COPY relay relay
RUN uv pip install --compile-bytecode --no-deps --build-constraints requirements-dev.lock --require-build-hashes .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="relay" \
      org.opencontainers.image.licenses="Apache-2.0"
# /keys is for a volume with a master key file, readable by this user only.
RUN groupadd --gid 10001 relay \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin relay \
    && install -d -o relay -g relay -m 0700 /keys
COPY --from=build /opt/relay /opt/relay
ENV PATH=/opt/relay/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RELAY_HTTP__HOST=0.0.0.0
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["relay"]
CMD ["--help"]
