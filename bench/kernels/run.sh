#!/usr/bin/env bash
# Tuned kernels beside llama.cpp's own on this machine: the paper's 15 shapes, matrix x vector with one thread and with all,
# and attention; about half an hour on two cores. Writes bench/results/kernels-*.json, with a name for the machine
# kernels-*-MACHINE.json, beside those of others:
#   bench/kernels/run.sh [MACHINE]
set -euo pipefail
cd "$(dirname "$0")/../.."
results=bench/results
machine=${1:-}
mkdir -p "$results"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tune() { # NAME OPTION...
  local name=$1
  shift
  build/bin/haqa kernels "$@" --output "$work/$name" >&2
  python3 bench/kernels/collect.py "$work/$name/summary.json" "$results/kernels-$name${machine:+-$machine}.json"
}
build/bin/haqa hardware --again >/dev/null # rates of a quiet moment
tune paper --suite paper --rounds 10
tune decode --suite decode --rounds 4
tune decode-1-thread --suite decode --rounds 4 --threads 1
tune attention --suite attention --rounds 3
