"""ResNets written by `haqa export`, run by ONNX Runtime on the CPU: how large they are and how long an image takes.

run.py --results FILE [--repetitions N] [--settings NETWORK:BATCH,...]

Weights are random, which changes no time. The variants of a network run in turn, each from a session of its own in one
process, on as many threads as there are cores; ratios are of neighbours in time.
"""
import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime
from safetensors.numpy import save_file

HAQA = pathlib.Path(__file__).parent.parent.parent / "build" / "bin" / "haqa"
VARIANTS = {  # what `haqa export` is given
    "fp32": [],
    "w8a8": ["--weight-bits", "8", "--activation-bits", "8"],
    "w8a8-exact": ["--weight-bits", "8", "--activation-bits", "8", "--exact"],
    "w4a4": ["--weight-bits", "4", "--activation-bits", "4"],
    "w2a2": ["--weight-bits", "2", "--activation-bits", "2"],
    "w4a4-opset13": ["--weight-bits", "4", "--activation-bits", "4", "--opset", "13"],
    "w8": ["--weight-bits", "8"],
    "w4": ["--weight-bits", "4"],
}
IMAGE = {"resnet20": 32, "resnet32": 32, "resnet50": 224}
WARMUP = 3


def convolution(tensors, rng, name, norm, into, out, size):
    tensors[f"{name}.weight"] = rng.normal(0, (2 / (out * size * size)) ** 0.5, (out, into, size, size))
    tensors[f"{norm}.weight"] = rng.uniform(0.5, 1, out)
    tensors[f"{norm}.bias"] = rng.normal(0, 0.2, out)
    tensors[f"{norm}.running_mean"] = rng.normal(0, 0.2, out)
    tensors[f"{norm}.running_var"] = rng.uniform(0.5, 2, out)


def checkpoint(network, file):
    """Random weights under torchvision's names."""
    rng, tensors, large = np.random.default_rng(1), {}, network == "resnet50"
    channels, classes = (64, 1000) if large else (16, 10)
    depths = {"resnet20": [3] * 3, "resnet32": [5] * 3, "resnet50": [3, 4, 6, 3]}[network]
    convolution(tensors, rng, "conv1", "bn1", 3, channels, 7 if large else 3)
    width = channels
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name = f"layer{stage + 1}.{block}"
            out = 4 * width if large else width
            shapes = [(channels, width, 1), (width, width, 3), (width, out, 1)] if large else [
                (channels, width, 3), (width, width, 3)]
            for i, shape in enumerate(shapes, 1):
                convolution(tensors, rng, f"{name}.conv{i}", f"{name}.bn{i}", *shape)
            if large and block == 0:
                convolution(tensors, rng, f"{name}.downsample.0", f"{name}.downsample.1", channels, out, 1)
            channels = out
        width *= 2
    tensors["fc.weight"], tensors["fc.bias"] = rng.normal(0, 0.1, (classes, channels)), np.zeros(classes)
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, file)


def export(source, variant, file):
    run = subprocess.run([HAQA, "export", source, "-o", file, "--json", "-q", *VARIANTS[variant]],
                         stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout)


def session(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as sessions take turns
    options.add_session_config_entry("session.x64quantprecision", "1")  # right without VNNI too: docs/onnx.md
    begin = time.perf_counter()
    made = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return made, time.perf_counter() - begin


def interval(values):
    """The median, and that of the middle half."""
    low, median, high = (float(v) for v in np.percentile(values, [25, 50, 75]))
    return {"median": median, "low": low, "high": high}


def measure(network, batch, files, repetitions):
    sessions = {variant: session(file) for variant, file in files.items()}
    images = np.random.default_rng(2).normal(size=(batch, 3, IMAGE[network], IMAGE[network])).astype(np.float32)
    seconds = {variant: [] for variant in sessions}
    for repetition in range(WARMUP + repetitions):
        for variant, (made, _) in sessions.items():
            begin = time.perf_counter()
            made.run(None, {"images": images})
            if repetition >= WARMUP:
                seconds[variant].append(time.perf_counter() - begin)
    rows = []
    for variant, times in seconds.items():
        faster = [a / b for a, b in zip(seconds["fp32"], times)]
        rows.append({"network": network, "batch": batch, "variant": variant, "load_s": sessions[variant][1],
                     "image_ms": {k: 1e3 * v / batch for k, v in interval(times).items()},
                     "over_fp32": interval(faster), "seconds": times})
    return rows


def machine():
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {"processor": names[0], "cores": os.cpu_count(), "system": platform.system(),
            "onnxruntime": onnxruntime.__version__}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", required=True)
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--settings", default="resnet20:1,resnet20:32,resnet50:1")
    arguments = parser.parse_args()
    rows, sizes = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for setting in arguments.settings.split(","):
            network, batch = setting.split(":")
            files = {variant: folder / f"{network}-{variant}.onnx" for variant in VARIANTS}
            if network not in sizes:
                source = folder / f"{network}.safetensors"
                checkpoint(network, source)
                sizes[network] = {variant: export(source, variant, file) for variant, file in files.items()}
                for made in sizes[network].values():
                    del made["file"]
            rows += measure(network, int(batch), files, arguments.repetitions)
            print(setting, file=sys.stderr)
    pathlib.Path(arguments.results).write_text(
        json.dumps({"machine": machine(), "files": sizes, "runs": rows}, indent=1) + "\n")
    for row in rows:
        made = sizes[row["network"]][row["variant"]]
        print(f"{row['network']} {row['variant']:<13} batch {row['batch']:>2}: {made['bytes'] / 1e6:7.3f} MB, "
              f"{row['image_ms']['median']:8.3f} ms an image, {row['over_fp32']['median']:.2f} times as fast "
              f"({row['over_fp32']['low']:.2f} to {row['over_fp32']['high']:.2f})")


if __name__ == "__main__":
    main()
