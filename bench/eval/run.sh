#!/usr/bin/env bash
# haqa eval and lm-eval with transformers on the same model of 134 million parameters, the same generated questions of
# all eight tasks, the same threads, in turn: about 10 minutes on two cores. Writes bench/results/eval.json.
#   bench/eval/run.sh [arguments of run.py]
# The peers are installed into build/eval-venv; EVAL_PYTHON=PROGRAM takes a Python that has them.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${EVAL_PYTHON:-build/eval-venv/bin/python}
if [[ ! -x $(command -v "$python") ]]; then
  python3 -m venv build/eval-venv
  # torch's build for processors alone where pip can find one.
  build/eval-venv/bin/pip install -q 'torch==2.13.0+cpu' 2>/dev/null || build/eval-venv/bin/pip install -q torch
  build/eval-venv/bin/pip install -q -r bench/eval/requirements.txt
fi
mkdir -p bench/results
"$python" bench/eval/run.py --llama "$(./setup.sh --path)" "$@"
