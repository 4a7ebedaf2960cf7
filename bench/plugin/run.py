"""The module beside stock llama.cpp: unmodified llama-bench with GGML_BACKEND_PATH and without, in turn, on a model in
TinyLlama-1.1B's shape with random weights, at the default number of threads.

    python3 bench/plugin/run.py [--pairs 5] [--types F16 Q8_0 Q4_0 Q4_K] [--output FILE]

Writes bench/results/plugin.json: every sample, medians of the paired ratios with their range, memory and load time, and
the share of the memory's bandwidth, as the machine's profile has it, that decoding reads in weights.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "build/bin"
MODULE = BIN / "libggml-haqa.so"
LLAMA = pathlib.Path(subprocess.run([ROOT / "setup.sh", "--path"], capture_output=True, text=True, check=True).stdout.strip()) / "build/bin"
# name: tokens of the prompt, generated tokens, tokens in the context before
TESTS = {"pp128": (128, 0, 0), "pp512": (512, 0, 0), "tg128": (0, 128, 0), "tg64@1024": (0, 64, 1024), "tg32@4096": (0, 32, 4096)}
BYTES = {"F16": 2, "Q8_0": 34 / 32, "Q4_0": 18 / 32, "Q4_K": 144 / 256}  # of a weight
EMBEDDING = 32000 * 2048  # weights that decoding does not read
GOALS = {  # the least median ratio
    "F16": {"tg128": 1.5, "pp512": 1.2, "tg64@1024": 1.8},
    "Q8_0": {"tg128": 1.9, "pp512": 2.0, "tg64@1024": 1.8},
    "Q4_0": {"tg128": 1.9, "pp512": 2.0, "tg64@1024": 1.8},
    "Q4_K": {"tg128": 1.5, "tg64@1024": 1.8},
}


def run(arguments, with_module):
    """llama-bench's one row, seconds, and the peak of resident memory in bytes."""
    environment = {k: v for k, v in os.environ.items() if k not in ("GGML_BACKEND_PATH", "HAQA_TUNING", "HAQA_PACK")}
    if with_module:
        environment["GGML_BACKEND_PATH"] = str(MODULE)
    begun = time.monotonic()
    process = subprocess.Popen([LLAMA / "llama-bench", *map(str, arguments), "-o", "json"], env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"llama-bench {arguments} failed with status {status}")
    row = json.loads(output)[0]
    if with_module and row["backends"] != "HAQA":
        sys.exit(f"the module was not used: back ends are {row['backends']}")
    return row, time.monotonic() - begun, usage.ru_maxrss * 1024


def in_turn(arguments, pairs, what):
    """[(stock, module)] of what `what` makes of run(); who is first changes."""
    samples = []
    for i in range(pairs):
        both = {}
        for with_module in ((False, True) if i % 2 == 0 else (True, False)):
            both[with_module] = what(*run(arguments, with_module))
        samples.append((both[False], both[True]))
    return samples


def summary(samples):
    ratios = sorted(b / a for a, b in samples)
    return {
        "stock": statistics.median(a for a, _ in samples),
        "module": statistics.median(b for _, b in samples),
        "ratio": statistics.median(ratios),
        "low": ratios[0],
        "high": ratios[-1],
        "samples": samples,
    }


def model_file(folder, type_name):
    base = folder / "tinyllama-F16.gguf"
    if not base.exists():
        subprocess.run([BIN / "haqa", "make-model", "tinyllama-1.1b", "-q", "-o", base], check=True)
    file = folder / f"tinyllama-{type_name}.gguf"
    if not file.exists():
        options = ["--pure"] if type_name == "Q4_K" else []
        subprocess.run([LLAMA / "llama-quantize", *options, base, file, type_name], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return file


def machine():
    cpu = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    hardware = subprocess.run([BIN / "haqa", "hardware", "--again", "--json"], capture_output=True, text=True, check=True)
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "hardware": json.loads(hardware.stdout)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--types", nargs="+", default=["F16", "Q8_0", "Q4_0", "Q4_K"])
    parser.add_argument("--tests", nargs="+", default=list(TESTS), choices=list(TESTS))
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / "build/bench-models", help="where generated models are kept")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench/results/plugin.json")
    args = parser.parse_args()
    args.models.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {"commit": commit, "machine": machine(), "pairs": args.pairs, "types": {}}
    bandwidth = max(b["bytes_per_s"] for b in result["machine"]["hardware"]["bandwidth"])
    for type_name in args.types:
        file = model_file(args.models, type_name)
        rows = result["types"][type_name] = {"bytes": file.stat().st_size}
        for name in args.tests:
            prompt, generate, depth = TESTS[name]
            arguments = ["-m", file, "-r", 1, "-p", prompt, "-n", generate, "-d", depth]
            rows[name] = summary(in_turn(arguments, args.pairs, lambda row, seconds, peak: row["avg_ts"]))
            rows[name]["goal"] = GOALS[type_name].get(name)
            print(f"{type_name:5} {name:10} stock {rows[name]['stock']:8.2f}  module {rows[name]['module']:8.2f}  "
                  f"{rows[name]['ratio']:.2f} ({rows[name]['low']:.2f} to {rows[name]['high']:.2f})", flush=True)
        shortest = ["-m", file, "-r", 1, "-p", 1, "-n", 0, "--no-warmup"]
        rows["load_s"] = summary(in_turn(shortest, min(3, args.pairs), lambda row, seconds, peak: seconds))
        decoding = ["-m", file, "-r", 1, "-p", 0, "-n", 8]
        rows["peak_bytes"] = summary(in_turn(decoding, 1, lambda row, seconds, peak: peak))
        if "tg128" in rows:
            read = rows["bytes"] - EMBEDDING * BYTES[type_name]
            rows["bandwidth_share"] = rows["tg128"]["module"] * read / bandwidth
            print(f"{type_name:5} decoding reads {rows['bandwidth_share']:.0%} of the memory's bandwidth", flush=True)
        print(f"{type_name:5} load {rows['load_s']['ratio']:.2f} times stock's, peak memory {rows['peak_bytes']['ratio']:.2f} times", flush=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
