#!/usr/bin/env bash
# What HAQA itself costs. Writes bench/results/overhead.json: start-up of `haqa --help` (median of 50), the time from
# one trial's end to the next one's start at 50 trials (the expert with its surrogate, and a replayed transcript, which
# leaves prompt, parsing, checking and storing), and the whole quickstart.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/demo bench/results
haqa=build/bin/haqa model=build/demo/tiny-f16.gguf work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make build/demo/demo-f16.gguf # the quickstart's
[[ -e $model ]] || $haqa make-model tiny --output "$model" --quiet
cat >"$work/task.yaml" <<YAML
model: $PWD/$model
context: 64
prompt_tokens: 8
generate_tokens: 8
repetitions: 6
bit_widths: [int8]
tuning: {rounds: 50, pairs: 1, confirm_pairs: 6}
kernels: {rounds: 0}
YAML
$haqa run "$work/task.yaml" --output "$work/expert" --quiet >/dev/null
$haqa run "$work/task.yaml" --output "$work/replay" --quiet --replay "$work/expert/transcript.jsonl" >/dev/null
start=$(date +%s.%N)
$haqa run examples/quickstart.yaml --output "$work/quickstart" --quiet >/dev/null
seconds=$(python3 -c "print($(date +%s.%N) - $start)")
python3 - "$work" "$haqa" "$seconds" <<'PY'
import json, statistics, subprocess, sys, time
work, haqa, quickstart = sys.argv[1], sys.argv[2], float(sys.argv[3])
def start_up():
    begin = time.perf_counter()
    subprocess.run([haqa, "--help"], stdout=subprocess.DEVNULL, check=True)
    return 1e3 * (time.perf_counter() - begin)
def last_rounds(run):
    trials = json.load(open(f"{work}/{run}/summary.json"))["trials"]
    return [1e3 * t["propose_s"] for t in trials[40:]]
helps = [start_up() for _ in range(50)]
summary = json.load(open(f"{work}/quickstart/summary.json"))
result = {"help_ms": {"median": statistics.median(helps), "samples": helps},
          "round_ms_replay": {"median": statistics.median(last_rounds("replay")), "samples": last_rounds("replay")},
          "round_ms_expert": {"median": statistics.median(last_rounds("expert")), "samples": last_rounds("expert")},
          "quickstart_s": quickstart, "quickstart": summary}
json.dump(result, open("bench/results/overhead.json", "w"), indent=1)
print(f"haqa --help            {result['help_ms']['median']:.1f} ms")
print(f"a round's own work     {result['round_ms_replay']['median']:.1f} ms (trials 41 to 50, answers replayed)")
print(f"with expert, surrogate {result['round_ms_expert']['median']:.1f} ms (trials 41 to 50)")
print(f"quickstart             {quickstart:.0f} s")
PY
sed -i "s|$PWD/||g; s|$work/||g" bench/results/overhead.json # paths are of no use elsewhere
