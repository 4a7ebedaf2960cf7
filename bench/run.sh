#!/usr/bin/env bash
# Runs every benchmark: bench/run.sh [FOLDER...]
set -euo pipefail
cd "$(dirname "$0")"
(($#)) || set -- overhead deploy eval hpo images kernels onnx plugin qlora qat quantization
for question; do "./$question/run.sh"; done
