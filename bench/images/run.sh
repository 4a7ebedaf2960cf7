#!/usr/bin/env bash
# Quantized ResNet20s tuned by the expert beside the default hyperparameters, over seeds, on scikit-learn's digits and on
# generated shapes: the paper's table 1 in small. About 70 minutes on two cores. Writes bench/results/images.json.
#   bench/images/run.sh [arguments of run.py]
# scikit-learn is installed into build/images-venv; IMAGES_PYTHON=PROGRAM takes a Python that has it. What was measured
# before stays in build/bench-images and is not measured again; remove that folder to begin anew.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${IMAGES_PYTHON:-build/images-venv/bin/python}
if [[ ! -x $(command -v "$python") ]]; then
  python3 -m venv build/images-venv
  build/images-venv/bin/pip install -q scikit-learn
fi
cmake --build build --target haqa haqa-train >&2
mkdir -p bench/results
"$python" bench/images/run.py --results bench/results/images.json "$@"
