#!/usr/bin/env bash
# Runs every fuzzer for a while: fuzz/run.sh BUILD [SECONDS]. A crash leaves its input and ends it.
set -euo pipefail
for program in "$1"/bin/fuzz_*; do
  name=${program##*/fuzz_}
  "$program" -max_total_time="${2:-60}" -max_len=20000 "$1/corpus/$name"
done
