# The env server: ALFWorld and DB Bench behind one HTTP API. Built from the repository's root:
#   docker build -f docker/envs.Dockerfile -t envloop/envs .
# Behind a package mirror or a private certificate authority, pass them as build secrets; nothing of them stays in the image:
#   docker build --secret id=pipconf,src=pip.conf --secret id=cabundle,src=ca.crt …
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/venv
COPY requirements/base.txt docker/build.txt /src/requirements/
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf --mount=type=secret,id=cabundle,target=/run/secrets/cabundle \
    if [ -s /run/secrets/cabundle ]; then export PIP_CERT=/run/secrets/cabundle; fi; \
    python3 -m venv /opt/backend \
    && /opt/backend/bin/pip install --require-hashes --only-binary :all: -r /src/requirements/build.txt \
    && /opt/venv/bin/pip install --require-hashes --only-binary :all: -r /src/requirements/base.txt
COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY envs /src/envs
# The wheel is built by the pinned backend and installed alone: what it needs is there already.
RUN cd /src && /opt/backend/bin/hatchling build -t wheel -d /tmp/wheel \
    && /opt/venv/bin/pip install --no-deps --no-index /tmp/wheel/*.whl \
    && /opt/venv/bin/pip uninstall -y pip && /opt/venv/bin/envloop env --help >/dev/null

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="envloop env server" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 envloop && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/envloop envloop \
    && install -d -o envloop -g envloop /var/lib/envloop /run/envloop/db /run/envloop/server
COPY --from=build /opt/venv /opt/venv
COPY docker/entrypoint.sh docker/make-keys.sh /usr/local/bin/
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/var/lib/envloop
WORKDIR /var/lib/envloop
USER 10001:10001
EXPOSE 8470
# Ready means: every environment can start an episode, its database included.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8470/readyz', timeout=4)"]
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
# Beyond loopback the server wants a token (ENVLOOP_TOKEN, or ENVLOOP_TOKEN_FILE) and refuses to start without one.
CMD ["envloop", "env", "serve", "--host", "0.0.0.0", "--port", "8470"]
