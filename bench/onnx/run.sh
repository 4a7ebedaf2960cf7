#!/usr/bin/env bash
# ResNets as `haqa export` writes them, by ONNX Runtime: size and latency of full precision and quantized, in turn. About 5
# minutes on two cores. Writes bench/results/onnx.json.
#   bench/onnx/run.sh [arguments of run.py]
# ONNX Runtime is installed into build/onnx-venv; ONNX_PYTHON=PROGRAM takes a Python that has it.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${ONNX_PYTHON:-build/onnx-venv/bin/python}
if [[ ! -x $(command -v "$python") ]]; then
  python3 -m venv build/onnx-venv
  build/onnx-venv/bin/pip install -q onnxruntime==1.32.0 numpy safetensors
fi
cmake --build build --target haqa haqa-train >&2
mkdir -p bench/results
"$python" bench/onnx/run.py --results bench/results/onnx.json "$@"
