#!/usr/bin/env bash
# The main job on random weights in TinyLlama-1.1B's shape (2.2 GB in F16), about 20 minutes on two cores. Writes
# bench/results/deploy-tinyllama.json: the run's summary.json with every sample.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/demo bench/results
haqa=build/bin/haqa model=build/demo/tinyllama-1.1b-f16.gguf run=runs/bench-deploy
[[ -e $model ]] || $haqa make-model tinyllama-1.1b --output "$model"
rm -rf "$run"
$haqa run bench/deploy/task.yaml --output "$run"
sed "s|$PWD/||g" "$run/summary.json" >bench/results/deploy-tinyllama.json # paths are of no use elsewhere
