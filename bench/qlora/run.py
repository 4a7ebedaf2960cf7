"""Training steps of ours beside transformers + peft + bitsandbytes, on the same batches and from the same adapter.

run.py --results FILE [--repetitions N] [--steps N] [--rows N] [--length N] [--variants NAME,...]

The model is `haqa make-model small` (179 million parameters). Both sides run in turn, each in a process of its own, on the
same threads. A variant says how the frozen weights are kept, what is computed in, and whether activations are
computed again on the way back; "lengths" has sequences of unequal length with the loss on their second half, as
instructions and responses have, "full" has rows of one length with the loss on every token.
"""
import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
BIN = HERE.parent.parent / "build" / "bin"
VARIANTS = {
    # name: base, compute, checkpointing, batches
    "fp32": ("gguf", "fp32", False, "full"),
    "nf4": ("nf4_double", "fp32", False, "full"),
    "nf4-checkpointing": ("nf4_double", "fp32", True, "full"),
    "nf4-lengths": ("nf4_double", "fp32", False, "lengths"),
    "nf4-bf16": ("nf4_double", "bf16", False, "full"),
}


def batches(kind, steps, rows, length, seed=1):
    rng = random.Random(seed)
    all_steps = []
    for _ in range(steps):
        batch = []
        for _ in range(rows):
            n = length if kind == "full" else rng.randint(length // 8, length)
            # Runs of counting, so that there is something to learn.
            start = rng.randrange(100, 20000)
            tokens = [1] + [start + i % 50 for i in range(n - 1)]
            batch.append({"tokens": tokens, "scored_from": 1 if kind == "full" else n // 2})
        all_steps.append(batch)
    return all_steps


def run(command, log, environment=()):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=open(log, "w"), text=True,
                          env={**os.environ, **dict(environment)})
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed; see {log}:\n{open(log).read()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def tokens_of(batch):
    return sum(len(sequence["tokens"]) for sequence in batch)


def speed(result, request, warmup=2):
    """Tokens of the data a second; the first steps warm up."""
    steps = list(zip(request["batches"], result["seconds"]))[warmup:]
    return sum(tokens_of(batch) for batch, _ in steps) / sum(seconds for _, seconds in steps)


def measure(name, arguments, folder, model, hugging_face):
    base, compute, checkpointing, kind = VARIANTS[name]
    request = {
        "model": str(model), "folder": str(hugging_face), "base": base, "compute": compute,
        "checkpointing": checkpointing, "threads": os.cpu_count(), "rank": 16, "alpha": 16.0, "learning_rate": 4e-4,
        "weight_decay": 0.01, "max_grad_norm": 0.3, "seed": 1,
        "batches": batches(kind, arguments.steps, arguments.rows, arguments.length),
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(request))
    rounds = []
    for repetition in range(arguments.repetitions):
        ours = run([str(BIN / "haqa-qlora-steps"), str(file), str(folder / "adapter")], folder / "ours.log",
                   {"OMP_WAIT_POLICY": "passive"})  # as haqa starts haqa-train
        peer = run([sys.executable, str(HERE / "peer.py"), str(file), str(folder / "adapter")], folder / "peer.log")
        rounds.append({
            "ours_tokens_per_s": speed(ours, request), "peer_tokens_per_s": speed(peer, request),
            "ours_peak_bytes": ours["peak_bytes"], "peer_peak_bytes": peer["peak_bytes"],
            "ours_losses": ours["losses"], "peer_losses": peer["losses"],
        })
        print(name, repetition + 1, {k: round(v) for k, v in rounds[-1].items() if "losses" not in k}, file=sys.stderr)
    ratios = sorted(r["ours_tokens_per_s"] / r["peer_tokens_per_s"] for r in rounds)
    difference = max(abs(a - b) for r in rounds for a, b in zip(r["ours_losses"], r["peer_losses"]))
    return {
        "variant": name, "base": base, "compute": compute, "checkpointing": checkpointing, "batches": kind,
        "speed_ratio": statistics.median(ratios), "speed_ratio_low": ratios[0], "speed_ratio_high": ratios[-1],
        "memory_ratio": statistics.median(r["ours_peak_bytes"] / r["peer_peak_bytes"] for r in rounds),
        "largest_loss_difference": difference, "rounds": rounds,
    }


def machine():
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    import bitsandbytes
    import peft
    import torch
    import transformers
    return {"processor": names[0], "cores": os.cpu_count(), "system": platform.system(), "torch": torch.__version__,
            "transformers": transformers.__version__, "peft": peft.__version__, "bitsandbytes": bitsandbytes.__version__}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", required=True)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model, hugging_face = folder / "small.gguf", folder / "hugging-face"
        subprocess.run([str(BIN / "haqa"), "make-model", "small", "--output", str(model)], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run([sys.executable, str(HERE / "peer.py"), "--convert", str(model), str(hugging_face)], check=True)
        results = {"machine": machine(), "steps": arguments.steps, "rows": arguments.rows, "length": arguments.length,
                   "variants": [measure(v, arguments, folder, model, hugging_face)
                                for v in arguments.variants.split(",")]}
    pathlib.Path(arguments.results).write_text(json.dumps(results, indent=1) + "\n")
    for v in results["variants"]:
        print(f"{v['variant']:<18} speed {v['speed_ratio']:.2f} ({v['speed_ratio_low']:.2f} to "
              f"{v['speed_ratio_high']:.2f}) times, peak memory {v['memory_ratio']:.2f} times, "
              f"losses differ by {v['largest_loss_difference']:.2g} at most")


if __name__ == "__main__":
    main()
