#!/usr/bin/env bash
# Every benchmark, one after the other, one JSON object a line; each result is kept in benchmarks/baselines with the machine's
# description. `scripts/bench.sh --quick` gives first figures in minutes. Run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
record() { .venv/bin/python benchmarks/record.py "$@" || echo "# $1: a bar does not hold" >&2; }
for script in benchmarks/[a-z]*.py; do
    name=$(basename "$script" .py)
    # What is learnt takes an hour and has a command of its own, bench_learning.sh; the GPU's needs a GPU.
    if [[ $name == learning_* && " $* " != *" --quick "* ]]; then continue; fi
    if [ "$name" != record ]; then record "${name//_/-}" .venv/bin/python "$script" --json "$@"; fi
done
record env-bench .venv/bin/envloop env bench --json "$@"
record rollout-bench .venv/bin/envloop rollout bench --json "$@"
record rollout-bench-vllm .venv/bin/envloop rollout bench --json --engine vllm --model smollm2 "$@"
