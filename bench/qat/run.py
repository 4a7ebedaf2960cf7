"""Epochs of quantization-aware training, ours beside PyTorch's from Python, eager and by torch.compile.

run.py --results FILE [--repetitions N] [--batches N] [--variants NAME,...] [--network NAME]

ResNet20 on images of CIFAR-10's form, 128 in a batch, cropped and mirrored, from the same weights. The three sides run in
turn, each in a process of its own, on the same threads; the first batches, in which torch.compile compiles, do not
count, of the others the time of all together. Before that, a few batches without augmentation show that all compute the
same losses; where they do not, nothing is measured.
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

HERE = pathlib.Path(__file__).parent
BIN = HERE.parent.parent / "build" / "bin"
VARIANTS = {  # bits of weights and activations, compute
    "fp": (32, 32, "fp32"),
    "w4a4": (4, 4, "fp32"),
    "w2a2": (2, 2, "fp32"),
    "fp-bf16": (32, 32, "bf16"),
    "w4a4-bf16": (4, 4, "bf16"),
}
SIDES = ("ours", "eager", "compile")
WARMUP = 5
EPOCH = 50000  # images of CIFAR-10


# How far losses of the same four batches may lie apart, some times what was seen: 1e-5 in floats, where sums come in another
# order alone; 7e-4 in bfloat16; 5e-3 where numbers next to an edge are rounded to another of few steps.
TOLERANCES = {"fp": 1e-4, "fp-bf16": 5e-3, "w4a4": 0.02, "w2a2": 0.02, "w4a4-bf16": 0.02}


def make_images(folder, count):
    command = [str(BIN / "haqa"), "data", "make-images", "cifar10", str(folder), "--train", str(count), "--test", "10",
               "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def run(side, request, folder):
    file = folder / f"{side}.json"
    file.write_text(json.dumps({**request, "compile": side == "compile"}))
    command = [str(BIN / "haqa-qat-steps")] if side == "ours" else [sys.executable, str(HERE / "peer.py")]
    log = folder / f"{side}.log"
    done = subprocess.run([*command, str(file)], stdout=subprocess.PIPE, stderr=open(log, "w"), text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{log.read_text()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def furthest(losses):
    return max(max(batch) - min(batch) for batch in zip(*losses.values(), strict=True))


def check_losses(name, losses):
    if not furthest(losses) <= TOLERANCES[name]:
        sys.exit(f"{name}: the sides do not compute the same, so their times say nothing; losses by batch: {losses}")


def measure(name, arguments, folder):
    weight_bits, activation_bits, compute = VARIANTS[name]
    request = {
        "network": arguments.network, "weight_bits": weight_bits, "activation_bits": activation_bits,
        "compute": compute, "batch": 128, "threads": os.cpu_count(), "learning_rate": 0.01, "momentum": 0.9,
        "weight_decay": 5e-4, "weights": str(folder / "weights.safetensors"), "mean": [0.45, 0.45, 0.45],
        "deviation": [0.25, 0.25, 0.25],
    }
    same = {side: run(side, {**request, "images": str(folder / "few"), "augment": False}, folder)["losses"]
            for side in SIDES}
    check_losses(name, same)
    rounds = []
    for repetition in range(arguments.repetitions):
        speeds = {}
        for side in SIDES:
            seconds = run(side, {**request, "images": str(folder / "many"), "augment": True}, folder)["seconds"]
            speeds[side] = 128 * len(seconds[WARMUP:]) / sum(seconds[WARMUP:])
        rounds.append(speeds)
        print(name, repetition + 1, {side: round(speed) for side, speed in speeds.items()}, file=sys.stderr)
    ratios = {peer: sorted(r["ours"] / r[peer] for r in rounds) for peer in SIDES[1:]}
    return {
        "variant": name, "weight_bits": weight_bits, "activation_bits": activation_bits, "compute": compute,
        **{f"{side}_epoch_s": EPOCH / statistics.median(r[side] for r in rounds) for side in SIDES},
        **{f"over_{peer}": {"median": statistics.median(r), "low": r[0], "high": r[-1]} for peer, r in ratios.items()},
        "losses": same, "images_per_s": rounds,
    }


def machine():
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    import torch
    return {"processor": names[0], "cores": os.cpu_count(), "system": platform.system(), "torch": torch.__version__}


def overhead(variants, side, compute):
    """What quantizers add to an epoch in full precision."""
    seconds = {v["variant"]: v[f"{side}_epoch_s"] for v in variants}
    suffix = "-bf16" if compute == "bf16" else ""
    if f"fp{suffix}" not in seconds or f"w4a4{suffix}" not in seconds:
        return None
    return seconds[f"w4a4{suffix}"] / seconds[f"fp{suffix}"] - 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", required=True)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--network", default="resnet20", choices=["resnet20", "resnet32"])
    # Without AVX-512 PyTorch takes minutes for a step in bfloat16.
    usual = [name for name, (_, _, compute) in VARIANTS.items() if compute == "fp32" or "avx512" in pathlib.Path("/proc/cpuinfo").read_text()]
    parser.add_argument("--variants", default=",".join(usual))
    arguments = parser.parse_args()
    if arguments.batches <= WARMUP:
        parser.error(f"--batches: more than {WARMUP}, which do not count")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_images(folder / "few", 128 * 4)
        make_images(folder / "many", 128 * arguments.batches)
        variants = [measure(v, arguments, folder) for v in arguments.variants.split(",")]
    overheads = {compute: {side: overhead(variants, side, compute) for side in SIDES} for compute in ("fp32", "bf16")}
    results = {"machine": machine(), "network": arguments.network, "batch": 128, "batches": arguments.batches,
               "quantizer_overhead": overheads, "variants": variants}
    pathlib.Path(arguments.results).write_text(json.dumps(results, indent=1) + "\n")
    for v in variants:
        print(f"{v['variant']:<10} epoch of 50,000 images: ours {v['ours_epoch_s']:.0f} s, eager "
              f"{v['eager_epoch_s']:.0f} s, torch.compile {v['compile_epoch_s']:.0f} s; ours is "
              f"{v['over_eager']['median']:.2f} and {v['over_compile']['median']:.2f} times as fast; losses of "
              f"the same batches differ by {furthest(v['losses']):.4f} at most")
    for compute, by_side in overheads.items():
        if by_side["ours"] is not None:
            print(f"quantizers add to full precision in {compute}: "
                  + ", ".join(f"{side} {value:+.0%}" for side, value in by_side.items()))


if __name__ == "__main__":
    main()
