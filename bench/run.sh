#!/usr/bin/env bash
# Runs every benchmark: bench/run.sh [FOLDER...]
set -euo pipefail
cd "$(dirname "$0")"
for question in "${@:-overhead deploy}"; do
  for name in $question; do "./$name/run.sh"; done
done
