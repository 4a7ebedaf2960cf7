#!/usr/bin/env bash
# Our samplers and Optuna's on the same problems: 20 seeds, from 101 on (7 for Optuna's Gaussian process), as those below
# served to choose most of what our samplers are made of (docs/samplers.md says what was changed later); 50 trials; about
# an hour and a half on two cores, most of it for Optuna's Gaussian process. Writes bench/results/hpo.jsonl.gz, a line a
# run, bench/results/hpo.md and hpo-gp.md. An interrupted
# one goes on where it was; what a results file holds is not run again, so move it away to start anew.
#   bench/hpo/run.sh [arguments of run.py]
# The peers are installed into build/hpo-venv; HPO_PYTHON=PROGRAM takes a Python that has them.
set -euo pipefail
cd "$(dirname "$0")/../.."
results=bench/results/hpo.jsonl
python=${HPO_PYTHON:-build/hpo-venv/bin/python}
if [[ ! -x $(command -v "$python") ]]; then
  python3 -m venv build/hpo-venv
  # Optuna's Gaussian process wants torch: its build for processors alone where pip can find one.
  build/hpo-venv/bin/pip install -q 'torch==2.13.0+cpu' 2>/dev/null || build/hpo-venv/bin/pip install -q torch
  build/hpo-venv/bin/pip install -q -r bench/hpo/requirements.txt
fi
cmake --build build --target haqa-hpo >&2
"$python" bench/hpo/problems_test.py
mkdir -p bench/results
[[ -e $results || ! -e $results.gz ]] || gunzip -k "$results.gz"
ours=haqa-random,haqa-sobol,haqa-local,haqa-bayesian,haqa-tpe,haqa-nsga2,haqa-expert
peers=optuna-random,optuna-tpe,optuna-mtpe,optuna-cmaes,optuna-nsgaii
"$python" bench/hpo/run.py --first-seed 101 --methods $ours,$peers "$@" --results "$results"
# Optuna's Gaussian process takes ten times as long as all others together, so it has fewer seeds: a table of all pairs is
# without it, and one is of those that it ran too.
"$python" bench/hpo/run.py --first-seed 101 --methods optuna-gp --seeds 7 "$@" --results "$results"
# The time of one ask after 200 trials, in ten dimensions.
"$python" bench/hpo/run.py --first-seed 101 --methods haqa-random,haqa-local,haqa-bayesian,haqa-tpe,haqa-expert \
  --problems qlora-moved --trials 200 --seeds 2 --processes 1 --results "$results"
"$python" bench/hpo/table.py "$results" --without optuna-gp --markdown bench/results/hpo.md
"$python" bench/hpo/table.py "$results" --markdown bench/results/hpo-gp.md
gzip -9 -n -f "$results" # JSON lines of this size are not kept as they are
