# The image runs the wheel, which is what the tests test. Nothing is installed that a lock does not name by hash.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
# `--build-arg LOCK=requirements-otel.lock` for an image that can send traces.
ARG LOCK=requirements.lock
WORKDIR /src
COPY requirements.lock requirements-otel.lock requirements-build.lock ./
RUN python -m venv /opt/connector-proxy \
 && /opt/connector-proxy/bin/python -m pip install --require-hashes --no-deps -r "${LOCK}"
RUN python -m venv /build \
 && /build/bin/python -m pip install --require-hashes --no-deps -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY config config
RUN /build/bin/python -m build --wheel --no-isolation --outdir /dist \
 && /opt/connector-proxy/bin/python -m pip install --no-deps --no-index /dist/*.whl \
 && /opt/connector-proxy/bin/python -m pip uninstall --yes pip

FROM python:${PYTHON}-slim
RUN groupadd --system --gid 10001 connector-proxy \
 && useradd --system --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin connector-proxy \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/connector-proxy /opt/connector-proxy
# The data plane answers on all addresses of the container; the control plane stays on its loopback until
# CONNECTOR_PROXY_CONTROL__LISTEN says otherwise. `docker exec ... connector-proxy keys create` works meanwhile.
# No VOLUME: an anonymous one would hide that nobody mounted /data, and its master key would go with the container.
ENV PATH=/opt/connector-proxy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CONNECTOR_PROXY_DATA_DIR=/data \
    CONNECTOR_PROXY_DATA__LISTEN='["0.0.0.0:8080"]' \
    CONNECTOR_PROXY_STORAGE__REQUIRE_MOUNT=true
USER 10001:10001
WORKDIR /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8080/-/health', timeout=3)"]
ENTRYPOINT ["connector-proxy"]
CMD ["serve"]
