#!/usr/bin/env bash
# Pin every set of requirements anew: names, versions and hashes, no addresses. Run it after a change of pyproject.toml.
#   base.txt      the env service, with PostgreSQL's driver  train.txt  the trainer without vLLM, for notebooks
#   cpu.txt       everything but the reference engine: the demo, the tests
#   alfworld.txt  the reference engine, on top of cpu.txt   gpu.txt    the rollout server and the trainer on CUDA
#   openenv.txt   OpenEnv's own client and validator, for tests: in an environment of their own, since they need other
#                 versions than ours; without gradio, its demo pages
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}
compile() { "$uv" pip compile --quiet --python-version 3.12 --no-emit-index-url --no-emit-find-links --no-header --generate-hashes "$@"; }
pin() {
    local out=$1
    shift
    compile "$@" --output-file "requirements/$out.txt" pyproject.toml
}
pin cpu --extra train --extra cpu --extra demo --extra dev
pin base --extra postgres --constraint requirements/cpu.txt
pin alfworld --extra alfworld --constraint requirements/cpu.txt
pin train --extra train --constraint requirements/cpu.txt
pin gpu --extra train --extra vllm
compile --override <(echo "gradio==0; sys_platform == 'never'") --output-file requirements/openenv.txt - <<<"openenv==0.10.0"
