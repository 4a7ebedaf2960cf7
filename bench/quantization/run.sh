#!/usr/bin/env bash
# Number formats of QLoRA on one layer of a 7B model, ours and bitsandbytes on the CPU in turn; two minutes. Writes
# bench/results/quantization.json. The peer is installed into build/quantization-venv; QUANTIZATION_PYTHON=PROGRAM takes a
# Python that has it.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${QUANTIZATION_PYTHON:-build/quantization-venv/bin/python}
if [[ ! -x $(command -v "$python") ]]; then
  python3 -m venv build/quantization-venv
  build/quantization-venv/bin/pip install -q 'torch==2.13.0+cpu' 2>/dev/null || build/quantization-venv/bin/pip install -q torch
  build/quantization-venv/bin/pip install -q bitsandbytes==0.50.2 numpy
fi
cmake --build build --target haqa-quantization >&2
mkdir -p bench/results
"$python" bench/quantization/run.py build/bin/haqa-quantization bench/results/quantization.json
