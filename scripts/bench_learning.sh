#!/usr/bin/env bash
# What small models learn on a CPU: one process for each environment, beside each other, each with one core. The figures are kept
# in benchmarks/baselines with the machine's description. `--quick` shows in minutes that it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
status=0
children=()
for env in alfworld dbbench; do
    script="benchmarks/learning_$env.py"
    if [ ! -e "$script" ]; then continue; fi
    .venv/bin/python benchmarks/record.py "learning-$env" .venv/bin/python "$script" --json "$@" &
    children+=($!)
done
trap 'kill "${children[@]}" 2>/dev/null || true' INT TERM
for child in "${children[@]}"; do
    wait "$child" || { status=1; echo "# a bar does not hold" >&2; }
done
exit $status
