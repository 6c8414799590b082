#!/usr/bin/env bash
# Pin every set of requirements anew: names, versions and hashes, no addresses. Run it after a change of pyproject.toml.
#   base.txt      the env service alone                     train.txt  the trainer without vLLM, for notebooks
#   cpu.txt       everything but the reference engine: the demo, the tests
#   alfworld.txt  the reference engine, on top of cpu.txt   gpu.txt    the rollout server and the trainer on CUDA
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}
pin() {
    local out=$1
    shift
    "$uv" pip compile --quiet --python-version 3.12 --no-emit-index-url --no-emit-find-links --no-header --generate-hashes \
        "$@" --output-file "requirements/$out.txt" pyproject.toml
}
pin cpu --extra train --extra cpu --extra demo --extra dev
pin base --constraint requirements/cpu.txt
pin alfworld --extra alfworld --constraint requirements/cpu.txt
pin train --extra train --constraint requirements/cpu.txt
pin gpu --extra train --extra vllm
