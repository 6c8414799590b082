# The rollout server: vLLM and the agent loop on an NVIDIA GPU. The wheels carry CUDA; the host needs its driver and the NVIDIA
# container toolkit only. Built from the repository's root:
#   docker build -f docker/rollout.Dockerfile -t envloop/rollout .
# Build secrets for a package mirror (pipconf) and a certificate authority (cabundle): see docker/envs.Dockerfile.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ARG REQUIREMENTS=gpu.txt
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/venv
COPY requirements/${REQUIREMENTS} docker/build.txt /src/requirements/
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf --mount=type=secret,id=cabundle,target=/run/secrets/cabundle \
    if [ -s /run/secrets/cabundle ]; then export PIP_CERT=/run/secrets/cabundle; fi; \
    python3 -m venv /opt/backend \
    && /opt/backend/bin/pip install --require-hashes --only-binary :all: -r /src/requirements/build.txt \
    && /opt/venv/bin/pip install --require-hashes -r /src/requirements/${REQUIREMENTS}
COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY envs /src/envs
COPY rollout_server /src/rollout_server
RUN cd /src && /opt/backend/bin/hatchling build -t wheel -d /tmp/wheel \
    && /opt/venv/bin/pip install --no-deps --no-index /tmp/wheel/*.whl \
    && /opt/venv/bin/envloop rollout --help >/dev/null

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="envloop rollout server" org.opencontainers.image.licenses="Apache-2.0"
# Triton and torch.compile build small launchers with a C compiler when a model is first loaded.
ARG RUNTIME_PACKAGES="gcc g++ libc6-dev"
RUN if [ -n "$RUNTIME_PACKAGES" ]; then \
        apt-get update && apt-get install -y --no-install-recommends $RUNTIME_PACKAGES && rm -rf /var/lib/apt/lists/*; \
    fi \
    && groupadd --gid 10001 envloop && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/envloop envloop \
    && install -d -o envloop -g envloop /var/lib/envloop /run/envloop/server
COPY --from=build /opt/venv /opt/venv
COPY docker/entrypoint.sh /usr/local/bin/
# Everything that is written (model files, compiled kernels, the episode store) lies under HOME, a volume.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/var/lib/envloop \
    HF_HOME=/var/lib/envloop/huggingface VLLM_NO_USAGE_STATS=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /var/lib/envloop
USER 10001:10001
EXPOSE 8471
# Loading a model takes minutes, its download longer: the start period is generous, and ends with the first success.
HEALTHCHECK --interval=15s --timeout=5s --start-period=1800s --start-interval=5s --retries=4 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8471/readyz', timeout=4)"]
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
CMD ["envloop", "rollout", "serve", "--host", "0.0.0.0", "--port", "8471"]
