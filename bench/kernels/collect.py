"""Keeps of a run's summary.json the rows, the machine and how long compiling and verifying took, and says which goals are
met: collect.py FROM TO."""
import json
import math
import statistics
import sys

summary = json.load(open(sys.argv[1]))
rows = [{k: v for k, v in row.items() if k not in ("trials", "track", "files")} for row in summary["kernels"]]
trials = [t["metrics"] for row in summary["kernels"] for t in row["trials"] if "compile_s" in t["metrics"]]
speedups = [row["speedup"] for row in rows if "speedup" in row]


def seconds(metrics):
    """Of compiling, verifying and both, of variants that were built, or that were in the cache."""
    parts = {
        "compile_s": [t["compile_s"] for t in metrics],
        "verify_s": [t["check_s"] for t in metrics],
        "both_s": [t["compile_s"] + t["check_s"] for t in metrics],
    }
    return {"variants": len(metrics)} | {
        k: {"median": statistics.median(v), "largest": max(v)} for k, v in parts.items() if v
    }


out = {
    "haqa_version": summary["haqa_version"],
    "started": summary["started"],
    "seconds": summary["seconds"],
    "hardware": summary["hardware"],
    "geometric_mean": math.exp(statistics.fmean(map(math.log, speedups))) if speedups else None,
    "least_speedup": min(speedups, default=None),
    "built": seconds([t for t in trials if not t["cached"]]),
    "cached": seconds([t for t in trials if t["cached"]]),
    "rows": rows,
}
json.dump(out, open(sys.argv[2], "w"), indent=1)
for row in rows:
    if "speedup" not in row:
        print(f"{row['kernel']:<13}{row['type']:<5}{str(row['shape']):<18}failed: {row.get('failed')}")
        continue
    alone = f"; reading alone {row['reading_alone']:.3f}" if "reading_alone" in row else ""
    print(f"{row['kernel']:<13}{row['type']:<5}{str(row['shape']):<18}{row['baseline_us']:>10.2f}{row['tuned_us']:>10.2f}"
          f"  {row['speedup']:.3f} ({row['speedup_low']:.3f} to {row['speedup_high']:.3f}){alone}"
          f"  {100 * row['roofline_share']:.0f} % of the roofline")
print(f"geometric mean {out['geometric_mean']:.3f} (the paper's suite: 2.0), least {out['least_speedup']:.3f} (1.05)")
for name, limit in (("built", 1.5), ("cached", 0.05)):
    if "both_s" in out[name]:
        both = out[name]["both_s"]
        print(f"{out[name]['variants']} {name} variants: compiled and verified in {both['median']:.3f} s (median), "
              f"{both['largest']:.3f} s at most ({limit} s)")
