"""The module beside stock llama.cpp: unmodified llama-bench with GGML_BACKEND_PATH and without, in turn, on a model in
TinyLlama-1.1B's shape with random weights, at the default number of threads.

    python3 bench/plugin/run.py [--pairs 5] [--types F16 Q8_0 Q4_0 Q4_K] [--tune ROUNDS] [--output FILE]

With --tune `haqa deploy` tunes the run-time options of each type first, and two more take turns with these two: stock
llama.cpp with the best options that run its own kernels, and the module with the best that run ours.
Writes bench/results/plugin.json: every sample, medians of the paired ratios to stock with their range, memory and load
time, and the share of the memory's bandwidth, as the machine's profile has it, that decoding reads in weights.
bench/plugin/figure.py draws it.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "build/bin"
MODULE = BIN / "libggml-haqa.so"
LLAMA = pathlib.Path(subprocess.run([ROOT / "setup.sh", "--path"], capture_output=True, text=True, check=True).stdout.strip()) / "build/bin"
# name: tokens of the prompt, generated tokens, tokens in the context before
TESTS = {"pp128": (128, 0, 0), "pp512": (512, 0, 0), "tg256": (0, 256, 0), "tg64@1024": (0, 64, 1024), "tg32@4096": (0, 32, 4096)}
BYTES = {"F16": 2, "Q8_0": 34 / 32, "Q4_0": 18 / 32, "Q4_K": 144 / 256}  # of a weight
EMBEDDING = 32000 * 2048  # weights that decoding does not read
GOALS = {  # the least median ratio
    "F16": {"tg256": 1.5, "pp512": 1.2, "tg64@1024": 1.8},
    "Q8_0": {"tg256": 1.9, "pp512": 2.0, "tg64@1024": 1.8},
    "Q4_0": {"tg256": 1.9, "pp512": 2.0, "tg64@1024": 1.8},
    "Q4_K": {"tg256": 1.5, "tg64@1024": 1.8},
}


class Contestant:
    """llama-bench in one environment, with options of its own."""

    def __init__(self, with_module, configuration=None):
        self.with_module = with_module
        self.environment = {k: v for k, v in os.environ.items() if k not in ("GGML_BACKEND_PATH", "HAQA_TUNING", "HAQA_PACK")}
        if with_module:
            self.environment["GGML_BACKEND_PATH"] = str(MODULE)
        self.options = []
        c = self.configuration = configuration or {}
        if not c:
            return
        self.options = ["-b", c["batch"], "-ub", c["ubatch"], "-fa", c["flash_attention"], "-ctk", c["cache_type_k"],
                        "-ctv", c["cache_type_v"], "-lm", c["load_mode"], "--repack", int(c["repack"])]
        if c["affinity"] == "pinned":
            self.environment.update(OMP_PROC_BIND="close", OMP_PLACES="cores")
        if c["polling"] != "default":
            self.environment["OMP_WAIT_POLICY"] = c["polling"].upper()
            self.options += ["--poll", {"active": 100, "passive": 0}[c["polling"]]]

    def run(self, arguments):
        """llama-bench's one row, seconds, and the peak of resident memory in bytes."""
        options = list(self.options)
        if self.configuration:
            reads_prompt = "-n" in arguments and arguments[arguments.index("-n") + 1] == 0
            options += ["-t", self.configuration["threads_batch" if reads_prompt else "threads"]]
        begun = time.monotonic()
        process = subprocess.Popen([LLAMA / "llama-bench", *map(str, arguments + options), "-o", "json"], env=self.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"llama-bench {arguments + options} failed with status {status}")
        row = json.loads(output)[0]
        if self.with_module and row["backends"] != "HAQA":
            sys.exit(f"the module was not used: back ends are {row['backends']}")
        return row, time.monotonic() - begun, usage.ru_maxrss * 1024


