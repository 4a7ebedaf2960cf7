"""Keeps of a run's summary.json the task, the rows with their samples, the machine, and how long compiling and verifying
took, with the commit and the versions of the compilers and of llama.cpp, and says which goals are met: collect.py FROM
TO."""
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

summary = json.load(open(sys.argv[1]))
rows = [{k: v for k, v in row.items() if k not in ("trials", "track", "files")} for row in summary["kernels"]]
trials = [t["metrics"] for row in summary["kernels"] for t in row.get("trials", []) if "compile_s" in t["metrics"]]
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


def said(*words):
    """The first line of what a program prints; None where there is no such program."""
    try:
        lines = subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    except FileNotFoundError:
        return None
    return lines[0] if lines else None


def llama_cpp():
    """As setup.sh fetches it."""
    setup = (ROOT / "setup.sh").read_text()
    return " ".join(re.search(rf"^{name}=(\S+)", setup, re.M)[1] for name in ("LLAMA_VERSION", "LLAMA_SHA256"))


def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values))) if values else None


out = {
    "haqa_version": summary["haqa_version"],
    "commit": said("git", "rev-parse", "HEAD"),
    "changed": said("git", "status", "--porcelain", "--untracked-files=no", "--", ":!bench/results") is not None,
    "compilers": {name: said(name, "--version") for name in ("g++", "clang++")},
    "llama.cpp": llama_cpp(),
    "task": summary["task"],
    "started": summary["started"],
    "seconds": summary["seconds"],
    "hardware": summary["hardware"],
    "geometric_mean": geometric_mean(speedups),
    "least_speedup": min(speedups, default=None),
    **{
        caches: {"geometric_mean": geometric_mean(ratios), "least": min(ratios, default=None)}
        for caches in ("hot", "cold")
        for ratios in [[row[caches]["ratio"] for row in rows if caches in row]]
    },
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
    share = f"; {100 * row['roofline_share']:.0f} % of the roofline" if "roofline_share" in row else ""
    both = "; ".join(f"{caches} {row[caches]['ratio']:.3f}" for caches in ("hot", "cold") if caches in row)
    print(f"{row['kernel']:<13}{row['type']:<5}{str(row['shape']):<18}{row['baseline_us']:>10.2f}{row['tuned_us']:>10.2f}"
          f"  {row['speedup']:.3f} ({row['speedup_low']:.3f} to {row['speedup_high']:.3f}){alone}{share}; {both}")
if speedups:
    print(f"geometric mean {out['geometric_mean']:.3f} (the paper's suite: 2.0), least {out['least_speedup']:.3f} (1.05)")
    for caches in ("hot", "cold"):
        if out[caches]["least"]:
            print(f"caches {caches}: geometric mean {out[caches]['geometric_mean']:.3f}, least {out[caches]['least']:.3f}")
for name, limit in (("built", 1.5), ("cached", 0.05)):
    if "both_s" in out[name]:
        both = out[name]["both_s"]
        print(f"{out[name]['variants']} {name} variants: compiled and verified in {both['median']:.3f} s (median), "
              f"{both['largest']:.3f} s at most ({limit} s)")
