"""Keeps of a run's summary.json the rows, the machine and how long compiling and verifying took: collect.py FROM TO."""
import json
import math
import statistics
import sys

summary = json.load(open(sys.argv[1]))
rows = [{k: v for k, v in row.items() if k not in ("trials", "track", "files")} for row in summary["kernels"]]
trials = [t["metrics"] for row in summary["kernels"] for t in row["trials"] if "compile_s" in t["metrics"]]
speedups = [row["speedup"] for row in rows if "speedup" in row]
out = {
    "haqa_version": summary["haqa_version"],
    "started": summary["started"],
    "seconds": summary["seconds"],
    "hardware": summary["hardware"],
    "geometric_mean": math.exp(statistics.fmean(map(math.log, speedups))) if speedups else None,
    "least_speedup": min(speedups, default=None),
    "variants": len(trials),
    "compile_s": {"median": statistics.median(t["compile_s"] for t in trials), "largest": max(t["compile_s"] for t in trials)},
    "verify_s": {"median": statistics.median(t["check_s"] for t in trials), "largest": max(t["check_s"] for t in trials)},
    "rows": rows,
}
json.dump(out, open(sys.argv[2], "w"), indent=1)
for row in rows:
    if "speedup" in row:
        print(f"{row['kernel']:<13}{row['type']:<5}{str(row['shape']):<18}{row['baseline_us']:>10.2f}{row['tuned_us']:>10.2f}"
              f"  {row['speedup']:.3f} ({row['speedup_low']:.3f} to {row['speedup_high']:.3f})  {100 * row['roofline_share']:.0f} %")
print(f"geometric mean {out['geometric_mean']:.3f}, least {out['least_speedup']:.3f}")
