#!/usr/bin/env bash
# A training step of QLoRA beside transformers + peft + bitsandbytes: tokens per second, peak memory, losses. About 40
# minutes on two cores. Writes bench/results/qlora.json.
#   bench/qlora/run.sh [arguments of run.py]
# The peers are installed into build/qlora-venv; QLORA_PYTHON=PROGRAM takes a Python that has them.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${QLORA_PYTHON:-build/qlora-venv/bin/python}
if [[ ! -x $(command -v "$python") ]]; then
  python3 -m venv build/qlora-venv
  build/qlora-venv/bin/pip install -q 'torch==2.13.0+cpu' 2>/dev/null || build/qlora-venv/bin/pip install -q torch
  build/qlora-venv/bin/pip install -q -r bench/qlora/requirements.txt
fi
cmake --build build --target haqa haqa-qlora-steps >&2
mkdir -p bench/results
"$python" bench/qlora/run.py --results bench/results/qlora.json "$@"
