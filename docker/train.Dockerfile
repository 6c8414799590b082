# The trainer: TRL, PEFT and the recipes, without vLLM (it trains on what a rollout server plays). The wheels carry CUDA; the host
# needs its driver and the NVIDIA container toolkit only. Built from the repository's root:
#   docker build -f docker/train.Dockerfile -t envloop/train .
#   docker run --rm --gpus all -v ./runs:/var/lib/envloop/runs envloop/train envloop train grpo --config configs/NAME.toml
# Build secrets for a package mirror (pipconf) and a certificate authority (cabundle): see docker/envs.Dockerfile.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/venv
COPY requirements/train.txt docker/build.txt /src/requirements/
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf --mount=type=secret,id=cabundle,target=/run/secrets/cabundle \
    if [ -s /run/secrets/cabundle ]; then export PIP_CERT=/run/secrets/cabundle; fi; \
    python3 -m venv /opt/backend \
    && /opt/backend/bin/pip install --require-hashes --only-binary :all: -r /src/requirements/build.txt \
    && /opt/venv/bin/pip install --require-hashes -r /src/requirements/train.txt
COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY envs /src/envs
COPY rollout_server /src/rollout_server
COPY trainer /src/trainer
RUN cd /src && /opt/backend/bin/hatchling build -t wheel -d /tmp/wheel \
    && /opt/venv/bin/pip install --no-deps --no-index /tmp/wheel/*.whl \
    && /opt/venv/bin/envloop train --help >/dev/null

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="envloop trainer" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 envloop && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/envloop envloop \
    && install -d -o envloop -g envloop /var/lib/envloop /var/lib/envloop/runs
COPY --from=build /opt/venv /opt/venv
COPY docker/entrypoint.sh /usr/local/bin/
COPY configs /var/lib/envloop/configs
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/var/lib/envloop \
    HF_HOME=/var/lib/envloop/huggingface NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /var/lib/envloop
USER 10001:10001
# A job, not a service: it listens on nothing, and its health is that it runs and then its exit status.
HEALTHCHECK NONE
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
CMD ["envloop", "train", "--help"]
