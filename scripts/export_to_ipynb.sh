#!/usr/bin/env bash
# Turn the marimo notebooks into Jupyter notebooks, for Colab.
#   export_to_ipynb.sh [FOLDER]    default: trainer/notebooks/ipynb
set -euo pipefail
out=$(realpath -m "${1:-$(dirname "$0")/../trainer/notebooks/ipynb}")
cd "$(dirname "$0")/.."
marimo=${MARIMO:-.venv/bin/marimo}
command -v "$marimo" >/dev/null || { echo "error: $marimo is missing: run make setup, or set MARIMO" >&2; exit 1; }
mkdir -p "$out"
for notebook in trainer/notebooks/*.py; do
    name=$(basename "$notebook" .py)
    "$marimo" --yes export ipynb "$notebook" --sort top-down --force --output "$out/$name.ipynb" >&2
    echo "$out/$name.ipynb"
done
