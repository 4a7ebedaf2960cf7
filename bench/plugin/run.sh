#!/usr/bin/env bash
# The module beside stock llama.cpp, on random weights in TinyLlama-1.1B's shape in four types: about 40 minutes on two
# cores. Writes bench/results/plugin.json.
#   bench/plugin/run.sh [arguments of run.py]
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake --build build --target haqa ggml-haqa >&2
mkdir -p bench/results
python3 bench/plugin/run.py "$@"