def tuned(file, type_name, rounds):
    """The configurations of `haqa deploy` that were fastest with llama.cpp's kernels and with ours."""
    with tempfile.TemporaryDirectory() as folder:
        summary = json.loads(subprocess.run([BIN / "haqa", "deploy", file, "--rounds", str(rounds), "--kernel-rounds", "0",
                                             "--prompt-tokens", "512", "--generate-tokens", "64", "--pairs", "3", "--output", f"{folder}/run", "--json", "-q"], capture_output=True, text=True, check=True).stdout)
    best = {}
    for trial in summary["trials"]:
        kernels = trial["configuration"].get("kernels", "stock")
        same_file = trial["configuration"].get("gguf_type", type_name) == type_name  # all contestants have one
        if trial["state"] == "complete" and same_file and (kernels not in best or trial["value"] > best[kernels]["value"]):
            best[kernels] = trial
    return {kernels: trial["configuration"] for kernels, trial in best.items()}


def in_turn(contestants, arguments, repetitions, what):
    """{name: samples} of what `what` makes of run(); who is first rotates."""
    samples = {name: [] for name in contestants}
    names = list(contestants)
    for i in range(repetitions):
        for turn in range(len(names)):
            name = names[(i + turn) % len(names)]
            samples[name].append(what(*contestants[name].run(arguments)))
    return samples


def summary(samples):
    """Of the others to stock, pair by pair."""
    result = {}
    for name, values in samples.items():
        result[name] = {"median": statistics.median(values), "samples": values}
        if name != "stock":
            ratios = sorted(b / a for a, b in zip(samples["stock"], values))
            result[name].update(ratio=statistics.median(ratios), low=ratios[0], high=ratios[-1])
    return result


def line(name, unit):
    return "  ".join(f"{who} {m['median']:.4g}" + (f" {m['ratio']:.2f} ({m['low']:.2f} to {m['high']:.2f})" if "ratio" in m else "")
                     for who, m in name.items()) + unit


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
    parser.add_argument("--tune", type=int, default=0, metavar="ROUNDS", help="tune run-time options in so many rounds first")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / "build/bench-models", help="where generated models are kept")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench/results/plugin.json")
    args = parser.parse_args()
    args.models.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {"commit": commit, "machine": machine(), "pairs": args.pairs, "types": {}}
    bandwidth = max(b["bytes_per_s"] for b in result["machine"]["hardware"]["bandwidth"])
    for type_name in args.types:
        file = model_file(args.models, type_name)
        contestants = {"stock": Contestant(False), "module": Contestant(True)}
        if args.tune:
            best = tuned(file, type_name, args.tune)
            contestants["options"] = Contestant(False, best["stock"])
            if "haqa" in best:
                contestants["options+module"] = Contestant(True, best["haqa"])
        rows = result["types"][type_name] = {"bytes": file.stat().st_size,
                                             "options": {name: c.configuration for name, c in contestants.items() if c.configuration}}
        for name in args.tests:
            prompt, generate, depth = TESTS[name]
            arguments = ["-m", file, "-r", 1, "-p", prompt, "-n", generate, "-d", depth]
            rows[name] = summary(in_turn(contestants, arguments, args.pairs, lambda row, seconds, peak: row["avg_ts"]))
            rows[name]["module"]["goal"] = GOALS[type_name].get(name)
            print(f"{type_name:5} {name:10} {line(rows[name], ' tokens/s')}", flush=True)
        defaults = {name: contestants[name] for name in ("stock", "module")}
        shortest = ["-m", file, "-r", 1, "-p", 1, "-n", 0, "--no-warmup"]
        rows["load_s"] = summary(in_turn(defaults, shortest, min(4, args.pairs), lambda row, seconds, peak: seconds))
        decoding = ["-m", file, "-r", 1, "-p", 0, "-n", 8]
        rows["peak_bytes"] = summary(in_turn(defaults, decoding, 1, lambda row, seconds, peak: peak))
        if "tg256" in rows:
            read = rows["bytes"] - EMBEDDING * BYTES[type_name]
            rows["bandwidth_share"] = {name: rows["tg256"][name]["median"] * read / bandwidth for name in contestants}
            print(f"{type_name:5} decoding reads {rows['bandwidth_share']['module']:.0%} of the memory's bandwidth", flush=True)
        print(f"{type_name:5} load {line(rows['load_s'], ' s')}; peak memory {rows['peak_bytes']['module']['ratio']:.2f} times", flush=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
