#!/usr/bin/env bash
# Epochs of quantization-aware training beside PyTorch from Python, eager and torch.compile. About 30 minutes on two cores.
# Writes bench/results/qat.json.
#   bench/qat/run.sh [arguments of run.py]
# The peers are installed into build/qat-venv; QAT_PYTHON=PROGRAM takes a Python that has them.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${QAT_PYTHON:-build/qat-venv/bin/python}
if [[ ! -x $(command -v "$python") ]]; then
  python3 -m venv build/qat-venv
  build/qat-venv/bin/pip install -q 'torch==2.13.0+cpu' 2>/dev/null || build/qat-venv/bin/pip install -q torch==2.13.0
  build/qat-venv/bin/pip install -q numpy safetensors
fi
cmake --build build --target haqa haqa-qat-steps >&2
mkdir -p bench/results
"$python" bench/qat/run.py --results bench/results/qat.json "$@"
