# The service as an image: docker build -t sip-bridge .
#
# Two stages on one base. The first builds the wheel and installs it, with the exact versions of requirements.lock, into
# /opt/sip-bridge; the second takes that directory and nothing else. It runs as a number, not as root, on a read-only
# root, and writes to /data (the embedded store) and /tmp (Unix sockets) alone.

FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /src

# Tools first: this layer lasts until the lock changes. The environment that is shipped has no pip of its own.
COPY requirements.lock ./
RUN python -m venv /build \
    && /build/bin/pip install --quiet --constraint requirements.lock hatchling \
    && python -m venv --without-pip /opt/sip-bridge

COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist .

# Wheels only: what would want a compiler fails here instead. The wheel is named by its path, so that no index can offer
# another one of its name. Bytecode is compiled once, and trusted: at run time nothing can be written beside the sources.
RUN set -- /dist/*.whl \
    && /build/bin/pip --python /opt/sip-bridge/bin/python install --quiet --no-compile --only-binary :all: \
        --constraint requirements.lock "$1[embedded]" \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/sip-bridge/lib


FROM python:3.13-slim

LABEL org.opencontainers.image.title="sip-bridge" \
      org.opencontainers.image.description="A SIP-to-HTTP webhook bridge" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"

# Kubernetes' runAsNonRoot wants a number. The base's pip has nothing to do here.
RUN groupadd --gid 10001 sip-bridge \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin sip-bridge \
    && install --directory --owner 10001 --group 10001 --mode 0700 /data \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/pip*

COPY --from=build /opt/sip-bridge /opt/sip-bridge

# The health check asks the REST listener; where api.listen has another port, say so: -e HEALTHCHECK_PORT=9090.
ENV PATH=/opt/sip-bridge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HEALTHCHECK_PORT=8080

# data_dir is `data` unless it is configured: from here that is /data, and a file or a variable may still say otherwise.
WORKDIR /
VOLUME ["/data"]
EXPOSE 5060/udp 8080/tcp
USER 10001:10001
STOPSIGNAL SIGTERM

# Without curl, and without whatever proxy the environment names.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=6 CMD ["/opt/sip-bridge/bin/python", "-c", "\
import http.client, os, sys; \
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ['HEALTHCHECK_PORT']), timeout=2); \
connection.request('GET', '/livez'); \
sys.exit(connection.getresponse().status != 200)"]

ENTRYPOINT ["/opt/sip-bridge/bin/sip-bridge"]
CMD ["serve"]
